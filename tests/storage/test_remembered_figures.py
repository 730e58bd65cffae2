"""What is kept in pytest's cache, and what becomes of a cache that is absent, broken or read-only."""

import warnings

import pytest
from fake_cache import FakeCache

from pytest_infergate.storage.remembered_figures import RememberedFigures


def test_what_was_added_is_read_and_replaced_name_by_name():
    cache = FakeCache()
    RememberedFigures(cache, "kind").add({"a": 1.00049, "b": 2.0})
    RememberedFigures(cache, "kind").add({"b": 3.0})
    assert RememberedFigures(cache, "kind").read() == {"a": 1.0, "b": 3.0}
    assert RememberedFigures(cache, "other").read() == {}
    assert list(cache) == ["infergate/kind"]


def test_nothing_is_remembered_without_a_cache():
    remembered = RememberedFigures(None, "kind")
    remembered.add({"a": 1.0})
    assert remembered.read() == {}


@pytest.mark.parametrize(
    "content",
    [None, [], "text", 3, {"a": "1"}, {"a": None}, {"a": -1.0}, {"a": float("nan")}, {"a": float("inf")}],
)
def test_what_makes_no_sense_is_not_read(content):
    assert RememberedFigures(FakeCache({"infergate/kind": content}), "kind").read() == {}


def test_a_cache_that_cannot_be_written_is_no_reason_to_complain():
    class ReadOnly(FakeCache):
        def set(self, key, value):
            warnings.warn("cache could not write", UserWarning, stacklevel=1)

    RememberedFigures(ReadOnly(), "kind").add({"a": 1.0})  # warnings are errors here
