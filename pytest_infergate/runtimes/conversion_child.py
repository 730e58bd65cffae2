"""The process in which one model is converted: it may run out of memory or time without harm to the tests."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.errors import ConversionError
from pytest_infergate.runtimes.runtime import ExportingRuntime, Placing


def convert(module: str, name: str, program: str, folder: str, placing: str) -> None:
    """Build the files of a program; the last line that is printed says why it failed."""
    import torch

    from pytest_infergate.runtimes.exported_model import first_line

    try:
        runtime: ExportingRuntime = getattr(import_module(module), name)()
        where = Placing(*json.loads(placing))
        if dtype_parts(where.dtype).int8 and find_spec("torchao"):
            import_module("torchao.quantization")  # has operators of quantised programs
        loaded = torch.export.load(program)
        with torch.no_grad():  # as it was exported: operators of attention depend on it
            runtime.build(loaded, Path(folder), where)
    except Exception as error:  # noqa: BLE001 - exporters raise anything
        reason = str(error) if isinstance(error, ConversionError) else first_line(error)
        sys.stderr.write(f"\n{reason}\n")
        sys.stderr.flush()
        os._exit(1)  # an engine may hang or crash at the end of the interpreter


if __name__ == "__main__":
    convert(*sys.argv[1:])
