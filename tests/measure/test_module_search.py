import argparse
import collections
import contextvars
import enum
import functools
import sys
import threading
import types
import weakref
from multiprocessing import shared_memory

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.measure import module_search
    from pytest_infergate.measure.module_search import Held, held, module_of


@pytest.mark.parametrize(
    "target",
    [
        lambda m: m,
        lambda m: m.forward,
        lambda m: m.extra_repr,
        lambda m: functools.partial(m, 1),
        lambda m: functools.partial(functools.partial(m.extra_repr, 1), twice=True),
        lambda m: functools.partial(m.__call__),
    ],
)
def test_the_module_behind_a_target(target):
    model = nn.Linear(2, 2)
    assert module_of(target(model)) is model


@pytest.mark.parametrize("target", [len, max, nn.Linear, lambda x: x, "text".join, None, 3])
def test_no_module(target):
    assert module_of(target) is None


MODEL, OTHER = nn.Linear(2, 2), nn.Linear(3, 3)
TABLE = torch.zeros(5)
NAMESPACE = types.SimpleNamespace(model=MODEL)
LIBRARY = types.ModuleType("library")
LIBRARY.model, LIBRARY.other = MODEL, OTHER


class Inner:
    def __init__(self, model):
        self.model = model

    def run(self, x):
        return self.model(x)


class Service:
    kind = nn.Linear

    def __init__(self, model):
        self.inner = {"de": [Inner(model)]}

    def __call__(self, x):
        return self.inner["de"][0].run(x)

    def by_global(self, x):
        return self._other(MODEL(x))

    def _other(self, x):
        return [*(OTHER(item) + 1 for item in x)]


class Slotted:
    __slots__ = ("model",)

    def __init__(self, model):
        self.model = model

    def predict(self, x):
        return self.model(x)


class Shared:
    model = MODEL

    @classmethod
    def by_class(cls, x):
        return cls.model(x)

    @staticmethod
    def by_name(x):
        return Shared.model(x)

    def by_self(self, x):
        return self.model(x)


class Local(Shared):
    pass


class Registry:
    models = (("base", MODEL),)

    @classmethod
    def get(cls, name):
        return dict(cls.models)[name]


def helper(x):
    return MODEL(x)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@functools.cache
def cached():
    return next(iter([MODEL]))


@functools.lru_cache(maxsize=2)
def cached_service(name):
    return Inner(globals()["MODEL"])


SERVICE = Service(MODEL)


def found(target):
    return set(held(target).modules)


@pytest.mark.parametrize(
    "target",
    [
        MODEL,
        MODEL.forward,
        Inner(MODEL).run,
        Service(MODEL),
        Service(MODEL).__call__,
        functools.partial(Inner(MODEL).run, 1),
        functools.partial(len, MODEL),
        lambda x: MODEL(x) + 1,
        lambda x, service=SERVICE: service(x),
        lambda x: [MODEL(item) for item in x],
        lambda x: helper(x) + 1,
        lambda x: NAMESPACE.model(x) + 1,
        lambda x: LIBRARY.model(x) + 1,
        decorated(helper),
        torch.no_grad()(helper),
        Slotted(MODEL).predict,
        lambda x: Registry.get("base")(x) + 1,
        Shared.by_class,
        Shared.by_name,
        Shared().by_self,
        Local().by_self,
        Local.by_class,
        Inner(collections.deque([{"a": (MODEL,)}])).run,
        Inner(functools.partial(helper)).run,
        Inner(helper).run,
    ],
)
def test_a_module_that_a_callable_refers_to(target):
    assert found(target) == {MODEL}


def test_modules_that_hooks_refer_to():
    model, before, after = (nn.Linear(2, 2) for _ in range(3))
    model.register_forward_pre_hook(lambda module, args: before(*args))
    model.register_forward_hook(lambda module, args, output: after(output))
    assert found(model) == {model, before, after}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_function():
    assert found(torch.compile(helper, backend="eager")) == {MODEL}


def test_a_method_that_calls_others_on_itself():
    assert found(Service(None).by_global) == {MODEL, OTHER}


def test_results_in_a_cache():
    def by_cache(x):
        return cached()(x)

    def by_service(x):
        return cached_service("a").run(x)

    assert found(by_service) == set()
    cached_service("a")
    cached()
    assert (found(by_cache), found(by_service)) == ({MODEL}, {MODEL})


@pytest.mark.parametrize(
    "target", [len, lambda x: x, nn.Linear, torch.relu, lambda x: nn.Linear(2, 2)(x) + 1, 3]
)
def test_nothing_is_found(target):
    assert held(target) == Held()


class Tables:
    def __init__(self):
        self.table = TABLE

    def look_up(self, x):
        return self.table[x]


def test_tensors_of_an_object_whose_methods_are_called():
    tables = Tables()
    for target in (tables.look_up, lambda x: tables.look_up(x) + 1, functools.partial(tables.look_up, 1)):
        assert [id(tensor) for tensor in held(target).tensors] == [id(TABLE)]


def test_inputs_are_no_weights():
    x, batch = torch.zeros(3), collections.UserDict(x=torch.zeros(3))
    for target in (lambda: x + TABLE, functools.partial(len, x), lambda: [*batch.items()], lambda y=x: y):
        assert held(target)[:2] == ((), ())


def test_objects_that_refer_to_each_other_end_the_search():
    one, other = Inner(None), Inner(None)
    one.model, other.model = [other], {"one": one, "model": MODEL}
    assert found(one.run) == {MODEL}


def test_a_search_without_end_is_incomplete(monkeypatch):
    monkeypatch.setattr(module_search, "MAX_SEARCHED", 10)
    assert held(Inner([(number,) for number in range(100)]).run).complete is False


class Proxy:
    """As proxies of web frameworks outside of a request."""

    @property
    def __class__(self):
        raise RuntimeError("outside of a request")

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")


def test_a_proxy_is_not_asked():
    assert found(Inner([Proxy(), MODEL]).run) == {MODEL}


# Ways to a module through the code of functions


class Hidden(nn.Module):
    """Uses another module without keeping it."""

    def __init__(self, **kept):
        super().__init__()
        for name, value in kept.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.used()(x)


class ByGlobal(Hidden):
    def forward(self, x):
        return MODEL(x)


class ByMethod(Hidden):
    def forward(self, x):
        return self._encode(x)

    def _encode(self, x):
        return MODEL(x)

    def never_called(self, x):
        return OTHER(x)


class ByStatic(Hidden):
    def forward(self, x):
        return Shared.by_name(x)


class ByProperty(Hidden):
    @property
    def model(self):
        return MODEL

    def forward(self, x):
        return self.model(x)


class ByItem(Hidden):
    def __getitem__(self, name):
        return MODEL

    def forward(self, x):
        return self["base"](x)


class ByLibrary(Hidden):
    def forward(self, x):
        return LIBRARY.model(x)


class ByInstance(Hidden):
    def forward(self, x):
        return Late().run(x)


class Late:
    def __init__(self):
        self.model = MODEL

    def run(self, x):
        return self.model(x)


class Models(enum.Enum):
    BASE = MODEL


class ByEnum(Hidden):
    def forward(self, x):
        return Models.BASE.value(x)


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return MODEL(x)


class ByFunction(Hidden):
    def forward(self, x):
        return Function.apply(x)


class OnlyAnAttribute(Hidden):
    """Has an attribute with the name of a global."""

    def forward(self, x):
        return self.MODEL(x)


def patched():
    model = Hidden()
    model.forward = lambda x: MODEL(x) + 1
    return model


@pytest.mark.parametrize(
    "kind", [ByGlobal, ByMethod, ByStatic, ByProperty, ByItem, ByLibrary, ByInstance, ByEnum, ByFunction]
)
def test_a_module_in_the_code_of_another(kind):
    model = kind()
    assert found(model) == {model, MODEL}
    # Also where it is a part, or called by a method.
    outer = nn.Sequential(model)
    assert found(outer) - {model} == {outer, MODEL}
    assert found(model.forward) == {model, MODEL}


def test_an_attribute_is_not_the_global_of_its_name():
    model = OnlyAnAttribute()
    assert found(model) == {model}


def test_functions_in_attributes_of_a_module():
    for model in (Hidden(used=lambda: MODEL), Hidden(used=MODEL.forward), patched()):
        assert found(model) == {model, MODEL}


def test_imports_inside_of_a_function(monkeypatch):
    store, package = types.ModuleType("weight_store"), types.ModuleType("weights_of.inner")
    store.NET, package.NET = MODEL, OTHER
    monkeypatch.setitem(sys.modules, "weight_store", store)
    monkeypatch.setitem(sys.modules, "weights_of.inner", package)

    def absolute(x):
        from weight_store import NET

        return NET(x)

    def renamed(x):
        import weight_store as other

        return other.NET(x)

    source = "def relative(x):\n    from .inner import NET\n    return NET(x)\n"
    names = {"__name__": "weights_of.tests", "__package__": "weights_of"}
    exec(source, names)
    assert (found(absolute), found(renamed), found(names["relative"])) == ({MODEL}, {MODEL}, {OTHER})


def generated():
    model = MODEL
    while True:
        yield model


STARTED = generated()
next(STARTED)
CONTEXT = contextvars.ContextVar("context")
CONTEXT.set(MODEL)
BY_THREAD = threading.local()
BY_THREAD.model = MODEL


def object_array():
    array = pytest.importorskip("numpy").empty(1, dtype=object)
    array[0] = MODEL
    return array


@pytest.mark.parametrize(
    "make",
    [
        lambda: types.MappingProxyType({"model": MODEL}),
        {"model": MODEL}.values,
        {"model": MODEL}.items,
        lambda: {MODEL: "model"},
        lambda: iter([MODEL]),
        lambda: map(MODEL, [1]),
        lambda: argparse.Namespace(model=MODEL),
        lambda: weakref.ref(MODEL),
        lambda: weakref.proxy(MODEL),
        lambda: weakref.WeakValueDictionary(model=MODEL),
        lambda: weakref.WeakSet([MODEL]),
        lambda: {"model": MODEL}.get,
        lambda: functools.partial(MODEL, 1),
        lambda: BY_THREAD,
        lambda: CONTEXT,
        lambda: STARTED,
        object_array,
    ],
)
def test_a_module_behind_an_object_of_the_library(make):
    kept = make()
    model = Hidden(used=[kept])
    assert found(lambda: kept) == {MODEL}
    assert found(model) == {model, MODEL}


def test_attributes_of_another_thread():
    local, stop, ready = threading.local(), threading.Event(), threading.Event()

    def work():
        local.model = MODEL
        ready.set()
        stop.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        assert found(lambda x: local.model(x) + 1) == {MODEL}
    finally:
        stop.set()
        thread.join()


def test_tensors_by_the_way_to_them():
    closed, owned = torch.zeros(2), torch.zeros(3)
    model = Hidden(used=lambda: owned)
    model.register_forward_pre_hook(lambda module, args: TABLE)
    seen = held(lambda x: model(x) + closed)
    assert [*map(id, seen.tensors)] == [id(owned)]
    assert [*map(id, seen.shared)] == [id(TABLE)]
    assert [*map(id, seen.closed)] == [id(closed)]


def test_arrays_may_be_weights_or_inputs():
    array = pytest.importorskip("numpy").zeros(3)
    assert {*map(id, held(Hidden(used=array)).shared)} == {id(array)}
    assert [*map(id, held(lambda: array).closed)] == [id(array)]


def test_what_is_hidden_counts_once_however_many_ways_lead_to_it():
    data, numbers = bytes(600_000), [number + 0.5 for number in range(30_000)]

    def other():
        return data[0] + numbers[0]

    assert held(lambda: other() + data[1] + numbers[1]).hidden == ()
    more = bytes(400_000)
    assert held(lambda: other() + data[1] + more[1]).hidden == ("bytes",)


def test_tensors_of_a_coroutine_may_be_those_of_its_last_call():
    def service(model):
        y = None
        while True:
            x = yield y
            y = model(x)

    running = service(MODEL)
    next(running)
    running.send(torch.ones(1, 2))
    found = held(running.send)
    assert found.modules == (MODEL,)
    assert {tuple(tensor.shape) for tensor in found.tensors} == {(2, 2), (2,)}
    assert [tuple(tensor.shape) for tensor in found.closed] == [(1, 2), (1, 2)]


def test_shared_memory_is_hidden_memory():
    memory = shared_memory.SharedMemory(create=True, size=1 << 20)
    try:
        assert held(functools.partial(len, [memory])).hidden
    finally:
        memory.close()
        memory.unlink()
