"""Attributes that a class computes when they are first read: one side may have read them, and the other not."""

import functools
import types
import weakref

import pytest

from pytest_infergate.worker import parity


@pytest.fixture
def compare(tmp_path):
    path = str(tmp_path / "kept")

    def compare(base, candidate):
        parity.keep(base, path)
        found = parity.compare(candidate, path)
        places = tuple(place.partition(" ")[0] for place in found.uncompared)
        return (found.difference or "").partition(":")[0], places

    return compare


class Lazy:
    """Computes an attribute, as `lazy_property` of torch does."""

    def __init__(self, function):
        self.function = function
        self.name = function.__name__

    def __get__(self, instance, owner):
        return instance.__dict__.setdefault(self.name, self.function(instance))


class Choice:
    """Is given one of two values, and computes the other."""

    def __init__(self, **given):
        self.__dict__.update(given)

    @Lazy
    def odds(self):
        return self.log * 2

    @Lazy
    def log(self):
        return self.odds / 2


class Graph:
    def __init__(self, edges):
        self.edges = edges

    @functools.cached_property
    def degree(self):
        return len(self.edges)

    @functools.cached_property
    def longest(self):
        return max(self.edges)

    def predict(self):
        return 1


class Saves(Graph):
    def __getstate__(self):
        return {"__dict__": self.__dict__, "version": 1}


class Restores(Graph):
    def __getstate__(self):
        return self.__dict__.copy()


def read(value, *names):
    for name in names:
        getattr(value, name)
    return value


@pytest.mark.parametrize("kind", [Graph, Saves, Restores])
def test_what_one_side_computed_is_named_and_no_difference(compare, kind):
    bare, full = kind([1, 2]), read(kind([1, 2]), "degree")
    assert compare(bare, full) == compare(full, bare) == ("", ("output.degree",))
    assert compare(read(kind([1]), "degree"), read(kind([1]), "longest")) == (
        "",
        ("output.degree", "output.longest"),
    )
    assert compare(kind([1, 2]), read(kind([1, 3]), "degree"))[0] == "output.edges[1]"


@pytest.mark.parametrize("kind", [Graph, Saves, Restores])
def test_what_both_sides_hold_is_compared(compare, kind):
    assert compare(read(kind([1]), "degree"), read(kind([1]), "degree")) == ("", ())
    stale = read(kind([1]), "degree")
    stale.edges = [1, 2]
    assert compare(stale, read(kind([1, 2]), "degree"))[0] == "output.degree"


def test_the_given_one_of_two_values_is_compared(compare):
    assert compare(Choice(log=1.0), read(Choice(log=1.0), "odds")) == ("", ("output.odds",))
    assert compare(read(Choice(odds=2.0), "log"), Choice(odds=2.0)) == ("", ("output.log",))
    assert compare(Choice(log=1.0), read(Choice(log=3.0), "odds"))[0] == "output.log"
    assert compare(read(Choice(log=1.0), "odds"), Choice(odds=6.0))[0] == "output.odds"
    # Without a value in common, either may be the given one.
    assert compare(Choice(log=1.0), Choice(odds=2.0))[0] == "output.log"


def test_an_object_that_holds_nothing_else(compare):
    class Constant:
        @functools.cached_property
        def value(self):
            return [1]

    bare, full = Constant(), read(Constant(), "value")
    assert compare(bare, full) == compare(full, bare) == ("", ("output",))
    assert compare(Choice(), Choice(log=1.0)) == ("", ("output.log",))
    assert compare(bare, 3)[0] == compare(3, bare)[0] == "the output"


@pytest.mark.parametrize("name", ["predict", "unknown"])
def test_an_attribute_that_no_property_computes_differs(compare, name):
    changed = Graph([1])
    setattr(changed, name, 3)
    assert compare(Graph([1]), changed) == (f"output.{name}", ())


def test_the_hidden_cache_of_an_object_may_hold_more_on_one_side(compare):
    class Key:
        pass

    def holder(**attributes):
        return types.SimpleNamespace(x=1, key=Key(), **attributes)

    assert compare(holder(_cache={}), holder(_cache={"a": 1})) == ("", ("output._cache['a']",))
    assert compare(holder(_cache={"a": 1}), holder(_cache={"a": 3}))[0] == "output._cache['a']"
    weak = holder(_cache=weakref.WeakValueDictionary())
    weak._cache["a"] = weak.key
    assert compare(holder(_cache=weakref.WeakValueDictionary()), weak)[0] == ""
    # Those that everybody can read are results, such as the keys and values of a language model.
    assert compare(holder(cache={}), holder(cache={"a": 1}))[0] == "output.cache['a']"
    assert compare(holder(_rows={}), holder(_rows={"a": 1}))[0] == "output._rows['a']"


@pytest.mark.torch
def test_distributions(compare):
    torch = pytest.importorskip("torch")
    kind = torch.distributions.Categorical
    logits = torch.tensor([1.0, 2.0, 3.0])
    assert compare(kind(logits=logits), read(kind(logits=logits), "probs")) == ("", ("output.probs",))
    assert compare(kind(logits=logits), read(kind(logits=2 * logits), "probs"))[0] == "output.logits"
    assert compare(kind(logits=logits), kind(probs=torch.tensor([0.1, 0.1, 0.8])))[0] != ""
