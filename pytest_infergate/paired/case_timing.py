"""Timing one case in processes that are inside of `infer`: warm-up, sampling plan, interleaved blocks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import paired_times
from pytest_infergate.core.gate.paired_times import Stage
from pytest_infergate.paired.alternation import alternate, sampling_plan
from pytest_infergate.paired.protocol import (
    CompareOutput,
    CountWork,
    Done,
    Finish,
    KeepOutput,
    OutputCompared,
    OutputKept,
    Ready,
    RunControl,
    RunWarmUp,
    SideMeasured,
    WarmedUp,
    WorkCounted,
)
from pytest_infergate.paired.trial import Trial
from pytest_infergate.paired.worker_handle import (
    PairedWorker,
    Side,
    UnexpectedEventError,
    ask,
    receive_answer,
)

CONTROL_SECONDS: Final = 6.0
"""Seconds that the interleaved blocks of the control may take in a launch."""
NO_BASE_SECONDS: Final = 3.0
"""Seconds of blocks of a candidate without a base, which only show how long a call takes."""


class CaseTimer:
    """Times cases, alike in every launch, and adds up the seconds that each of them takes.

    With `counters_only`, a case is decided by its counters and outputs in its first launch, without blocks.
    """

    def __init__(
        self,
        exchange: Path,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
        *,
        counters_only: bool = False,
    ) -> None:
        self.rng = rng
        self.clock = clock
        self.counters_only = counters_only
        self._output = exchange / "output"
        """The output of the base, while that of the candidate is compared with it."""

    def control(self, base: PairedWorker, other: PairedWorker) -> Launch | None:
        """Time work that is the same in both processes: a difference is due to the measurement itself.

        ``None`` if a process has no such work, or fails at it: it is done with the control at once.
        """
        workers = self.in_random_order((base, other))
        for worker in workers:
            worker.send(RunControl())
        inside = [worker for worker in workers if isinstance(worker.receive(), Ready)]
        for worker in inside:
            worker.suspend()
        launch = None
        try:
            if inside == workers:
                # Equal numbers of calls leave both sides equally warm.
                first = _warmed_up(workers[0], None)
                _warmed_up(workers[1], first.calls)
                launch = alternate(base, other, sampling_plan(first.seconds, CONTROL_SECONDS), self.rng)
        except UnexpectedEventError as error:
            error.worker.resume()
            inside.remove(error.worker)
        for worker in inside:
            worker.resume()
            ask(worker, Finish(), SideMeasured)
            receive_answer(worker, Done)
        return launch

    def both_sides(self, base: PairedWorker, candidate: PairedWorker, trial: Trial) -> None:
        """Time interleaved blocks of both sides; in the first launch, count and compare outputs before."""
        if trial.launches == 0:
            # Counts have no noise, and both sides can count at the same time: once is enough.
            for worker in (base, candidate):
                worker.send(CountWork())
            for worker in (base, candidate):
                receive_answer(worker, WorkCounted)
            self._compare_outputs("base", base, trial)
            self._compare_outputs("candidate", candidate, trial)
        if self.counters_only:
            trial.stage = Stage.DONE
            return
        first, second = self.in_random_order((base, candidate))
        # From here on one process runs at a time.
        for worker in (base, candidate):
            worker.suspend()
        warm = _warmed_up(first, trial.warm_up_calls)
        if _fits_time_limit(trial, warm):
            _warmed_up(second, warm.calls)
            trial.add(alternate(base, candidate, trial.sampling_plans[trial.stage], self.rng))

    def one_side(self, side: Side, worker: PairedWorker, trial: Trial) -> tuple[float, ...]:
        """Time blocks of a side whose counterpart runs before or after it; empty if there is no time."""
        begin = self.clock()
        if trial.launches == 0:  # true for both sides of the first launch
            ask(worker, CountWork(), WorkCounted)
            self._compare_outputs(side, worker, trial)
        if self.counters_only:
            trial.stage = trial.stage if side == "base" else Stage.DONE
            return ()
        warm = _warmed_up(worker, trial.warm_up_calls)
        times: tuple[float, ...] = ()
        if _fits_time_limit(trial, warm):
            plan = trial.sampling_plans[trial.stage]
            times = tuple(worker.timed_block(plan.calls).seconds for _ in range(plan.min_pairs))
        trial.seconds += self.clock() - begin
        return times

    def in_random_order(self, workers: Sequence[PairedWorker]) -> list[PairedWorker]:
        """Shuffle processes."""
        # Whichever goes first finds other memory, caches and cores: a fixed order would favour one side.
        return self.rng.sample(list(workers), len(workers))

    def _compare_outputs(self, side: Side, worker: PairedWorker, trial: Trial) -> None:
        """Keep the output of the base, or compare that of the candidate with it."""
        if not trial.spec.compare_outputs or trial.no_base is not None:
            return
        if side == "base":
            ask(worker, KeepOutput(str(self._output)), OutputKept)
        else:
            command = CompareOutput(str(self._output), trial.spec.output_tolerance, trial.spec.sides)
            compared = ask(worker, command, OutputCompared)
            trial.output_difference, trial.uncompared_outputs = compared.difference, compared.uncompared


def time_alone(worker: PairedWorker, *, counters_only: bool = False) -> None:
    """Measure a side that has nothing to compare with, for its own figures."""
    ask(worker, CountWork(), WorkCounted)
    if counters_only:
        return
    plan = sampling_plan(_warmed_up(worker, None).seconds, NO_BASE_SECONDS)
    for _ in range(max(1, plan.min_pairs)):
        worker.timed_block(plan.calls)


def _warmed_up(worker: PairedWorker, calls: int | None) -> WarmedUp:
    """Warm a process up and leave it suspended."""
    worker.resume()
    warm = ask(worker, RunWarmUp(calls), WarmedUp)
    worker.suspend()
    return warm


def _fits_time_limit(trial: Trial, warm: WarmedUp) -> bool:
    """Fix the sampling plans of a case in its first launch; whether there is time for a pair of blocks."""
    if trial.warm_up_calls is not None:
        return True
    trial.warm_up_calls = warm.calls
    # Without other cases to learn from, nothing is decided in fewer launches than these.
    launches = paired_times.MIN_LAUNCHES_UNPOOLED
    warm_up_seconds = 2 * warm.calls * warm.seconds
    allowed = trial.spec.max_seconds / launches - warm_up_seconds
    confirming = sampling_plan(warm.seconds, allowed, confirming=True)
    trial.sampling_plans = {
        Stage.SCREEN: sampling_plan(warm.seconds, allowed),
        Stage.CONFIRM: confirming,
        Stage.PLAIN: confirming,
    }
    if trial.sampling_plans[Stage.SCREEN].min_pairs > 0:
        return True
    needed = launches * (warm_up_seconds + 2 * warm.seconds)
    trial.stopped = Note(
        code=NoteCode.TIME_LIMIT,
        text=f"one call takes {units.seconds(warm.seconds)}: {launches} launches take "
        f"{units.duration(needed)}",
        hint=f"allow that with --infer-max-time={units.time_option(needed)}",
        max_time=needed,
    )
    return False
