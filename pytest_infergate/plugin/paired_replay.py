"""Reports of the candidate's workers, replayed in the run with their verdicts."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from pytest_infergate.core.domain.outcome import (
    Outcome,
)
from pytest_infergate.paired.compare_run import PairedOutcomes


def replayed_reports(outcomes: PairedOutcomes, nodeid: str, config: pytest.Config) -> list[pytest.TestReport]:
    """The reports of the candidate's worker, with the verdict in place of a pass that it forbids."""
    from pytest_infergate.report import junit, text
    from pytest_infergate.runner.case_report import case_report

    result, verdict = outcomes.results[nodeid], outcomes.verdicts[nodeid]
    reports = [_unpacked(data, config) for data in outcomes.reports[nodeid]]
    if not reports:  # its process died before it said anything
        reports = [_blank(nodeid, when) for when in ("setup", "call", "teardown")]
    settled = min(reports, key=lambda report: (report.passed, report.when != "call"))
    if verdict.failed and settled.passed:
        settled.outcome = "failed"
        settled.longrepr = text.failure_message(verdict, result)
    if result.outcome is Outcome.SKIPPED:
        settled.infergate_skipped = True  # type: ignore[attr-defined]
    else:
        settled.infergate = case_report(result, verdict, settled.location)  # type: ignore[attr-defined]
    properties = junit.properties(result, verdict)
    for report in reports:
        report.user_properties = [*report.user_properties, *properties]
    return reports


def _unpacked(data: dict[str, Any], config: pytest.Config) -> pytest.TestReport:
    """A report as pytest had it; JSON knows no tuple, which a skip's reason is."""
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):
        path, line, words = report.longrepr
        report.longrepr = (path, line, words)
    return report


def _blank(nodeid: str, when: Literal["setup", "call", "teardown"]) -> pytest.TestReport:
    """A report of a phase that nobody saw."""
    return pytest.TestReport(
        nodeid=nodeid,
        location=(nodeid.partition("::")[0], None, nodeid.rpartition("::")[2]),
        keywords={},
        outcome="passed",
        longrepr=None,
        when=when,
    )
