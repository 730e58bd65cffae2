"""Reasons why a device is absent: pure functions of what the environment and torch report."""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from pytest_infergate.core.domain import units


class BackendStatus(NamedTuple):
    """What is known about a kind of device without accessing it."""

    label: str
    """Common name: ``CUDA``."""
    built: bool
    """Whether this build of torch supports it."""
    devices: int
    """Number of devices that torch detects."""
    variable: str
    """The environment variable that hides devices of this kind."""
    visible: str | None
    """Value of the variable; ``None`` if it is not set."""
    problem: str | None = None
    """Warning of the driver when torch counted the devices."""


def absence_reason(kind: str, index: int, status: BackendStatus) -> str | None:
    """Return why device `index` of a kind cannot be used; ``None`` if it can."""
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
    return f"{name} absent: {units.plural(count, f'{label} device')} found"


def _hidden(variable: str, visible: str, index: int) -> str | None:
    """Return how the variable hides the device; ``None`` if it cannot be the cause."""
    entries = [entry.strip() for entry in visible.split(",")]
    if entries == [""]:
        return f"{variable} is empty"
    # CUDA ignores a negative or empty entry and all entries after it.
    shown = list(takewhile(lambda entry: entry and not entry.startswith("-"), entries))
    if variable.endswith("VISIBLE_DEVICES") and len(set(shown)) < len(shown):
        return f"{variable}={visible} names a device twice, which hides every device"
    if index >= len(shown) and shown != entries:
        rest, end = "what follows" if shown else "every device", entries[len(shown)]
        return f"{variable}={visible} hides {rest} with the entry {end or 'between commas'}"
    if len(entries) > index:
        # The variable has the entry, but torch counts fewer devices: it, or an earlier one, names no device.
        return f"{variable}={visible} names a device that this machine does not have"
    return f"{variable}={visible} shows {units.plural(len(entries), 'device')}"
