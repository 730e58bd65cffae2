from __future__ import annotations

import math

import pytest

from pytest_infergate.core.domain.advice_values import (
    Advice,
    CostPoint,
    Crossing,
    Demand,
    Plan,
    QueueLoad,
    Recommendations,
    Sensitivity,
    Sweep,
)
from pytest_infergate.core.domain.measurement import (
    Counters,
    Energy,
    Estimate,
    Latency,
    Measurement,
    Memory,
    WarmUp,
)
from pytest_infergate.core.domain.outcome import (
    Budget,
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Cause,
    Comparison,
    GateResult,
    Outcome,
    Price,
    Session,
    Verdict,
)
from pytest_infergate.core.domain.values import Case, Environment, Hardware, Note

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    'it\'s "quoted" & {{ 7*7 }} {% raw %}',
    "]]>--><!--",
    "two\nlines\r\tand a tab",
    "\x1b[31mred\x1b[0m\x07\x00",
    "\u202eesrever\u200f\u200b",
    "lone \udc80 surrogate",
    "x" * 10_000,
    "日本語-émoji-🚀",
)


class Sample:
    """Builders of nouns with sensible values, for tests that care about one field."""

    hostile = HOSTILE

    @staticmethod
    def case(test="tests/test_model.py::test_embedder", device="cpu", **axes):
        return Case(test=test, device=device, **axes)

    @staticmethod
    def hardware(**fields):
        return Hardware(**{"cpu_model": "AMD EPYC 7B13", "isa": ("AVX2",), "cores": 2, **fields})

    @staticmethod
    def environment(**fields):
        known = {
            "os": "Linux 6.1",
            "python": "3.11.7",
            "packages": {"torch": "2.13.0+cpu", "numpy": "2.4.0"},
            "virtual": True,
            "memory_bytes": 8_000_000_000,
            "wait_policy": "passive",
        }
        return Environment(**{**known, **fields})

    @staticmethod
    def latency(p50=0.04, spread=0.05, count=412):
        """A log-normal one: its percentiles lie where theory has them."""
        percentiles = tuple(p50 * math.exp(spread * z) for z in _NORMAL)

        def around(p):
            value = percentiles[p]
            return Estimate(value=value, low=value * 0.98, high=value * 1.03)

        return Latency(
            count=count,
            mean=p50 * math.exp(spread**2 / 2),
            p50=around(50),
            p90=around(90),
            p95=around(95),
            p99=Estimate(value=percentiles[99], low=percentiles[99] * 0.95),
            percentiles=percentiles,
        )

    @classmethod
    def measurement(cls, p50=0.04, spread=0.05, **fields):
        known = {
            "latency": cls.latency(p50, spread),
            "throughput": 1 / p50,
            "cold_start": 3 * p50,
            "warm_up": WarmUp(calls=12, seconds=0.5, steady=True),
            "memory": Memory(weights=90_000_000, activations=35_200_000, host_peak=900_000_000),
            "threads": 2,
        }
        return Measurement(**{**known, **fields})

    @staticmethod
    def energy(joules=0.0123, **fields):
        """What a board took, as NVML has it, or what `fields` say."""
        known = {"source": "nvml", "scope": "board", "seconds": 2.05, "calls": 51, "idle_watts": 60.3}
        return Energy(joules=joules, **{**known, **fields})

    @classmethod
    def estimate(cls, joules=0.0123, **fields):
        """The same figure, which was not measured."""
        return cls.energy(joules, source="estimate", scope="vcpus", **fields)

    @staticmethod
    def price(**fields):
        known = {
            "usd_per_hour": 0.1785,
            "utilisation": 0.6,
            "source": "aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20",
        }
        return Price(**{**known, **fields})

    @classmethod
    def result(cls, case=None, **fields):
        case = case or cls.case()
        known = {
            "case": case,
            "nodeid": case.name,
            "outcome": Outcome.MEASURED,
            "hardware": cls.hardware(),
        }
        if fields.get("outcome", Outcome.MEASURED) is Outcome.MEASURED:
            known["measurement"] = cls.measurement()
        return CaseResult(**{**known, **fields})

    @classmethod
    def verdict(cls, verdict=Verdict.EQUIVALENT, case=None, *, failed=False, **fields):
        case = case or cls.case()
        return CaseVerdict(
            **{"case": case, "nodeid": case.name, "verdict": verdict, "failed": failed, **fields}
        )

    @staticmethod
    def time(verdict=Verdict.EQUIVALENT, effect=0.003, **fields):
        known = {
            "metric": "p50",
            "verdict": verdict,
            "evidence": "stored",
            "baseline": 0.04,
            "candidate": 0.04 * (1 + effect),
            "effect": effect,
            "low": effect - 0.04,
            "high": effect + 0.04,
            "tolerance": 0.25,
            "smallest_detectable": 0.13,
            "sessions": 12,
        }
        return Comparison(**{**known, **fields})

    @staticmethod
    def memory(verdict=Verdict.EQUIVALENT, effect=0.0, **fields):
        known = {
            "metric": "peak_memory_bytes",
            "verdict": verdict,
            "evidence": "exact",
            "baseline": 48e6,
            "candidate": 48e6 * (1 + effect),
            "effect": effect,
            "tolerance": 0.01,
            "sessions": 1,
        }
        return Comparison(**{**known, **fields})

    @staticmethod
    def counter(metric="operators", before=100, now=100, **fields):
        """An exact counter without a tolerance."""
        verdicts = {0: Verdict.EQUIVALENT, 1: Verdict.REGRESSED, -1: Verdict.IMPROVED}
        known = {
            "metric": metric,
            "verdict": verdicts[(now > before) - (now < before)],
            "evidence": "exact",
            "baseline": float(before),
            "candidate": float(now),
            "effect": (now - before) / before if before else None,
            "tolerance": 0.0,
            "sessions": 1,
        }
        return Comparison(**{**known, **fields})

    @staticmethod
    def cause(change=4, operator="aten::clone", place="layers.{0-3}", share=1.0):
        return Cause(operator=operator, place=place, change=change, share=share)

    @classmethod
    def unsettled(cls, verdict, text, hint=""):
        """Counters that could not be compared."""
        note = cls.note(text, hint, code="incomparable")
        return Comparison(metric="counters", verdict=verdict, evidence="exact", note=note)

    @staticmethod
    def check(metric="p95_ms", limit=60.0, verdict=None, value=43.4, note=None, *, missing=""):
        estimate = None if value is None else Estimate(value=value, low=value * 0.9, high=value * 1.1)
        return BudgetCheck(
            budget=Budget(metric=metric, limit=limit),
            verdict=verdict,
            value=estimate,
            note=note,
            missing=missing,
        )

    @staticmethod
    def note(text="cuda hidden: CUDA_VISIBLE_DEVICES is empty", hint="", code="absent"):
        return Note(code=code, text=text, hint=hint)

    @classmethod
    def session(cls, pairs=(), **gate):
        """A session of (result, verdict) pairs; either may be None."""
        known = {
            "passed": True,
            "headline": "passed: 1 of 1 case decided",
            "verdicts": tuple(verdict for _, verdict in pairs if verdict is not None),
        }
        return Session(
            tool_version="0.1.0",
            created="2026-07-01T12:00:00Z",
            environment=cls.environment(),
            cases=tuple(result for result, _ in pairs if result is not None),
            gate=GateResult(**{**known, **gate}),
        )

    @classmethod
    def pair(cls, case=None, verdict=Verdict.EQUIVALENT, result=None, **fields):
        """A result and its verdict."""
        case = case or cls.case()
        return cls.result(case, **(result or {})), cls.verdict(verdict, case, **fields)

    @classmethod
    def spending(cls, case=None, energy=None, price=None, **fields):
        """A result and its verdict, with what it took and what it cost."""
        result = {"measurement": cls.measurement(energy=energy), "price": price}
        return cls.pair(case, result=result, **fields)

    @classmethod
    def many(cls, count):
        """A session of so many measured cases, eight a test."""
        pairs = []
        for index in range(count):
            case = cls.case(
                f"tests/models/test_family_{index // 80}.py::test_model_{index // 8}",
                batch_size=1 + index % 8,
            )
            p50 = 0.004 * (1 + index % 8) * (1 + 0.01 * (index % 37))
            pairs.append(
                cls.pair(
                    case,
                    result={"measurement": cls.measurement(p50, 0.03 + 0.01 * (index % 5))},
                    comparisons=(cls.time(baseline=p50), cls.memory()),
                    budgets=(cls.check(limit=2e3 * p50, value=1e3 * p50 * 1.1),),
                )
            )
        return cls.session(pairs, headline=f"passed: {count} of {count} cases decided", decided=count)

    @classmethod
    def hostile_session(cls):
        """A session in which every text that a test, a file or a system may set is hostile."""
        pairs = []
        for text in HOSTILE:
            case = Case(test=f"tests/t.py::{text}", params=text, device=text, runtime=text, dtype=text)
            note = Note(code=text, text=text, hint=text)
            # A hardware class cannot be named with a lone surrogate in it: its id is a hash of UTF-8.
            visible = text.replace("\udc80", "")
            pairs.append(
                cls.pair(
                    case,
                    Verdict.REGRESSED,
                    {
                        "reason": note,
                        "unit": text,
                        "price": cls.price(source=text),
                        "hardware": cls.hardware(
                            cpu_model=visible, isa=(visible,), accelerator=visible, driver=visible
                        ),
                        "measurement": cls.measurement(
                            notes=(note,),
                            counters=Counters(totals={text: 5}, architecture=text),
                            energy=cls.energy(source=text, scope=text),
                        ),
                    },
                    failed=True,
                    notes=(note,),
                    comparisons=(
                        cls.time(Verdict.REGRESSED, 0.5, note=note),
                        cls.time(Verdict.SUSPECTED, metric=text),
                        cls.counter(before=1, now=5, causes=(cls.cause(operator=text, place=text),)),
                        cls.counter(text, 1, 5, note=note),
                        cls.unsettled(Verdict.REGRESSED, text, text),
                    ),
                    budgets=(cls.check(text, verdict=Verdict.OVER_BUDGET, note=note),),
                )
            )
        cases = tuple(verdict.case for _, verdict in pairs)
        session = cls.session(
            pairs,
            passed=False,
            headline="FAILED: " + HOSTILE[0] + HOSTILE[4],
            reasons=HOSTILE,
            new=cases,
            missing=cases,
            renamed=tuple(zip(cases, cases, strict=True)),
            deselected=tuple(Note(code="x", text=text) for text in HOSTILE),
        )
        environment = Environment(
            os=HOSTILE[0],
            python=HOSTILE[5],
            packages=dict.fromkeys(HOSTILE, HOSTILE[1]),
            wait_policy=HOSTILE[6],
        )
        return Session(
            tool_version=HOSTILE[0],
            created=HOSTILE[1],
            environment=environment,
            cases=session.cases,
            gate=session.gate,
            advice=cls.hostile_advice(),
        )

    @staticmethod
    def hostile_advice():
        """An answer of hostile texts for each of them."""
        load = QueueLoad(requests=1, mean=0.1, p50=0.1, p95=0.1, p99=0.1, utilisation=0.5, mean_batch=1.0)
        answers = []
        for text in HOSTILE:
            best = Plan(
                deployment=text, instance=text, price=text, usd_per_hour=1.0, user_specified=False, device=text,
                runtime=text, dtype=text, hardware=text, max_batch=1, max_wait=0.0, instances=1,
                usd_per_month=730.0, usd_per_month_with_spare=1460.0, usd_per_million=1.0, load=load,
            )  # fmt: skip
            answers.append(
                Advice(
                    model=text, demand=Demand(rate=1.0), utilisation=0.5, deployments=(text, f"{text}2"),
                    plans=(best, best), considered=(best,),
                    sweeps=(Sweep(deployment=text, batch_sizes=(1, 2), p50=(0.1, 0.2), throughput=(1.0, 2.0)),),
                    crossings=(Crossing(rate=2.0, below=text, above=text),),
                    costs=tuple(CostPoint(rate=rate, usd_per_month=(730.0, None)) for rate in (1.0, 9.0)),
                    sensitivities=(Sensitivity(assumption=text, winner=text),),
                    notes=(Note(code=text, text=text, hint=text),),
                )
            )  # fmt: skip
        questions = {text: (Note(code=text, text=text, hint=text),) for text in HOSTILE}
        return Recommendations(answers=tuple(answers), unanswered=questions)


def _inverse_normal(p):
    """Rational approximation by Abramowitz and Stegun, 26.2.23."""
    tail = min(p, 1 - p)
    t = math.sqrt(-2 * math.log(tail))
    z = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (
        1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t**3
    )
    return -z if p < 0.5 else z


_NORMAL = tuple(_inverse_normal(min(max(index / 100, 0.002), 0.998)) for index in range(101))


@pytest.fixture(scope="session")
def sample():
    return Sample


@pytest.fixture(scope="session")
def pages():
    """Pages of all kinds by name, rendered once."""
    from pages import Page
    from sessions import every_page

    return {name: Page(text) for name, text in every_page(Sample).items()}
