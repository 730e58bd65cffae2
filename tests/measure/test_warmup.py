import pytest

from pytest_infergate.measure.warmup import (
    AGREEMENT,
    MAX_WARM_UP_CALLS,
    MIN_WARM_UP_CALLS,
    MIN_WARM_UP_SECONDS,
    SteadyState,
)


def fed(*times, cap=100.0):
    """A state fed with times until it is finished, or they are used up."""
    state = SteadyState(cap)
    for seconds in times:
        if state.finished:
            break
        state.add(seconds)
    return state


def test_is_not_finished_before_the_first_call_even_without_time():
    assert not SteadyState(0.0).finished
    assert fed(0.0, cap=0.0).finished
    assert fed(0.0, cap=0.0).result().calls == 1


def test_two_windows_that_agree_are_steady():
    result = fed(*[0.05] * 20).result()
    assert result.steady
    assert result.calls == 2 * MIN_WARM_UP_CALLS
    assert result.seconds == pytest.approx(MIN_WARM_UP_SECONDS)


def test_a_window_needs_its_seconds():
    # 0.01 s a call: 15 calls a window.
    assert not fed(*[0.01] * 29).finished
    assert fed(*[0.01] * 30).finished


def test_a_window_needs_its_calls():
    # One call fills the seconds of a window at once, three make the window.
    assert not fed(*[1.0] * 5).finished
    assert fed(*[1.0] * 6).finished


def test_windows_are_compared_by_their_median():
    # One wild call in either window changes nothing.
    assert fed(0.05, 0.05, 9.0, 0.05, 7.0, 0.05).finished


@pytest.mark.parametrize(
    ("second", "steady"),
    [
        (1 + AGREEMENT - 1e-6, True),
        (1 + AGREEMENT + 1e-6, False),
        (1 - AGREEMENT + 1e-6, True),
        (1 - AGREEMENT - 1e-6, False),
    ],
)
def test_both_sides_of_the_agreement(second, steady):
    assert fed(1.0, 1.0, 1.0, second, second, second).finished is steady


def test_a_model_that_slows_down_is_steady_once_it_stops_to():
    times = [1.0] * 3 + [2.0] * 3 + [3.0] * 3 + [3.0] * 3 + [3.0] * 3
    result = fed(*times).result()
    assert (result.calls, result.steady) == (12, True)


def test_windows_two_apart_are_not_compared():
    assert not fed(*([1.0] * 3 + [2.0] * 3) * 4).finished


def test_the_cap_ends_it_and_says_so():
    state = fed(*([1.0] * 3 + [2.0] * 3) * 4, cap=10.0)
    assert state.finished
    assert (state.result().calls, state.result().seconds, state.result().steady) == (7, 10.0, False)


def test_both_sides_of_the_cap():
    assert not fed(0.5, 0.4999, cap=1.0).finished
    assert fed(0.5, 0.5, cap=1.0).finished


def test_calls_without_time_end_at_the_most_calls():
    state = SteadyState(1.0)
    for _ in range(MAX_WARM_UP_CALLS - 1):
        state.add(0.0)
    assert not state.finished
    state.add(0.0)
    assert state.finished
    assert not state.result().steady
