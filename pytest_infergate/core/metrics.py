"""What can be promised: every metric by name, how it is read off a measurement, how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pytest_infergate.core import units
from pytest_infergate.core.model import Estimate, Latency, Measurement


class Metric(NamedTuple):
    """A figure that a budget may limit.

    `scale` converts the SI figure that `read` returns into the unit of the metric's name. `percentile`
    is set where the figure is one, so that its need of samples can be stated.
    """

    name: str
    words: str
    read: Callable[[Measurement], Estimate | None] | None
    scale: float
    show: Callable[[float | None], str]
    better: Literal["lower", "higher"] = "lower"
    timed: bool = False
    percentile: float | None = None
    needs: str = ""
    """What a run must have before the figure exists; said where it is missing."""

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
    return units.UNKNOWN if value is None else f"{units.significant(value)} USD"


def _joules(value: float | None) -> str:
    return units.UNKNOWN if value is None else f"{units.significant(value)} J"


_STREAM = "a generator or iterator as the result of the call"
_PRICE = "a price for the machine, which this version cannot take yet"
_ENERGY = "an energy reading, which this version cannot take yet"
_COUNTER = "the counter of that name, which this version or a plugin does not take"

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
               needs="a torch module: a plain callable hides its weights"),
        Metric("throughput_per_s", "throughput", _exact(lambda m: m.throughput), 1, units.rate,
               better="higher", timed=True),
        Metric("tokens_per_s", "stream rate", _exact(_items_per_second), 1,
               lambda value: units.rate(value, "tokens"), better="higher", timed=True, needs=_STREAM),
        Metric("ttft_ms", "time to first item", _first_item, 1e3, units.seconds, timed=True, percentile=0.5,
               needs=_STREAM),
        Metric("itl_p95_ms", "time between items", _between_items, 1e3, units.seconds, timed=True,
               percentile=0.95, needs=_STREAM),
        Metric("usd_per_million", "cost per million", None, 1, _dollars, needs=_PRICE),
        Metric("usd_per_month", "cost per month", None, 1, _dollars, needs=_PRICE),
        Metric("joules_per_item", "energy per item", None, 1, _joules, needs=_ENERGY),
    )
}  # fmt: skip
"""Every metric that a budget may name, but for counters."""

COUNTERS = (
    "gflops", "operators", "bytes_read", "bytes_written", "host_device_copies", "dtype_casts", "allocations",
    "graphs", "graph_breaks", "recompiles", "kernel_launches", "synchronisations", "memcpys",
)  # fmt: skip
"""Names of the exact counters, each an upper limit in a budget."""


def metric(name: str) -> Metric:
    """Look a metric or counter up by name.

    Raises `KeyError` for a name that is neither.
    """
    if name in METRICS:
        return METRICS[name]
    if name not in COUNTERS:
        raise KeyError(name)
    return Metric(
        name,
        name.replace("_", " "),
        _exact(lambda measurement: measurement.counters.get(name)),
        1,
        lambda value: units.UNKNOWN if value is None else f"{value:,.6g}",
        needs=_COUNTER,
    )


def names() -> tuple[str, ...]:
    """Every name a budget may use, sorted."""
    return tuple(sorted((*METRICS, *COUNTERS)))
