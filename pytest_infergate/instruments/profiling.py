"""Use of torch's profiler without its log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_LEVEL = "KINETO_LOG_LEVEL"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the profiler from writing its log into the output of the tests, unless the user set its level."""
    # The profiler reads the level at its first use in the process, and never again.
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = "99"  # above all levels of Kineto
    try:
        yield
    finally:
        del os.environ[_LEVEL]
