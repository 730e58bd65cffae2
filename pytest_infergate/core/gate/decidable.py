"""What a machine can decide, from launches of identical code: the rules of this package applied to them.

No statistic is added here: a slowdown counts as detectable if `paired_times.decide` or
`stored_times.compare_time` reports it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.launch_spread import launch_band
from pytest_infergate.core.domain.machine_values import (
    Decidable,
    Examination,
    LaunchSpread,
    ModelLaunches,
    PairedReach,
    Slowdown,
    StoredReach,
)
from pytest_infergate.core.domain.measurement import CONTENDED, Estimate, Latency, Measurement
from pytest_infergate.core.domain.outcome import Policy, Verdict
from pytest_infergate.core.domain.records import BaselinePoint
from pytest_infergate.core.gate.baseline import SESSIONS_KEPT
from pytest_infergate.core.gate.paired_times import (
    CONFIRM_ANALYSES,
    SCREEN_ANALYSES,
    PairedTerms,
    Stage,
    decide,
)
from pytest_infergate.core.gate.speed_fit import FIT_SESSIONS
from pytest_infergate.core.gate.stored_times import compare_time

PAIRED_MINUTES: Final = (2.0, 5.0, 10.0)
"""Durations of a paired run of one case for which its reach is stated."""
STORED_SESSIONS: Final = (1, 3, SESSIONS_KEPT)
"""Numbers of recorded sessions for which the reach of a baseline is stated."""
LAUNCHES_AT_MOST: Final = SCREEN_ANALYSES[-1] + CONFIRM_ANALYSES[-1] + 1
"""Process launches of a case at most: screen, confirmation, and one of plain processes."""
LARGEST_SLOWDOWN: Final = 1.0
"""Slowdown above which the reach of a paired run is not looked for, as a logarithm."""
_STEPS: Final = 9
"""Halvings of `LARGEST_SLOWDOWN`: the reach is known to 0.2 %."""
_WORKLOADS: Final = 4
"""Reference workloads on a CPU."""


def decidable(found: Examination, draws: Sequence[Sequence[float]], *, virtual: bool) -> Decidable:
    """Return what the machine of an examination can decide.

    `draws` are rows of standard normal numbers, one row for each simulated paired run, with as many numbers
    as a run has launches of screen and confirmation. `virtual` is whether the machine has a hypervisor.
    """
    varying = _varying(found.models)
    counted = any(len(model.measurements) > 1 for model in found.models)
    paired = _pooled([model.differences for model in found.models])
    corrected = _pooled([_levels(model.measurements, corrected=True) for model in found.models])
    raw = _pooled([_levels(model.measurements, corrected=False) for model in found.models])
    return Decidable(
        counters=not varying if counted else None,
        varying=varying,
        paired_spread=paired,
        paired=() if paired is None else _paired_reach(paired, found, draws),
        stored_spread=corrected,
        raw_spread=raw,
        stored=() if corrected is None or raw is None else _stored_reach(corrected, raw, found),
        budget=math.expm1(launch_band((), virtual=virtual)),
        budget_recorded=None if raw is None else math.expm1(
            launch_band(_history(raw.value, SESSIONS_KEPT), virtual=virtual)
        ),
    )  # fmt: skip


def _varying(models: Iterable[ModelLaunches]) -> tuple[str, ...]:
    """Return the counters that differ between launches of the same model."""
    names: set[str] = set()
    for model in models:
        totals = [one.counters.totals for one in model.measurements if one.counters.counted]
        for name in set().union(*totals):
            if len({counted.get(name) for counted in totals}) > 1:
                names.add(name)
    return tuple(sorted(names))


def _levels(measurements: Iterable[Measurement], *, corrected: bool) -> list[float]:
    """Return log medians, less the mean log time of the reference workloads where they are `corrected`."""
    levels = []
    for one in measurements:
        speeds = [math.log(value) for value in one.reference_work.values() if stats.positive(value)]
        if one.latency is not None and stats.positive(one.latency.p50.value):
            speed = stats.mean(speeds) if corrected and speeds else 0.0
            levels.append(math.log(one.latency.p50.value) - speed)
    return levels


def _pooled(cases: Sequence[Sequence[float]]) -> LaunchSpread | None:
    """Pool the variance between launches over several cases; ``None`` without two launches of any."""
    known = [case for case in cases if len(case) > 1]
    degrees = sum(len(case) - 1 for case in known)
    if not degrees:
        return None
    squares = math.fsum((len(case) - 1) * stats.variance(case) for case in known)
    low, high = stats.deviation_bounds(squares, degrees)
    return LaunchSpread(value=math.sqrt(squares / degrees), low=low, high=high, degrees=degrees)


# Paired runs


def _paired_reach(
    spread: LaunchSpread, found: Examination, draws: Sequence[Sequence[float]]
) -> tuple[PairedReach, ...]:
    """Return what a paired run of one case detects in each of `PAIRED_MINUTES`, until more time is no use."""
    reaches: list[PairedReach] = []
    seconds = (found.paired_overhead or 0.0) + (found.paired_case or 0.0)
    for minutes in PAIRED_MINUTES:
        launches = min(LAUNCHES_AT_MOST, int(60 * minutes / seconds)) if seconds > 0 else LAUNCHES_AT_MOST
        if reaches and reaches[-1].launches == launches:
            break
        smallest = functools.partial(_smallest_paired, launches=launches, draws=draws)
        reach = PairedReach(minutes=minutes, launches=launches, smallest=_of_spread(spread, smallest))
        reaches.append(reach)
    return tuple(reaches)


def _of_spread(spread: LaunchSpread, smallest: Callable[[float], float | None]) -> Slowdown | None:
    """Return the smallest slowdown at a spread and at both ends of its interval."""
    value = smallest(spread.value)
    if value is None:
        return None
    low, high = smallest(spread.low), smallest(spread.high)
    return Slowdown(value=value, low=value if low is None else low, high=high)


def _smallest_paired(spread: float, *, launches: int, draws: Sequence[Sequence[float]]) -> float | None:
    """Return the slowdown that so many launches report in 9 of 10 runs; ``None`` if there is none."""
    low, high = 0.0, LARGEST_SLOWDOWN
    if not _detected(high, spread, launches, draws):
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _detected(middle, spread, launches, draws) else (middle, high)
    return math.expm1(high)


def _detected(effect: float, spread: float, launches: int, draws: Sequence[Sequence[float]]) -> bool:
    """Return whether the paired rule reports an effect, as a logarithm, in 9 of 10 runs."""
    allowed = math.floor((1 - stats.POWER) * len(draws))
    missed = 0
    for row in draws:
        missed += not _regressed([effect + spread * draw for draw in row], launches)
        if missed > allowed:
            return False
    return True


def _regressed(differences: Sequence[float], launches: int) -> bool:
    """Return whether a run of at most so many launches ends with a regression."""
    screened = SCREEN_ANALYSES[-1]
    for analysis in SCREEN_ANALYSES:
        # The launch of plain processes comes after the confirmation.
        further = min(CONFIRM_ANALYSES[-1], launches - analysis - 1)
        if further <= 0:
            return False
        screen = differences[:analysis]
        stage = decide(screen, (), PairedTerms()).stage
        if stage is Stage.CONFIRM:
            confirm = differences[screened : screened + further]
            return decide(screen, confirm, PairedTerms()).verdict is Verdict.REGRESSED
        if stage is Stage.DONE:
            return False
    return False


# Stored times


def _stored_reach(corrected: LaunchSpread, raw: LaunchSpread, found: Examination) -> tuple[StoredReach, ...]:
    """Return what a baseline with so many sessions detects, if sessions differ as these launches did."""
    # Fitted weights correct as equal ones do or not at all, whichever suits a case. These launches are too
    # few for a fit.
    fitted = LaunchSpread(
        value=min(corrected.value, raw.value),
        low=min(corrected.low, raw.low),
        high=max(corrected.high, raw.high),
        degrees=corrected.degrees,
    )
    disagreement = _disagreement(found.models)
    reaches = []
    for sessions in STORED_SESSIONS:
        smallest = functools.partial(
            _smallest_stored, sessions=sessions, contention=found.contention, disagreement=disagreement
        )
        reach = _of_spread(fitted if sessions >= FIT_SESSIONS else corrected, smallest)
        if reach is not None:
            reaches.append(StoredReach(sessions=sessions, smallest=reach))
    return tuple(reaches)


def _disagreement(models: Iterable[ModelLaunches]) -> float:
    """Return by how much the factors of the reference workloads of one launch differ, on the log scale."""
    squares, degrees = 0.0, 0
    for model in models:
        works = [one.reference_work for one in model.measurements]
        names = sorted(set.intersection(*map(set, works))) if works else []
        if len(names) < 2 or len(works) < 2:  # noqa: PLR2004 - a single one cannot disagree
            continue
        logs = [[math.log(max(work[name], stats.MIN_SECONDS)) for name in names] for work in works]
        usual = [stats.mean(column) for column in zip(*logs, strict=True)]
        for row in logs:
            squares += stats.variance([one - other for one, other in zip(row, usual, strict=True)])
        degrees += len(works) - 1
    return math.sqrt(squares / degrees) if degrees else 0.0


def _smallest_stored(
    spread: float, *, sessions: int, contention: float | None, disagreement: float
) -> float | None:
    """Return the smallest detectable slowdown of a comparison with sessions of this spread."""
    exact = Estimate(value=1.0, low=1.0, high=1.0)
    # Half of the workloads are faster and half slower, so that only their disagreement is left.
    distance = disagreement * math.sqrt((1 + 1 / sessions) * (_WORKLOADS - 1) / _WORKLOADS)
    candidate = Measurement(
        latency=Latency(count=1000, mean=1.0, p50=exact, p90=exact, p95=exact, p99=exact),
        reference_work={str(index): math.exp(distance * (-1) ** index) for index in range(_WORKLOADS)},
        contention=contention,
    )
    history = _history(spread, sessions, contention, distance)
    return compare_time(history, candidate, Policy().time_tolerance).smallest_detectable


def _history(
    spread: float, sessions: int, contention: float | None = None, disagreement: float = 0.0
) -> tuple[BaselinePoint, ...]:
    """Return sessions of a case of one second whose logarithms have exactly this standard deviation.

    `disagreement` is by how much each reference workload is faster or slower, unrelated to the case.
    """
    # Half of them above the level and half below; with an odd number, one is on it.
    half = sessions // 2
    distance = spread * math.sqrt((sessions - 1) / (2 * half)) if half else 0.0
    levels = [*[distance] * half, *[-distance] * half, *[0.0] * (sessions % 2)]
    share = contention or 0.0
    return tuple(
        BaselinePoint(
            created=f"{index:04}",
            p50=math.exp(level),
            count=1000,
            # Pairs of opposite signs, which change at another pace than the levels do.
            reference_work={
                str(name): math.exp(disagreement * (-1) ** ((index >> name // 2) + name))
                for name in range(_WORKLOADS)
            },
            contended=share > CONTENDED,
            contention=share if share > CONTENDED else None,
        )
        for index, level in enumerate(levels)
    )
