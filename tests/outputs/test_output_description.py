"""What outputs hold is written, read and compared: values of Python and numpy, in whatever holds them."""

import array
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import itertools
import os
import subprocess
import sys
import threading
import types
import uuid
import weakref
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from pathlib import PurePosixPath

import pytest

from pytest_infergate.outputs import output_description
from pytest_infergate.paired.protocol import OutputCompared
from pytest_infergate.worker import parity


@pytest.fixture
def compare(tmp_path):
    path = str(tmp_path / "kept")

    def compare(base, candidate, **keywords):
        parity.keep(base, path)
        return parity.compare(candidate, path, **keywords)

    return compare


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slots:
    __slots__ = ("_hidden", "score")

    def __init__(self, score):
        self.score = self._hidden = score


class Tagged(dict):
    """A dictionary with an attribute that is not an item."""

    def __init__(self, score):
        super().__init__(a=1)
        self.score = score


class Saved:
    """An object that leaves its score out of its copies."""

    def __init__(self, score):
        self.score = score

    def __getstate__(self):
        return {}


@dataclasses.dataclass
class Answer:
    scores: list
    name: str = "a"


class Label(enum.Enum):
    CAT = 1.0
    DOG = 3.0


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Text(str):
    __slots__ = ()


class Word(str):  # noqa: SLOT000
    pass


class Count(int):
    pass


class Score(float):
    pass


class Tags(set):
    pass


class File(os.PathLike):
    def __init__(self, score):
        self.score = score

    def __fspath__(self):
        return "/a"


def attributed(kind):
    """Make a value of a class that is alike but for an attribute."""

    def make(score):
        made = kind()
        made.score = score
        return made

    return make


def caused(value):
    error = ValueError("bad")
    error.__cause__ = KeyError(value)
    return error


class Yes:
    pass


class No:
    pass


Pair = namedtuple("Pair", "name score")  # noqa: PYI024
Swapped = namedtuple("Pair", "score name")  # noqa: PYI024
Couple = namedtuple("Couple", "name score")  # noqa: PYI024


class Fields(dict):
    """A mapping whose fields are attributes as well, and items if they have a value."""

    def __init__(self, **fields):
        super().__init__({name: value for name, value in fields.items() if value is not None})
        vars(self).update(fields)


VALUES = {
    "float": (lambda v: v, "the output"),
    "int": (int, "the output"),
    "huge int": (lambda v: 10**30 + int(v), "the output"),
    "complex": (lambda v: complex(1, v), "the output"),
    "bool": (lambda v: v == 1, "the output"),
    "none": (lambda v: None if v == 1 else 3.0, "the output"),
    "text": (lambda v: f"score {v}", "the output"),
    "own text": (Text, "the output"),
    "surrogate": (lambda v: f"\udc80{v}", "the output"),
    "bytes": (lambda v: str(v).encode(), "the output"),
    "bytearray": (lambda v: bytearray(str(v).encode()), "the output"),
    "memoryview": (lambda v: memoryview(str(v).encode()), "the output"),
    "array": (lambda v: array.array("d", [v]), "output[0]"),
    "list of floats": (lambda v: {"scores": [1.0, 2.0, 3.0, v]}, "output['scores'][3]"),
    "list of ints": (lambda v: [1, 2, int(v)], "output[2]"),
    "list of text": (lambda v: ["a", str(v)], "output[1]"),
    "list of bools": (lambda v: [True, v == 1], "output[1]"),
    "mixed list": (lambda v: [1, "b", None, v], "output[3]"),
    "tuple": (lambda v: ("a", (v, "b")), "output[1][0]"),
    "deque": (lambda v: deque(["a", v]), "output[1]"),
    "namedtuple": (lambda v: Pair("a", v), "output[1]"),
    "dict": (lambda v: {"a": {3: [None, v]}}, "output['a'][3][1]"),
    "keys": (lambda v: {("a", v): 1}, "output[('a', 1.0)]"),
    "enum keys": (lambda v: {Label(v): 1}, "output[Label.CAT]"),
    "object keys": (lambda v: {Plain(a=1): v}, "output[key 0]"),
    "ordered": (lambda v: OrderedDict(a=v), "output['a']"),
    "default": (lambda v: defaultdict(list, a=v), "output['a']"),
    "counter": (lambda v: Counter(a=int(v)), "output['a']"),
    "user dict": (lambda v: UserDict(a=v), "output.data['a']"),
    "user list": (lambda v: UserList([v]), "output.data[0]"),
    "proxy": (lambda v: types.MappingProxyType({"a": v}), "output['a']"),
    "view": (lambda v: {"a": v}.values(), "output[0]"),
    "attribute of a dict": (Tagged, "output.score"),
    "attribute of text": (attributed(Word), "output.score"),
    "attribute of an int": (attributed(Count), "output.score"),
    "attribute of a float": (attributed(Score), "output.score"),
    "attribute of a set": (attributed(Tags), "output.score"),
    "attribute of a path": (File, "output.score"),
    "order": (lambda v: OrderedDict([("a", 1), ("b", 1)][:: int(2 - v)]), "the output"),
    "queue": (lambda v: deque([1], maxlen=int(v)), "output.maxlen"),
    "factory": (lambda v: defaultdict(list if v == 1 else set), "output.default_factory"),
    "type of an array": (lambda v: array.array("f" if v == 1 else "d", [1]), "output.typecode"),
    "cause": (caused, "output.__cause__.__reduce__()[1][0]"),
    "set": (lambda v: {"a", "b", str(v)}, "output{2}"),
    "set of tuples": (lambda v: frozenset({(0.5, "b"), (v, "a")}), "output{1}[0]"),
    "object": (lambda v: Plain(inner=[Plain(score=v)]), "output.inner[0].score"),
    "slots": (Slots, "output._hidden"),
    "not saved": (Saved, "output.score"),
    "dataclass": (lambda v: Answer([v, "a"]), "output.scores[0]"),
    "namespace": (lambda v: types.SimpleNamespace(score=v), "output.score"),
    "class": (lambda v: Yes() if v == 1 else No(), "the output"),
    "enum": (Label, "the output"),
    "int enum": (lambda v: Level(int(v)), "the output"),
    "date": (lambda v: dt.datetime(2020, 1, int(v), tzinfo=dt.timezone.utc), "the output"),
    "decimal": (decimal.Decimal, "the output"),
    "fraction": (lambda v: fractions.Fraction(int(v), 7), "the output"),
    "uuid": (lambda v: uuid.UUID(int=int(v)), "the output"),
    "path": (lambda v: PurePosixPath(f"/a/{v}"), "the output"),
    "range": (lambda v: range(int(v)), "the output"),
    "type": (lambda v: int if v == 1 else str, "the output"),
    "exception": (lambda v: ValueError("bad", v), "output.__reduce__()[1][1]"),
    "length": (lambda v: [None, "a", 1][: int(v)], "the output"),
    "length of floats": (lambda v: [1.0] * int(v), "the output"),
    "tuple and dict": (lambda v: (1,) if v == 1 else {0: 1}, "the output"),
    "more keys": (lambda v: {"a": 1} | ({} if v == 1 else {"b": 2}), "output['b']"),
    "more attributes": (lambda v: Plain(a=1) if v == 1 else Plain(a=1, b=2), "output.b"),
}


@pytest.mark.parametrize(("make", "place"), VALUES.values(), ids=VALUES)
def test_values_of_python(compare, make, place):
    assert compare(make(1.0), make(1.0)) == OutputCompared(None)
    found = compare(make(1.0), make(3.0))
    assert found.difference.startswith(f"{place}: ")
    assert found.uncompared == ()


def numpy_values():
    numpy = pytest.importorskip("numpy")

    class Signal(numpy.ndarray):
        pass

    return {
        "float64": (lambda v: numpy.array([1, v]), "the output"),
        "nested": (lambda v: {"a": [Plain(b=numpy.full(2, v))]}, "output['a'][0].b"),
        "float16": (lambda v: numpy.array([v], "f2"), "the output"),
        "long double": (lambda v: numpy.array([v], "g"), "the output"),
        "complex": (lambda v: numpy.array([v * 1j], "c8"), "the output"),
        "int": (lambda v: numpy.array([int(v)]), "the output"),
        "bool": (lambda v: numpy.array([v == 1]), "the output"),
        "text": (lambda v: numpy.array(["a", str(v)]), "the output"),
        "bytes": (lambda v: numpy.array([b"a", str(v).encode()]), "the output"),
        "date": (lambda v: numpy.array([int(v), "NaT"], "M8[D]"), "the output"),
        "objects": (lambda v: numpy.array([["a", None], [v, 1]], dtype=object), "output[2]"),
        "records": (lambda v: numpy.array([(v, 1)], [("score", "f4"), ("id", "i4")]), "output['score']"),
        "void": (lambda v: numpy.array([v]).view("V8"), "the output"),
        "masked": (lambda v: numpy.ma.masked_array([9.0, v], [True, False]), "output.data"),
        "mask": (lambda v: numpy.ma.masked_array([0.0, 0.0], [v == 1, False]), "output.mask"),
        "fill value": (lambda v: numpy.ma.masked_array([1.0], [True], fill_value=v), "output.fill_value"),
        "hard mask": (lambda v: numpy.ma.masked_array([1.0], [True], hard_mask=v == 1), "output.hardmask"),
        "attribute": (attributed(lambda: numpy.ones(1).view(Signal)), "output.score"),
        "order of fields": (
            lambda v: numpy.zeros(1, [("a", "f4"), ("b", "f4")][:: int(2 - v)]),
            "output._fields[0]",
        ),
        "record": (lambda v: numpy.array([(v, 1)], [("score", "f4"), ("id", "i4")])[0], "output['score']"),
        "class": (lambda v: numpy.ones(1).view(Signal if v == 1 else numpy.ndarray), "output.__class__"),
        "scalar": (numpy.float32, "the output"),
        "scalar of Python": (numpy.float64, "the output"),
        "shape": (lambda v: numpy.ones((1, 3) if v == 1 else (3, 1)), "the output"),
        "dtype": (lambda v: numpy.ones(1, "f4" if v == 1 else "f8"), "the output"),
        "no array": (lambda v: numpy.ones(1) if v == 1 else [1.0], "the output"),
        "no scalar": (lambda v: numpy.float64(1) if v == 1 else 1.0, "the output"),
        "a dtype": (lambda v: numpy.dtype("f4" if v == 1 else "f8"), "the output"),
    }


NUMPY = (
    "float64", "nested", "float16", "long double", "complex", "int", "bool", "text", "bytes", "date", "objects",
    "records", "order of fields", "record", "void", "masked", "mask", "fill value", "hard mask", "attribute", "class", "scalar", "scalar of Python", "shape", "dtype", "no array", "no scalar",
    "a dtype",
)  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
def test_values_of_numpy(compare, name):
    make, place = numpy_values()[name]
    test_values_of_python(compare, make, place)


def test_tolerances_of_numpy_are_those_of_its_dtypes(compare):
    numpy = pytest.importorskip("numpy")
    for dtype, allowed in {"f8": 1e-11, "c16": 1e-11, "g": 1e-11, "f4": 1e-5, "c8": 1e-5, "f2": 1e-2}.items():
        base = numpy.array([1, 0], dtype)
        assert compare(base, numpy.array([1, allowed * 0.8], dtype)) == OutputCompared(None), dtype
        assert compare(base, numpy.array([1, allowed * 1.25], dtype)).difference is not None, dtype
    nan = numpy.array([float("nan"), float("inf"), 1.0])
    assert compare(nan, nan.copy()) == OutputCompared(None)
    assert "1 of 3" in compare(nan, numpy.array([float("nan"), 1.0, 1.0])).difference
    with numpy.errstate(all="raise"):
        assert compare(numpy.array([1e308]), numpy.array([-1e308])).difference is not None


def test_containers_of_one_kind_are_alike(compare):
    for base, candidate in (
        ([1, "a"], (1, "a")),
        (("a", 1.0), Pair("a", 1.0)),
        ({"a": 1}, OrderedDict(a=1)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2}, frozenset({2, 1})),
        ([1.0], deque([1.0])),
    ):
        assert compare(base, candidate) == OutputCompared(None), (base, candidate)


def test_classes_that_extend_a_container_are_compared(compare):
    for base, candidate, difference in (
        (Pair("a", 1), Swapped("a", 1), "output._fields[0]: 'name' on the base, 'score' now"),
        (Pair("a", 1), Couple("a", 1), "output.__class__: Pair on the base, Couple now"),
        (Pair("a", 1), ("a", 1), "output.__class__: Pair on the base, a plain sequence now"),
        (Fields(a=1), {"a": 1}, "output.__class__: Fields on the base, a plain mapping now"),
        (Tagged(1), Fields(a=1, score=1), "output.__class__: Tagged on the base, Fields now"),
        (Tags([1]), {1}, "output.__class__: Tags on the base, a plain set now"),
        (Fields(a=1, b=None), Fields(a=1, b=2), "output['b']: None on the base, int 2 now"),
        (Fields(a=1, b=2), Fields(a=1, b=None), "output['b']: int 2 on the base, None now"),
    ):  # fmt: skip
        assert compare(base, base) == OutputCompared(None)
        assert compare(base, candidate).difference == difference
    for base, candidate in (({"a": 1}, Fields(a=1)), ({1}, Tags([1])), ([1, 2], Pair(1, 2))):
        assert compare(base, candidate) == OutputCompared(None)


def test_a_number_of_another_type_differs(compare):
    for base, candidate in itertools.permutations((1, 1.0, True, "1", b"1", 1 + 0j), 2):
        assert compare(base, candidate).difference is not None, (base, candidate)
        assert compare([base], [candidate]).difference is not None, (base, candidate)


def test_the_first_difference_is_named_and_the_others_are_counted(compare):
    base, candidate = {"a": [1.0, 2.0], "b": "x", "c": 0}, {"a": [1.0, 3.0], "b": "y", "c": 0}
    found = compare(base, candidate).difference
    assert found == "output['a'][1]: 2.0 on the base, 3.0 now (and 1 more difference)"


def ring(value):
    list_, object_ = [value], Plain(name="a")
    list_ += [list_, (list_, object_)]
    object_.me = {"self": object_, "list": list_}
    return object_


def test_cycles_and_shared_values(compare):
    assert compare(ring(1.0), ring(1.0)) == OutputCompared(None)
    assert "output.me['list'][0]: 1.0 on the base, 3.0 now" in compare(ring(1.0), ring(3.0)).difference
    shared = [1.0, "a"]
    assert compare([shared, shared], [[1.0, "a"], [1.0, "a"]]) == OutputCompared(None)
    assert "output[1][0]" in compare([shared, shared], [[1.0, "a"], [3.0, "a"]]).difference


def test_a_chain_longer_than_the_stack_of_calls(compare):
    def chain(value):
        for _ in range(5000):
            value = Plain(next=value)
        return value

    assert compare(chain(1.0), chain(1.0)) == OutputCompared(None)
    assert ".next.next: 1.0 on the base" in compare(chain(1.0), chain(3.0)).difference


def test_addresses_are_not_compared(compare):
    assert compare(object(), object()) == OutputCompared(None)
    assert compare([Yes()], [Yes()]) == OutputCompared(None)
    assert compare(f"{Yes()!r}", f"{Yes()!r}") == OutputCompared(None)
    assert compare(f"{Yes()!r}", f"{No()!r}").difference is not None
    target = Plain(score=1.0)
    assert compare([target, weakref.ref(target)], [target, weakref.ref(target)]) == OutputCompared(None)


def test_paths_of_both_trees_are_alike(compare):
    def output(top, name="model.pt"):
        path = f"{top}/models/{name}"
        return {"path": PurePosixPath(path), "text": f"loaded {path}", "all": [path], path: 1}

    renamed = ("/tmp/base", "/home/me/project")
    assert compare(output(renamed[0]), output(renamed[1]), renamed=renamed) == OutputCompared(None)
    assert compare(output(renamed[0]), output(renamed[1])).difference is not None
    assert compare(output(renamed[0]), output(renamed[1], "b.pt"), renamed=renamed).difference is not None


class Unreadable(Plain):
    def __reduce_ex__(self, protocol):
        raise TypeError


UNCOMPARED = {
    "function": (len, "builtin_function_or_method"),
    "lambda": (lambda: 1, "function"),
    "method": (Plain(a=1).__init__, "method"),
    "generator": ((i for i in ()), "generator"),
    "lock": (threading.Lock(), "_thread.lock"),
    "thread": (threading.Thread(), "threading.Thread"),
    "module": (os, "module"),
}


@pytest.mark.parametrize(("value", "type_name"), UNCOMPARED.values(), ids=UNCOMPARED)
def test_what_cannot_be_compared_is_named(compare, value, type_name):
    assert compare(value, value) == OutputCompared(None, (f"output ({type_name})",))
    found = compare({"a": [value], "score": 1.0}, {"a": [value], "score": 3.0})
    assert found.uncompared == (f"output['a'][0] ({type_name})",)
    assert found.difference == "output['score']: 1.0 on the base, 3.0 now"
    assert compare([value], [1.0]).difference is not None


def test_files_and_partials_are_named(compare, tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert compare([file], [file]).uncompared == ("output[0] (_io.TextIOWrapper)",)
    found = compare(functools.partial(len, 1), functools.partial(len, 2))
    assert found.difference is not None
    assert len(found.uncompared) == 1


def test_the_attributes_of_an_object_that_cannot_be_read_whole_are_compared(compare):
    found = compare(Unreadable(score=1.0), Unreadable(score=3.0))
    assert found.difference == "output.score: 1.0 on the base, 3.0 now"
    assert "Unreadable" in found.uncompared[0]


def test_hidden_attributes_of_one_side_are_named(compare):
    found = compare(Plain(a=1, _old=2), Plain(a=1, _new=2))
    assert found == OutputCompared(
        None, ("output._old (only exists on the base)", "output._new (only exists now)")
    )


def test_many_places_are_counted(compare):
    found = compare([len] * 5, [len] * 5).uncompared
    assert found[:1] == ("output[0] (builtin_function_or_method)",)
    functions = [lambda: index for index in range(5)]  # noqa: B023 - never called
    found = compare(functions, functions).uncompared
    assert [text.partition(" ")[0] for text in found[:3]] == ["output[0]", "output[1]", "output[2]"]
    assert found[3:] == ("2 more places",)


def test_an_array_that_no_file_holds_is_named(compare, monkeypatch):
    numpy = pytest.importorskip("numpy")
    monkeypatch.setattr(output_description, "MAX_ARRAY_BYTES", 15)
    found = compare([numpy.ones(2), 1.0], [numpy.ones(2), 1.0])
    assert found == OutputCompared(None, ("output[0] (an array of 4 GiB or more)",))


def test_more_values_than_are_compared_are_named(compare, monkeypatch):
    monkeypatch.setattr(output_description, "MAX_VALUES", 3)
    found = compare([None, 1, "a", 2.0], [None, 1, "b", 3.0])
    assert found == OutputCompared(None, ("output[2] (too many values)", "output[3] (too many values)"))


class Image:
    """Its pixels are in an object of C, but copies of it contain them."""

    def __init__(self, pixels):
        self._core = threading.Lock()
        self._pixels = pixels

    def __getstate__(self):
        return [bytes(self._pixels)]


def test_what_copies_contain_is_compared_in_place_of_what_cannot_be_read(compare):
    assert compare([Image([1, 2])], [Image([1, 2])]) == OutputCompared(None)
    found = compare([Image([1, 2])], [Image([1, 3])])
    assert found.difference.startswith("output[0]._pixels[1]: 2 on the base, 3 now")
    assert found.uncompared == ()


class Dropping(Plain):
    """An object whose copies leave a field out."""

    def __getstate__(self):
        return {"scores": self.scores}


def test_a_field_that_copies_leave_out_is_named_if_it_cannot_be_compared(compare):
    found = compare(Dropping(scores=[1.0], post=lambda: 1), Dropping(scores=[1.0], post=lambda: 2))
    assert found == OutputCompared(None, ("output.post (function)",))
    lock = threading.Lock()
    assert compare(Dropping(scores=b"1", lock=lock), Dropping(scores=b"1", lock=lock)).uncompared == ()
    found = compare(Dropping(scores=[1.0], lock=lock), Dropping(scores=[1.0], lock=lock))
    assert found.uncompared == ("output.lock (_thread.lock)",)


class Computed:
    __slots__ = ()

    @property
    def score(self):
        return 1.0


class Iterated:
    def __iter__(self):
        yield 1.0


class Indexed(Yes):
    def __getitem__(self, index):
        return 1.0


def test_an_object_that_holds_nothing_but_computes_values_is_named(compare):
    for kind in (Computed, Iterated, Indexed):
        assert compare([kind()], [kind()]).uncompared == (f"output[0] ({__name__}.{kind.__name__})",)
    assert compare([Yes()], [Yes()]).uncompared == ()


def test_kinds_of_containers_that_only_one_side_has(compare):
    for base, candidate in (
        (deque([1, 2]), [1, 2]),
        (OrderedDict(a=1, b=2), {"b": 2, "a": 1}),
        (Counter(a=1, b=2), Counter(b=2, a=1)),
    ):
        assert compare(base, candidate) == OutputCompared(None), (base, candidate)
    factory = "output.default_factory (only exists on the base)"
    assert compare(defaultdict(list, a=1), {"a": 1}) == OutputCompared(None, (factory,))
    assert compare(deque([1], maxlen=2), [1]).difference == "output.maxlen: only exists on the base"


# Values that differ from call to call


def test_what_differs_from_call_to_call_is_not_compared(compare):
    seconds = itertools.count(1.0)

    def call(score=0.5):
        return {
            "score": score,
            "seconds": next(seconds),
            "id": f"request {next(seconds)}",
            "all": [next(seconds)],
        }

    found = compare(call(), call(), repeat=call)
    assert found.difference is None
    places = [f"output[{name!r}] (differs from call to call)" for name in ("seconds", "id", "all")]
    assert found.uncompared == tuple(places)
    found = compare(call(), call(1.5), repeat=lambda: call(1.5))
    assert found.difference == "output['score']: 0.5 on the base, 1.5 now"


def test_a_call_is_repeated_only_for_a_difference(compare):
    def never():
        raise AssertionError

    assert compare([1.0, "a"], [1.0, "a"], repeat=never) == OutputCompared(None)


# The file


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made",)


def test_reading_a_file_runs_no_code(compare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compare([Evil()], [Evil()]).difference is None
    assert not (tmp_path / "made").exists()


def test_python_values_are_compared_without_torch_and_numpy(tmp_path):
    code = (
        "import sys; from pytest_infergate.worker import parity;"
        "path = sys.argv[1]; parity.keep({'a': [1.0, 'b'], 'c': {3}}, path);"
        "assert parity.compare({'a': [1.0, 'b'], 'c': {3}}, path).difference is None;"
        "assert 'output' in parity.compare({'a': [1.0, 'c'], 'c': {3}}, path).difference;"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "kept")], check=True)


@pytest.mark.torch
def test_gradients_of_tensors_are_compared(compare):
    torch = pytest.importorskip("torch")

    def output(scale):
        position = torch.ones(3, requires_grad=True)
        (scale * position).sum().backward()
        return {"position": position}

    assert compare(output(1.0), output(1.0)).difference is None
    assert ".grad" in compare(output(1.0), output(2.0)).difference
    bare = {"position": torch.ones(3)}
    assert ".grad" in compare(output(1.0), bare).difference
