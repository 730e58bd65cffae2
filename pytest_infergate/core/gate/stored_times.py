"""Stored timing: `(history, measurement, tolerance) -> Comparison`.

The time of a case is compared with a prediction interval over earlier sessions (docs/method.md, "Stored
timing"). Effects are differences of logarithms inside this module, and ratios outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Verdict
from pytest_infergate.core.domain.records import BaselinePoint
from pytest_infergate.core.domain.values import Note

# Shared among the cases of a run. None of 100,000 simulated runs of ten cases of identical code failed, and
# none of 112 measured comparisons was regressed or suspected.
FALSE_ALARMS = 0.005
"""Probability that a run of identical code calls any of its cases regressed."""
# Seven cases in nine sessions on a shared virtual machine: corrected launch medians had a standard deviation
# of 5.8 % (root mean square), 2.7 to 9.2 % for single cases. The prior is above all of them.
PRIOR_SPREAD = 0.10
"""Prior standard deviation of a corrected launch median (log scale), which applies while sessions are few."""
# The same medians without correction: 9.8 % there, and 17-23 % for one model launched 14 times elsewhere.
UNCORRECTED_SPREAD = 0.20
"""Prior standard deviation without a shared reference workload, or with CPU contention on either side."""
# One busy process on two cores took the p95 of a transformer layer from 7 to 96 ms. Reference workloads do
# not correct that.
CONTENDED = 0.05
"""Share of a case's processor time that others may take before its time is no longer corrected."""
MAX_CONTENTION = 0.25
"""Share from which on the time says more about the other processes: nothing is called regressed on it."""
IDLE = "measure on a machine that is otherwise idle"
# As many observations as a baseline keeps sessions: a full history outweighs the prior.
PRIOR_WEIGHT = 12.0
"""Number of observations that the prior counts for."""
# Sessions that are saved within one minute resemble each other more than sessions of different days.
SPREAD_FLOOR = 0.02
"""Smallest standard deviation that a history can claim."""
SUSPICION = 0.05
"""One-sided level of the bounds behind every verdict that does not fail."""


class _Expectation(NamedTuple):
    """The log of the time that the history predicts on a machine of standard speed, and its uncertainty."""

    level: float
    error: float
    degrees: float

    def reach(self, level: float) -> float:
        """Return the distance of the bound at a one-sided level."""
        return stats.student_quantile(1 - level, self.degrees) * self.error


def compare_time(
    history: Sequence[BaselinePoint], candidate: Measurement, tolerance: float, cases: int = 1
) -> Comparison:
    """Compare a launch median with those of earlier sessions of the same hardware class.

    `cases` is the number of cases in the run, which share the probability of a false alarm. A case is
    regressed if the lower bound of the effect is above 0, the estimate is above `tolerance`, and either the
    smallest detectable effect is at most `tolerance` or the lower bound itself is above it. The smallest
    detectable effect is the slowdown that this rule calls regressed in 9 of 10 runs. With heavy CPU
    contention, a case is suspected at most.
    """
    median = candidate.latency.p50.value
    if not history:
        return Comparison(
            metric="p50",
            verdict=Verdict.NO_BASELINE,
            evidence="stored",
            candidate=median,
            tolerance=tolerance,
        )
    if not stats.positive(median):
        note = Note(
            code=NoteCode.LATENCY_UNREADABLE,
            text=f"the median latency must be a time greater than 0 to be compared, got {median} s",
            hint="give one call more work",
        )
        return Comparison(
            metric="p50", verdict=Verdict.INVALID, evidence="stored", tolerance=tolerance, note=note
        )
    return _compare(*_correctable(history, candidate), candidate, tolerance, cases)


def _compare(
    history: Sequence[BaselinePoint],
    shared: frozenset[str],
    candidate: Measurement,
    tolerance: float,
    cases: int,
) -> Comparison:
    """Compare with a history of sessions whose speed the `shared` reference workloads correct."""
    contention = candidate.contention or 0.0
    contended = contention > CONTENDED or any(point.contended for point in history)
    expected = _expectation(history, shared, contended=contended)
    speed = _speed(candidate.reference_work, shared)
    # Differences of logarithms are symmetric: twice as slow and twice as fast are equally far away.
    difference = math.log(candidate.latency.p50.value) - speed - expected.level

    limit = math.log1p(tolerance)
    strict, loose = expected.reach(FALSE_ALARMS / max(1, cases)), expected.reach(SUSPICION)
    detectable = strict + expected.reach(1 - stats.POWER)
    # An instrument that cannot see `tolerance` must prove that the slowdown is beyond it, or it would call
    # every estimate above the tolerance regressed as soon as the lower bound is above 0.
    coarse = 0.0 if detectable <= limit else limit
    verdict = _verdict(difference, strict + coarse, loose, limit)
    if verdict is Verdict.REGRESSED and contention > MAX_CONTENTION:
        verdict = Verdict.SUSPECTED
    bound = strict if verdict is Verdict.REGRESSED else loose
    smallest = math.expm1(detectable + coarse)
    return Comparison(
        metric="p50",
        verdict=verdict,
        evidence="stored",
        baseline=math.exp(expected.level + speed),
        candidate=candidate.latency.p50.value,
        effect=math.expm1(difference),
        low=math.expm1(difference - bound),
        high=math.expm1(difference + bound),
        tolerance=tolerance,
        smallest_detectable=smallest,
        sessions=len(history),
        note=_coarseness(smallest, len(history), corrected=bool(shared), contended=contended)
        if verdict in (Verdict.SUSPECTED, Verdict.INCONCLUSIVE)
        else None,
    )


def _expectation(
    history: Sequence[BaselinePoint], shared: frozenset[str], *, contended: bool
) -> _Expectation:
    levels = [math.log(point.p50) - _speed(point.reference_work, shared) for point in history]
    prior = PRIOR_SPREAD if shared and not contended else UNCORRECTED_SPREAD
    spread, degrees = stats.pooled_spread(levels, prior, PRIOR_WEIGHT)
    # A new session is predicted, not a mean estimated: its own spread comes on top of that of the mean.
    error = max(spread, SPREAD_FLOOR) * math.sqrt(1 + 1 / len(levels))
    return _Expectation(stats.mean(levels), error, degrees)


def _verdict(difference: float, strict: float, loose: float, limit: float) -> Verdict:
    """Judge a log ratio that must exceed `strict` to fail, and whose interval is otherwise +- `loose`."""
    if difference > max(strict, limit):
        return Verdict.REGRESSED
    if difference > loose:
        return Verdict.SUSPECTED if difference > limit else Verdict.SLOWER_WITHIN_TOLERANCE
    if difference < -loose:
        return Verdict.IMPROVED
    return Verdict.EQUIVALENT if difference + loose < limit else Verdict.INCONCLUSIVE


def _correctable(
    history: Sequence[BaselinePoint], candidate: Measurement
) -> tuple[Sequence[BaselinePoint], frozenset[str]]:
    """Return the sessions to compare with, and the reference workloads that they share with the candidate.

    A session without shared reference workloads would prevent the correction of all others. It is left out
    unless no other session remains.
    """

    def usable(reference_work: Mapping[str, float]) -> frozenset[str]:
        return frozenset(name for name, value in reference_work.items() if stats.positive(value))

    # A workload may be missing on either side: machines and versions have different ones.
    now = usable(candidate.reference_work)
    corrected = [point for point in history if now & usable(point.reference_work)]
    shared = now.intersection(*(usable(point.reference_work) for point in corrected))
    return (corrected, shared) if corrected and shared else (history, frozenset())


def _speed(reference_work: Mapping[str, float], shared: frozenset[str]) -> float:
    """Return the mean log time of the shared reference workloads, 0 without any; higher is slower."""
    return stats.mean([math.log(reference_work[name]) for name in sorted(shared)]) if shared else 0.0


def _coarseness(detectable: float, sessions: int, *, corrected: bool, contended: bool) -> Note:
    """Return a note on how large a slowdown must be to be detected, and on what would detect smaller ones."""
    text = (
        f"{units.plural(sessions, 'stored session')} can detect a slowdown of "
        f"{units.percent(detectable, decimals=0)} or more"
    )
    hint = "record more sessions of the unchanged code with --infer-save"
    if contended:
        text, hint = f"{text}, because other processes took processor time on one side", IDLE
    elif not corrected:
        text += "; without a shared reference workload the speed of the machine is not corrected"
    return Note(code=NoteCode.STORED_TIMING_IS_COARSE, text=text, hint=hint)


def incomparable(candidate: Measurement, reason: str) -> Comparison:
    """Return the comparison of a case whose recorded times do not apply, with the reason."""
    return Comparison(
        metric="p50",
        verdict=Verdict.INCOMPARABLE,
        evidence="stored",
        candidate=candidate.latency.p50.value,
        note=Note(
            code=NoteCode.INCOMPARABLE,
            text=reason,
            hint="record a baseline on this class of machine with --infer-save",
        ),
    )
