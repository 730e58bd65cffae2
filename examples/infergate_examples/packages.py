"""Find the files of an installed package without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def folder(package: str) -> Path:
    """Return the folder of an installed package.

    The package is not imported, because importing runs its code: `silero_vad` sets torch to one thread,
    which would change what is measured.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        message = f"package {package!r} is not installed: see the Makefile for how the examples are set up"
        raise ModuleNotFoundError(message, name=package)
    return Path(spec.submodule_search_locations[0])
