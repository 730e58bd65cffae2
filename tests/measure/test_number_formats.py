"""Dtypes that are more than a cast, on the copy of a module that a case runs."""

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.core.domain.dtypes import dtype_parts
    from pytest_infergate.errors import ConversionError
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.number_formats import autocasting, products_rounded
    from pytest_infergate.measure.placement import placed


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(4, 64)

    def forward(self, image):
        self.strides = image.stride(), self.convolution.weight.stride()
        return self.head(self.convolution(image).mean((2, 3)))


IMAGE = torch.linspace(-1, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
LAST = (48, 1, 12, 3)


def run(model, image, dtype):
    with placed(Invocation(model, (image,)), "cpu", dtype) as ready:
        return ready.call(), ready.on_device.target, ready.weights()


@pytest.mark.parametrize("dtype", ["channels_last", "float64:channels_last"])
def test_channels_of_images_and_convolutions_are_last(dtype):
    model = Net()
    _, ran, _ = run(model, IMAGE, dtype)
    assert ran.strides == (LAST, (12, 1, 6, 3))
    assert model.convolution.weight.stride() == (12, 4, 2, 1)
    assert IMAGE.stride() == (48, 16, 4, 1)


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [("channels_last", "no convolution"), ("int8", r"no linear layer \(torch.nn.Linear\)")],
)
def test_a_model_without_such_layers_has_a_reason(dtype, reason):
    with pytest.raises(ConversionError, match=reason):
        run(nn.ReLU(), IMAGE, dtype)


@pytest.mark.parametrize("dtype", ["int8", "int8:weight-only"])
def test_linear_layers_are_quantised_in_a_copy(dtype):
    pytest.importorskip("torchao")
    model = Net().eval()
    expected, before = model(IMAGE), {name: value.clone() for name, value in model.state_dict().items()}
    output, _, weights = run(model, IMAGE, dtype)
    assert 1e-4 < (output - expected).abs().max() / expected.abs().max() < 5e-2
    # Each of the 64 rows has a scale and a zero point; convolution and bias keep their dtype.
    assert weights == {"float32": 4 * (4 * 3 * 4 + 4 + 64 + 64), "int8": 4 * 64 + 64}
    after = model.state_dict()
    assert all(
        type(after[name]) is torch.Tensor and after[name].equal(value) for name, value in before.items()
    )


def test_a_linear_layer_alone_is_quantised():
    pytest.importorskip("torchao")
    assert run(nn.Linear(8, 64, bias=False), torch.ones(2, 8), "int8")[2]["int8"] == 8 * 64 + 64


def test_autocast_is_entered_in_each_call():
    model = nn.Linear(4, 2)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    output, _, weights = run(model, torch.ones(1, 4), "autocast:bfloat16")
    assert output.dtype is torch.bfloat16
    assert weights == {"float32": 40}
    assert seen == [True]
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_of_a_stream_lasts_as_long_as_its_items_are_made():
    def stream(x):
        for _ in range(2):
            yield (x @ x).dtype

    items = autocasting(stream, dtype_parts("autocast:bfloat16"), "cpu")(torch.ones(2, 2))
    assert next(items) is torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
    assert list(items) == [torch.bfloat16]


def test_products_are_rounded_for_the_time_of_a_case():
    parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before = [part.fp32_precision for part in parts]
    with products_rounded(dtype_parts("tf32")):
        assert [part.fp32_precision for part in parts] == ["tf32"] * 3
    assert [part.fp32_precision for part in parts] == before
