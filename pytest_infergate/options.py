"""Options, their ini twins, `[tool.infergate]` and marker arguments: parsed once into frozen values.

Nothing deeper in reads pytest's configuration. Only the standard library is imported here, since this
runs in every pytest session.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pytest_infergate.errors import ConfigurationError

DTYPES = ("bfloat16", "float16", "float32", "float64")
GATES = ("fail", "warn", "off")
DEFAULT_MAX_TIME = 10.0
"""Seconds that one case may take."""

T = TypeVar("T")


class Option(NamedTuple):
    """A command line option; its ini twin has the same name with underscores."""

    name: str
    help: str
    parse: Callable[[str], Any]
    metavar: str | None = None
    asks: bool = False
    """Whether an ini value of it switches measuring on, as any option on the command line does."""

    @property
    def flag(self) -> str:
        """The option on the command line: ``--infer-max-time``."""
        return f"--infer-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """Its twin in the ini file: ``infer_max_time``."""
        return f"infer_{self.name}"


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ValueError("the list is empty")
    return words


def device_names(text: str) -> tuple[str, ...]:
    """Parse ``cpu,cuda:1``; the first device of a kind needs no number."""
    names = []
    for word in _words(text):
        kind, colon, index = word.partition(":")
        if colon and not index.isdecimal():
            raise ValueError(f"{word!r} has no number after the colon; write {kind}:0")
        names.append(kind if not colon or int(index) == 0 else f"{kind}:{int(index)}")
    return tuple(dict.fromkeys(names))


def dtype_names(text: str) -> tuple[str, ...]:
    """Parse ``float32,bfloat16``."""
    return tuple(_one_of(word, DTYPES) for word in _words(text))


def thread_counts(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4``."""
    return tuple(_count(word) for word in _words(text))


def seconds(text: str) -> float:
    """Parse ``10``, ``10s``, ``2min`` or ``1h``."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*(s|min|h|)\s*", text)
    try:
        value = float(match[1]) * {"": 1, "s": 1, "min": 60, "h": 3600}[match[2]] if match else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{text!r} is not a time above zero, such as 10, 10s, 2min")
    return value


def share(value: str | float) -> float:
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


def tolerances(value: str | float | Mapping[str, Any]) -> Mapping[str, float]:
    """Parse ``5%`` (of p50), ``p50=5%,memory=2%`` or a table by metric."""
    if isinstance(value, str) and "=" in value:
        pairs = [word.partition("=") for word in _words(value)]
        value = {name.strip(): text for name, _, text in pairs}
    if not isinstance(value, Mapping):
        return {"p50": share(value)}
    return {_one_of(name, ("p50", "memory")): share(number) for name, number in value.items()}


def _min_decided(text: str) -> float:
    value = share(text)
    if value > 1:
        raise ValueError(f"{text!r} is more than all cases")
    return value


def _one_of(word: Any, known: Collection[str]) -> str:
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


def _choice(*known: str) -> Callable[[str], str]:
    return lambda text: _one_of(text, known)


def _flag(text: str) -> bool:
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


OPTIONS = (
    Option("devices", "measure on these devices, comma separated: cpu, cuda, cuda:1, xpu, mps, "
           "or auto for all that are there", device_names, "NAMES", asks=True),
    Option("dtypes", "measure the model cast to each of these dtypes", dtype_names, "NAMES", asks=True),
    Option("threads", "measure with each of these numbers of threads inside an operator",
           thread_counts, "COUNTS", asks=True),
    Option("require", "devices that must be there: without them the run stops with exit code 4",
           device_names, "NAMES", asks=True),
    Option("baseline", "folder of the baselines (default: .infergate/baselines below the rootdir)",
           str, "FOLDER"),
    Option("save", "record this session into the baseline; never fails on a regression", _flag, asks=True),
    Option("gate", "what a failing verdict does: fail the test, warn in the summary, or off",
           _choice(*GATES), "{fail,warn,off}"),
    Option("strict", "also fail what could not be decided: no baseline, inconclusive, not measured", _flag),
    Option("tolerance", "tolerated slowdown against the baseline: 25%, or p50=25%,memory=1%",
           tolerances, "SHARE"),
    Option("max_time", "seconds that one case may take (default: 10)", seconds, "TIME"),
    Option("max_total", "seconds that all cases together may take; the rest is not measured",
           seconds, "TIME"),
    Option("min_decided", "fail if a smaller share of the cases was decided: 80%", _min_decided, "SHARE"),
    Option("xdist", "under pytest-xdist, lock the machine for each inference case (default) or refuse",
           _choice("lock", "refuse"), "{lock,refuse}"),
    Option("report", "write the HTML report here", str, "FILE", asks=True),
    Option("json", "write the results as JSON here", str, "FILE", asks=True),
    Option("list", "list the inference cases and stop", _flag),
    Option("disable", "run inference tests once on the CPU without measuring, whatever else asks for it",
           _flag),
)  # fmt: skip
"""Every option, in the order of ``--help``."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line, the ini file and `[tool.infergate]` say, parsed."""

    measuring: bool
    devices: tuple[str, ...]
    dtypes: tuple[str, ...] | None
    threads: tuple[int, ...] | None
    require: tuple[str, ...]
    baseline: str
    """Absolute folder, or an address with ``scheme://``."""
    save: bool
    strict: bool
    max_total: float | None
    min_decided: float | None
    xdist: str
    report: Path | None
    json: Path | None
    list: bool
    command: Mapping[str, Any]
    """Options given on the command line, which win over markers."""
    ini: Mapping[str, Any]
    """Options given in the ini file, over which markers win."""
    budgets: Mapping[str, Mapping[str, float]]
    """Budgets of `[tool.infergate.budgets]` by pattern over test ids."""

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
        from fnmatch import fnmatchcase

        found: dict[str, float] = {}
        for pattern, limits in self.budgets.items():
            if fnmatchcase(test, pattern):
                found.update(limits)
        return found


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
    report, json = given.get("report"), given.get("json")
    return Settings(
        measuring=measuring,
        devices=given.get("devices", ("cpu",)),
        dtypes=given.get("dtypes"),
        threads=given.get("threads"),
        require=given.get("require", ()),
        baseline=_located(given.get("baseline", ".infergate/baselines"), rootdir),
        save=given.get("save", False),
        strict=given.get("strict", False),
        max_total=given.get("max_total"),
        min_decided=given.get("min_decided"),
        xdist=given.get("xdist", "lock"),
        report=None if report is None else invocation_dir / report,
        json=None if json is None else invocation_dir / json,
        list=given.get("list", False),
        command=on_command,
        ini=in_ini,
        budgets=_budget_table(rootdir / "pyproject.toml") if measuring else {},
    )


def _located(place: str, rootdir: Path) -> str:
    return place if "://" in place else str(rootdir / place)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={part:g}" for name, part in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
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
            hint = "; a GPU of NVIDIA or AMD is cuda" if kind == "gpu" else nearest(kind, known)
            raise ConfigurationError(
                f"--infer-{name}: unknown device {device!r}: known are {', '.join(known)}{hint}"
            )


def _budget_table(path: Path) -> Mapping[str, Mapping[str, float]]:
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
        raise ConfigurationError(f"{path.name}: [tool.infergate] must be a table")
    unknown = sorted(set(table) - {"budgets"})
    if unknown:
        raise ConfigurationError(
            f"{path.name}: [tool.infergate] has an unknown key {unknown[0]!r}: known is budgets"
        )
    patterns = table.get("budgets", {})
    if not isinstance(patterns, Mapping):
        raise ConfigurationError(f"{path.name}: [tool.infergate.budgets] must map patterns to budgets")
    try:
        return {pattern: budget(limits) for pattern, limits in patterns.items()}
    except ValueError as error:
        raise ConfigurationError(f"{path.name}: [tool.infergate.budgets]: {error}") from None


def budget(limits: Any) -> dict[str, float]:
    """Check a table of limits by metric.

    Raises `ValueError` naming the metric, what is allowed and the nearest right name.
    """
    from pytest_infergate.core.metrics import names

    if not isinstance(limits, Mapping):
        raise ValueError(f"a budget is a table such as {{'p95_ms': 40}}, not {limits!r}")  # noqa: TRY004
    for name, limit in limits.items():
        if name not in names():
            known = ", ".join(names())
            raise ValueError(f"unknown budget {name!r}: known are {known}{nearest(str(name), names())}")
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
    tolerance: Mapping[str, float] | None = None
    gate: Literal["fail", "warn", "off"] | None = None
    max_time: float | None = None
    unit: str | None = None


def _several(parse: Callable[[str], tuple[Any, ...]]) -> Callable[[Any], tuple[Any, ...]]:
    """Accept one value, or several in a list or tuple."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        values = list(value) if isinstance(value, (list, tuple, range)) else [value]
        if not values:
            raise ValueError("the list is empty")
        return tuple(dict.fromkeys(part for one in values for part in parse(str(one))))

    return parse_all


def _gate(value: Any) -> str:
    return "off" if value is False else _one_of(value, GATES)


def _time(value: Any) -> float:
    return seconds(str(value))


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
                parsed = {**parsed, **values.get(name, {})}
            values[name] = parsed if isinstance(parsed, Mapping) else values.get(name, parsed)
    for device in values.get("devices", ()):
        if device.partition(":")[0] not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(
                f"@pytest.mark.inference(devices=...): unknown device {device!r}: known are {known}"
            )
    return Marker(**values)
