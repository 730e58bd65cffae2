import pytest
from core_values import counted, exact, latency, measurement

from pytest_infergate.core.domain import metrics
from pytest_infergate.core.domain.measurement import Energy, Estimate, Memory, Stream
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.core.domain.spelling import did_you_mean
from pytest_infergate.core.domain.values import Note

# Every budget that the design promises.
UPPER = [
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "cold_start_ms",
    "peak_memory_mb",
    "host_memory_mb",
    "weights_mb",
    "usd_per_million",
    "usd_per_month",
    "joules_per_item",
    "ttft_ms",
    "ttft_p95_ms",
    "itl_p95_ms",
    "tpot_ms",
    "gflops",
    "graph_breaks",
]
LOWER = ["throughput_per_s", "tokens_per_s", "items_per_s"]

COUNTED = counted(
    flops=35_100_000_000,
    operators=12_345,
    host_device_copies=0,
    dtype_casts=1,
    graph_breaks=2,
    recompiles=3,
    graphs=4,
    kernel_launches=1000,
    synchronisations=5,
    memcpys=6,
    weight_bytes=40_000_000,
    python_calls=20,
    bytecodes=3000,
    bytes_read=999,
    bytes_written=164_000,
    allocations=7,
    peak_memory_bytes=48_000_000,
    views=8,
)
STREAM = Stream(
    items=20, first_item=latency(0.003), between_items=latency(0.0004), output_tokens=30, per_token=0.0003
)


def test_upper_limits():
    for name in UPPER:
        assert metrics.metric(name).better == "lower", name
        assert name in metrics.metric_names(), name


def test_lower_limits():
    for name in LOWER:
        assert metrics.metric(name).better == "higher", name
        assert name in metrics.metric_names(), name


def test_reading_and_showing():
    for name, value, shown in [
        ("p50_ms", 10.0, "10.0 ms"),
        ("p90_ms", 10.0, "10.0 ms"),
        ("p95_ms", 10.0, "10.0 ms"),
        ("p99_ms", 10.0, "10.0 ms"),
        ("cold_start_ms", 500.0, "500 ms"),
        ("peak_memory_mb", 50.0, "50.0 MB"),
        ("host_memory_mb", 300.0, "300 MB"),
        ("weights_mb", 40.0, "40.0 MB"),
        ("throughput_per_s", 100.0, "100/s"),
        ("tokens_per_s", 3000.0, "3.00k tokens/s"),
        ("items_per_s", 2000.0, "2.00k items/s"),
        ("tpot_ms", 0.3, "300 µs"),
        ("ttft_p95_ms", 3.0, "3.00 ms"),
        ("ttft_ms", 3.0, "3.00 ms"),
        ("itl_p95_ms", 0.4, "400 µs"),
        ("gflops", 35.1, "35.1 GFLOP"),
        ("flops", 35_100_000_000, "35.1 GFLOP"),
        ("operators", 12_345, "12,345"),
        ("host_device_copies", 0, "0"),
        ("dtype_casts", 1, "1"),
        ("graph_breaks", 2, "2"),
        ("recompiles", 3, "3"),
        ("graphs", 4, "4"),
        ("kernel_launches", 1000, "1,000"),
        ("synchronisations", 5, "5"),
        ("memcpys", 6, "6"),
        ("weight_bytes", 40_000_000, "40.0 MB"),
        ("bytes_read", 999, "999 B"),
        ("bytes_written", 164_000, "164 kB"),
        ("allocations", 7, "7"),
        ("peak_memory_bytes", 48_000_000, "48.0 MB"),
        ("views", 8, "8"),
    ]:
        metric = metrics.metric(name)
        measured = measurement(stream=STREAM, counters=COUNTED)
        estimate = metric.read(measured)
        assert estimate.value * metric.scale == pytest.approx(value), (name, value, shown)
        assert metric.shown(value) == shown, (name, value, shown)
        assert metric.shown(None) == "-", (name, value, shown)


def test_what_is_absent_reads_none_and_says_what_it_needs():
    for name in [
        "peak_memory_mb",
        "host_memory_mb",
        "weights_mb",
        "tokens_per_s",
        "items_per_s",
        "tpot_ms",
        "ttft_p95_ms",
        "ttft_ms",
        "itl_p95_ms",
        "joules_per_item",
        *metrics.COUNTERS,
    ]:
        metric = metrics.metric(name)
        assert metric.read(measurement(memory=Memory())) is None, name
        assert metric.needs, name


def test_flops_without_those_of_some_operators_are_a_lower_bound():
    partial = measurement(
        counters=counted(flops=10**9, operators=3), notes=(Note(code="flops-uncovered", text="no formula"),)
    )
    for name in ("flops", "gflops"):
        assert metrics.metric(name).read(partial) == Estimate(value=1e9, low=1e9), name
    assert metrics.metric("operators").read(partial) == exact(3)


def test_a_peak_without_the_weights_is_none():
    activations = measurement(memory=Memory(activations=16_384), counters=counted(peak_memory_bytes=16_384))
    for name in ("peak_memory_mb", "peak_memory_bytes"):
        assert metrics.metric(name).read(activations) is None, name


def test_what_is_paid_hangs_on_price_throughput_and_demand():
    price = Price(usd_per_hour=0.36, utilisation=0.5, source="own")
    million, month = (metrics.metric(name) for name in ("usd_per_million", "usd_per_month"))
    assert (million.read, month.read) == (None, None)
    assert million.dollars(price, 100.0, None) == million.dollars(price, 100.0, 7.0) == pytest.approx(2.0)
    assert month.dollars(price, 100.0, None) is None
    assert month.dollars(price, 100.0, 120.0) == pytest.approx(3 * 0.36 * 730)
    assert (million.shown(None), month.shown(None)) == ("-", "-")


def test_energy_is_that_of_an_item_and_spreads_as_launches_do():
    metric = metrics.metric("joules_per_item")
    taken = Energy(joules=2.0, source="rapl", scope="package", seconds=4.0, calls=100, batch_size=4)
    assert metric.read(measurement(energy=taken)).value == 0.5
    assert metric.timed
    assert metric.shown(None) == "-"


def test_money_and_energy_are_shown_in_their_units():
    assert metrics.metric("usd_per_million").shown(3.0) == "3.00 USD"
    assert metrics.metric("usd_per_month").shown(999.4) == "999 USD"
    assert metrics.metric("usd_per_month").shown(1234567.8) == "1,234,568 USD"
    assert metrics.metric("joules_per_item").shown(0.25) == "250 mJ"


def test_a_counter_is_read_exactly_even_where_it_is_zero():
    estimate = metrics.metric("host_device_copies").read(measurement(counters=counted(host_device_copies=0)))
    assert estimate == exact(0)


def test_every_counter_is_read_above():
    assert set(metrics.COUNTERS) == {*COUNTED.totals, "gflops"}


def test_counters_are_upper_limits_without_noise():
    for name, counter in metrics.COUNTERS.items():
        assert counter.name == name
        assert (counter.better, counter.timed, counter.percentile) == ("lower", False, None)


def test_one_look_up_finds_both_kinds():
    for name in ["p50_ms", "flops"]:
        assert metrics.metric(name).name == name, name


def test_a_stream_of_one_item_has_no_gaps():
    one = Stream(items=1, first_item=latency(0.003))
    assert metrics.metric("itl_p95_ms").read(measurement(stream=one)) is None


def test_items_whose_tokens_are_unknown_are_not_tokens():
    measured = measurement(stream=Stream(items=20, first_item=latency(0.003)))
    assert metrics.metric("items_per_s").read(measured).value == 2000
    assert metrics.metric("tokens_per_s").read(measured) is None
    assert metrics.metric("tpot_ms").read(measured) is None


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError, match="p95"):
        metrics.metric("p95")


def test_nearest_name():
    for name, hint in [("p95", "'p95_ms'"), ("trougput_per_s", "'throughput_per_s'")]:
        assert hint in did_you_mean(name, metrics.metric_names()), name
    assert did_you_mean("zzz", metrics.metric_names()) == ""


def test_names_are_sorted_and_single():
    assert list(metrics.metric_names()) == sorted(set(metrics.metric_names()))
    assert len(metrics.metric_names()) == len(metrics.METRICS) + len(metrics.COUNTERS)
