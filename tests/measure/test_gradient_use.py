import pytest

torch = pytest.importorskip("torch")
# torch scripts its decompositions when they are first used.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

if True:  # after the skip
    from torch import nn
    from torch.autograd import forward_ad

    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.measure.gradient_use import GradientUseError
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.runtimes.eager import run_once

    CASE = Case(test="t.py::test_a", device="cpu")


class Differentiates(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def energy(self, x):
        return (x**3).sum()

    def forward(self, x):
        return self.how(self.energy, x)


def forces(energy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy(x), x)[0]


def forces_or_zeros(energy, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = energy(x)
        return torch.autograd.grad(value, x)[0] if value.requires_grad else torch.zeros_like(x)


def set_inside(energy, x):
    with torch.set_grad_enabled(True):
        x = x.detach().clone().requires_grad_()
        value = energy(x)
        return torch.autograd.grad(value, x)[0] if value.requires_grad else torch.zeros_like(x)


def or_zeros(energy, x):
    x = x.detach().clone().requires_grad_()
    value = energy(x)
    return torch.autograd.grad(value, x)[0] if value.requires_grad else torch.zeros_like(x)


def or_zeros_stream(energy, x):
    yield or_zeros(energy, x)


decorated, set_by_decorator = torch.enable_grad()(or_zeros), torch.set_grad_enabled(True)(or_zeros)
decorated_stream = torch.enable_grad()(or_zeros_stream)
KEPT = torch.set_grad_enabled(True)


def kept(energy, x):
    with KEPT:
        return or_zeros(energy, x)


def left_by_itself(energy, x):
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(energy(x), x)[0]


def tangent(energy, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(energy(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


SILENT = {
    "jacobian": torch.autograd.functional.jacobian,
    "hessian": torch.autograd.functional.hessian,
    "vjp": lambda f, x: torch.autograd.functional.vjp(f, x)[1],
    "enabled inside": forces_or_zeros,
    "forward mode": tangent,
    "set inside": set_inside,
    "decorated": decorated,
    "set by a decorator": set_by_decorator,
    "decorated stream": lambda f, x: next(decorated_stream(f, x)),
    "a kept context": kept,
}


def run(how, mode="inference_mode"):
    return run_once(CASE, Invocation(Differentiates(how), (torch.tensor([1.0, 2.0]),), {}, mode))


@pytest.mark.parametrize("how", SILENT.values(), ids=SILENT)
def test_gradients_that_inference_mode_would_drop_are_refused(how):
    with pytest.raises(GradientUseError, match="grad_mode"):
        run(how)
    before = torch.enable_grad.__enter__, torch.autograd.functional._grad_preprocess
    assert [function.__module__ for function in before] == [
        "torch.autograd.grad_mode",
        "torch.autograd.functional",
    ]


@pytest.mark.parametrize("mode", ["no_grad", "enable_grad"])
def test_another_grad_mode_computes_them(mode):
    assert run(SILENT["jacobian"], mode).tolist() == [3, 12]
    assert run(SILENT["hessian"], mode).tolist() == [[6, 0], [0, 12]]
    assert run(forces_or_zeros, mode).tolist() == [3, 12]
    assert run(tangent, mode).item() == 15
    for how in (decorated, set_by_decorator, kept):
        assert run(how, mode).tolist() == [3, 12]


def test_a_model_that_expects_gradients_to_be_enabled():
    assert run(forces, "enable_grad").tolist() == [3, 12]
    with pytest.raises(RuntimeError, match="does not require grad") as raised:
        run(forces)
    assert "enable_grad" in raised.value.__notes__[0]


@pytest.mark.parametrize("how", [torch.func.grad, torch.func.jacrev, torch.func.jacfwd])
def test_functions_that_are_right_under_inference_mode_are_not_refused(how):
    assert run(lambda f, x: how(f)(x)).tolist() == [3, 12]


def test_a_model_that_leaves_inference_mode_by_itself_is_right():
    assert run(left_by_itself).tolist() == [3, 12]
    assert run(torch.set_grad_enabled(False)(or_zeros)).tolist() == [0, 0]
    with torch.no_grad():
        assert run(lambda energy, x: energy(x) if torch.set_grad_enabled(False) else None) is not None
