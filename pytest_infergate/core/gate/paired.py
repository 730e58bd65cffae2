"""Paired timing decided: `(launches so far, plan) -> Decision`. A pure state machine over plain numbers.

A launch is one pair of fresh processes in which base and candidate alternated call by call; it yields one
log ratio of candidate over base. Decisions are taken at planned looks: a screen, then a confirmation.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.model import Note, Struct
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Verdict

SCREEN_ANALYSES: Final = (3, 5, 7, 10, 15)
"""Launches after which the screen looks."""
CONFIRM_ANALYSES: Final = (5, 7, 10, 15)
"""And the confirmation, which takes launches of its own and never those of the screen."""
MIN_LAUNCHES_UNPOOLED: Final = 5
"""Launches before which no case is decided by its own spread alone."""
SUSPECT: Final = 0.0526
EQUIVALENT: Final = 0.0242
REGRESSED: Final = 0.00151
REFUTED: Final = 0.0188
"""One-sided levels of each look."""
MOVED: Final = 0.005
"""One-sided level at which an equivalent case is told to be faster or slower within its tolerance."""
UNSHARED_CONFIRMATIONS: Final = 2
"""Cases in confirmation at once among which the level of `REGRESSED` need not be shared."""
TOLERANCE: Final = 0.02
"""Slowdown that is tolerated unless told otherwise."""
FLOOR: Final = 0.005
"""Slowdown that the instrument itself may show."""
OUTLIER_CUTOFF: Final = 2.5
"""Robust standard deviations beyond which a launch is pulled in."""
MIN_OUTLIER_SPREAD: Final = 0.004
"""Least robust standard deviation, log scale: launches may agree by chance."""
LAUNCHES_PER_OUTLIER: Final = 10
"""Launches among which one may be wild; more of them are modes of the machine, not accidents."""
CONTROL_MOVED: Final = 0.01
"""Difference between two sides of identical code from which on a run says nothing about times."""
CONTROL_LEVEL: Final = 0.0005
"""One-sided level at which it must be there."""
OWN_REASONS: Final = ("power cap",)
"""Why work of its own kind may hold a clock down: heavier code draws more power."""
MAX_THROTTLE_DIFFERENCE: Final = 0.1
"""Difference between the shares of turns held back on the two sides from which on their times say nothing."""
SHORT_CALL_SECONDS: Final = 20e-6
"""Seconds of a call of which the clock and the loop around it are a part that matters."""
MAX_RATIO: Final = 100.0
TRIM: Final = 0.3
"""Share of the turns of a launch that is dropped at either end: calls jump between speeds."""
MAX_SPREAD_RATIO: Final = 1.5
"""Ratio of a case's spread between launches to that of the others up to which it is one of them."""
MIN_POOLED_DEGREES: Final = 10
"""Degrees of freedom below which the others say too little."""
INTERVAL_CONFIDENCE: Final = 0.99
"""Two-sided confidence of the interval that is shown."""
POWER: Final = 0.9
"""Chance to see the smallest detectable effect."""


class Stage(str, enum.Enum):
    """What a case needs next."""

    SCREEN = "screen"
    CONFIRM = "confirm"
    DONE = "done"


class GpuState(Struct, frozen=True, kw_only=True):
    """What an accelerator was allowed to do after a turn."""

    clock_hz: float | None = None
    """Of its arithmetic units."""
    throttled: tuple[str, ...] = ()
    """Why its clock was held down, in words."""

    @property
    def held_back(self) -> bool:
        """Whether its clock was held down by more than the work of the turn itself."""
        return any(reason not in OWN_REASONS for reason in self.throttled)


class Launch(Struct, frozen=True, kw_only=True):
    """Turn pairs of one case in one launch: seconds a call, of base and candidate."""

    base: tuple[float, ...]
    candidate: tuple[float, ...]
    base_gpu_states: tuple[GpuState, ...] = ()
    """Turn by turn, where there is an accelerator that tells."""
    candidate_gpu_states: tuple[GpuState, ...] = ()

    @property
    def difference(self) -> float:
        """Trimmed mean of the log ratios of the turn pairs. Raises `ValueError` for times not above 0."""
        return stats.trimmed_mean(self._ratios, TRIM)

    @property
    def error(self) -> float:
        """Standard error of `difference` by the turns of this launch alone; infinite for fewer than 4."""
        ordered = sorted(self._ratios)
        cut = int(len(ordered) * TRIM)
        if not cut:
            return math.inf
        held = [min(max(ratio, ordered[cut]), ordered[-cut - 1]) for ratio in ordered]
        return math.sqrt(stats.variance(held) / len(held)) / (1 - 2 * cut / len(held))

    @property
    def _ratios(self) -> list[float]:
        return [
            math.log(after) - math.log(before)
            for before, after in zip(self.base, self.candidate, strict=True)
        ]


class PairedTerms(Struct, frozen=True, kw_only=True):
    """What one case is held to."""

    tolerance: float = TOLERANCE
    floor: float = FLOOR


class Spread(Struct, frozen=True, kw_only=True):
    """By how much launches differ from the mean of their own case, over several cases."""

    squares: float = 0.0
    """Sum of the squared differences, log scale."""
    degrees: int = 0


class Location(Struct, frozen=True, kw_only=True):
    """Where the log ratios of some launches lie, resisting single wild ones."""

    value: float
    error: float
    """By these launches alone."""
    degrees: int
    joint_error: float = math.inf
    """By the launches of all cases, and no less than `error`; infinite where this one is none of them."""
    joint_degrees: int = 0

    def half_width(self, level: float) -> float:
        """Distance of the bound at a one-sided level: a few launches know little of their own spread."""
        own = stats.student_quantile(1 - level, self.degrees) * self.error
        if math.isinf(self.joint_error):
            return own
        return min(own, stats.student_quantile(1 - level, self.joint_degrees) * self.joint_error)


class Decision(Struct, frozen=True, kw_only=True):
    """Where a case stands after some launches."""

    stage: Stage
    verdict: Verdict | None = None
    """``None`` while undecided."""


def location(differences: Sequence[float], others: Spread | None = None) -> Location:
    """Mean and standard error of log ratios; one wild launch in ten is pulled in towards the median.

    `others` is the spread of the other cases of the run. A case whose launches differ by more than `LIKE`
    times as much is judged by its own alone.

    Simulated with one launch in twenty off by 10 %, this confirms +3 % in 93 % of runs, the plain mean in
    83 %. Pulling in any number would confirm 99 %, and call identical code regressed in 12 to 25 % of runs
    on a machine with two modes, where this and the mean do in 0.4 to 1.2 %. Raises `ValueError` for fewer
    than two.
    """
    if len(differences) < 2:  # noqa: PLR2004 - one has no spread
        raise ValueError("a location needs two launches")
    centre = median(differences)
    spread = 1.4826 * median(abs(value - centre) for value in differences)
    reach = OUTLIER_CUTOFF * max(spread, MIN_OUTLIER_SPREAD)
    wild = sum(abs(value - centre) > reach for value in differences)
    few = wild <= len(differences) // LAUNCHES_PER_OUTLIER
    held = [min(max(value, centre - reach), centre + reach) if few else value for value in differences]
    own = Location(
        value=stats.mean(held), error=math.sqrt(stats.variance(held) / len(held)), degrees=len(held) - 1
    )
    if others is None or others.degrees < MIN_POOLED_DEGREES:
        return own
    theirs = math.sqrt(others.squares / others.degrees / len(held))
    if own.error > MAX_SPREAD_RATIO * theirs:
        return own
    return msgspec.structs.replace(
        own, joint_error=max(own.error, theirs), joint_degrees=own.degrees + others.degrees
    )


def spreads_of_others(cases: Sequence[Sequence[float]]) -> list[Spread]:
    """For each case, the spread of all others, given the log ratios of their launches."""
    squares = [(len(case) - 1) * stats.variance(case) if len(case) > 1 else 0.0 for case in cases]
    degrees = [max(0, len(case) - 1) for case in cases]
    return [
        Spread(squares=max(0.0, sum(squares) - own), degrees=sum(degrees) - count)
        for own, count in zip(squares, degrees, strict=True)
    ]


def decide(
    screen: Sequence[float],
    confirm: Sequence[float],
    plan: PairedTerms,
    *,
    confirming: int = 1,
    others: Mapping[int, Spread] | None = None,
) -> Decision:
    """Decide one case from the log ratios of its launches; `confirming` is how many cases are confirmed.

    Only full looks decide: between them the stage stays as it was. `others` is, by look of the screen, the
    spread of the other cases; a confirmation stands on its own launches.
    """
    stage, verdict = _screened(screen, plan, others or {})
    if stage is not Stage.CONFIRM:
        return Decision(stage=stage, verdict=verdict)
    return _confirmed(confirm, plan, confirming)


def launches_to_next_analysis(stage: Stage, screen: int, confirm: int) -> int:
    """How many more launches a case needs before anything can be decided; 0 where it is done."""
    analyses, have = (SCREEN_ANALYSES, screen) if stage is Stage.SCREEN else (CONFIRM_ANALYSES, confirm)
    if stage is Stage.DONE:
        return 0
    return next((analysis - have for analysis in analyses if analysis > have), 0)


def _screened(
    differences: Sequence[float], plan: PairedTerms, others: Mapping[int, Spread]
) -> tuple[Stage, Verdict | None]:
    limit = math.log1p(plan.tolerance)
    for analysis in SCREEN_ANALYSES:
        if analysis > len(differences):
            return Stage.SCREEN, None
        found = location(differences[:analysis], others.get(analysis))
        if analysis < MIN_LAUNCHES_UNPOOLED and math.isinf(found.joint_error):
            continue
        if found.value + found.half_width(EQUIVALENT) < limit:
            return Stage.DONE, _told_apart(found, plan)
        if found.value > limit and found.value - found.half_width(SUSPECT) > 0:
            return Stage.CONFIRM, None
    return (Stage.CONFIRM, None) if found.value > limit else (Stage.DONE, Verdict.INCONCLUSIVE)


def _told_apart(found: Location, plan: PairedTerms) -> Verdict:
    """Whether a case within its tolerance is faster, slower or neither."""
    reach = found.half_width(MOVED)
    floor = math.log1p(plan.floor)
    if found.value + reach < -floor:
        return Verdict.IMPROVED
    return Verdict.SLOWER_WITHIN_TOLERANCE if found.value - reach > floor else Verdict.EQUIVALENT


def _confirmed(differences: Sequence[float], plan: PairedTerms, confirming: int) -> Decision:
    limit, floor = math.log1p(plan.tolerance), math.log1p(plan.floor)
    level = REGRESSED * min(1.0, UNSHARED_CONFIRMATIONS / max(1, confirming))
    for analysis in CONFIRM_ANALYSES:
        if analysis > len(differences):
            return Decision(stage=Stage.CONFIRM)
        found = location(differences[:analysis])
        if found.value > limit and found.value - found.half_width(level) > floor:
            return Decision(stage=Stage.DONE, verdict=Verdict.REGRESSED)
        if found.value + found.half_width(REFUTED) < limit:
            return Decision(stage=Stage.DONE, verdict=_told_apart(found, plan))
    return Decision(stage=Stage.DONE, verdict=Verdict.SUSPECTED)


def comparison(
    screen: Sequence[Launch],
    confirm: Sequence[Launch],
    plan: PairedTerms,
    decision: Decision,
    *,
    stopped: Note | None = None,
    others: Mapping[int, Spread] | None = None,
) -> Comparison:
    """Put a case into one row: effect, interval and what could be seen, from the launches that decided.

    A case that ran out of launches before a look decided is inconclusive; `stopped` says why there were
    no more.
    """
    launches = confirm or screen
    differences = [launch.difference for launch in launches]
    spread = None if confirm else (others or {}).get(len(screen))
    found = location(differences, spread) if len(differences) > 1 else None
    verdict = decision.verdict or Verdict.INCONCLUSIVE
    base = stats.mean([median(launch.base) for launch in launches]) if launches else None
    if found is None or base is None:
        return Comparison(
            metric="p50", verdict=verdict, evidence="paired", tolerance=plan.tolerance, note=stopped
        )
    reach = found.half_width((1 - INTERVAL_CONFIDENCE) / 2)
    detectable = reach + found.half_width(1 - POWER)
    return Comparison(
        metric="p50",
        verdict=verdict,
        evidence="paired",
        baseline=base,
        candidate=base * (1 + _ratio(found.value)),
        effect=_ratio(found.value),
        low=_ratio(found.value - reach),
        high=_ratio(found.value + reach),
        tolerance=plan.tolerance,
        smallest_detectable=_ratio(detectable),
        sessions=len(launches),
        note=stopped or _note(verdict, found, plan) or _short(base),
    )


def _ratio(difference: float) -> float:
    """A difference of logarithms as a ratio less one; bounded, since a foreign file may hold anything."""
    return math.expm1(min(difference, MAX_RATIO))


def compared(
    screen: Sequence[Launch],
    confirm: Sequence[Launch],
    plan: PairedTerms,
    *,
    confirming: int,
    others: Mapping[int, Spread] | None = None,
    stopped: Note | None = None,
    control: Note | None = None,
) -> Comparison:
    """Decide one case and put it into one row; `control` says why no time of the run counts."""
    decision = decide(
        [launch.difference for launch in screen],
        [launch.difference for launch in confirm],
        plan,
        confirming=confirming,
        others=others,
    )
    row = comparison(screen, confirm, plan, decision, stopped=stopped, others=others)
    contended = control or throttled(confirm or screen)
    return row if contended is None else msgspec.structs.replace(row, verdict=Verdict.INVALID, note=contended)


def throttled(launches: Sequence[Launch]) -> Note | None:
    """Say that heat or the power supply held the accelerator back on one side more than on the other."""
    bases = [float(gpu_state.held_back) for launch in launches for gpu_state in launch.base_gpu_states]
    candidates = [
        float(gpu_state.held_back) for launch in launches for gpu_state in launch.candidate_gpu_states
    ]
    if not (bases and candidates):
        return None
    base, candidate = stats.mean(bases), stats.mean(candidates)
    if abs(base - candidate) <= MAX_THROTTLE_DIFFERENCE:
        return None
    return Note(
        code=NoteCode.THROTTLED,
        text="the accelerator's clock was held down in "
        f"{units.percent(base, signed=False, decimals=0)} of the turns of the base and "
        f"{units.percent(candidate, signed=False, decimals=0)} of the candidate's",
        hint="see to its cooling and its power supply, and run again",
    )


def _short(seconds: float) -> Note | None:
    """Say that a call is so short that its ratio is watered down."""
    if seconds >= SHORT_CALL_SECONDS:
        return None
    text = f"one call takes {units.seconds(seconds)}, of which the clock and the loop around it are a part"
    return Note(code=NoteCode.SHORT_CALL, text=text, hint="give one call more work")


def control_moved(control: Sequence[Launch]) -> Note | None:
    """Say that identical code differed between the sides, so that the run says nothing about times."""
    if len(control) < 2:  # noqa: PLR2004 - one has no interval
        return None
    found = location([launch.difference for launch in control])
    if abs(found.value) <= max(CONTROL_MOVED, found.half_width(CONTROL_LEVEL)):
        return None
    return Note(
        code=NoteCode.CONTROL_MOVED,
        text=f"identical code differed by {units.percent(math.expm1(found.value))} between the two sides",
        hint="something on this machine treats the two processes differently: measure on another, or later",
    )


def _note(verdict: Verdict, found: Location, plan: PairedTerms) -> Note | None:
    """What more would settle a case that is not settled."""
    if verdict not in (Verdict.INCONCLUSIVE, Verdict.SUSPECTED):
        return None
    distance = abs(math.log1p(plan.tolerance) - found.value)
    needed = _launches_for(distance, found)
    wanted = f"about {needed} launches would" if needed else "no number of launches will"
    return Note(
        code=NoteCode.UNDECIDED,
        text=f"the effect is so near the tolerance, or so unsteady, that {wanted} settle it",
        hint="measure on a quieter machine, or change the tolerance",
    )


def _launches_for(distance: float, found: Location) -> int | None:
    """Launches after which half of the interval would be narrower than a distance."""
    if distance <= 0:
        return None
    spread = found.error * math.sqrt(found.degrees + 1)
    needed = math.ceil((stats.student_quantile(1 - EQUIVALENT, 30) * spread / distance) ** 2)
    return needed if needed <= 1000 else None  # noqa: PLR2004 - nobody waits for more
