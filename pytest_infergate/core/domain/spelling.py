"""Messages about a name that is not one of a known set."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``. Hint: did you mean 'float16'?``, or nothing if no known name is similar."""
    import difflib  # loaded on errors only: the options of every pytest session are parsed with this module

    similar = difflib.get_close_matches(str(name), list(known), n=1)
    return f". Hint: did you mean {similar[0]!r}?" if similar else ""


def not_one_of(what: str, name: object, known: Iterable[str]) -> str:
    """Return ``dtype must be one of float16, float32, got 'flot16'. Hint: did you mean 'float16'?``."""
    # Listed in the given order, in which the most usual names come first.
    allowed = tuple(known)
    return f"{what} must be one of {', '.join(allowed)}, got {name!r}{did_you_mean(name, allowed)}"
