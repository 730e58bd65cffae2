"""OpenVINO on the CPU."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.errors import ConversionError
from pytest_infergate.runtimes.runtime import Engine, Placing

if TYPE_CHECKING:
    import torch

_MODEL = "model.xml"
# Without a hint, OpenVINO computes float32 models in bfloat16 where the processor can.
_HINTS = {None: "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoRuntime:
    """``openvino``: models compiled for the lowest latency, in the precision of the case."""

    name = "openvino"
    modes: tuple[str, ...] = ()
    own_precision = frozenset({"bfloat16", "float16"})

    def absence_reason(self) -> str | None:
        """Return that the package is missing."""
        if find_spec("openvino") is None:
            return "openvino is not installed. Hint: pip install 'pytest-infergate[openvino]'"
        return None

    def unsupported(self, device: str, dtype: str | None) -> str | None:
        """Return that only the CPU is supported, or that a dtype has no precision hint."""
        if device.partition(":")[0] != "cpu":
            return "infergate runs OpenVINO on the CPU only"
        parts = dtype_parts(dtype)
        if parts.int8:
            return "infergate does not quantise for OpenVINO"
        if parts.channels_last:
            return "OpenVINO decides itself about memory formats"
        return None if dtype in _HINTS else f"OpenVINO has no precision hint for {dtype}"

    def version(self) -> str:
        """Return the versions of torch and OpenVINO."""
        import torch

        return f"torch {torch.__version__} openvino {version_of('openvino')}"

    def build(self, program: torch.export.ExportedProgram, folder: Path, placing: Placing) -> None:  # noqa: ARG002
        """Convert the program. Raises `ConversionError` with the operators that cannot be converted."""
        import openvino
        import torch

        # torch leaves out empty vectors, such as caches that hold no token yet; OpenVINO refuses them.
        for node in program.graph.nodes:
            if node.target is torch.ops.aten.cat.default:
                parts, *others = node.args
                node.args = ([part for part in parts if part.meta["val"].shape != (0,)] or parts, *others)
        program.graph_module.recompile()
        try:
            converted = openvino.convert_model(program)
        except Exception as error:
            # Its first line names a file of OpenVINO.
            named = re.search(
                r"(?:Conversion is failed for|No conversion rule found for operations): (.*)", str(error)
            )
            if named is None:
                raise
            raise ConversionError(f"OpenVINO has no conversion for {named[1]}") from None
        openvino.save_model(converted, folder / _MODEL, compress_to_fp16=False)

    def load(self, folder: Path, placing: Placing) -> Engine:
        """Compile the model. Raises `ConversionError` if the processor cannot compute in the precision."""
        import numpy as np
        import openvino
        import torch

        hint = _HINTS[placing.dtype]
        compiled = openvino.Core().compile_model(
            folder / _MODEL,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": placing.threads,
                "INFERENCE_PRECISION_HINT": hint,
            },
        )
        actual = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if actual != hint:
            raise ConversionError(f"this processor computes in {actual} where {hint} was requested")
        request = compiled.create_infer_request()
        indices = range(len(compiled.inputs))

        def run(inputs: Any) -> Any:
            feed = dict(zip(indices, (tensor.numpy() for tensor in inputs), strict=True))
            # Shared, so that no copy is timed which a server would not make; the next call overwrites them.
            returned = request.infer(feed, share_inputs=True, share_outputs=True)
            return [torch.from_numpy(np.asarray(returned[index])) for index in range(len(returned))]

        return Engine(run)
