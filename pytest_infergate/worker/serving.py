"""What a worker does inside `infer`: obey, one command after another, until it is told to go on."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from statistics import mean, median
from typing import Any

import msgspec

from pytest_infergate.core.domain.measurement import Counters, Measurement, Memory, WarmUp
from pytest_infergate.core.gate.paired import GpuState
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.sampler import time_calls
from pytest_infergate.measure import guard, memory
from pytest_infergate.measure.case import (
    Run,
    Subject,
    consumed,
    count_exactly,
    first_call,
    latency_of,
    memory_of,
)
from pytest_infergate.measure.compiler import Compilation
from pytest_infergate.paired.channel import Channel
from pytest_infergate.worker import parity

MAX_WARM_UP_CALLS_SERVED = 10_000
"""Calls of a warm-up."""
KEPT_CALLS = 100_000
"""Call times kept for the test's own figures."""
GPU_STATE_SECONDS = 0.1
"""Least time between two questions to an accelerator's driver, which take a part of a turn each."""
WARM_UP_SECONDS = 0.03
"""Least warm-up: the first call came before it, and the turns resist a slow start."""


class Serving:
    """The worker's end: the process is stopped from outside between two turns."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def serve(self, subject: Subject, device: Device) -> Run:
        """Call once, then obey until told to go on; what was timed makes the figures of this side.

        Exceptions of the model pass through, after the run was told by the report of the test.
        """
        compilation = Compilation()
        output, stream, cold_start = first_call(subject.call, device)
        invalid = guard.unfinished(output) or guard.active_tracer()
        if invalid is not None:
            self.channel.send({"is": "invalid", "note": msgspec.to_builtins(invalid)})
            return Run(output, None, invalid=invalid)
        call = consumed(subject.call) if stream else subject.call
        self.channel.send({"is": "ready", "seconds": cold_start})
        blocks = TimedBlocks(call, device)
        exact = None
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for message in self._commands():
                match message["do"]:
                    case "count":
                        exact = count_exactly(call, subject, device, compilation)
                        answer: dict[str, Any] = {"is": "counted"}
                    case "keep":
                        parity.keep(output, message["path"])
                        answer = {"is": "kept"}
                    case "compare":
                        difference = parity.output_difference(output, message["path"], message["tolerance"])
                        answer = {"is": "compared", "difference": difference}
                    case "together":
                        size = {"batch_size": subject.batch_size, "threads": subject.threads}
                        answer = {**blocks.obey(message), **size}
                    case _:
                        answer = blocks.obey(message)
                self.channel.send(answer)
        finally:
            gc.enable()  # what is frozen stays so: the next case has that much less to look through
        measurement = None
        if blocks.times:
            latency = latency_of(tuple(blocks.times))
            measurement = Measurement(
                latency=latency,
                throughput=subject.batch_size / latency.mean if latency.mean > 0 else 0.0,
                cold_start=cold_start,
                warm_up=WarmUp(calls=blocks.warmed, seconds=blocks.warm_seconds, steady=True),
                memory=Memory() if exact is None else memory_of(subject, exact, memory.host_peak()),
                counters=Counters() if exact is None else exact.counters,
                threads=subject.threads,
                notes=() if exact is None else exact.notes,
            )
        self.channel.send({"is": "finished", "measurement": msgspec.to_builtins(measurement)})
        return Run(output, measurement, tuple(blocks.times))

    def control(self, device: Device) -> None:
        """Take turns with work that is the same on both sides."""
        reference_work = list(device.reference_work().values())

        def call() -> None:
            for reference in reference_work:
                reference()

        blocks = TimedBlocks(call, device)
        self.channel.send({"is": "ready", "seconds": time_calls(call, device, 1)[0]})
        for message in self._commands():
            self.channel.send(blocks.obey(message))
        self.channel.send({"is": "finished", "measurement": None})

    def _commands(self) -> Iterator[dict[str, Any]]:
        """What is asked, until the run says to go on."""
        while (message := self.channel.receive())["do"] != "finish":
            yield message


class TimedBlocks:
    """Warm-up and turns of one call, as they are asked for."""

    def __init__(self, call: Callable[[], object], device: Device) -> None:
        self._call = call
        self._device = device
        self.times: list[float] = []
        self.warmed = 0
        self.warm_seconds = 0.0
        self._meter = device.meter() if device.asynchronous else None
        self._asked = -math.inf
        self._told: GpuState | None = None

    def obey(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do one command."""
        match message["do"]:
            case "warm":
                return self._warm(message["calls"])
            case "together":
                return self._together(message["seconds"])
            case _:
                return self._timed_block(message["calls"])

    def _warm(self, calls: int | None) -> dict[str, Any]:
        """So many calls, or calls for `WARM_UP_SECONDS`."""
        times = time_calls(self._call, self._device, calls or 1)
        while calls is None and sum(times) < WARM_UP_SECONDS and len(times) < MAX_WARM_UP_CALLS_SERVED:
            times += time_calls(self._call, self._device, len(times))
        self.warmed += len(times)
        self.warm_seconds += sum(times)
        return {"is": "warm", "calls": len(times), "seconds": median(times[len(times) // 2 :])}

    def _together(self, seconds: float) -> dict[str, Any]:
        """Call back to back while others do the same."""
        begin = time.perf_counter()
        times: list[float] = []
        while (elapsed := time.perf_counter() - begin) < seconds or not times:
            times += time_calls(self._call, self._device, max(1, min(len(times), MAX_WARM_UP_CALLS_SERVED)))
        latency = latency_of(tuple(times))
        self.times += times[:KEPT_CALLS]
        return {
            "is": "together",
            "calls": len(times),
            "seconds": elapsed,
            "mean": latency.mean,
            "percentiles": latency.percentiles,
        }

    def _timed_block(self, calls: int) -> dict[str, Any]:
        """The first call finds the caches of the other side, and is dropped where there are several."""
        dropped = 1 if calls > 1 or self._device.asynchronous else 0
        times = time_calls(self._call, self._device, calls + dropped)[dropped:]
        if len(self.times) < KEPT_CALLS:
            self.times += times
        gpu_state = self._gpu_state()
        told = {} if gpu_state is None else {"board": msgspec.to_builtins(gpu_state)}
        return {"is": "turn", "seconds": mean(times), **told}

    def _gpu_state(self) -> GpuState | None:
        """What the accelerator is allowed to do right now, asked for every `BOARD_SECONDS`."""
        if self._meter is not None and time.perf_counter() - self._asked >= GPU_STATE_SECONDS:
            self._asked = time.perf_counter()
            state = self._meter.state()
            self._told = (
                None if state is None else GpuState(clock_hz=state.clock_hz, throttled=state.throttled)
            )
        return self._told
