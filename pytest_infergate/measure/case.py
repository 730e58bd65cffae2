"""One case measured from the first call to the last: the order of things, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import msgspec

from pytest_infergate.core.domain.measurement import Counters, Latency, Measurement, Memory, Stream, WarmUp
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.stats import mean, quantile, quantile_estimate
from pytest_infergate.instruments import interference
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.sampler import quiet_collector, sample, time_calls
from pytest_infergate.measure import energy_window, guard, memory
from pytest_infergate.measure.compiler import Compilation
from pytest_infergate.measure.counting import Counted, counted, varies, varying
from pytest_infergate.measure.warmup import SteadyState

WARM_UP_SHARE = 0.3
"""Share of the time cap that the warm-up may take."""
PASS_SECONDS = 0.3
"""Length of each pass beside the sampling: back to back, enqueue, host to host."""
PASS_SHARE = 0.05
"""And the share of the time cap that it may take, at most."""

STREAM_SHARE = 0.3
"""Share of the time cap that timing the items of a stream may take."""
MOST_STREAMS = 1000
MANY_FAULTS = 1000
"""Page faults a call from which on they cost a large part of the time."""


class Effort(NamedTuple):
    """How long one case may take, and how many calls its budgets need."""

    max_seconds: float
    needed: int = 0
    repetitions: int = 1
    """How often the counters are taken; the first counts, the others prove that they do not vary."""
    energy: bool = False
    """Whether energy is measured, which takes some seconds more."""


class Subject(NamedTuple):
    """What is measured: the call, the call from the host where that differs, and its size."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None = None
    batch_size: int = 1
    weights: Mapping[str, int] | None = None
    """Bytes by dtype."""
    threads: int | None = None
    settling: int = 0
    """Calls after the first until the model does the same work in each."""


class Run(NamedTuple):
    """What came of measuring: the first result, and the figures or the reason why they do not count."""

    output: Any
    measurement: Measurement | None
    samples: tuple[float, ...] = ()
    invalid: Note | None = None


def measure(subject: Subject, device: Device, effort: Effort, notes: tuple[Note, ...] = ()) -> Run:
    """Measure one case: first call, counters, warm-up, sampling beside the yardsticks, separate passes.

    The counters come early since there the number of calls before them is always the same: a model with
    a state of its own is counted in the same state in every run. Exceptions of the call pass through.
    """
    memory.reset_host_peak()
    compilation = Compilation()
    output, stream, cold_start = first_call(subject.call, device)
    invalid = guard.unfinished(output) or guard.active_tracer()
    if invalid is not None:
        return Run(output, None, invalid=invalid)

    call = consumed(subject.call) if stream else subject.call
    first_peak = memory.host_peak()
    compilations = guard.Compilations()
    with quiet_collector():
        exact = count_exactly(call, subject, device, compilation, effort.repetitions)
        memory.reset_host_peak()
        warm_up = _warm_up(call, device, cap=WARM_UP_SHARE * effort.max_seconds)
        compiled = compilations.since()
        reference_work = _reference_medians(device)
        faults, clocks = memory.page_faults(), device.cpu_times()
        samples = sample(
            call,
            device,
            reference_work,
            expected=warm_up.seconds / warm_up.calls,
            max_seconds=max(0.0, effort.max_seconds - warm_up.seconds - cold_start),
            needed=effort.needed,
        )
        faults_after, clocks_after = memory.page_faults(), device.cpu_times()
        latency = latency_of(samples.calls)
        seconds = min(PASS_SECONDS, PASS_SHARE * effort.max_seconds)
        count = max(1, min(1000, round(seconds / max(latency.p50.value, 1e-9))))
        throughput = _throughput(call, device, count) * subject.batch_size
        load = energy_window.EnergyWorkload(call, latency, subject.batch_size, subject.threads)
        power = energy_window.measured_energy(load, device, effort.max_seconds, asked=effort.energy)
        times = (
            _asynchronous(call, device, min(count, 30), effort.repetitions)
            if device.asynchronous
            else _Asynchronous()
        )
        host_to_host = None
        if subject.from_host is not None and not stream:
            subject.from_host()
            host_to_host = median(time_calls(subject.from_host, device, min(count, 30)))
        if effort.repetitions > 1:
            exact = _proved(exact, count_exactly(call, subject, device, compilation, 1))
        streamed = _stream(subject.call, device, effort, seconds) if stream else None
        recompiled = guard.recompiled(compiled, compilations.since())
        host_peak = max(filter(None, (first_peak, memory.host_peak())), default=None)
    taken = interference.contention(clocks, clocks_after, subject.threads or 1)
    faulted = _faults_per_call(faults, faults_after, samples.issued, device)
    measurement = Measurement(
        latency=latency,
        throughput=throughput,
        cold_start=cold_start,
        warm_up=warm_up,
        memory=memory_of(subject, exact, host_peak),
        enqueue=times.enqueue,
        device_time=times.device_time,
        host_to_host=host_to_host,
        page_faults=faulted,
        stream=streamed,
        reference_work=samples.reference_work,
        counters=_joined(exact.counters, times.totals),
        threads=subject.threads,
        contention=taken,
        energy=power.energy,
        notes=(
            *notes,
            *exact.notes,
            *interference.contention_notes(taken),
            *power.notes,
            *_notes(warm_up, faulted, times),
        ),
    )
    return Run(output, measurement, samples.calls, recompiled or times.invalid)


def count_exactly(
    call: Callable[[], object],
    subject: Subject,
    device: Device,
    compilation: Compilation,
    repetitions: int = 1,
) -> Counted:
    """Take the counters of a call, `repetitions` times, once the model does the same in each."""
    for _ in range(subject.settling):
        call()
    taken = counted(
        call,
        device,
        compiled=compilation.counted(),
        weights=subject.weights,
        repetitions=repetitions,
    )
    broken = compilation.note()
    return taken if broken is None else taken._replace(notes=(*taken.notes, broken))


def _proved(early: Counted, late: Counted) -> Counted:
    """Counters once more after the timing, which settled whatever hangs on earlier calls.

    A later case may find the model in that state, so what differs varies.
    """
    differing = dict(early.counters.varying)
    for name, (low, high) in varying([early.counters.totals, late.counters.totals]).items():
        known = differing.get(name, (low, high))
        differing[name] = min(low, known[0]), max(high, known[1])
    if differing == early.counters.varying:
        return early
    kept = [note for note in early.notes if note.code != NoteCode.VARIES]
    return early._replace(
        counters=msgspec.structs.replace(early.counters, varying=differing),
        notes=(*kept, *filter(None, (varies(differing),))),
    )


def _joined(counters: Counters, launches: Sequence[Mapping[str, int]]) -> Counters:
    """Counters with what the device was seen to do, where it was."""
    if not launches:
        return counters
    return msgspec.structs.replace(
        counters,
        totals={**counters.totals, **launches[0]},
        varying={**counters.varying, **varying(launches)},
    )


def first_call(call: Callable[[], Any], device: Device) -> tuple[Any, bool, float]:
    """Result of the first call, whether it was a stream, and the seconds until it was there.

    The result is a copy: what later calls do to theirs must not reach it.
    """
    device.synchronize()
    begin = device.clock()
    output = call()
    stream = isinstance(output, Iterator)
    if stream:
        output = [_kept(item) for item in output]
    device.synchronize()
    seconds = (device.clock() - begin) / 1e9
    return output if stream else _kept(output), stream, seconds


def _kept(output: Any) -> Any:
    if "torch" not in sys.modules:
        return output
    from pytest_infergate.instruments import tensors

    return tensors.held_fast(output)


def _reference_medians(device: Device) -> Mapping[str, Callable[[], object]]:
    """The device's yardsticks, run once so that their first touch of memory counts for nobody.

    None where the model left no memory for them, which is no fault of the model.
    """
    try:
        reference_work = device.reference_work()
        for reference in reference_work.values():
            reference()
        device.synchronize()
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
    else:
        return reference_work
    device.release()
    return {}


def memory_of(subject: Subject, exact: Counted, host_peak: int | None) -> Memory:
    """Sum up the memory of a case."""
    return Memory(
        weights=None if subject.weights is None else sum(subject.weights.values()),
        activations=exact.memory.activations,
        reserved=exact.memory.reserved,
        host_peak=host_peak,
    )


def latency_of(times: tuple[float, ...]) -> Latency:
    """Summarise call times in seconds."""
    ordered = sorted(times)
    return Latency(
        count=len(ordered),
        mean=mean(ordered),
        p50=quantile_estimate(ordered, 0.50),
        p90=quantile_estimate(ordered, 0.90),
        p95=quantile_estimate(ordered, 0.95),
        p99=quantile_estimate(ordered, 0.99),
        percentiles=tuple(quantile(ordered, p / 100) for p in range(101)),
    )


def _warm_up(call: Callable[[], object], device: Device, cap: float) -> WarmUp:
    state = SteadyState(cap)
    while not state.finished:
        state.add(time_calls(call, device, 1)[0])
    return state.result()


def _throughput(call: Callable[[], object], device: Device, count: int) -> float:
    """Calls a second, issued back to back with one synchronisation at the end."""
    device.synchronize()
    begin = device.clock()
    for _ in range(count):
        call()
    device.synchronize()
    return count * 1e9 / max(1, device.clock() - begin)


class _Asynchronous(NamedTuple):
    enqueue: float | None = None
    device_time: float | None = None
    totals: tuple[Mapping[str, int], ...] = ()
    """Counters of what the device did, one a repetition."""
    invalid: Note | None = None
    blind: bool = False


def _asynchronous(call: Callable[[], object], device: Device, count: int, repetitions: int) -> _Asynchronous:
    """Time until the call returns, and what the device did meanwhile."""
    times = []
    for _ in range(count):
        device.synchronize()
        begin = device.clock()
        call()
        times.append(device.clock() - begin)
    device.synchronize()
    seen = [device.work(call) for _ in range(repetitions)]
    work = seen[0]
    invalid = None
    if work is not None and not work.kernels:
        invalid = Note(
            code=NoteCode.NO_KERNEL,
            text=f"the call launched no kernel on {device.name}",
            hint="give infer the module itself, or move the model inside the callable to infer.device",
        )
    return _Asynchronous(
        enqueue=median(times) / 1e9,
        device_time=None if work is None else work.seconds,
        totals=tuple(
            {
                "kernel_launches": each.kernels,
                "synchronisations": each.synchronisations,
                "memcpys": each.copies,
            }
            for each in seen
            if each is not None
        ),
        invalid=invalid,
        blind=work is None,
    )


def consumed(call: Callable[[], Any]) -> Callable[[], None]:
    """A call that takes every item of the stream that another returns."""

    def consume() -> None:
        for _ in call():
            pass

    return consume


def _stream(call: Callable[[], Any], device: Device, effort: Effort, seconds: float) -> Stream:
    """Time each item as it arrives: for some time and as many calls as the budgets need, under a cap."""
    first: list[float] = []
    gaps: list[float] = []
    begin = device.clock()
    elapsed = 0.0
    arrived = 0
    while not first or (
        len(first) < MOST_STREAMS
        and (
            elapsed < seconds
            or (len(first) < max(3, effort.needed) and elapsed < STREAM_SHARE * effort.max_seconds)
        )
    ):
        times, items = _arrivals(call, device)
        first.append(times[0])
        gaps += times[1:]
        arrived += items
        elapsed = (device.clock() - begin) / 1e9
    return Stream(
        items=arrived / len(first),
        first_item=latency_of(tuple(first)),
        between_items=latency_of(tuple(gaps)) if gaps else None,
    )


def _arrivals(call: Callable[[], Any], device: Device) -> tuple[list[float], int]:
    """Seconds to the first item of one call and between the others, and how many items arrived.

    To the end of the call, where it yields none.
    """
    times = []
    device.synchronize()
    last = device.clock()
    for _ in call():
        device.synchronize()
        now = device.clock()
        times.append((now - last) / 1e9)
        last = now
    device.synchronize()
    return times or [(device.clock() - last) / 1e9], len(times)


def _faults_per_call(before: int | None, after: int | None, calls: int, device: Device) -> float | None:
    if device.asynchronous or before is None or after is None:
        return None
    return (after - before) / calls


def _notes(warm_up: WarmUp, faults: float | None, times: _Asynchronous) -> Iterator[Note]:
    if faults is not None and faults >= MANY_FAULTS:
        yield Note(
            code=NoteCode.PAGE_FAULTS,
            text=f"{faults:,.0f} page faults a call: large activations are mapped anew each time",
            hint="in production keep them with MALLOC_MMAP_THRESHOLD_=1073741824 "
            "MALLOC_TRIM_THRESHOLD_=2147483648 MALLOC_TOP_PAD_=67108864",
        )
    if not warm_up.steady:
        text = f"not steady after {warm_up.calls} calls of warm-up"
        yield Note(
            code=NoteCode.NOT_STEADY,
            text=text,
            hint="raise --infer-max-time, or look for what keeps changing",
        )
    if times.blind:
        yield Note(code=NoteCode.DEVICE_TIME_UNSEEN, text="no profiler can see the device's kernels here")
