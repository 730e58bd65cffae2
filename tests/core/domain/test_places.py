"""Places of operators: paths that differ in a number are joined, and read back."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from operator_rows import operator_rows, work

from pytest_infergate.core.domain.places import (
    MAX_PLACES,
    abbreviated_places,
    collapse_places,
    count_places,
    expand_places,
    full_place,
    is_label,
)


def together(*paths, **fields):
    return [row.place for row in collapse_places(work(place=path, **fields) for path in paths)]


def test_places_that_differ_in_a_number_stand_together():
    for paths, label in [
        (["layers.0"], ["layers.0"]),
        (["layers.0", "layers.1"], ["layers.{0-1}"]),
        (["layers.10", "layers.9", "layers.8"], ["layers.{8-10}"]),
        (["layers.0", "layers.2"], ["layers.{0,2}"]),
        (["layers.0", "layers.1", "layers.2", "layers.4"], ["layers.{0-2,4}"]),
        (["0.a", "1.a", "0.b"], ["0.b", "{0-1}.a"]),
        (["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1"], ["a.{0-1}.b.{0-1}"]),
        # Three corners of a square are no product of two sets.
        (["0.0", "0.1", "1.0"], ["0.1", "{0-1}.0"]),
        (["0.1.2", "3.1.2"], ["{0,3}.1.2"]),
        (["", "0", "1"], ["", "{0-1}"]),
        (["a.0", "b.0"], ["a.0", "b.0"]),
        (["a.0", "a.0.b"], ["a.0", "a.0.b"]),
        # Only what reads back as itself is a number.
        (["a.00", "a.01"], ["a.00", "a.01"]),
        (["a.0", "a.01"], ["a.0", "a.01"]),
        (["a.-1", "a.+1"], ["a.+1", "a.-1"]),
        (["a.²", "a.٣"], ["a.²", "a.٣"]),
        (["a.999998", "a.999999"], ["a.{999998-999999}"]),
        (["a.1000000", "a.1000001"], ["a.1000000", "a.1000001"]),
        (["a.x1", "a.x2"], ["a.x1", "a.x2"]),
        ([], []),
    ]:
        assert together(*paths, calls=2) == label, (paths, label)


def test_places_that_do_different_things_stand_apart():
    for other in [
        work(place="layers.1", calls=2),
        work(place="layers.1", flops=1),
        work(place="layers.1", bytes=1),
        work("aten::mul", "layers.1"),
    ]:
        rows = (work(place="layers.0"), other)
        assert collapse_places(rows) == tuple(sorted(rows)), other


def test_places_together_keep_the_figures_of_each():
    rows = [work(place=f"layers.{index}", calls=2, flops=30, bytes=400) for index in range(3)]
    assert collapse_places(rows) == (work(place="layers.{0-2}", calls=2, flops=30, bytes=400),)


def test_a_label_is_read_back():
    for place, paths in [
        ("", [""]),
        ("encoder", ["encoder"]),
        ("layers.3", ["layers.3"]),
        ("layers.{0-2,4}.mlp", ["layers.0.mlp", "layers.1.mlp", "layers.2.mlp", "layers.4.mlp"]),
        ("{0-1}.{3,5}", ["0.3", "0.5", "1.3", "1.5"]),
        ("{7}", ["7"]),
        # Braces of a name are no label.
        ("{}", ["{}"]),
        ("{a}", ["{a}"]),
        ("{0-}", ["{0-}"]),
        ("{0,}", ["{0,}"]),
        ("{0 -1}", ["{0 -1}"]),
        ("{-1}", ["{-1}"]),
        ("{5-3}", ["{5-3}"]),
        ("{0,5-3}", ["{0,5-3}"]),
        ("{3-3}", ["3"]),
        ("x{0-1}", ["x{0-1}"]),
        ("{0-1}x", ["{0-1}x"]),
        ("{0-1000000}", ["{0-1000000}"]),
        ("{0-1}\n", ["{0-1}\n"]),
    ]:
        assert expand_places(place) == tuple(paths), (place, paths)
        assert count_places(place) == len(paths), (place, paths)


def test_no_label_asks_for_more_places_than_the_bound():
    for place, count, expanded in [
        (f"{{0-{MAX_PLACES - 1}}}", MAX_PLACES, MAX_PLACES),
        (f"{{0-{MAX_PLACES}}}", MAX_PLACES + 1, 1),
        ("{0-99}.{0-99}", 10_000, 10_000),
        ("{0-99}.{0-100}", 10_100, 1),
        (".".join(["{0-999999}"] * 10), 10**60, 1),
    ]:
        assert count_places(place) == count, (place, count, expanded)
        assert len(expand_places(place)) == expanded, (place, count, expanded)


def apart(rows):
    return Counter(replace(row, place=place) for row in rows for place in expand_places(row.place))


@given(operator_rows)
def test_what_stands_together_reads_back_as_what_stood_apart(rows):
    assert apart(collapse_places(rows)) == Counter(rows)


@given(operator_rows, st.randoms())
def test_order_does_not_matter_and_again_changes_nothing(rows, random):
    once = collapse_places(rows)
    assert collapse_places(random.sample(rows, len(rows))) == once
    assert collapse_places(once) == once
    assert sum(count_places(row.place) for row in once) == len(rows)


def test_short_forms_of_places():
    for places, short, meanings in [
        ([], [], {}),
        (["", "head", "layers.3"], ["", "head", "layers.3"], {}),
        (["layers.{0-3}", "layers.{0-3}.mlp"], ["layers.*", "layers.*.mlp"], {"layers.*": "0-3"}),
        (["{0,2}", "{1,3}.a"], ["*", "*2.a"], {"*": "0,2", "*2": "1,3"}),
        # The set of most layers comes before those of some layers, whatever their order.
        (
            ["a.{0-1}", "a.{2-3}", "a.{0-3}"],
            ["a.*2", "a.*3", "a.*"],
            {"a.*": "0-3", "a.*2": "0-1", "a.*3": "2-3"},
        ),
        # The same numbers elsewhere are other layers.
        (["a.{0-3}", "b.{0-3}"], ["a.*", "b.*"], {"a.*": "0-3", "b.*": "0-3"}),
        (
            ["a.{0-1}.{0-7}", "a.{0-1}.{0-5}.b", "a.2.{0-7}"],
            ["a.*.*", "a.*.*2.b", "a.2.*"],
            {"a.*": "0-1", "a.*.*": "0-7", "a.*.*2": "0-5", "a.2.*": "0-7"},
        ),
        (["{a}", "{3-1}"], ["{a}", "{3-1}"], {}),
        # A module that is named like a short form keeps its name.
        (["a.*", "a.{0-3}"], ["a.*", "a.{0-3}"], {}),
        (["*2.{0-3}"], ["*2.{0-3}"], {}),
    ]:
        assert abbreviated_places(places) == (dict(zip(places, short, strict=True)), meanings), places


@given(operator_rows)
def test_short_forms_are_read_back(rows):
    places = [row.place for row in collapse_places(rows)]
    short, meanings = abbreviated_places(places)
    assert [full_place(short[place], meanings) for place in places] == places
    assert len(set(short.values())) == len(set(places))
    assert all(map(is_label, meanings.values()))


def test_one_more_layer_changes_no_short_form():
    for first, later in [
        (["layers.{0-3}.a", "layers.{0-3}.b", "layers.4"], ["layers.{0-4}.a", "layers.{0-4}.b", "layers.5"]),
        (["{0-3}.a", "{0-2}.b", "{3}.b"], ["{0-4}.a", "{0-3}.b", "{4}.b"]),
        (["{0-3}.{0-7}.a"], ["{0-4}.{0-7}.a"]),
    ]:
        before, now = (list(abbreviated_places(places)[0].values()) for places in (first, later))
        assert before[:2] == now[:2], first
