"""Every metric by name: how it is read from a measurement, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pytest_infergate.core.domain import energy, instance_types, units
from pytest_infergate.core.domain.load_values import LOAD_BUDGETS
from pytest_infergate.core.domain.measurement import Estimate, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Price


class Metric(NamedTuple):
    """A figure that a budget may limit.

    `scale` converts the SI figure that `read` returns into the unit of the metric's name. `percentile` is set
    for metrics that are percentiles, whose bounds need a number of samples.
    """

    name: str
    text: str
    read: Callable[[Measurement], Estimate | None] | None
    scale: float
    show: Callable[[float | None], str]
    better: Literal["lower", "higher"] = "lower"
    timed: bool = False
    percentile: float | None = None
    needs: str = ""
    """What a run must provide for the figure to exist; part of the message if it does not."""
    dollars: Callable[[Price, float, float | None], float | None] | None = None
    """For costs: dollars from price, items per second and demand; ``None`` if the demand is missing."""

    def in_unit(self, value: float) -> float:
        """Convert an SI figure into the unit of the metric's name."""
        # Dividing by a whole number keeps whole thousands exact; multiplying by 1e-6 does not.
        return value * self.scale if self.scale >= 1 else value / round(1 / self.scale)

    def shown(self, value: float | None) -> str:
        """Format a value that is in the unit of the metric's name."""
        return self.show(None if value is None else value / self.scale)


def _latency(p: int) -> Metric:
    def read(measurement: Measurement) -> Estimate | None:
        estimate: Estimate | None = getattr(measurement.latency, f"p{p}", None)
        return estimate

    return Metric(f"p{p}_ms", f"p{p} latency", read, 1e3, units.seconds, timed=True, percentile=p / 100)


def _exact(read: Callable[[Measurement], float | None]) -> Callable[[Measurement], Estimate | None]:
    def estimate(measurement: Measurement) -> Estimate | None:
        # Exact figures have no noise: both bounds are the figure itself.
        value = read(measurement)
        return None if value is None else Estimate(value=value, low=value, high=value)

    return estimate


def _dollars(value: float | None) -> str:
    return units.UNKNOWN if value is None else f"{units.dollars(value)} USD"


def _per_second(measurement: Measurement, field: str) -> float | None:
    """Return a count of a stream over the time of a call."""
    stream, latency = measurement.stream, measurement.latency
    count: float | None = getattr(stream, field, None)
    return None if count is None or latency is None else count / latency.mean


# What a metric needs completes the sentence "it needs ...".
_WEIGHTS = "a model whose weights can be found: a torch module, or a callable that refers to one"
_STREAM = "a call that returns a generator or iterator, or is given infer.streamer"
_TOKENS = (
    "a stream whose tokens are known: items that are token ids, streamer=infer.streamer in a call of "
    "generate, or TokenCounts among the items"
)
_PRICE = "a price for the machine"
_DEMAND = "a demand, and a price for the machine"
_LOAD = 'a load at which latency is measured, such as load="50/s" in the marker'
_ENERGY = "a readable energy meter: NVML for NVIDIA boards, RAPL for processors"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _latency(50),
        _latency(90),
        _latency(95),
        _latency(99),
        Metric("cold_start_ms", "first call", _exact(lambda m: m.cold_start), 1e3, units.seconds, timed=True),
        Metric("peak_memory_mb", "peak memory", _exact(lambda m: m.memory.peak), 1e-6, units.bytes_,
               needs=f"an allocator that reports its peak, and {_WEIGHTS}"),
        Metric("host_memory_mb", "host memory", _exact(lambda m: m.memory.host_peak), 1e-6, units.bytes_,
               needs="a system that reports peak resident memory"),
        Metric("weights_mb", "weights", _exact(lambda m: m.memory.weights), 1e-6, units.bytes_,
               needs=_WEIGHTS),
        Metric("throughput_per_s", "throughput", _exact(lambda m: m.throughput), 1, units.rate,
               better="higher", timed=True),
        Metric("tokens_per_s", "rate of tokens",
               _exact(lambda m: _per_second(m, "output_tokens")), 1,
               lambda value: units.rate(value, "tokens"), better="higher", timed=True, needs=_TOKENS),
        Metric("items_per_s", "rate of items", _exact(lambda m: _per_second(m, "items")), 1,
               lambda value: units.rate(value, "items"), better="higher", timed=True, needs=_STREAM),
        Metric("ttft_ms", "time to first item",
               lambda m: None if m.stream is None else m.stream.first_item.p50, 1e3, units.seconds,
               timed=True, percentile=0.5, needs=_STREAM),
        Metric("ttft_p95_ms", "p95 time to first item",
               lambda m: None if m.stream is None else m.stream.first_item.p95, 1e3, units.seconds,
               timed=True, percentile=0.95, needs=_STREAM),
        Metric("tpot_ms", "time per output token",
               _exact(lambda m: None if m.stream is None else m.stream.per_token), 1e3, units.seconds,
               timed=True, needs=f"{_TOKENS}, at least two of them"),
        Metric("itl_p95_ms", "time between items",
               lambda m: m.stream.between_items.p95 if m.stream and m.stream.between_items else None,
               1e3, units.seconds, timed=True, percentile=0.95, needs=f"{_STREAM} of at least two items"),
        Metric("usd_per_million", "cost per million", None, 1, _dollars, timed=True, needs=_PRICE,
               dollars=lambda price, throughput, _: instance_types.usd_per_million(
                   price.usd_per_hour, throughput, price.utilisation)),
        Metric("usd_per_month", "cost per month", None, 1, _dollars, timed=True, needs=_DEMAND,
               dollars=lambda price, throughput, demand: None if demand is None else
               instance_types.usd_per_month(
                   price.usd_per_hour,
                   instance_types.instances_for_throughput(demand, throughput, price.utilisation))),
        Metric("load_p95_ms", "p95 latency under load", lambda m: None if m.load is None else m.load.p95, 1e3,
               units.seconds, timed=True, percentile=0.95, needs=_LOAD),
        Metric("load_p99_ms", "p99 latency under load", lambda m: None if m.load is None else m.load.p99, 1e3,
               units.seconds, timed=True, percentile=0.99, needs=_LOAD),
        Metric("goodput_per_s", "goodput under load",
               _exact(lambda m: None if m.load is None else m.load.goodput), 1,
               lambda value: units.rate(value, "requests"), better="higher", timed=True,
               needs=f"{_LOAD}, and a latency limit: a budget load_p95_ms or load_p99_ms"),
        Metric("joules_per_item", "energy per item",
               lambda m: None if m.energy is None else energy.per_item(m.energy), 1, units.joules,
               timed=True, needs=_ENERGY),
    )
}  # fmt: skip
"""Every metric of a budget that is not a counter."""
ANSWER_TIMES = frozenset(METRICS) - {
    "peak_memory_mb", "host_memory_mb", "weights_mb", "usd_per_million", "usd_per_month", "joules_per_item",
    *LOAD_BUDGETS,
}  # fmt: skip
"""Metrics that the client of a server can measure: times and rates of answers."""
STREAM_PERCENTILES: dict[str, Literal["first_item", "between_items"]] = {
    "ttft_ms": "first_item", "ttft_p95_ms": "first_item", "itl_p95_ms": "between_items",
}  # fmt: skip
"""Metrics that are percentiles of a field of `Stream`."""


def _counter(
    name: str,
    text: str,
    show: Callable[[float | None], str],
    needs: str,
    *,
    total: str | None = None,
    scale: float = 1,
) -> Metric:
    def read(measurement: Measurement) -> Estimate | None:
        counters, key = measurement.counters, total or name
        # The counter also shows changes of the activations alone, which are no peak.
        if key == "peak_memory_bytes" and measurement.memory.peak is None:
            return None
        if key in counters.at_least:
            return Estimate(value=counters.at_least[key], low=counters.at_least[key])
        value = counters.totals.get(key)
        if value is None:
            return None
        partial = key == "flops" and any(note.code == NoteCode.FLOPS_UNCOVERED for note in measurement.notes)
        return Estimate(value=value, low=value, high=None if partial else value)

    return Metric(name, text, read, scale, show, needs=needs)


_EAGER = "a torch model without torch.compile, whose operators can be counted"
_FLOPS = f"{_EAGER}, each with a formula for its FLOPs"
_ALLOCATOR = "an allocator that reports its allocations"
_PYTHON = "a call without torch.compile and without new threads, of at most 5 million bytecodes"
_COMPILED = "a model under torch.compile"
_PROFILED = "an accelerator that torch's profiler can observe"

COUNTERS: dict[str, Metric] = {
    counter.name: counter
    for counter in (
        _counter("flops", "FLOPs", units.flops, _FLOPS),
        # A budget in 10^9 operations is easier to read than one in single operations.
        _counter("gflops", "FLOPs", units.flops, _FLOPS, total="flops", scale=1e-9),
        _counter("operators", "operators", units.count, _EAGER),
        _counter("host_device_copies", "copies between host and device", units.count, _EAGER),
        _counter("dtype_casts", "casts to another dtype", units.count, _EAGER),
        _counter("graph_breaks", "graph breaks", units.count, _COMPILED),
        _counter("recompiles", "recompilations", units.count, _COMPILED),
        _counter("graphs", "compiled graphs", units.count, _COMPILED),
        _counter("kernel_launches", "kernel launches", units.count, _PROFILED),
        _counter("synchronisations", "synchronisations", units.count, _PROFILED),
        _counter("memcpys", "copies on the device", units.count, _PROFILED),
        _counter("weight_bytes", "weights", units.bytes_, _WEIGHTS),
        _counter("bytes_read", "bytes read", units.bytes_, _EAGER),
        _counter("bytes_written", "bytes written", units.bytes_, _EAGER),
        _counter("allocations", "allocations", units.count, _ALLOCATOR),
        _counter("peak_memory_bytes", "peak memory", units.bytes_, f"{_ALLOCATOR}, and {_WEIGHTS}"),
        _counter("views", "views", units.count, _EAGER),
        _counter("python_calls", "calls of Python functions", units.count, _PYTHON),
        _counter("bytecodes", "Python bytecodes", units.count, _PYTHON),
    )
}  # fmt: skip
"""The exact counters; a budget limits them from above. Files use these names, except for ``gflops``, which is
``flops`` in a more convenient unit."""


def metric(name: str) -> Metric:
    """Return a metric or counter by name.

    Raises `KeyError` for an unknown name.
    """
    # No name is in both tables; `metric_names` would list it twice.
    if name in METRICS:
        return METRICS[name]
    return COUNTERS[name]


def metric_names() -> tuple[str, ...]:
    """Return every name that a budget may use, sorted."""
    return tuple(sorted((*METRICS, *COUNTERS)))
