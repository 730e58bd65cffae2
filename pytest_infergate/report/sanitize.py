"""Make names and other untrusted text safe and short enough to print."""

from __future__ import annotations

import re
from collections.abc import Callable

from pytest_infergate.core.domain.outcome import GateResult
from pytest_infergate.core.domain.values import Case

ELLIPSIS = "…"
_BOUNDARIES = ("/", "::")
# A shorter rest of a name would not identify a test.
_MIN_KEPT = 8
"""Number of characters that a name keeps at least if it is cut at a boundary."""


def plain(text: str) -> str:
    """Escape characters that a terminal would interpret or a reader could not see.

    Newlines, escape sequences, marks that change the writing direction, zero-width characters and lone
    surrogates become backslash escapes. Printable text is returned unchanged.
    """
    # Almost every name is printable, and this check is fast.
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def without_commands(text: str) -> str:
    """Disable workflow commands of a CI runner: lines that begin with ``::``, indented or not."""
    # A runner executes such a line wherever in the log it is, so a test name could forge an annotation.
    return re.sub(r"^(\s*):(?=:)", r"\1\\x3a", text, flags=re.MULTILINE)


def shorten(name: str, width: int) -> str:
    """Cut a name from the left to at most `width` characters, at a folder or ``::`` if one is near.

    The right end contains the test and its case, which distinguish node ids.
    """
    if len(name) <= width:
        return name
    tail = name[len(name) - max(0, width - len(ELLIPSIS)) :]
    starts = [position for mark in _BOUNDARIES if (position := tail.find(mark)) >= 0]
    if starts and len(tail) - min(starts) >= max(_MIN_KEPT, width // 2):
        return ELLIPSIS + tail[min(starts) :]
    return ELLIPSIS + tail


def within_test(case: Case) -> str:
    """Return the name of a case within its test: ``cpu-b8``."""
    return plain(case.name[len(case.test) + 1 : -1])


def called(gate: GateResult) -> Callable[[Case], str]:
    """Return a function that names a case: by its node id in this run, otherwise by its key."""
    nodeids = {verdict.case: verdict.nodeid for verdict in gate.verdicts}
    return lambda case: plain(nodeids.get(case, case.name))
