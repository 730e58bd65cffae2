import pytest

from pytest_infergate.instruments.timed_calls import RepeatedCall, time_calls, timed, timed_synchronised
from pytest_infergate.testing import FakeClock, FakeDevice


def test_times_each_call():
    clock = FakeClock()
    seconds = iter([0.25, 0.5, 1.0])
    times = [-1] * 3
    timed(lambda: clock.advance(next(seconds)), clock, times)
    assert times == [250_000_000, 500_000_000, 1_000_000_000]


def test_an_asynchronous_call_is_timed_until_its_work_is_done():
    device = FakeDevice(asynchronous=True, enqueue=0.001)
    device.spend(5.0)  # still going on when timing begins
    times = [-1] * 3
    timed_synchronised(lambda: device.spend(0.5), device.clock, device.synchronize, times)
    assert times == [501_000_000] * 3


@pytest.mark.parametrize("wrap", [lambda call: call, RepeatedCall])
def test_time_calls_picks_by_device(wrap):
    for asynchronous in (False, True):
        device = FakeDevice(asynchronous=asynchronous, enqueue=0.0)
        assert time_calls(wrap(lambda: device.spend(0.5)), device, 2) == [0.5, 0.5]  # noqa: B023


class Basket:
    """Arguments that the call empties, and that take a second to fill again."""

    def __init__(self, device, items=1):
        self.device, self.items, self.full = device, items, items
        self.changing = False
        self.settled = 0

    def settle(self):
        self.settled += 1
        known = self.changing or self.items == self.full
        self.changing = self.changing or not known
        self.renew()
        return known

    def renew(self):
        if self.items != self.full:
            self.device.spend(1.0)
        self.items = self.full


def taking(device, basket):
    def call():
        basket.items -= 1
        assert basket.items >= 0, "empty"
        device.spend(0.5)
        return basket.items

    return RepeatedCall(call, basket)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_arguments_are_renewed_before_each_call_and_not_timed(asynchronous):
    device = FakeDevice(asynchronous=asynchronous, enqueue=0.0)
    basket = Basket(device)
    call = taking(device, basket)
    assert call() == 0
    assert time_calls(call, device, 3) == [0.5] * 3
    assert call() == 0
    call.issue(2)
    assert call() == 0
    assert call.passed == 8
    # After an untimed call, and never between timed ones: a look at all arguments may take long.
    assert basket.settled == 4


def test_all_inputs_are_renewed_and_another_call_is_given_them():
    device = FakeDevice()
    baskets = Basket(device), Basket(device), Basket(device)

    def take():
        for basket in baskets[:2]:
            basket.items -= 1
        return [basket.items for basket in baskets]

    call = RepeatedCall(take, None, *baskets)
    for _ in range(2):
        assert call() == [0, 0, 1]
        assert not call.prepare() or baskets[1].settled > 1
    assert [basket.changing for basket in baskets] == [True, True, False]
    call.issue(2)
    assert call.instead(take)() == [0, 0, 1]


def test_arguments_that_no_call_changes_are_left_alone():
    device = FakeDevice()
    basket = Basket(device)
    call = RepeatedCall(lambda: device.spend(0.5), basket)
    call()
    time_calls(call, device, 5)
    assert call.renew is None
    assert device.fake_clock.now == 3_000_000_000


def test_a_change_that_came_up_in_timed_calls_only_is_unexpected():
    device = FakeDevice()
    basket = Basket(device, items=5)
    calls = iter(range(10))

    def late():
        if next(calls) > 2:
            basket.items -= 1

    call = RepeatedCall(late, basket)
    call()
    time_calls(call, device, 2)
    assert call.prepare()
    time_calls(call, device, 2)
    assert not call.prepare()


@pytest.mark.parametrize("passed", [1, 4])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_exception_says_in_which_call_it_was_raised(passed, asynchronous):
    device = FakeDevice(asynchronous=asynchronous)
    stock = list(range(passed))
    call = RepeatedCall(stock.pop)

    def repeat():
        with call.counted_in_errors():
            call()
            time_calls(call, device, 10)

    with pytest.raises(IndexError) as raised:
        repeat()
    (note,) = raised.value.__notes__
    assert f"raised in call {passed + 1}; " in note
    assert ("call 1 passed" if passed == 1 else "calls 1 to 4 passed") in note


def test_an_exception_of_the_first_call_is_the_test_s_own():
    call = RepeatedCall(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError) as raised, call.counted_in_errors():
        call()
    assert not hasattr(raised.value, "__notes__")
