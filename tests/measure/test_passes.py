"""The passes beside the sampling, on a fake clock. Their place in a case is tested with the case."""

import pytest

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import CallOrder
from pytest_infergate.instruments.sampler import Samples
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure.passes import (
    asynchronous_times,
    call_order,
    calls_per_second,
)
from pytest_infergate.testing import FakeDevice


@pytest.fixture
def device():
    return FakeDevice()


@pytest.fixture
def accelerator():
    return FakeDevice("accel", asynchronous=True, enqueue=0.001)


def test_the_device_is_synchronised_once_for_all_calls(device, accelerator):
    assert calls_per_second(RepeatedCall(lambda: device.spend(0.01)), device, 10) == pytest.approx(100)
    # Ten calls are queued in 10 ms, and work for 100 ms after the first was queued.
    rate = calls_per_second(RepeatedCall(lambda: accelerator.spend(0.01)), accelerator, 10)
    assert rate == pytest.approx(10 / 0.101)


def test_calls_without_time_have_a_finite_rate(device):
    assert calls_per_second(RepeatedCall(lambda: None), device, 3) == 3e9


def test_an_asynchronous_call_has_a_time_to_enqueue_and_one_on_the_device(accelerator):
    times = asynchronous_times(RepeatedCall(lambda: accelerator.spend(0.01)), accelerator, 5, 2)
    assert times.enqueue == pytest.approx(0.001)
    assert times.device_time == pytest.approx(0.011)
    assert [total["kernel_launches"] for total in times.totals] == [1, 1]
    assert (times.invalid, times.unobserved) == (None, False)


def test_a_call_without_kernels_is_invalid_and_an_unobserved_one_is_not(accelerator, monkeypatch):
    assert asynchronous_times(RepeatedCall(lambda: None), accelerator, 1, 1).invalid.code == "no-kernel"
    monkeypatch.setattr(accelerator, "work", lambda call: None)
    times = asynchronous_times(RepeatedCall(lambda: accelerator.spend(0.01)), accelerator, 1, 3)
    assert (times.invalid, times.device_time, times.totals, times.unobserved) == (None, None, (), True)


def test_a_latency_is_the_same_in_any_order():
    times = (0.3, 0.1, 0.2)
    latency = latency_of(times)
    assert latency == latency_of(tuple(sorted(times)))
    assert (latency.count, latency.mean, latency.p50.value) == (3, pytest.approx(0.2), 0.2)
    assert (latency.percentiles[0], latency.percentiles[100]) == (0.1, 0.3)


def test_calls_keep_their_order_in_at_most_4096_values():
    few = Samples((0.123456, 0.2, 0.1), 3, {}, seconds=0.5)
    assert call_order(few, 1.1) == CallOrder(seconds=(0.1235, 0.2, 0.1), run=3, span=0.5, paced=1.1)
    many = call_order(Samples(tuple(range(1, 10_001)), 10_000, {}), None)
    assert (len(many.seconds), many.run) == (4096, 512)
    runs = [many.seconds[start : start + 512] for start in range(0, 4096, 512)]
    assert all(run == tuple(range(int(run[0]), int(run[0]) + 512)) for run in runs if run[0] < 9000)
    assert [run[0] for run in runs] == [1.0, 1356.0, 2712.0, 4067.0, 5423.0, 6778.0, 8134.0, 9489.0]
    assert many.seconds[-1] == 10_000


def test_percentiles_beyond_p99_hold_a_rare_tail():
    calls = tuple(0.240 if number % 300 == 0 else 0.020 for number in range(3000))
    latency = latency_of(calls, tail=True)
    assert (latency.p99.value, latency.p995.value, latency.p999.value) == (0.020, 0.020, 0.240)
    assert latency_of(calls).p999 is None
