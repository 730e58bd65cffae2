"""Real engines: what they return agrees with eager PyTorch, and what they cannot do has a reason."""

import contextlib
import functools
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from stub_runtime import StubRuntime
    from torch import nn

    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.devices.cpu import CpuKind
    from pytest_infergate.errors import CaseTimeoutError, ConversionError
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.plugin.hooks import pytest_infergate_runtimes
    from pytest_infergate.runtimes import conversion
    from pytest_infergate.runtimes.exported_model import exported
    from pytest_infergate.runtimes.prepared_case import prepared
    from pytest_infergate.runtimes.runtime import Placing, quantisation_absence

RUNTIMES = {one.name: one for one in pytest_infergate_runtimes()}
CPU = CpuKind().open("cpu")


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))

    def forward(self, batch):
        logits = self.layers(batch["x"])
        return {"logits": logits, "best": logits.argmax(-1)}


@functools.cache
def model():
    torch.manual_seed(0)
    return Classifier()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("INFERGATE_CACHE", str(folder))
        yield folder


def run(name, dtype=None, rows=3):
    """The output of a runtime, and what its conversion took."""
    runtime = RUNTIMES[name]
    if (absence := runtime.absence_reason()) is not None:
        pytest.skip(absence)
    case = Case(test="t.py::test_a", device="cpu", runtime=name, dtype=dtype, batch_size=rows)
    x = torch.linspace(-1, 1, 8 * rows).reshape(rows, 8)
    with prepared(case, CPU, Invocation(model(), ({"x": x},)), runtime) as (subject, _, conversion):
        return subject.structured(subject.call()), conversion, subject


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_agrees_with_eager_pytorch(tmp_path, monkeypatch, name):
    monkeypatch.setenv("INFERGATE_CACHE", str(tmp_path))
    expected = run("eager")[0]
    output, conversion, subject = run(name)
    torch.testing.assert_close(output["logits"], expected["logits"], rtol=1e-4, atol=1e-5)
    assert output["best"].tolist() == expected["best"].tolist()
    if conversion is not None:
        assert not conversion.cached
        assert run(name)[1].cached
        assert conversion.size > 0
        assert subject.weights() == {"float32": 4 * (8 * 16 + 16 + 16 * 4 + 4)}
        # Its operators are not those of torch: zero would pass for a count.
        assert subject.uncounted.code == "not-counted"


def test_openvino_computes_in_the_precision_of_the_case(cache):
    expected = run("eager")[0]["logits"]
    single = run("openvino", "float32")[0]["logits"]
    torch.testing.assert_close(single, expected, rtol=1e-4, atol=1e-5)
    try:
        half = run("openvino", "bfloat16")[0]["logits"]
    except ConversionError as refused:
        pytest.skip(str(refused))  # a processor without bfloat16
    assert half.dtype is torch.float32
    assert 1e-4 < (half - expected).abs().max() < 5e-2


@pytest.mark.parametrize("name", ["onnxruntime", "compile", pytest.param("aoti", marks=pytest.mark.nightly)])
def test_linear_layers_in_int8_agree_roughly_and_are_smaller(cache, name):
    pytest.importorskip("torchao")
    expected = run("eager")[0]["logits"]
    output, _, subject = run(name, "int8")
    error = (output["logits"] - expected).abs().max() / expected.abs().max()
    assert 1e-4 < error < 5e-2
    assert subject.weights()["int8"] == 8 * 16 + 16 * 4 + 16 + 4  # with a zero point for each row
    assert (
        run(name, "int8")[0]["logits"].tolist() == output["logits"].tolist()
    )  # the quantised files are kept


class Streaming(nn.Module):
    """Of speech in chunks: the state is no buffer, and may be in a container."""

    def __init__(self, keep):
        super().__init__()
        self.layer, self.keep = nn.Linear(8, 8), keep
        self.held = {"state": torch.zeros(1, 8), "calls": 0}

    def forward(self, x):
        y = self.layer(x) + self.held["state"]
        self.held["calls"] += 1
        if self.keep:
            self.held["state"] = y
        return y


@pytest.mark.parametrize(
    ("keep", "reason"),
    [(True, r"^each call changes held, on which the next output depends, and a con"), (False, "^no files$")],
)
def test_a_model_whose_output_depends_on_the_calls_before_is_not_converted(monkeypatch, keep, reason):
    def refuse(*_):
        raise ConversionError("no files")

    monkeypatch.setattr(conversion.Conversions, "files", refuse)
    case = Case(test="t.py::test_a", device="cpu", runtime="stub")
    call = Invocation(Streaming(keep), (torch.ones(1, 8),))
    with pytest.raises(ConversionError, match=reason), prepared(case, CPU, call, StubRuntime()):
        pass


def test_a_model_that_cannot_be_quantised_for_onnxruntime_has_a_reason(cache):
    case = Case(test="t.py::test_a", device="cpu", runtime="onnxruntime", dtype="int8")
    call = Invocation(nn.Conv2d(1, 1, 1), (torch.ones(1, 1, 2, 2),))
    with (
        pytest.raises(ConversionError, match=r"^the model has no linear layer that could be quantised$"),
        prepared(case, CPU, call, RUNTIMES["onnxruntime"]),
    ):
        pass


@pytest.mark.nightly
def test_autocast_is_part_of_a_converted_model(cache):
    expected = run("eager", "autocast:bfloat16")[0]["logits"]
    output = run("aoti", "autocast:bfloat16")[0]["logits"]
    assert output.dtype is torch.bfloat16
    torch.testing.assert_close(output, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "device", "dtype", "reason"),
    [
        ("onnxruntime", "cpu", "bfloat16", "no kernels in bfloat16"),
        ("onnxruntime", "mps", None, "no provider of ONNX Runtime for mps"),
        ("onnxruntime", "cuda", "int8", "on the CPU only"),
        ("onnxruntime", "cpu", "int8:weight-only", "not the weights alone"),
        ("onnxruntime", "cuda", "tf32", "itself about TF32"),
        ("openvino", "cuda:1", None, "on the CPU only"),
        ("openvino", "cpu", "float64", "no precision hint for float64"),
        ("aoti", "mps", None, "makes no code for mps"),
        ("aoti", "cuda", "tf32", "no packages with TF32"),
    ],
)
def test_combinations_that_no_case_is_made_of_have_a_reason(name, device, dtype, reason):
    assert reason in RUNTIMES[name].unsupported(device, dtype)


def test_other_combinations_have_a_case():
    assert [RUNTIMES[name].unsupported("cpu", None) for name in RUNTIMES] == [None] * len(RUNTIMES)
    assert RUNTIMES["compile"].unsupported("mps", "float16") is None


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("pytest_infergate.runtimes.onnx_runtime.find_spec", lambda _: None)
    monkeypatch.setattr("pytest_infergate.runtimes.openvino_cpu.find_spec", lambda _: None)
    monkeypatch.setattr("pytest_infergate.runtimes.inductor.shutil.which", lambda _: None)
    assert "pip install 'pytest-infergate[onnx]'" in RUNTIMES["onnxruntime"].absence_reason()
    assert "pip install 'pytest-infergate[openvino]'" in RUNTIMES["openvino"].absence_reason()
    monkeypatch.setattr("pytest_infergate.runtimes.runtime.find_spec", lambda _: None)
    assert "pip install 'pytest-infergate[torchao]'" in quantisation_absence()
    assert RUNTIMES["aoti"].absence_reason() == RUNTIMES["compile"].absence_reason() != None  # noqa: E711


def test_an_export_that_never_returns_has_a_reason(cache, monkeypatch):
    class Hanging(nn.Module):
        def forward(self, x):
            raise CaseTimeoutError

    def limited(passed):
        used.append(passed())
        return contextlib.nullcontext()

    used = []
    case = Case(test="t.py::test_a", device="cpu", runtime="openvino")
    call = Invocation(Hanging(), (torch.ones(1),))
    with (
        pytest.raises(ConversionError, match=r"^torch\.export did not return$"),
        prepared(case, CPU, call, RUNTIMES["openvino"], limited),
    ):
        pass
    assert used == [0]


def test_an_engine_that_cannot_be_loaded_has_a_reason(cache, monkeypatch):
    class Broken(StubRuntime):
        def load(self, folder, placing):
            raise ImportError("libcudart.so.12: cannot open shared object file\nand more")

    monkeypatch.setattr(conversion, "build_in_child", StubRuntime.build)
    case = Case(test="t.py::test_a", device="cpu", runtime="stub")
    with (
        pytest.raises(ConversionError, match=r"^loading the converted model failed: ImportError: libcudart"),
        prepared(case, CPU, Invocation(nn.Linear(1, 1), (torch.ones(1, 1),)), Broken()),
    ):
        pass


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_inputs_of_any_layout_and_kind(cache, name):
    class Masked(nn.Module):
        def forward(self, x, mask, shift, scale=1.0):
            return {"kept": torch.where(mask, x + shift, 0.0) * scale, "any": mask.any(), "none": None}

    runtime = RUNTIMES[name]
    if (absence := runtime.absence_reason()) is not None:
        pytest.skip(absence)
    x = torch.arange(12.0).reshape(3, 4).T.requires_grad_()
    mask = x.detach() > 4
    call = Invocation(Masked(), (x, mask), {"scale": 2.0, "shift": torch.tensor(3)})
    case = Case(test="t.py::test_a", device="cpu", runtime=name)
    with prepared(case, CPU, call, runtime) as (subject, _, _):
        output = subject.structured(subject.call())
    expected = Masked()(x, mask, torch.tensor(3), 2.0)
    torch.testing.assert_close(output["kept"], expected["kept"].detach())
    assert (output["any"].item(), output["none"]) == (True, None)


class Growing(nn.Module):
    """Appends to an empty vector, as the first token does to the cache of a decoder."""

    def forward(self, x):
        return torch.cat([torch.tensor([]), x], dim=-2), torch.cat([x, x], dim=0)


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, about its own use
@pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
def test_openvino_converts_empty_vectors_or_names_operators(tmp_path):
    runtime, x = RUNTIMES["openvino"], torch.ones(2, 3)
    runtime.build(exported(Growing(), (x,), {}).program, tmp_path, Placing("cpu"))
    run = runtime.load(tmp_path, Placing("cpu")).run
    assert [tuple(part.shape) for part in run([x])] == [(2, 3), (4, 3)]
    with pytest.raises(ConversionError, match=r"^OpenVINO has no conversion for .*bessel_j0"):
        runtime.build(exported(Bessel(), (x,), {}).program, tmp_path, Placing("cpu"))
