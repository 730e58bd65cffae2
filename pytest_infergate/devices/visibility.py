"""Why a device is not there, in words: pure functions over what the environment and torch report."""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple


class BackendStatus(NamedTuple):
    """What can be known of a kind of device without touching it."""

    label: str
    """As people write it: ``CUDA``."""
    built: bool
    """Whether this torch was built for it."""
    devices: int
    """How many torch sees."""
    variable: str
    """The environment variable that hides devices of this kind."""
    visible: str | None
    """Its value; ``None`` where it is not set."""
    problem: str | None = None
    """What the driver complained about when torch counted."""


def absence_reason(kind: str, index: int, status: BackendStatus) -> str | None:
    """Say why device `index` of a kind cannot be used; ``None`` where it can."""
    label, built, count, variable, visible, problem = status
    if not built:
        return f"torch built without {label}"
    if index < count:
        return None
    name = kind if index == 0 else f"{kind}:{index}"
    hidden = None if visible is None else _hidden(variable, visible, index)
    if hidden is not None and problem is None:
        return f"{name} hidden: {hidden}"
    if problem is not None:
        return f"{name} cannot be used: {problem}"
    if count == 0:
        return f"no {label} device found"
    return f"{name} absent: {count} {label} device{'s' if count > 1 else ''} found"


def _hidden(variable: str, visible: str, index: int) -> str | None:
    """How the variable hides the device; ``None`` where it cannot be the cause."""
    entries = [entry.strip() for entry in visible.split(",")]
    if entries == [""]:
        return f"{variable} is empty"
    shown = list(takewhile(lambda entry: entry and not entry.startswith("-"), entries))
    if variable.endswith("VISIBLE_DEVICES") and len(set(shown)) < len(shown):
        return f"{variable}={visible} names a device twice, which hides every device"
    if index >= len(shown) and shown != entries:
        rest, end = "what follows" if shown else "every device", entries[len(shown)]
        return f"{variable}={visible} hides {rest} with the entry {end or 'between commas'}"
    if len(entries) > index:
        # The entry is there, yet torch counts fewer devices: it, or one before it, names none.
        return f"{variable}={visible} names a device that this machine does not have"
    return f"{variable}={visible} shows {len(entries)} device{'s' if len(entries) > 1 else ''}"
