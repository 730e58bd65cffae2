"""Ten regressions, seeded into a small transformer: each is found without a clock, and its cause is named."""

import functools
import math

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("undisturbed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch.compile, TorchScript
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

if True:  # after the skip
    from counting import compared, counting_device, measured
    from torch import nn
    from torch._subclasses import FakeTensor, FakeTensorMode
    from torch.nn import functional

    from pytest_infergate.core.domain.outcome import Verdict
    from pytest_infergate.instruments import operator_counters

WIDTH, HEADS, WORDS, STEPS = 32, 4, 100, 16
ATTENTION = "layers.{0-2}.attention"


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, cache=None):
        heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.project(x).chunk(3, -1))
        query, key, value = heads
        if cache is not None:
            key, value = cache.extend(self, key, value)
        return self.out(self.attend(query, key, value).transpose(1, 2).flatten(2))

    def attend(self, query, key, value):
        return functional.scaled_dot_product_attention(query, key, value)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.feed = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x, cache=None):
        x = x + self.attention(self.norm(x), cache)
        return x + self.feed(x)


class Model(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.text = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, words, cache=None):
        x = self.text(words)
        for layer in self.layers:
            x = layer(x, cache)
        return self.head(x)


WORD_IDS = torch.arange(2 * STEPS).view(2, STEPS)


def with_attention(kind, **options):
    """The model with attention of another kind."""
    model = Model(**options)
    for layer in model.layers:
        layer.attention = kind()
    return model


def half(make=Model):
    return make().bfloat16()


@functools.cache
def reference(make=Model):
    """The model as it was, measured once."""
    return measured(make(), WORD_IDS)


def regressions(after, before=Model):
    """What became worse; nothing of it may be incomparable."""
    found = compared(reference(before), measured(after, WORD_IDS))
    assert Verdict.INCOMPARABLE not in {comparison.verdict for comparison in found.values()}
    return {name: row for name, row in found.items() if row.verdict is Verdict.REGRESSED}


def causes(comparison):
    """Operator, place and change of all that moved a counter."""
    return {(cause.operator, cause.place): cause.change for cause in comparison.causes}


def traced():
    return torch.jit.trace(Model().eval(), WORD_IDS, check_trace=False)


@pytest.mark.parametrize("make", [Model, half, traced])
def test_the_same_model_is_equivalent(make):
    found = compared(reference(make), measured(make(), WORD_IDS))  # with other weights
    assert {comparison.verdict for comparison in found.values()} == {Verdict.EQUIVALENT}
    assert {"flops", "operators", "bytes_read", "allocations", "weight_bytes"} <= set(found)


# 1


class Unfused(Attention):
    def attend(self, query, key, value):
        scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH / HEADS)
        return torch.softmax(scores, -1) @ value


def test_a_lost_fusion():
    found = regressions(with_attention(Unfused))
    assert {"operators", "bytes_read", "bytes_written", "allocations"} <= set(found)
    assert "flops" not in found
    moved = causes(found["operators"])
    assert moved["aten::bmm", ATTENTION] == 3 * 2
    assert moved["aten::_softmax", ATTENTION] == 3
    assert {place for _, place in moved} == {ATTENTION}


# 2


class Widened(Attention):
    def attend(self, query, key, value):
        return super().attend(query.float(), key.float(), value.float()).to(query.dtype)


def test_an_added_cast():
    found = regressions(half(lambda: with_attention(Widened)), half)
    assert found["dtype_casts"].candidate == 3 * 4
    assert causes(found["dtype_casts"]) == {("aten::_to_copy", ATTENTION): 3 * 4}
    assert {"operators", "bytes_read", "bytes_written"} <= set(found)


# 3


class Copied(Attention):
    def attend(self, query, key, value):
        return super().attend(query, *(part.contiguous() for part in (key, value)))


def test_contiguous_in_a_loop():
    found = regressions(with_attention(Copied))
    assert found["operators"].candidate - found["operators"].baseline == 3 * 2
    assert causes(found["operators"]) == {("aten::clone", ATTENTION): 3 * 2}
    copied = 3 * 2 * 2 * STEPS * WIDTH * 4
    assert found["bytes_written"].candidate - found["bytes_written"].baseline == copied


# 4


def test_an_extra_layer():
    found = regressions(Model(4))
    grown = {"flops", "operators", "bytes_read", "bytes_written", "weight_bytes", "allocations"}
    assert grown <= set(found)
    assert causes(found["flops"]) == {
        ("aten::addmm", "layers.3.attention.project"): 2 * 2 * STEPS * WIDTH * 3 * WIDTH,
        ("aten::addmm", "layers.3.attention.out"): 2 * 2 * STEPS * WIDTH * WIDTH,
        ("aten::addmm", "layers.3.feed.{0,2}"): 2 * 2 * 2 * STEPS * WIDTH * 2 * WIDTH,
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "layers.3.attention"): (
            4 * 2 * STEPS * STEPS * WIDTH
        ),
    }
    assert sum(cause.share for cause in found["flops"].causes) == pytest.approx(1)
    assert all(place.startswith("layers.3") for _, place in causes(found["operators"]))
    assert set(causes(found["weight_bytes"])) == {("float32", "")}


# 5


class Twice(Attention):
    def attend(self, query, key, value):
        return super().attend(super().attend(query, key, value), key, value)


FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"


def test_attention_that_runs_twice():
    found = regressions(with_attention(Twice))
    assert causes(found["flops"]) == {(FUSED, ATTENTION): 3 * 4 * 2 * STEPS * STEPS * WIDTH}
    assert causes(found["operators"]) == {(FUSED, ATTENTION): 3}


class Doubled(Attention):
    def attend(self, query, key, value):
        return super().attend(query, torch.cat([key, key], 2), torch.cat([value, value], 2))


def test_attention_over_a_sequence_of_twice_the_length():
    found = regressions(with_attention(Doubled))
    assert causes(found["flops"]) == {(FUSED, ATTENTION): 3 * 4 * 2 * STEPS * STEPS * WIDTH}
    assert causes(found["operators"]) == {("aten::cat", ATTENTION): 3 * 2}


# 6


class Travels(Attention):
    def attend(self, query, key, value):
        return super().attend(query.cpu().to(query.device), key, value)


def test_a_round_trip_over_the_host():
    found = regressions(with_attention(Travels))
    assert set(found) == {"host_device_copies"}
    assert (found["host_device_copies"].baseline, found["host_device_copies"].candidate) == (0, 3)
    assert causes(found["host_device_copies"]) == {("Tensor.cpu", ATTENTION): 3}


def accelerated(model, mode):
    """A model whose parameters say that they lie on CUDA."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            meta = parameter.detach().to("meta")
            module._parameters[name] = FakeTensor(mode, meta, torch.device("cuda:0"))
    return model.eval()


def on_fakes(model, words):
    model(words)


def accelerator():
    device = counting_device()
    device.count = lambda call: operator_counters.counters(call, "cuda")
    device.memory = lambda call: type(device).memory(device, lambda: None)
    return device


def test_a_round_trip_from_an_accelerator():
    runs = []
    mode = FakeTensorMode()
    words = FakeTensor(mode, WORD_IDS.to("meta"), torch.device("cuda:0"))
    for kind in (Attention, Travels):
        model = accelerated(with_attention(kind, layers=1), mode)
        with mode, torch.inference_mode():
            runs.append(measured(functools.partial(on_fakes, model, words), device=accelerator()))
    found = compared(*runs)["host_device_copies"]
    assert (found.verdict, found.baseline, found.candidate) == (Verdict.REGRESSED, 0, 2)
    assert causes(found) == {("aten::_to_copy", "layers.0.attention"): 2}


# 7


@pytest.fixture
def forgotten():
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Asks(nn.Module):
    def forward(self, x):
        if x.sum().item() > 1e9:
            raise OverflowError
        return x


def compiled(model, **options):
    return torch.compile(model, backend="eager", **options)


def test_a_graph_break(forgotten):
    before = measured(compiled(Model(1)), WORD_IDS)
    model = Model(1)
    model.layers[0].norm = nn.Sequential(model.layers[0].norm, Asks())
    after = measured(compiled(model), WORD_IDS)
    found = compared(before, after)
    assert found["graph_breaks"].verdict is Verdict.REGRESSED
    assert (found["graph_breaks"].baseline, found["graph_breaks"].candidate > 0) == (0, True)
    note = next(note for note in after.measurement.notes if note.code == "graph-breaks")
    assert "Tensor.item()" in note.text


# 8


def test_shapes_that_recompile(forgotten):
    batches = [torch.zeros(1, length, dtype=torch.long) for length in (5, 6, 7)]

    def lengths(**options):
        model = compiled(Model(0).eval(), **options)
        return measured(lambda: [model(batch) for batch in batches])

    found = compared(lengths(dynamic=True), lengths(dynamic=False))
    assert (found["recompiles"].baseline, found["recompiles"].candidate) == (0, 2)
    assert found["recompiles"].verdict is found["graphs"].verdict is Verdict.REGRESSED


# 9


class Wide(nn.Linear):
    """Kept in single precision."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


def test_a_weight_that_stays_in_single_precision():
    after = half()
    after.head = Wide(WIDTH, WORDS)
    found = regressions(after, half)
    assert causes(found["weight_bytes"]) == {("float32", ""): 4 * (WIDTH + 1) * WORDS}
    assert causes(found["dtype_casts"]) == {("aten::_to_copy", "head"): 2}


# 10


class Cache:
    """Keys and values of the steps so far, by the module that made them."""

    def __init__(self):
        self.held = {}

    def extend(self, module, key, value):
        if module in self.held:
            before = self.held[module]
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self.held[module] = key, value
        return key, value


def generated(model, cached):
    """Four words, one after the other."""
    words, cache = WORD_IDS[:1], Cache() if cached else None
    new = words
    for _ in range(4):
        logits = model(new if cached else words, cache)
        new = logits[:, -1:].argmax(-1)
        words = torch.cat([words, new], 1)
    return words


def test_a_dropped_cache():
    torch.manual_seed(0)  # weights without ties between the likeliest tokens
    model = Model().eval()
    before, after = (measured(generated, model, cached) for cached in (True, False))
    assert torch.equal(before.output, after.output)
    found = compared(before, after)["flops"]
    assert found.verdict is Verdict.REGRESSED
    repeated = sum(STEPS + step - 1 for step in range(1, 4))
    moved = causes(found)
    assert moved["aten::addmm", f"{ATTENTION}.project"] == 3 * repeated * 2 * WIDTH * 3 * WIDTH
    assert moved["aten::addmm", "head"] == repeated * 2 * WIDTH * WORDS
    assert (FUSED, ATTENTION) in moved
