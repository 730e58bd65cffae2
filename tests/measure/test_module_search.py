import functools

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.measure.module_search import module_of


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
