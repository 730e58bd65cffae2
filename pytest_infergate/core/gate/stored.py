"""A time against its baseline: `(history, candidate, tolerance) -> Comparison`.

Stored times go through a prediction interval over earlier sessions (docs/method.md, "Stored timing").
Effects are differences of logarithms inside, ratios outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Verdict
from pytest_infergate.core.domain.records import BaselinePoint

FALSE_ALARMS = 0.005
"""Chance that a run of identical code calls any of its cases regressed."""
PRIOR_SPREAD = 0.10
"""Standard deviation of a normalised launch median (log scale) that is assumed while sessions are few."""
UNCORRECTED_SPREAD = 0.20
"""The same where no yardstick is shared, or one side was disturbed, which yardsticks do not mend."""
CONTENDED = 0.05
"""Share of a case's processor time that others may take before its time is no longer corrected."""
CONTENTION_ALLOWANCE = ", since other processes disturbed one side"
IDLE = "measure on a machine that does nothing else meanwhile"
MAX_CONTENTION = 0.25
"""And the share from which on the time says more about the others: nothing is called regressed on it."""
PRIOR_WEIGHT = 12.0
"""Observations that the prior is worth."""
SPREAD_FLOOR = 0.02
"""A history may not claim to be steadier than this: sessions saved in one minute resemble each other."""
SUSPICION = 0.05
"""One-sided level of the bounds behind every verdict that does not fail."""
POWER = 0.9
"""Chance to see the smallest detectable effect."""


def compare_time(
    history: Sequence[BaselinePoint], candidate: Measurement, tolerance: float, cases: int = 1
) -> Comparison:
    """Compare a launch median with those of earlier sessions of the same hardware class.

    `cases` is how many cases the run judges: the chance of a false alarm is shared among them.
    Regressed needs the lower bound above 0, the estimate above `tolerance`, and an instrument fine
    enough to see `tolerance`, or else the lower bound itself above it. The smallest detectable effect
    is the one that this rule turns red in 9 of 10 runs. A run that others overran is suspected at most.
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
        return _unreadable(median, tolerance)
    history, shared = _correctable(history, candidate)
    speed_now = _speed(candidate.reference_work, shared)
    levels = [math.log(point.p50) - _speed(point.reference_work, shared) for point in history]
    contention = candidate.contention or 0.0
    contended = contention > CONTENDED or any(point.contended for point in history)
    prior = PRIOR_SPREAD if shared and not contended else UNCORRECTED_SPREAD
    spread, degrees = stats.pooled_spread(levels, prior, PRIOR_WEIGHT)
    error = max(spread, SPREAD_FLOOR) * math.sqrt(1 + 1 / len(levels))
    expected = stats.mean(levels)
    difference = math.log(median) - speed_now - expected

    limit = math.log1p(tolerance)
    level = FALSE_ALARMS / max(1, cases)
    strict = stats.student_quantile(1 - level, degrees) * error
    loose = stats.student_quantile(1 - SUSPICION, degrees) * error
    detectable = strict + stats.student_quantile(POWER, degrees) * error
    fine = detectable <= limit
    verdict = _verdict(difference, strict if fine else strict + limit, loose, limit)
    detectable += 0.0 if fine else limit
    if verdict is Verdict.REGRESSED and contention > MAX_CONTENTION:
        verdict = Verdict.SUSPECTED
    bound = strict if verdict is Verdict.REGRESSED else loose
    return Comparison(
        metric="p50",
        verdict=verdict,
        evidence="stored",
        baseline=math.exp(expected + speed_now),
        candidate=median,
        effect=math.expm1(difference),
        low=math.expm1(difference - bound),
        high=math.expm1(difference + bound),
        tolerance=tolerance,
        smallest_detectable=math.expm1(detectable),
        sessions=len(levels),
        note=_time_note(verdict, math.expm1(detectable), len(levels), _hindrance(shared, contended)),
    )


def _verdict(difference: float, strict: float, loose: float, limit: float) -> Verdict:
    """Judge a log ratio that must be beyond `strict` to fail, and whose interval elsewhere is +- `loose`."""
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
    """Sessions that share yardsticks with the candidate, and the yardsticks that all of these share.

    A session without any would take the correction from all others, so it stays out while others remain.
    """
    now = _usable(candidate.reference_work)
    corrected = [point for point in history if now & _usable(point.reference_work)]
    shared = now.intersection(*(_usable(point.reference_work) for point in corrected))
    return (corrected, shared) if corrected and shared else (history, frozenset())


def _usable(reference_work: dict[str, float]) -> frozenset[str]:
    return frozenset(name for name, value in reference_work.items() if stats.positive(value))


def _unreadable(median: float, tolerance: float) -> Comparison:
    note = Note(
        code=NoteCode.LATENCY_UNREADABLE,
        text=f"the median latency reads {median} s, which cannot be compared",
        hint="give one call more work",
    )
    return Comparison(
        metric="p50", verdict=Verdict.INVALID, evidence="stored", tolerance=tolerance, note=note
    )


def _speed(reference_work: dict[str, float], shared: frozenset[str]) -> float:
    """Mean log time of the shared yardsticks: higher is a slower machine. 0 where none is shared."""
    return stats.mean([math.log(reference_work[name]) for name in sorted(shared)]) if shared else 0.0


def _hindrance(shared: frozenset[str], contended: bool) -> str:
    """What keeps the speed of the machine from being corrected; empty where nothing does."""
    if contended:
        return CONTENTION_ALLOWANCE
    return "" if shared else ", and without a shared yardstick the speed of the machine is not corrected"


def _time_note(verdict: Verdict, detectable: float, sessions: int, hindrance: str) -> Note | None:
    if verdict not in (Verdict.SUSPECTED, Verdict.INCONCLUSIVE):
        return None
    seen = units.percent(detectable, decimals=0)
    return Note(
        code=NoteCode.STORED_TIMING_IS_COARSE,
        text=f"{units.plural(sessions, 'stored session')} can show a slowdown of {seen} or more{hindrance}",
        hint=IDLE
        if hindrance == CONTENTION_ALLOWANCE
        else "record more sessions of the unchanged code with --infer-save",
    )


def incomparable(candidate: Measurement, reason: str) -> Comparison:
    """Record that times are on record and do not apply, and why."""
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
