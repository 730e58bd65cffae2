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
# Runners obey ``::`` at the start of a line, after blanks too, and the older ``##[`` (``##vso[`` and
# ``##teamcity[`` elsewhere) anywhere in a line.
_COMMAND = re.compile(r"((?:^|\r)[^\S\r\n]*):(?=:)|(?<=#)#(?=\w*\[)", re.MULTILINE)


def plain(text: str) -> str:
    """Escape characters that a terminal would interpret or a reader could not see.

    Newlines, escape sequences, marks that change the writing direction, zero-width characters and lone
    surrogates become backslash escapes, and so do workflow commands. Other text is returned unchanged.
    """
    # Almost every name is printable, and this check is fast.
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    return without_commands(text)


def plain_lines(text: str) -> str:
    """Apply `plain` to each line of a text, and keep the line ends."""
    return "\n".join(map(plain, text.split("\n")))


def without_commands(text: str) -> str:
    """Escape workflow commands of a CI runner, which obeys them wherever in a log they are.

    JSON stays JSON with the same content, because the escape is one of JSON.
    """
    # Otherwise a name of a test could forge an annotation, or change the environment of later steps.
    return _COMMAND.sub(lambda match: f"{match[1]}\\u003a" if match[1] is not None else "\\u0023", text)


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
