"""What the use of torch's profiler needs on every device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_LEVEL = "KINETO_LOG_LEVEL"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the profiler from writing its log among the tests' output, unless the user asked for it.

    It reads the level on its first use in the process, and never again.
    """
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = "99"
    try:
        yield
    finally:
        del os.environ[_LEVEL]
