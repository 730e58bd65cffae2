"""The search for the last value that holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain.bisection import integer_between, last_that_holds


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


def test_adjacent_ends_ask_nothing():
    assert last_that_holds(lambda _: pytest.fail("asked"), 3, 4, integer_between) == 3


def test_any_middle_will_do():
    def middle(low, high):
        return None if high / low <= 1.02 else (low * high) ** 0.5

    found = last_that_holds(lambda value: value <= 7.0, 1.0, 100.0, middle)
    assert found <= 7.0 < found * 1.02
