"""Errors of infergate as pytest's usage errors: a message without a traceback, and exit code 4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_infergate.errors import InfergateError


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn what cannot work, whatever the tests are, into a `pytest.UsageError`."""
    try:
        yield
    except InfergateError as error:
        raise pytest.UsageError(str(error)) from None
