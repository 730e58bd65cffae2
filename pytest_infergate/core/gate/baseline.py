"""How a session becomes history: pure functions from a session's results to baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.model import Case, Hardware
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.records import Baseline, BaselineCase, BaselinePoint
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.gate.stored import CONTENDED

SESSIONS_KEPT = 12
"""Sessions a baseline keeps of each case."""


def baselines_from_results(
    results: Iterable[CaseResult], created: str, packages: Mapping[str, str]
) -> dict[str, Baseline]:
    """Turn the valid measurements of one session into one baseline a hardware class, by class id.

    Failed, invalid, infeasible and skipped cases are left out, and times of zero. Figures keep five
    significant digits.
    """
    hardware: dict[str, Hardware] = {}
    cases: dict[str, list[BaselineCase]] = {}
    for result in results:
        if result.outcome is not Outcome.MEASURED or result.measurement is None or result.hardware is None:
            continue
        measurement = result.measurement
        if not stats.positive(measurement.latency.p50.value):
            continue
        point = BaselinePoint(
            created=created,
            p50=round_significant(measurement.latency.p50.value),
            count=measurement.latency.count,
            reference_work={
                name: round_significant(value)
                for name, value in measurement.reference_work.items()
                if stats.positive(value)
            },
            contended=(measurement.contention or 0.0) > CONTENDED,
        )
        hardware[result.hardware.id] = result.hardware
        cases.setdefault(result.hardware.id, []).append(BaselineCase(case=result.case, sessions=(point,)))
    return {
        key: Baseline(hardware=hardware[key], cases=tuple(cases[key]), packages={created: dict(packages)})
        for key in hardware
    }


def merge_baselines(old: Baseline | None, new: Baseline, keep: int = SESSIONS_KEPT) -> Baseline:
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
        for point in entry.sessions:
            sessions[point.created] = max(sessions.get(point.created, point), point, key=_rank)
    cases = [
        BaselineCase(case=case, sessions=tuple(sessions[key] for key in sorted(sessions)[-keep:]))
        for case, sessions in points.items()
    ]
    named = {point.created for entry in cases for point in entry.sessions}
    packages = dict(old.packages)
    for created, versions in new.packages.items():
        packages[created] = max(packages.get(created, versions), versions, key=_versions)
    return Baseline(
        hardware=new.hardware,
        cases=tuple(sorted(cases, key=_order)),
        packages={created: packages[created] for created in sorted(named & packages.keys())},
    )


def _order(entry: BaselineCase) -> tuple[str, str]:
    """By name; two cases may share one, as a user's parameter may read like a batch size."""
    return entry.case.name, repr(entry.case)


def _rank(point: BaselinePoint) -> tuple[int, str]:
    """Order points of one session, so that the same one stays whichever comes first."""
    return point.count, repr((point.p50, sorted(point.reference_work.items())))


def _versions(packages: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(packages.items())
