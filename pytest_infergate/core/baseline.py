"""How a session becomes history: pure functions from a session's results to baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_infergate.core.model import (
    Baseline,
    BaselineCase,
    BaselinePoint,
    Case,
    CaseResult,
    Hardware,
    Outcome,
)
from pytest_infergate.core.units import round_significant

SESSIONS_KEPT = 12
"""Sessions a baseline keeps of each case."""


def from_results(
    results: Iterable[CaseResult], created: str, packages: Mapping[str, str]
) -> dict[str, Baseline]:
    """Turn the valid measurements of one session into one baseline a hardware class, by class id.

    Failed, invalid, infeasible and skipped cases are left out. Figures keep five significant digits.
    """
    hardware: dict[str, Hardware] = {}
    cases: dict[str, list[BaselineCase]] = {}
    for result in results:
        if result.outcome is not Outcome.MEASURED or result.measurement is None or result.hardware is None:
            continue
        measurement = result.measurement
        point = BaselinePoint(
            created=created,
            p50=round_significant(measurement.latency.p50.value),
            count=measurement.latency.count,
            peak_memory=measurement.memory.peak,
            yardsticks={name: round_significant(value) for name, value in measurement.yardsticks.items()},
        )
        hardware[result.hardware.id] = result.hardware
        cases.setdefault(result.hardware.id, []).append(BaselineCase(case=result.case, sessions=(point,)))
    return {
        key: Baseline(hardware=hardware[key], cases=tuple(cases[key]), packages={created: dict(packages)})
        for key in hardware
    }


def merge(old: Baseline | None, new: Baseline, keep: int = SESSIONS_KEPT) -> Baseline:
    """Join two baselines of one hardware class: order-free, idempotent, the last `keep` sessions a case.

    Raises `ValueError` where the classes differ.
    """
    if old is None:
        old = Baseline(hardware=new.hardware)
    if old.hardware != new.hardware:
        raise ValueError(f"cannot merge {new.hardware.id} into {old.hardware.id}")
    points: dict[Case, dict[str, BaselinePoint]] = {}
    for entry in (*old.cases, *new.cases):
        sessions = points.setdefault(entry.case, {})
        sessions.update({point.created: point for point in entry.sessions})
    cases = [
        BaselineCase(case=case, sessions=tuple(sessions[key] for key in sorted(sessions)[-keep:]))
        for case, sessions in points.items()
    ]
    named = {point.created for entry in cases for point in entry.sessions}
    packages = {**old.packages, **new.packages}
    return Baseline(
        hardware=new.hardware,
        cases=tuple(sorted(cases, key=lambda entry: entry.case.name)),
        packages={created: packages[created] for created in sorted(named & packages.keys())},
    )
