"""Where an output first differs: in which module, of a cast model and of a compiled one."""

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.runtimes.divergence import ITSELF, Divergence
    from pytest_infergate.runtimes.inductor import CompileRuntime, compiler_absence


class Fraction(nn.Module):
    """Is another number where the input has fewer bits."""

    def forward(self, x):
        return {"fraction": (torch.frac(x * 1000), x)}


class Net(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
        self.inner = inner
        self.last = nn.Linear(4, 4)

    def forward(self, x):
        return self.last(self.inner(self.first(x))["fraction"][0])


class Twice(Net):
    def forward(self, x):
        return torch.frac(1000 * self.first(x))


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.rand(3, 4)


def first(model, x, runtime=None, dtype=None, restored=None):
    case = Case(test="t.py::test_a", device="cpu", runtime=runtime or "eager", dtype=dtype)
    found = Divergence(case, "cpu", CompileRuntime() if runtime else None, None)
    return found.first_module(Invocation(model, (x,)), restored or (lambda: None))


def test_the_innermost_module_that_differs_first(x):
    calls = []
    model = Net(nn.Sequential(nn.Identity(), Fraction()))
    assert first(model, x, dtype="bfloat16", restored=lambda: calls.append(1)) == "inner.1"
    assert len(calls) == 2
    assert not any(part._forward_hooks for part in model.modules())


def test_no_module_differs(x):
    assert first(Net(Fraction()), x, dtype="float64") is None


def test_operators_between_modules_are_those_of_the_model_itself(x):
    assert first(Twice(Fraction()), x, dtype="bfloat16") == ITSELF


class Compiled(nn.Module):
    def forward(self, x):
        return {"fraction": (x + torch.compiler.is_compiling(), x)}


@pytest.mark.skipif(compiler_absence() is not None, reason="needs a C++ compiler")
def test_a_compiled_model_is_compiled_anew_with_its_modules(x):
    model = Net(Compiled())
    with torch.inference_mode():
        torch.compile(model, backend="eager")(x)
    assert first(model, x, runtime="compile") == "inner"
