"""Interleaved blocks: base and candidate are timed in turn, while the other one is stopped.

Sources of the figures: docs/method.md, "Paired timing".
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple, Protocol

from pytest_infergate.core.domain.launch_times import GpuState, Launch
from pytest_infergate.paired.protocol import BlockTimed

MIN_PAIRS: Final = 20
"""Pairs of blocks in a launch, if there is time for them."""
MAX_PAIRS: Final = 100
PAIRS_BETWEEN_CHECKS: Final = 10
"""Pairs between two checks of the precision; the base goes first in half of them."""
# Launches of identical code differ by 1 to 2 %: below that, more pairs of one launch gain little.
LAUNCH_PRECISION: Final = 0.0125
"""Standard error of a launch, on the log scale, at which it ends."""
LAUNCH_SECONDS: Final = 4.0
"""Seconds after which a launch of long calls ends, except for `MIN_PAIRS_OF_LONG_CALLS`."""
# Few cases share the start-up of a launch that confirms, and most of what these launches differ by is the
# noise of their own blocks: 1.1 to 1.8 %, with 0.6 to 0.8 % between launches, in four runs of twenty cases.
CONFIRM_MAX_PAIRS: Final = 300
CONFIRM_PRECISION: Final = 0.006
CONFIRM_SECONDS: Final = 8.0
MIN_PAIRS_OF_LONG_CALLS: Final = 5
# A block must be long against the cost of stopping and resuming a process, and short against the time for
# which a shared machine keeps its speed.
SINGLE_CALL_SECONDS: Final = 0.002
"""A call of this length is a block of its own."""
BLOCK_SECONDS: Final = 0.005
"""Length of a block of shorter calls."""
MAX_CALLS_PER_BLOCK: Final = 20_000
"""A limit for calls whose time the clock cannot resolve."""


class TimedSide(Protocol):
    """A process that is stopped between its blocks."""

    def timed_block(self, calls: int) -> BlockTimed:
        """Resume it, time so many calls, stop it."""


class SamplingPlan(NamedTuple):
    """The interleaved blocks of a case, planned once so that all its launches are alike."""

    calls: int
    """In a block. Blocks of one length in every launch keep the launches comparable."""
    min_pairs: int
    """Pairs of blocks that are taken in any case; 0 if there is no time for one."""
    max_pairs: int
    precision: float = LAUNCH_PRECISION
    """Standard error, on the log scale, at which a launch ends before `max_pairs`."""


def calls_per_block(seconds: float) -> int:
    """The number of calls in a block, given the seconds of a call."""
    if seconds >= SINGLE_CALL_SECONDS:
        return 1
    return max(2, min(MAX_CALLS_PER_BLOCK, round(BLOCK_SECONDS / max(seconds, 1e-9))))


def sampling_plan(seconds: float, allowed: float, *, confirming: bool = False) -> SamplingPlan:
    """Plan the blocks of a case, given the seconds of a call and the seconds that a launch may take."""
    calls = calls_per_block(seconds)
    # A call that is shorter than the clock's resolution would otherwise have room for any number of pairs.
    pair_seconds = 2 * max(seconds * calls, BLOCK_SECONDS / 2)
    limit = CONFIRM_SECONDS if confirming else LAUNCH_SECONDS
    typical = max(MIN_PAIRS_OF_LONG_CALLS, int(limit / pair_seconds))
    possible = int(allowed / pair_seconds)
    return SamplingPlan(
        calls=calls,
        min_pairs=min(MIN_PAIRS, typical, possible),
        max_pairs=min(CONFIRM_MAX_PAIRS if confirming else MAX_PAIRS, typical, possible),
        precision=CONFIRM_PRECISION if confirming else LAUNCH_PRECISION,
    )


def shuffled_order(pairs: int, rng: random.Random) -> list[bool]:
    """For each pair of blocks, whether the base goes first: in half of them, shuffled."""
    # A fixed order measured +23 to +40 % on identical code.
    odd = rng.randrange(2)
    firsts = [index % 2 == odd for index in range(pairs)]
    rng.shuffle(firsts)
    return firsts


def alternate(base: TimedSide, candidate: TimedSide, plan: SamplingPlan, rng: random.Random) -> Launch:
    """Time interleaved blocks of both sides until they are precise enough, or as many as the plan allows."""
    times: dict[bool, list[float]] = {True: [], False: []}
    gpu_states: dict[bool, list[GpuState]] = {True: [], False: []}
    while True:
        done = len(times[True])
        for base_first in shuffled_order(min(PAIRS_BETWEEN_CHECKS, plan.max_pairs - done), rng):
            for is_base in (base_first, not base_first):
                block = (base if is_base else candidate).timed_block(plan.calls)
                times[is_base].append(block.seconds)
                if block.gpu_state is not None:
                    gpu_states[is_base].append(block.gpu_state)
        launch = Launch(
            base=tuple(times[True]),
            candidate=tuple(times[False]),
            base_gpu_states=tuple(gpu_states[True]),
            candidate_gpu_states=tuple(gpu_states[False]),
        )
        try:
            precise = launch.error <= plan.precision
        except ValueError:  # a time of zero, which makes the case invalid after this launch
            precise = True
        pairs = len(launch.base)
        if pairs >= plan.max_pairs or (pairs >= plan.min_pairs and precise):
            return launch
