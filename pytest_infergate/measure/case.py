"""The course of one case, from the first call to its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any, NamedTuple

from pytest_infergate.core.domain.measurement import Latency, Measurement, Memory, WarmUp
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments import cpu_contention
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.sampler import Samples, quiet_collector, sample, time_calls
from pytest_infergate.measure import memory, timing_guard
from pytest_infergate.measure.counting import CountedCall, count_call, with_device_work, with_recount
from pytest_infergate.measure.energy_window import EnergyReading, EnergyWorkload, measured_energy
from pytest_infergate.measure.passes import (
    MAX_PASS_CALLS,
    PASS_SECONDS,
    PASS_SHARE,
    AsynchronousTimes,
    asynchronous_times,
    calls_per_second,
    consumed,
    latency_of,
    stream_times,
)
from pytest_infergate.measure.torch_compile import Compilation
from pytest_infergate.measure.warmup import warm_up

# Share of the time limit that the warm-up may take. A model that is not steady by then is measured as it is,
# and a note says so: most of the limit is for the sampling.
WARM_UP_SHARE = 0.3
# Calls of the passes that synchronise each call. Their medians are shown without bounds.
MAX_SYNCHRONISED_CALLS = 30
# Page faults per call from which on they take a large part of the time. Activations that are mapped again in
# some process launches and not in others made launches of identical code differ by 35 to 58 %.
MANY_PAGE_FAULTS = 1000


class Effort(NamedTuple):
    """How long one case may take, and what its budgets need."""

    max_seconds: float
    """Time limit of the case."""
    min_calls: int = 0
    """Calls that the percentiles of its budgets need."""
    repetitions: int = 1
    """How often the counters are taken; the first counts, the others show which of them vary."""
    energy: bool = False
    """Whether energy is measured, which takes some seconds more."""


class Subject(NamedTuple):
    """What is measured: a call, its variant from host memory, and its size."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None = None
    """The call including copies of inputs and outputs; ``None`` if nothing is copied."""
    batch_size: int = 1
    weights: Mapping[str, int] | None = None
    """Bytes of the weights by dtype; ``None`` if unknown."""
    threads: int | None = None
    settling: int = 0
    """Calls after the first until each call does the same work."""


class MeasuredSubject(NamedTuple):
    """Outcome of measuring: the first result, and the figures, or the reason why they do not count."""

    output: Any
    measurement: Measurement | None
    samples: tuple[float, ...] = ()
    """Seconds of each sampled call."""
    invalid: Note | None = None


def measure(
    subject: Subject, device: Device, effort: Effort, notes: tuple[Note, ...] = ()
) -> MeasuredSubject:
    """Measure one case: first call, counters, warm-up, sampling, separate passes.

    Returns the figures with `notes` and its own notes. Exceptions of the call are passed on.
    """
    memory.reset_host_peak()
    compilation = Compilation()
    output, stream, cold_start = first_call(subject.call, device)
    invalid = timing_guard.unfinished_output_note(output) or timing_guard.tracer_note()
    if invalid is not None:
        return MeasuredSubject(output, None, invalid=invalid)

    timed = subject._replace(call=consumed(subject.call), from_host=None) if stream else subject
    first_peak = memory.host_peak()
    graphs = timing_guard.GraphCounter()
    with quiet_collector():
        # Counters come before the timing, because the number of calls until here is always the same: a model
        # with state is counted in the same state in each run.
        exact = count_case(timed.call, timed, device, compilation, effort.repetitions)
        memory.reset_host_peak()
        warmed = warm_up(timed.call, device, WARM_UP_SHARE * effort.max_seconds)
        warm_up_graphs = graphs.since()
        sampling = _sampling(timed, device, effort, warmed, cold_start)
        latency = latency_of(sampling.samples.calls)
        passes = _passes(timed, device, effort, latency)
        if effort.repetitions > 1:
            # Once more after the timing, which may have changed the state of the model.
            exact = with_recount(exact, count_case(timed.call, timed, device, compilation))
        streamed = (
            stream_times(subject.call, device, effort.min_calls, effort.max_seconds) if stream else None
        )
        recompiled = timing_guard.recompiled_note(warm_up_graphs, graphs.since())
        host_peak = max(filter(None, (first_peak, memory.host_peak())), default=None)
    measurement = Measurement(
        latency=latency,
        throughput=passes.throughput,
        cold_start=cold_start,
        warm_up=warmed,
        memory=case_memory(subject, exact, host_peak),
        enqueue=passes.times.enqueue,
        device_time=passes.times.device_time,
        host_to_host=passes.host_to_host,
        page_faults=sampling.page_faults,
        stream=streamed,
        reference_work=sampling.samples.reference_work,
        counters=with_device_work(exact.counters, passes.times.totals),
        threads=subject.threads,
        contention=sampling.contention,
        energy=passes.energy.energy,
        notes=(*notes, *exact.notes, *_notes(warmed, sampling, passes)),
    )
    return MeasuredSubject(output, measurement, sampling.samples.calls, recompiled or passes.times.invalid)


def first_call(call: Callable[[], Any], device: Device) -> tuple[Any, bool, float]:
    """Call once; return the result, whether it was a stream, and the seconds until it was complete.

    The result is a copy, or a list of copies: later calls may overwrite their memory.
    """
    device.synchronize()
    begin = device.clock()
    output = call()
    stream = isinstance(output, Iterator)
    if stream:
        output = [_copied(item) for item in output]
    device.synchronize()
    seconds = (device.clock() - begin) / 1e9
    return output if stream else _copied(output), stream, seconds


def _copied(output: Any) -> Any:
    if "torch" not in sys.modules:
        return output
    from pytest_infergate.instruments import tensors

    return tensors.clone_tensors(output)


def count_case(
    call: Callable[[], object],
    subject: Subject,
    device: Device,
    compilation: Compilation,
    repetitions: int = 1,
) -> CountedCall:
    """Count a call `repetitions` times, once the model does the same work in each call."""
    for _ in range(subject.settling):
        call()
    exact = count_call(
        call,
        device,
        compiled=compilation.counters(),
        weights=subject.weights,
        repetitions=repetitions,
    )
    graph_breaks = compilation.note()
    return exact if graph_breaks is None else exact._replace(notes=(*exact.notes, graph_breaks))


def case_memory(subject: Subject, exact: CountedCall, host_peak: int | None) -> Memory:
    """Combine the memory of the weights, the device and the process, in bytes."""
    return Memory(
        weights=None if subject.weights is None else sum(subject.weights.values()),
        activations=exact.memory.activations,
        reserved=exact.memory.reserved,
        host_peak=host_peak,
    )


class _Sampling(NamedTuple):
    """The samples, and what happened on the machine meanwhile."""

    samples: Samples
    page_faults: float | None
    """Page faults of one call; ``None`` on accelerators, and where they are unknown."""
    contention: float | None


def _sampling(
    subject: Subject, device: Device, effort: Effort, warmed: WarmUp, cold_start: float
) -> _Sampling:
    """Sample the call between two readings of page faults and processor time."""
    reference_work = _reference_work(device)
    faults, clocks = memory.page_faults(), device.cpu_times()
    samples = sample(
        subject.call,
        device,
        reference_work,
        expected=warmed.seconds / warmed.calls,
        max_seconds=max(0.0, effort.max_seconds - warmed.seconds - cold_start),
        min_calls=effort.min_calls,
    )
    faults_after, clocks_after = memory.page_faults(), device.cpu_times()
    page_faults = None
    if not device.asynchronous and faults is not None and faults_after is not None:
        page_faults = (faults_after - faults) / samples.issued
    return _Sampling(
        samples,
        page_faults=page_faults,
        contention=cpu_contention.contention(clocks, clocks_after, subject.threads or 1),
    )


def _reference_work(device: Device) -> Mapping[str, Callable[[], object]]:
    """Return the reference workloads after one run of each; none if the model left no memory for them."""
    try:
        reference_work = device.reference_work()
        for reference in reference_work.values():
            reference()  # its first touch of memory is not timed
        device.synchronize()
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
    else:
        return reference_work
    # A case that fits into memory is measured, without correction by reference workloads.
    device.release()
    return {}


class _Passes(NamedTuple):
    """Figures of the passes beside the sampling."""

    throughput: float
    """Items per second."""
    energy: EnergyReading
    times: AsynchronousTimes
    host_to_host: float | None
    """Median seconds from host memory to host memory."""


def _passes(subject: Subject, device: Device, effort: Effort, latency: Latency) -> _Passes:
    seconds = min(PASS_SECONDS, PASS_SHARE * effort.max_seconds)
    count = max(1, min(MAX_PASS_CALLS, round(seconds / max(latency.p50.value, 1e-9))))
    synchronised = min(count, MAX_SYNCHRONISED_CALLS)
    throughput = calls_per_second(subject.call, device, count) * subject.batch_size
    workload = EnergyWorkload(subject.call, latency, subject.batch_size, subject.threads)
    energy = measured_energy(workload, device, effort.max_seconds, requested=effort.energy)
    times = AsynchronousTimes()
    if device.asynchronous:
        times = asynchronous_times(subject.call, device, synchronised, effort.repetitions)
    host_to_host = None
    if subject.from_host is not None:
        subject.from_host()  # pins and allocates what the first copy needs
        host_to_host = median(time_calls(subject.from_host, device, synchronised))
    return _Passes(throughput, energy, times, host_to_host)


def _notes(warmed: WarmUp, sampling: _Sampling, passes: _Passes) -> Iterator[Note]:
    yield from cpu_contention.contention_notes(sampling.contention)
    yield from passes.energy.notes
    faults = sampling.page_faults
    if faults is not None and faults >= MANY_PAGE_FAULTS:
        yield Note(
            code=NoteCode.PAGE_FAULTS,
            text=f"{faults:,.0f} page faults per call: memory for large activations is mapped again "
            "on each call",
            hint="in production, keep them mapped with MALLOC_MMAP_THRESHOLD_=1073741824 "
            "MALLOC_TRIM_THRESHOLD_=2147483648 MALLOC_TOP_PAD_=67108864",
        )
    if not warmed.steady:
        yield Note(
            code=NoteCode.NOT_STEADY,
            text=f"call times were not steady after {warmed.calls} calls of warm-up",
            hint="raise --infer-max-time, or find what keeps changing between calls",
        )
    if passes.times.unobserved:
        yield Note(
            code=NoteCode.DEVICE_TIME_UNSEEN, text="no profiler can observe the kernels of the device here"
        )
