"""The arguments of `@pytest.mark.inference`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pytest_infergate.config.options import GATES
from pytest_infergate.config.parse import (
    OfferedRuntime,
    check_kinds,
    check_runtimes,
    one_of,
    parse_budgets,
    parse_counts,
    parse_demand_text,
    parse_devices,
    parse_dtypes,
    parse_load_text,
    parse_runtimes,
    parse_seconds,
    parse_share,
    parse_tolerances,
)
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.core.domain.advice_values import Demand
    from pytest_infergate.core.domain.load_values import Load


@dataclasses.dataclass(frozen=True)
class Marker:
    """The checked arguments of `@pytest.mark.inference`; ``None`` for those that are not given."""

    devices: tuple[str, ...] | None = None
    runtimes: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    threads: tuple[int, ...] | None = None
    budget: Mapping[str, float] | None = None
    tolerance: Mapping[str, float | None] | None = None
    gate: Literal["fail", "warn", "off"] | None = None
    max_time: float | None = None
    unit: str | None = None
    parity: float | Literal[False] | None = None
    """Tolerance of the outputs in a paired run; ``False`` does not compare them."""
    accuracy: Callable[..., Any] | None = None
    accuracy_tolerance: float | None = None
    demand: Demand | None = None
    load: Load | None = None
    grad_mode: Literal["inference_mode", "no_grad", "enable_grad"] | None = None


GRAD_MODES = ("inference_mode", "no_grad", "enable_grad")
"""Functions of torch under which a module may run."""


def _several(parse: Callable[[str], tuple[Any, ...]]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a parser that accepts one value, or several in a list or tuple."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        values = list(value) if isinstance(value, (list, tuple, range)) else [value]
        if not values:
            raise ValueError(f"a list must have at least one value, got {value!r}")
        return tuple(dict.fromkeys(part for each in values for part in parse(str(each))))

    return parse_all


def _parse_unit(value: Any) -> str:
    if not (isinstance(value, str) and value.isidentifier()):
        raise ValueError(f"unit must be a single word, for example 'images', got {value!r}")
    return value


def _parse_function(value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise ValueError(f"accuracy must be a function of the model that returns a number, got {value!r}")  # noqa: TRY004
    return value  # type: ignore[no-any-return]


_MARKER: Mapping[str, Callable[[Any], Any]] = {
    # Lists are parsed like the text of an option, so that a marker accepts what an option accepts.
    "devices": _several(parse_devices),
    "runtimes": _several(parse_runtimes),
    "dtypes": _several(parse_dtypes),
    "batch_sizes": _several(parse_counts),
    "threads": _several(parse_counts),
    "budget": parse_budgets,
    "tolerance": parse_tolerances,
    "gate": lambda value: "off" if value is False else one_of(value, GATES, "gate"),
    "max_time": lambda value: parse_seconds(str(value)),
    "unit": _parse_unit,
    "parity": lambda value: False if value is False else parse_share(value),
    "accuracy": _parse_function,
    "accuracy_tolerance": parse_share,
    "demand": lambda value: parse_demand_text(str(value)),
    "load": lambda value: parse_load_text(str(value)),
    "grad_mode": lambda value: one_of(value, GRAD_MODES, "grad_mode"),
}


def parse_marker(
    arguments: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]],
    kinds: Collection[str],
    offered: Mapping[str, OfferedRuntime] = MappingProxyType({}),
) -> Marker:
    """Check the arguments of the markers of a test, the closest marker first.

    The closest marker takes precedence for each argument, and for each metric of budgets and tolerances.
    `kinds` are the registered kinds of devices, `offered` the runtimes. Raises `ConfigurationError` with the
    argument, what is allowed and the nearest name.
    """
    # Markers are read from the closest to the farthest, so that the first value of an argument counts.
    values: dict[str, Any] = {}
    for args, kwargs in arguments:
        if args:
            raise ConfigurationError(
                f"@pytest.mark.inference must have named arguments only, got {args[0]!r}. "
                "Hint: write for example batch_sizes=[1, 8]"
            )
        for name, value in kwargs.items():
            if name not in _MARKER:
                raise ConfigurationError(f"@pytest.mark.inference: {not_one_of('argument', name, _MARKER)}")
            # None means that the argument is not given, for markers that are built from variables.
            if value is None:
                continue
            try:
                parsed = _MARKER[name](value)
            except ValueError as error:
                raise ConfigurationError(f"@pytest.mark.inference({name}=...): {error}") from None
            if isinstance(parsed, Mapping):  # a budget of the module applies to each of its tests
                values[name] = {**parsed, **values.get(name, {})}
            else:
                values.setdefault(name, parsed)
    if "accuracy_tolerance" in values and "accuracy" not in values:
        raise ConfigurationError(
            "@pytest.mark.inference(accuracy_tolerance=...) needs accuracy. "
            "Hint: accuracy=function, which is called with the model and returns a number"
        )
    check_kinds(values.get("devices", ()), kinds, "@pytest.mark.inference(devices=...): device")
    check_runtimes(values.get("runtimes", ()), offered, "@pytest.mark.inference(runtimes=...):")
    return Marker(**values)
