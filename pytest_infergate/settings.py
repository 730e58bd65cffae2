"""The frozen values that options, ini file, `[tool.infergate]` and markers are parsed into.

Loaded only where an option is given or a test is an inference test.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.options import (
    GATES,
    OPTIONS,
    Option,
    demand,
    device_names,
    dtype_names,
    nearest,
    one_of,
    seconds,
    share,
    thread_counts,
    tolerances,
)

if TYPE_CHECKING:
    from pytest_infergate.core.demand import Demand

T = TypeVar("T")
_FILE = "pyproject.toml: [tool.infergate]"


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


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line, the ini file and `[tool.infergate]` say, parsed."""

    measuring: bool
    devices: tuple[str, ...]
    dtypes: tuple[str, ...] | None
    threads: tuple[int, ...] | None
    workers: tuple[int, ...]
    """Numbers of processes that call their model at once."""
    require: tuple[str, ...]
    baseline: str
    """Absolute folder, or an address with ``scheme://``."""
    counters: Path
    """Folder of the exact counters."""
    rootdir: Path
    save: bool
    strict: bool
    max_total: float | None
    min_decided: float | None
    xdist: str
    report: Path | None
    json: Path | None
    markdown: Path | None
    against: str | None
    """Revision to compare with."""
    against_python: str | None
    turns: Path | None
    list: bool
    command: Mapping[str, Any]
    """Options given on the command line, which win over markers."""
    ini: Mapping[str, Any]
    """Options given in the ini file, over which markers win."""
    budgets: Mapping[str, Mapping[str, float]]
    """Budgets of `[tool.infergate.budgets]` by pattern over test ids."""
    tolerances: Mapping[str, Mapping[str, float | None]]
    """Tolerances of `[tool.infergate.tolerances]`, likewise."""
    overlay: tuple[str, ...]
    """Files and folders that a paired run lays over the base, relative to the repository."""
    setup: str | None
    """Command that makes the base ready."""
    pricing: Pricing
    energy: bool
    """Whether energy is measured though no budget asks for it."""
    gate_estimates: bool
    """Whether budgets may be held against an estimate of the energy."""

    @property
    def paired(self) -> bool:
        """Whether the run is compared call by call with other code or another interpreter."""
        return self.against is not None or self.against_python is not None

    @property
    def given(self) -> dict[str, str]:
        """What was asked for, as people read it, by option."""
        values = {**self.ini, **self.command}
        return {option.flag: _shown(values[option.name]) for option in OPTIONS if option.name in values}

    def layered(self, name: str, marker: T | None, default: T) -> T:
        """The value of an option that a marker may set: command line over marker over ini over default."""
        if name in self.command:
            return self.command[name]  # type: ignore[no-any-return]
        return marker if marker is not None else self.ini.get(name, default)

    def budgets_for(self, test: str) -> dict[str, float]:
        """Budgets of the table for one test, later patterns over earlier ones."""
        return _matching(self.budgets, test)

    def tolerances_for(self, test: str, marker: Mapping[str, float | None] | None) -> dict[str, float | None]:
        """Tolerances of one test by metric: command line over marker over table over ini."""
        layers = (
            self.ini.get("tolerance"),
            _matching(self.tolerances, test),
            marker,
            self.command.get("tolerance"),
        )
        return {metric: allowed for layer in layers for metric, allowed in (layer or {}).items()}


def _matching(table: Mapping[str, Mapping[str, T]], test: str) -> dict[str, T]:
    """Join what stands under the patterns that match a test, later ones over earlier ones."""
    from fnmatch import fnmatchcase

    return {
        metric: value
        for pattern, values in table.items()
        if fnmatchcase(test, pattern)
        for metric, value in values.items()
    }


def settings(
    command: Mapping[str, str | bool | None],
    ini: Mapping[str, str],
    *,
    rootdir: Path,
    invocation_dir: Path,
    kinds: Collection[str],
) -> Settings:
    """Parse what was given: option name to text, ``True`` for a flag, ``None`` or absent where not given.

    `kinds` are the device kinds that are registered. Raises `ConfigurationError` naming option and cure.
    """
    on_command = {
        option.name: text if isinstance(text, bool) else _parsed(option, text, option.flag)
        for option in OPTIONS
        if (text := command.get(option.name)) not in (None, False)
    }
    in_ini = {
        option.name: _parsed(option, ini[option.name], f"ini value {option.ini}")
        for option in OPTIONS
        if ini.get(option.name)
    }
    given = {**in_ini, **on_command}
    for name in ("devices", "require"):
        _check_kinds(name, given.get(name, ()), kinds)
    asked = any(option.asks and given.get(option.name) for option in OPTIONS)
    asked = asked or bool(on_command.keys() - {"disable"})
    measuring = asked and not given.get("disable", False)
    table = _table(rootdir / "pyproject.toml") if measuring else {}
    budgets = _by_pattern("budgets", table, budget)
    allowed = _by_pattern("tolerances", table, tolerances)
    overlay, setup = _overlay(table.get("overlay", [])), _setup(table.get("setup"))
    pricing = _pricing(table, given.get("prices"), rootdir, kinds)
    gate_estimates = _gate_estimates(table.get("gate_estimates", False))
    report, json, turns = given.get("report"), given.get("json"), given.get("turns")
    markdown = given.get("markdown")
    if measuring:
        _check_paired(given, on_command)
    return Settings(
        measuring=measuring,
        devices=given.get("devices", ("cpu",)),
        dtypes=given.get("dtypes"),
        threads=given.get("threads"),
        workers=given.get("workers", ()),
        require=given.get("require", ()),
        baseline=_located(given.get("baseline", ".infergate/baselines"), rootdir),
        counters=rootdir / given.get("counters", ".infergate/counters"),
        rootdir=rootdir,
        save=given.get("save", False),
        strict=given.get("strict", False),
        max_total=given.get("max_total"),
        min_decided=given.get("min_decided"),
        xdist=given.get("xdist", "lock"),
        report=None if report is None else invocation_dir / report,
        json=None if json is None else invocation_dir / json,
        markdown=None if markdown is None else invocation_dir / markdown,
        against=given.get("against") or None,
        against_python=given.get("against_python") or None,
        turns=None if turns is None else invocation_dir / turns,
        list=given.get("list", False),
        command=on_command,
        ini=in_ini,
        budgets=budgets,
        tolerances=allowed,
        overlay=overlay,
        setup=setup,
        pricing=pricing,
        energy=given.get("energy", False),
        gate_estimates=gate_estimates,
    )


def _check_paired(given: Mapping[str, Any], on_command: Mapping[str, Any]) -> None:
    """Refuse what a paired run cannot do."""
    for name, example in (("against", "main"), ("against_python", "old/bin/python")):
        if name in on_command and not on_command[name]:
            option = "--infer-" + name.replace("_", "-")
            raise ConfigurationError(
                f"{option} is empty, as where a variable is not set: name what to compare with, such as "
                f"{option}={example}, or leave it out"
            )
    paired = given.get("against") or given.get("against_python")
    if paired and given.get("save"):
        raise ConfigurationError(
            "--infer-save cannot record a paired run, whose times hold for its workers alone: "
            "leave out --infer-save, or --infer-against (-o infer_against= where the ini file has it)"
        )
    if paired and given.get("workers"):
        raise ConfigurationError("--infer-workers measures what a paired run does not: leave out one of them")
    if given.get("turns") and not paired:
        raise ConfigurationError("--infer-turns writes the turns of a paired run: add --infer-against=REV")


def _located(place: str, rootdir: Path) -> str:
    return place if "://" in place else str(rootdir / place)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        shown = {name: "off" if part is None else f"{part:g}" for name, part in value.items()}
        return ", ".join(f"{name}={part}" for name, part in shown.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if not isinstance(value, (str, int, float)):
        from pytest_infergate.core.demand import words

        return words(value)
    return "yes" if value is True else str(value)


def _parsed(option: Option, text: Any, where: str) -> Any:
    try:
        return option.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _check_kinds(name: str, devices: Iterable[str], kinds: Collection[str]) -> None:
    known = sorted({*kinds, "auto"} if name == "devices" else kinds)
    for device in devices:
        kind = device.partition(":")[0]
        if kind not in known:
            raise ConfigurationError(
                f"--infer-{name}: unknown device {device!r}: "
                f"known are {', '.join(known)}{_nearest_kind(kind, known)}"
            )


def _nearest_kind(kind: str, known: Iterable[str]) -> str:
    return "; a GPU of NVIDIA or AMD is cuda" if kind == "gpu" else nearest(kind, known)


def _table(path: Path) -> Mapping[str, Any]:
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
        raise ConfigurationError(f"{_FILE} must be a table")
    known = ("budgets", "tolerances", "overlay", "setup", *_PRICING, "gate_estimates")
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{_FILE} has an unknown key {unknown[0]!r}: "
            f"known are {', '.join(known)}{nearest(unknown[0], known)}"
        )
    return table


def _overlay(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ConfigurationError(f"{_FILE} overlay must be a list of paths")
    outside = [
        part for part in value if Path(part).is_absolute() or ".." in Path(part).parts or part in ("", ".")
    ]
    if outside:
        raise ConfigurationError(f"{_FILE} overlay: {outside[0]!r} is not a path inside of the repository")
    return tuple(value)


def _setup(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise ConfigurationError(f"{_FILE} setup must be a command")
    return value


def _gate_estimates(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{_FILE} gate_estimates must be true or false")
    return value


_PRICING = ("prices", "utilisation", "region", "instances", "discounts")
"""Keys of `[tool.infergate]` about what machines cost."""
_OWN = "{ usd_per_hour = 1.2 }"


def _pricing(table: Mapping[str, Any], given: str | None, rootdir: Path, kinds: Collection[str]) -> Pricing:
    """Read what machines cost; `given` is the table of prices that an option names."""
    path = given if given is not None else table.get("prices")
    if path is not None and not (isinstance(path, str) and path.strip()):
        raise ConfigurationError(f"{_FILE} prices must be the path of a CSV file")
    instances = _by_pattern("instances", table, _instance, "devices")
    for device in instances:
        kind = device.partition(":")[0]
        if kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(
                f"pyproject.toml: [tool.infergate.instances] has an unknown device {device!r}: "
                f"known are {known}{_nearest_kind(kind, kinds)}"
            )
    return Pricing(
        table=None if path is None else rootdir / path,
        utilisation=_utilisation(table.get("utilisation")),
        regions=_regions(table.get("region", [])),
        instances=instances,
        discounts=_by_pattern("discounts", table, _reduction),
    )


def pricing_of(folder: Path) -> Pricing:
    """What the pyproject.toml of a folder says of prices. Raises `ConfigurationError` as `settings` does."""
    return _pricing(_table(folder / "pyproject.toml"), None, folder, ("cpu", "cuda", "mps", "xpu"))


def _utilisation(value: Any) -> float:
    from pytest_infergate.core.cost import UTILISATION

    if value is None:
        return UTILISATION
    try:
        found = share(value)
    except ValueError as error:
        raise ConfigurationError(f"{_FILE} utilisation: {error}") from None
    if not 0 < found <= 1:
        raise ConfigurationError(f"{_FILE} utilisation: {value!r} is not above 0 and at most 1, such as 0.6")
    return found


def _regions(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(part, str) and part.strip() for part in found):
        raise ConfigurationError(f"{_FILE} region must be a name such as 'us-east-1', or a list of them")
    return tuple(found)


def _instance(value: Any) -> str | float:
    """Read what a device stands for."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    from pytest_infergate.core.cost import MOST_USD

    own = isinstance(value, Mapping) and set(value) == {"usd_per_hour"}
    price = value["usd_per_hour"] if own else None
    if isinstance(price, bool) or not isinstance(price, (int, float)):
        allowed = f"an instance such as 'aws/c7i.xlarge' nor a price such as {_OWN}"
        raise ValueError(f"{value!r} is neither {allowed}")  # noqa: TRY004
    if not 0 < price <= MOST_USD:
        raise ValueError(f"usd_per_hour is {price!r}; a price is a number above 0")
    return float(price)


def _reduction(value: Any) -> float:
    found = share(value)
    if found >= 1:
        raise ValueError(f"{value!r} leaves nothing to pay; a discount is less than 100%")
    return found


def _by_pattern(
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


def budget(limits: Any) -> dict[str, float]:
    """Check a table of limits by metric.

    Raises `ValueError` naming the metric, what is allowed and the nearest right name.
    """
    from pytest_infergate.core.metrics import names

    if not isinstance(limits, Mapping):
        raise ValueError(f"a budget is a table such as {{'p95_ms': 40}}, not {limits!r}")  # noqa: TRY004
    known = names()
    for name, limit in limits.items():
        if name not in known:
            listed = ", ".join(known)
            raise ValueError(f"unknown budget {name!r}: known are {listed}{nearest(str(name), known)}")
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit < math.inf:
            raise ValueError(f"budget {name!r} is {limit!r}; a limit is a number of 0 or more")
    return {name: float(limit) for name, limit in limits.items()}


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
    return seconds(str(value))


def _parity(value: Any) -> float | Literal[False]:
    return False if value is False else share(value)


def _demand(value: Any) -> Any:
    return demand(str(value))


def _unit(value: Any) -> str:
    if not (isinstance(value, str) and value.isidentifier()):
        raise ValueError(f"{value!r} is not a word such as 'images'")
    return value


_MARKER: Mapping[str, Callable[[Any], Any]] = {
    "devices": _several(device_names),
    "dtypes": _several(dtype_names),
    "batch_sizes": _several(thread_counts),
    "threads": _several(thread_counts),
    "budget": budget,
    "tolerance": tolerances,
    "gate": _gate,
    "max_time": _time,
    "unit": _unit,
    "parity": _parity,
    "demand": _demand,
}


def marker(arguments: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]], kinds: Collection[str]) -> Marker:
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
