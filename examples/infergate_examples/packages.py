"""Where an installed package keeps its files, without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def folder(package: str) -> Path:
    """Return the folder of an installed package.

    Importing runs the package's code; `silero_vad` sets torch to one thread when imported, which would
    change what is measured.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        message = f"package {package!r} is not installed: see the Makefile for how the examples are set up"
        raise ModuleNotFoundError(message, name=package)
    return Path(spec.submodule_search_locations[0])
