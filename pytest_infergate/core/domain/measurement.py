"""What is measured of one case: latency, throughput, memory, energy and exact counters. SI units throughout."""

from __future__ import annotations

import msgspec

from pytest_infergate.core.domain.model import Note, Struct


class Estimate(Struct, frozen=True, kw_only=True):
    """A figure with its one-sided 99 % bounds; a bound that the samples cannot give is ``None``."""

    value: float
    low: float | None = None
    high: float | None = None


class Latency(Struct, frozen=True, kw_only=True):
    """Wall time of one call with the device synchronised before and after, in seconds."""

    count: int
    mean: float
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate
    percentiles: tuple[float, ...] = ()
    """The 0th to the 100th percentile, for pictures: 101 values."""


class Memory(Struct, frozen=True, kw_only=True):
    """Memory of one call, in bytes."""

    weights: int | None = None
    """Parameters and buffers; ``None`` for a plain callable, which hides them."""
    activations: int | None = None
    """Allocator peak of one call above where the call began."""
    reserved: int | None = None
    """Peak that an accelerator's allocator reserved from the device."""
    host_peak: int | None = None
    """Peak resident memory of the test's process during the case, libraries included."""

    @property
    def peak(self) -> int | None:
        """Weights, where known, and the peak of one call: what the model needs on the device."""
        return None if self.activations is None else self.activations + (self.weights or 0)


class Stream(Struct, frozen=True, kw_only=True):
    """Timing of a result that arrives item by item, in seconds."""

    items: float
    """Items a call, mean."""
    first_item: Latency
    between_items: Latency | None = None
    """``None`` where a call yields one item."""


class Energy(Struct, frozen=True, kw_only=True):
    """What one call took of everything that a meter saw while calls were issued back to back."""

    joules: float
    """A call: all that the board or package took in the window, idle power included, over its calls."""
    source: str
    """``nvml``, ``rapl`` or ``estimate``."""
    scope: str
    """What is covered: ``board``, ``package``, or ``vcpus`` of an estimate."""
    seconds: float
    """Length of the window; for an estimate, of the calls that were timed."""
    calls: int
    """In the window."""
    batch_size: int = 1
    idle_watts: float | None = None
    """Power of the same board or package between calls, right after the window."""

    @property
    def estimated(self) -> bool:
        """Whether nobody measured it."""
        return self.source == "estimate"


class Peaks(Struct, frozen=True, kw_only=True):
    """What a device was seen to reach on work made for it, with the threads of the case."""

    flops: dict[str, float] = msgspec.field(default_factory=dict)
    """Floating point operations a second of a large product, by dtype."""
    bandwidth: float
    """Bytes a second of a large copy, read and written counted both."""


class ConcurrentRun(Struct, frozen=True, kw_only=True):
    """What several processes with the same model do on one machine at once."""

    workers: int
    throughput: float
    """Items a second of all of them."""
    calls: int
    """Of all of them, that were timed."""
    mean: float
    """Seconds of a call."""
    percentiles: tuple[float, ...]
    """The 0th to the 100th percentile of the seconds of a call, averaged over the workers: 101 values."""
    threads: int | None = None
    """Threads torch used inside an operator, in each."""


class WarmUp(Struct, frozen=True, kw_only=True):
    """What it took to reach the steady state."""

    calls: int
    seconds: float
    steady: bool


class OperatorWork(Struct, frozen=True, kw_only=True, order=True):
    """What one operator does in one place of a model during one call."""

    operator: str
    """As torch's dispatcher names it, ``aten::addmm``, without its overload."""
    place: str = ""
    """Module path, ``encoder.layer.3.attention``; equal places stand together, ``encoder.layer.{0-11}``,
    and the figures are those of each. Empty outside of any module."""
    calls: int
    flops: int = 0
    """Floating point operations, a multiplication and an addition counted as two."""
    bytes: int = 0
    """Read and written."""


class Counters(Struct, frozen=True, kw_only=True):
    """Exact figures of one call, taken in passes of their own: no clock, no noise."""

    totals: dict[str, int] = msgspec.field(default_factory=dict)
    """By counter name, see `core.metrics.COUNTERS`."""
    weights: dict[str, int] = msgspec.field(default_factory=dict)
    """Bytes of parameters and buffers, by dtype."""
    operators: tuple[OperatorWork, ...] = ()
    architecture: str = ""
    """Instruction set or GPU architecture that torch chooses its operators by."""
    varying: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Totals that repetitions did not agree on: the least and the most. Empty where nobody repeated."""


class Measurement(Struct, frozen=True, kw_only=True):
    """Everything measured of one case on one machine in one launch. Times in seconds."""

    latency: Latency
    throughput: float
    """Items a second: calls issued back to back with one synchronisation at the end, times the batch size."""
    cold_start: float
    """First call in this process."""
    warm_up: WarmUp
    memory: Memory = Memory()
    enqueue: float | None = None
    """Median time until the call returns, on an accelerator; the device may still be working."""
    device_time: float | None = None
    """Summed kernel durations of one call, on an accelerator."""
    host_to_host: float | None = None
    """Median with inputs copied to the device and outputs back to the host, where that differs."""
    page_faults: float | None = None
    """Minor page faults a call, on the CPU."""
    stream: Stream | None = None
    reference_work: dict[str, float] = msgspec.field(default_factory=dict)
    """Median seconds of each yardstick, interleaved with the case."""
    counters: Counters = Counters()
    threads: int | None = None
    """Threads torch used inside an operator."""
    contention: float | None = None
    """Share of the case's processor time that other processes took while it was timed, 0.5 being half a
    core from each thread. ``None`` where the system does not tell."""
    energy: Energy | None = None
    """``None`` where neither a meter nor a table tells it."""
    concurrent_runs: tuple[ConcurrentRun, ...] = ()
    """Taken where several workers are asked for."""
    notes: tuple[Note, ...] = ()
