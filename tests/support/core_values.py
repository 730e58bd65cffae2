"""Nouns for tests of the core, with a default for everything that a test does not care about."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_infergate.core.domain.measurement import Counters, Estimate, Latency, Measurement, Memory, WarmUp
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.records import Baseline, BaselineCase, BaselinePoint
from pytest_infergate.core.domain.values import Case, Environment, Hardware

HARDWARE = Hardware(cpu_model="Test CPU", isa=("avx2",), cores=4)
OTHER_HARDWARE = Hardware(cpu_model="Other CPU", isa=("avx2",), cores=4)
ENVIRONMENT = Environment(packages={"torch": "2.13.0"}, virtual=False)
REFERENCE_WORK = {"gemm": 1e-3, "copy": 2e-3, "dispatch": 5e-4}


def exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def latency(median: float = 0.010, count: int = 1000, **quantiles: Estimate) -> Latency:
    every = {name: exact(median) for name in ("p50", "p90", "p95", "p99")}
    return Latency(count=count, mean=median, **{**every, **quantiles})


def measurement(p50: float = 0.010, **fields) -> Measurement:
    known = {
        "latency": latency(p50),
        "throughput": 1 / p50 if p50 else 0.0,
        "cold_start": 0.5,
        "warm_up": WarmUp(calls=3, seconds=0.3, steady=True),
        "memory": Memory(weights=40_000_000, activations=10_000_000, host_peak=300_000_000),
        "reference_work": REFERENCE_WORK,
        "threads": 2,
    }
    return Measurement(**{**known, **fields})


def counted(**totals: int) -> Counters:
    return Counters(totals=totals, architecture="AVX2")


def refusal(call, *arguments, **fields) -> str:
    """The text of the `ValueError` that a call raises; the test fails where the call accepts its arguments."""
    try:
        accepted = call(*arguments, **fields)
    except ValueError as error:
        return str(error)
    pytest.fail(f"{call.__name__} accepted {arguments} {fields}: {accepted!r}")


def refusals(call, *cases: object) -> str:
    """The refusal of each case, a line each: a mapping holds fields, a tuple holds positional arguments."""
    lines = []
    for case_ in cases:
        if isinstance(case_, Mapping):
            text = refusal(call, **case_)
        else:
            text = refusal(call, *(case_ if isinstance(case_, tuple) else (case_,)))
        lines.append(f"{case_!r}: {text}")
    return "\n".join(lines)


def day(number: int) -> str:
    return f"2026-01-{number:02}T00:00:00.000+00:00"


def point(p50: float = 0.010, created: str = day(1), **fields) -> BaselinePoint:
    known = {"count": 1000, "reference_work": REFERENCE_WORK}
    return BaselinePoint(p50=p50, created=created, **{**known, **fields})


def case(test: str = "tests/test_a.py::test_model", device: str = "cpu", **axes) -> Case:
    return Case(test=test, device=device, **axes)


def result(outcome: Outcome = Outcome.MEASURED, *, of: Case | None = None, **fields) -> CaseResult:
    of = of or case()
    known = {"hardware": HARDWARE, "measurement": measurement() if outcome is Outcome.MEASURED else None}
    return CaseResult(case=of, nodeid=of.name, outcome=outcome, **{**known, **fields})


def baseline(*points: BaselinePoint, of: Case | None = None, hardware: Hardware = HARDWARE) -> Baseline:
    points = points or (point(),)
    packages = {each.created: {"torch": "2.13.0"} for each in points}
    history = BaselineCase(case=of or case(), sessions=points)
    return Baseline(hardware=hardware, cases=(history,), packages=packages)
