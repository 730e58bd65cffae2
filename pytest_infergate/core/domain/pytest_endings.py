"""What the exit codes of pytest mean."""

from __future__ import annotations

from typing import Final

_MEANINGS: Final = {
    1: "a test failed",
    2: "interrupted",
    3: "internal error of pytest",
    4: "usage error, see its output",
    5: "no test was collected",
}


def pytest_ending(code: int) -> str:
    """Return how pytest ended: ``pytest ended with exit code 5 (no test was collected)``."""
    if code < 0:
        return f"pytest was ended by signal {-code}{' (out of memory, or killed)' if code == -9 else ''}"  # noqa: PLR2004
    return f"pytest ended with exit code {code}{f' ({_MEANINGS[code]})' if code in _MEANINGS else ''}"
