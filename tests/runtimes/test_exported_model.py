"""What a model becomes for other runtimes: a program of flat tensors with the arguments and output of the model."""

import dataclasses
import functools
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.runtimes.exported_model import exported
    from pytest_infergate.runtimes.runtime import ConversionError


class Scores(NamedTuple):
    logits: torch.Tensor
    best: torch.Tensor


class Nested(nn.Module):
    """Takes and returns tensors of any nesting beside constants."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        with torch.no_grad():
            self.layer.weight.fill_(scale)

    def forward(self, batch, unused, factor=2.0):
        logits = self.layer(batch["x"][0]) * factor
        return {"scores": Scores(logits, logits.argmax(-1)), "name": "linear", "cache": None}

    def encode(self, x):
        return self.layer(x)


def called(model, *args, **kwargs):
    """The output of the program itself, called as the model."""
    found = exported(model, args, kwargs)
    run = found.program.module()
    return found.called_by(lambda inputs: run(*inputs))(*args, **kwargs)


def test_the_program_has_the_arguments_and_the_output_of_the_model():
    model = Nested().eval()
    x, unused = torch.ones(3, 4), torch.zeros(5)
    expected = model({"x": [x]}, unused, factor=3.0)
    output = called(model, {"x": [x]}, unused, factor=3.0)
    assert isinstance(output["scores"], Scores)
    torch.testing.assert_close(output["scores"].logits, expected["scores"].logits)
    assert output["scores"].best.tolist() == expected["scores"].best.tolist()
    assert (output["name"], output["cache"]) == ("linear", None)


def test_methods_and_partials_are_exported():
    model = Nested().eval()
    x = torch.ones(3, 4)
    torch.testing.assert_close(called(model.encode, x), model.encode(x))
    bound = functools.partial(model, factor=5.0)
    given = {"x": [x]}, torch.zeros(1)
    torch.testing.assert_close(called(bound, *given)["scores"].logits, bound(*given)["scores"].logits)


def test_a_digest_is_that_of_the_program_the_weights_and_the_shapes():
    def digest(scale=1.0, rows=3, **kwargs):
        return exported(Nested(scale).eval().encode, (torch.ones(rows, 4),), kwargs).digest()

    torch.manual_seed(0)
    first = digest()
    torch.manual_seed(0)
    assert digest() == first
    torch.manual_seed(0)
    assert digest(scale=2.0) != first
    torch.manual_seed(0)
    assert digest(rows=4) != first


def test_weights_that_share_memory_are_counted_once():
    model = Nested().eval()
    assert exported(model.encode, (torch.ones(1, 4),), {}).weights() == {"float32": 4 * (8 + 2)}


@dataclasses.dataclass
class Detections:
    boxes: torch.Tensor


class Returns(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.returned = returned
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        return self.returned(self, x)


def advance(model, x):
    model.seen += 1
    return x + model.seen


REFUSED = {
    "stream": (lambda _, x: (row for row in x), "returns a stream"),
    "object": (lambda _, x: Detections(x), "output holds an object of Detections"),
    "no tensor": (lambda _, x: x.shape[0], "output holds no tensor"),
    "control flow": (lambda _, x: x if x.sum() > 0 else -x, "torch.export failed: "),
    "state": (advance, "the call changes seen"),
}


@pytest.mark.parametrize(("returned", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_has_a_reason_of_one_line(returned, reason):
    with pytest.raises(ConversionError) as refused:
        exported(Returns(returned).eval(), (torch.ones(2),), {})
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arguments_must_hold_tensors_and_constants():
    with pytest.raises(ConversionError, match="arguments hold an object of Detections"):
        exported(Nested().eval().encode, (Detections(torch.ones(1, 4)),), {})
    with pytest.raises(ConversionError, match="no tensor among its arguments"):
        exported(Returns(lambda _, x: torch.ones(x)).eval(), (3,), {})
    with pytest.raises(ConversionError, match="pass the module itself"):
        exported(lambda x: x, (torch.ones(1),), {})
