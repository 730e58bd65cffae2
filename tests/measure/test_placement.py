import functools
import threading

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from odd_tensors import UNCOPYABLE
    from torch import nn

    from pytest_infergate.instruments.operator_counters import counters
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.placement import NotAnInstanceError, NotCopiedError, placed


def run(target, *args, device="cpu", dtype=None, calls=1, **kwargs):
    """What the last call returned, and what `placed` returned."""
    with placed(Invocation(target, args, kwargs), device, dtype) as ready:
        for _ in range(calls):
            output = ready.call()
    return output, ready


class Asks(nn.Linear):
    """Tells under which circumstances it ran."""

    def forward(self, x):
        self.seen = (torch.is_inference_mode_enabled(), self.training, x.device.type, x.dtype)
        return super().forward(x), self.seen

    def ask(self, x, *, twice=False):
        return self.forward(x)[1], twice


# How it runs


def test_a_module_runs_in_eval_and_inference_mode():
    (_, seen), ready = run(Asks(2, 2).train(), torch.ones(1, 2))
    assert seen == (True, False, "cpu", torch.float32)
    assert ready.from_host is None
    assert ready.notes == ()
    assert not torch.is_inference_mode_enabled()


def test_a_method_and_partials_of_one():
    model = Asks(2, 2).train()
    x = torch.ones(1, 2)
    for target, args, expected in [
        (model.ask, (x,), False),
        (functools.partial(model.ask, x), (), False),
        (functools.partial(functools.partial(model.ask, twice=True), x), (), True),
    ]:
        (seen, twice), _ = run(target, *args, dtype="bfloat16")
        assert seen == (True, False, "cpu", torch.bfloat16)
        assert twice is expected
    assert model.training
    assert model.weight.dtype == torch.float32
    assert x.dtype == torch.float32


def test_a_partialmethod():
    class Model(Asks):
        twice = functools.partialmethod(Asks.ask, twice=True)

    (seen, twice), _ = run(Model(2, 2).twice, torch.ones(1, 2))
    assert twice
    assert seen[0] is True


def test_keyword_arguments_are_moved():
    (_, seen), _ = run(Asks(2, 2), x=torch.ones(1, 2), dtype="float64")
    assert seen[3] == torch.float64


def test_another_device_and_the_call_from_the_host():
    model = Asks(2, 2)
    with placed(Invocation(model, (torch.ones(1, 2),)), "meta") as ready:
        assert ready.call()[0].device.type == "meta"
        assert ready.from_host is not None
        assert ready.weights() == {"float32": 24}
    assert model.weight.device.type == "cpu"


def test_a_server_calls_from_inputs_on_the_host():
    with placed(Invocation(Asks(2, 2), (torch.ones(1, 2),)), "meta") as ready:
        assert ready.served.args[0].device.type == "cpu"
        output = ready.served.target(torch.ones(3, 2))
        assert (output[0].shape, output[0].device.type) == ((3, 2), "meta")
    with placed(Invocation(nn.Linear(2, 2), (torch.ones(1, 2),)), "cpu", "bfloat16") as ready:
        assert ready.served.args[0].dtype == torch.bfloat16
        assert ready.served.target(torch.cat([ready.served.args[0]] * 3)).shape == (3, 2)


def test_a_model_with_a_call_of_its_own():
    class Model(nn.Module):
        def __call__(self, x):
            return x + torch.is_inference_mode_enabled()

    assert run(Model(), torch.ones(1))[0].item() == 2


def test_a_generator_is_consumed_in_inference_mode():
    class Model(nn.Module):
        def forward(self, n):
            for _ in range(n):
                yield torch.is_inference_mode_enabled()

    with placed(Invocation(Model(), (3,)), "cpu") as ready:
        assert list(ready.call()) == [True] * 3


def test_a_class_of_modules_is_refused():
    message = (
        r"^infer must be called with a module, got the class Linear. Hint: infer\(Linear\(\.\.\.\), x\)$"
    )
    with pytest.raises(NotAnInstanceError, match=message), placed(Invocation(nn.Linear, (2, 2)), "cpu"):
        pass


def test_attention_over_one_tensor_stays_so():
    class Model(nn.Module):
        def forward(self, query, key, value):
            return query is key is value

    x = torch.ones(1)
    assert run(Model(), x, x, value=x, dtype="bfloat16")[0]


# Plain callables


def test_a_plain_callable_is_left_as_it_is():
    x = torch.ones(2)

    def call(given):
        return given is x, torch.is_inference_mode_enabled()

    output, ready = run(call, x, device="meta", dtype="float16")
    assert output == (True, False)
    assert (ready.from_host, ready.weights(), ready.notes) == (None, None, ())


def test_a_device_that_moves_nothing_takes_a_module_as_it_is():
    (_, seen), ready = run(Asks(2, 2).train(), torch.ones(1, 2), device=None)
    assert seen[:2] == (False, True)
    assert ready.weights() == {"float32": 24}


class Loads:
    """A service that loads its model in the first call."""

    model = None

    def predict(self, x):
        if self.model is None:
            self.model = nn.Linear(4, 4)
        return self.model(x)


def test_weights_that_the_first_call_loads():
    with placed(Invocation(Loads().predict, (torch.ones(1, 4),)), "cpu") as ready:
        assert ready.weights() is None
        ready.call()
        assert ready.weights() == {"float32": 80}


GLOBAL = nn.Linear(1, 1)


def by_global(x):
    return GLOBAL(x)


@torch.inference_mode()
def decorated(x):
    return GLOBAL(x)


class Pipeline:
    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)

    def run(self, x):
        return self.model(x)


def callables(model):
    pipeline = Pipeline(model)

    def closure(x):
        return model(x) + 0

    def outer(x):
        return closure(x) + 0

    def over_an_object(x):
        return pipeline.run(x) + 0

    return {
        "closure": closure,
        "function in closure": outer,
        "decorated closure": torch.no_grad()(closure),
        "partial argument": functools.partial(lambda m, x: m(x), model),
        "partial keyword": functools.partial(lambda x, m: m(x), m=model),
        "object": pipeline,
        "object in closure": over_an_object,
        "method": pipeline.run,
    }


@pytest.mark.parametrize("training", [True, False])
def test_a_module_in_training_mode_inside_a_callable_is_noted(training):
    model = nn.Linear(1, 1).train(training)
    for name, target in callables(model).items():
        _, ready = run(target, torch.ones(1, 1))
        assert [note.code for note in ready.notes] == ["training-mode"] * training, name
        assert model.training is training, name


@pytest.mark.parametrize("target", [by_global, decorated])
def test_a_module_in_training_mode_among_the_globals_is_noted(target):
    _, ready = run(target, torch.ones(1, 1))
    assert [note.text for note in ready.notes] == ["a module inside the callable was in training mode"]


def test_callables_without_anything_to_see():
    def recursive(x):
        return recursive if x else None

    for target in (len, Pipeline, recursive, functools.partial(max, 1), type("C", (), {"__call__": len})()):
        with placed(Invocation(target), "cpu") as ready:
            assert ready.notes == ()


# Weights


def test_weights_after_a_cast():
    assert run(nn.Linear(4, 4), torch.ones(1, 4), dtype="bfloat16")[1].weights() == {"bfloat16": 40}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_packed_weights_are_hidden_and_not_zero():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    output, ready = run(model, torch.ones(1, 4), calls=2)
    assert output.shape == (1, 4)
    assert ready.weights() is None


# Inputs


class Halves(nn.Module):
    def forward(self, x, *, more):
        return x.mul_(0.5) + more.add_(1)


@pytest.mark.parametrize(
    "make",
    [lambda x, m: ((Halves(), (x,), {"more": m})), lambda x, m: (functools.partial(Halves(), x, more=m),)],
)
def test_inputs_that_the_model_changes_are_the_same_in_each_call_and_noted(make):
    x, more = torch.ones(2), torch.zeros(2)
    with placed(Invocation(*make(x, more)), "cpu") as ready:
        for _ in range(3):
            assert ready.arguments.changed_note() is None
            assert ready.call().tolist() == [1.5, 1.5]
            ready.arguments.restore()
        ready.call()
        ready.arguments.settle()
        assert ready.arguments.changed_note().code == "inputs-changed"
    assert (x.tolist(), more.tolist()) == ([1, 1], [0, 0])


def test_inputs_that_stay_are_not_noted():
    with torch.inference_mode():
        made_there = torch.ones(1, 2)
    for x in (torch.ones(1, 2), made_there, torch.full((1, 2), float("nan"))):
        with placed(Invocation(Asks(2, 2), (x,)), "cpu") as ready:
            ready.call()
            assert ready.arguments.settle()
        assert ready.arguments.changed_note() is None


# Modules that cannot be put back are copied


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_measured_by_copy():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x + self.calls

    scripted = torch.jit.script(Counts().train())
    for model in (scripted, nn.Sequential(scripted)):
        assert run(model, torch.zeros(1), calls=3)[0].item() == 3
        assert scripted.calls.item() == 0
        assert scripted.training


def test_a_lazy_module_stays_lazy():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    output, ready = run(model, torch.ones(2, 5), calls=2)
    assert output.shape == (2, 3)
    assert ready.weights() == {"float32": 72}  # known since the first call
    assert type(model[0]) is nn.LazyLinear
    assert model(torch.ones(2, 7)).shape == (2, 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_dtype_is_a_deep_copy_even_of_what_torch_refuses_to_copy():
    model = nn.utils.weight_norm(nn.Linear(2, 2))
    model(torch.ones(1, 2))  # leaves an attribute with a history
    weight = model.weight
    assert run(model, torch.ones(1, 2), dtype="bfloat16")[0].dtype == torch.bfloat16
    assert model.weight is weight
    assert model.weight_g.dtype == torch.float32


def test_a_program_of_torch_export_keeps_its_mode():
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)).module()
    assert run(program, torch.ones(1, 2))[0].shape == (1, 2)


def test_a_module_that_refuses_to_move_need_not_where_it_is():
    class Stays(nn.Linear):
        def to(self, *args, **kwargs):
            raise ValueError("`.to` is not supported for quantised models")

    assert run(Stays(2, 2), torch.ones(1, 2))[0].shape == (1, 2)
    with pytest.raises(ValueError, match="not supported"):
        run(Stays(2, 2), torch.ones(1, 2), device="meta")


def test_a_module_whose_own_to_takes_a_device_alone():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.ones(2)

        def to(self, device):
            self.table = self.table.to(device)
            return self

        def forward(self, x):
            return x + self.table

    model = Model()
    assert run(model, torch.ones(2), device="meta")[0].device.type == "meta"
    assert model.table.device.type == "cpu"


def test_places_in_a_method_have_their_paths_in_the_model():
    class Encodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

        def encode(self, x):
            return self.layers[1](self.layers[0](x) * 2)

    with placed(Invocation(Encodes().encode, (torch.ones(1, 2),)), "cpu") as ready:
        places = {row.place for row in counters(ready.call, "cpu").work}
    assert places == {"layers.0", "layers.1", ""}


def test_lazy_buffers_stay_lazy_too():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    x = torch.ones(2, 3, 8, 8)
    output, ready = run(model, x, calls=2)
    assert output.shape == (2, 4, 6, 6)
    assert ready.weights() == {"float32": (4 * 3 * 9 + 4 + 4 * 4) * 4, "int64": 8}
    assert [type(part) for part in model] == [nn.LazyConv2d, nn.LazyBatchNorm2d]
    assert nn.parameter.is_lazy(model[1].running_mean)
    assert model[1].running_mean.persistent
    assert model.eval()(torch.ones(2, 5, 8, 8)).shape == (2, 4, 6, 6)


def test_a_module_that_has_to_be_copied_and_cannot_be_is_refused_before_its_first_call():
    model = nn.Sequential(nn.LazyLinear(2))
    model.lock = threading.Lock()
    with pytest.raises(NotCopiedError, match=r"before its first call.*lock.*Hint: call it once before infer"):
        run(model, torch.ones(1, 2))
    model(torch.ones(1, 2))
    assert run(model, torch.ones(1, 2))[0].shape == (1, 2)
    with pytest.raises(NotCopiedError, match="dtype"):
        run(model, torch.ones(1, 2), dtype="bfloat16")


def test_what_has_no_memory_is_neither_moved_nor_in_the_way():
    model = nn.Linear(2, 2)
    model.register_buffer("described", torch.empty(2, device="meta"))
    output, _ = run(model, torch.ones(1, 2))
    assert output.device.type == "cpu"
    assert model.described.is_meta
    assert run(lambda x, y: (x, y), torch.ones(1), torch.empty(2, device="meta"))[0][1].is_meta
    with pytest.raises(NotImplementedError):  # all of it
        run(nn.Linear(2, 2, device="meta"), torch.ones(1, 2))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", UNCOPYABLE)
def test_a_tensor_that_cannot_be_copied_does_not_prevent_a_run(name):
    tensor, x = UNCOPYABLE[name](), torch.ones(1, 2)
    model = nn.Linear(2, 2)
    model.register_buffer("table", tensor)
    _, ready = run(model, x)
    assert [note.code for note in ready.notes] == ["tensor-not-copied"] * (name == "wraps")
    assert model.table is tensor
    _, ready = run(lambda x, table: (x, table is tensor), x, tensor)
    assert [note.code for note in ready.notes] == ["tensor-not-copied"] * (name == "wraps")
    model.lazy = nn.LazyLinear(2)  # it is copied
    assert run(model, x)[0].shape == (1, 2)
