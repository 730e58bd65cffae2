"""The text of an option, ini value or marker argument, parsed into a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pytest_infergate.core.domain import units

DTYPES = ("bfloat16", "float16", "float32", "float64")


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ValueError("the list is empty")
    return words


def parse_devices(text: str) -> tuple[str, ...]:
    """Parse ``cpu,cuda:1``; the first device of a kind needs no number."""
    names = []
    for word in _words(text):
        kind, colon, index = word.partition(":")
        if colon and not index.isdecimal():
            raise ValueError(f"{word!r} has no number after the colon; write {kind}:0")
        names.append(kind if not colon or int(index) == 0 else f"{kind}:{int(index)}")
    return tuple(dict.fromkeys(names))


def parse_dtypes(text: str) -> tuple[str, ...]:
    """Parse ``float32,bfloat16``."""
    return tuple(one_of(word, DTYPES) for word in _words(text))


def parse_counts(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4``."""
    return tuple(_count(word) for word in _words(text))


def parse_seconds(text: str) -> float:
    """Parse ``10``, ``10s``, ``2min``, ``1h`` or ``1d``."""
    return units.parse_duration(text)


def parse_share(value: str | float) -> float:
    """Parse ``5%`` or ``0.05``; a bare number above 1 is refused since nobody knows what it means."""
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a share such as '5%' or 0.05")
    if number > 1 and not text.endswith("%"):
        raise ValueError(f"{value!r} is above 1; write '{text}%' or {number / 100:g}")
    return number


def parse_tolerances(value: str | float | Mapping[str, Any]) -> Mapping[str, float | None]:
    """Parse ``5%`` (of p50), ``p50=5%,operators=off`` or a table by metric; off is ``None``.

    Beside ``p50`` and ``memory`` each exact counter has its name, and ``counters`` is all of them.
    """
    if isinstance(value, str) and "=" in value:
        pairs = [word.partition("=") for word in _words(value)]
        value = {name.strip(): text for name, _, text in pairs}
    if not isinstance(value, Mapping):
        return {"p50": parse_share(value)}
    from pytest_infergate.core.domain.metrics import COUNTERS

    known = ("p50", "memory", "counters", *(name for name in COUNTERS if name not in _TOLERATED_ELSEWHERE))
    return {one_of(name, known): _tolerance(name, number) for name, number in value.items()}


_TOLERATED_ELSEWHERE = ("gflops", "peak_memory_bytes")
"""Counters that go by another name where they are tolerated: flops, memory."""


def _tolerance(name: str, value: Any) -> float | None:
    if value is False or (isinstance(value, str) and value.strip() == "off"):
        if name == "p50":
            raise ValueError("p50 cannot be off; gate=False in the marker reports without failing")
        return None
    return parse_share(value)


def parse_min_decided(text: str) -> float:
    value = parse_share(text)
    if value > 1:
        raise ValueError(f"{text!r} is more than all cases")
    return value


def one_of(word: Any, known: Collection[str]) -> str:
    """Return a known word; raise `ValueError` naming what is allowed for any other."""
    if word in known:
        return str(word)
    raise ValueError(f"unknown {word!r}: allowed are {', '.join(sorted(known))}{nearest(str(word), known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'float16'?``, or nothing where no known word is near."""
    import difflib

    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _count(value: Any) -> int:
    number = int(value) if str(value).isdecimal() and not isinstance(value, bool) else 0
    if number < 1:
        raise ValueError(f"{value!r} is not a whole number of 1 or more")
    return number


def parse_demand_text(text: str) -> Any:
    """Parse ``50/s`` into a `core.demand.Demand`."""
    from pytest_infergate.core.advice.demand import parse_demand

    return parse_demand(text)


def parse_folder(text: str) -> str:
    if "://" in text:
        raise ValueError(f"{text!r} is an address; exact counters stand in a folder beside the code")
    return text


def parse_choice(*known: str) -> Callable[[str], str]:
    return lambda text: one_of(text, known)


def parse_flag(text: str) -> bool:
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if text.lower() not in known:
        raise ValueError(f"{text!r} is not true or false")
    return known[text.lower()]
