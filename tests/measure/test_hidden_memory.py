"""Objects that hold memory which no search can see: their weights are unknown, unless they show to be small."""

import array
import ctypes
import io
import math
import mmap
import multiprocessing
import subprocess
import sys
import time
import types

import pytest

from pytest_infergate.measure.hidden_memory import hidden_in, measure_of

LARGE = 1_000_000


class Plain:
    def __init__(self):
        self.data = bytes(LARGE)


class Slots:
    __slots__ = ("__weakref__", "a", "b")


class Child(Slots):
    pass


class Numbers(list):
    pass


class Structure(ctypes.Structure):
    _fields_ = (("values", ctypes.c_double * 125_000),)


def test_what_a_class_of_python_adds_is_no_hidden_memory():
    import enum
    import typing

    class Colour(enum.Enum):
        RED = 1

    class Pair(typing.NamedTuple):
        one: int

    values = [Plain(), Slots(), Child(), Numbers(), Colour.RED, Pair(1), Plain, sys, len, io.StringIO()]
    assert [type(value) for value in values if measure_of(type(value)) is not None] == []


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        lambda size: array.array("d", bytes(size)),
        lambda size: memoryview(bytes(size)),
        lambda size: mmap.mmap(-1, size),
        lambda size: io.BytesIO(bytes(size)),
        lambda size: (ctypes.c_double * (size // 8))(),
    ],
    ids=["bytes", "bytearray", "array", "memoryview", "mmap", "BytesIO", "ctypes"],
)
def test_buffers_count_from_one_megabyte_together_on(make):
    half, large = make(LARGE // 2), make(LARGE)
    assert list(hidden_in([large]).values()) == [LARGE]
    assert list(hidden_in([half, make(LARGE // 2)]).values()) == [LARGE]
    assert hidden_in([half]) == hidden_in([make(8000) for _ in range(200)]) == {}


def test_a_process_that_runs_may_hold_anything():
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert hidden_in([running]) == {"subprocess.Popen": math.inf}
    running.communicate(b"\n")
    assert hidden_in([running, multiprocessing.Process()]) == {}
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    worker.start()
    try:
        assert list(hidden_in([worker]).values()) == [math.inf]
    finally:
        worker.kill()


def test_a_closed_buffer_holds_nothing():
    closed = mmap.mmap(-1, LARGE)
    closed.close()
    released = memoryview(bytes(LARGE))
    released.release()
    assert hidden_in([closed, released]) == {}
    assert hidden_in([Structure()]) == {f"{__name__}.Structure": LARGE}


def test_a_pointer_may_point_to_anything():
    assert hidden_in([ctypes.c_void_p(1)]) == {"ctypes.c_void_p": math.inf}
    assert hidden_in([ctypes.pointer(ctypes.c_int(1))]) != {}
    assert hidden_in([ctypes.c_void_p()]) == {}
    # As SWIG makes them, which belong to no module.
    swig = type("SwigPyObject", (), {"__module__": "builtins"})()
    assert hidden_in([swig]) == {"SwigPyObject": math.inf}
    index = Plain()
    index.this, index.other = swig, ctypes.c_void_p(1)
    assert hidden_in([index, swig, index.other]) == {f"{__name__}.Plain": math.inf}


@pytest.fixture
def native(monkeypatch):
    """A class whose memory another module defines, as those of extension modules."""
    from collections import OrderedDict

    from pytest_infergate.measure import hidden_memory

    monkeypatch.setattr(hidden_memory, "_KNOWN", hidden_memory._KNOWN - {"collections"})

    class Native(OrderedDict):
        state: object = ""

        def __reduce__(self):
            if isinstance(self.state, Exception):
                raise self.state
            return str, (self.state,)

    return Native


def test_an_object_of_an_extension_module_is_as_large_as_its_pickled_state(native):
    value = native()
    for state, hides in [("x" * 1000, False), ("x" * LARGE, True), (TypeError("no"), True), (print, False)]:
        native.state = state
        assert bool(hidden_in([value])) is hides, str(state)[:20]
        assert hidden_in([value]) in ({}, {f"{native.__module__}.{native.__qualname__}": math.inf})
    native.state = TypeError("no")
    native.__qualname__ = "Native"
    value.__dict__["__qualname__"] = "function"
    assert hidden_in([value]) == {}


def test_a_tree_of_points():
    spatial = pytest.importorskip("scipy.spatial")
    numpy = pytest.importorskip("numpy")
    name = "scipy.spatial._ckdtree.cKDTree"
    assert hidden_in([spatial.cKDTree(numpy.random.rand(10_000, 16))]) == {name: math.inf}
    assert hidden_in([spatial.cKDTree(numpy.random.rand(100, 16))]) == {}


def test_vocabularies_and_schemas_are_texts():
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"word{number}": number for number in range(100_000)}
    assert hidden_in([tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="word0"))]) == {}
    assert hidden_in([pytest.importorskip("regex").compile("a+")]) == {}
    pydantic = pytest.importorskip("pydantic")
    kind = type("Settings", (pydantic.BaseModel,), {"__annotations__": {"size": int}})
    assert hidden_in([kind.__pydantic_validator__, kind.__pydantic_serializer__]) == {}


def test_tables_of_pandas():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"x": range(125_000)})
    assert len(hidden_in([table])) == len(hidden_in([table["x"]])) == 1
    assert hidden_in([table[:1000].copy(), table.index]) == {}


def test_modules_and_functions_hide_nothing():
    assert hidden_in([types, print, test_tables_of_pandas, Plain.__init__, Plain().__init__]) == {}


def test_a_class_without_a_module_is_searched_like_others():
    """As nanobind and Mojo make them."""

    class Nameless(type):
        @property
        def __module__(cls):
            raise AttributeError

    kind = Nameless("Kind", (bytearray,), {})
    assert measure_of(Nameless("Plain", (), {})) is None
    assert hidden_in([kind(2_000_000)]) == {"Kind": 2_000_000}
