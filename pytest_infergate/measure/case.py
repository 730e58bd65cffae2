"""The course of one case, from the first call to its figures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean, median
from typing import Any, NamedTuple

import msgspec

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import Contention, Latency, Measurement, WarmUp
from pytest_infergate.core.domain.notes import KEEP_MEMORY, NoteCode
from pytest_infergate.core.domain.stats import TAIL_CALLS
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments import cpu_contention
from pytest_infergate.instruments.device import CpuTimes, Device, UsedMemory
from pytest_infergate.instruments.python_work import count_python
from pytest_infergate.instruments.sampler import Samples, quiet_collector, sample
from pytest_infergate.instruments.timed_calls import Inputs, RepeatedCall, time_calls
from pytest_infergate.measure import memory, timing_guard
from pytest_infergate.measure.counting import (
    CountedCall,
    case_memory,
    count_call,
    uncounted_call,
    with_device_work,
    with_recount,
)
from pytest_infergate.measure.energy_window import EnergyReading, EnergyWorkload, measured_energy
from pytest_infergate.measure.first_call import first_call
from pytest_infergate.measure.item_streams import (
    STREAM_SHARE,
    Emit,
    ItemTimes,
    stream_seconds,
    stream_times,
    timed_call,
)
from pytest_infergate.measure.kept_tensors import KeptTensors
from pytest_infergate.measure.passes import (
    MAX_PASS_CALLS,
    PACED_SHARE,
    PASS_SECONDS,
    PASS_SHARE,
    AsynchronousTimes,
    asynchronous_times,
    call_order,
    calls_per_second,
    paced_ratio,
    paced_seconds,
    reference_workloads,
    tail_note,
)
from pytest_infergate.measure.same_work import Observe, SameWork, Watch, first_call_notes, unequal_python
from pytest_infergate.measure.seed import SameNumbers
from pytest_infergate.measure.time_limit import TimeLimit
from pytest_infergate.measure.tokens import TokenStreamer
from pytest_infergate.measure.torch_compile import Compilation
from pytest_infergate.measure.warmup import warm_up

# Share of the time limit that the warm-up may take. A model that is not steady by then is measured as it is,
# and a note says so: most of the limit is for the sampling.
WARM_UP_SHARE = 0.3
# Share of the time limit by which the check that calls do the same work may exceed it.
SHORT_SHARE = 0.05
# Share of the time limit for further observed calls if each call changes the state of the model.
STATE_SHARE = 0.1
# Calls of the passes that synchronise each call. Their medians are shown without bounds.
MAX_SYNCHRONISED_CALLS = 30
# Calls that the counters of one repetition take at most.
COUNTING_CALLS = 4
BRIEF_COUNTING_CALLS = 2
# Python's work is counted again after the timing up to this many bytecodes, which take a tenth of a second.
MAX_RECOUNTED_BYTECODES = 200_000
# Page faults per call from which on they take a large part of the time. Activations that are mapped again in
# some process launches and not in others made launches of identical code differ by 35 to 58 %.
MANY_PAGE_FAULTS = 1000

Watched = Callable[[Callable[[], int]], AbstractContextManager[None]]
"""A context in which calls are limited, made from what returns how many calls have returned."""


class Effort(NamedTuple):
    """How long one case may take, and what its budgets need."""

    max_seconds: float
    """Time limit of the case."""
    min_calls: int = 0
    """Calls that the percentiles of its budgets need."""
    tail: bool = False
    """Whether to sample the slowest hundredth of calls, and keep the order of calls."""
    limited: bool = False
    """Whether the demand has a latency limit, which is promised if the slowest hundredth was seen."""
    paced: bool = False
    """Whether to measure paced calls, as those of a server at a low load."""
    repetitions: int = 1
    """How often the counters are taken; the first counts, the others show which of them vary."""
    energy: bool = False
    """Whether energy is measured, which takes some seconds more."""
    first: bool = True
    """Whether the case is the first of its process, whose libraries are not initialised yet."""
    watched: Watched = lambda _: nullcontext()
    """Ends a call that never returns."""
    first_returned: Callable[[], None] = lambda: None
    """Called after the first call."""
    sleep: Callable[[float], None] = time.sleep


class Subject(NamedTuple):
    """What is measured: a call, its variant from host memory, and its size."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None = None
    """The call including copies of inputs and outputs; ``None`` if nothing is copied."""
    batch_size: int = 1
    weights: Callable[[], Mapping[str, int] | None] = lambda: None
    """Returns the bytes of the weights by dtype, once a call may have loaded them; ``None`` if unknown."""
    unfound: Callable[[Sequence[UsedMemory]], int] = lambda _: 0
    """Returns how many bytes of used memory are neither weights nor arguments."""
    hidden: Callable[[], Note | None] = lambda: None
    """Returns why weights are unknown, if the model holds memory that cannot be seen."""
    watch: Watch | None = None
    """Watches the state of what is called."""
    threads: int | None = None
    settling: int = 0
    """Calls after the first until each call does the same work."""
    arguments: Inputs | None = None
    """What each call is given."""
    observe: Observe | None = None
    """Observes the work of a call; ``None`` if nothing can."""
    unrepeatable: Note | None = None
    """Why the call cannot be repeated, if that is known before."""
    uncounted: Note | None = None
    """Why the work of the call cannot be counted."""
    structured: Callable[[Any], Any] = lambda output: output
    """Makes the output of the model of what the call returns, which is not part of the work."""
    streamer: TokenStreamer | None = None
    """What the call may put its items into."""
    prompt: int | None = None
    """Tokens in the prompts of a call, if they are known before."""


class MeasuredSubject(NamedTuple):
    """Outcome of measuring: the first result, and the figures, or the reason why they do not count."""

    output: Any
    measurement: Measurement | None
    samples: tuple[float, ...] = ()
    """Seconds of each sampled call."""
    invalid: Note | None = None
    last: Any = None
    """What the last call returned; ``None`` if it was not kept."""


def measure(
    subject: Subject, device: Device, effort: Effort, notes: tuple[Note, ...] = ()
) -> MeasuredSubject:
    """Measure one case: first call, counters, warm-up, sampling, separate passes.

    Returns the figures with `notes` and its own notes. Exceptions of the call are passed on, with the number
    of the call. The time limit holds from the end of the first call on, and may be exceeded by one call.
    """
    memory.reset_host_peak()
    compilation = Compilation()
    numbers = SameNumbers()
    call = RepeatedCall(subject.call, subject.arguments, numbers)
    with call.counted_in_errors(), effort.watched(lambda: call.passed):
        clocks = device.cpu_times()
        first = first_call(subject, call, device)
        effort.first_returned()
        taken = cpu_contention.during(clocks, device.cpu_times(), subject.threads or 1)
        invalid = first.invalid or timing_guard.tracer_note()
        if invalid is not None:
            return MeasuredSubject(first.output, None, invalid=invalid)
        if first.emit is not None:
            subject = subject._replace(from_host=None)
        with quiet_collector():
            course = _Course(subject, call, device, effort, work=first.work, compilation=compilation)
            measurement, samples, invalid = course.run(first.seconds, taken, first.emit)
    if measurement is not None:
        later = filter(None, (numbers.finish(),))
        measurement = msgspec.structs.replace(measurement, notes=(*notes, *measurement.notes, *later))
    return MeasuredSubject(first.output, measurement, samples, invalid, first.work.last)


class _Course:
    """What follows the first call of a case, within its time limit."""

    def __init__(
        self,
        subject: Subject,
        call: RepeatedCall,
        device: Device,
        effort: Effort,
        *,
        work: SameWork,
        compilation: Compilation,
    ) -> None:
        self.subject = subject
        self.call = call
        self.device = device
        self.effort = effort
        self.work = work
        self.compilation = compilation
        self.limit = TimeLimit(device.clock, effort.max_seconds)

    def run(
        self, cold_start: float, taken: Contention, emit: Emit | None
    ) -> tuple[Measurement | None, tuple[float, ...], Note | None]:
        """Return the figures, the sampled calls, and why the figures do not count.

        `taken` is the contention during the first call. `emit` makes a call of a stream.
        """
        stream = emit is not None
        effort, device, call, limit = self.effort, self.device, self.call, self.limit
        first_peak = memory.host_peak()
        graphs = timing_guard.GraphCounter()
        begun = device.cpu_times()
        # There may be no time left for another call that times the items of a stream.
        seconds, items = timed_call(call, self.item_times(emit), device)
        # Counters come before the timing, because the number of calls until here is always the same: a model
        # with state is counted in the same state in each run.
        exact = self.count(seconds)
        exact, invalid = self.check_work(exact, seconds)
        if invalid is not None:
            return None, (), invalid
        memory.reset_host_peak()
        kept = KeptTensors()
        warmed = WarmUp(calls=1, seconds=seconds, steady=False)
        if limit.allows(seconds, "the warm-up"):
            # A slow model has spent much of the limit by now; most of the rest is for the sampling.
            warmed = warm_up(call, device, min(limit.left() / 3, WARM_UP_SHARE * effort.max_seconds))
        warm_up_graphs = graphs.since()
        compiled = bool(self.compilation.counters())  # each graph keeps tensors
        invalid = None if compiled else kept.note(warmed.calls)
        if invalid is not None:
            return None, (), invalid
        sampling = self.sample(warmed, seconds, begun, stream=stream)
        latency = latency_of(sampling.samples.calls, tail=effort.tail)
        times = self.item_times(emit)
        if times is not None and limit.allows(seconds, "further times of items"):
            spare = max(seconds, limit.left() - self.later(seconds, stream=False))
            max_seconds = min(effort.max_seconds, spare / STREAM_SHARE)
            items = stream_times(call, times, device, effort.min_calls, max_seconds)
        passes = self.passes(latency)
        later = cpu_contention.during(sampling.ended, device.cpu_times(), self.subject.threads or 1)
        if effort.repetitions > 1 and limit.allows(COUNTING_CALLS * seconds, "the second count"):
            # Once more after the timing, which may have changed the state of the model.
            exact = with_recount(exact, count_case(call, self.subject, device, self.compilation))
        recompiled = timing_guard.recompiled_note(warm_up_graphs, graphs.since())
        invalid = recompiled or passes.times.invalid or kept.note(warmed.calls + sampling.samples.issued)
        invalid = invalid or self.check_work(exact, seconds, state=False)[1]
        invalid = invalid or self.unequal_python_note(exact, seconds)
        measurement = Measurement(
            latency=latency,
            throughput=passes.throughput,
            cold_start=cold_start,
            warm_up=warmed,
            time_limit=effort.max_seconds,
            memory=case_memory(exact, max(filter(None, (first_peak, memory.host_peak())), default=None)),
            enqueue=passes.times.enqueue,
            device_time=passes.times.device_time,
            host_to_host=passes.host_to_host,
            page_faults=sampling.page_faults,
            stream=items,
            reference_work=sampling.samples.reference_work,
            counters=with_device_work(exact.counters, passes.times.totals),
            threads=self.subject.threads,
            contention=sampling.contention,
            undisturbed=sampling.undisturbed,
            first_call=taken,
            later_passes=later,
            energy=passes.energy.energy,
            call_order=call_order(sampling.samples, passes.paced) if effort.tail else None,
            notes=(
                *exact.notes,
                *(() if compiled else first_call_notes(cold_start, latency.p50.value, first=effort.first)),
                *cpu_contention.contention_notes(sampling.contention, taken.share, later.share),
                *_notes(warmed, sampling, passes),
                *filter(None, (limit.note(latency.mean), tail_note(latency, limited=effort.limited))),
            ),
        )
        return measurement, sampling.samples.calls, invalid

    def item_times(self, emit: Emit | None) -> ItemTimes | None:
        """Return what times the items of a stream; ``None`` for other calls."""
        if emit is None:
            return None
        return ItemTimes(emit, self.device, self.subject.batch_size, self.subject.prompt)

    def count(self, seconds: float) -> CountedCall:
        """Count calls of `seconds` seconds as often as the effort and the time limit say."""
        if self.subject.uncounted is not None:
            return count_case(self.call, self.subject, self.device, self.compilation)
        calls = self.effort.repetitions * COUNTING_CALLS + self.subject.settling
        repetitions = self.effort.repetitions
        if repetitions > 1 and not self.limit.allows(calls * seconds, "repeated counts"):
            repetitions, calls = 1, COUNTING_CALLS + self.subject.settling
        brief = not self.limit.allows(calls * seconds, "counters of memory and Python")
        calls = BRIEF_COUNTING_CALLS + self.subject.settling
        if brief and not self.limit.allows(calls * seconds, "operators, FLOPs and bytes"):
            return uncounted_call(self.subject.weights(), self.subject.hidden())
        return count_case(self.call, self.subject, self.device, self.compilation, repetitions, brief=brief)

    def check_work(
        self, exact: CountedCall, seconds: float, *, state: bool = True
    ) -> tuple[CountedCall, Note | None]:
        """Check that calls do the same work, if there is time for a further one; see `SameWork`."""
        # A short call may exceed the limit: without the check, no figure can be relied on.
        short = seconds <= SHORT_SHARE * self.limit.seconds
        if not short and not self.limit.allows(seconds, "the check that calls do the same work"):
            return exact, None
        spare = min(STATE_SHARE * self.limit.seconds, self.limit.left()) if state else 0.0
        return self.work.check(exact, self.call, self.compilation, TimeLimit(self.device.clock, spare))

    def later(self, seconds: float, *, stream: bool) -> float:
        """Return how long the passes after the sampling take, if they make the fewest calls they can."""
        passes = 1 + 2 * (self.device.asynchronous + (self.subject.from_host is not None))
        calls = passes + stream + 1 + COUNTING_CALLS * (self.effort.repetitions > 1)
        items = stream_seconds(seconds, self.effort.min_calls, self.effort.max_seconds) if stream else 0.0
        items += paced_seconds(seconds, PACED_SHARE * self.effort.max_seconds) if self.effort.paced else 0.0
        return calls * seconds + passes * min(PASS_SECONDS, PASS_SHARE * self.effort.max_seconds) + items

    def unequal_python_note(self, exact: CountedCall, seconds: float) -> Note | None:
        """Count Python's own work once more, if that takes little; return a note if it changed."""
        before = exact.counters.totals.get("bytecodes")
        long = seconds > SHORT_SHARE * self.limit.seconds
        if before is None or before > MAX_RECOUNTED_BYTECODES or long:
            return None
        self.call.prepare()
        work = count_python(self.call, limit=4 * MAX_RECOUNTED_BYTECODES)
        now = (work.totals or work.at_least).get("bytecodes")
        return None if now is None else unequal_python(before, now, self.call.passed)

    def sample(self, warmed: WarmUp, seconds: float, begun: CpuTimes | None, *, stream: bool) -> _Sampling:
        """Sample the call between two readings of page faults and processor time.

        `begun` is the processor time before the first timed call.
        """
        subject, device, effort = self.subject, self.device, self.effort
        reference_work = reference_workloads(device)
        faults, clocks = memory.page_faults(), device.cpu_times()
        if self.limit.allows(seconds, "sampling"):
            samples = sample(
                self.call,
                device,
                reference_work,
                expected=warmed.seconds / warmed.calls,
                max_seconds=self.limit.left()
                - min(self.later(seconds, stream=stream), self.limit.left() / 2),
                min_calls=max(effort.min_calls, TAIL_CALLS if effort.tail else 0),
                waited=lambda: (
                    None if clocks is None or clocks.waited is None else cpu_contention.waited_seconds()
                ),
            )
        else:
            # The warm-up stands for the sampling.
            clocks, samples = begun, Samples((warmed.seconds / warmed.calls,), 1, {})
        faults_after, clocks_after = memory.page_faults(), device.cpu_times()
        page_faults = None
        if not device.asynchronous and faults is not None and faults_after is not None:
            page_faults = (faults_after - faults) / samples.issued
        return _Sampling(
            samples,
            page_faults=page_faults,
            ended=clocks_after,
            contention=cpu_contention.contention(clocks, clocks_after, subject.threads or 1),
            undisturbed=cpu_contention.undisturbed(
                clocks,
                clocks_after,
                fmean(samples.calls),
                # Without sampling, the waiting of all calls so far is that of the warm-up.
                samples.issued if samples.reference_work else warmed.calls,
                samples.waited,
            ),
        )

    def passes(self, latency: Latency) -> _Passes:
        """Measure throughput, energy and the work of the device in passes of their own."""
        subject, device, effort = self.subject, self.device, self.effort
        usual = max(latency.p50.value, 1e-9)
        seconds = min(PASS_SECONDS, PASS_SHARE * effort.max_seconds)
        count = max(1, min(MAX_PASS_CALLS, round(min(seconds, self.limit.left()) / usual)))
        synchronised = min(count, MAX_SYNCHRONISED_CALLS)
        throughput = subject.batch_size / max(latency.mean, 1e-9)
        if self.limit.allows(count * usual, "the throughput of calls back to back"):
            throughput = calls_per_second(self.call, device, count) * subject.batch_size
        paced = None
        if effort.paced:
            rests = paced_seconds(usual, min(self.limit.left(), PACED_SHARE * effort.max_seconds))
            if self.limit.allows(rests or math.inf, "paced calls"):
                paced = paced_ratio(self.call, device, usual, rests, effort.sleep)
        workload = EnergyWorkload(self.call, latency, subject.batch_size, subject.threads)
        energy = measured_energy(workload, device, effort.max_seconds, requested=effort.energy)
        times = AsynchronousTimes()
        if device.asynchronous and self.limit.allows(synchronised * usual, "the work of the device"):
            times = asynchronous_times(self.call, device, synchronised, effort.repetitions)
        host_to_host = None
        if subject.from_host is not None and self.limit.allows(synchronised * usual, "host to host"):
            from_host = self.call.instead(subject.from_host)
            from_host()  # pins and allocates what the first copy needs
            host_to_host = median(time_calls(from_host, device, synchronised))
        return _Passes(throughput, paced, energy, times, host_to_host)


def count_case(
    call: RepeatedCall,
    subject: Subject,
    device: Device,
    compilation: Compilation,
    repetitions: int = 1,
    *,
    brief: bool = False,
) -> CountedCall:
    """Count a call `repetitions` times, once the model does the same work in each call; see `count_call`."""
    if subject.uncounted is not None:
        return uncounted_call(subject.weights(), subject.uncounted)
    for _ in range(subject.settling):
        call()
    exact = count_call(
        call,
        device,
        compiled=compilation.counters(),
        weights=subject.weights(),
        unfound=subject.unfound,
        repetitions=repetitions,
        brief=brief,
    )
    hidden = None if "weight_bytes" in exact.counters.totals else subject.hidden()
    return exact._replace(notes=(*exact.notes, *filter(None, (hidden, compilation.note()))))


class _Sampling(NamedTuple):
    """The samples, and what happened on the machine meanwhile."""

    samples: Samples
    page_faults: float | None
    """Page faults of one call; ``None`` on accelerators, and where they are unknown."""
    ended: CpuTimes | None
    """Processor time at its end."""
    contention: float | None
    undisturbed: float | None


class _Passes(NamedTuple):
    """Figures of the passes beside the sampling."""

    throughput: float
    """Items per second."""
    paced: float | None
    """Time of paced calls over that of calls back to back."""
    energy: EnergyReading
    times: AsynchronousTimes
    host_to_host: float | None
    """Median seconds from host memory to host memory."""


def _notes(warmed: WarmUp, sampling: _Sampling, passes: _Passes) -> Iterator[Note]:
    yield from passes.energy.notes
    faults = sampling.page_faults
    if faults is not None and faults >= MANY_PAGE_FAULTS:
        yield Note(
            code=NoteCode.PAGE_FAULTS,
            text=f"{faults:,.0f} page faults per call: memory of large activations is mapped again each time",
            hint=f"in production, keep them mapped with {KEEP_MEMORY}",
        )
    if not warmed.steady and warmed.calls > 1:  # a warm-up without time is noted as such
        yield Note(
            code=NoteCode.NOT_STEADY,
            text=f"call times were not steady after {warmed.calls} calls of warm-up",
            hint="raise --infer-max-time, or find what keeps changing between calls",
        )
    if passes.times.unobserved:
        yield Note(code=NoteCode.DEVICE_TIME_UNSEEN, text="no profiler can observe the device's kernels here")
