"""Messages about a name that is not one of a known set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SHORTEST_PART: Final = 3
"""Number of characters from which on a part of a name stands for it."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``. Hint: did you mean 'float16'?``, or nothing if no known name is similar or contains it."""
    import difflib  # loaded on errors only: the options of every pytest session are parsed with this module

    text, known = str(name), list(known)
    similar = difflib.get_close_matches(text, known, n=1)
    if len(text) >= SHORTEST_PART:
        similar += [one for one in known if text.lower() in one.lower()]
    return f". Hint: did you mean {similar[0]!r}?" if similar else ""


def not_one_of(what: str, name: object, known: Iterable[str]) -> str:
    """Return ``dtype must be one of float16, float32, got 'flot16'. Hint: did you mean 'float16'?``."""
    # Listed in the given order, in which the most usual names come first.
    allowed = tuple(known)
    return f"{what} must be one of {', '.join(allowed)}, got {name!r}{did_you_mean(name, allowed)}"
