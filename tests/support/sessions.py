"""Sessions with a case of each kind, and answers, that tests of several renderers show."""

import msgspec

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
from pytest_infergate.core.domain.measurement import Accuracy, Conversion, Counters, Parity, Peaks
from pytest_infergate.core.domain.outcome import Against, Comparison, Outcome, Verdict
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.report import html

COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
MAIN = Against(revision="main", commit=COMMIT, launches=7, seconds=181.0)
MISSING = "it needs 459 calls and has 120"
NOT_DECIDED = f"budget p99_ms was not decided: {MISSING}"
CPU = Hardware(cpu_model="Test CPU", cores=4)
GPU = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA L4", accelerator_count=1)
SWEEP = Sweep(deployment="c7i.xlarge (cpu)", batch_sizes=(1, 8), p50=(0.02, 0.1), throughput=(50.0, 80.0))


# Stored


def regressed(sample):
    """A case that became slower, and one without a verdict on anything."""
    case = sample.case(batch_size=8)
    return sample.session(
        [
            sample.pair(
                case,
                Verdict.REGRESSED,
                failed=True,
                comparisons=(sample.time(Verdict.REGRESSED, 0.303),),
                budgets=(sample.check(),),
            ),
            sample.pair(sample.case("tests/test_other.py::test_fine")),
        ],
        passed=False,
        headline="FAILED: 2 of 2 cases decided, 1 regressed",
        reasons=("1 case regressed",),
    )


def counting(sample, case=None, verdict=Verdict.EQUIVALENT, comparisons=(), **totals):
    """A case whose work was counted."""
    measurement = sample.measurement(counters=Counters(totals=totals, architecture="AVX2"))
    return sample.pair(case, verdict, {"measurement": measurement}, comparisons=comparisons)


def expensive(sample):
    """A test whose cases took and cost different things, and one of which nothing is known."""
    cases = [sample.case(), sample.case(device="cuda"), sample.case(device="xpu")]
    return sample.session(
        [
            sample.spending(cases[0], sample.estimate(idle_watts=0.89), sample.price()),
            sample.spending(cases[1], sample.energy(0.0984, batch_size=8)),
            sample.pair(cases[2]),
        ]
    )


def with_runtimes(sample):
    """Tests with several runtimes and dtypes: one is the fastest, one differs, one is disturbed, one was loaded."""
    made = Conversion(export=1.25, build=8.5, load=0.0525, size=91_000_000)
    cached = Conversion(export=1.25, build=6.0, load=0.03, size=45_500_000, cached=True)
    exact, close, lossy = (
        Parity(error=error, cosine=cosine, same_top=same)
        for error, cosine, same in ((0.0, 1.0, 1.0), (3.7e-07, 1.0, 1.0), (8e-03, 0.99991, 0.96875))
    )
    far = Parity(
        error=0.4,
        cosine=0.7,
        same_top=0.5,
        difference="the output: differs by 0.4 of the largest value",
        first_module="encoder.layer.0",
    )
    best, worse = (Accuracy(name="top1", value=value, reference=0.925) for value in (0.9265, 0.8125))
    breaks = Counters(totals={"graph_breaks": 3})
    figures = {
        ("eager", "float32"): (0.0195, {"parity": exact}),
        ("eager", "bfloat16"): (0.030, {"parity": lossy, "contention": 0.41, "accuracy": best}),
        ("eager", "int8"): (0.004, {"parity": lossy, "accuracy": worse}),
        ("compile", "float32"): (0.025, {"parity": close, "counters": breaks}),
        ("onnxruntime", "float32"): (0.00505, {"parity": close, "conversion": made}),
        ("openvino", "float32"): (0.001, {"parity": far, "conversion": cached}),
        ("openvino", "bfloat16"): (0.005, {"parity": lossy, "conversion": cached}),
    }
    pairs = [
        sample.pair(
            sample.case("tests/test_text.py::test_minilm", runtime=runtime, dtype=dtype, batch_size=size),
            Verdict.MISMATCH if fields["parity"] is far else Verdict.NO_BASELINE,
            {"measurement": sample.measurement(p50 * size, 0.01, **fields)},
            failed=fields["parity"] is far,
            comparisons=(differs(sample, evidence="reference"),) if fields["parity"] is far else (),
        )
        for size in (1, 8)
        for (runtime, dtype), (p50, fields) in figures.items()
        if size == 1 or dtype == "float32"
    ]  # fmt: skip
    alone = sample.case("tests/test_text.py::test_alone", runtime="onnxruntime")
    pairs.append(
        sample.pair(alone, result={"measurement": sample.measurement(parity=close, conversion=made)})
    )
    pairs.append(sample.pair(sample.case("tests/test_text.py::test_plain")))
    return sample.session(
        pairs,
        passed=False,
        headline="FAILED: 2 of 11 cases decided, 2 mismatch",
        reasons=("2 cases mismatched",),
    )


def every_stored_kind(sample):
    """A run with a case of each verdict that stored baselines know, and everything that a report has a place for."""
    causes = (sample.cause(), sample.cause(1, "aten::add", ""))
    counters = Counters(
        totals={"flops": 2 * 10**9, "operators": 1005, "bytes_read": 164_000, "graph_breaks": 2, "views": 9},
        architecture="AVX2",
    )
    counted = sample.measurement(counters=counters, energy=sample.estimate(idle_watts=0.89))
    hidden = sample.note(hint="unset it")
    faults = sample.note("page faults: 4,096 a call", "set MALLOC_TRIM_THRESHOLD_=2147483648", code="faults")
    few = sample.note("3 stored sessions can show a slowdown of 61 % or more", "record more sessions")
    near = sample.note("p95 latency 43.4 ms is near its limit 45.0 ms", "leave room")
    other = sample.note("other CPU model", "record a baseline on this class of machine")
    skipped = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": hidden}

    def pair(name, verdict, result=None, *, failed=False, **fields):
        case = sample.case(f"tests/test_{name.partition('_')[0]}.py::test_{name}")
        return sample.pair(case, verdict, result, failed=failed, **fields)

    pairs = [
        pair(
            "slower_more_work", Verdict.REGRESSED,
            {"measurement": counted, "price": sample.price(), "peaks": Peaks(flops={"float32": 2e12}, bandwidth=2e10)},
            failed=True,
            comparisons=(
                sample.time(Verdict.REGRESSED, 0.303, low=0.261, high=0.346),
                sample.memory(Verdict.REGRESSED, 0.25),
                sample.counter("operators", 1000, 1005, causes=causes),
                sample.counter("graph_breaks", 0, 2),
            ),
            budgets=(sample.check(),),
        ),
        pair("over_budget", Verdict.OVER_BUDGET, {"unit": "texts"}, failed=True, budgets=(
            sample.check(limit=40.0, verdict=Verdict.OVER_BUDGET),
            sample.check("throughput_per_s", 100.0, Verdict.OVER_BUDGET, value=25.0),
        )),
        pair("over_undecided", Verdict.OVER_BUDGET, failed=True, budgets=(
            sample.check("p99_ms", 50.0, Verdict.OVER_BUDGET, note=sample.note(NOT_DECIDED, "raise --infer-max-time", code="budget-not-decided"), missing=MISSING),
        )),
        pair("lost", Verdict.REGRESSED, {"outcome": Outcome.INFEASIBLE, "reason": sample.note("batch 256 ran out of memory")}, failed=True),
        pair("suspect", Verdict.SUSPECTED, comparisons=(sample.time(Verdict.SUSPECTED, 0.3), sample.counter())),
        pair("unsure", Verdict.INCONCLUSIVE, {"measurement": sample.measurement(notes=(faults,))}, comparisons=(
            sample.time(Verdict.INCONCLUSIVE, 0.3, note=few, sessions=3, smallest_detectable=0.61),
        )),
        pair("near", Verdict.INCONCLUSIVE, budgets=(sample.check(limit=45.0, verdict=Verdict.INCONCLUSIVE, note=near),)),
        pair("invalid", Verdict.INVALID, {"outcome": Outcome.INVALID, "reason": sample.note("a coverage tracer was active while timing", "run with --no-cov")}),
        pair("faster", Verdict.IMPROVED, comparisons=(sample.time(Verdict.IMPROVED, -0.2), sample.counter(now=96, causes=(sample.cause(-4),)))),
        pair("same", Verdict.EQUIVALENT, {"measurement": sample.measurement(energy=sample.energy(), notes=(faults,))}, comparisons=(sample.time(), sample.memory()), budgets=(sample.check(),)),
        pair("foreign", Verdict.INCOMPARABLE, comparisons=(
            Comparison(metric="p50", verdict=Verdict.INCOMPARABLE, evidence="stored", candidate=0.052, note=other),
            sample.unsettled(Verdict.INCOMPARABLE, "operators recorded with torch 2.12.0, this is 2.13.0", "record them anew"),
        )),
        pair("new", Verdict.NO_BASELINE, comparisons=(
            sample.time(Verdict.NO_BASELINE, baseline=None, effect=0.0),
            sample.unsettled(Verdict.NO_BASELINE, "FLOPs not on record yet"),
        )),
        pair("skipped", Verdict.NOT_MEASURED, skipped, notes=(hidden,)),
        pair("skipped_too", Verdict.NOT_MEASURED, skipped, notes=(hidden,)),
        pair("broken", Verdict.NOT_MEASURED, {"outcome": Outcome.FAILED}, failed=True),
    ]  # fmt: skip
    cases = tuple(verdict.case for _, verdict in pairs)
    gone = sample.case("tests/test_gone.py::test_gone", batch_size=2)
    return sample.session(
        pairs,
        passed=False,
        headline="FAILED: 8 of 15 cases decided, 2 regressed",
        reasons=("2 cases regressed", "2 cases over budget"),
        decided=8,
        new=cases[11:12],
        missing=(gone,),
        renamed=((gone, cases[9]),),
        deselected=(sample.note("tests/test_other.py::test_other: no device of this run", "name another"),),
    )


# Paired


def time(sample, verdict=Verdict.EQUIVALENT, effect=0.003, **fields):
    """A time that was compared call by call."""
    known = {
        "evidence": "paired",
        "low": effect - 0.01,
        "high": effect + 0.01,
        "tolerance": 0.02,
        "smallest_detectable": 0.014,
        "sessions": 7,
    }
    return sample.time(verdict, effect, **{**known, **fields})


def uncompared(sample, verdict=Verdict.NO_BASELINE, reason="the base has no test of this name", **fields):
    """A time without another side."""
    note = sample.note(reason, code="no-base")
    return Comparison(metric="p50", verdict=verdict, evidence="paired", tolerance=0.02, note=note, **fields)


def differs(
    sample, words="the output: shape (1, 4) on the base, (1, 5) now", hint="say so", evidence="parity"
):
    """Outputs that are not those of the base, or of the reference."""
    return Comparison(
        metric="outputs", verdict=Verdict.MISMATCH, evidence=evidence, note=sample.note(words, hint)
    )


def judged(sample, name="test_embedder", verdict=Verdict.EQUIVALENT, comparisons=None, **fields):
    """A result and its verdict in a paired run."""
    comparisons = (time(sample, verdict),) if comparisons is None else comparisons
    case = sample.case(f"tests/test_model.py::{name}")
    return sample.pair(case, verdict, comparisons=comparisons, **fields)


def paired(sample, pairs, against=MAIN, **gate):
    """A paired run."""
    return msgspec.structs.replace(sample.session(pairs, **gate), against=against)


def every_paired_kind(sample):
    """A run with a case of each kind that a paired run knows."""
    hint = "if that is meant, say so with @pytest.mark.inference(parity=False), or a tolerance there"
    moved = sample.note(
        "identical code differed by +1.8 % between the two sides", "measure on another, or later"
    )
    accepted = sample.note("accepted: the new tokenizer is worth it", code="accepted")
    spent = sample.note("the effect is so near the tolerance that about 40 launches would settle it", "wait")
    slower = time(sample, Verdict.REGRESSED, 0.087)
    skipped = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": sample.note("the test was skipped")}
    pairs = [
        judged(sample, "test_slower", Verdict.REGRESSED, (slower,), failed=True),
        judged(sample, "test_more work", Verdict.REGRESSED, (time(sample), sample.counter(now=104, causes=(sample.cause(),))), failed=True),
        judged(sample, "test_other", Verdict.MISMATCH, (time(sample), differs(sample, hint=hint)), failed=True),
        judged(sample, "test_taken", Verdict.REGRESSED, (slower,), notes=(accepted,)),
        judged(sample, "test_moved", Verdict.INVALID, (time(sample, Verdict.INVALID, 0.02, note=moved),)),
        judged(sample, "test_near", Verdict.INCONCLUSIVE, (time(sample, Verdict.INCONCLUSIVE, 0.019, note=spent),)),
        judged(sample, "test_new", Verdict.NO_BASELINE, (uncompared(sample, candidate=0.04),)),
        judged(sample, "test_faster", Verdict.IMPROVED, (time(sample, Verdict.IMPROVED, -0.12),)),
        judged(sample, "test_same"),
        judged(sample, "test_skipped", Verdict.NOT_MEASURED, (), result=skipped),
    ]  # fmt: skip
    accepted_by = {"test_taken*": "the new tokenizer is worth it", "test_more*": ""}
    return paired(
        sample,
        pairs,
        msgspec.structs.replace(MAIN, accepted=accepted_by),
        passed=False,
        headline="FAILED: 8 of 10 cases decided, 2 regressed, 1 mismatch",
        reasons=("2 cases regressed", "1 case mismatched"),
        decided=8,
    )


def hostile_paired(sample):
    """A paired run in which every text that a user or a system may set is hostile."""
    pairs = []
    for name in sample.hostile:
        note = sample.note(name, name)
        comparisons = (
            time(sample, Verdict.REGRESSED, 0.5, note=note),
            differs(sample, name, name),
            uncompared(sample, Verdict.INVALID, name),
        )
        pairs.append(judged(sample, name, Verdict.REGRESSED, comparisons, failed=True, notes=(note,)))
    python, revision = "".join(sample.hostile[:2]), "".join(sample.hostile)
    return paired(
        sample,
        pairs,
        Against(
            revision=revision,
            commit=sample.hostile[5],
            python=python,
            launches=2,
            seconds=3.0,
            accepted={name: name for name in sample.hostile},
        ),
    )


# Advice


def plan(**fields):
    """A plan with sensible values."""
    known = {
        "deployment": "c7i.xlarge (cpu)",
        "instance": "c7i.xlarge",
        "price": "aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20",
        "usd_per_hour": 0.1785,
        "user_specified": True,
        "device": "cpu",
        "runtime": "eager",
        "hardware": CPU.id,
        "max_batch": 8,
        "max_wait": 0.0,
        "instances": 2,
        "usd_per_month": 260.61,
        "usd_per_month_with_spare": 390.9,
        "usd_per_million": 1.98,
        "load": QueueLoad(
            requests=4500,
            mean=0.04,
            p50=0.035,
            p95=0.083,
            p99=0.12,
            utilisation=0.48,
            offered=0.36,
            mean_batch=1.7,
        ),
        "cold_start": 1.5,
        "weights_bytes": 91_000_000,
    }
    return Plan(**{**known, **fields})


CARD = plan(
    deployment="g6.xlarge (cuda)",
    instance="g6.xlarge",
    price="aws/g6.xlarge in us-east-1, on demand, as of 2026-07-20",
    device="cuda",
    instances=1,
    usd_per_month=587.5,
    usd_per_month_with_spare=1175.0,
)


def answer(**fields):
    """An answer with sensible values."""
    known = {
        "model": "tests/test_a.py::test_model",
        "demand": Demand(rate=50.0),
        "limit": 0.1,
        "utilisation": 0.6,
        "deployments": ("c7i.xlarge (cpu)", "g6.xlarge (cuda)"),
        "plans": (plan(), CARD),
        "considered": (plan(), plan(max_batch=1, usd_per_month=390.9), CARD),
        "crossings": (Crossing(rate=141.0, below="c7i.xlarge (cpu)", above="g6.xlarge (cuda)"),),
        "costs": tuple(
            CostPoint(rate=rate, usd_per_month=(cpu, 587.5))
            for rate, cpu in ((5.0, 130.3), (50.0, 260.6), (500.0, None))
        ),
        "sensitivities": (
            Sensitivity(assumption="its price +20 %", winner="c7i.xlarge (cpu)"),
            Sensitivity(assumption="slower calls", winner="g6.xlarge (cuda)"),
        ),
        "actions": (
            Note(code="single-worker", text="one worker was measured", hint="try --infer-workers=4"),
        ),
    }
    return Advice(**{**known, **fields})


def given(*answers, unanswered=None):
    """Advice as a session carries it."""
    return Recommendations(answers=answers, unanswered=unanswered or {})


def advised(session, *answers, unanswered=None):
    """The session with such advice."""
    return msgspec.structs.replace(session, advice=given(*answers, unanswered=unanswered))


def unmet():
    """An answer where no plan meets the limit."""
    return answer(
        plans=(), considered=(), crossings=(), costs=(), sensitivities=(), nearest=plan(),
        binding=Note(code="limit-unmet", text="no plan answers 95 % of requests within 1.00 ms", hint="allow more time"),
    )  # fmt: skip


SMALL = answer(model="tests/test_b.py::test_small", demand=Demand(rate=200.0), actions=())
ASKED = {
    "tests/test_c.py::test_c": (Note(code="unknown-machine", text="what is it?", hint="say --instance"),),
    "tests/test_d.py::test_d": (Note(code="unknown-machine", text="what is it?", hint="say --instance"),),
    "tests/test_e.py::test_e": (Note(code="left-out", text="test_e is left out: its outcome is failed"),),
}


# Pages


def with_everything(sample):
    """A page with every kind of table and picture, and two tests of one name."""
    twins = [sample.case(f"{module}.py::test_same", batch_size=8) for module in ("a", "b")]
    more = (sample.counter(now=104, causes=(sample.cause(),)),)
    pairs = [
        counting(sample, twins[0], Verdict.REGRESSED, more, operators=104),
        counting(sample, twins[1], operators=7),
        sample.pair(
            verdict=Verdict.SUSPECTED, failed=True, comparisons=(sample.time(Verdict.SUSPECTED, 0.3),)
        ),
    ]
    answers = [answer(sweeps=(SWEEP,)), answer(model="b.py::test_other"), unmet()]
    return html.render_html(advised(sample.session(pairs), *answers), settings={"--infer-devices": "cpu"})


def every_page(sample):
    """Pages of all kinds by name."""
    sessions = {
        "empty": sample.session(),
        "regressed": regressed(sample),
        "hostile": sample.hostile_session(),
        "many": sample.many(20),
        "expensive": expensive(sample),
        "stored": every_stored_kind(sample),
        "runtimes": with_runtimes(sample),
        "paired": every_paired_kind(sample),
        "paired hostile": hostile_paired(sample),
        "paired empty": paired(sample, []),
    }
    made = {name: html.render_html(session) for name, session in sessions.items()}
    return {**made, "everything": with_everything(sample)}
