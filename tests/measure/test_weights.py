"""Bytes of weights: each piece of memory once, as large as it really is, or unknown."""

import functools
import warnings

import pytest

numpy = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TorchScript, quantisation
    pytest.mark.filterwarnings("ignore::UserWarning"),  # nested, sparse and quantised tensors are prototypes
]

if True:  # after the skip
    from counting import measured
    from odd_tensors import RefusesAll
    from torch import nn
    from torch._subclasses import FakeTensorMode
    from torch.testing._internal.two_tensor import TwoTensor

    from pytest_infergate.core.domain.outcome import Budget
    from pytest_infergate.core.gate.budgets import check_budget
    from pytest_infergate.instruments.device import UsedMemory
    from pytest_infergate.measure.module_search import held
    from pytest_infergate.measure.weights import unfound_bytes, weight_bytes


def sizes(target):
    return weight_bytes(held(target))


def buffer(tensor):
    module = nn.Identity()
    module.register_buffer("buffer", tensor)
    return module


def mlp(width):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)).eval()


# Memory that several tensors share, or that one tensor repeats


def test_weights_are_parameters_and_buffers():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    expected = {"float32": 4 * (6 + 3 + 3 + 3 + 3 + 3), "int64": 8}
    assert sizes(model) == expected
    assert sizes(nn.Identity()) == {}
    assert sizes(model.to("meta")) == expected


def test_weights_by_dtype():
    model = nn.Sequential(nn.Linear(4, 4).bfloat16(), nn.Linear(4, 4), nn.Linear(4, 4).bfloat16())
    assert sizes(model) == {"bfloat16": 2 * 40, "float32": 80}


def test_tied_weights_count_once():
    one, tied, alias = (nn.Linear(4, 4, bias=False) for _ in range(3))
    tied.weight = one.weight
    alias.weight = nn.Parameter(one.weight.data)
    assert sizes(nn.Sequential(one, tied, alias)) == {"float32": 64}


def test_a_transposed_weight_is_the_same_memory():
    encoder, decoder = nn.Linear(6, 4, bias=False), nn.Linear(4, 6, bias=False)
    decoder.weight = nn.Parameter(encoder.weight.data.t())
    assert sizes(nn.Sequential(encoder, decoder)) == {"float32": 4 * 24}


def test_an_expanded_buffer_is_one_element():
    assert sizes(buffer(torch.zeros(1, 1).expand(2048, 2048))) == {"float32": 4}


def test_views_keep_the_whole_memory_that_they_show_a_part_of():
    memory = torch.zeros(1000)
    views = nn.ParameterList([memory[:10], memory[10:20], memory[500:].view(20, 25)])
    assert sizes(views) == {"float32": 4000}
    assert sizes(buffer(memory[:10])) == {"float32": 4000}


def test_memory_of_numpy_that_overlaps_counts_once():
    array = pytest.importorskip("numpy").zeros(100, "float32")
    parts = nn.ParameterList([torch.from_numpy(array[20:]), torch.from_numpy(array[:50])])
    assert sizes(parts) == {"float32": 400}


def test_memory_that_is_shown_in_two_dtypes_counts_once():
    memory = torch.zeros(10)
    model = nn.Sequential(buffer(memory), buffer(memory.view(torch.int32)))
    assert sizes(model) == {"float32": 40, "int32": 0}


def test_a_tied_weight_on_meta_counts_once():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data.t())
    assert sizes(model) == {"float32": 64}
    with FakeTensorMode():
        assert sizes(nn.Linear(4, 4, bias=False)) == {"float32": 64}


def test_memory_from_a_file(tmp_path):
    torch.save(nn.Linear(10, 10).state_dict(), tmp_path / "weights.pt")
    model = nn.Linear(10, 10)
    model.load_state_dict(torch.load(tmp_path / "weights.pt", mmap=True), assign=True)
    assert sizes(model) == {"float32": 440}


# Tensors of other kinds


def test_a_wrapper_counts_what_it_wraps():
    inner = TwoTensor(torch.zeros(3, dtype=torch.int8), torch.zeros(3, dtype=torch.int8))
    model = nn.Sequential(buffer(TwoTensor(inner, inner)), buffer(inner.a))
    assert sizes(model) == {"int8": 6}


def test_weights_of_torchao():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchao = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(256, 256, bias=False))
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    found = sizes(model)
    assert 65_536 <= found["int8"] <= 65_792  # some versions keep zero points
    assert sum(found.values()) < 67_000


class Elsewhere(torch.Tensor):
    """Keeps its data in another library."""

    @staticmethod
    def __new__(cls, shape):
        return torch.Tensor._make_wrapper_subclass(cls, shape)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Elsewhere(args[0].shape)
        raise NotImplementedError


def compressed(layout):
    """Two elements, or two blocks of 4 by 4."""
    values = torch.ones(2, 4, 4) if layout is torch.sparse_bsr else torch.ones(2)
    size = (8, 8) if layout is torch.sparse_bsr else (2, 2)
    bounds, indices = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
    return torch.sparse_compressed_tensor(bounds, indices, values, size, layout=layout)


def quantised(per_channel):
    if per_channel:
        scales, zeros = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.int64)
        return torch.quantize_per_channel(torch.rand(8, 8), scales, zeros, 0, torch.qint8)
    return torch.quantize_per_tensor(torch.rand(8, 8), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: torch.eye(10).to_sparse(), {"float32": 40, "int64": 2 * 10 * 8}),
        (lambda: compressed(torch.sparse_csr), {"float32": 8, "int64": 3 * 8 + 2 * 8}),
        (lambda: compressed(torch.sparse_csc), {"float32": 8, "int64": 3 * 8 + 2 * 8}),
        (lambda: compressed(torch.sparse_bsr), {"float32": 2 * 64, "int64": 3 * 8 + 2 * 8}),
        (lambda: torch.nested.nested_tensor([torch.rand(2, 8), torch.rand(3, 8)]), {"float32": 160}),
        (
            lambda: torch.nested.nested_tensor([torch.rand(2, 8), torch.rand(3, 8)], layout=torch.jagged),
            {"float32": 160, "int64": 3 * 8},
        ),
        (lambda: quantised(per_channel=False), {"qint8": 64}),
        (lambda: quantised(per_channel=True), {"float64": 64, "int64": 64, "qint8": 64}),
        (lambda: torch.rand(3, dtype=torch.complex64), {"complex64": 24}),
        (lambda: torch.empty(0, 3), {"float32": 0}),
        (lambda: Elsewhere((3, 3)), None),
    ],
    # Not the text of a lambda, which contains an address.
    ids=lambda value: None if callable(value) else str(value),
)
def test_tensors_of_other_kinds(make, expected):
    assert sizes(buffer(make())) == expected


def test_layouts_of_onednn_are_unknown():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    assert sizes(buffer(torch.rand(3, 3).to_mkldnn())) is None
    from torch.utils import mkldnn  # its import warns

    assert sizes(mkldnn.to_mkldnn(nn.Linear(4, 4).eval())) is None


# Modules that keep weights in other places than parameters and buffers


class Keeps(nn.Module):
    CLASS = torch.zeros(3)

    def __init__(self):
        super().__init__()
        self.table = torch.zeros(5)
        self.unregistered = [nn.Linear(2, 2)]
        self.by_name = {"head": {"bias": torch.zeros(7)}}
        self.helper = Helper()
        self.register_buffer("position", torch.zeros(11), persistent=False)

    def forward(self, x):
        return x


class Helper:
    __slots__ = ("table",)

    def __init__(self):
        self.table = torch.zeros(13)


def test_tensors_in_attributes_count():
    assert sizes(Keeps()) == {"float32": 4 * (3 + 5 + 6 + 7 + 13 + 11)}


def test_a_parametrised_weight_is_what_it_is_computed_from():
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    assert sizes(normed) == {"float32": 4 * (16 + 4 + 4)}
    assert sizes(nn.DataParallel(nn.Linear(4, 4))) == {"float32": 80}


def test_quantised_modules_hide_their_weights():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(16, 8)))
    assert sizes(model) is None
    assert sizes(torch.jit.script(model)) is None
    assert sizes(torch.jit.freeze(torch.jit.script(model).eval())) is None


def test_lazy_modules_have_no_weights_yet():
    lazy = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    assert sizes(lazy) is None
    assert unfound_bytes(held(lazy), held(), used(torch.ones(2))) == 8


def test_a_class_that_refuses_all_operators_has_a_size():
    assert sizes(buffer(RefusesAll.of(torch.ones(2)))) == {"float32": 8}


# TorchScript


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.table = torch.zeros(5)
        self.pair = [torch.zeros(3), torch.zeros(2)]

    def forward(self, x):
        return self.inner(x) + self.table[0] + self.pair[0][0] + self.pair[1][0]


@pytest.mark.parametrize(
    ("convert", "copies"),
    [
        (torch.jit.script, 0),
        (lambda model: torch.jit.trace(model, torch.rand(1, 128)), 0),
        (lambda model: torch.jit.freeze(torch.jit.script(model)), 0),
        # The layout of both weights is changed, and their constants stay in the graph.
        (lambda model: torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(model))), 2),
    ],
    ids=["script", "trace", "freeze", "optimize_for_inference"],
)
def test_weights_of_torchscript(convert, copies):
    converted = convert(mlp(128))
    assert sizes(converted) == {"float32": 132_096 + copies * 128 * 128 * 4}


def test_attributes_of_torchscript_count():
    assert sizes(torch.jit.script(Scripted())) == {"float32": 4 * (20 + 5 + 3 + 2)}


def test_a_frozen_convolution_of_onednn_is_unknown():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    model = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 3)).eval()))
    assert sizes(model) == {"float32": 4 * (8 * 27 + 8)}
    assert sizes(torch.jit.optimize_for_inference(model)) is None


# Callables


def test_a_callable_that_refers_to_no_weights_has_unknown_ones():
    x = torch.zeros(100)
    assert sizes(lambda: torch.relu(x)) is None
    assert sizes(torch.relu) is None
    assert sizes(len) is None


class Service:
    def __init__(self):
        self.model = nn.Linear(4000, 4000, bias=False)

    def predict(self, x):
        return self.model(x)


def test_a_method_of_a_service_has_the_weights_of_the_service():
    service, x = Service(), torch.zeros(100)
    for target in (service.predict, lambda: service.predict(x), lambda x: service.model(x) + 1):
        assert sizes(target) == {"float32": 64_000_000}


# Tensors and arrays that may be weights or inputs

LARGE, SMALL = torch.zeros(250_000), torch.zeros(249_999)  # 1 MB, and less


class Uses(nn.Module):
    def __init__(self, kept=None):
        super().__init__()
        self.head = nn.Linear(2, 2, bias=False)
        self.kept = kept

    def forward(self, x):
        return self.head(x)


class UsesLarge(Uses):
    def forward(self, x):
        return self.head(x) + LARGE


class UsesSmall(Uses):
    def forward(self, x):
        return self.head(x) + SMALL


def test_large_tensors_of_globals_count():
    assert sizes(UsesLarge()) == {"float32": 16 + 1_000_000}
    assert sizes(UsesSmall()) == {"float32": 16}
    assert sizes(lambda x: x + LARGE) == {"float32": 1_000_000}
    assert sizes(lambda x: x + SMALL) is None


def test_large_arrays_count_whole():
    array = pytest.importorskip("numpy").zeros(125_000)
    assert sizes(Uses(array[:10])) == {"float32": 16, "float64": 1_000_000}
    assert sizes(Uses([array, torch.from_numpy(array[5:])])) == {"float32": 16, "float64": 1_000_000}
    assert sizes(Uses(array[1:].copy())) == {"float32": 16}


def test_views_of_numpy_count_the_memory_that_they_cover():
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(125_000)
    windows = numpy.lib.stride_tricks.sliding_window_view(array, 128)
    for view in (windows, windows[::-1], array[::-2], numpy.broadcast_to(array, (10, 125_000))):
        assert sizes(Uses(view)) == {"float32": 16, "float64": 1_000_000}


def test_large_tensors_that_the_callable_closes_over_make_the_weights_unknown():
    model, large, small = Uses(), LARGE.clone(), SMALL.clone()
    assert sizes(lambda: model(large)) is None
    assert sizes(lambda: model(small)) == {"float32": 16}
    assert sizes(Uses(lambda: large)) == {"float32": 16 + 1_000_000}
    owner = Uses(large)
    assert sizes(lambda: owner(large)) == {"float32": 16 + 1_000_000}


def test_arguments_are_no_weights():
    model, large = Uses(), LARGE.clone()
    assert weight_bytes(held(lambda: model(large)), held([large[3:]])) == {"float32": 16}
    assert weight_bytes(held(lambda x: model(x) + LARGE), held((), {"x": {"ids": LARGE}})) == {"float32": 16}


def used(*tensors):
    return [UsedMemory("cpu", tensor.data_ptr(), tensor.nbytes) for tensor in tensors]


def test_used_memory_that_is_not_found():
    model, given, closed, other = Uses(), torch.zeros(3), torch.zeros(5), torch.zeros(7)
    found = held(lambda x: model(x) + closed + SMALL)
    read = used(model.head.weight, given, closed, SMALL, other)
    assert unfound_bytes(found, held([given]), read) == 28
    assert unfound_bytes(found, held(), read) == 28 + 12
    large = LARGE.clone()
    assert unfound_bytes(held(lambda: model(large)), held(), used(model.head.weight, large)) == 1_000_000
    assert unfound_bytes(held(lambda: model(large)), held([large]), used(large)) == 0


HEAD, HIDDEN = nn.Linear(4, 2), torch.ones(16_385, 4)  # 65,540 bytes


def test_weights_that_no_search_finds_are_unknown():
    taken = measured(lambda x: HEAD(x + globals()["HIDDEN"]), torch.ones(1, 4)).measurement
    assert "weight_bytes" not in taken.counters.totals
    assert "peak_memory_bytes" not in taken.counters.totals
    assert taken.memory.weights is None
    assert [note.code for note in taken.notes if note.code == "weights-unseen"] == ["weights-unseen"]


def test_what_a_call_makes_of_an_array_is_no_weight():
    raw = pytest.importorskip("numpy").ones((16_385, 4))
    taken = measured(lambda x: HEAD(torch.from_numpy(x.astype("float32"))), raw).measurement
    assert taken.memory.weights == 40


def test_a_template_on_the_meta_device_holds_no_memory():
    stacked, _ = torch.func.stack_module_state([nn.Linear(8, 8) for _ in range(3)])
    ensemble = nn.Module()
    ensemble.members = nn.ParameterDict({name.replace(".", "_"): each for name, each in stacked.items()})
    ensemble.template = [nn.Linear(8, 8).to("meta")]
    assert weight_bytes(held(ensemble)) == {"float32": 3 * 72 * 4}


# What a target binds, and objects that show nothing


def test_what_a_partial_binds_belongs_to_the_target():
    model = nn.Linear(512, 512, bias=False).eval()  # 1 MB
    small, merged = torch.zeros(10), {"weight": torch.zeros(512, 512)}
    x = torch.ones(1, 512)
    call = functools.partial(torch.func.functional_call, model, merged)
    assert measured(call, (x,)).measurement.memory.weights is None
    assert measured(functools.partial(functools.partial(call), (x,))).measurement.memory.weights is None
    # The same weights, and what is so small that it may be an input.
    own = functools.partial(torch.func.functional_call, model, dict(model.named_parameters()))
    assert measured(own, (x,)).measurement.memory.weights == 512 * 512 * 4
    module = functools.partial(UsesBound(), bound=small)
    assert measured(module, x).measurement.memory.weights == 512 * 512 * 4
    assert measured(functools.partial(UsesBound(), bound=LARGE), x).measurement.memory.weights is None


class UsesBound(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(512, 512, bias=False)

    def forward(self, x, bound):
        return self.layer(x) + bound[0]


class Opaque(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.layer, self.held = nn.Linear(4, 4), held

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("kept", "name"),
    [
        (bytes(1_000_000), "bytes"),
        ([{"a": (bytearray(1_000_000),)}], "bytearray"),
        ([number + 0.5 for number in range(50_000)], "float"),
        (dict(enumerate(numpy.linspace(0, 1, 50_000))), "float"),
        (list(numpy.linspace(0, 1, 50_000).astype("float32")), "float"),
        (bytes(1000), ""),
        ([number + 0.5 for number in range(1000)], ""),
        (list(range(50_000)), ""),
    ],
)
def test_memory_that_is_no_tensor_makes_the_weights_unknown_with_a_note(kept, name):
    taken = measured(Opaque(kept), torch.ones(1, 4)).measurement
    assert taken.memory.weights == (None if name else 80)
    assert taken.memory.peak is None or not name
    notes = [note for note in taken.notes if note.code == "weights-unseen"]
    assert [name in note.text for note in notes] == [True] * bool(name)
    limit = Budget(metric="weights_mb", limit=1)
    checked = check_budget(limit, taken, 0.0)
    assert (checked.note and checked.note.code) == ("budget-not-decided" if name else None)
    assert checked.missing == (notes[0].text if name else "")


def test_the_state_of_an_optimiser_belongs_to_the_model_that_keeps_it():
    model = Opaque(None)
    model.held = torch.optim.Adam(model.layer.parameters())
    model(torch.ones(1, 4)).sum().backward()
    model.held.step()
    state = model.held.state.values()
    more = sum(part.nbytes for each in state for part in each.values())
    assert more >= 160  # two moments of twenty weights
    model.layer.zero_grad()
    assert sum(sizes(model).values()) == 80 + more
    model.held = torch.utils.data.TensorDataset(torch.zeros(1000))
    assert sum(sizes(model).values()) == 80 + 4000


def test_what_the_call_is_given_may_hide_memory():
    taken = measured(lambda x, raw: HEAD(x), torch.ones(1, 4), bytes(2_000_000)).measurement
    assert taken.memory.weights == 40
