"""What the dispatcher is seen to do: operators, places, bytes, casts, copies; and that nothing stays behind."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TorchScript
    pytest.mark.filterwarnings("ignore::UserWarning"),  # nested, sparse and quantised tensors are prototypes
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

if True:  # after the skip
    from counting import ONE_PASS, calls, counted, counters, counting_device, measured
    from torch import nn
    from torch._subclasses import FakeTensor, FakeTensorMode
    from torch.nn.modules import module as modules
    from torch.overrides import _get_current_function_mode
    from torch.testing._internal.two_tensor import TwoTensor
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    from pytest_infergate.instruments import operator_counters


def left_behind():
    """Global hooks and modes."""
    return (
        dict(modules._global_forward_hooks),
        dict(modules._global_forward_pre_hooks),
        dict(modules._global_forward_hooks_always_called),
        _get_current_dispatch_mode(),
        _get_current_function_mode(),
    )


@pytest.fixture(autouse=True)
def nothing_stays_behind(undisturbed):
    before = left_behind()
    yield
    assert left_behind() == before


def totals(call, device="cpu"):
    return counted(call, device).totals


def moved(call):
    """Bytes read and written."""
    seen = totals(call)
    return seen["bytes_read"], seen["bytes_written"]


X = torch.rand(4, 8)
BYTES = 4 * 8 * 4


# Operators


def test_operators_are_a_multiset():
    seen = counted(lambda: torch.relu(torch.relu(X) + 1).sum())
    assert calls(seen) == {("aten::relu", ""): 2, ("aten::add", ""): 1, ("aten::sum", ""): 1}
    assert seen.totals["operators"] == 4
    assert seen.notes == ()


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(100),
        lambda: torch.empty_like(X),
        lambda: X.new_empty(100),
        lambda: torch.empty_strided((2, 3), (3, 1)),
        lambda: X.new_empty_strided((2, 3), (3, 1)),
        lambda: torch.empty_permuted((2, 3), (0, 1)),
        lambda: torch._efficientzerotensor((2, 3)),
    ],
)
def test_allocating_is_no_work(allocate):
    seen = counted(lambda: (allocate(), torch.relu(X)))
    assert calls(seen) == {("aten::relu", ""): 1}
    assert (seen.totals["operators"], seen.totals["bytes_read"]) == (1, BYTES)
    assert counted(allocate).totals == dict.fromkeys(seen.totals, 0)


def test_filling_what_is_allocated_is_work():
    assert calls(counted(lambda: torch.empty(100).fill_(1.0))) == {("aten::fill_", ""): 1}
    assert calls(counted(lambda: torch.zeros(100))) == {("aten::zeros", ""): 1}


def test_questions_about_a_tensor_are_no_work():
    sparse = torch.eye(4).to_sparse()
    query = torch.rand(1, 2, 8, 16)
    assert (
        calls(counted(lambda: (sparse.is_coalesced(), sparse._nnz(), X.is_pinned(), X.is_same_size(X)))) == {}
    )
    attention = counted(lambda: nn.functional.scaled_dot_product_attention(query, query, query))
    assert len(attention.work) == 1
    assert calls(counted(lambda: torch.equal(X, X + 0))) == {("aten::add", ""): 1, ("aten::equal", ""): 1}


def test_labels_of_a_profiler_are_no_work():
    def call():
        with torch.profiler.record_function("encoder"):
            return torch.relu(X)

    seen = counted(call)
    assert (calls(seen), seen.notes) == ({("aten::relu", ""): 1}, ())
    model = nn.Linear(8, 4)
    assert counted(lambda: nn.DataParallel(model)(X)).totals == counted(lambda: model(X)).totals


def test_views_are_no_operators():
    def call():
        return torch.relu(X).view(8, 4).t().unsqueeze(0).expand(2, -1, -1)[:, 1:].detach()

    seen = counted(call)
    assert calls(seen) == {("aten::relu", ""): 1}
    assert seen.totals["views"] >= 5


def test_constants_are_no_operators():
    assert calls(counted(lambda: torch.tensor([1.0, 2.0]) + 1)) == {("aten::add", ""): 1}


def test_a_reshape_that_copies_is_an_operator():
    assert calls(counted(lambda: X.t().reshape(-1))) == {("aten::clone", ""): 1}


def test_composite_operators_are_taken_apart():
    model = nn.Linear(8, 4)
    expected = {("aten::addmm", "Linear"): 1}
    assert calls(counted(lambda: model(X))) == expected
    assert calls(operator_counters.counters(lambda: model(X), "cpu")) == expected


def test_the_same_work_in_every_mode():
    model = nn.Sequential(
        nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
    ).eval()
    seen = counted(lambda: model(X.unsqueeze(0)))
    with torch.no_grad():
        assert operator_counters.counters(lambda: model(X.unsqueeze(0)), "cpu").totals == seen.totals


# Places


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.out(torch.relu(self.query(x)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(self.attention(x) + x)


class Encoder(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return torch.tanh(x)


def test_places_are_paths_of_modules():
    model = Encoder()
    seen = counted(lambda: model(X) * 2)
    layers = {
        (operator, f"layers.{number}{place}"): 1
        for number in range(2)
        for operator, place in (
            ("aten::addmm", ".attention.query"),
            ("aten::relu", ".attention"),
            ("aten::addmm", ".attention.out"),
            ("aten::add", ""),
            ("aten::native_layer_norm", ".norm"),
        )
    }
    assert calls(seen) == {**layers, ("aten::tanh", "Encoder"): 1, ("aten::mul", ""): 1}


def test_equal_places_stand_together():
    rows = {(row.operator, row.place): row.calls for row in counters(Encoder(12), X).operators}
    assert rows["aten::addmm", "layers.{0-11}.attention.query"] == 1
    assert rows["aten::add", "layers.{0-11}"] == 1


def test_lists_within_lists():
    model = nn.ModuleDict({"a": nn.ModuleList([nn.ModuleList([nn.ReLU(), nn.Tanh()])])})

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = model

        def forward(self, x):
            return self.blocks["a"][0][1](self.blocks["a"][0][0](x))

    assert set(calls(counted(lambda: Model()(X)))) == {
        ("aten::relu", "blocks.a.0.0"),
        ("aten::tanh", "blocks.a.0.1"),
    }


def test_several_models_in_one_callable():
    one, other = nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())
    seen = counted(lambda: other(one(X)) + 1)
    assert set(calls(seen)) == {("aten::relu", "0"), ("aten::tanh", "Sequential.0"), ("aten::add", "")}


def test_a_module_that_runs_twice():
    model = nn.Sequential(nn.ReLU())
    assert calls(counted(lambda: model(model(X)))) == {("aten::relu", "0"): 2}


def test_a_module_in_two_places_has_the_name_of_the_first():
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.Sequential(shared))
    assert calls(counted(lambda: model(X))) == {("aten::relu", "0"): 2}


def test_after_an_exception_the_place_is_right_again():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError(torch.relu(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fails = nn.Sequential(Fails())

        def forward(self, x):
            try:
                self.fails(x)
            except ValueError:
                return torch.tanh(x)

    seen = counted(lambda: Model()(X).exp())
    assert set(calls(seen)) == {("aten::relu", "fails.0"), ("aten::tanh", "Model"), ("aten::exp", "")}


def test_an_exception_leaves_nothing_behind():
    def fail():
        nn.ReLU()(X)
        raise KeyError("model")

    before = left_behind()
    with pytest.raises(KeyError):
        counted(fail)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        counted(lambda: nn.Sequential(nn.Linear(3, 3))(X))
    assert left_behind() == before
    assert calls(counted(lambda: X + 1)) == {("aten::add", ""): 1}


def test_other_threads_do_not_move_the_place():
    class Model(nn.Module):
        def forward(self, x):
            thread = threading.Thread(target=nn.Sequential(nn.Identity()), args=(x,))
            thread.start()
            thread.join()
            return torch.tanh(x)

    assert calls(counted(lambda: Model()(X))) == {("aten::tanh", "Model"): 1}


# Bytes


def test_bytes_read_and_written():
    assert moved(lambda: X + X) == (2 * BYTES, BYTES)
    assert moved(X.sum) == (BYTES, 4)
    assert moved(lambda: torch.cat([X, X])) == (2 * BYTES, 2 * BYTES)
    assert moved(lambda: X.max(0)) == (BYTES, 8 * 4 + 8 * 8)


def test_bytes_of_other_dtypes():
    half = X.bfloat16()
    assert moved(lambda: half + half) == (BYTES, BYTES // 2)
    assert moved(lambda: half > 0) == (BYTES // 2, 32)


def test_what_is_expanded_is_read_once():
    assert moved(lambda: X[:1].expand(4, 8) + X) == (8 * 4 + BYTES, BYTES)
    assert moved(lambda: X[:, :1].expand(4, 8).contiguous()) == (4 * 4, BYTES)


def test_what_is_transposed_is_read_whole():
    assert moved(lambda: X.t().contiguous()) == (BYTES, BYTES)


def test_a_slice_is_no_more_than_it_shows():
    assert moved(X[:, :2].contiguous) == (BYTES // 4, BYTES // 4)


@pytest.mark.parametrize(
    "gather",
    [
        lambda table, index: nn.functional.embedding(index, table),
        lambda table, index: table[index],
        lambda table, index: table.index_select(0, index),
    ],
)
def test_a_look_up_reads_what_it_finds(gather):
    table, index = torch.rand(1000, 8), torch.tensor([3, 4, 5])
    rows = 3 * 8 * 4
    assert moved(lambda: gather(table, index)) == (rows + 3 * 8, rows)


def test_in_place_reads_and_writes():
    x = X.clone()
    assert moved(lambda: x.add_(X)) == (2 * BYTES, BYTES)
    assert moved(x.relu_) == (BYTES, BYTES)


def test_a_copy_reads_its_source_only():
    x = X.clone()
    assert moved(lambda: x.copy_(X)) == (BYTES, BYTES)
    assert moved(x.zero_) == (0, BYTES)
    assert moved(lambda: x.fill_(1.0)) == (0, BYTES)


def test_out_is_written():
    x = torch.empty(4, 8)
    assert moved(lambda: torch.add(X, X, out=x)) == (2 * BYTES, BYTES)
    assert moved(lambda: torch.ops.aten.add_(self=x, other=X)) == (2 * BYTES, BYTES)


def test_memory_that_nobody_touches_is_not_moved():
    assert moved(lambda: torch.empty(100)) == (0, 0)
    assert moved(lambda: torch.zeros(100)) == (0, 400)


def test_bytes_stand_by_the_operator():
    seen = counted(lambda: nn.functional.relu(X) + X)
    assert {row.operator: row.bytes for row in seen.work} == {
        "aten::relu": 2 * BYTES,
        "aten::add": 3 * BYTES,
    }


# Casts


def test_casts():
    half, out = X.half(), torch.empty(4, 8, dtype=torch.float64)
    casts = (torch.Tensor.float, lambda x: x.to(torch.float32), lambda x: x.type_as(X), out.copy_)
    for cast in casts:
        assert totals(lambda cast=cast: cast(half + 1))["dtype_casts"] == 1
    for none in (torch.Tensor.float, lambda x: x.to(torch.float32), torch.clone, lambda x: x + half):
        assert totals(lambda none=none: none(X + 1))["dtype_casts"] == 0


def test_casts_of_autocast():
    model = nn.Linear(8, 4)

    def call():
        with torch.autocast("cpu", torch.bfloat16):
            return model(X)

    assert totals(call)["dtype_casts"] == 3


# Copies between host and device


@pytest.mark.parametrize(
    "trip",
    [
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.to(device="cpu"),
        lambda x: x.to("cpu", torch.float64),
        lambda x: x.tolist(),
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.sum() > 0),
    ],
)
def test_what_would_be_a_copy_on_an_accelerator_counts_on_the_cpu(trip):
    assert totals(lambda: trip(X + 1))["host_device_copies"] == 1


@pytest.mark.parametrize(
    "stay",
    [
        lambda x: x.to(x.device),
        lambda x: x.to(device=x.device),
        lambda x: x.to(x),
        lambda x: x.to(torch.float64),
        lambda x: x.double(),
        lambda x: x.clone(),
    ],
)
def test_what_stays_where_it_is_is_no_copy(stay):
    assert totals(lambda: stay(X + 1))["host_device_copies"] == 0


def test_a_round_trip_has_a_name_and_a_place():
    class Model(nn.Module):
        def forward(self, x):
            return (x + 1).cpu()

    seen = counted(lambda: nn.Sequential(Model())(X))
    assert calls(seen) == {("aten::add", "0"): 1, ("Tensor.cpu", "0"): 1}


@pytest.fixture
def accelerated():
    """A tensor that says it lies on CUDA."""
    with FakeTensorMode() as mode:
        yield FakeTensor(mode, torch.empty(4, 8, device="meta"), torch.device("cuda:0"))


def test_a_round_trip_from_an_accelerator(accelerated):
    seen = counted(lambda: (accelerated + 1).cpu().to("cuda:0") * 2, "cuda")
    assert calls(seen) == {("aten::add", ""): 1, ("aten::_to_copy", ""): 2, ("aten::mul", ""): 1}
    assert (seen.totals["host_device_copies"], seen.totals["dtype_casts"]) == (2, 0)


def test_a_copy_and_a_cast_at_once(accelerated):
    seen = totals(lambda: accelerated.to("cpu", torch.bfloat16), "cuda")
    assert (seen["host_device_copies"], seen["dtype_casts"]) == (1, 1)
    assert (seen["bytes_read"], seen["bytes_written"]) == (BYTES, BYTES // 2)


def test_copying_into_another_device(accelerated):
    assert totals(lambda: torch.empty(4, 8).copy_(accelerated), "cuda")["host_device_copies"] == 1


def test_staying_on_an_accelerator(accelerated):
    seen = totals(lambda: accelerated.to(accelerated.device).to(torch.bfloat16), "cuda")
    assert (seen["host_device_copies"], seen["dtype_casts"]) == (0, 1)


def test_a_scalar_of_the_host_is_no_copy_of_an_accelerator():
    assert totals(lambda: (X + 1).sum().item(), "cuda")["host_device_copies"] == 0


# Tensors of other kinds


def test_a_tensor_that_wraps_others_comes_down_to_them():
    both = TwoTensor(torch.rand(3, 3), torch.rand(3, 3))
    seen = counted(lambda: both @ both)
    assert (calls(seen), seen.totals["flops"]) == ({("aten::mm", ""): 2}, 2 * 54)


def test_a_plain_subclass():
    class Named(torch.Tensor):
        pass

    assert calls(counted(lambda: X.as_subclass(Named) + 1)) == {("aten::add", ""): 1}


def test_jagged_tensors():
    x = torch.nested.nested_tensor([torch.rand(2, 8), torch.rand(3, 8)], layout=torch.jagged)
    model = nn.Linear(8, 4, bias=False)
    assert totals(lambda: model(x))["flops"] == 2 * 5 * 8 * 4


def test_nested_tensors():
    x = torch.nested.nested_tensor([torch.rand(2, 8), torch.rand(3, 8)])
    seen = counted(lambda: nn.Linear(8, 4)(x).transpose(1, 2) * 2)
    assert seen.totals["flops"] == 2 * 5 * 8 * 4
    assert {row.operator: row.bytes for row in seen.work}["aten::mul"] == 2 * 5 * 4 * 4


def test_products_of_nested_tensors_are_noted():
    x = torch.nested.nested_tensor([torch.rand(2, 8), torch.rand(3, 8)])
    seen = counted(lambda: torch.matmul(x, x.transpose(1, 2)))
    assert "aten::matmul" in seen.notes[0].text


def test_sparse_tensors():
    seen = counted(lambda: torch.sparse.mm(torch.eye(4).to_sparse(), X))
    assert "_sparse_addmm" in seen.notes[0].text
    assert seen.totals["bytes_read"] > 0
    assert totals(lambda: torch.eye(4).to_sparse_csr() @ X)["bytes_written"] > 0


def test_quantised_tensors():
    x = torch.quantize_per_tensor(X, 0.1, 0, torch.qint8)
    assert moved(x.dequantize) == (32, BYTES)


def test_mkldnn_tensors():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    x = X.to_mkldnn()
    assert calls(counted(lambda: x + x)) == {("aten::add", ""): 1}


def test_complex_and_empty_tensors():
    assert moved(lambda: torch.view_as_real(X + 0j)) == (BYTES, 2 * BYTES)
    assert moved(lambda: torch.empty(0, 3) + 1) == (0, 0)
    assert moved(lambda: torch.empty(0, 3).expand(2, 0, 3) + 1) == (0, 0)


# Operators of other kinds


@torch.library.custom_op("infergate_tests::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x @ x.t()


def test_operators_of_others_are_counted_and_noted():
    seen = counted(lambda: square(X))
    assert calls(seen) == {("infergate_tests::square", ""): 1}
    assert seen.totals["bytes_written"] == 4 * 4 * 4
    (note,) = seen.notes
    assert note.text == (
        "FLOPs do not include infergate_tests::square: no formula is known, "
        "and calls inside of a custom operator cannot be observed"
    )


def test_branches_within_an_operator_are_noted():
    x = torch.rand(4, 4)
    seen = counted(lambda: torch.cond(x.sum() > 0, lambda a: a @ a, lambda a: a + 1, (x,)))
    (note,) = seen.notes
    assert note.text.startswith("FLOPs do not include cond: no formula is known")


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x @ x.t()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_functions_with_a_gradient_of_their_own():
    assert totals(lambda: Squared.apply(X))["flops"] == 2 * 4 * 4 * 8
    x = X.clone().requires_grad_()
    assert operator_counters.counters(lambda: Squared.apply(x), "cpu").totals["flops"] == 2 * 4 * 4 * 8


def test_gradients_inside_the_callable():
    x = X.clone().requires_grad_()
    weight = torch.rand(8, 4, requires_grad=True)

    def call():
        return torch.autograd.grad((x @ weight).sum(), [x, weight])

    assert operator_counters.counters(call, "cpu").totals["flops"] == 3 * 2 * 4 * 8 * 4


def test_function_transforms():
    batch = torch.rand(5, 4, 4)
    assert totals(lambda: torch.func.vmap(lambda x: x @ x)(batch))["flops"] == 5 * 2 * 4**3


def test_exported_and_traced_graphs():
    model = Attention().eval()
    expected = totals(lambda: model(X))["flops"]
    assert totals(lambda: torch.fx.symbolic_trace(model)(X))["flops"] == expected
    exported = torch.export.export(model, (X,)).module()
    assert totals(lambda: exported(X))["flops"] == expected


# Whatever a model may do: it is measured, and left as it was


class Steps(nn.Module):
    """Goes as far as its input says."""

    def forward(self, x):
        while x.sum() < 100:
            x = x * 2
        return x


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.inner.register_forward_hook(lambda module, args, output: output * 2)
        self.inner.register_forward_pre_hook(lambda module, args: (args[0] + 1,))

    def forward(self, x):
        return self.inner(x)


class Changes(nn.Module):
    """Its input, itself and its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.seen += 1
        return x.add_(1)


class Streams(nn.Module):
    def forward(self, x):
        for row in x:
            yield torch.relu(row)


class Outside(nn.Module):
    """Works in another thread."""

    def forward(self, x):
        results = []
        thread = threading.Thread(target=lambda: results.append(x @ x.t()))
        thread.start()
        thread.join()
        return results[0]


class Words(nn.Module):
    def forward(self, x):
        return "words"


class Fussy(nn.Module):
    """Raises an error when it is read."""

    def forward(self, x):
        if _get_current_dispatch_mode() is not None:
            raise RuntimeError("not under a mode\nat all")
        return torch.relu(x)


def state(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return tensors, {name: value for name, value in vars(model).items() if name[0] != "_"}


def unchanged(model, before):
    tensors, attributes = state(model)
    assert attributes == before[1]
    assert all(torch.equal(tensors[name], value) for name, value in before[0].items())


@pytest.mark.parametrize("kind", [Steps, Hooked, Changes, Streams, Encoder, nn.Identity])
def test_a_model_is_counted_and_left_as_it_was_found(kind):
    model, x = kind().train(), X.clone()
    before = state(model)
    run = measured(model, x)
    codes = {note.code for note in run.measurement.notes}
    assert run.invalid is None
    assert not codes & {"not-counted", "flops-uncovered"}
    assert run.measurement.counters.totals["peak_memory_bytes"] >= 0
    assert torch.equal(x, X)
    unchanged(model, before)


def test_steps_that_a_model_takes_are_all_counted():
    x = torch.full((4, 8), 1.0)  # 32, 64, 128
    seen = counters(Steps(), x)
    assert {row.operator: row.calls for row in seen.operators} == {
        "aten::sum": 3,
        "aten::lt": 3,
        "aten::_local_scalar_dense": 3,
        "aten::mul": 2,
    }


def test_hooks_of_a_model_belong_to_it():
    seen = counters(Hooked(), X)
    assert {(row.operator, row.place) for row in seen.operators} == {
        ("aten::add", "inner"),
        ("aten::addmm", "inner"),
        ("aten::mul", "Hooked"),  # torch runs a module's own hooks after the global ones
    }


def test_a_stream_is_counted_to_its_end():
    rows = {row.operator: row.calls for row in counters(Streams(), X).operators}
    assert rows["aten::relu"] == 4


@pytest.mark.parametrize("kind", [Outside, Words])
def test_work_that_is_not_seen_is_noted(kind):
    run = measured(kind(), X)
    assert run.invalid is None
    assert "operators-unseen" in [note.code for note in run.measurement.notes]
    assert not {"operators", "flops"} & set(run.measurement.counters.totals)


class Partly(nn.Module):
    """Works in another thread, and in that of the call."""

    def __init__(self, run):
        super().__init__()
        self.head, self.encoder, self.run = nn.Linear(8, 8), nn.Linear(8, 8), run

    def forward(self, x):
        return self.head(self.run(self.encoder, x))


def by_thread(model, x):
    results = []
    thread = threading.Thread(target=lambda: results.append(model(x)))
    thread.start()
    thread.join()
    return results[0]


class ByClass(threading.Thread):
    def __init__(self, model, x):
        super().__init__()
        self.model, self.x = model, x

    def run(self):
        self.result = self.model(self.x)


def by_class(model, x):
    thread = ByClass(model, x)
    thread.start()
    thread.join()
    return thread.result


def by_asyncio(model, x):
    return asyncio.run(asyncio.to_thread(model, x))


@pytest.fixture(params=["thread", "class", "executor", "pool", "asyncio"])
def elsewhere(request):
    """Ways to run a model in another thread; threads of a pool are older than the call."""
    with ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool:
        executor.submit(torch.ones, 3).result()
        yield {
            "thread": by_thread,
            "class": by_class,
            "executor": lambda model, x: executor.submit(model, x).result(),
            "pool": lambda model, x: pool.apply(model, (x,)),
            "asyncio": by_asyncio,
        }[request.param]


def test_work_in_other_threads_is_not_counted_as_if_it_were_none(elsewhere):
    model = Partly(elsewhere)
    seen = counted(lambda: model(X))
    assert (seen.totals, seen.work, seen.other_threads) == ({}, (), True)
    (note,) = seen.notes
    assert note.code == "operators-unseen"
    assert "aten::addmm" in note.text


def test_memory_of_other_threads_is_unknown_on_the_cpu():
    run = measured(Partly(by_thread), X)
    assert (run.measurement.memory.activations, run.measurement.memory.peak) == (None, None)
    assert {"operators-unseen", "memory-unseen"} <= {note.code for note in run.measurement.notes}
    assert {"weight_bytes"} <= set(run.measurement.counters.totals)
    assert not {"operators", "flops", "allocations"} & set(run.measurement.counters.totals)


def test_threads_of_torch_itself_are_counted():
    @torch.jit.script
    def forked(x):
        other = torch.jit.fork(torch.sigmoid, x)
        return torch.jit.wait(other) + torch.tanh(x)

    x = X.clone().requires_grad_()
    weight = torch.rand(8, 4, requires_grad=True)
    batch, conv = torch.rand(8, 3, 16, 16, dtype=torch.float64), nn.Conv2d(3, 8, 3, dtype=torch.float64)
    forked(X)
    assert calls(counted(lambda: forked(X))) == {
        ("aten::sigmoid", ""): 1, ("aten::tanh", ""): 1, ("aten::add", ""): 1,
    }  # fmt: skip
    assert counted(lambda: conv(batch)).other_threads is False
    gradients = operator_counters.counters(lambda: (x @ weight).sum().backward(), "cpu")
    assert gradients.totals["flops"] == 3 * 2 * 4 * 8 * 4


def test_threads_that_do_not_work_change_nothing():
    def call():
        thread = threading.Thread(target=[].append, args=(1,))
        thread.start()
        thread.join()
        return torch.relu(X)

    former = threading.getprofile()
    assert calls(counted(call)) == {("aten::relu", ""): 1}
    assert threading.getprofile() is former


def test_a_profiler_of_threads_goes_on():
    seen = []

    def call():
        thread = threading.Thread(target=abs, args=(-1,))
        thread.start()
        thread.join()

    def profiler(frame, event, argument):
        seen.append(event)

    former = threading.getprofile()
    threading.setprofile(profiler)
    try:
        counted(call)
        assert threading.getprofile() is profiler
    finally:
        threading.setprofile(former)
    assert len(seen) > 2


def test_operators_of_onednn_in_torchscript_are_unknown():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(Convolutions().eval())))
    for call in (model, nn.Sequential(model), model.forward):
        for _ in range(3):
            seen = counted(lambda call=call: call(IMAGES))
        assert (seen.totals, seen.work) == ({}, ())
        (note,) = seen.notes
        assert note.code == "operators-unseen"
        assert "prim::mkldnn_convolution" in note.text
    assert calls(counted(lambda: torch.relu(X))) == {("aten::relu", ""): 1}


def test_a_model_that_fails_when_looked_at_is_measured_without():
    run = measured(Fussy(), X)
    notes = {note.code: note.text for note in run.measurement.notes}
    assert notes["not-counted"] == "operators could not be counted: RuntimeError: not under a mode"
    assert not {"operators", "flops", "bytes_read"} & set(run.measurement.counters.totals)
    assert run.measurement.latency.count > 0


def test_a_plain_callable_with_several_models():
    one, other = Encoder().eval(), nn.Linear(8, 2)
    seen = measured(torch.no_grad()(lambda x: other(one(x))), X).measurement.counters
    assert seen.weights == {"float32": 4 * (2 * (2 * 72 + 16) + 18)}
    places = {row.place for row in seen.operators if row.operator == "aten::addmm"}
    assert places == {"layers.{0-1}.attention.query", "layers.{0-1}.attention.out", "Linear"}
    assert seen.totals["flops"] == 2 * 4 * 8 * (2 * 2 * 8 + 2)


@pytest.mark.parametrize(
    "convert",
    [
        torch.jit.script,
        lambda model: torch.jit.trace(model, X),
        lambda model: torch.jit.optimize_for_inference(torch.jit.script(model)),
    ],
    ids=["script", "trace", "optimize_for_inference"],
)
def test_torchscript(convert):
    run = measured(convert(Attention().eval()), X)
    assert run.measurement.counters.totals["flops"] == 2 * 2 * 4 * 8 * 8
    assert run.measurement.counters.varying == {}


def test_flex_attention_is_measured():
    from torch.nn.attention.flex_attention import flex_attention

    x = torch.rand(1, 2, 16, 16)
    run = measured(lambda: flex_attention(x, x, x))
    assert run.measurement.counters.totals["peak_memory_bytes"] > 0
    torch._dynamo.reset()


# The same figures every time


class Convolutions(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 8)

    def forward(self, x):
        return self.rnn(x)[0]


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.text = nn.Embedding(100, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, ids):
        return nn.functional.normalize(self.encoder(self.text(ids)).mean(1), dim=-1)


IMAGES = torch.rand(2, 3, 16, 16)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)), X),
        lambda: (Convolutions(), IMAGES),
        lambda: (Encoder(), X),
        lambda: (nn.LSTM(8, 8, 2, bidirectional=True), torch.rand(5, 2, 8)),
        lambda: (Embedder(), torch.arange(24).view(2, 12)),
        lambda: (torch.jit.script(Convolutions()), IMAGES),
        lambda: (torch.jit.script(Recurrent()), torch.rand(5, 2, 8)),
        lambda: (torch.jit.trace(Convolutions().eval(), IMAGES), IMAGES),
        lambda: (Attention().bfloat16(), X.bfloat16()),
    ],
    ids=[
        "mlp",
        "convolutions",
        "transformer",
        "lstm",
        "embedder",
        "script",
        "script-lstm",
        "trace",
        "bfloat16",
    ],
)
def test_repetitions_agree(make):
    model, x = make()
    first = counters(model, x)
    assert first.varying == {}
    assert first.totals["operators"] > 0
    assert counters(model, x) == first


class Chance(nn.Module):
    """Leaves as soon as a random number says so."""

    def forward(self, x):
        for _ in range(100):
            x = torch.relu(x)
            if torch.rand(()) < 0.1:
                break
        return x


def test_each_pass_draws_the_numbers_of_the_first_call():
    figures = []
    for seed in (0, 1, 2, 0):
        torch.manual_seed(seed)
        figures.append(counters(Chance(), X))
        torch.manual_seed(seed)
        steps = next(step for step in range(1, 101) if torch.rand(()) < 0.1 or step == 100)
        assert figures[-1].totals["operators"] == pytest.approx(4 * steps, abs=steps)
    assert all(figure.varying == {} for figure in figures)
    assert figures[0] == figures[3] != figures[1]


class Grows(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return torch.cat(self.seen).sum()


def test_a_state_that_grows_varies():
    seen = counters(Grows(), X)
    assert {"bytes_read", "bytes_written", "peak_memory_bytes"} <= set(seen.varying)
    least, most = seen.varying["bytes_read"]
    assert seen.totals["bytes_read"] == least < most
    assert "operators" not in seen.varying


def test_a_state_of_its_own_is_counted_from_the_same_call_on():
    assert counters(Grows(), X) == counters(Grows(), X)


def test_the_counters_of_the_device_are_taken_as_often_as_asked():
    device, taken = counting_device(), []
    count = device.count

    def counting(call):
        taken.append(1)
        return count(call)

    device.count = counting
    measured(nn.ReLU(), X, device=device)
    assert len(taken) == 3 + 1  # once more after the timing


# Autocast


def einsum(model, weight):
    return lambda x: torch.einsum("bij,jk->bik", model(x), weight)


def autocast_models():
    torch.manual_seed(0)
    linear, cell, weight = nn.Linear(8, 8), nn.LSTMCell(8, 8), torch.randn(8, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    mask = torch.zeros(5, 5, dtype=torch.bool)
    return {
        "linear": linear,
        "einsum": einsum(linear, weight),
        "tensordot": lambda x: torch.tensordot(x, weight, 1),
        "multi_dot": lambda x: torch.linalg.multi_dot([weight, weight, x[0].t()]),
        "cell": lambda x: cell(x[0]),
        "attention": lambda x: attention(x, x, x, attn_mask=mask),
    }


@pytest.mark.parametrize("name", autocast_models())
def test_autocast_inside_the_model_casts_what_it_casts_without_us(name):
    model, x = autocast_models()[name], torch.randn(3, 5, 8)

    def call():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(x)

    with torch.no_grad():
        alone = operator_counters.counters(call, "cpu")
    with torch.inference_mode():
        apart = operator_counters.counters(call, "cpu")
    assert apart.totals["dtype_casts"] > 0
    assert calls(apart) == calls(alone)
    assert apart.totals == alone.totals


def test_autocast_around_the_call_counts_too_and_stays_as_it_was():
    enter = torch.autocast.__enter__
    model, x = nn.Linear(8, 8), torch.randn(2, 8)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        seen = operator_counters.counters(lambda: model(x), "cpu")
        assert torch.is_autocast_enabled("cpu")
    assert seen.totals["dtype_casts"] == 3
    assert torch.autocast.__enter__ is enter
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_that_is_switched_off_inside_casts_nothing():
    model, x = nn.Linear(8, 8), torch.randn(2, 8)

    def call():
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
            model(x)

    with torch.inference_mode():
        assert operator_counters.counters(call, "cpu").totals["dtype_casts"] == 0


# What is put somewhere


@pytest.mark.parametrize(
    "put",
    [
        lambda cache, row: cache.index_copy_(0, torch.tensor([3]), row),
        lambda cache, row: cache.index_put_((torch.tensor([3]),), row),
        lambda cache, row: cache.scatter_(0, torch.zeros(1, 8, dtype=torch.int64), row),
    ],
    ids=["index_copy_", "index_put_", "scatter_"],
)
def test_a_row_put_into_a_cache_writes_a_row(put):
    cache, row = torch.zeros(1000, 8), torch.ones(1, 8)
    with torch.inference_mode():
        work = operator_counters.counters(lambda: put(cache, row), "cpu").work
    moved = next(found for found in work if found.operator.endswith(("copy_", "put_", "scatter_")))
    assert moved.bytes < 200


def test_views_alone_are_no_work_and_no_mystery():
    seen = operator_counters.counters(X.t, "cpu")
    assert (seen.totals["operators"], seen.totals["views"], seen.notes) == (0, 1, ())


# Memory that was there before the call

TABLE = torch.ones(8, 8)


def used(call):
    seen = counted(call, ONE_PASS).used
    assert {memory.device for memory in seen} <= {"cpu"}
    return {(memory.start, memory.size) for memory in seen}


def place(tensor):
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def test_the_memory_that_a_call_uses():
    layer, out, unused = nn.Linear(8, 8), torch.empty(2, 4, 8), torch.ones(3)
    expected = {place(tensor) for tensor in (X, TABLE, layer.weight, layer.bias, out)}

    def call():
        made = layer(X[1:]) @ TABLE.t()
        torch.add(made, torch.arange(8.0), out=out[0, :3])
        return made.relu_(), torch.empty_like(unused), unused[:1]

    assert used(call) == expected
    assert used(lambda: torch.zeros(5).add_(1)) == set()
    assert used(lambda: nn.functional.embedding(torch.ones(1, dtype=torch.long), TABLE)) == {place(TABLE)}


def test_the_memory_that_the_kernels_of_custom_operators_use():
    @torch.library.custom_op("infergate_tests::times_table", mutates_args=())
    def times_table(x: torch.Tensor) -> torch.Tensor:
        return x @ TABLE + TABLE.sum() * 0

    library = torch.library.Library("infergate_tests", "FRAGMENT")
    library.define("of_library(Tensor x) -> Tensor")
    library.impl("of_library", lambda x: x @ TABLE, "CPU")
    for operator in (times_table, torch.ops.infergate_tests.of_library):
        seen = counted(lambda operator=operator: operator(X), ONE_PASS)
        assert {(memory.start, memory.size) for memory in seen.used} == {place(X), place(TABLE)}
        assert seen.totals["operators"] == 1
    assert torch.equal(times_table(X), X @ TABLE)


def test_the_memory_of_an_array_that_a_call_uses():
    array = pytest.importorskip("numpy").ones((8, 8), dtype="float32")
    assert used(lambda: X @ torch.from_numpy(array)) == {place(X), (array.ctypes.data, 256)}


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_the_memory_of_a_sparse_tensor_that_a_call_uses(layout):
    table = torch.eye(8).to_sparse(layout=layout)
    values = table.coalesce().values() if layout is torch.sparse_coo else table.values()
    assert place(values) in used(lambda: torch.mm(table, TABLE))
    with torch.no_grad():  # a view of a sparse tensor copies it
        seen = operator_counters.counters(lambda: torch.mm(table.t(), TABLE), ONE_PASS).used
    assert place(values) in {(memory.start, memory.size) for memory in seen}
