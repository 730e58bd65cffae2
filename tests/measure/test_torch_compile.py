"""Counters of torch.compile; backends that compile nothing make it quick."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("undisturbed"),
    # Python's own inspection and torch.compile do not agree on what is deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

if True:  # after the skip
    import counting
    from counting import counters, counting_device, measured
    from torch import nn

    from pytest_infergate.measure import torch_compile
    from pytest_infergate.measure.seed import seed_all
    from pytest_infergate.measure.torch_compile import Compilation

FIGURES = ("graphs", "graph_breaks", "recompiles")
X = torch.ones(4, 8)


@pytest.fixture(autouse=True)
def forgotten():
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def figures(model, *args):
    seen = counters(model, *args).totals
    return tuple(seen.get(name) for name in FIGURES)


def eager(model, **options):
    return torch.compile(model, backend="eager", **options)


class Broken(nn.Module):
    def forward(self, x):
        x = x + 1
        torch._dynamo.graph_break()
        return torch.relu(x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_graph(backend):
    assert figures(torch.compile(nn.Linear(8, 4), backend=backend), X) == (1, 0, 0)


def test_a_graph_break_and_its_reason():
    run = measured(eager(Broken()), X)
    assert [run.measurement.counters.totals[name] for name in FIGURES] == [2, 1, 0]
    note = next(note for note in run.measurement.notes if note.code == "graph-breaks")
    assert "Call to `torch._dynamo.graph_break()`" in note.text


def test_a_model_without_a_break_has_no_such_note():
    assert "graph-breaks" not in {note.code for note in measured(eager(nn.ReLU()), X).measurement.notes}


def test_a_value_that_python_looks_at_breaks_the_graph():
    class Asks(nn.Module):
        def forward(self, x):
            return torch.relu(x + 1) if x.sum().item() > 0 else x

    assert figures(eager(Asks()), X)[:2] == (2, 1)


def test_few_reasons_are_shown(monkeypatch, snapshot):
    compilation = Compilation()
    breaks = {"loop\n  in line 3": 7, **{f"reason {number}": number for number in (1, 2, 3)}}
    monkeypatch.setattr(torch_compile, "_breaks", lambda: breaks)
    assert compilation.counters()["graph_breaks"] == 13
    assert compilation.note().code == "graph-breaks"
    assert str(compilation.note()) == snapshot


# Recompiles


def lengths(*sizes):
    return [torch.ones(size, 8) for size in sizes]


@pytest.mark.parametrize(("sizes", "expected"), [((4, 4), 0), ((4, 5, 6), 2)])
def test_every_shape_is_a_recompile(sizes, expected):
    model, batches = eager(nn.Linear(8, 4).eval(), dynamic=False), lengths(*sizes)
    assert figures(lambda: [model(batch) for batch in batches]) == (1 + expected, 0, expected)


def test_a_dynamic_dimension_is_recompiled_once():
    model, batches = eager(nn.Linear(8, 4).eval()), lengths(4, 5, 6)
    assert figures(lambda: [model(batch) for batch in batches]) == (2, 0, 1)


def test_other_numbers_are_recompiles():
    def scaled(x, factor):
        return x * factor if factor % 2 else x + factor

    function = eager(scaled, dynamic=False)
    assert figures(lambda: [function(X, factor) for factor in (1, 2, 3)]) == (3, 0, 2)


# Every case by itself


def test_other_cases_change_nothing():
    def case():
        model, batches = eager(Broken()), lengths(4, 5)
        return figures(lambda: [model(batch) for batch in batches])

    alone = case()
    model, batches = eager(nn.Sequential(Broken(), Broken()), dynamic=False), lengths(9, 10)
    measured(lambda: [model(batch) for batch in batches])
    assert case() == alone
    assert alone[1] > 0


def test_a_model_that_was_compiled_before_is_counted_from_the_start():
    model = eager(nn.Linear(8, 4).eval())
    with torch.inference_mode():
        model(X)
    assert figures(model, X) == (1, 0, 0)
    assert figures(model, X) == (1, 0, 0)


def test_an_eager_model_after_a_compiled_one_is_not_compiled():
    measured(eager(Broken()), X)
    run = measured(nn.Linear(8, 4), X)
    assert not set(FIGURES) & set(run.measurement.counters.totals)
    assert "graph-breaks" not in {note.code for note in run.measurement.notes}


# Compiled and eager models


def test_a_compiled_model_is_not_counted_by_operator():
    device = counting_device()
    device.count = lambda call: pytest.fail("it would show operators that are not run")
    seen = counters(eager(nn.Linear(8, 4)), X, device=device)
    assert set(seen.totals) == {*FIGURES, "weight_bytes", "allocations", "peak_memory_bytes"}
    assert seen.operators == ()
    assert seen.varying == {}


def count_eager_models():
    """Seed, and count models of several kinds."""
    seed_all()()
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    models = nn.Linear(8, 8), nn.LSTM(8, 8), layer, nn.Sequential(nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4))
    for model in models:
        seen = counters(model, torch.ones(2, 4, 8))
        assert seen.totals["flops"] > 0
        assert not {"graphs", "graph_breaks"} & set(seen.totals)


def test_counting_an_eager_model_needs_no_compiler(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch._dynamo")]:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    monkeypatch.setattr(torch, "manual_seed", lambda *_: pytest.fail("its first call loads the compiler"))
    count_eager_models()


@pytest.mark.nightly
def test_counting_an_eager_model_loads_no_compiler():
    lines = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_torch_compile;"
        "test_torch_compile.count_eager_models(); print('torch._dynamo' in sys.modules)"
    )
    arguments = [
        sys.executable,
        "-c",
        lines,
        *{str(Path(file).parent) for file in (__file__, counting.__file__)},
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
