"""Reading and rebuilding of nested values, without torch and numpy except where a test needs them."""

import array
import ctypes
import dataclasses
import enum
import functools
import gc
import io
import subprocess
import sys
import threading
import weakref
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.nested import Graph, parts


class Mark:
    """A leaf: it has no attributes."""

    __slots__ = ()


class Pair(NamedTuple):
    left: Any
    right: Any


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slots:
    __slots__ = ("_Slots__hidden", "held", "unset")

    def __init__(self, held):
        self.held = self.__hidden = held


class Derived(Slots):
    """Slots of a base, and a dictionary of its own."""

    def __init__(self, held):
        super().__init__(held)
        self.more = [held]


@dataclasses.dataclass(frozen=True)
class Frozen:
    held: Any

    def __post_init__(self):
        assert self.held != "made again"


class Strict(list):
    """A list whose constructor and methods do not take what it holds."""

    def __init__(self, size, *, of):
        super().__init__([of] * size)
        self.size = size

    def append(self, item):
        raise AssertionError

    extend = append


class Record(dict):
    """A dictionary with attributes, one of which is an item."""

    def __init__(self, held):
        super().__init__(held=held)
        self.held = held
        self.extra = [held]


def graph_of(value):
    return [type(leaf) for leaf in Graph(value).leaves]


MARK = Mark()
HOLDERS = {
    "list": [MARK],
    "tuple": (1, (MARK,)),
    "namedtuple": Pair(MARK, 2),
    "dict": {"a": MARK, 3: {4}},
    "ordered": OrderedDict(b=MARK, a=1),
    "default": defaultdict(list, a=[MARK]),
    "counter": Counter(a=1, b=MARK),
    "chain": ChainMap({"a": MARK}),
    "user dict": UserDict(a=MARK),
    "user list": UserList([MARK]),
    "deque": deque([MARK, 1], maxlen=2),
    "set": {MARK},
    "frozenset": frozenset({MARK}),
    "proxy": MappingProxyType({"a": MARK}),
    "object": Plain(a=MARK),
    "deep object": Plain(a=[Plain(b=MARK)]),
    "slots": Slots(MARK),
    "derived": Derived(MARK),
    "frozen": Frozen(MARK),
    "namespace": SimpleNamespace(a=MARK),
    "strict": Strict(2, of=MARK),
    "record": Record(MARK),
}


def contents(value):
    """All leaves, and the types of all that hold them."""
    graph = Graph(value)
    return graph.leaves, [type(node) for node, _ in graph.nodes.values()]


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_a_leaf_is_replaced_wherever_it_is(holder):
    other = Mark()
    new = Graph(holder).rebuilt(lambda leaf: other if leaf is MARK else leaf)
    leaves, kinds = contents(holder)
    assert contents(new) == ([other if leaf is MARK else leaf for leaf in leaves], kinds)
    assert MARK in leaves
    assert other not in Graph(holder).leaves


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_what_does_not_change_is_the_same_object(holder):
    assert Graph(holder).rebuilt(lambda leaf: leaf) is holder


def test_what_a_container_is_besides_its_items_stays():
    holders = [defaultdict(list, a=MARK), deque([MARK], maxlen=3), Strict(1, of=MARK), Record(MARK)]
    new = Graph(holders).rebuilt(lambda leaf: 7 if leaf is MARK else leaf)
    found, queue, strict, record = new
    assert found["new"] == []
    assert queue.maxlen == 3
    assert (list(strict), strict.size) == ([7], 1)
    assert (record, record.held, record.extra) == ({"held": 7}, 7, [7])


def test_an_attribute_that_is_an_item_counts_once():
    assert graph_of(Record(MARK)) == [Mark, Mark]
    assert parts(Record(MARK)).attributes.keys() == {"extra"}


def test_slots_of_a_base_and_hidden_ones_are_read_and_set():
    new = Graph(Derived(MARK)).rebuilt(lambda leaf: 7)
    assert (new.held, new._Slots__hidden, new.more) == (7, 7, [7])
    assert not hasattr(new, "unset")


def test_a_shared_value_stays_shared():
    shared = [MARK]
    new = Graph({"a": shared, "b": (shared,)}).rebuilt(lambda leaf: Mark())
    assert new["a"] is new["b"][0] is not shared
    first, second = Graph([MARK, MARK]).rebuilt(lambda leaf: Mark())
    assert first is second


def test_cycles():
    ring = [MARK]
    through = (ring, MARK)
    ring.append((through,))
    new = Graph(through).rebuilt(lambda leaf: 7 if leaf is MARK else leaf)
    assert new[0][1][0] is new
    assert (new[0][0], new[1]) == (7, 7)
    node = Plain(mark=MARK)
    node.me = {"self": node}
    new = Graph(node).rebuilt(lambda leaf: 7)
    assert new.me["self"] is new is not node


@pytest.mark.parametrize("view", [dict.values, dict.items, MappingProxyType])
def test_a_view_in_its_own_dictionary_stays(view):
    holder = {"a": [1]}
    holder["view"] = view(holder)
    copied = tensors.clone_tensors((holder, (holder["view"],)))
    assert copied[0]["a"] is not holder["a"]
    assert copied[0]["view"] is copied[1][0] is holder["view"]


def test_a_part_refers_to_the_copy_of_what_holds_it():
    whole = Plain(part=Plain(), mark=MARK)
    whole.part.whole = weakref.ref(whole)
    new = Graph(whole).rebuilt(lambda leaf: 7 if leaf is MARK else leaf)
    assert new.part.whole() is new
    assert whole.part.whole() is whole


def test_a_chain_longer_than_the_stack_of_calls():
    chain = cell = None
    for _ in range(20_000):
        chain, cell = Plain(next=chain, mark=MARK), (cell, MARK)
    new = Graph([chain, cell]).rebuilt(lambda leaf: 7 if leaf is MARK else leaf)
    assert new[0].next.next.mark == new[1][0][0][1] == 7


class Refuses(SimpleNamespace):
    def __reduce_ex__(self, protocol):
        raise TypeError("not to be copied")


def test_what_cannot_be_copied_stays_with_all_that_hold_it():
    for kept in (Refuses(a=MARK), functools.partial(print, MARK)):
        for holder in (kept, [kept], (kept,), Plain(a=kept)):
            assert Graph(holder).rebuilt(lambda leaf: 7 if leaf is MARK else leaf) is holder


class Colour(enum.Enum):
    RED = (1,)


WHOLE = {
    "class": Plain, "function": graph_of, "builtin": len, "method": [].append, "module": sys, "enum": Colour.RED,
    "generator": (i for i in ()), "lock": threading.Lock(), "thread": threading.Thread(), "file": sys.stderr,
    "object": object(), "iterator": iter([1]), "partial": functools.partial(len),
}  # fmt: skip


@pytest.mark.parametrize("value", WHOLE.values(), ids=WHOLE)
def test_what_is_taken_as_a_whole(value):
    assert parts(value) is None
    assert tensors.copy_to_cpu([value])[0] is value
    assert tensors.clone_tensors(value) is value


def test_properties_and_hooks_of_a_class_are_not_called():
    class Loud:
        def refuse(self, *_):
            raise AssertionError

        __getattr__ = __setattr__ = __iter__ = __eq__ = __copy__ = __deepcopy__ = __getstate__ = refuse
        __hash__ = None
        shown = property(refuse)

        def __init__(self):
            object.__setattr__(self, "held", MARK)

    new = Graph(Loud()).rebuilt(lambda leaf: 7)
    assert new.held == 7


def test_copies_of_an_output_without_torch():
    output = {
        "a": [1, {2}],
        "b": deque([bytearray(b"x")]),
        "c": array.array("d", [1.0]),
        "d": memoryview(bytearray(4)),
    }
    copied = tensors.clone_tensors(output)
    assert copied == output
    output["a"][1].add(3)
    output["b"][0][0] = 0
    output["c"][0] = 9.0
    output["d"][0] = 9
    assert copied == {"a": [1, {2}], "b": deque([b"x"]), "c": array.array("d", [1.0]), "d": bytes(4)}


class Word(str):  # noqa: SLOT000
    """Text with an attribute; its constructor takes something else."""

    def __new__(cls, number, **attributes):
        self = super().__new__(cls, f"word {number}")
        vars(self).update(attributes)
        return self


class Count(int):
    pass


class Weighted(tuple):  # noqa: SLOT001
    pass


def changing():
    """Values that hold nothing but plain values, a function that changes them, and one that shows them."""
    queue, ordered, plain = deque([1], maxlen=2), OrderedDict(a=1), {"a": 1}
    count, weighted = Count(3), Weighted([1])
    count.label = weighted.label = "first"
    memory = (ctypes.c_float * 2)(1.0)
    return {
        "object": (value := Plain(label="first"), partial(setattr, value, "label", "later"), vars),
        "new attribute": (value := Plain(a=1), partial(setattr, value, "label", "later"), vars),
        "slots": (value := Slots(1), partial(setattr, value, "held", 2), lambda it: it.held),
        "in a tuple": (([value := Plain(a=1)],), partial(setattr, value, "a", 2), lambda it: it[0][0].a),
        "namespace": (value := SimpleNamespace(a=1), partial(setattr, value, "a", 2), vars),
        "text": (value := Word(1, score=1), partial(setattr, value, "score", 2), lambda it: (it, it.score)),
        "number": (count, partial(setattr, count, "label", "later"), lambda it: (it, it.label)),
        "tuple": (weighted, partial(setattr, weighted, "label", "later"), lambda it: (it, it.label)),
        "queue": (queue, partial(queue.append, 2), list),
        "keys": (plain.keys(), partial(plain.update, b=2), list),
        "values": (plain.values(), partial(plain.update, a=2), list),
        "items": (plain.items(), partial(plain.update, a=2), list),
        "ordered keys": (ordered.keys(), partial(ordered.update, b=2), list),
        "ordered values": (ordered.values(), partial(ordered.update, a=2), list),
        "ordered items": (ordered.items(), partial(ordered.update, a=2), list),
        "proxy": (MappingProxyType(plain), partial(plain.update, a=2), dict),
        "chain": (ChainMap(plain), partial(plain.update, a=2), dict),
        "bytes": (value := bytearray(b"a"), partial(value.extend, b"b"), bytes),
        "array": (value := array.array("d", [1]), partial(value.append, 2), list),
        "key": ({(key := Plain(hits=1)): 1}, partial(setattr, key, "hits", 2), lambda it: vars(next(iter(it)))),
        "tuple key": ({(key := Plain(hits=1), 1): 1}, partial(setattr, key, "hits", 2),
                      lambda it: vars(next(iter(it))[0])),
        "frozen key": ({frozenset({key := Plain(hits=1)}): 1}, partial(setattr, key, "hits", 2),
                       lambda it: [vars(item) for item in next(iter(it))]),
        "proxy key": (MappingProxyType({(key := Plain(hits=1)): 1}), partial(setattr, key, "hits", 2),
                      lambda it: vars(next(iter(it)))),
        "file": (value := io.BytesIO(b"a"), partial(value.write, b"b"), lambda it: it.getvalue()),
        "ctypes": (memory, partial(memory.__setitem__, 0, 2.0), list),
    }  # fmt: skip


@pytest.mark.parametrize("name", changing())
def test_a_copy_stays_when_plain_values_change(name):
    value, change, shown = changing()[name]
    before = repr(shown(value))
    copies = tensors.clone_tensors(value), tensors.copy_to_cpu([value])[0]
    change()
    assert [repr(shown(copied)) for copied in copies] == [before, before] != [repr(shown(value))] * 2
    assert {type(copied) for copied in copies} == {type(value)}


def test_a_key_is_found_by_its_copy_and_by_what_is_equal_to_it():
    key, equal = Plain(hits=1), Frozen(3)
    key.found = {key: "in a cycle"}
    copied = tensors.clone_tensors([key, {key: "a", (key, 1): "b", equal: "c"}])
    assert copied[0] is not key
    assert (copied[1][copied[0]], copied[1][copied[0], 1], copied[1][Frozen(3)]) == ("a", "b", "c")
    assert copied[0].found[copied[0]] == "in a cycle"


def test_a_copied_exception_has_its_cause():
    error = ValueError("bad", 1)
    error.details, error.__cause__ = ["first"], KeyError("cause")
    copied = tensors.clone_tensors([error])[0]
    error.details.append("later")
    assert (type(copied), copied.args, copied.details) == (ValueError, ("bad", 1), ["first"])
    assert copied.__cause__ is error.__cause__
    assert copied.__suppress_context__


def test_a_structure_that_refers_to_other_memory_stays():
    class Named(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char_p)]

    named = Named(b"first")
    assert tensors.clone_tensors([named])[0] is named


class Owner(Plain):
    """Releases something at its end: a copy must not release it too."""

    def __del__(self):
        self.released.append(self.name)


def test_the_copy_of_an_owner_releases_nothing_and_keeps_the_original():
    released = []
    owner = Owner(name="a", released=released)
    copied = tensors.copy_to_cpu(tensors.clone_tensors([owner]))[0]
    owner.name = "b"
    assert isinstance(copied, Owner)
    assert (copied.name, type(copied).__qualname__, copied.released) == ("a", "Owner", [])
    del owner
    gc.collect()
    assert released == []
    del copied
    gc.collect()
    assert released == ["b"]


class SlottedOwner:
    __slots__ = ("held",)

    def __del__(self):
        self.held.append("released")


def test_the_copy_of_an_owner_without_a_dictionary():
    held = ["first"]
    owner = SlottedOwner()
    owner.held = held
    copied = tensors.clone_tensors(owner)
    assert copied.held == ["first"]
    assert copied.held is not held
    del owner, copied
    gc.collect()
    assert held == ["first", "released"]


class Sealed:
    """It makes its dictionary private."""

    @property
    def __dict__(self):
        raise PermissionError


def test_an_object_whose_dictionary_cannot_be_read_stays():
    sealed = Sealed()
    assert tensors.clone_tensors([sealed])[0] is sealed


def test_copies_keep_cycles_and_what_is_shared():
    inner = Plain(a=1)
    inner.me = inner
    copied = tensors.clone_tensors({"first": inner, "second": [inner], inner: "by identity"})
    assert copied["first"] is copied["second"][0] is copied["first"].me is not inner
    assert copied[copied["first"]] == "by identity"


def test_a_copy_is_made_past_what_a_class_checks():
    frozen = Frozen("a")
    copied = tensors.clone_tensors({frozen, 1})
    assert copied == {frozen, 1}
    assert next(each for each in copied if each != 1) is not frozen


def test_nan_in_plain_values():
    nan = float("nan")
    value = {"a": [nan, 1.0, 2], "b": (complex(nan, 0), "nan"), "c": Plain(x=nan), "d": Slots(1.0), "e": None}
    assert tensors.count_nan(value) == (3, 6)


def test_neither_library_is_imported():
    code = (
        "import sys; from pytest_infergate.instruments import tensors; from pytest_infergate.measure import output_checks;"
        "value = {'a': [1.0, {2}]};"
        "assert tensors.copy_to_cpu(value) == tensors.clone_tensors(value) == tensors.to_device(value, 'cpu') == value;"
        "assert (tensors.count_nan(value), tensors.signature(value)) == ((0, 1), ());"
        "assert output_checks.unsound_output_note([float('nan')], [1.0], 'cpu').code == 'nan-output';"
        "assert output_checks.torch_state_note() is None and output_checks.gradients_note(value) is None;"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
