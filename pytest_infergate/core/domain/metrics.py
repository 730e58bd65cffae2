"""What can be promised: every metric by name, how it is read off a measurement, how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pytest_infergate.core.domain import energy, instance_types, units
from pytest_infergate.core.domain.measurement import Estimate, Latency, Measurement
from pytest_infergate.core.domain.outcome import Price


class Metric(NamedTuple):
    """A figure that a budget may limit.

    `scale` converts the SI figure that `read` returns into the unit of the metric's name. `percentile`
    is set where the figure is one, so that its need of samples can be stated.
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
    """What a run must have before the figure exists; said where it is missing."""
    dollars: Callable[[Price, float, float | None], float | None] | None = None
    """For what is paid: dollars by price, items a second and demand; ``None`` where the demand is missing."""

    def in_unit(self, value: float) -> float:
        """Convert an SI figure into the unit of the metric's name, whole thousands exactly."""
        return value * self.scale if self.scale >= 1 else value / round(1 / self.scale)

    def shown(self, value: float | None) -> str:
        """Format a value that stands in the unit of the metric's name."""
        return self.show(None if value is None else value / self.scale)


def _latency(p: int) -> Metric:
    def read(measurement: Measurement) -> Estimate:
        estimate: Estimate = getattr(measurement.latency, f"p{p}")
        return estimate

    return Metric(f"p{p}_ms", f"p{p} latency", read, 1e3, units.seconds, timed=True, percentile=p / 100)


def _exact(read: Callable[[Measurement], float | None]) -> Callable[[Measurement], Estimate | None]:
    def estimate(measurement: Measurement) -> Estimate | None:
        value = read(measurement)
        return None if value is None else Estimate(value=value, low=value, high=value)

    return estimate


def _first_item(measurement: Measurement) -> Estimate | None:
    return None if measurement.stream is None else measurement.stream.first_item.p50


def _between_items(measurement: Measurement) -> Estimate | None:
    gaps: Latency | None = None if measurement.stream is None else measurement.stream.between_items
    return None if gaps is None else gaps.p95


def _items_per_second(measurement: Measurement) -> float | None:
    stream = measurement.stream
    return None if stream is None else stream.items / measurement.latency.mean


def _dollars(value: float | None) -> str:
    return units.UNKNOWN if value is None else f"{units.dollars(value)} USD"


def _per_million(price: Price, throughput: float, demand: float | None) -> float:  # noqa: ARG001 - one form
    return instance_types.usd_per_million(price.usd_per_hour, throughput, price.utilisation)


def _per_month(price: Price, throughput: float, demand: float | None) -> float | None:
    if demand is None:
        return None
    return instance_types.usd_per_month(
        price.usd_per_hour, instance_types.instances_for_throughput(demand, throughput, price.utilisation)
    )


def _energy(measurement: Measurement) -> Estimate | None:
    return None if measurement.energy is None else energy.per_item(measurement.energy)


_MODULE = "a torch module: a plain callable hides its weights"
_STREAM = "a generator or iterator as the result of the call"
_PRICE = "a price for the machine"
_DEMAND = "a demand, and a price for the machine"
_ENERGY = "an energy meter that can be read: NVML of NVIDIA's boards, RAPL of processors"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _latency(50),
        _latency(90),
        _latency(95),
        _latency(99),
        Metric("cold_start_ms", "first call", _exact(lambda m: m.cold_start), 1e3, units.seconds, timed=True),
        Metric("peak_memory_mb", "peak memory", _exact(lambda m: m.memory.peak), 1e-6, units.bytes_,
               needs="an allocator that reports its peak"),
        Metric("host_memory_mb", "host memory", _exact(lambda m: m.memory.host_peak), 1e-6, units.bytes_,
               needs="a system that reports peak resident memory"),
        Metric("weights_mb", "weights", _exact(lambda m: m.memory.weights), 1e-6, units.bytes_,
               needs=_MODULE),
        Metric("throughput_per_s", "throughput", _exact(lambda m: m.throughput), 1, units.rate,
               better="higher", timed=True),
        Metric("tokens_per_s", "stream rate", _exact(_items_per_second), 1,
               lambda value: units.rate(value, "tokens"), better="higher", timed=True, needs=_STREAM),
        Metric("ttft_ms", "time to first item", _first_item, 1e3, units.seconds, timed=True, percentile=0.5,
               needs=_STREAM),
        Metric("itl_p95_ms", "time between items", _between_items, 1e3, units.seconds, timed=True,
               percentile=0.95, needs=_STREAM),
        Metric("usd_per_million", "cost per million", None, 1, _dollars, timed=True, needs=_PRICE,
               dollars=_per_million),
        Metric("usd_per_month", "cost per month", None, 1, _dollars, timed=True, needs=_DEMAND,
               dollars=_per_month),
        Metric("joules_per_item", "energy per item", _energy, 1, units.joules, timed=True, needs=_ENERGY),
    )
}  # fmt: skip
"""Every metric that a budget may name, but for counters."""


def _counter(
    name: str,
    words: str,
    show: Callable[[float | None], str],
    needs: str,
    *,
    total: str | None = None,
    scale: float = 1,
) -> Metric:
    def read(measurement: Measurement) -> float | None:
        return measurement.counters.totals.get(total or name)

    return Metric(name, words, _exact(read), scale, show, needs=needs)


_EAGER = "a torch model that is not compiled, whose operators can be counted"
_ALLOCATOR = "an allocator that reports what it hands out"
_COMPILED = "a model under torch.compile"
_PROFILED = "an accelerator whose work torch's profiler sees"

COUNTERS: dict[str, Metric] = {
    counter.name: counter
    for counter in (
        _counter("flops", "FLOPs", units.flops, _EAGER),
        _counter("gflops", "FLOPs", units.flops, _EAGER, total="flops", scale=1e-9),
        _counter("operators", "operators", units.count, _EAGER),
        _counter("host_device_copies", "copies between host and device", units.count, _EAGER),
        _counter("dtype_casts", "casts to another dtype", units.count, _EAGER),
        _counter("graph_breaks", "graph breaks", units.count, _COMPILED),
        _counter("recompiles", "recompilations", units.count, _COMPILED),
        _counter("graphs", "compiled graphs", units.count, _COMPILED),
        _counter("kernel_launches", "kernel launches", units.count, _PROFILED),
        _counter("synchronisations", "synchronisations", units.count, _PROFILED),
        _counter("memcpys", "copies on the device", units.count, _PROFILED),
        _counter("weight_bytes", "weights", units.bytes_, _MODULE),
        _counter("bytes_read", "bytes read", units.bytes_, _EAGER),
        _counter("bytes_written", "bytes written", units.bytes_, _EAGER),
        _counter("allocations", "allocations", units.count, _ALLOCATOR),
        _counter("peak_memory_bytes", "peak memory", units.bytes_, _ALLOCATOR),
        _counter("views", "views", units.count, _EAGER),
    )
}  # fmt: skip
"""The exact counters, each an upper limit in a budget. By these names they stand in files, but for
``gflops``, which is ``flops`` in a handier unit."""


def metric(name: str) -> Metric:
    """Look a metric or counter up by name.

    Raises `KeyError` for a name that is neither.
    """
    if name in METRICS:
        return METRICS[name]
    return COUNTERS[name]


def metric_names() -> tuple[str, ...]:
    """Every name a budget may use, sorted."""
    return tuple(sorted((*METRICS, *COUNTERS)))
