"""What a model becomes for other runtimes: a program of flat tensors with the arguments and output of the model."""

import dataclasses
import functools
import re
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.errors import ConversionError
    from pytest_infergate.runtimes.exported_model import exported


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
    return found.structured(found.called_by(lambda inputs: run(*inputs), args, kwargs)(*args, **kwargs))


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


class StaticLayers:
    __module__ = "transformers.cache_utils"

    def __init__(self, x):
        self.keys = x


def chained(model, x):
    raise ValueError("step 2 of 3\nNext steps: ...") from KeyError("the root")


def advance(model, x):
    model.seen += 1
    return x + model.seen


REFUSED = {
    "stream": (lambda _, x: (row for row in x), "returns a stream"),
    "object": (
        lambda _, x: Detections(x),
        r"an object of Detections, .* Hint: torch.export.register_dataclass\(Detections\)",
    ),
    "cache": (lambda _, x: StaticLayers(x), "an object of StaticLayers, .* Hint: pass use_cache=False"),
    "no tensor": (lambda _, x: x.shape[0], "output holds no tensor"),
    "control flow": (lambda _, x: x if x.sum() > 0 else -x, "torch.export failed: .* Hint: torch.where or"),
    "number": (lambda _, x: x * x.sum().item() if x.sum().item() > 0 else x, "Hint: torch.where or"),
    "cause": (chained, "torch.export failed: KeyError: 'the root'"),
    "state": (advance, "the call changes seen"),
}


@pytest.mark.parametrize(("returned", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_has_a_reason_of_one_line(returned, reason):
    with pytest.raises(ConversionError) as refused:
        exported(Returns(returned).eval(), (torch.ones(2),), {})
    assert re.search(reason, str(refused.value))
    assert "\n" not in str(refused.value)


def test_arguments_must_hold_tensors_and_constants():
    with pytest.raises(ConversionError, match="arguments hold an object of Detections"):
        exported(Nested().eval().encode, (Detections(torch.ones(1, 4)),), {})
    with pytest.raises(ConversionError, match="no tensor among its arguments"):
        exported(Returns(lambda _, x: torch.ones(x)).eval(), (3,), {})
    with pytest.raises(ConversionError, match="pass the module itself"):
        exported(lambda x: x, (torch.ones(1),), {})


def test_a_call_that_fails_has_the_reason_of_the_runtime():
    def run(inputs):
        raise RuntimeError("\x1b[96mno kernel\x1b[0m\nand more")

    x = torch.ones(1, 4)
    with pytest.raises(ConversionError, match=r"^the call failed: RuntimeError: no kernel$"):
        exported(Nested().eval().encode, (x,), {}).called_by(run, (x,), {})(x)


@pytest.mark.parametrize("flat", [True, False])
def test_inputs_are_those_of_the_call_and_not_of_the_export(flat):
    model, taken = Nested().eval(), []
    first, later = torch.zeros(2, 4), torch.ones(2, 4)
    target, args = (model.encode, (first,)) if flat else (model, ({"x": [first]}, None, 3.0))
    call = exported(target, args, {}).called_by(taken.extend, args, {})
    call(*((later,) if flat else ({"x": [later]}, None, 3.0)))
    assert len(taken) == 1
    assert taken[0] is later


def test_the_cache_of_a_decoder_is_part_of_the_output():
    hf = pytest.importorskip("transformers")
    config = hf.GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=16, n_positions=8)
    model = hf.GPT2LMHeadModel(config).eval()
    ids = torch.arange(4).reshape(1, 4)
    expected, output = model(ids), called(model, ids)
    assert type(output.past_key_values) is type(expected.past_key_values)
    for one, other in zip(output.past_key_values.layers, expected.past_key_values.layers, strict=True):
        torch.testing.assert_close(one.keys, other.keys)
        torch.testing.assert_close(one.values, other.values)
