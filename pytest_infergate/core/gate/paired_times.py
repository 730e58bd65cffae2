"""Paired timing: `(launches so far, terms) -> Decision`. A pure state machine over plain numbers.

A launch is one pair of fresh processes in which base and candidate alternate block by block; it yields one
log ratio of candidate over base. Decisions are made at planned interim analyses only: a screen, then a
confirmation (docs/method.md, "Paired timing").
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Verdict
from pytest_infergate.core.domain.values import Note, Struct
from pytest_infergate.core.gate.launch_location import Location, Spread, location

SCREEN_ANALYSES: Final = (3, 5, 7, 10, 15)
"""Numbers of launches after which the screen is analysed."""
# A launch that made a case suspicious is not used again: it was selected for being slow.
CONFIRM_ANALYSES: Final = (5, 7, 10, 15)
"""Numbers of further launches after which the confirmation is analysed."""
# Three launches know little of their own spread: Student's t with two degrees of freedom requires 4.4
# standard errors where 2 would be enough. Before five launches, a case is decided only with the spread of
# other cases.
MIN_LAUNCHES_UNPOOLED: Final = 5
"""Number of launches from which on a case can be decided by its own spread alone."""
# One-sided levels of each analysis, chosen so that they hold for all analyses of a stage together. No case of
# identical code was suspected or regressed among 500 measured ones, which bounds the rate at 0.6 % with 95 %
# confidence; +5 % was regressed in 16 of 16 cases, and +3 % in 29 of 32.
SUSPECT: Final = 0.0526
"""Level at which the screen sends a case to confirmation."""
EQUIVALENT: Final = 0.0242
"""Level at which the screen calls a case equivalent."""
REGRESSED: Final = 0.00151
"""Level at which the confirmation calls a case regressed, shared among the cases in confirmation."""
REFUTED: Final = 0.0188
"""Level at which the confirmation calls a case equivalent."""
MOVED: Final = 0.005
"""One-sided level at which an equivalent case is called improved or slower within its tolerance."""
UNSHARED_CONFIRMATIONS: Final = 2
"""Number of cases in confirmation up to which the level of `REGRESSED` is not shared."""
# A true slowdown of exactly the tolerance fails in 12 to 43 % of runs and is called equivalent in 6 to 9 %.
TOLERANCE: Final = 0.02
"""Default tolerance."""
# The instrument itself may show a difference of this size for identical code.
FLOOR: Final = 0.005
"""Slowdown that a confirmed regression, or a change within the tolerance, must exceed."""
# Differences that identical code may show in the control. Above that, something on the machine treats the two
# processes differently, and all times of the run are invalid.
CONTROL_MOVED: Final = 0.01
"""Difference of the control from which on the times of a run are invalid."""
CONTROL_LEVEL: Final = 0.0005
"""One-sided level at which the control must differ: 99.9 % confidence on both sides together."""
MAX_THROTTLE_DIFFERENCE: Final = 0.1
"""Largest difference between the shares of throttled blocks of the two sides."""
# The clock and the loop around a call take part of its time, and dilute the ratio of shorter calls.
SHORT_CALL_SECONDS: Final = 20e-6
"""Time of a call below which a note warns of that."""
# Paired data from elsewhere may contain any times; the exponential of a larger number overflows.
MAX_RATIO: Final = 100.0
# Six of eight models took 0.87 to 1.04 times as long in a worker as in a plain process. Two convolutions took
# a half and a quarter, because a plain process maps the memory of their activations again in every call.
MAX_REGIME_RATIO: Final = 1.25
"""Ratio of the times of a call in a worker and in a plain process up to which a slowdown holds for both."""
PLAIN_ERRORS: Final = 2.0
"""Standard errors by which a slowdown of plain processes must be above the floor if the ratio is beyond."""
INTERVAL_CONFIDENCE: Final = 0.99
"""Two-sided confidence of the interval that is shown."""
MAX_NEEDED_LAUNCHES: Final = 1000
"""Number of launches up to which a note says how many would decide a case."""


class Stage(str, enum.Enum):
    """The next step for a case."""

    SCREEN = "screen"
    CONFIRM = "confirm"
    PLAIN = "plain"
    """A launch of plain processes, before a case is called regressed."""
    DONE = "done"


class PairedTerms(Struct, frozen=True, kw_only=True):
    """The limits of one case, as ratios."""

    tolerance: float = TOLERANCE
    floor: float = FLOOR


class Decision(Struct, frozen=True, kw_only=True):
    """The state of a case after some launches."""

    stage: Stage
    verdict: Verdict | None = None
    """``None`` while undecided."""


def decide(
    screen: Sequence[float],
    confirm: Sequence[float],
    terms: PairedTerms,
    *,
    confirming: int = 1,
    others: Mapping[int, Spread] | None = None,
) -> Decision:
    """Decide one case from the log ratios of its launches.

    `confirming` is the number of cases in confirmation, `others` the spread of the other cases by interim
    analysis of the screen. A confirmation uses its own launches only. Between two analyses the stage does not
    change.
    """
    limit = math.log1p(terms.tolerance)
    for analysis in SCREEN_ANALYSES:
        if analysis > len(screen):
            return Decision(stage=Stage.SCREEN)
        effect = location(screen[:analysis], (others or {}).get(analysis))
        if analysis < MIN_LAUNCHES_UNPOOLED and math.isinf(effect.joint_error):
            continue
        if effect.value + effect.half_width(EQUIVALENT) < limit:
            return Decision(stage=Stage.DONE, verdict=_within_tolerance(effect, terms))
        if effect.value > limit and effect.value - effect.half_width(SUSPECT) > 0:
            return _confirmation(confirm, terms, confirming)
    if effect.value > limit:
        return _confirmation(confirm, terms, confirming)
    return Decision(stage=Stage.DONE, verdict=Verdict.INCONCLUSIVE)


def _confirmation(differences: Sequence[float], terms: PairedTerms, confirming: int) -> Decision:
    limit, floor = math.log1p(terms.tolerance), math.log1p(terms.floor)
    # Several cases that are confirmed at once share the probability of a false alarm.
    level = REGRESSED * min(1.0, UNSHARED_CONFIRMATIONS / max(1, confirming))
    for analysis in CONFIRM_ANALYSES:
        if analysis > len(differences):
            return Decision(stage=Stage.CONFIRM)
        effect = location(differences[:analysis])
        if effect.value > limit and effect.value - effect.half_width(level) > floor:
            return Decision(stage=Stage.DONE, verdict=Verdict.REGRESSED)
        if effect.value + effect.half_width(REFUTED) < limit:
            return Decision(stage=Stage.DONE, verdict=_within_tolerance(effect, terms))
    return Decision(stage=Stage.DONE, verdict=Verdict.SUSPECTED)


def _within_tolerance(effect: Location, terms: PairedTerms) -> Verdict:
    """Return whether a case within its tolerance is faster, slower or neither."""
    reach = effect.half_width(MOVED)
    floor = math.log1p(terms.floor)
    if effect.value + reach < -floor:
        return Verdict.IMPROVED
    return Verdict.SLOWER_WITHIN_TOLERANCE if effect.value - reach > floor else Verdict.EQUIVALENT


def launches_to_next_analysis(stage: Stage, screen: int, confirm: int) -> int:
    """Return the number of launches that a case needs before the next analysis; 0 if it is done."""
    if stage is Stage.DONE:
        return 0
    if stage is Stage.PLAIN:
        return 1
    analyses, made = (SCREEN_ANALYSES, screen) if stage is Stage.SCREEN else (CONFIRM_ANALYSES, confirm)
    return next((analysis - made for analysis in analyses if analysis > made), 0)


# One row of a report


def compared(
    screen: Sequence[Launch],
    confirm: Sequence[Launch],
    terms: PairedTerms,
    *,
    confirming: int,
    others: Mapping[int, Spread] | None = None,
    stopped: Note | None = None,
    control: Note | None = None,
) -> Comparison:
    """Decide one case and return its comparison.

    `stopped` is the reason why there were no more launches, which leaves the case undecided; `control` is the
    reason why no time of the run is valid.
    """
    decision = Decision(stage=Stage.CONFIRM if confirm else Stage.SCREEN)
    if stopped is None:
        decision = decide(
            [launch.difference for launch in screen],
            [launch.difference for launch in confirm],
            terms,
            confirming=confirming,
            others=others,
        )
    row = comparison(screen, confirm, terms, decision, stopped=stopped, others=others)
    reason = control or throttled(confirm or screen)
    return row if reason is None else msgspec.structs.replace(row, verdict=Verdict.INVALID, note=reason)


def comparison(
    screen: Sequence[Launch],
    confirm: Sequence[Launch],
    terms: PairedTerms,
    decision: Decision,
    *,
    stopped: Note | None = None,
    others: Mapping[int, Spread] | None = None,
) -> Comparison:
    """Return effect, interval and smallest detectable effect of a case, from the launches that decided it.

    A case without enough launches for a decision is inconclusive; `stopped` is the reason.
    """
    # One launch has no interval: a confirmation that ended after its first one shows the screen.
    confirmed = len(confirm) > 1 or not screen
    launches = confirm if confirmed else screen
    differences = [launch.difference for launch in launches]
    spread = None if confirmed else (others or {}).get(len(screen))
    effect = location(differences, spread) if len(differences) > 1 else None
    verdict = decision.verdict or Verdict.INCONCLUSIVE
    base = stats.mean([median(launch.base) for launch in launches]) if launches else None
    if effect is None or base is None:
        return Comparison(
            metric="p50", verdict=verdict, evidence="paired", tolerance=terms.tolerance, note=stopped
        )
    reach = effect.half_width((1 - INTERVAL_CONFIDENCE) / 2)
    detectable = reach + effect.half_width(1 - stats.POWER)
    note = stopped
    if note is None and verdict in (Verdict.INCONCLUSIVE, Verdict.SUSPECTED):
        note = _undecided_note(effect, terms)
    elif note is None and base < SHORT_CALL_SECONDS:
        text = f"one call takes {units.seconds(base)}, a part of which is the clock and the loop around it"
        note = Note(code=NoteCode.SHORT_CALL, text=text, hint="give one call more work")
    return Comparison(
        metric="p50",
        verdict=verdict,
        evidence="paired",
        baseline=base,
        candidate=base * (1 + _ratio(effect.value)),
        effect=_ratio(effect.value),
        low=_ratio(effect.value - reach),
        high=_ratio(effect.value + reach),
        tolerance=terms.tolerance,
        smallest_detectable=_ratio(detectable),
        sessions=len(launches),
        note=note,
    )


def _ratio(difference: float) -> float:
    """Return a difference of logarithms as a relative change."""
    return math.expm1(min(difference, MAX_RATIO))


def _undecided_note(effect: Location, terms: PairedTerms) -> Note:
    """Return a note on the number of launches that would decide a case."""
    distance = abs(math.log1p(terms.tolerance) - effect.value)
    needed = None
    if distance > 0:
        # The number after which half of the interval would be narrower than the distance to the tolerance.
        spread = effect.error * math.sqrt(effect.degrees + 1)
        needed = math.ceil((stats.student_quantile(1 - EQUIVALENT, 30) * spread / distance) ** 2)
    wanted = "no number of launches"
    if needed is not None and 0 < needed <= MAX_NEEDED_LAUNCHES:
        wanted = f"about {units.plural(needed, 'launch')}"
    return Note(
        code=NoteCode.UNDECIDED,
        text=f"the effect is so close to the tolerance, or so unsteady, that {wanted} would decide it",
        hint="measure on a quieter machine, or change the tolerance",
    )


def checked_in_plain(
    row: Comparison, confirm: Sequence[Launch], plain: Launch | None, terms: PairedTerms
) -> Comparison:
    """Return a regression as suspected if plain processes run the case in another way, and not slower.

    `plain` is a launch of processes without the settings of paired workers. Raises `ValueError` for times
    that are not above 0.
    """
    if plain is None or row.verdict is not Verdict.REGRESSED:
        return row
    in_workers = stats.mean([median(launch.base) for launch in confirm])
    in_plain = median(plain.base)
    # Blocks that are too few for an error do not contradict anything.
    slower = math.isinf(plain.error) or plain.difference - PLAIN_ERRORS * plain.error > math.log1p(
        terms.floor
    )
    if slower or 1 / MAX_REGIME_RATIO <= in_workers / in_plain <= MAX_REGIME_RATIO:
        return row
    note = Note(
        code=NoteCode.REGIMES_DIFFER,
        text=f"a call of the base takes {units.seconds(in_workers)} in a paired worker but "
        f"{units.seconds(in_plain)} in a plain process, where the candidate differed by "
        f"{units.percent(math.expm1(plain.difference))}",
        hint="compare on one thread with --infer-threads=1, or set the thread variables of the service",
    )
    return msgspec.structs.replace(row, verdict=Verdict.SUSPECTED, note=note)


def throttled(launches: Sequence[Launch]) -> Note | None:
    """Return a note if heat or the power supply throttled the accelerator more on one side."""
    base = [float(state.throttled_externally) for launch in launches for state in launch.base_gpu_states]
    candidate = [
        float(state.throttled_externally) for launch in launches for state in launch.candidate_gpu_states
    ]
    if not (base and candidate):
        return None
    if abs(stats.mean(base) - stats.mean(candidate)) <= MAX_THROTTLE_DIFFERENCE:
        return None
    return Note(
        code=NoteCode.THROTTLED,
        text="the clock of the accelerator was throttled in "
        f"{units.percent(stats.mean(base), signed=False, decimals=0)} of the blocks of the base and in "
        f"{units.percent(stats.mean(candidate), signed=False, decimals=0)} of those of the candidate",
        hint="check its cooling and power supply, and run again",
    )


def control_moved(control: Sequence[Launch]) -> Note | None:
    """Return a note if identical code differed between the sides, so that no time of the run is valid."""
    if len(control) < 2:  # noqa: PLR2004 - a single launch has no interval
        return None
    effect = location([launch.difference for launch in control])
    if abs(effect.value) <= max(CONTROL_MOVED, effect.half_width(CONTROL_LEVEL)):
        return None
    return Note(
        code=NoteCode.CONTROL_MOVED,
        text=f"identical code differed by {units.percent(math.expm1(effect.value))} between the two sides",
        hint="this machine treats the two processes differently: measure on another one, or later",
    )
