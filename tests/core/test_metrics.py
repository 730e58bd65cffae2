import pytest
from core_values import latency, measurement

from pytest_infergate.core import metrics
from pytest_infergate.core.model import Memory, Stream
from pytest_infergate.options import nearest

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
    "itl_p95_ms",
    "gflops",
    "graph_breaks",
]
LOWER = ["throughput_per_s", "tokens_per_s"]

STREAM = Stream(items=20, first_item=latency(0.003), between_items=latency(0.0004))


@pytest.mark.parametrize("name", UPPER)
def test_upper_limits(name):
    assert metrics.metric(name).better == "lower"
    assert name in metrics.names()


@pytest.mark.parametrize("name", LOWER)
def test_lower_limits(name):
    assert metrics.metric(name).better == "higher"
    assert name in metrics.names()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("p50_ms", 10.0, "10.0 ms"),
        ("p90_ms", 10.0, "10.0 ms"),
        ("p95_ms", 10.0, "10.0 ms"),
        ("p99_ms", 10.0, "10.0 ms"),
        ("cold_start_ms", 500.0, "500 ms"),
        ("peak_memory_mb", 50.0, "50.0 MB"),
        ("host_memory_mb", 300.0, "300 MB"),
        ("weights_mb", 40.0, "40.0 MB"),
        ("throughput_per_s", 100.0, "100/s"),
        ("tokens_per_s", 2000.0, "2.00k tokens/s"),
        ("ttft_ms", 3.0, "3.00 ms"),
        ("itl_p95_ms", 0.4, "400 µs"),
        ("gflops", 35.1, "35.1"),
    ],
)
def test_reading_and_showing(name, value, shown):
    metric = metrics.metric(name)
    measured = measurement(stream=STREAM, counters={"gflops": 35.1})
    estimate = metric.read(measured)
    assert estimate.value * metric.scale == pytest.approx(value)
    assert metric.shown(value) == shown
    assert metric.shown(None) == "-"


@pytest.mark.parametrize(
    "name",
    [
        "peak_memory_mb",
        "host_memory_mb",
        "weights_mb",
        "tokens_per_s",
        "ttft_ms",
        "itl_p95_ms",
        "gflops",
        "graph_breaks",
    ],
)
def test_what_is_absent_reads_none_and_says_what_it_needs(name):
    metric = metrics.metric(name)
    assert metric.read(measurement(memory=Memory())) is None
    assert metric.needs


@pytest.mark.parametrize("name", ["usd_per_million", "usd_per_month", "joules_per_item"])
def test_what_no_version_reads_yet(name):
    metric = metrics.metric(name)
    assert metric.read is None
    assert "cannot take yet" in metric.needs
    assert metric.shown(None) == "-"


def test_money_and_energy_are_shown_in_their_units():
    assert metrics.metric("usd_per_million").shown(3.0) == "3.00 USD"
    assert metrics.metric("joules_per_item").shown(0.25) == "0.250 J"


def test_a_stream_of_one_item_has_no_gaps():
    one = Stream(items=1, first_item=latency(0.003))
    assert metrics.metric("itl_p95_ms").read(measurement(stream=one)) is None


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError, match="p95"):
        metrics.metric("p95")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("p95", "did you mean 'p95_ms'?"), ("trougput_per_s", "did you mean 'throughput_per_s'?"), ("zzz", "")],
)
def test_nearest_name(name, hint):
    assert nearest(name, metrics.names()) == (f"; {hint}" if hint else "")


def test_names_are_sorted_and_single():
    assert list(metrics.names()) == sorted(set(metrics.names()))
