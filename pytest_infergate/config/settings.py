"""The frozen settings of a run, parsed from options, ini file and `[tool.infergate]`.

Loaded only if an option is given or a test is an inference test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_infergate.config.options import GATES, OPTIONS, Option, flag_of
from pytest_infergate.config.parse import (
    OfferedRuntime,
    as_text,
    check_kinds,
    check_runtimes,
    parse_budgets,
    parse_choice,
    parse_counts,
    parse_demand_text,
    parse_devices,
    parse_dtypes,
    parse_flag,
    parse_folder,
    parse_load_text,
    parse_min_decided,
    parse_runtimes,
    parse_seconds,
    parse_tolerances,
)
from pytest_infergate.config.toml import Pricing, Table, by_pattern, parse_overlay, parse_pricing, read_table
from pytest_infergate.core.domain.addresses import without_secrets
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.errors import ConfigurationError

PARSERS: Mapping[str, Callable[[str], Any]] = {
    **{option.name: parse_flag if option.metavar is None else str for option in OPTIONS},
    "devices": parse_devices,
    "runtimes": parse_runtimes,
    "dtypes": parse_dtypes,
    "threads": parse_counts,
    "workers": parse_counts,
    "require": parse_devices,
    "counters": parse_folder,
    "gate": parse_choice(*GATES),
    "tolerance": parse_tolerances,
    "max_time": parse_seconds,
    "max_total": parse_seconds,
    "min_decided": parse_min_decided,
    "xdist": parse_choice("lock", "refuse"),
    "lock": parse_choice("machine", "off"),
    "demand": parse_demand_text,
    "load": parse_load_text,
}
"""The parser of each option; not in `OPTIONS`, because most pytest sessions parse none."""

_AS_PARSED = (
    "devices", "runtimes", "dtypes", "threads", "workers", "require", "counters_only", "save", "strict",
    "max_total", "min_decided", "xdist", "lock", "list", "energy", "gate", "save_contended",
)  # fmt: skip
"""Options whose parsed values are settings as they are."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parsed values of the command line, the ini file and `[tool.infergate]`."""

    measuring: bool
    devices: tuple[str, ...]
    runtimes: tuple[str, ...] | None
    """Each with its mode, if it has one: ``compile:max-autotune``."""
    dtypes: tuple[str, ...] | None
    threads: tuple[int, ...] | None
    workers: tuple[int, ...]
    """Numbers of concurrent processes to measure."""
    require: tuple[str, ...]
    baseline: str
    """Absolute folder, or an address with ``scheme://``."""
    counters: Path
    """Folder of the exact counters."""
    history: str | None
    """Folder or address of the history; ``None`` to add nothing."""
    rootdir: Path
    counters_only: bool
    """Whether counters are taken and no times."""
    save: bool
    save_contended: bool
    """Whether times that other processes disturbed are recorded too."""
    strict: bool
    max_total: float | None
    min_decided: float | None
    xdist: str
    lock: str
    """``machine``, or ``off`` to measure beside other runs."""
    report: Path | None
    json: Path | None
    markdown: Path | None
    against: str | None
    """Revision to compare with."""
    against_python: str | None
    against_runtime: str | None
    """Runtime to compare the others with."""
    paired_data: Path | None
    list: bool
    command: Mapping[str, Any]
    """Options given on the command line, which take precedence over markers."""
    ini: Mapping[str, Any]
    """Options given in the ini file, over which markers take precedence."""
    budgets: Mapping[str, Mapping[str, float]]
    """Budgets of `[tool.infergate.budgets]` by pattern over test ids."""
    tolerances: Mapping[str, Mapping[str, float | None]]
    """Tolerances of `[tool.infergate.tolerances]` by pattern over test ids."""
    overlay: tuple[str, ...]
    """Files and folders that a paired run copies into the base, relative to the repository."""
    setup: str | None
    """Command that prepares the base."""
    pricing: Pricing
    energy: bool
    """Whether energy is measured even if no budget needs it."""
    gate: str
    """Effect of a failing verdict unless the marker sets another: ``fail``, ``warn`` or ``off``."""
    gate_estimates: bool
    """Whether an estimate of the energy decides a budget."""
    offered: Mapping[str, OfferedRuntime]
    """The registered runtimes, by name."""

    @property
    def paired(self) -> bool:
        """Whether the run is compared with other code, interpreter or runtime block by block."""
        bases = self.against, self.against_python, self.against_runtime
        return any(base is not None for base in bases)

    @property
    def given(self) -> dict[str, str]:
        """Readable values of the given options, by option."""
        values = {**self.ini, **self.command}
        return {
            option.flag: without_secrets(_shown(values[option.name]))
            for option in OPTIONS
            if option.name in values
        }


def parse_settings(
    command: Mapping[str, str | bool | None],
    ini: Mapping[str, Any],
    *,
    rootdir: Path,
    invocation_dir: Path,
    kinds: Collection[str],
    offered: Mapping[str, OfferedRuntime] = MappingProxyType({}),
) -> Settings:
    """Parse the options of a run.

    `command` has a text for each given option, ``True`` for a flag, ``None`` for an option that is not given;
    `ini` has texts, or values of TOML, which are empty if not given. `kinds` are the registered kinds of
    devices, `offered` the runtimes. Raises `ConfigurationError` with the option and a hint.
    """
    on_command = _parsed(command, lambda option: option.flag)
    set_to = {name: value for name, value in ini.items() if value not in ("", [])}
    in_ini = _parsed(set_to, lambda option: f"ini value {option.ini}")
    # The command line takes precedence.
    given = {**in_ini, **on_command}
    values = {option.name: given.get(option.name, option.default) for option in OPTIONS}
    check_kinds(values["devices"], {*kinds, "auto"}, "--infer-devices: device")
    check_kinds(values["require"], kinds, "--infer-require: device")
    check_runtimes(values["runtimes"] or (), offered, "--infer-runtimes:")
    if values["against_runtime"]:
        check_runtimes((values["against_runtime"],), offered, "--infer-against-runtime:")
    asked = any(option.asks and given.get(option.name) for option in OPTIONS)
    # Every option on the command line asks for a measurement. An ini file does so with some options only,
    # because it applies to every run of the project.
    measuring = (asked or bool(on_command.keys() - {"disable"})) and not values["disable"]
    # A run that does not measure must not fail because of the table.
    table = Table()
    if measuring:
        table = read_table(rootdir / "pyproject.toml")
        _check_combination(given, on_command)
    return Settings(
        measuring=measuring,
        rootdir=rootdir,
        command=on_command,
        ini=in_ini,
        budgets=by_pattern("budgets", table.budgets, parse_budgets),
        tolerances=by_pattern("tolerances", table.tolerances, parse_tolerances),
        overlay=parse_overlay(table.overlay),
        setup=table.setup,
        pricing=parse_pricing(table, values["prices"], rootdir, kinds),
        gate_estimates=table.gate_estimates,
        offered=offered,
        **_located(values, rootdir, invocation_dir),
        **{name: values[name] for name in _AS_PARSED},
    )


def _located(values: Mapping[str, Any], rootdir: Path, invocation_dir: Path) -> dict[str, Any]:
    """Return the settings that name places: absolute paths, addresses and revisions."""
    baseline = values["baseline"]
    # Recorded files belong to the project, and output files to the folder in which pytest was called, like
    # those of other plugins.
    outputs = ("report", "json", "markdown", "paired_data")
    return {
        "baseline": baseline if "://" in baseline else str(rootdir / baseline),
        "counters": rootdir / values["counters"],
        "history": values["history"] or None,
        # An ini file may set these to nothing.
        "against": values["against"] or None,
        "against_python": values["against_python"] or None,
        "against_runtime": values["against_runtime"] or None,
        # A dash is the standard output.
        **{
            name: None if path is None else Path(path) if path == "-" else invocation_dir / path
            for name, path in ((name, values[name]) for name in outputs)
        },
    }


_EXAMPLES = {
    "against": "main",
    "against_python": "old/bin/python",
    "against_runtime": "eager",
    "baseline": ".infergate/baselines",
    "counters": ".infergate/counters",
    "history": "s3://bucket/history",
    "prices": "prices.csv",
}
"""An example of each option whose text could be empty without being wrong for any other reason."""


def _check_combination(given: Mapping[str, Any], on_command: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for empty options, and for options that exclude or need others."""
    # An unset variable in a CI script gives an empty text, and would disable the gate without a word.
    for name, example in _EXAMPLES.items():
        if name in on_command and not on_command[name]:
            option = flag_of(name)
            raise ConfigurationError(
                f"{option} must not be empty, which an unset variable may cause. Hint: write for example "
                f"{option}={example}, or leave it out"
            )
    for name in ("workers", "energy", "paired_data"):
        if given.get("counters_only") and given.get(name):
            option = flag_of(name)
            raise ConfigurationError(
                f"{option} cannot be combined with --infer-counters-only, which takes no times. "
                f"Hint: leave one of them out (-o infer_{name}= if the ini file sets it)"
            )
    _check_paired(given)
    if on_command.get("save_contended") and not given.get("save"):
        raise ConfigurationError("--infer-save-contended requires --infer-save. Hint: add --infer-save")


def _check_paired(given: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for options that exclude or need a paired run."""
    base = given.get("against_runtime")
    paired = [name for name in ("against", "against_python", "against_runtime") if given.get(name)]
    if paired and given.get("save"):
        option = flag_of(paired[0])
        raise ConfigurationError(
            "--infer-save cannot be combined with a paired run, whose times are valid for its workers only. "
            f"Hint: leave out --infer-save, or {option} (-o infer_{paired[0]}= if the ini file sets it)"
        )
    for name in ("against", "against_python", "counters_only"):
        if base and given.get(name):
            option = flag_of(name)
            raise ConfigurationError(
                f"--infer-against-runtime cannot be combined with {option}, because it compares the times of "
                f"runtimes for the same code. Hint: leave one of them out (-o infer_{name}= if the ini file "
                "sets it)"
            )
    if base and given.get("runtimes") == (base,):
        raise ConfigurationError(
            f"--infer-runtimes must name another runtime than --infer-against-runtime, got {base} for both. "
            "Hint: write for example --infer-runtimes=compile,onnxruntime --infer-against-runtime=eager"
        )
    if paired and given.get("workers"):
        raise ConfigurationError(
            "--infer-workers cannot be combined with a paired run, which measures no concurrent workers. "
            "Hint: leave one of them out"
        )
    if given.get("paired_data") and not paired:
        raise ConfigurationError("--infer-paired-data requires a paired run. Hint: add --infer-against=REV")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        # As on the command line.
        shown = {name: "off" if part is None else f"{part:g}" for name, part in value.items()}
        return ", ".join(f"{name}={part}" for name, part in shown.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Load):
        return value.text
    if not isinstance(value, (str, int, float)):
        from pytest_infergate.core.advice.demand import demand_text

        return demand_text(value)
    return "yes" if value is True else str(value)


def _parsed(given: Mapping[str, Any], where: Callable[[Option], str]) -> dict[str, Any]:
    """Parse the options that are given; `where` names the source of an option in errors."""
    values = {}
    for option in OPTIONS:
        value = given.get(option.name)
        try:
            if value is not None:
                values[option.name] = PARSERS[option.name](as_text(value))
        except ValueError as error:
            raise ConfigurationError(f"{where(option)}: {error}") from None
    return values
