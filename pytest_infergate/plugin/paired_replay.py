"""A paired run in pytest: launches before the first test, then the candidate's reports, replayed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from pytest_infergate.core.domain.outcome import Outcome
from pytest_infergate.paired import compare_run
from pytest_infergate.paired.base_setup import BaseSetup
from pytest_infergate.paired.compare_run import PairedOutcomes
from pytest_infergate.paired.expected_time import ExpectedTime
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.plugin.collection import ends_before_tests
from pytest_infergate.plugin.finish import KnownCases, cases_on_record
from pytest_infergate.plugin.machine import MachineHooks
from pytest_infergate.report import junit, text
from pytest_infergate.runner.case_report import ReportedCases, case_report
from pytest_infergate.runner.run import InferenceRun


class PairedReference:
    """Compare the cases of a run with other code, interpreter or runtime, on this machine."""

    def __init__(
        self,
        run: InferenceRun,
        reported: ReportedCases,
        selected: Sequence[SelectedCase],
        machine: MachineHooks,
        config: pytest.Config,
    ) -> None:
        self._run = run
        self._reported = reported
        self._selected = selected
        self._machine = machine
        self._base_setup = BaseSetup(run, config)
        self._expected_time = ExpectedTime(
            getattr(config, "cache", None), counters_only=run.settings.counters_only
        )
        self._outcomes: PairedOutcomes | None = None

    @property
    def expected(self) -> Mapping[str, float]:
        """Return nothing: all cases are measured at once, before their reports are replayed."""
        return {}

    def forecast(self) -> str:
        """Return how many cases there are, and how long their launches take."""
        nodeids = [case.nodeid for case in self._selected]
        return compare_run.forecast(nodeids, self._base_setup, self._expected_time)

    def hooks(self) -> tuple[object, ...]:
        """Return the hooks that launch and replay."""
        return (self,)

    def known(self, scope: Sequence[str]) -> KnownCases:
        """Return the cases of the base; those on record where nothing was launched."""
        outcomes = self._outcomes
        if outcomes is None:
            return cases_on_record(self._run, self._reported, scope)
        return KnownCases(
            known=outcomes.on_base,
            against=outcomes.against,
            written=outcomes.written,
            problems=outcomes.problems,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Make all launches before the first item."""
        if not self._selected or ends_before_tests(session):
            return
        with self._machine.alone():
            self._outcomes = compare_run.run_paired(
                self._run,
                session.config,
                self._base_setup,
                self._selected,
                self._machine.terminal.launches,
                expected=self._expected_time,
            )
        if self._outcomes.interrupted:
            locations = {item.nodeid: item.location for item in session.items}
            for nodeid, judged in self._outcomes.judged.items():
                self._reported.add(case_report(judged, locations[nodeid]))
            raise KeyboardInterrupt

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> object:
        """Replay an item that workers have run, before any plugin runs it, or runs it again."""
        if self._outcomes is None or item.nodeid not in self._outcomes.judged:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in replayed_reports(self._outcomes, item.nodeid, item.config):
            item.ihook.pytest_runtest_logreport(report=report)
        # An ordinary test before this item left the fixtures of its module to it.
        runner: Any = item.config.pluginmanager.get_plugin("runner")
        ended = pytest.CallInfo.from_call(
            lambda: runner.pytest_runtest_teardown(item, nextitem),
            "teardown",
            reraise=(KeyboardInterrupt, pytest.exit.Exception),
        )
        if ended.excinfo is not None:
            # Not by its hook: some plugins expect there what they do in the protocol that this one replaces.
            ending = pytest.TestReport.from_item_and_call(item, ended)
            item.ihook.pytest_runtest_logreport(report=ending)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


def replayed_reports(outcomes: PairedOutcomes, nodeid: str, config: pytest.Config) -> list[pytest.TestReport]:
    """The reports of the candidate's worker, with the verdict in place of a pass that it forbids."""
    judged = outcomes.judged[nodeid]
    result, verdict = judged.result, judged.verdict
    reports = [_unpacked(serialised, config) for serialised in outcomes.reports[nodeid]]
    if not reports:  # the process ended before its first report
        reports = [_blank(nodeid, when) for when in ("setup", "call", "teardown")]
    settled = min(reports, key=lambda report: (report.passed, report.when != "call"))
    if verdict.failed and settled.passed:
        settled.outcome = "failed"
        settled.longrepr = text.failure_message(verdict, result)
    if result.outcome is Outcome.SKIPPED:
        settled.infergate_skipped = True  # type: ignore[attr-defined]
    else:
        settled.infergate = case_report(judged, settled.location)  # type: ignore[attr-defined]
    properties = junit.properties(result, verdict)
    for report in reports:
        report.user_properties = [*report.user_properties, *properties]
    return reports


def _unpacked(serialised: str, config: pytest.Config) -> pytest.TestReport:
    """A report as pytest had it; JSON has no tuple, which the reason of a skip is."""
    data: dict[str, Any] = json.loads(serialised)
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):
        path, line, words = report.longrepr
        report.longrepr = (path, line, words)
    return report


def _blank(nodeid: str, when: Literal["setup", "call", "teardown"]) -> pytest.TestReport:
    """A report of a phase that no process reported."""
    return pytest.TestReport(
        nodeid=nodeid,
        location=(nodeid.partition("::")[0], None, nodeid.rpartition("::")[2]),
        keywords={},
        outcome="passed",
        longrepr=None,
        when=when,
    )
