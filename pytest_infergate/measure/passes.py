"""Passes beside the sampling, each with its own question: throughput, paced calls, device work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

from pytest_infergate.core.domain.measurement import CallOrder, Latency
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.stats import TAIL_CALLS
from pytest_infergate.core.domain.units import longer_limit, plural, round_significant
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.sampler import Samples
from pytest_infergate.instruments.timed_calls import RepeatedCall, time_calls
from pytest_infergate.measure.memory import is_out_of_memory

# Length of a pass: several calls of most models, and short beside the sampling.
PASS_SECONDS = 0.3
# Share of the time limit that a pass may take, so that it does not displace the sampling of slow calls.
PASS_SHARE = 0.05
MAX_PASS_CALLS = 1000
# Of a call in a case: a third of the limit is for the warm-up, and the passes follow.
SECONDS_FOR_A_CALL = 2.0
# Calls that are kept in their order, in runs that are long enough for slow phases of fast calls.
MAX_ORDERED_CALLS = 4096
ORDERED_RUNS = 8
ORDERED_DIGITS = 4
# Load of the machine in the pass of paced calls. A server at a low load rests between calls: caches are taken
# by others and the clock frequency falls.
PACED_LOAD = 0.3
PACED_SECONDS = 1.5
PACED_SHARE = 0.3
# Paced calls and calls back to back take turns, because the speed of a shared machine changes in seconds.
PACED_TURNS = 5


def reference_workloads(device: Device) -> Mapping[str, Callable[[], object]]:
    """Return the reference workloads after one run of each; none if the model left no memory for them."""
    try:
        workloads = device.reference_work()
        for workload in workloads.values():
            workload()  # its first touch of memory is not timed
        device.synchronize()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return workloads
    # A case that fits into memory is measured, without correction by reference workloads.
    device.release()
    return {}


class AsynchronousTimes(NamedTuple):
    """What a call did on an asynchronous device; the default is that of a synchronous one."""

    enqueue: float | None = None
    """Median seconds until the call returns."""
    device_time: float | None = None
    """Summed seconds of kernels and copies of one call."""
    totals: tuple[Mapping[str, int], ...] = ()
    """Counters of the device's work, one mapping per repetition."""
    invalid: Note | None = None
    """Why the case is invalid."""
    unobserved: bool = False
    """Whether no profiler can observe the device."""


def tail_note(latency: Latency, *, limited: bool) -> Note | None:
    """Return a note if a latency limit rests on the tail, and a slow hundredth of calls may be unseen."""
    if not limited or latency.count >= TAIL_CALLS:
        return None
    seconds = SECONDS_FOR_A_CALL * TAIL_CALLS * latency.mean
    return Note(
        code=NoteCode.TAIL_UNSEEN,
        text=f"the time limit allowed {plural(latency.count, 'call')}, and {TAIL_CALLS} are needed to see "
        "the slowest hundredth: no p95 under load is promised",
        hint=longer_limit(seconds),
        max_time=seconds,
    )


def call_order(samples: Samples, paced: float | None) -> CallOrder:
    """Return sampled calls in their order; of many, runs of successive ones at equal distances."""
    calls, run = samples.calls, len(samples.calls)
    if run > MAX_ORDERED_CALLS:
        run = MAX_ORDERED_CALLS // ORDERED_RUNS
        apart = (len(calls) - run) / (ORDERED_RUNS - 1)
        starts = [round(number * apart) for number in range(ORDERED_RUNS)]
        calls = tuple(call for start in starts for call in calls[start : start + run])
    seconds = tuple(round_significant(call, ORDERED_DIGITS) for call in calls)
    return CallOrder(seconds=seconds, run=run, span=samples.seconds, paced=paced)


def paced_seconds(usual: float, left: float) -> float:
    """Return how long the pass of paced calls takes; 0 if `left` seconds are not enough for it."""
    least = PACED_TURNS * usual * (1 / PACED_LOAD + 1)
    return 0.0 if left < least else max(least, min(PACED_SECONDS, left))


def paced_ratio(
    call: RepeatedCall, device: Device, usual: float, seconds: float, sleep: Callable[[float], None]
) -> float:
    """Return the median of calls at `PACED_LOAD` over that of calls back to back, measured in turns.

    `usual` is the time of a call, and `seconds` that of the pass.
    """
    count = min(MAX_PASS_CALLS, max(1, int(seconds / (usual * (1 / PACED_LOAD + 1)) / PACED_TURNS + 1e-9)))
    paced: list[float] = []
    successive: list[float] = []
    for _ in range(PACED_TURNS):
        for _ in range(count):
            sleep(usual * (1 / PACED_LOAD - 1))
            paced += time_calls(call, device, 1)
        successive += time_calls(call, device, count)
    return median(paced) / max(median(successive), 1e-9)


def calls_per_second(call: RepeatedCall, device: Device, count: int) -> float:
    """Measure the rate of `count` calls issued back to back, with a single synchronisation at the end.

    Calls that change their arguments are synchronised one by one, and the time in between is not counted.
    """
    if call.renew is not None:
        return count / max(1e-9, sum(time_calls(call, device, count)))
    device.synchronize()
    begin = device.clock()
    call.issue(count)
    device.synchronize()
    return count * 1e9 / max(1, device.clock() - begin)


def asynchronous_times(call: RepeatedCall, device: Device, count: int, repetitions: int) -> AsynchronousTimes:
    """Time how long `count` calls take to return, and profile `repetitions` calls on the device."""
    times = []
    for _ in range(count):
        call.prepare()
        device.synchronize()
        begin = device.clock()
        call()
        times.append(device.clock() - begin)
    device.synchronize()
    profiled = []
    for _ in range(repetitions):
        call.prepare()
        profiled.append(device.work(call))
    work = profiled[0]
    invalid = None
    if work is not None and not work.kernels:
        # A model that runs on the CPU by mistake would otherwise pass as a fast one.
        invalid = Note(
            code=NoteCode.NO_KERNEL,
            text=f"the call launched no kernel on {device.name}",
            hint="pass infer the module itself, or move the model to infer.device inside the callable",
        )
    return AsynchronousTimes(
        enqueue=median(times) / 1e9,
        device_time=None if work is None else work.seconds,
        totals=tuple(
            {
                "kernel_launches": each.kernels,
                "synchronisations": each.synchronisations,
                "memcpys": each.copies,
            }
            for each in profiled
            if each is not None
        ),
        invalid=invalid,
        unobserved=work is None,
    )
