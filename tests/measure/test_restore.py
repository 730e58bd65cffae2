"""The caller's module is left exactly as it was found."""

import array
import dataclasses
import functools
import io
import itertools
import random
import threading
import types
from collections import OrderedDict, deque

import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.measure import restore
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.placement import placed
    from pytest_infergate.measure.restore import arguments_kept, module_restored


def snapshot(module):
    """Everything of a module that a user can see, by identity and by value."""
    found = {}
    for name, part in module.named_modules(remove_duplicate=False):
        found[name] = (
            type(part),
            id(part),
            part.training,
            {
                key: (id(p), p.data_ptr(), p.device, p.dtype, p.requires_grad, id(p.grad))
                for key, p in part._parameters.items()
                if p is not None
            },
            {
                key: (id(b), b._version if not b.is_inference() else None, b.device)
                for key, b in part._buffers.items()
                if b is not None
            },
            {key: id(value) for key, value in vars(part).items() if key != "training"},
            {key: list(value) for key, value in vars(part).items() if isinstance(value, (dict, list))},
        )
    values = {
        key: value.clone() for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)
    }
    return found, values


def same(before, after):
    assert before[0] == after[0]
    assert before[1].keys() == after[1].keys()
    for key, value in before[1].items():
        assert torch.equal(value, after[1][key]), key


def run(model, *args, device="cpu", calls=3):
    with placed(Invocation(model, args), device) as ready:
        for _ in range(calls):
            ready.call()


def mixed():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).eval(), nn.Dropout(), nn.Linear(3, 3))
    model[3].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    model(torch.ones(2, 3)).sum().backward()
    return model.train()


MODELS = {
    "mixed": mixed,
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    "parametrised": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_module_is_left_as_it_was_found(make, device):
    model = make()
    before = snapshot(model)
    run(
        model,
        torch.ones(2, 4, 4) if isinstance(model, nn.TransformerEncoderLayer) else torch.ones(2, 3),
        device=device,
    )
    same(before, snapshot(model))


def test_a_module_that_raises_is_restored_too():
    class Fails(nn.Sequential):
        def forward(self, x):
            self.extra = x
            self[0].weight = nn.Parameter(torch.zeros(3, 3))
            raise RuntimeError("model")

    model = Fails(*mixed())
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="model"):
        run(model, torch.ones(2, 3), device="meta")
    same(before, snapshot(model))


def test_a_module_that_cannot_be_moved_is_restored_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")).train()
    before = snapshot(model)
    with pytest.raises(NotImplementedError):
        run(model, torch.ones(1, 2))
    after = snapshot(model)
    assert before[0] == after[0]


def test_gradients_come_home():
    model = nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    gradient, values = model.weight.grad, model.weight.grad.clone()
    run(model, torch.ones(1, 2), device="meta")
    assert model.weight.grad is gradient
    assert gradient.device.type == "cpu"
    assert torch.equal(gradient, values)
    torch.optim.SGD(model.parameters(), 0.1).step()


def test_an_empty_parameter_comes_home():
    model = nn.Linear(2, 2)
    model.none = nn.Parameter(torch.empty(0))
    run(model, torch.ones(1, 2), device="meta")
    assert model.none.device.type == "cpu"


class Stateful(nn.Module):
    """Changes everything it has, in every way there is."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.weight = nn.Parameter(torch.ones(2))
        self.child = nn.Linear(2, 2)
        self.register_buffer("counted", torch.zeros(2))
        self.register_buffer("nothing", None)
        self.plain = torch.zeros(2)
        self.number = 0
        self.seen = []
        self.cache = {"a": torch.zeros(2)}
        self.names = {"x"}
        with torch.inference_mode():
            self.made_there = torch.zeros(2)

    def forward(self, x):
        getattr(self, self.how)(x)
        return x

    def changes_buffers(self, x):
        self.counted += 1
        self.counted.data.add_(1)

    def changes_buffers_unseen(self, x):
        self.counted.data.add_(1)
        self.plain.numpy()[:] = 7

    def replaces_buffers(self, x):
        self.counted = self.counted + 1
        self.nothing = x
        self.register_buffer("added", x)

    def changes_attributes(self, x):
        self.number += 1
        self.plain += 1
        self.made_there.add_(1)

    def replaces_attributes(self, x):
        self.plain = x
        self.fresh = x
        self.seen = None
        self.__dict__.pop("number", None)

    def resizes(self, x):
        self.plain.resize_(4).fill_(3)

    def fills_containers(self, x):
        self.seen.append(x)
        self.cache["b"] = x
        self.cache["a"].add_(1)
        self.names.add("y")

    def swaps_parameters(self, x):
        self.weight = nn.Parameter(torch.zeros(2))
        self.other = nn.Parameter(torch.zeros(2))

    def swaps_children(self, x):
        self.child = nn.Identity()
        self.more = nn.Identity()

    def hooks_itself(self, x):
        self.register_forward_hook(lambda *_: None)

    def changes_mode(self, x):
        self.train()
        self.child.train()

    def turns_into_another(self, x):
        self.__class__ = Other


class Other(Stateful):
    pass


HOWS = [name for name in vars(Stateful) if not name.startswith("_") and name != "forward"]


def values(model):
    return [model.counted, model.plain, model.cache["a"], model.made_there, model.weight, model.child.weight]


@pytest.mark.parametrize("how", HOWS)
def test_what_forward_changes_is_put_back(how):
    model = Stateful(how).train()
    before, contents = snapshot(model), [value.tolist() for value in values(model)]
    run(model, torch.ones(2))
    after = snapshot(model)
    for part in before[0]:  # versions grow where values are put back
        assert before[0][part][:4] == after[0][part][:4]
        assert before[0][part][5:] == after[0][part][5:]
    assert [value.tolist() for value in values(model)] == contents
    assert model.names == {"x"}
    assert model.nothing is None
    assert not hasattr(model, "added")


def test_buffers_shared_between_modules_stay_shared():
    one, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    other.running_mean = one.running_mean
    model = nn.Sequential(one, other)
    run(model, torch.ones(3, 2), device="meta")
    assert one.running_mean is other.running_mean
    assert one.running_mean.device.type == "cpu"


def test_weights_tied_across_modules_stay_tied():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = one.weight
    run(nn.Sequential(one, other), torch.ones(1, 2), device="meta")
    assert one.weight is other.weight


def test_weights_that_eval_folds_are_unfolded_to_the_last_bit():
    class Folds(nn.Linear):
        """As low-rank adapters do it."""

        def __init__(self):
            super().__init__(3, 3)
            self.merged = False
            self.delta = nn.Parameter(torch.full((3, 3), 0.1))

        def train(self, mode=True):
            if self.merged == mode:
                self.weight.data += -self.delta if mode else self.delta
                self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Folds(), nn.ReLU())
    before = model[0].weight.detach().clone()
    run(model, torch.ones(1, 3))
    assert torch.equal(model[0].weight, before)
    assert not model[0].merged
    assert model.training


def test_slots_are_restored():
    class Slotted(nn.Module):
        __slots__ = ("state",)

        def __init__(self):
            super().__init__()
            self.state = torch.zeros(1)

        def forward(self, x):
            self.state = self.state + 1
            return x

    model = Slotted()
    state = model.state
    run(model, torch.ones(1))
    assert model.state is state


def test_properties_are_not_touched():
    class CountedCall(nn.Module):
        def __init__(self):
            super().__init__()
            self._n = 0

        @property
        def n(self):
            return self._n

        @n.setter
        def n(self, value):
            raise AssertionError("nobody may set it")

        def forward(self, x):
            self._n += 1
            return x

    model = CountedCall()
    run(model, torch.ones(1))
    assert model.n == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_buffers():
    model = nn.Identity()
    odd = {
        "sparse": torch.eye(2).to_sparse(),
        "nested": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        "jagged": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
        "float8": torch.ones(2).to(torch.float8_e5m2),
        "expanded": torch.zeros(1).expand(4),
        "nan": torch.tensor([float("nan")]),
    }
    for name, tensor in odd.items():
        model.register_buffer(name, tensor)
    run(model, torch.ones(1))
    assert all(getattr(model, name) is tensor for name, tensor in odd.items())


def test_every_part_is_restored_though_one_cannot_be():
    first, last = nn.Linear(1, 1), nn.Linear(1, 1)
    model = nn.Sequential(first, nn.Identity(), last).train()
    model[1].table = table = bytearray(2)

    def change():
        with module_restored(model):
            model.eval()
            table.append(1)
            change.view = memoryview(table)  # forbids another length

    with pytest.raises(BufferError):
        change()
    assert first.training
    assert last.training


def test_a_buffer_whose_memory_was_freed_comes_back():
    class Frees(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.ones(2))
            self.register_buffer("gone", torch.ones(2))
            self.gone.untyped_storage().resize_(0)

        def forward(self, x):
            self.table.untyped_storage().resize_(0)
            return x

    model = Frees()
    run(model, torch.ones(1), calls=1)
    assert model.table.tolist() == [1, 1]


def test_a_compiled_module_is_restored_and_its_copy_is_compiled():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x * self.scale

    model = Scale().train()
    compiled = torch.compile(model, backend="eager")
    run(compiled, torch.ones(2))
    assert type(compiled._orig_mod) is Scale
    assert model.training
    assert compiled.training
    with placed(Invocation(compiled, (torch.ones(2),)), "cpu", "bfloat16") as ready:
        assert ready.call().dtype == torch.bfloat16
    assert model.scale.dtype == torch.float32


def test_modules_with_hooks_keep_them_and_run_them():
    model = nn.Linear(1, 1)
    ran = []
    model.register_forward_hook(lambda *_: ran.append(1))
    model.register_forward_pre_hook(lambda *_: ran.append(0))
    run(model, torch.ones(1, 1), calls=1)
    model(torch.ones(1, 1))
    assert ran == [0, 1, 0, 1]


class Generates(nn.Module):
    """Keeps a cache, as language models do, and is called by another method than forward."""

    def __init__(self):
        super().__init__()
        self.text, self.head, self.cache = nn.Embedding(50, 8), nn.Linear(8, 50), []

    def forward(self, ids):
        self.cache.append(self.text(ids))
        return self.head(torch.cat(self.cache, 1).mean(1))

    def generate(self, ids, *, new):
        for _ in range(new):
            ids = torch.cat([ids, self(ids[:, -1:]).argmax(-1, keepdim=True)], 1)
        return ids


def test_a_method_that_calls_the_module_several_times():
    model = Generates().train()
    before = snapshot(model)
    asked = Invocation(model.generate, (torch.ones(1, 3, dtype=torch.long),), {"new": 2})
    for dtype in (None, "bfloat16"):
        with placed(asked, "cpu", dtype) as ready:
            assert ready.call().shape == (1, 5)
        same(before, snapshot(model))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_a_language_model_that_generates():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=1, pad_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).train()
    before = snapshot(model)
    ids = torch.ones(1, 3, dtype=torch.long)
    asked = Invocation(model.generate, (ids,), {"max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False})
    with placed(asked, "cpu") as ready:
        assert ready.call().shape == (1, 5)
    same(before, snapshot(model))
    with placed(asked, "cpu", "bfloat16") as ready:
        assert ready.call().shape == (1, 5)
    same(before, snapshot(model))


def test_containers_within_containers_are_put_back():
    module = torch.nn.Module()
    module.past = {"keys": [torch.zeros(2)], "window": deque([1], maxlen=3)}
    with module_restored(module):
        module.past["keys"].append(torch.ones(2))
        module.past["keys"][0].add_(1)
        module.past["window"].append(2)
    assert list(module.past) == ["keys", "window"]
    assert len(module.past["keys"]) == 1
    assert module.past["keys"][0].eq(0).all()
    assert list(module.past["window"]) == [1]


def test_a_container_within_itself_ends():
    module = torch.nn.Module()
    module.loop = []
    module.loop.append(module.loop)
    with module_restored(module):
        module.loop.append(1)
    assert module.loop == [module.loop]


# Arguments of repeated calls


@dataclasses.dataclass
class Batch:
    x: torch.Tensor
    emb: torch.Tensor | None = None


class Slotted:
    __slots__ = ("cache",)

    def __init__(self):
        self.cache = None


class Counted(dict):
    """A dictionary with state of its own."""

    def __setitem__(self, key, value):
        raise AssertionError("only its owner may call this")


class Private:
    __slots__ = ("__n",)

    def __init__(self):
        self.__n = 0

    def count(self):
        self.__n += 1


class Boxes(torch.Tensor):
    scale = 1.0


def ragged():
    clips = numpy.empty(2, dtype=object)
    clips[:] = [numpy.ones(2), numpy.ones(3)]
    return clips


def closing_over(seen):
    def callback():
        seen.append(1)

    return callback


def counting(number):
    def count():
        nonlocal number
        number += 1

    return count


class Pipeline:
    """Holds a model, and more."""

    def __init__(self, model):
        self.model, self.calls, self.ring, self.texts = model, 0, torch.zeros(2), []


def changes_nested(value):
    value["list"][0]["tensors"].append(torch.ones(1))
    value["list"][0]["deque"].popleft()
    value["list"].append(3)


def changes_array(value):
    value[1, 1] = 7


def changes_tensor_attribute(value):
    value.cached = 3


CHANGES = {
    "dictionary": (lambda: {"x": torch.ones(2)}, lambda v: v.update(emb=1)),
    "dictionary, replaced": (lambda: {"x": torch.ones(2)}, lambda v: v.update(x=torch.ones(2))),
    "ordered": (lambda: OrderedDict(a=1, b=2), lambda v: v.move_to_end("a")),
    "list": (lambda: [torch.ones(1), torch.ones(1)], lambda v: v.pop()),
    "list, order": (lambda: [1, 2, 3], lambda v: v.reverse()),
    "set": (lambda: {1, 2}, lambda v: v.add(3)),
    "bytearray": (lambda: bytearray(b"ab"), lambda v: v.append(1)),
    "nested": (lambda: {"list": [{"tensors": [], "deque": deque([1, 2], maxlen=2)}]}, changes_nested),
    "subclass": (lambda: Counted(a=1), lambda v: dict.__setitem__(v, "b", 2)),
    "subclass, attribute": (lambda: Counted(a=1), lambda v: setattr(v, "seen", True)),
    "tuple of lists": (lambda: ([1],), lambda v: v[0].clear()),
    "dataclass": (lambda: Batch(torch.ones(2)), lambda v: setattr(v, "emb", v.x)),
    "attribute": (lambda: types.SimpleNamespace(a=1), lambda v: delattr(v, "a")),
    "slots": (Slotted, lambda v: setattr(v, "cache", 1)),
    "in place": (lambda: torch.ones(2), lambda v: v.mul_(2)),
    "data": (lambda: torch.ones(2), lambda v: v.data.mul_(2)),
    "numpy view": (lambda: torch.ones(2), lambda v: v.numpy().fill(3)),
    "other memory": (lambda: torch.ones(2), lambda v: v.set_(torch.ones(2).untyped_storage(), 0, (2,))),
    "transposed": (lambda: torch.ones(2, 2), lambda v: v.t_()),
    "resized": (lambda: torch.ones(2), lambda v: v.resize_(3)),
    "gradients": (lambda: torch.ones(2), lambda v: v.requires_grad_()),
    "tensor attribute": (lambda: torch.ones(2), changes_tensor_attribute),
    "array": (lambda: numpy.ones((2, 2)), changes_array),
    "array of objects": (lambda: numpy.array([None, 1], dtype=object), lambda v: v.fill(2)),
    "item of an array of objects": (ragged, lambda v: v[0].fill(2)),
    "record": (lambda: numpy.ones(2, dtype=[("a", "i4"), ("b", "f4")])[0], lambda v: v.__setitem__("a", 7)),
    "object in a record": (
        lambda: numpy.array([(1, [])], dtype=[("a", "i4"), ("b", "O")]),
        lambda v: v["b"][0].append(1),
    ),
    "view of records": (
        lambda: memoryview(numpy.ones(2, dtype=[("a", "i4")])),
        lambda v: numpy.asarray(v)["a"].fill(7),
    ),
    "generator": (lambda: torch.Generator().manual_seed(3), lambda v: torch.rand(1, generator=v)),
    "random": (lambda: random.Random(3), lambda v: v.random()),
    "numpy generator": (lambda: numpy.random.default_rng(3), lambda v: v.random()),
    "numpy random state": (lambda: numpy.random.RandomState(3), lambda v: v.rand()),
    "file": (lambda: io.StringIO("abc"), lambda v: v.read()),
    "bytes": (lambda: io.BytesIO(b"abc"), lambda v: v.write(b"xyz")),
    "memory view": (lambda: memoryview(bytearray(b"abc")), lambda v: v.__setitem__(0, 0)),
    "view of numbers": (lambda: memoryview(array.array("h", [1, 2])), lambda v: v.__setitem__(0, 7)),
    "bytes in place": (lambda: bytearray(b"abc"), lambda v: v.__setitem__(0, 0)),
    "array of numbers": (lambda: array.array("f", [1.0]), lambda v: v.append(2.0)),
    "private slot": (Private, lambda v: v.count()),
    "tensor subclass": (lambda: torch.ones(1).as_subclass(Boxes), lambda v: setattr(v, "scale", 0.5)),
    "bit generator": (lambda: numpy.random.PCG64(3), lambda v: v.random_raw()),
    "quasi-random engine": (lambda: torch.quasirandom.SobolEngine(2), lambda v: v.draw()),
    "partial": (lambda: functools.partial(list.append, [1]), lambda v: v(2)),
    "method of an object": (lambda: Private().count, lambda v: v()),
    "closure": (lambda: closing_over([]), lambda v: v()),
    "variable of a closure": (lambda: counting(0), lambda v: v()),
}


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_what_a_call_changes_of_its_arguments_is_restored_for_the_next(make, change):
    value = make()
    with arguments_kept((value,), {}) as kept:
        assert kept.settle()
        assert kept.changed_note() is None
        change(value)
        assert not kept.settle()  # not known before
        assert kept.changed_note().code == "inputs-changed"
        change(value)
        kept.renew()
        assert kept.settle()
        with arguments_kept((value,), {}) as again:
            change(value)
            assert not again.settle(), "the change has no effect the second time"
        change(value)
        assert kept.settle()
        change(value)
    with arguments_kept((value,), {}) as restored:
        change(value)
        assert not restored.settle()


def test_values_and_identities_are_those_that_were_given():
    x, cache = torch.arange(4.0), [torch.zeros(2)]
    batch = {"x": x, "cache": cache}
    with arguments_kept((batch,), {}):
        x.mul_(2)
        cache[0] = torch.ones(2)
        batch["cache"] = []
        batch["y"] = x
    assert list(batch) == ["x", "cache"]
    assert batch["x"] is x
    assert x.tolist() == [0, 1, 2, 3]
    assert batch["cache"] is cache
    assert cache[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    "holder", [lambda model: model, lambda model: [model], Pipeline], ids=["module", "list", "pipeline"]
)
def test_models_among_the_arguments_keep_their_state_until_the_last_call(holder):
    model = nn.BatchNorm1d(1)
    with arguments_kept((holder(model),), {}) as kept:
        model.calls = 1
        model.table = torch.ones(2)
        model.running_mean.fill_(3)
        assert kept.settle()
        assert (model.calls, model.running_mean.item()) == (1, 3)
    assert not hasattr(model, "calls")
    assert model.running_mean.item() == 0


def test_what_an_object_holds_beside_its_model_is_restored():
    class Server:
        def __init__(self):
            self.pipeline, self.history = Pipeline(nn.Linear(1, 1)), []

    server = Server()
    pipeline = server.pipeline
    with arguments_kept((server,), {}) as kept:
        for _ in range(2):
            pipeline.calls += 1
            pipeline.ring.add_(1)
            pipeline.texts.append("a")
            server.history.append(pipeline.calls)
            kept.settle()
            assert (pipeline.calls, pipeline.ring.tolist(), pipeline.texts, server.history) == (
                0,
                [0, 0],
                [],
                [],
            )
        assert kept.changed_note().code == "inputs-changed"


@pytest.mark.parametrize(
    "make", [lambda: nn.LazyLinear(1), lambda: torch.jit.script(nn.Linear(1, 1))], ids=["lazy", "scripted"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_that_cannot_be_restored_stay_as_a_call_left_them(make):
    model = make()
    with arguments_kept((Pipeline(model),), {}) as kept:
        model(torch.ones(1, 1))
        assert kept.settle()
    assert type(model) is not nn.LazyLinear
    assert model(torch.ones(2, 1)).shape == (2, 1)


@pytest.mark.filterwarnings("ignore")
def test_settings_that_a_call_of_a_tokenizer_sets_are_restored():
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.enable_truncation(3)
    with arguments_kept((tokenizer,), {}) as kept:
        for _ in range(2):
            tokenizer.enable_padding(length=2, pad_token="?")
            tokenizer.no_truncation()
            kept.settle()
            assert tokenizer.padding is None
            assert tokenizer.truncation["max_length"] == 3
        tokenizer.add_tokens(["b"])
    assert tokenizer.token_to_id("b") is None


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([float("nan"), 1.0]),
        numpy.array([numpy.nan]),
        torch.ones(2).to_sparse(),
        torch.ones(1).expand(3),
    ],
    ids=["nan", "array of nan", "sparse", "expanded"],
)
def test_arguments_without_a_change_have_none(value):
    with arguments_kept((value,), {}) as kept:
        assert kept.settle()


def test_tensors_made_in_inference_mode_are_renewed_in_it_and_outside():
    with torch.inference_mode():
        made_there, x = torch.ones(2), torch.zeros(2)
        with arguments_kept((made_there, x), {}) as kept:
            made_there.add_(1)
            x.add_(1)
            kept.settle()
            assert (made_there.tolist(), x.tolist()) == ([1, 1], [0, 0])
            made_there.add_(1)
        assert made_there.tolist() == [1, 1]


def test_an_iterator_is_exhausted_by_the_first_call_and_a_file_is_not():
    for value in (iter([1]), (n for n in [1]), map(abs, [1])):
        for nested in (value, [value], {"a": (value,)}, deque([value]), types.SimpleNamespace(stream=value)):
            with arguments_kept((nested,), {}) as kept:
                assert kept.consumed_note().code == "argument-consumed"
    for value in ([1], io.StringIO("a"), range(3), "text", itertools.count()):
        with arguments_kept((value,), {}) as kept:
            assert kept.consumed_note() is None


def test_an_endless_iterator_is_advanced_by_each_call():
    with arguments_kept(([itertools.cycle([1, 2])],), {}) as kept:
        assert kept.consumed_note().text == "an argument is or holds a cycle, which later calls find advanced"


def test_a_file_that_a_call_closes_stays_closed(tmp_path):
    (tmp_path / "image").write_bytes(b"12345")
    with (tmp_path / "image").open("rb") as file, arguments_kept((file,), {}) as kept:
        file.read(2)
        kept.settle()
        assert file.tell() == 0
        file.close()
        assert not kept.settle() or kept.changing
    assert file.closed


def test_helpers_of_a_module_are_restored():
    class Tables:
        table = None

        def of(self, size):
            if self.table is None:
                self.table = torch.arange(float(size))
            return self.table

    class Uses(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.tables = Tables()

        def forward(self, x):
            return super().forward(x * self.tables.of(4))

    model = Uses()
    run(model, torch.ones(1, 4))
    assert model.tables.table is None
    model(torch.ones(1, 4)).sum().backward()  # a table of inference mode could not be saved for it


@pytest.mark.filterwarnings("ignore")
def test_caches_of_transformers_are_the_same_in_each_call():
    cache_utils = pytest.importorskip("transformers.cache_utils")
    layer = torch.ones(1, 1, 3, 2)

    def grow(cache):
        return cache.update(layer[:, :, :1], layer[:, :, :1], 0)[0].shape[-2]

    cache = cache_utils.DynamicCache()
    cache.update(layer, layer, 0)
    with arguments_kept((), {"past": cache}) as kept:
        for _ in range(3):
            assert grow(cache) == 4
            kept.settle()
    assert cache.get_seq_length() == 3


def test_more_objects_than_are_saved_are_said(monkeypatch):
    monkeypatch.setattr(restore, "MAX_OBJECTS", 10)
    with arguments_kept(([[] for _ in range(20)],), {}) as kept:
        assert "more than 10 objects" in kept.changed_note().text


def test_a_table_of_pandas_is_the_same_in_each_call():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": ["a", "b"]})
    with arguments_kept((table,), {}) as kept:
        for _ in range(3):
            table["text"] = "query: " + table["text"]
            table["n"] = 1
            assert list(table.columns) == ["text", "n"]
            assert table["text"][0] == "query: a"
            kept.settle()
    assert table.to_dict("list") == {"text": ["a", "b"]}


def test_a_buffer_that_others_look_at_is_restored_in_place():
    buffer = bytearray(8)
    view = numpy.frombuffer(buffer, numpy.int16)
    with arguments_kept((buffer,), {}) as kept:
        view[:] = 3
        assert not kept.settle()
        assert view.tolist() == [0, 0, 0, 0]
        view[:] = 4
    assert view.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("change", ["paste", "thumbnail", "putpalette"])
def test_an_image_among_the_arguments_is_the_same_in_each_call(change):
    images = pytest.importorskip("PIL.Image")
    image = images.new("L" if change == "putpalette" else "RGB", (4, 4))
    before = (image.mode, image.size, image.tobytes())
    with arguments_kept((image,)) as kept:
        for _ in range(3):
            kept.settle()
            assert (image.mode, image.size, image.tobytes()) == before
            if change == "paste":
                image.paste((255, 0, 0), (0, 0), images.new("L", (4, 4), 128))
            elif change == "thumbnail":
                image.paste((255, 0, 0), (0, 0, 1, 1))
                image.thumbnail((2, 2))
            else:
                image.putpalette(bytes(range(256)) * 3)
        kept.settle()
        assert kept.changed_note() is not None
    assert (image.mode, image.size, image.tobytes()) == before


def test_an_event_among_the_arguments_is_as_it_was():
    event = threading.Event()
    with arguments_kept({"decoded": event}) as kept:
        event.set()
        kept.settle()
        assert not event.is_set()
