"""What a session does with inference tests: one mode, chosen when pytest is configured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_infergate.config.options import OPTIONS
from pytest_infergate.plugin.collection import (
    CollectedItems,
    Parameter,
    asked_ids,
    device_kinds,
    offered_runtimes,
    parameters,
)

if TYPE_CHECKING:
    from pytest_infergate.config.case_terms import CaseTerms
    from pytest_infergate.config.marker import Marker
    from pytest_infergate.config.settings import Settings
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.plugin.fixture import Result
    from pytest_infergate.plugin.items import Cases


class Mode(Protocol):
    """What differs between plain pytest, a measuring run, and the parent and the workers of a paired run."""

    @property
    def cases(self) -> Cases:
        """What becomes of a case."""

    def parameters(self, marker: Marker, test: str) -> Sequence[Parameter]:
        """Return what a test is parametrised with, from its marker and node id."""

    def start(self) -> Sequence[object]:
        """Return plugins to register when the session starts."""

    def collected(self, collected: CollectedItems) -> Sequence[object]:
        """Return plugins to register when collection has ended: most sessions have no inference tests."""


CHOOSE_MODE = pytest.StashKey[Callable[[pytest.Config], Mode]]()
"""Chooses the mode in place of `chosen_mode`; set before pytest is configured."""


class Inactive:
    """Plain pytest: an inference test runs its model once on the CPU, and nothing is measured."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @cached_property
    def _settings(self) -> Settings:
        """Parsed where there are inference tests at all."""
        return read_settings(self._config)

    @cached_property
    def _asked(self) -> Mapping[str, Sequence[str]]:
        return asked_ids(self._config)

    @property
    def cases(self) -> Inactive:
        """Cases run, and no more."""
        return self

    def parameters(self, marker: Marker, test: str) -> Sequence[Parameter]:
        """Return one case, the CPU and the first value on every other axis, and those that are asked for."""
        return parameters(marker, test, self._settings, ("cpu",), self._asked.get(test, ()))

    def start(self) -> Sequence[object]:
        """Return nothing: there is no run to conclude."""
        return ()

    def collected(self, collected: CollectedItems) -> Sequence[object]:
        """Return the hooks around items, where there are inference tests at all."""
        if not collected.inference:
            return ()
        from pytest_infergate.plugin.items import ItemHooks, SeededFixtures

        return ItemHooks(self), SeededFixtures(collected.inference.values(), judging=False)

    def why_not(self, case: Case, nodeid: str, terms: CaseTerms) -> str | None:  # noqa: ARG002
        """Return why a server cannot be used; there is always a CPU."""
        return offered_runtimes(self._config)[case.runtime.partition(":")[0]].absence_reason()

    def measure(self, case: Case, nodeid: str, terms: CaseTerms, invocation: Invocation) -> Result:  # noqa: ARG002
        """Run the model once, on the CPU, in the dtype and with the threads of the case."""
        from pytest_infergate.plugin.fixture import Result
        from pytest_infergate.runtimes.eager import run_once

        runtime = offered_runtimes(self._config)[case.runtime.partition(":")[0]]
        return Result(run_once(case, invocation, runtime))

    def failure(self, nodeid: str) -> None:
        """Return ``None``: nothing is judged."""


def chosen_mode(config: pytest.Config) -> Mode:
    """Choose by the options. Raises `ConfigurationError` for invalid ones."""
    # An empty option, as of an unset CI variable, counts as given: it is an error, not a run without a gate.
    if not any(
        config.getoption(option.ini) is not None or ini_value(config, option.ini) for option in OPTIONS
    ):
        return Inactive(config)  # most sessions: settings, and what parses them, are never imported
    settings = read_settings(config)
    if not settings.measuring:
        return Inactive(config)
    from pytest_infergate.plugin.measuring import Measuring, Reference, StoredReference

    reference: type[Reference] = StoredReference
    if settings.paired:
        from pytest_infergate.plugin.paired_replay import PairedReference

        reference = PairedReference
    return Measuring(config, settings, device_kinds(config), reference)


def ini_value(config: pytest.Config, name: str) -> Any:
    """Return an ini value: a text, or the value of a TOML file; empty if it is not set."""
    # Numbers, booleans and lists are all accepted, for which pytest has no type: it refuses them as texts, by
    # one exception or another, or by a warning that it will do so.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pytest.PytestDeprecationWarning)
            return config.getini(name)
    except (TypeError, pytest.UsageError, pytest.PytestDeprecationWarning):
        from pytest_infergate.config.toml import native_setting

        assert config.inipath is not None
        return native_setting(config.inipath, name)


def read_settings(config: pytest.Config) -> Settings:
    """Parse options, ini file and `[tool.infergate]`. Raises `ConfigurationError`."""
    from pytest_infergate.config.settings import parse_settings

    return parse_settings(
        {option.name: config.getoption(option.ini) for option in OPTIONS},
        {option.name: ini_value(config, option.ini) for option in OPTIONS},
        rootdir=config.rootpath,
        invocation_dir=config.invocation_params.dir,
        kinds=device_kinds(config),
        offered=offered_runtimes(config),
    )
