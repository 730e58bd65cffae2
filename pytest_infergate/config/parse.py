"""Parsers of option values, ini values and marker arguments."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.dtypes import checked_dtype
from pytest_infergate.core.domain.spelling import did_you_mean, not_one_of
from pytest_infergate.errors import ConfigurationError

# These counters have another name in tolerances: flops and memory.
_TOLERATED_ELSEWHERE = ("gflops", "peak_memory_bytes")
_FLAGS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def as_text(value: Any) -> str:
    """Return an option as it is written on the command line: the ``[1, 2]`` of a TOML file is ``1,2``.

    Raises `ValueError` for a value that has no such text, such as a table.
    """
    if isinstance(value, list) and not any(isinstance(part, list) for part in value):
        return ",".join(map(as_text, value))
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"it must be a text, a number, true, false, or a list of them, got {value!r}")


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ValueError(f"a list must have at least one value, got {text!r}")
    return words


def parse_devices(text: str) -> tuple[str, ...]:
    """Parse ``cpu,cuda:1``. The number 0 is dropped, so that ``cuda:0`` and ``cuda`` are one device."""
    names = []
    for word in _words(text):
        kind, colon, index = word.partition(":")
        if colon and not index.isdecimal():
            raise ValueError(
                f"a device must have a number after the colon, got {word!r}. Hint: write {kind}:0"
            )
        # The case of a device has one name, whichever way the user writes it.
        names.append(kind if not colon or int(index) == 0 else f"{kind}:{int(index)}")
    return tuple(dict.fromkeys(names))


def check_kinds(devices: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `ConfigurationError` for a device of an unknown kind; `where` says where it is configured."""
    kinds = sorted(known)
    for device in devices:
        kind = device.partition(":")[0]
        if kind not in kinds:
            hint = ". Hint: a GPU of NVIDIA or AMD is cuda" if kind == "gpu" else did_you_mean(kind, kinds)
            raise ConfigurationError(f"{where} must be one of {', '.join(kinds)}, got {device!r}{hint}")


class OfferedRuntime(Protocol):
    """What the axes need to know of a runtime."""

    name: str
    modes: tuple[str, ...]

    def unsupported(self, device: str, dtype: str | None) -> str | None:
        """Return why a device and dtype cannot be combined with it."""


def is_remote(runtime: OfferedRuntime) -> bool:
    """Return whether a runtime is a server, whose cases have no device: it has the method `remote`."""
    return callable(getattr(runtime, "remote", None))


def is_converting(runtime: OfferedRuntime) -> bool:
    """Return whether a runtime executes files that it builds, inside of which nothing can be counted."""
    return callable(getattr(runtime, "build", None))


def parse_runtimes(text: str) -> tuple[str, ...]:
    """Parse ``eager,compile:max-autotune``."""
    return _words(text)


def check_runtimes(names: Iterable[str], offered: Mapping[str, OfferedRuntime], where: str) -> None:
    """Raise `ConfigurationError` for an unknown runtime or mode; `where` says where it is configured."""
    for text in names:
        name, colon, mode = text.partition(":")
        if name not in offered:
            known = sorted(offered)
            with_modes = [f"{one}:{mode}" for one in known for mode in offered[one].modes]
            raise ConfigurationError(
                f"{where} runtime must be one of {', '.join(known)}, got {name!r}"
                f"{did_you_mean(name, (*known, *with_modes))}"
            )
        if colon and mode not in offered[name].modes:
            modes = offered[name].modes
            if modes:
                raise ConfigurationError(f"{where} {not_one_of(f'mode of {name}', mode, modes)}")
            raise ConfigurationError(f"{where} {name} must have no mode, got {text!r}. Hint: write {name}")


def parse_dtypes(text: str) -> tuple[str, ...]:
    """Parse ``float32,autocast:bfloat16,int8``."""
    return tuple(map(checked_dtype, _words(text)))


def parse_counts(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4``."""
    counts = []
    for word in _words(text):
        # `int` accepts more than a count: signs, spaces and underscores.
        number = int(word) if word.isdecimal() else 0
        if number < 1:
            raise ValueError(f"a count must be a whole number of 1 or more, got {word!r}")
        counts.append(number)
    return tuple(counts)


def parse_seconds(text: str) -> float:
    """Parse ``10``, ``10s``, ``2min``, ``1h`` or ``1d``."""
    return units.parse_duration(text)


def parse_share(value: str | float) -> float:
    """Parse ``5%`` or ``0.05``.

    Raises `ValueError` for a bare number above 1, which could be a factor or per cent.
    """
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    # A boolean is a number in Python; True would be a share of 1.
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"a share must be a number of 0 or more, got {value!r}. Hint: write '5%' or 0.05")
    if number > 1 and not text.endswith("%"):
        percent = f"'{text}%' or {number / 100:g}"
        raise ValueError(f"a share above 1 must have a per cent sign, got {value!r}. Hint: write {percent}")
    return number


def parse_tolerances(value: str | float | Mapping[str, Any]) -> Mapping[str, float | None]:
    """Parse ``5%`` (of p50), ``p50=5%,operators=off`` or a table by metric; ``off`` is ``None``.

    Metrics are ``p50``, ``memory``, each exact counter, and ``counters`` for all of them.
    """
    if isinstance(value, str) and "=" in value:
        pairs = [word.partition("=") for word in _words(value)]
        value = {name.strip(): text for name, _, text in pairs}
    if not isinstance(value, Mapping):
        return {"p50": parse_share(value)}
    # Loaded here, because the options of every pytest session are parsed with this module.
    from pytest_infergate.core.domain.metrics import COUNTERS

    known = ("p50", "memory", "counters", *(name for name in COUNTERS if name not in _TOLERATED_ELSEWHERE))
    tolerances: dict[str, float | None] = {}
    for name, tolerance in value.items():
        # TOML and markers have False, the command line has the word.
        off = tolerance is False or (isinstance(tolerance, str) and tolerance.strip() == "off")
        if one_of(name, known, "tolerance") == "p50" and off:
            hint = 'gate="warn" in the marker reports without failing'
            raise ValueError(f"p50 must have a tolerance, got {tolerance!r}. Hint: {hint}")
        tolerances[name] = None if off else parse_share(tolerance)
    return tolerances


_MAX_LIMIT = sys.float_info.max
"""A whole number of TOML may be larger than any float."""


def parse_budgets(limits: Any) -> dict[str, float]:
    """Parse a table of limits by metric.

    Raises `ValueError` with the metric, what is allowed and the nearest name.
    """
    from pytest_infergate.core.domain.metrics import metric_names

    if not isinstance(limits, Mapping):
        raise ValueError(f"budgets must be a table like {{'p95_ms': 40}}, got {limits!r}")  # noqa: TRY004
    for name, limit in limits.items():
        one_of(name, metric_names(), "budget")
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit <= _MAX_LIMIT:
            raise ValueError(f"budget {name} must be a number of 0 or more, got {limit!r}")
    return {name: float(limit) for name, limit in limits.items()}


def parse_min_decided(text: str) -> float:
    """Parse a share of at most 100 %."""
    value = parse_share(text)
    if value > 1:
        raise ValueError(f"the share of decided cases must be at most 100%, got {text!r}")
    return value


def one_of(word: Any, known: Collection[str], what: str = "value") -> str:
    """Return a known word. Raises `ValueError` with what is allowed for any other."""
    if word in known:
        return str(word)
    raise ValueError(not_one_of(what, word, known))


def parse_demand_text(text: str) -> Any:
    """Parse ``50/s`` into a `Demand`."""
    from pytest_infergate.core.advice.demand import parse_demand

    return parse_demand(text)


def parse_load_text(text: str) -> Any:
    """Parse ``50/s`` or another scenario into a `Load`."""
    from pytest_infergate.config.load_text import parse_load

    return parse_load(text)


def parse_folder(text: str) -> str:
    """Parse a folder. Raises `ValueError` for an address with ``scheme://``."""
    # Only baselines have stores; counters are reviewed next to the code.
    if "://" in text:
        raise ValueError(f"exact counters must be in a folder next to the code, got the address {text!r}")
    return text


def parse_choice(*known: str) -> Callable[[str], str]:
    """Return a parser that accepts only known words."""
    return lambda text: one_of(text, known)


def parse_flag(text: str) -> bool:
    """Parse ``true``, ``false`` or another usual word for them."""
    if text.lower() not in _FLAGS:
        raise ValueError(f"a flag must be true or false, got {text!r}")
    return _FLAGS[text.lower()]
