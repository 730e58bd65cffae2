"""The course of one case without a clock: the first call and the counters."""

from __future__ import annotations

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.sampler import quiet_collector
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure import memory
from pytest_infergate.measure.case import (
    COUNTING_CALLS,
    STATE_SHARE,
    Effort,
    MeasuredSubject,
    Subject,
    count_case,
)
from pytest_infergate.measure.counting import case_memory, with_device_work
from pytest_infergate.measure.first_call import first_call
from pytest_infergate.measure.passes import AsynchronousTimes, asynchronous_times
from pytest_infergate.measure.seed import SameNumbers
from pytest_infergate.measure.time_limit import TimeLimit
from pytest_infergate.measure.torch_compile import Compilation


def count_only(
    subject: Subject, device: Device, effort: Effort, notes: tuple[Note, ...] = ()
) -> MeasuredSubject:
    """Take the counters and the memory of one case, and no times.

    The counters are those of `case.measure`, taken after the same number of calls. A tracer does not matter.
    Exceptions of the call are passed on, with the number of the call. Counters are taken once whatever the
    time limit is, and repeated within it.
    """
    memory.reset_host_peak()
    compilation = Compilation()
    numbers = SameNumbers()
    call = RepeatedCall(subject.call, subject.arguments, numbers)
    with call.counted_in_errors(), effort.watched(lambda: call.passed):
        output, _, seconds, work, invalid = first_call(subject, call, device)
        effort.first_returned()
        if invalid is not None:
            return MeasuredSubject(output, None, invalid=invalid)
        limit = TimeLimit(device.clock, effort.max_seconds)
        with quiet_collector():
            call()  # as `case.measure` does, whose counters are compared with these
            repeated = limit.allows(effort.repetitions * COUNTING_CALLS * seconds, "repeated counts")
            repetitions = effort.repetitions if repeated else 1
            exact = count_case(call, subject, device, compilation, repetitions)
            times = AsynchronousTimes()
            if device.asynchronous:
                times = asynchronous_times(call, device, 1, repetitions)
            host_peak = memory.host_peak()
            spare = TimeLimit(device.clock, STATE_SHARE * effort.max_seconds)
            exact, invalid = work.check(exact, call, compilation, spare)
            invalid = invalid or times.invalid
    measurement = Measurement(
        memory=case_memory(exact, host_peak),
        counters=with_device_work(exact.counters, times.totals),
        threads=subject.threads,
        notes=(*notes, *exact.notes, *filter(None, (limit.note(seconds), numbers.finish()))),
    )
    return MeasuredSubject(output, measurement, (), invalid, work.last)
