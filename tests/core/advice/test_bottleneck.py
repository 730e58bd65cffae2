import math

import pytest
from core_values import case, latency, measurement, result

from pytest_infergate.core.advice.bottleneck import bottleneck
from pytest_infergate.core.domain.measurement import Counters, Peaks
from pytest_infergate.core.domain.outcome import Outcome

# 1 TFLOP/s and 100 GB/s: the ridge is at 10 FLOP a byte.
PEAKS = Peaks(flops={"float32": 1e12, "float16": 8e12}, bandwidth=1e11)


def found(p50=0.010, *, flops=None, moved=None, peaks=PEAKS, weights=None, totals=None, of=None, **figures):
    """What holds a case of so many FLOPs and bytes back; half of the bytes are read."""
    counted = dict(totals or {})
    if flops is not None:
        counted["flops"] = flops
    if moved is not None:
        counted |= {"bytes_read": moved // 2, "bytes_written": moved - moved // 2}
    weights = {"float32": 1000, "int64": 8} if weights is None else weights
    measured = measurement(p50, counters=Counters(totals=counted, weights=weights), **figures)
    return bottleneck(result(measurement=measured, peaks=peaks, of=of))


# Roofline


def test_above_the_ridge_arithmetic_is_the_limit(snapshot):
    # 6 GFLOP in 10 ms are 600 GFLOP/s; 100 MB are 10 GB/s.
    taken = found(flops=6_000_000_000, moved=100_000_000)
    assert taken.kind == "compute"
    assert taken.evidence == snapshot
    assert (taken.intensity, taken.ridge) == (60.0, 10.0)
    assert (taken.attained_flops, taken.attained_bandwidth) == (pytest.approx(6e11), pytest.approx(1e10))


def test_below_the_ridge_memory_is_the_limit(snapshot):
    taken = found(flops=500_000_000, moved=500_000_000)
    assert taken.kind == "memory"
    assert taken.evidence == snapshot


def test_at_the_ridge_it_is_arithmetic():
    assert found(flops=5_000_000_000, moved=500_000_000).kind == "compute"


def test_without_arithmetic_memory_is_the_limit():
    assert found(flops=0, moved=500_000_000).kind == "memory"


def test_more_than_the_peak_comes_from_the_caches(snapshot):
    taken = found(flops=1_000_000_000, moved=2_000_000_000)
    assert taken.evidence == snapshot


def test_the_peak_itself_needs_no_caches():
    taken = found(flops=1_000_000_000, moved=1_000_000_000)
    assert taken.attained_bandwidth == PEAKS.bandwidth
    assert "caches" not in taken.evidence


def test_far_from_both_peaks_neither_is_the_limit():
    # A tenth of a peak is near: 1 GFLOP or 100 MB in 10 ms.
    for flops, moved, kind in [
        (50_000_000, 10_000_000, None),
        (500_000_000, 10_000_000, None),
        (999_000_000, 99_000_000, None),
        (1_000_000_000, 99_000_000, "compute"),
        (900_000_000, 100_000_000, "memory"),
    ]:
        taken = found(flops=flops, moved=moved, totals={"operators": 100})
        assert (None if taken is None else taken.kind) == kind, (flops, moved)


def test_without_weights_the_default_dtype_gives_the_peak():
    """A model without weights, or a function that hides them, computes in float32 unless it is said to differ."""
    for weights in ({}, {"float32": 8}):
        taken = found(flops=6_000_000_000, moved=100_000_000, weights=weights)
        assert (taken.kind, taken.ridge) == ("compute", 10.0)
        assert ("float32" in taken.evidence) == (not weights)
    stated = found(flops=6_000_000_000, moved=100_000_000, weights={}, of=case(dtype="float16"))
    assert stated is None or "unknown" not in stated.evidence


def test_the_peak_is_that_of_the_case_s_dtype():
    assert found(flops=6_000_000_000, moved=100_000_000, of=case(dtype="float16")).ridge == 80.0


def test_or_that_of_most_of_the_weights():
    assert found(flops=6_000_000_000, moved=100_000_000, weights={"float32": 8, "float16": 9}).ridge == 80.0


# Launches


def test_a_device_that_waits_for_the_host(snapshot):
    taken = found(enqueue=0.0082, device_time=0.003, flops=6_000_000_000, moved=100_000_000)
    assert taken.kind == "launch"
    assert taken.evidence == snapshot
    assert taken.intensity == 60.0


def test_a_device_that_is_busy_does_not_wait():
    for enqueue, device_time, kind in [
        (0.0071, 0.0079, "launch"),
        (0.0069, 0.0030, "compute"),
        (0.0099, 0.0081, "compute"),  # a call that waits for its own work
        (0.0010, 0.0099, "compute"),
        (0.0010, None, "compute"),
    ]:
        taken = found(enqueue=enqueue, device_time=device_time, flops=6_000_000_000, moved=100_000_000)
        assert taken.kind == kind, (enqueue, device_time, kind)


def test_a_busy_host_with_a_device_that_cannot_be_observed_is_no_evidence():
    assert found(enqueue=0.0099, flops=6_000_000_000, moved=100_000_000) is None


def test_launches_need_neither_counters_nor_peaks():
    taken = found(enqueue=0.009, device_time=0.001, peaks=None)
    assert (taken.kind, taken.intensity, taken.ridge) == ("launch", None, None)


# Copies between host and device


def test_copies_that_take_a_third(snapshot):
    taken = found(enqueue=0.001, device_time=0.009, host_to_host=0.020, peaks=None)
    assert taken.kind == "transfer"
    assert taken.evidence == snapshot


def test_copies_that_take_less():
    for host_to_host, kind in [
        (0.0142, "compute"),
        (0.0144, "transfer"),
        (0.009, "compute"),
        (0.0, "compute"),
    ]:
        taken = found(host_to_host=host_to_host, enqueue=0.001, flops=6_000_000_000, moved=100_000_000)
        assert taken.kind == kind, (host_to_host, kind)


def test_copies_are_seen_beside_a_busy_host():
    assert found(enqueue=0.0099, host_to_host=0.030).kind == "transfer"


def test_launches_come_before_copies():
    assert found(enqueue=0.009, device_time=0.001, host_to_host=0.030).kind == "launch"


# Overhead on a CPU


def test_many_operators_that_do_little(snapshot):
    taken = found(0.00162, flops=1_620_000, moved=1_620_000, totals={"operators": 180})
    assert taken.kind == "launch"
    assert taken.evidence == snapshot


def test_operators_that_take_their_time_or_reach_something():
    for operators, moved, kind in [
        (501, 10_000_000, "launch"),
        (500, 10_000_000, None),  # 20 µs each
        (501, 100_000_000, "memory"),  # a tenth of the bandwidth
        (0, 10_000_000, None),
    ]:
        taken = found(0.010, flops=1_000_000, moved=moved, totals={"operators": operators})
        assert (None if taken is None else taken.kind) == kind, (operators, moved)


def test_tiny_operators_on_an_accelerator_are_recognised_by_the_host_alone():
    assert (
        found(enqueue=0.001, device_time=0.009, flops=1_000, moved=1_000, totals={"operators": 5000}) is None
    )


# Nothing to go by


def test_without_evidence_nothing_is_said():
    near = {"flops": 6_000_000_000, "moved": 100_000_000}
    for missing in [
        {"peaks": None, **near},
        {"flops": 6_000_000_000},
        {"moved": 100_000_000},
        {"flops": 6_000_000_000, "moved": 0},
        {**near, "weights": {"int8": 100}},
        {**near, "peaks": Peaks(bandwidth=1e11)},
        {**near, "peaks": Peaks(flops={"float32": 1e12}, bandwidth=0.0)},
        {**near, "peaks": Peaks(flops={"float32": math.nan}, bandwidth=1e11)},
        {**near, "p50": 0.0},
        {**near, "p50": math.nan},
        {"enqueue": math.nan, "device_time": 0.001},
        {"host_to_host": math.nan},
    ]:
        assert found(**missing) is None, missing


def test_what_was_not_measured_has_no_bottleneck():
    for outcome in [Outcome.SKIPPED, Outcome.FAILED, Outcome.INFEASIBLE]:
        assert bottleneck(result(outcome)) is None, outcome


def test_an_invalid_measurement_says_nothing():
    measured = measurement(latency=latency(0.010), enqueue=0.009, device_time=0.001)
    assert bottleneck(result(measurement=measured)).kind == "launch"
    assert bottleneck(result(Outcome.INVALID, measurement=measured)) is None
