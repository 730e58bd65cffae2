"""Stored timing: `(history, measurement, tolerance) -> Comparison`.

The time of a case is compared with a prediction interval over earlier sessions (docs/method.md, "Stored
timing"). Effects are differences of logarithms inside this module, and ratios outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.measurement import CONTENDED, Measurement
from pytest_infergate.core.domain.notes import KEEP_MEMORY, NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Verdict
from pytest_infergate.core.domain.records import BaselinePoint
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.contention import (
    FAR_BEYOND,
    IDLE,
    explained,
    heavy,
    typical_seconds,
)
from pytest_infergate.core.gate.speed_fit import SpeedFit, fit_speeds

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
# Between any two of these nine sessions, the reference workloads of a case differed by at most a factor of
# 1.42.
MAX_CORRECTION = 1.5
"""Factor of the machine's speed up to which it is corrected; nothing is known about larger corrections."""
DISAGREEMENT = 0.1
"""Standard deviation of the factors of reference workloads, on the log scale, that a note mentions."""
# As many observations as a baseline keeps sessions: a full history outweighs the prior.
PRIOR_WEIGHT = 12.0
"""Number of observations that the prior counts for."""
# Sessions that are saved within one minute resemble each other more than sessions of different days.
SPREAD_FLOOR = 0.02
"""Smallest standard deviation that a history can claim."""
# In some launches the allocator returns memory after each call and maps it again in the next one. Mapping 324
# pages took 0.7 ms on a virtual machine with two cores, which is 2.2 microseconds each.
FAULT_SECONDS = 4e-6
"""Longest time of a page fault."""
REMAPPED = 0.01
"""Share of a call that page faults must explain to be taken into account."""
# Identical code whose memory is kept in one process and mapped again in another took up to 4.3 times as long.
MAX_REMAPPED = 4.5
"""Largest factor that page faults explain: a call that allocates more memory also maps more."""
SUSPICION = 0.05
"""One-sided level of the bounds behind every verdict that does not fail."""


class _Expectation(NamedTuple):
    """The log of the recorded time, and the uncertainty of a new session after correction."""

    level: float
    error: float
    degrees: float

    def reach(self, level: float, further: float = 0.0) -> float:
        """Return the distance of the bound at a one-sided level, with a further uncertainty."""
        return stats.student_quantile(1 - level, self.degrees) * math.hypot(self.error, further)


class _Change(NamedTuple):
    """How the machine differs from that of the history, as logarithms, and what that may explain."""

    correction: float = 0.0
    """By how much the expected time is corrected."""
    slower: float = 0.0
    """By how much contention, a speed beyond the correction, or page faults can explain that this run is
    slower."""
    faster: float = 0.0
    """By how much they can explain that it is faster; infinite if that is unknown."""
    factors: tuple[float, ...] = ()
    """How much slower each shared reference workload became, as logarithms."""
    contended: bool = False
    """Whether either side was under heavy contention, so that nothing is corrected."""
    fit: SpeedFit | None = None
    """Fitted weights of these workloads; ``None`` with equal ones."""
    trusted: bool = True
    """Whether nothing but the correction and page faults explains a difference."""
    page_faults: tuple[float, float] | None = None
    """Page faults of a call on record and in this run, if they explain a part of a difference."""

    @property
    def disagreement(self) -> float:
        """Uncertainty of the correction, as a standard deviation; 0 where nothing is corrected."""
        # The speed may change for some kinds of work only, and the case may resemble any of them.
        if self.contended or len(self.factors) < 2:  # noqa: PLR2004 - a single one cannot disagree
            return 0.0
        if self.fit is not None:
            return self.fit.uncertainty(self.factors)
        return math.sqrt(stats.variance(self.factors))

    @property
    def mixed_disagreement(self) -> float:
        """The same for a case whose work is a mixture of theirs, any mixture being equally likely."""
        if self.fit is not None:
            return self.disagreement
        # The variance of a mean with weights of a flat Dirichlet distribution about that with equal weights.
        count = max(1, len(self.factors))
        return self.disagreement * math.sqrt((count - 1) / count / (count + 1))


def compare_time(
    history: Sequence[BaselinePoint], candidate: Measurement, tolerance: float, cases: int = 1
) -> Comparison:
    """Compare a launch median with those of earlier sessions of the same hardware class.

    `cases` is the number of cases in the run, which share the probability of a false alarm. A case is
    regressed if the lower bound of the effect is above 0, the estimate is above `tolerance`, and either the
    smallest detectable effect is at most `tolerance` or the lower bound itself is above it. The smallest
    detectable effect is the slowdown that this rule calls regressed in 9 of 10 runs. Nothing is decided that
    heavy CPU contention on either side can explain.
    """
    median = candidate.call_times.p50.value
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
    # A session under heavy contention says little. It is left out unless no other session remains.
    quiet = [point for point in history if not _disturbed(point)]
    return _compare(*_correctable(quiet or history, candidate), candidate, tolerance, cases)


def _compare(
    history: Sequence[BaselinePoint],
    shared: frozenset[str],
    candidate: Measurement,
    tolerance: float,
    cases: int,
) -> Comparison:
    """Compare with a history of sessions whose speed the `shared` reference workloads correct."""
    contended = (candidate.contention or 0.0) > CONTENDED or any(point.contended for point in history)
    names = sorted(shared)
    times = [math.log(point.p50) for point in history]
    speeds = [[math.log(point.reference_work[name]) for name in names] for point in history]
    # Contention slows down a case and the workloads by other factors, which would pass for their weights.
    fit = None if contended else fit_speeds(times, speeds)
    change = _change(history, shared, candidate, fit)
    expected = _expectation(history, shared, fit, contended=contended)
    if change.contended:
        # Nothing is corrected then; but contention must not make an unsteady history look steadier.
        uncorrected = _expectation(history, frozenset(), contended=contended)
        expected = max(expected, uncorrected, key=lambda each: each.reach(FALSE_ALARMS))
    # Differences of logarithms are symmetric: twice as slow and twice as fast are equally far away.
    difference = math.log(candidate.call_times.p50.value) - change.correction - expected.level

    limit = math.log1p(tolerance)
    loose = expected.reach(SUSPICION, change.disagreement)
    strict = max(loose, expected.reach(FALSE_ALARMS / max(1, cases), change.mixed_disagreement))
    beyond = change.slower + (0.0 if change.trusted else math.log(FAR_BEYOND))
    detectable = strict + expected.reach(1 - stats.POWER, change.mixed_disagreement) + beyond
    # An instrument that cannot see `tolerance` must prove that the slowdown is beyond it, or it would call
    # every estimate above the tolerance regressed as soon as the lower bound is above 0.
    coarse = 0.0 if detectable <= limit else limit
    verdict = _verdict(difference, strict + coarse + beyond, loose, limit, change)
    if verdict is Verdict.REGRESSED and heavy(candidate.contention):
        # Threads that wait for each other may all wait for a processor: then the share explains too little.
        alone = typical_seconds(candidate, _ratio(max(change.factors, default=math.inf)) + 1)
        if alone is not None and math.log(max(alone, 1e-12)) - expected.level <= strict + coarse:
            verdict = Verdict.SUSPECTED
    bound = strict if verdict is Verdict.REGRESSED else loose
    # Memory that is kept since hides a slowdown as well, which then costs no more than was saved.
    smallest = _ratio(detectable + coarse + (change.faster if change.trusted else 0.0))
    return Comparison(
        metric="p50",
        verdict=verdict,
        evidence="stored",
        baseline=math.exp(expected.level + change.correction),
        recorded=math.exp(expected.level),
        candidate=candidate.call_times.p50.value,
        effect=_ratio(difference),
        low=_ratio(difference - bound - change.slower),
        high=None if math.isinf(change.faster) else _ratio(difference + bound + change.faster),
        tolerance=tolerance,
        smallest_detectable=smallest,
        sessions=len(history),
        note=_coarseness(candidate, change, smallest, history, corrected=bool(shared), contended=contended)
        if verdict in (Verdict.SUSPECTED, Verdict.INCONCLUSIVE)
        else None,
    )


def _expectation(
    history: Sequence[BaselinePoint],
    shared: frozenset[str],
    fit: SpeedFit | None = None,
    *,
    contended: bool,
) -> _Expectation:
    times = [math.log(point.p50) for point in history]
    levels = [time - _speed(point.reference_work, shared) for time, point in zip(times, history, strict=True)]
    prior = PRIOR_SPREAD if shared and not contended else UNCORRECTED_SPREAD
    variance = stats.variance(levels) if fit is None else fit.variance
    spread, degrees = stats.spread_with_prior(variance, len(levels) - 1, prior, PRIOR_WEIGHT)
    # A new session is predicted, not a mean estimated: its own spread comes on top of that of the mean.
    error = max(spread, SPREAD_FLOOR) * math.sqrt(1 + 1 / len(levels))
    return _Expectation(stats.mean(times), error, degrees)


def _verdict(difference: float, strict: float, loose: float, limit: float, change: _Change) -> Verdict:
    """Judge a log ratio that must exceed `strict` to fail, and whose interval is otherwise +- `loose`.

    The interval is wider on both sides by what a change of the machine can explain.
    """
    if difference > max(strict, limit):
        return Verdict.REGRESSED
    # What contention explains without being proven to is no suspicion.
    if difference > loose + change.slower + (math.log(FAR_BEYOND) if change.contended else 0.0):
        slow = difference + change.faster > limit
        return Verdict.SUSPECTED if slow else Verdict.SLOWER_WITHIN_TOLERANCE
    if difference < -loose - change.faster and change.trusted:
        return Verdict.IMPROVED
    return Verdict.EQUIVALENT if difference + loose + change.faster < limit else Verdict.INCONCLUSIVE


def _change(
    history: Sequence[BaselinePoint],
    shared: frozenset[str],
    candidate: Measurement,
    fit: SpeedFit | None,
) -> _Change:
    """Return by how much the machine of `candidate` differs from that of its history."""
    factors = tuple(
        _speed(candidate.reference_work, frozenset({name}))
        - stats.mean([_speed(point.reference_work, frozenset({name})) for point in history])
        for name in sorted(shared)
    )
    ratio = 0.0
    if factors:
        ratio = stats.mean(factors) if fit is None else fit.correction(factors)
    before, now = any(map(_disturbed, history)), heavy(candidate.contention)
    reach = 0.0 if before or now else math.log(MAX_CORRECTION)
    correction = min(max(ratio, -reach), reach)
    rest = ratio - correction
    # Contention only lengthens a time: a recorded time may be too long by any factor, and so may one that
    # was corrected by more than calibration has seen.
    unknown = before or (rest and not now)
    slower = max(rest, math.log(explained(candidate.contention)) if now else 0.0)
    faster = math.inf if unknown else max(0.0, -rest)
    remapped, page_faults = 0.0, None
    recorded = [point.page_faults for point in history if point.page_faults is not None]
    if candidate.page_faults is not None and len(recorded) == len(history):
        page_faults = stats.mean(recorded), candidate.page_faults
        shortest = min(candidate.call_times.p50.value, *(point.p50 for point in history))
        explained_by = 1 + FAULT_SECONDS * abs(page_faults[1] - page_faults[0]) / shortest
        remapped = math.log(min(explained_by, MAX_REMAPPED))
    if remapped < math.log1p(REMAPPED):
        remapped, page_faults = 0.0, None
    more = page_faults is not None and page_faults[1] > page_faults[0]
    return _Change(
        correction=correction,
        slower=slower + remapped * more,
        faster=faster + remapped * (not more),
        trusted=not (before or now or slower or faster),
        page_faults=page_faults,
        factors=factors,
        fit=fit,
        contended=before or now,
    )


def _disturbed(point: BaselinePoint) -> bool:
    """Return whether a session was recorded under heavy contention; it is if its share is unknown."""
    return point.contended if point.contention is None else heavy(point.contention)


def _ratio(difference: float) -> float:
    """Return a difference of logarithms as a relative change; damaged files may hold impossible times."""
    return math.expm1(min(difference, 700.0))


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


def _coarseness(
    candidate: Measurement,
    change: _Change,
    detectable: float,
    history: Sequence[BaselinePoint],
    *,
    corrected: bool,
    contended: bool,
) -> Note:
    """Return a note on how large a slowdown must be to be detected, and on what would detect smaller ones."""
    text = (
        f"{units.plural(len(history), 'stored session')} can detect a slowdown of "
        f"{units.percent(detectable, decimals=0)} or more"
    )
    code = NoteCode.STORED_TIMING_IS_COARSE
    hint = "record more sessions of the unchanged code with --infer-save"
    if change.contended:
        code = NoteCode.CONTENDED_TIME
        if heavy(candidate.contention):
            share = units.percent(candidate.contention, signed=False, decimals=0)
            text, hint = f"{text}, because other processes took {share} of the processor time", IDLE
        else:
            text += ", because other processes took processor time while they were recorded"
            hint = "record sessions on a machine that is otherwise idle with --infer-save"
    elif not change.trusted:
        code = NoteCode.SPEED_CHANGED
        text += ", because the reference workloads differ from those on record by more than a factor of "
        text += f"{MAX_CORRECTION:g}"
        hint = "record sessions at the present speed of the machine with --infer-save"
    elif change.page_faults is not None:
        before, now = (units.count(faults) for faults in change.page_faults)
        code = NoteCode.MEMORY_REMAPPED
        text += f", because the launches keep memory differently: a call maps {now} pages, on record {before}"
        hint = f"record sessions with {KEEP_MEMORY} set, in which memory is kept, or use --infer-against"
    elif change.disagreement > DISAGREEMENT:
        first, *_, last = [units.significant(math.exp(factor)) for factor in sorted(change.factors)]
        code = NoteCode.SPEED_CHANGED
        text += f", because the reference workloads take {first} to {last} times as long as on record"
    elif contended:
        text, hint = f"{text}, because other processes took processor time on one side", IDLE
    elif not corrected:
        text += "; without a shared reference workload the speed of the machine is not corrected"
    return Note(code=code, text=text, hint=hint)


def drift_note(
    anchor: Sequence[BaselinePoint], candidate: Measurement, recent: Comparison, cases: int = 1
) -> Note | None:
    """Return a note on a case that is slower than its first sessions, although not than its `recent` ones.

    Each session may be a little slower than those before it, and the recent ones drift along. The rule is
    that of `compare_time`; the note fails nothing.
    """
    if not anchor or recent.tolerance is None or recent.verdict is Verdict.REGRESSED:
        return None
    then = compare_time(anchor, candidate, recent.tolerance, cases)
    if then.verdict is not Verdict.REGRESSED or then.effect is None:
        return None
    return Note(
        code=NoteCode.DRIFTED,
        text=(
            f"p50 latency has drifted: {units.percent(then.effect)} since the sessions of "
            f"{anchor[0].created[:10]} to {anchor[-1].created[:10]}"
        ),
        hint="find the change with infergate history show, or accept it with infergate baseline accept",
    )


def incomparable(candidate: Measurement, reason: str) -> Comparison:
    """Return the comparison of a case whose recorded times do not apply, with the reason."""
    return Comparison(
        metric="p50",
        verdict=Verdict.INCOMPARABLE,
        evidence="stored",
        candidate=candidate.call_times.p50.value,
        note=Note(
            code=NoteCode.INCOMPARABLE,
            text=reason,
            hint="record a baseline on this class of machine with --infer-save",
        ),
    )
