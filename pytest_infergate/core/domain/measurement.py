"""The measurement of a case: latency, throughput, memory, energy and exact counters. All units are SI."""

from __future__ import annotations

from typing import Final

import msgspec

from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.values import Note, Struct

CONTENDED: Final = 0.05
"""Share of a case's processor time that others take from which on the spread between launches is taken to be
wider, and times of different runtimes are not compared."""


class Estimate(Struct, frozen=True, kw_only=True):
    """A figure with one-sided 99 % bounds; a bound is ``None`` if there are too few samples for it."""

    value: float
    low: float | None = None
    high: float | None = None


class Latency(Struct, frozen=True, kw_only=True):
    """Wall time of one call in seconds, with the device synchronised before and after it."""

    count: int
    mean: float
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate
    # Reports draw the distribution from them, and advice draws service times.
    percentiles: tuple[float, ...] = ()
    """The 0th to the 100th percentile: 101 values."""
    # 101 percentiles cannot hold a tail of less than a hundredth of the calls.
    p995: Estimate | None = None
    """The 99.5th percentile; ``None`` unless the tail was asked for."""
    p999: Estimate | None = None
    """The 99.9th percentile; ``None`` unless the tail was asked for."""

    def seen(self, percentile: int) -> float | None:
        """Return a high percentile in seconds; ``None`` if so few calls have none that exceeds it.

        The 95th needs 20 calls, the 99th 100.
        """
        return None if self.count * (100 - percentile) < 100 else getattr(self, f"p{percentile}").value  # noqa: PLR2004


class Memory(Struct, frozen=True, kw_only=True):
    """Memory of one call, in bytes."""

    weights: int | None = None
    """What the model holds in tensors; ``None`` if it is unknown."""
    activations: int | None = None
    """Peak of the allocator during one call, above its level before the call."""
    reserved: int | None = None
    """Peak that the allocator of an accelerator reserved on the device."""
    host_peak: int | None = None
    """Peak resident memory of the test process during the case, libraries included."""

    @property
    def peak(self) -> int | None:
        """Memory that the model needs on the device: peak of one call, and the weights."""
        # One of them alone would pass for the peak.
        return None if self.activations is None or self.weights is None else self.activations + self.weights


class Stream(Struct, frozen=True, kw_only=True):
    """Times of a result that arrives item by item, in seconds."""

    items: float
    """Mean number of items of a call."""
    first_item: Latency
    between_items: Latency | None = None
    """``None`` if a call yields a single item."""
    prompt_tokens: float | None = None
    """Mean number of tokens in the prompts of a call; ``None`` if it is unknown."""
    output_tokens: float | None = None
    """Mean number of tokens that a call yields for all items of its batch; ``None`` if it is unknown."""
    per_token: float | None = None
    """Mean time per output token after the first one (TPOT); ``None`` if the tokens are unknown."""
    growth: float | None = None
    """Time between items in the last quarter of a call over that in the first; ``None`` for short calls."""


class Energy(Struct, frozen=True, kw_only=True):
    """Energy of one call, metered while calls were issued back to back."""

    joules: float
    """Energy of the board or package in the window, idle power included, divided by its calls."""
    source: str
    """``nvml``, ``rapl`` or ``estimate``."""
    scope: str
    """Hardware that the figure covers: ``board``, ``package``, or ``vcpus`` for an estimate."""
    seconds: float
    """Length of the window; for an estimate, total time of the timed calls."""
    calls: int
    """Number of calls in the window."""
    batch_size: int = 1
    idle_watts: float | None = None
    """Power of the same board or package right after the window, with the model loaded."""

    @property
    def estimated(self) -> bool:
        """Whether the figure is an estimate instead of a measurement."""
        return self.source == "estimate"


class Peaks(Struct, frozen=True, kw_only=True):
    """The performance that a device reached on suitable work, with the threads of the case."""

    flops: dict[str, float] = msgspec.field(default_factory=dict)
    """Floating point operations per second of a large matrix product, by dtype."""
    bandwidth: float
    """Bytes per second of a large copy, counting both bytes read and bytes written."""


class ConcurrentRun(Struct, frozen=True, kw_only=True):
    """Throughput and call times of several processes that run the same model at once on one machine."""

    workers: int
    throughput: float
    """Items per second of all workers together."""
    calls: int
    """Number of timed calls of all workers."""
    mean: float
    """Seconds of a call."""
    percentiles: tuple[float, ...]
    """The 0th to the 100th percentile of the seconds of a call, averaged over the workers: 101 values."""
    threads: int | None = None
    """Threads that torch used inside an operator in each worker."""


class CallOrder(Struct, frozen=True, kw_only=True):
    """Sampled calls in the order in which they were made, for the simulation of a server."""

    seconds: tuple[float, ...]
    """Of many calls, runs of successive ones at equal distances."""
    run: int
    """Number of successive calls of a run."""
    span: float
    """Seconds that the sampling took."""
    paced: float | None = None
    """Time of calls that are spaced as at 30 % load over that of calls back to back; ``None`` if it was not
    measured."""


class WarmUp(Struct, frozen=True, kw_only=True):
    """Calls and time that were needed to reach the steady state."""

    calls: int
    seconds: float
    steady: bool


class OperatorWork(Struct, frozen=True, kw_only=True, order=True):
    """The work of one operator in one place of a model during one call."""

    operator: str
    """Name in torch's dispatcher without its overload: ``aten::addmm``."""
    place: str = ""
    """Module path: ``encoder.layer.3.attention``. Places with equal work share one row, for example
    ``encoder.layer.{0-11}``, whose figures are those of each place. Empty outside of any module."""
    calls: int
    flops: int = 0
    """Floating point operations; a multiplication and an addition count as two."""
    bytes: int = 0
    """Bytes read and written."""


class Counters(Struct, frozen=True, kw_only=True):
    """Exact figures of one call, counted in separate passes that are never timed."""

    totals: dict[str, int] = msgspec.field(default_factory=dict)
    """By the name of the counter, see `metrics.COUNTERS`."""
    weights: dict[str, int] = msgspec.field(default_factory=dict)
    """Bytes of the weights, by dtype."""
    operators: tuple[OperatorWork, ...] = ()
    architecture: str = ""
    """Instruction set or GPU architecture by which torch chooses its kernels."""
    python: str = ""
    """Minor version of the Python whose bytecodes are counted: ``3.11``; empty before they were counted."""
    at_least: dict[str, int] = msgspec.field(default_factory=dict)
    """Lower bounds of counters that are not among the totals, because their count ended at a limit."""
    # Such counters are recorded as varying and are not gated: they would fail without a change of the code.
    varying: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Smallest and largest value of totals that repetitions did not agree on; empty without repetitions."""
    counted: bool = True
    """False if there was no time to count everything."""


class Contention(Struct, frozen=True, kw_only=True):
    """What other processes took of the processor time during a part of a case; ``None`` if it is unknown."""

    share: float | None = None
    """Share of the processor time that was available to the case."""
    left: float | None = None
    """Share of the time in which a thread of this process did not wait for a processor."""


class LoadFigures(Struct, frozen=True, kw_only=True):
    """A model served under load by a batching server in the test process. Latencies are in seconds.

    A query is a request, or in the multi-stream scenario several that arrive together. Its latency lasts from
    its arrival to its last answer.
    """

    load: Load
    seconds: float
    """From the first arrival to the last answer, and at least the time for which requests arrive."""
    queries: int
    """Queries that arrived."""
    answered: int
    """Queries that were answered. The latency of each other one is longer than the one that is known."""
    requests: int
    """Requests that were answered."""
    p50: Estimate | None = None
    """``None`` in the offline scenario, like all latencies. Bounds allow for slow phases of the test."""
    p95: Estimate | None = None
    p99: Estimate | None = None
    limit: float | None = None
    """Latency that a good answer keeps: the shorter limit of the budgets."""
    within: int | None = None
    """Queries that were answered within the limit."""
    max_batch: int
    """Requests of a batch at most."""
    mean_batch: float
    busy: float
    """Share of the time in which the model ran."""
    longest_queue: int
    """Requests that waited at most when a batch was taken."""
    contention: Contention = Contention()
    predicted_p95: float | None = None
    """As simulated at this rate from the times of calls; ``None`` if they do not allow it."""
    predicted_slow_p95: float | None = None
    """The same with calls as slow as another launch may make them; ``None`` if the queue would not end."""

    @property
    def rate(self) -> float:
        """Requests per second that were answered."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def goodput(self) -> float | None:
        """Queries per second that were answered within the limit; ``None`` without one."""
        return None if self.within is None or self.seconds <= 0 else self.within / self.seconds


class Conversion(Struct, frozen=True, kw_only=True):
    """What it took to convert a model for a runtime before its first call. Times are in seconds."""

    export: float
    """Time of torch.export."""
    build: float
    """Time in which the exported program became the files of the runtime, when they were made."""
    load: float
    """Time in which the runtime loaded the files."""
    size: int
    """Bytes of the files."""
    cached: bool = False
    """Whether files of an earlier run were used."""


class Parity(Struct, frozen=True, kw_only=True):
    """The output of a case beside that of the reference: the same call, eager on the CPU."""

    error: float | None = None
    """Largest difference of two floating values as a share of the largest one of their tensor in the
    reference; ``None`` without such values."""
    cosine: float | None = None
    """Cosine between all floating values of both sides."""
    same_top: float | None = None
    """Share of the rows of the first tensor with columns whose largest value is in the same column."""
    difference: str | None = None
    """How the output differs beyond its tolerance; ``None`` if it agrees."""
    uncompared: tuple[str, ...] = ()
    """Places of the output that were not compared."""
    first_module: str | None = None
    """Path of the first module whose output differs beyond the tolerance; ``None`` if none is known."""


class Accuracy(Struct, frozen=True, kw_only=True):
    """What the function of `accuracy` returned for a case, and for the reference."""

    name: str
    """Name of the function."""
    value: float
    """More is better."""
    reference: float | None = None
    """That of eager PyTorch on the CPU; ``None`` for the reference itself, and if it is unknown."""
    tolerance: float = 0.01
    """How much less than that of the reference it may be."""

    @property
    def too_low(self) -> bool:
        """Whether it is less than that of the reference by more than the tolerance."""
        if self.reference is None:
            return False
        # 0.9 - 0.89 is more than 0.01.
        rounding = 1e-9 * max(abs(self.reference), abs(self.value))
        return not self.reference - self.value <= self.tolerance + rounding


class Measurement(Struct, frozen=True, kw_only=True):
    """Everything measured of one case on one machine in one process launch. Times are in seconds."""

    latency: Latency | None = None
    """``None``, like all times, in a run that takes counters only."""
    throughput: float | None = None
    """Items per second of calls issued back to back with one synchronisation at the end."""
    cold_start: float | None = None
    """Time of the first call in this process."""
    warm_up: WarmUp | None = None
    time_limit: float | None = None
    """Time limit of the case."""
    memory: Memory = Memory()
    enqueue: float | None = None
    """Median time until the call returns on an accelerator, which may still be working then."""
    device_time: float | None = None
    """Sum of the kernel durations of one call on an accelerator."""
    host_to_host: float | None = None
    """Median with inputs copied to the device and outputs copied back, on devices that need copies."""
    page_faults: float | None = None
    """Minor page faults per call on the CPU."""
    stream: Stream | None = None
    reference_work: dict[str, float] = msgspec.field(default_factory=dict)
    """Median seconds of each reference workload, which is interleaved with the case."""
    # Counted in passes of their own, because counting slows each operator down.
    counters: Counters = Counters()
    threads: int | None = None
    """Threads that torch used inside an operator."""
    contention: float | None = None
    """CPU contention: share of the processor time available to the case that other processes took while it
    was timed; 0.5 is half a core per thread. ``None`` if the system does not report it."""
    undisturbed: float | None = None
    """Mean time of a call without the time that the threads of this process waited for a processor; 0 if they
    waited for all of it. ``None`` if the system does not report it."""
    first_call: Contention = Contention()
    """CPU contention during the first call."""
    later_passes: Contention = Contention()
    """CPU contention after the sampling, in the passes for throughput, items of streams and energy."""
    # Measured only on request: a window takes seconds of calls and of rest.
    energy: Energy | None = None
    """``None`` if there is neither a meter nor an estimate for the processor."""
    concurrent_runs: tuple[ConcurrentRun, ...] = ()
    """One for each number of workers that the user requests."""
    # Only with a demand or a latency budget on p95 or p99, because it is as large as all other figures.
    call_order: CallOrder | None = None
    load: LoadFigures | None = None
    """``None`` unless the model was served under load."""
    parity: Parity | None = None
    accuracy: Accuracy | None = None
    """``None`` for the reference itself, and where it was not compared."""
    conversion: Conversion | None = None
    """``None`` unless the runtime executes files that are made of the model."""
    notes: tuple[Note, ...] = ()

    @property
    def call_times(self) -> Latency:
        """The latency of a case that was timed. Raises `ValueError` for one that was only counted."""
        if self.latency is None:
            raise ValueError("a measurement must have times, got counters only")
        return self.latency
