"""ONNX Runtime: torch's exporter makes the model."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_infergate.core.domain.dtypes import WEIGHT_ONLY, dtype_parts
from pytest_infergate.errors import ConversionError
from pytest_infergate.runtimes.runtime import Engine, Placing

if TYPE_CHECKING:
    import torch

_MODEL = "model.onnx"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class OnnxRuntime:
    """``onnxruntime``: sessions of ONNX Runtime with the provider of the device."""

    name = "onnxruntime"
    modes: tuple[str, ...] = ("tensorrt",)
    own_precision: frozenset[str] = frozenset({"int8"})

    def absence_reason(self) -> str | None:
        """Return which package is missing."""
        for package in _PACKAGES:
            if find_spec(package) is None:
                return f"{package} is not installed. Hint: pip install 'pytest-infergate[onnx]'"
        return None

    def unsupported(self, device: str, dtype: str | None) -> str | None:
        """Return that there is no provider for a device, or that it does not execute a dtype."""
        kind, parts = device.partition(":")[0], dtype_parts(dtype)
        if kind not in _PROVIDERS:
            return f"infergate knows no provider of ONNX Runtime for {kind}"
        if kind == "cpu" and "bfloat16" in (parts.cast, parts.autocast):
            return "ONNX Runtime has no kernels in bfloat16 for the CPU"
        if parts.channels_last or parts.tf32:
            return f"ONNX Runtime decides itself about {'memory formats' if parts.channels_last else 'TF32'}"
        if parts.int8 and (kind != "cpu" or parts.int8 == WEIGHT_ONLY):
            return "infergate quantises for ONNX Runtime on the CPU only, and not the weights alone"
        return None

    def version(self) -> str:
        """Return the versions of torch, the exporter and the runtime."""
        import torch

        return " ".join(
            [f"torch {torch.__version__}", *(f"{package} {version_of(package)}" for package in _PACKAGES)]
        )

    def build(self, program: torch.export.ExportedProgram, folder: Path, placing: Placing) -> None:
        """Export the model, and quantise its products for int8. Raises `ConversionError` if it has none."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(program, dynamo=True, verbose=False)
        if made is None:
            raise ConversionError("torch.onnx.export returned nothing")
        if dtype_parts(placing.dtype).int8 is None:
            made.save(folder / _MODEL, external_data=True)
            return
        with tempfile.TemporaryDirectory() as other:
            made.save(Path(other) / _MODEL, external_data=True)
            _quantise(Path(other) / _MODEL, folder / _MODEL)

    def load(self, folder: Path, placing: Placing) -> Engine:
        """Open a session. Raises `ConversionError` if the runtime refuses the model or lacks a provider."""
        import onnxruntime
        import torch

        kind, _, index = placing.device.partition(":")
        provider = "TensorrtExecutionProvider" if placing.mode == "tensorrt" else _PROVIDERS[kind]
        if provider not in onnxruntime.get_available_providers():
            raise ConversionError(
                f"this build of ONNX Runtime has no {provider}. Hint: pip install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = placing.threads
        options.log_severity_level = 3
        settings: list[Any] = [(provider, {"device_id": int(index or 0)})] if kind != "cpu" else [provider]
        session = onnxruntime.InferenceSession(folder / _MODEL, options, providers=settings)
        if session.get_providers()[0] != provider:
            raise ConversionError(f"{provider} could not be used, and fell back to the CPU")
        names = [value.name for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs()]
        if kind == "cpu":

            def run(inputs: Any) -> Any:
                feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
                return [torch.from_numpy(array) for array in session.run(outputs, feed)]

            return Engine(run, weights=_weights(folder) if dtype_parts(placing.dtype).int8 else None)

        def run_bound(inputs: Any) -> Any:
            binding = session.io_binding()
            for name, tensor in zip(names, inputs, strict=True):
                value = onnxruntime.OrtValue.from_dlpack(tensor.contiguous())
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, kind, int(index or 0))
            session.run_with_iobinding(binding)
            return [torch.utils.dlpack.from_dlpack(value) for value in binding.get_outputs()]

        return Engine(run_bound)


def _quantise(exported: Path, quantised: Path) -> None:
    """Quantise the products of a model with constant matrices: linear layers, as in other runtimes."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # where the quantiser advises a step that torch's exporter makes unnecessary
    try:
        quantize_dynamic(
            exported,
            quantised,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
    finally:
        root.setLevel(level)
    if not any(node.op_type == "MatMulInteger" for node in onnx.load(quantised).graph.node):
        raise ConversionError("the model has no linear layer that could be quantised")


def _weights(folder: Path) -> dict[str, int]:
    """Return the bytes of the constants of a model by dtype, as torch names it."""
    import onnx

    sizes: dict[str, int] = {}
    for constant in onnx.load(folder / _MODEL, load_external_data=False).graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(constant.data_type)
        sizes[dtype.name] = sizes.get(dtype.name, 0) + math.prod(constant.dims) * dtype.itemsize
    return dict(sorted(sizes.items()))
