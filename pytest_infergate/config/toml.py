"""The table `[tool.infergate]` of pyproject.toml."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_infergate.config.parse import (
    nearest,
    parse_share,
)
from pytest_infergate.errors import ConfigurationError

TABLE = "pyproject.toml: [tool.infergate]"


@dataclasses.dataclass(frozen=True)
class Pricing:
    """What machines cost, as the user says it."""

    table: Path | None
    """Prices of the user's own, over those that come with infergate."""
    utilisation: float
    """Share of a machine's capacity that is planned to be used."""
    regions: tuple[str, ...]
    """Prices of these regions alone count; empty: of all."""
    instances: Mapping[str, str | float]
    """By device, or kind of device: the instance that it stands for, or USD an hour of own hardware."""
    discounts: Mapping[str, float]
    """Shares off the list price, by pattern over ``provider/name``."""


def nearest_kind(kind: str, known: Iterable[str]) -> str:
    return "; a GPU of NVIDIA or AMD is cuda" if kind == "gpu" else nearest(kind, known)


def read_table(path: Path) -> Mapping[str, Any]:
    """Read `[tool.infergate]`."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # pytest itself reports a broken pyproject.toml
    table = document.get("tool", {}).get("infergate", {})
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{TABLE} must be a table")
    known = ("budgets", "tolerances", "overlay", "setup", *_PRICING, "gate_estimates")
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{TABLE} has an unknown key {unknown[0]!r}: "
            f"known are {', '.join(known)}{nearest(unknown[0], known)}"
        )
    return table


def parse_overlay(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ConfigurationError(f"{TABLE} overlay must be a list of paths")
    outside = [
        part for part in value if Path(part).is_absolute() or ".." in Path(part).parts or part in ("", ".")
    ]
    if outside:
        raise ConfigurationError(f"{TABLE} overlay: {outside[0]!r} is not a path inside of the repository")
    return tuple(value)


def parse_setup(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise ConfigurationError(f"{TABLE} setup must be a command")
    return value


def parse_gate_estimates(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{TABLE} gate_estimates must be true or false")
    return value


_PRICING = ("prices", "utilisation", "region", "instances", "discounts")
"""Keys of `[tool.infergate]` about what machines cost."""
_OWN = "{ usd_per_hour = 1.2 }"


def parse_pricing(
    table: Mapping[str, Any], given: str | None, rootdir: Path, kinds: Collection[str]
) -> Pricing:
    """Read what machines cost; `given` is the table of prices that an option names."""
    path = given if given is not None else table.get("prices")
    if path is not None and not (isinstance(path, str) and path.strip()):
        raise ConfigurationError(f"{TABLE} prices must be the path of a CSV file")
    instances = by_pattern("instances", table, _instance, "devices")
    for device in instances:
        kind = device.partition(":")[0]
        if kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(
                f"pyproject.toml: [tool.infergate.instances] has an unknown device {device!r}: "
                f"known are {known}{nearest_kind(kind, kinds)}"
            )
    return Pricing(
        table=None if path is None else rootdir / path,
        utilisation=_utilisation(table.get("utilisation")),
        regions=_regions(table.get("region", [])),
        instances=instances,
        discounts=by_pattern("discounts", table, _reduction),
    )


def pricing_of(folder: Path) -> Pricing:
    """What the pyproject.toml of a folder says of prices. Raises `ConfigurationError` as `settings` does."""
    return parse_pricing(read_table(folder / "pyproject.toml"), None, folder, ("cpu", "cuda", "mps", "xpu"))


def _utilisation(value: Any) -> float:
    from pytest_infergate.core.domain.instance_types import UTILISATION

    if value is None:
        return UTILISATION
    try:
        found = parse_share(value)
    except ValueError as error:
        raise ConfigurationError(f"{TABLE} utilisation: {error}") from None
    if not 0 < found <= 1:
        raise ConfigurationError(f"{TABLE} utilisation: {value!r} is not above 0 and at most 1, such as 0.6")
    return found


def _regions(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(part, str) and part.strip() for part in found):
        raise ConfigurationError(f"{TABLE} region must be a name such as 'us-east-1', or a list of them")
    return tuple(found)


def _instance(value: Any) -> str | float:
    """Read what a device stands for."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    from pytest_infergate.core.domain.instance_types import MAX_USD_PER_HOUR

    own = isinstance(value, Mapping) and set(value) == {"usd_per_hour"}
    price = value["usd_per_hour"] if own else None
    if isinstance(price, bool) or not isinstance(price, (int, float)):
        allowed = f"an instance such as 'aws/c7i.xlarge' nor a price such as {_OWN}"
        raise ValueError(f"{value!r} is neither {allowed}")  # noqa: TRY004
    if not 0 < price <= MAX_USD_PER_HOUR:
        raise ValueError(f"usd_per_hour is {price!r}; a price is a number above 0")
    return float(price)


def _reduction(value: Any) -> float:
    found = parse_share(value)
    if found >= 1:
        raise ValueError(f"{value!r} leaves nothing to pay; a discount is less than 100%")
    return found


def by_pattern(
    key: str, table: Mapping[str, Any], read: Callable[[Any], Any], by: str = "patterns"
) -> dict[str, Any]:
    """Read a table by pattern over test ids, or by what else its keys are."""
    patterns = table.get(key, {})
    where = f"pyproject.toml: [tool.infergate.{key}]"
    if not isinstance(patterns, Mapping):
        raise ConfigurationError(f"{where} must map {by} to {key}")
    try:
        return {pattern: read(values) for pattern, values in patterns.items()}
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def parse_budgets(limits: Any) -> dict[str, float]:
    """Check a table of limits by metric.

    Raises `ValueError` naming the metric, what is allowed and the nearest right name.
    """
    from pytest_infergate.core.domain.metrics import metric_names

    if not isinstance(limits, Mapping):
        raise ValueError(f"a budget is a table such as {{'p95_ms': 40}}, not {limits!r}")  # noqa: TRY004
    known = metric_names()
    for name, limit in limits.items():
        if name not in known:
            listed = ", ".join(known)
            raise ValueError(f"unknown budget {name!r}: known are {listed}{nearest(str(name), known)}")
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit < math.inf:
            raise ValueError(f"budget {name!r} is {limit!r}; a limit is a number of 0 or more")
    return {name: float(limit) for name, limit in limits.items()}
