"""What a run is compared with unless it is paired: baselines and counters on record."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.plugin.collection import ends_before_tests
from pytest_infergate.plugin.finish import KnownCases, cases_on_record
from pytest_infergate.plugin.machine import MachineHooks
from pytest_infergate.runner.case_report import ReportedCases
from pytest_infergate.runner.run import InferenceRun


class StoredReference:
    """Compare the cases of a run with baselines; measure with several workers first, where asked for."""

    def __init__(
        self,
        run: InferenceRun,
        reported: ReportedCases,
        selected: Sequence[SelectedCase],
        machine: MachineHooks,
        config: pytest.Config,  # noqa: ARG002 - as every reference
    ) -> None:
        self._run = run
        self._reported = reported
        self._selected = selected
        self._machine = machine

    def forecast(self) -> str:
        """Return how many cases there are, and how long they usually take."""
        return self._run.forecast([case.terms.max_time for case in self._selected])

    def hooks(self) -> tuple[object, ...]:
        """Return the hook that measures several workers at once."""
        return (self,) if self._run.settings.workers and self._selected else ()

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
