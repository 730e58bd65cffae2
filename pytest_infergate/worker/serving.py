"""What a worker does inside of `infer`: one command after another, until the test may go on."""

from __future__ import annotations

import functools
import gc
import math
import time
from collections.abc import Callable, Iterator
from statistics import mean, median
from typing import Any, Final

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.launch_times import GpuState
from pytest_infergate.core.domain.measurement import Counters, Measurement, Memory, WarmUp
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import Device, InstrumentError
from pytest_infergate.instruments.timed_calls import RepeatedCall, time_calls
from pytest_infergate.measure import memory, timing_guard
from pytest_infergate.measure.case import (
    MeasuredSubject,
    Subject,
    count_case,
)
from pytest_infergate.measure.counting import CountedCall, case_memory
from pytest_infergate.measure.first_call import first_call
from pytest_infergate.measure.guarded_device import GuardedDevice
from pytest_infergate.measure.item_streams import complete_call
from pytest_infergate.measure.kept_tensors import KeptTensors
from pytest_infergate.measure.seed import SameNumbers
from pytest_infergate.measure.time_limit import TimeLimit
from pytest_infergate.measure.torch_compile import Compilation
from pytest_infergate.paired.channel import WorkerChannel
from pytest_infergate.paired.protocol import (
    BlockTimed,
    CallConcurrently,
    CalledConcurrently,
    CaseInvalid,
    Command,
    CompareOutput,
    CountWork,
    Finish,
    KeepOutput,
    MessageError,
    OutputKept,
    Ready,
    RunWarmUp,
    SideMeasured,
    TimeBlock,
    WarmedUp,
    WorkCounted,
)
from pytest_infergate.worker import parity

MAX_WARM_UP_CALLS_SERVED: Final = 10_000
KEPT_CALLS: Final = 100_000
"""Call times that are kept for the test's own figures."""
GPU_STATE_SECONDS: Final = 0.1
"""Shortest time between two queries of an accelerator's driver, each of which takes a part of a block."""
STATE_SECONDS: Final = 1.0
"""Limit of the further calls that are observed if each changes the state of the model."""
# The first call comes before it, and a slow start that remains falls on both sides and into what is trimmed.
WARM_UP_SECONDS: Final = 0.03


class Serving:
    """Measures cases as the run commands. The run suspends the process between two commands."""

    def __init__(self, channel: WorkerChannel, renamed: tuple[str, str] | None = None) -> None:
        self.channel = channel
        self._renamed = renamed
        """Top folder of the base and of the candidate, if they differ."""
        self.first_returned: Callable[[], None] = lambda: None
        """Called after the first call of a case."""

    def serve(self, subject: Subject, device: GuardedDevice) -> MeasuredSubject:
        """Call once, then follow commands until the test may go on.

        The measurement has the notes of the device since the last case. Exceptions of the model pass through;
        the report of the test carries them to the run.
        """
        self._numbers = SameNumbers()
        call = RepeatedCall(subject.call, subject.arguments, self._numbers)
        with call.counted_in_errors():
            return self._serve(subject, call, device)

    def _serve(self, subject: Subject, call: RepeatedCall, device: GuardedDevice) -> MeasuredSubject:
        compilation = Compilation()
        # The outputs that are compared are those of this call, from the same seed on both sides.
        output, _, cold_start, work, invalid = first_call(subject, call, device)
        output = subject.structured(output)
        self.first_returned()
        if (invalid := invalid or timing_guard.tracer_note() or device.unwaited) is not None:
            self.channel.send(CaseInvalid(invalid))
            return MeasuredSubject(output, None, invalid=invalid)
        again = functools.partial(output_of_another_call, subject, call, device)
        self.channel.send(Ready())
        blocks = TimedBlocks(call, device)
        exact, changed = None, None
        # A collection in the middle of a block would be timed with it.
        gc.collect()
        gc.freeze()
        gc.disable()
        kept = KeptTensors()
        try:
            for command in self._commands():
                match command:
                    case CountWork():
                        exact = count_case(call, subject, device, compilation)
                        limit = TimeLimit(device.clock, STATE_SECONDS)
                        exact, changed = work.check(exact, call, compilation, limit)
                        kept = KeptTensors()  # again, because the output of that call is kept
                        self.channel.send(WorkCounted())
                    case KeepOutput():
                        parity.keep(output, command.path)
                        self.channel.send(OutputKept())
                    case CompareOutput(path, tolerance, sides):
                        compared = parity.compare(output, path, tolerance, again, self._renamed, sides=sides)
                        self.channel.send(parity.beside_arguments(compared, call, subject.arguments))
                    case CallConcurrently():
                        self.channel.send(blocks.call_concurrently(command.seconds, subject))
                    case _:
                        self.channel.send(blocks.execute(command))
        finally:
            gc.enable()  # frozen objects stay frozen: collections of the next case have less to look through
        notes = (*(() if exact is None else exact.notes), *device.notes(), self._numbers.finish())
        measurement = _measurement(blocks, exact, subject, cold_start, tuple(filter(None, notes)))
        if exact is not None:
            changed = changed or kept.note(blocks.warmed + len(blocks.times))
            changed = changed or work.check(exact, call, compilation, TimeLimit(device.clock, 0.0))[1]
        if changed is not None:
            self.channel.send(CaseInvalid(changed))
        self.channel.send(SideMeasured(measurement))
        return MeasuredSubject(output, measurement, tuple(blocks.times))

    def control(self, device: Device) -> None:
        """Time work that is the same on both sides, in place of a model; none if the device has none."""

        def call() -> None:
            for reference in reference_work:
                reference()

        try:
            reference_work = list(device.reference_work().values())
            if not reference_work:
                return
            blocks = TimedBlocks(call, device)
            time_calls(call, device, 1)  # in place of the first call of a model
            self.channel.send(Ready())
            for command in self._commands():
                self.channel.send(blocks.execute(command))
        except InstrumentError:
            return  # a note of the device has the reason
        self.channel.send(SideMeasured(None))

    def _commands(self) -> Iterator[Command]:
        while not isinstance(command := self.channel.receive(), Finish):
            yield command


def output_of_another_call(subject: Subject, call: RepeatedCall, device: Device) -> Any:
    """Call again, and return the result even if timed calls consume it."""
    timed, call.call = call.call, subject.call
    try:
        return subject.structured(complete_call(call, device)[0])
    finally:
        call.call = timed


def _measurement(
    blocks: TimedBlocks,
    exact: CountedCall | None,
    subject: Subject,
    cold_start: float,
    notes: tuple[Note, ...],
) -> Measurement | None:
    """The figures of one side; ``None`` if nothing was timed or counted.

    Its times only show how long a call takes: blocks are compared in the run.
    """
    if not blocks.times and exact is None:
        return None
    latency = latency_of(tuple(blocks.times)) if blocks.times else None
    throughput = warmed = None
    if latency is not None:
        throughput = subject.batch_size / latency.mean if latency.mean > 0 else 0.0
        warmed = WarmUp(calls=blocks.warmed, seconds=blocks.warm_seconds, steady=True)
    return Measurement(
        latency=latency,
        throughput=throughput,
        cold_start=None if latency is None else cold_start,
        warm_up=warmed,
        memory=Memory() if exact is None else case_memory(exact, memory.host_peak()),
        counters=Counters() if exact is None else exact.counters,
        threads=subject.threads,
        notes=notes,
    )


class TimedBlocks:
    """Warm-up and blocks of one call."""

    def __init__(self, call: Callable[[], object], device: Device) -> None:
        self._call = call
        self._device = device
        self.times: list[float] = []
        """Seconds of each call, up to `KEPT_CALLS`."""
        self.warmed = 0
        """Calls of the warm-up."""
        self.warm_seconds = 0.0
        self._meter = device.meter() if device.asynchronous else None
        self._queried = -math.inf
        self._gpu_state: GpuState | None = None

    def execute(self, command: Command) -> WarmedUp | BlockTimed:
        """Execute one command. Raises `MessageError` for one that does not time anything."""
        match command:
            case RunWarmUp():
                return self.warm_up(command.calls)
            case TimeBlock():
                return self.time_block(command.calls)
            case _:
                raise MessageError(f"{type(command).__name__} cannot be executed inside of infer")

    def call_concurrently(self, seconds: float, subject: Subject) -> CalledConcurrently:
        """Call back to back for some seconds, while other processes do the same."""
        begin = time.perf_counter()
        times: list[float] = []
        while (elapsed := time.perf_counter() - begin) < seconds or not times:
            # Twice as many calls each time, so that the clock is read rarely.
            times += time_calls(self._call, self._device, max(1, min(len(times), MAX_WARM_UP_CALLS_SERVED)))
        latency = latency_of(tuple(times))
        self.times += times[:KEPT_CALLS]
        return CalledConcurrently(
            calls=len(times),
            seconds=elapsed,
            mean=latency.mean,
            percentiles=latency.percentiles,
            batch_size=subject.batch_size,
            threads=subject.threads,
        )

    def warm_up(self, calls: int | None) -> WarmedUp:
        """Make so many calls, or as many as `WARM_UP_SECONDS` have room for."""
        times = time_calls(self._call, self._device, calls or 1)
        while calls is None and sum(times) < WARM_UP_SECONDS and len(times) < MAX_WARM_UP_CALLS_SERVED:
            times += time_calls(self._call, self._device, len(times))
        self.warmed += len(times)
        self.warm_seconds += sum(times)
        return WarmedUp(len(times), median(times[len(times) // 2 :]))

    def time_block(self, calls: int) -> BlockTimed:
        """Time so many calls."""
        # The first call finds the caches of the other side; it is dropped if there are others, or if the
        # accelerator has just been handed over.
        dropped = 1 if calls > 1 or self._device.asynchronous else 0
        times = time_calls(self._call, self._device, calls + dropped)[dropped:]
        if len(self.times) < KEPT_CALLS:
            self.times += times
        # After the block, not during it: a query takes time of its own.
        if self._meter is not None and time.perf_counter() - self._queried >= GPU_STATE_SECONDS:
            self._queried = time.perf_counter()
            state = self._meter.state()
            self._gpu_state = (
                None if state is None else GpuState(clock_hz=state.clock_hz, throttled=state.throttled)
            )
        return BlockTimed(mean(times), self._gpu_state)
