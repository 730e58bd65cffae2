import gc

import pytest

from pytest_infergate.instruments import sampler
from pytest_infergate.instruments.sampler import quiet_collector, sample
from pytest_infergate.testing import FakeDevice


class Model:
    """Calls on a fake device, and what was called in which order."""

    def __init__(self, device, *seconds):
        self.device = device
        self.seconds = seconds or (0.01,)
        self.calls = 0
        self.log = []

    def __call__(self):
        self.log.append("call")
        self.device.spend(self.seconds[self.calls % len(self.seconds)])
        self.calls += 1

    def reference(self, name, seconds=0.001):
        def run():
            self.log.append(name)
            self.device.spend(seconds)

        return run


@pytest.fixture
def device():
    return FakeDevice()


def sampled(model, expected=None, max_seconds=10.0, min_calls=0, reference_work=None):
    return sample(
        model,
        model.device,
        reference_work or {},
        expected if expected is not None else model.seconds[0],
        max_seconds=max_seconds,
        min_calls=min_calls,
    )


def test_a_block_begins_with_every_reference_workload(device):
    model = Model(device, 1.0)
    reference_work = {"one": model.reference("one"), "two": model.reference("two", 0.002)}
    samples = sampled(model, max_seconds=2.5, reference_work=reference_work)
    assert model.log == ["one", "two", "call"] * 3
    assert samples.reference_work == {"one": 0.001, "two": 0.002}
    assert samples.calls == (1.0, 1.0, 1.0)
    assert samples.issued == 3


def test_the_first_call_of_a_block_is_dropped(device):
    # Two calls a block and one more, which the reference workloads made slow.
    model = Model(device, 5.0, 0.0125, 0.0125)
    samples = sampled(model, expected=0.0125, max_seconds=12.0)
    assert samples.calls == (0.0125,) * 6
    assert samples.issued == 9


@pytest.mark.parametrize(("expected", "per_interval"), [(0.1, 1), (0.02, 1), (0.0125, 3), (0.001, 26)])
def test_length_of_a_block(device, expected, per_interval):
    model = Model(device, expected)
    assert sampled(model, max_seconds=0.0).issued == per_interval


def test_a_block_of_tiny_calls_is_bounded(device):
    assert (
        sampled(Model(device, 1e-9), expected=1e-9, max_seconds=0.0).issued
        == sampler.MAX_CALLS_PER_INTERVAL + 1
    )
    assert (
        sampled(Model(device, 0.0), expected=0.0, max_seconds=0.0).issued
        == sampler.MAX_CALLS_PER_INTERVAL + 1
    )


def test_makes_one_block_where_no_time_is_left(device):
    assert len(sampled(Model(device, 9.0), max_seconds=0.0).calls) == 1


def test_stops_once_the_median_is_known(device):
    samples = sampled(Model(device, 0.1))
    # Twenty calls at least. It looks after 1 s and then at 1.25 times the last look: 1.3, 1.7, 2.2 s.
    assert samples.calls == (0.1,) * 22
    assert device.fake_clock.now == 2_200_000_000


def test_goes_on_for_a_second_at_least(device):
    samples = sampled(Model(device, 0.001))
    assert device.fake_clock.now >= 1_000_000_000
    assert device.fake_clock.now <= 1_030_000_000
    assert set(samples.calls) == {0.001}


def test_an_unsteady_median_is_measured_until_the_cap(device):
    model = Model(device, 0.1, 0.2)
    samples = sampled(model, max_seconds=30.0)
    assert 30.0 <= sum(samples.calls) < 30.4


def test_measures_as_many_calls_as_the_budgets_need(device):
    assert len(sampled(Model(device, 0.1), max_seconds=100.0, min_calls=459).calls) >= 459
    assert len(sampled(Model(device, 0.1), max_seconds=10.0, min_calls=459).calls) == 100


@pytest.mark.parametrize("precise", [0.99, 1.01])
def test_both_sides_of_the_precision(device, precise):
    # Most calls alike; the bounds of the median reach a second value on either side of 1 %.
    low, high = 0.1, 0.1 * (1 + sampler.MEDIAN_PRECISION * precise)
    model = Model(device, low, high)
    sampled(model, max_seconds=50.0)
    stopped = device.fake_clock.now < 49 * 10**9
    assert stopped is (precise < 1)


def test_a_call_without_time_ends(device, monkeypatch):
    monkeypatch.setattr(sampler, "MAX_SAMPLES", 5000)
    samples = sampled(Model(device, 0.0), expected=0.0)
    assert len(samples.calls) == 5000


def test_collects_garbage_before_and_not_while_timing(collections):
    assert gc.isenabled()
    with quiet_collector():
        assert not gc.isenabled()
        assert collections == [True]
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with quiet_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_back_after_an_error():
    with pytest.raises(ZeroDivisionError), quiet_collector():
        raise ZeroDivisionError
    assert gc.isenabled()
