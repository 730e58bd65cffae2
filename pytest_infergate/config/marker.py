"""The arguments of `@pytest.mark.inference`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pytest_infergate.config.options import GATES
from pytest_infergate.config.parse import (
    nearest,
    one_of,
    parse_counts,
    parse_demand_text,
    parse_devices,
    parse_dtypes,
    parse_seconds,
    parse_share,
    parse_tolerances,
)
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.config.toml import parse_budgets


@dataclasses.dataclass(frozen=True)
class Marker:
    """The arguments of `@pytest.mark.inference`, checked."""

    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    threads: tuple[int, ...] | None = None
    budget: Mapping[str, float] | None = None
    tolerance: Mapping[str, float | None] | None = None
    gate: Literal["fail", "warn", "off"] | None = None
    max_time: float | None = None
    unit: str | None = None
    parity: float | Literal[False] | None = None
    """Tolerance of the outputs in a paired run, ``False`` does not compare them."""
    demand: Demand | None = None


def _several(parse: Callable[[str], tuple[Any, ...]]) -> Callable[[Any], tuple[Any, ...]]:
    """Accept one value, or several in a list or tuple."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        values = list(value) if isinstance(value, (list, tuple, range)) else [value]
        if not values:
            raise ValueError("the list is empty")
        return tuple(dict.fromkeys(part for one in values for part in parse(str(one))))

    return parse_all


def _gate(value: Any) -> str:
    return "off" if value is False else one_of(value, GATES)


def _time(value: Any) -> float:
    return parse_seconds(str(value))


def _parity(value: Any) -> float | Literal[False]:
    return False if value is False else parse_share(value)


def _demand(value: Any) -> Any:
    return parse_demand_text(str(value))


def _unit(value: Any) -> str:
    if not (isinstance(value, str) and value.isidentifier()):
        raise ValueError(f"{value!r} is not a word such as 'images'")
    return value


_MARKER: Mapping[str, Callable[[Any], Any]] = {
    "devices": _several(parse_devices),
    "dtypes": _several(parse_dtypes),
    "batch_sizes": _several(parse_counts),
    "threads": _several(parse_counts),
    "budget": parse_budgets,
    "tolerance": parse_tolerances,
    "gate": _gate,
    "max_time": _time,
    "unit": _unit,
    "parity": _parity,
    "demand": _demand,
}


def parse_marker(
    arguments: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]], kinds: Collection[str]
) -> Marker:
    """Check the arguments of the markers of a test, nearest first.

    The nearest wins argument by argument; budgets and tolerances join metric by metric.

    Raises `ConfigurationError` naming the argument, what is allowed and the nearest right name.
    """
    values: dict[str, Any] = {}
    for args, kwargs in arguments:
        if args:
            raise ConfigurationError(
                f"@pytest.mark.inference takes named arguments only, got {args[0]!r}; "
                f"write for example batch_sizes=[1, 8]"
            )
        for name, value in kwargs.items():
            if name not in _MARKER:
                raise ConfigurationError(
                    f"@pytest.mark.inference has no argument {name!r}: "
                    f"known are {', '.join(_MARKER)}{nearest(name, _MARKER)}"
                )
            if value is None:
                continue
            try:
                parsed = _MARKER[name](value)
            except ValueError as error:
                raise ConfigurationError(f"@pytest.mark.inference({name}=...): {error}") from None
            if isinstance(parsed, Mapping):  # tables join: a promise made for a module holds for its tests
                values[name] = {**parsed, **values.get(name, {})}
            else:
                values.setdefault(name, parsed)
    for device in values.get("devices", ()):
        if device.partition(":")[0] not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(
                f"@pytest.mark.inference(devices=...): unknown device {device!r}: known are {known}"
            )
    return Marker(**values)
