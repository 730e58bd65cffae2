"""Baselines from the results of a session, and the merging of baselines. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.measurement import CONTENDED
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.records import AcceptedChange, Baseline, BaselineCase, BaselinePoint
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.domain.values import Case, Hardware
from pytest_infergate.core.gate.contention import heavy

# The smallest detectable slowdown drops with the number of sessions: at a spread of 2.7 % between sessions,
# from 82 % with 6 to 19 % with 12 (docs/method.md).
SESSIONS_KEPT = 12
"""Number of sessions that a baseline keeps of each case."""


def baselines_from_results(
    results: Iterable[CaseResult], created: str, packages: Mapping[str, str]
) -> dict[str, Baseline]:
    """Return one baseline for each hardware class of the valid measurements of a session, by class id.

    Failed, invalid, infeasible and skipped cases are left out, and so are times of zero. Figures are rounded
    to five significant digits.
    """
    hardware: dict[str, Hardware] = {}
    cases: dict[str, list[BaselineCase]] = {}
    for result in results:
        if result.outcome is not Outcome.MEASURED or result.measurement is None or result.hardware is None:
            continue
        measurement = result.measurement
        share = measurement.contention or 0.0
        # A time of zero has no logarithm and would make every later comparison impossible.
        if measurement.latency is None or not stats.positive(measurement.latency.p50.value):
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
            contended=share > CONTENDED,
            contention=round_significant(share) if share > CONTENDED else None,
            page_faults=None
            if measurement.page_faults is None
            else round_significant(measurement.page_faults),
        )
        hardware[result.hardware.id] = result.hardware
        cases.setdefault(result.hardware.id, []).append(BaselineCase(case=result.case, sessions=(point,)))
    return {
        key: Baseline(hardware=hardware[key], cases=tuple(cases[key]), packages={created: dict(packages)})
        for key in hardware
    }


def disturbed_results(results: Iterable[CaseResult]) -> list[CaseResult]:
    """Return the measured cases whose times were taken under heavy contention, which makes no baseline."""
    return [
        result
        for result in results
        if result.outcome is Outcome.MEASURED
        and result.measurement is not None
        and heavy(result.measurement.contention)
    ]


def merge_baselines(old: Baseline | None, new: Baseline, keep: int = SESSIONS_KEPT) -> Baseline:
    """Merge two baselines of one hardware class, with the last `keep` sessions of each case.

    The result does not depend on the order of the two, and merging a baseline twice has no further effect.
    Raises `ValueError` if the hardware classes differ.
    """
    if old is None:
        old = Baseline(hardware=new.hardware)
    if old.hardware != new.hardware:
        raise ValueError(
            f"baselines must be of one hardware class, got {old.hardware.id} and {new.hardware.id}"
        )

    def rank(point: BaselinePoint) -> tuple[int, str]:
        # A total order over points of one session, so that the same one is kept whichever comes first.
        return point.count, repr((point.p50, sorted(point.reference_work.items())))

    points: dict[Case, dict[str, BaselinePoint]] = {}
    accepted: dict[Case, set[AcceptedChange]] = {}
    for entry in (*old.cases, *new.cases):
        sessions = points.setdefault(entry.case, {})
        accepted.setdefault(entry.case, set()).update(entry.accepted)
        for point in (*entry.anchor, *entry.sessions):
            known = sessions.get(point.created)
            sessions[point.created] = point if known is None else max(known, point, key=rank)
    cases = [_merged_case(case, sessions, accepted[case], keep) for case, sessions in points.items()]
    # Versions of sessions that no case has any more would grow without bound.
    used = {point.created for entry in cases for point in entry.sessions}
    packages = dict(old.packages)
    for created, versions in new.packages.items():
        packages[created] = max(
            packages.get(created, versions), versions, key=lambda named: sorted(named.items())
        )
    return Baseline(
        hardware=new.hardware,
        # By name and contents: a user's parameter may look like a batch size, so that two cases share a name.
        cases=tuple(sorted(cases, key=lambda entry: (entry.case.name, repr(entry.case)))),
        packages={created: packages[created] for created in sorted(used & packages.keys())},
    )


def _merged_case(
    case: Case, sessions: Mapping[str, BaselinePoint], accepted: Collection[AcceptedChange], keep: int
) -> BaselineCase:
    """Return the last sessions of a case since its last accepted change, and the first ones before these."""
    changes = sorted(accepted, key=lambda change: (change.created, change.reason))
    begin = changes[-1].created if changes else ""
    keys = sorted(key for key in sessions if key > begin)
    return BaselineCase(
        case=case,
        sessions=tuple(sessions[key] for key in keys[-keep:]),
        accepted=tuple(changes),
        anchor=tuple(sessions[key] for key in keys[:keep]) if len(keys) > keep else (),
    )
