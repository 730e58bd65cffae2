"""The time that is left, from what was expected and what it took."""

import pytest

from pytest_infergate.plugin.terminal import seconds_left


@pytest.mark.parametrize(
    ("expected", "done", "left"),
    [
        ({}, {}, None),
        ({}, {"a": 3.0}, None),
        ({"a": 3.0, "b": 5.0}, {}, 8.0),
        ({"a": 3.0, "b": 5.0}, {"a": 3.0}, 5.0),
        ({"a": 3.0, "b": 5.0}, {"a": 6.0}, 10.0),  # the machine is slower today
        ({"a": 3.0, "b": 3.0, "c": 3.0}, {"a": 10.0, "b": 2.0}, 6.0),  # without a record, their mean
        ({"a": 3.0, "b": 5.0}, {"a": 3.0, "b": 5.0}, 0.0),
        ({"a": 3.0, "b": 5.0}, {"absent": 0.001}, 8.0),  # a case that is skipped says nothing
        ({"a": 0.0, "b": 5.0}, {"a": 0.1}, 5.0),
    ],
)
def test_cases_that_are_done_correct_what_is_left(expected, done, left):
    assert seconds_left(expected, done) == left
