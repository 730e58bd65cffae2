"""The modes that measure: what they check after collection, and which hooks they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Protocol

import pytest

from pytest_infergate.config.marker import Marker
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.values import Case
from pytest_infergate.instruments.device import DeviceKind
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.plugin import xdist
from pytest_infergate.plugin.case_durations import CaseDurations
from pytest_infergate.plugin.collection import (
    CollectedItems,
    Parameter,
    ends_before_tests,
    offered_runtimes,
    parameters,
)
from pytest_infergate.plugin.finish import FinishHooks, KnownCases, cases_on_record
from pytest_infergate.plugin.gpu_sharing import GpuSharing
from pytest_infergate.plugin.hanging import HangingCalls
from pytest_infergate.plugin.items import ItemHooks, SeededFixtures
from pytest_infergate.plugin.machine import MachineHooks
from pytest_infergate.plugin.measured_cases import MeasuredCases
from pytest_infergate.plugin.terminal import CaseListing, CaseProgress, Terminal
from pytest_infergate.runner.case_report import ReportedCases
from pytest_infergate.runner.run import InferenceRun

_ONLY_SHOW = ("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test")
"""Options of pytest with which a session runs no test: it measures, decides and writes nothing."""


class Reference(Protocol):
    """What the cases of a run are compared with."""

    def __init__(
        self,
        run: InferenceRun,
        reported: ReportedCases,
        selected: Sequence[SelectedCase],
        machine: MachineHooks,
        config: pytest.Config,
    ) -> None: ...

    @property
    def expected(self) -> Mapping[str, float]:
        """Seconds that each case is expected to take, by node id; empty if all are measured at once."""

    def forecast(self) -> str:
        """Return how many cases there are, and how long they take."""

    def hooks(self) -> Sequence[object]:
        """Return hooks that only this kind of run needs."""

    def known(self, scope: Sequence[str]) -> KnownCases:
        """Return what the end of the run needs; `scope` as in `FinishHooks`."""


class StoredReference:
    """Compare the cases of a run with baselines; measure several workers at once before, if requested."""

    def __init__(
        self,
        run: InferenceRun,
        reported: ReportedCases,
        selected: Sequence[SelectedCase],
        machine: MachineHooks,
        config: pytest.Config,
    ) -> None:
        self._run = run
        self._hanging = HangingCalls(config)
        run.watched = self._hanging.watched
        self._durations = CaseDurations(config, run.settings)
        known = self._durations.known()
        self.expected: Mapping[str, float] = {
            case.nodeid: known.get(case.nodeid, run.typical_seconds(case.terms)) for case in selected
        }
        self._busy = 0.0
        """Seconds that cases without a last time take longer on a busy machine."""
        if not run.settings.counters_only:
            # Where calls vary, sampling ends with the time limit, which typical calls leave early.
            new = [case.terms for case in selected if case.nodeid not in known]
            slowest = sum(terms.max_time + terms.seconds_served for terms in new)
            self._busy = slowest - sum(map(run.typical_seconds, new))
        self._reported = reported
        self._selected = selected
        self._machine = machine

    def forecast(self) -> str:
        """Return how many cases there are, and how long they took last time, or usually take."""
        seconds = list(self.expected.values())
        before = 0.0
        if self._run.settings.workers and seconds:
            from pytest_infergate.paired.concurrency import expected_seconds

            before = expected_seconds(len(seconds), len(self._run.settings.workers))
        loaded = sum(case.terms.seconds_served for case in self._selected)
        devices = [case.case.device for case in self._selected]
        forecast = self._run.forecast(seconds, devices, before, self._busy)
        if not loaded or self._run.settings.counters_only:
            return forecast
        return f"{forecast}, {units.duration(loaded)} of it under load"

    def hooks(self) -> tuple[object, ...]:
        """Return the hooks that end hanging calls, remember durations, and measure workers at once."""
        workers = (self,) if self._run.settings.workers and self._selected else ()
        return (self._hanging, self._durations, *workers)

    def known(self, scope: Sequence[str]) -> KnownCases:
        """Return the cases on record."""
        return cases_on_record(self._run, self._reported, scope)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Measure each case in several processes at once, before the first item."""
        if ends_before_tests(session):
            return
        from pytest_infergate.paired.concurrency import measure_concurrently

        def show(count: int, done: int) -> None:
            words = f"infergate: {count} workers at once, {done} of {len(self._selected)} cases"
            self._machine.terminal.status(words)

        with self._machine.alone():
            self._run.concurrent_runs = measure_concurrently(self._run, session.config, self._selected, show)


class Measuring:
    """A run that measures: against baselines on record, or as the parent of paired workers."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        kinds: Mapping[str, DeviceKind],
        reference: type[Reference],
    ) -> None:
        self._config = config
        self._settings = settings
        self._kinds = kinds
        self._reference = reference

    @cached_property
    def run(self) -> InferenceRun:
        """The run of this process. Made on first use: conftest files may still offer a store."""
        location = self._settings.baseline
        store = self._config.hook.pytest_infergate_store(config=self._config, location=location)
        if store is None:
            raise pytest.UsageError(
                f"--infer-baseline: no plugin offers a store for {location}. "
                "Hint: install the plugin of that store, or use a folder"
            )
        return InferenceRun(self._settings, list(self._kinds.values()), store, offered_runtimes(self._config))

    @cached_property
    def cases(self) -> MeasuredCases:
        """Cases are measured, judged and reported."""
        return MeasuredCases(self.run, self._config)

    def parameters(self, marker: Marker, test: str) -> Sequence[Parameter]:
        """Return each case that the command line asks for and the marker allows."""
        return parameters(marker, test, self._settings, self.run.devices.names)

    def start(self) -> Sequence[object]:
        """Let the controller of pytest-xdist, which collects nothing, check what its workers will need."""
        if not xdist.is_controller(self._config):
            return ()
        xdist.refuse_distributed(self._settings)
        sharing = GpuSharing(self._config, self.run.devices)
        self._check(0, self._machine(sharing))
        reported = ReportedCases()
        known = partial(cases_on_record, self.run, reported)
        # The last one to be registered is the first one to be called.
        durations = CaseDurations(self._config, self._settings)
        return durations, sharing, FinishHooks(self.run, reported, known), xdist.ControllerHooks(reported)

    def collected(self, collected: CollectedItems) -> Sequence[object]:
        """Check what can be checked before the first case is measured, and put the run together."""
        run, config = self.run, self._config
        sharing = GpuSharing(config, run.devices)
        machine, reported = self._machine(sharing), ReportedCases()
        only_shows = any(config.getoption(name, False) for name in _ONLY_SHOW)
        if collected.inference and not only_shows:
            collected.refuse_shared_ids()
            self._check(len(collected.inference), machine)

        def absence(case: Case) -> str | None:
            return run.devices.absence_reason(case.device) or run.case_absence(case)

        reference = self._reference(run, reported, collected.present(absence), machine, config)
        progress = CaseProgress(machine.terminal, collected.inference, reference.forecast, reference.expected)
        hooks = [ItemHooks(self.cases), progress]
        if only_shows:
            return hooks
        if self._settings.list:
            return [*hooks, CaseListing(machine.terminal, absence, collected.deselected)]
        end = (
            xdist.WorkerHooks(collected)
            if xdist.is_worker(config)
            else FinishHooks(run, reported, reference.known, collected)
        )
        if not collected.inference:  # tests run as without infergate: no seeds, no wait for the machine
            return [end]
        return [
            *hooks,
            SeededFixtures(collected.inference.values()),
            sharing,
            machine,
            self.cases,
            *reference.hooks(),
            end,
        ]

    def _machine(self, sharing: GpuSharing) -> MachineHooks:
        settings = self._settings
        return MachineHooks(
            Terminal(self._config),
            sharing,
            timing=not settings.counters_only,
            locking=settings.lock == "machine",
        )

    def _check(self, cases: int, machine: MachineHooks) -> None:
        self.run.check(cases)
        if self._settings.history is not None:
            from pytest_infergate.plugin.added_history import check_history

            check_history(self.run)
        machine.check()
