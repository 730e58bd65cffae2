"""The frozen settings of a run, parsed from options, ini file and `[tool.infergate]`.

Loaded only where an option is given or a test is an inference test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_infergate.config.options import OPTIONS, Option
from pytest_infergate.config.parse import (
    parse_tolerances,
)
from pytest_infergate.config.toml import (
    Pricing,
    by_pattern,
    nearest_kind,
    parse_budgets,
    parse_gate_estimates,
    parse_overlay,
    parse_pricing,
    parse_setup,
    read_table,
)
from pytest_infergate.errors import ConfigurationError


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
    paired_data: Path | None
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
    gate: str
    """Effect of a failing verdict on the run, unless the marker of its test sets another: ``fail``, ``warn``, ``off``."""
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


def parse_settings(
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
    table = read_table(rootdir / "pyproject.toml") if measuring else {}
    budgets = by_pattern("budgets", table, parse_budgets)
    allowed = by_pattern("tolerances", table, parse_tolerances)
    overlay, setup = parse_overlay(table.get("overlay", [])), parse_setup(table.get("setup"))
    pricing = parse_pricing(table, given.get("prices"), rootdir, kinds)
    gate_estimates = parse_gate_estimates(table.get("gate_estimates", False))
    report, json, paired_data = given.get("report"), given.get("json"), given.get("paired_data")
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
        paired_data=None if paired_data is None else invocation_dir / paired_data,
        list=given.get("list", False),
        command=on_command,
        ini=in_ini,
        budgets=budgets,
        tolerances=allowed,
        overlay=overlay,
        setup=setup,
        pricing=pricing,
        energy=given.get("energy", False),
        gate=given.get("gate", "fail"),
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
    if given.get("paired_data") and not paired:
        raise ConfigurationError(
            "--infer-paired-data writes the turns of a paired run: add --infer-against=REV"
        )


def _located(place: str, rootdir: Path) -> str:
    return place if "://" in place else str(rootdir / place)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        shown = {name: "off" if part is None else f"{part:g}" for name, part in value.items()}
        return ", ".join(f"{name}={part}" for name, part in shown.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if not isinstance(value, (str, int, float)):
        from pytest_infergate.core.advice.demand import demand_text

        return demand_text(value)
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
                f"known are {', '.join(known)}{nearest_kind(kind, known)}"
            )
