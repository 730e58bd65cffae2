"""The alternation: base and candidate call by call, the side that waits being stopped."""

from __future__ import annotations

import random
from typing import NamedTuple, Protocol

import msgspec

from pytest_infergate.core.gate.paired import GpuState, Launch

MIN_PAIRS = 20
"""Pairs of turns a launch, where there is time for them."""
MAX_PAIRS = 100
PAIRS_BETWEEN_CHECKS = 10
"""Pairs between two looks at the precision; half of them begin with the base."""
LAUNCH_PRECISION = 0.0125
"""Standard error of a launch, log scale, at which more turns would gain little: launches differ by that."""
LAUNCH_SECONDS = 4.0
"""Turns of one case in one launch end at this time, but for `FEWEST_PAIRS`."""
CAREFUL_PAIRS, CAREFUL_PRECISION, CAREFUL_SECONDS = 300, 0.006, 8.0
"""The same in confirmation, where few cases share what a launch costs besides."""
FEWEST_PAIRS = 5
SINGLE_SECONDS = 0.002
"""A call of this length is a turn of its own."""
BLOCK_SECONDS = 0.005
"""Length of a turn of shorter calls."""
MAX_CALLS_PER_BLOCK = 20_000
"""Calls a turn: a call that takes no time at all would else take for ever."""


class TimedSide(Protocol):
    """One of the two processes, stopped between its turns."""

    def timed_block(self, calls: int) -> float:
        """Run, time so many calls, stop; mean seconds a call."""

    def gpu_states(self) -> tuple[GpuState, ...]:
        """What its accelerator told after each turn since this was asked last; empty where none does."""


class SamplingPlan(NamedTuple):
    """How the turns of one case go, the same in every launch."""

    calls: int
    """Calls a turn."""
    least: int
    """Pairs of turns that are taken whatever they say; 0 where there is no time for any."""
    most: int
    precision: float = LAUNCH_PRECISION
    """Standard error between the two at which the turns end."""


def calls_per_block(seconds: float) -> int:
    """How many calls of such a length make a turn."""
    if seconds >= SINGLE_SECONDS:
        return 1
    return max(2, min(MAX_CALLS_PER_BLOCK, round(BLOCK_SECONDS / max(seconds, 1e-9))))


def sampling_plan(seconds: float, allowed: float, *, careful: bool = False) -> SamplingPlan:
    """Plan the turns of a case, given the seconds of a call and those that a launch may take."""
    calls = calls_per_block(seconds)
    pair = 2 * max(seconds * calls, BLOCK_SECONDS / 2)
    within = max(FEWEST_PAIRS, int((CAREFUL_SECONDS if careful else LAUNCH_SECONDS) / pair))
    possible = int(allowed / pair)
    return SamplingPlan(
        calls=calls,
        least=min(MIN_PAIRS, within, possible),
        most=min(CAREFUL_PAIRS if careful else MAX_PAIRS, within, possible),
        precision=CAREFUL_PRECISION if careful else LAUNCH_PRECISION,
    )


def order(pairs: int, chance: random.Random) -> list[bool]:
    """Whether the base goes first, pair by pair: as often as not, shuffled.

    A fixed order reads +23 to +40 % on identical code.
    """
    odd = chance.randrange(2)
    firsts = [index % 2 == odd for index in range(pairs)]
    chance.shuffle(firsts)
    return firsts


def alternate(base: TimedSide, candidate: TimedSide, course: SamplingPlan, chance: random.Random) -> Launch:
    """Take the turns of one launch, until they are precise enough; seconds a call, of both sides."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for side in (base, candidate):
        side.gpu_states()  # of other turns than these
    while True:
        done = len(times[True])
        for base_first in order(min(PAIRS_BETWEEN_CHECKS, course.most - done), chance):
            for is_base in (base_first, not base_first):
                times[is_base].append((base if is_base else candidate).timed_block(course.calls))
        launch = Launch(base=tuple(times[True]), candidate=tuple(times[False]))
        taken = len(launch.base)
        if taken >= course.most or (taken >= course.least and _precise(launch, course.precision)):
            return msgspec.structs.replace(
                launch, base_gpu_states=base.gpu_states(), candidate_gpu_states=candidate.gpu_states()
            )


def _precise(launch: Launch, wanted: float) -> bool:
    try:
        return launch.error <= wanted
    except ValueError:  # a time of zero, which is told where the case is decided
        return True
