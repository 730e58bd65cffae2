"""The process in which one model is converted: it may run out of memory or time without harm to the tests."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path

from pytest_infergate.runtimes.runtime import ExportingRuntime, Placing


def convert(module: str, name: str, program: str, folder: str, placing: str) -> None:
    """Build the files of a program; the last line that is printed says why it failed."""
    import torch

    from pytest_infergate.runtimes.exported_model import first_line

    try:
        runtime: ExportingRuntime = getattr(import_module(module), name)()
        loaded = torch.export.load(program)
        with torch.no_grad():  # as it was exported: operators of attention depend on it
            runtime.build(loaded, Path(folder), Placing(*json.loads(placing)))
    except Exception as error:  # noqa: BLE001 - exporters raise anything
        sys.stderr.write(f"\n{first_line(error)}\n")
        sys.stderr.flush()
        os._exit(1)  # an engine may hang or crash at the end of the interpreter


if __name__ == "__main__":
    convert(*sys.argv[1:])
