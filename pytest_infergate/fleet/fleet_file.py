"""The fleet file: machine classes by name, each with a launcher and its terms."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

# Names become folders, names of jobs and names of Kubernetes objects, which have at most 63 characters.
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,22}[a-z0-9])?")
_MEMORY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(MB|GB|MiB|GiB)\s*")
_BYTES: Final = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
WHOLE_SUITE: Final = "all"
"""Name of the only part of a fleet file that has no parts."""
RENDERERS: Final = ("kubernetes", "skypilot")
"""Tables of a class that only `infergate fleet render` reads."""

_Count = Annotated[int, Meta(ge=1, le=4096)]
_Text = Annotated[str, Meta(pattern=r"\S")]


class MachineClass(Struct, frozen=True, kw_only=True):
    """One class of machines, and how pytest is run on it."""

    name: str
    launcher: str = "local"
    cores: int | None = None
    """Cores that pytest may use. Fewer are an error; of more, the first ones are used."""
    threads: int | None = None
    """Passed to pytest as ``--infer-threads``."""
    memory: int | None = None
    """Bytes to request from the launcher; not checked."""
    cpu: str | None = None
    """A part of the name of the expected CPU."""
    gpu: str | None = None
    """Name of the expected accelerator."""
    gpus: int = 1
    arguments: tuple[str, ...] = ()
    """Arguments for pytest."""
    env: dict[str, str] = msgspec.field(default_factory=dict)
    python: str = ""
    """Interpreter on these machines; empty for that of the command."""
    time_limit: float = 3600.0
    """Seconds from the start of a job to its end."""
    queue_limit: float = 86400.0
    """Seconds from submitting a job to its start."""
    parts: tuple[str, ...] = ()
    """Names of the parts that are measured on this class; empty for all."""
    terms: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Tables for launchers and renderers, by their name."""


class Fleet(Struct, frozen=True, kw_only=True):
    """The content of a fleet file."""

    classes: tuple[MachineClass, ...]
    parts: dict[str, tuple[str, ...]]
    """Arguments for pytest by name of the part. Each class runs one pytest process a part."""


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a class that the top of the file may have as well, as their default."""

    launcher: _Text = "local"
    python: _Text | None = None
    time_limit: str | int | float = "1h"
    queue_limit: str | int | float = "1d"
    arguments: list[str] = []
    env: dict[str, str | int] = {}


class _ClassTable(_Settings, frozen=True, kw_only=True):
    cores: _Count | None = None
    threads: _Count | None = None
    memory: str | None = None
    cpu: _Text | None = None
    gpu: _Text | None = None
    gpus: _Count = 1
    parts: list[str] = []


_SETTINGS: Final = {
    "launcher": "the name of a launcher",
    "python": "the path of an interpreter",
    "time_limit": "a time, for example '30min'",
    "queue_limit": "a time, for example '12h'",
    "arguments": "a list of arguments for pytest",
    "env": "a table of environment variables",
}
_OF_A_CLASS: Final = {
    **_SETTINGS,
    "cores": "a number of cores, at least 1",
    "threads": "a number of threads, at least 1",
    "memory": "a size, for example '8GiB'",
    "cpu": "a part of the name of a CPU",
    "gpu": "the name of a GPU, for example 'L4'",
    "gpus": "a number of GPUs, at least 1",
    "parts": "a list of names of parts",
}
_OF_THE_FILE: Final = {
    **_SETTINGS,
    "classes": "a table of machine classes by name",
    "parts": "a table of lists of arguments for pytest by name",
}
"""What each key must be."""


def read_fleet(path: Path, launchers: Collection[str], override: str | None = None) -> Fleet:
    """Read a fleet file; `override` replaces the launcher of all classes.

    Raises `ConfigurationError` for a file that cannot be read, and for an unknown or invalid key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} must be TOML: {error}") from None
    where = path.name
    _check(where, document, _OF_THE_FILE, ())
    defaults = {key: value for key, value in document.items() if key in _SETTINGS}
    _converted(where, defaults, _Settings)
    parts = _parts(where, document.get("parts", {}))
    tables = document.get("classes", {})
    if not isinstance(tables, Mapping) or not tables:
        raise ConfigurationError(
            f"{where}: classes must be at least one table of a machine class. "
            "Hint: write for example [classes.one-core] and below it cores = 1"
        )
    if override is not None and override not in launchers:
        raise ConfigurationError(not_one_of("--launcher", override, launchers))
    classes = []
    for name, table in tables.items():
        place = f"{where}: [classes.{name}]"
        _check_name(place, "class", name)
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{place} must be a table, got {table!r}")
        merged = {**defaults, **table}
        merged["env"] = {**defaults.get("env", {}), **_mapping(place, "env", table.get("env", {}))}
        if override is not None:
            merged["launcher"] = override
        classes.append(_machine_class(place, name, merged, parts, launchers))
    return Fleet(classes=tuple(classes), parts=parts)


def _machine_class(
    where: str,
    name: str,
    table: dict[str, Any],
    parts: Collection[str],
    launchers: Collection[str],
) -> MachineClass:
    known = tuple(dict.fromkeys((*launchers, *RENDERERS)))
    _check(where, table, _OF_A_CLASS, known)
    terms = {key: dict(_mapping(where, key, table[key])) for key in known if key in table}
    values = _converted(
        where, {key: value for key, value in table.items() if key in _OF_A_CLASS}, _ClassTable
    )
    if values.launcher not in launchers:
        raise ConfigurationError(f"{where}: {not_one_of('launcher', values.launcher, launchers)}")
    if "gpus" in table and values.gpu is None:
        raise ConfigurationError(
            f"{where}: gpus needs gpu, the name of these GPUs. Hint: write for example gpu = 'L4'"
        )
    for part in values.parts:
        if part not in parts:
            raise ConfigurationError(f"{where}: {not_one_of('part', part, parts)}")
    return MachineClass(
        name=name,
        launcher=values.launcher,
        cores=values.cores,
        threads=values.threads,
        memory=None if values.memory is None else _parsed_bytes(where, values.memory),
        cpu=values.cpu,
        gpu=values.gpu,
        gpus=values.gpus,
        arguments=tuple(values.arguments),
        env={key: str(value) for key, value in values.env.items()},
        python=values.python or "",
        time_limit=_parsed_time(where, "time_limit", values.time_limit),
        queue_limit=_parsed_time(where, "queue_limit", values.queue_limit),
        parts=tuple(dict.fromkeys(values.parts)),
        terms=terms,
    )


def _parts(where: str, table: Any) -> dict[str, tuple[str, ...]]:
    for name, arguments in _mapping(where, "parts", table).items():
        _check_name(f"{where}: [parts]", "part", name)
        if not (isinstance(arguments, list) and all(isinstance(argument, str) for argument in arguments)):
            raise ConfigurationError(
                f"{where}: [parts]: {name} must be a list of arguments for pytest, got {arguments!r}"
            )
    return {name: tuple(arguments) for name, arguments in table.items()} or {WHOLE_SUITE: ()}


def _check_name(where: str, what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: the name of a {what} must be at most 24 lower-case letters, digits and inner hyphens, "
            f"got {name!r}"
        )


def _mapping(where: str, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where}: {key} must be a table, got {value!r}")
    return value


def _check(where: str, table: Mapping[str, Any], known: Mapping[str, str], tables: Collection[str]) -> None:
    """Refuse unknown keys: a misspelt limit or constraint would otherwise have no effect."""
    for key in table:
        if key not in known and key not in tables:
            raise ConfigurationError(f"{where}: {not_one_of('key', key, (*known, *tables))}")


def _converted(where: str, table: Mapping[str, Any], kind: type[Any]) -> Any:
    for key, value in table.items():
        try:
            msgspec.convert({key: value}, kind)
        except msgspec.ValidationError:  # noqa: PERF203 - names the key
            raise ConfigurationError(f"{where}: {key} must be {_OF_A_CLASS[key]}, got {value!r}") from None
    return msgspec.convert(table, kind)


def _parsed_time(where: str, key: str, value: str | float) -> float:
    try:
        return units.parse_duration(str(value))
    except ValueError as error:
        raise ConfigurationError(f"{where}: {key}: {error}") from None


def _parsed_bytes(where: str, text: str) -> int:
    match = _MEMORY.fullmatch(text)
    size = 0 if match is None else round(float(match[1]) * _BYTES[match[2]])
    if size <= 0:
        raise ConfigurationError(f"{where}: memory must be {_OF_A_CLASS['memory']}, got {text!r}")
    return size


def checked_terms(machine: MachineClass, user: str, allowed: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Return the terms of a class for one launcher or renderer, after checking them.

    `allowed` contains the type of each key and what it must be. Raises `ConfigurationError`.
    """
    terms = machine.terms.get(user, {})
    where = f"class {machine.name}: {user}"
    for key, value in terms.items():
        if not allowed:
            raise ConfigurationError(f"{where} takes no terms, got {key!r}")
        if key not in allowed:
            raise ConfigurationError(f"{where}: {not_one_of('key', key, allowed)}")
        kind, text = allowed[key]
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise ConfigurationError(f"{where}: {key} must be {text}, got {value!r}") from None
    return terms
