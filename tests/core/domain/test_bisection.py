"""The search for the last value that holds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain.bisection import integer_between, last_below, last_near, last_that_holds


@given(st.integers(-1000, 1000), st.integers(1, 2000), st.data())
def test_the_last_integer_that_holds_is_found_with_few_questions(low, width, data):
    last = data.draw(st.integers(low, low + width - 1))
    asked = []

    def holds(value):
        asked.append(value)
        return value <= last

    assert last_that_holds(holds, low, low + width, integer_between) == last
    assert len(asked) == len(set(asked)) <= width.bit_length()
    assert all(low < value < low + width for value in asked)


@given(st.integers(-1000, 1000), st.integers(1, 2000), st.data())
def test_the_last_integer_is_found_with_fewer_questions_the_nearer_the_guess_is(low, width, data):
    last = data.draw(st.integers(low, low + width - 1))
    near = data.draw(st.integers(low, low + width))
    asked = []

    def holds(value):
        asked.append(value)
        return value <= last

    assert last_near(holds, near, low, low + width) == last
    assert len(asked) == len(set(asked)) <= 2 * abs(last - near).bit_length() + 2
    assert all(low < value < low + width for value in asked)


def test_adjacent_ends_ask_nothing():
    assert last_near(lambda _: pytest.fail("asked"), 3, 3, 4) == 3
    assert last_that_holds(lambda _: pytest.fail("asked"), 3, 4, integer_between) == 3


def test_any_middle_will_do():
    def middle(low, high):
        return None if high / low <= 1.02 else (low * high) ** 0.5

    found = last_that_holds(lambda value: value <= 7.0, 1.0, 100.0, middle)
    assert found <= 7.0 < found * 1.02


@given(
    st.integers(1, 5000),
    st.floats(0.0, 1.0),
    st.sampled_from([0.2, 1.0, 5.0]),
    st.sampled_from([None, math.inf]),
)
def test_the_last_integer_below_is_found_with_few_evaluations(width, share, power, beyond):
    last = min(width - 1, math.floor(share * width))
    asked = []

    def value(at):
        assert 0 < at < width
        asked.append(at)
        return ((at + 1) / (last + 1.5)) ** power - 1

    ends = (1 / (last + 1.5)) ** power - 1, ((width + 1) / (last + 1.5)) ** power - 1
    assert last_below(value, 0, width, ends if beyond is None else (ends[0], beyond)) == last
    # Not many more than by halving, whatever the function is.
    assert len(asked) <= 3 * math.ceil(math.log2(width)) + 3
    assert len(asked) == len(set(asked))


def test_a_straight_line_needs_two_evaluations():
    asked = []

    def value(at):
        asked.append(at)
        return (at - 700.5) / 1000

    assert last_below(value, 0, 1000, (-0.7005, 0.2995)) == 700
    assert asked == [700, 701]


def test_a_value_that_is_close_ends_the_search():
    asked = []

    def value(at):
        asked.append(at)
        return (at - 70.5) / 100

    assert last_below(value, 0, 100, (-0.705, 0.295), close=0.006) == 70
    assert asked == [70]
