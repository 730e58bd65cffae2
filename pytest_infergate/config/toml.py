"""The table `[tool.infergate]` of pyproject.toml."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pytest_infergate.config.parse import check_kinds, parse_share
from pytest_infergate.core.domain.instance_types import (
    MAX_USD_PER_HOUR,
    MIN_USD_PER_HOUR,
    MIN_UTILISATION,
    UTILISATION,
)
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.errors import ConfigurationError

_FILE: Final = "pyproject.toml"
_TABLE: Final = f"{_FILE}: [tool.infergate]"
_Text = Annotated[str, Meta(pattern=r"\S")]
"""A text that is not blank."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of `[tool.infergate]`. Patterns, names and shares in them are parsed by functions below."""

    budgets: dict[str, Any] = {}
    tolerances: dict[str, Any] = {}
    overlay: list[str] = []
    setup: _Text | None = None
    prices: _Text | None = None
    # Integers are kept, so that an error shows the number as it is written.
    utilisation: int | float | str = UTILISATION
    region: _Text | list[_Text] = []
    instances: dict[str, Any] = {}
    discounts: dict[str, Any] = {}
    gate_estimates: bool = False
    project: _Text | None = None


_ALLOWED: Final = {
    "budgets": "a table of budgets by pattern",
    "tolerances": "a table of tolerances by pattern",
    "overlay": "a list of paths",
    "setup": "a command",
    "prices": "the path of a CSV file",
    "utilisation": "a share, for example 0.6",
    "region": "a name, for example 'us-east-1', or a list of names",
    "instances": "a table of instances by device",
    "discounts": "a table of discounts by pattern",
    "gate_estimates": "true or false",
    "project": "a name",
}
"""What each key must be."""


# A struct and not a bare number, so that the currency and the unit are in the file.
class _OwnMachine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a machine that is not rented: ``{ usd_per_hour = 1.2 }``."""

    usd_per_hour: Annotated[float, Meta(ge=MIN_USD_PER_HOUR, le=MAX_USD_PER_HOUR)]


@dataclasses.dataclass(frozen=True)
class Pricing:
    """The prices of machines, as the user configured them."""

    table: Path | None
    """Price table of the user, which takes precedence over that of infergate."""
    utilisation: float
    """Share of a machine's capacity that is planned to be used."""
    regions: tuple[str, ...]
    """Regions whose prices count; empty for all."""
    instances: Mapping[str, str | float]
    """Instance type, or USD per hour of an own machine, by device or kind of device."""
    discounts: Mapping[str, float]
    """Shares off the list price by pattern over ``provider/name``."""


def read_document(path: Path) -> Mapping[str, Any]:
    """Return the content of a TOML file; empty if it cannot be read, which pytest itself reports."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document


def native_setting(path: Path, name: str) -> Any:
    """Return a setting of pytest as a TOML file has it: in the table of pytest 9, or in that of before."""
    document = read_document(path)
    table = (document if path.name in ("pytest.toml", ".pytest.toml") else document["tool"])["pytest"]
    return table.get("ini_options", table)[name]


def read_table(path: Path) -> Table:
    """Read `[tool.infergate]`. Raises `ConfigurationError` for an unknown key and a value of a wrong type."""
    document = read_document(path)
    tool = document.get("tool", {})
    table = tool.get("infergate", {}) if isinstance(tool, Mapping) else {}
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{_TABLE} must be a table, got {table!r}")
    for key, value in table.items():
        # Unknown keys are refused: a misspelt budget would otherwise never be checked.
        if key not in _ALLOWED:
            raise ConfigurationError(f"{_TABLE}: {not_one_of('key', key, _ALLOWED)}")
        try:
            msgspec.convert({key: value}, Table)
        except msgspec.ValidationError:
            raise ConfigurationError(f"{_TABLE}: {key} must be {_ALLOWED[key]}, got {value!r}") from None
    return msgspec.convert(table, Table)


def project_name(rootdir: Path) -> str:
    """Return the name of the project: that of `[tool.infergate]`, of the package, or of its folder.

    Raises `ConfigurationError` for an invalid `[tool.infergate]`.
    """
    path = rootdir / _FILE
    package = read_document(path).get("project", {})
    name = package.get("name") if isinstance(package, Mapping) else None
    return read_table(path).project or (name if isinstance(name, str) and name else rootdir.resolve().name)


def parse_overlay(overlay: list[str]) -> tuple[str, ...]:
    """Return the paths that a paired run copies into the base."""
    for part in overlay:
        path = Path(part)
        # Files outside the repository do not belong to the revision that is compared.
        if path.is_absolute() or ".." in path.parts or part in ("", "."):
            raise ConfigurationError(f"{_TABLE}: overlay must be paths inside the repository, got {part!r}")
    return tuple(overlay)


def parse_pricing(table: Table, prices: str | None, rootdir: Path, kinds: Collection[str]) -> Pricing:
    """Return the prices of machines; `prices` is the price table of an option, which takes precedence."""
    path = table.prices if prices is None else prices
    check_kinds(table.instances, kinds, f"{_FILE}: [tool.infergate.instances]: device")
    try:
        utilisation = parse_share(table.utilisation)
    except ValueError as error:
        raise ConfigurationError(f"{_TABLE}: utilisation: {error}") from None
    if not MIN_UTILISATION <= utilisation <= 1:
        raise ConfigurationError(
            f"{_TABLE}: utilisation must be at least {MIN_UTILISATION:g} and at most 1, "
            f"got {table.utilisation!r}. Hint: write for example 0.6"
        )
    return Pricing(
        table=None if path is None else rootdir / path,
        utilisation=utilisation,
        regions=(table.region,) if isinstance(table.region, str) else tuple(table.region),
        instances=by_pattern("instances", table.instances, _parse_instance),
        discounts=by_pattern("discounts", table.discounts, _parse_discount),
    )


def pricing_of(folder: Path) -> Pricing:
    """Return the prices that the pyproject.toml of a folder configures. Raises `ConfigurationError`."""
    return parse_pricing(read_table(folder / _FILE), None, folder, ("cpu", "cuda", "mps", "xpu"))


def by_pattern(key: str, table: Mapping[str, Any], parse: Callable[[Any], Any]) -> dict[str, Any]:
    """Parse each value of a table by pattern. Raises `ConfigurationError` with the pattern."""

    def parsed(pattern: str, value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise ConfigurationError(f"{_FILE}: [tool.infergate.{key}] {pattern!r}: {error}") from None

    return {pattern: parsed(pattern, value) for pattern, value in table.items()}


def _parse_instance(value: Any) -> str | float:
    try:
        machine = msgspec.convert(value, _Text | _OwnMachine)
    except msgspec.ValidationError:
        raise ValueError(
            "a machine must be an instance, for example 'aws/c7i.xlarge', or a price of "
            f"{MIN_USD_PER_HOUR:f} to {MAX_USD_PER_HOUR:,.0f}, for example {{ usd_per_hour = 1.2 }}, "
            f"got {value!r}"
        ) from None
    return machine.usd_per_hour if isinstance(machine, _OwnMachine) else str(machine).strip()


def _parse_discount(value: Any) -> float:
    share = parse_share(value)
    # A machine that costs nothing would win every comparison.
    if share >= 1:
        raise ValueError(f"a discount must be less than 100%, got {value!r}")
    return share
