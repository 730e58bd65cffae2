"""Cases that this process measures and judges, and how they travel on test reports."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_infergate.config.case_terms import CaseTerms
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.plugin.collection import case_of, parameter_of
from pytest_infergate.plugin.fixture import Result, result_of
from pytest_infergate.plugin.printed_output import PrintedOutput
from pytest_infergate.report import junit, text
from pytest_infergate.runner.case_report import case_report
from pytest_infergate.runner.case_result import case_result
from pytest_infergate.runner.run import InferenceRun

CAUGHT = (
    "infer raised an exception that the test caught, so nothing was measured. "
    "Hint: test the exception in a test without infer, which calls the model itself"
)
ABSENT_BUT_STRICT = (
    "--infer-strict fails cases of an absent device: use --infer-devices=auto, which requests those that are "
    "available, or leave out this device or --infer-strict"
)


class MeasuredCases:
    """The cases of a run that measures: its strategy for items, and the hook that fills their reports."""

    def __init__(self, run: InferenceRun, config: pytest.Config) -> None:
        self._run = run
        self._printed = PrintedOutput(config)
        run.first_returned = self._printed.first_returned
        self._skipped: dict[str, CaseResult] = {}

    def why_not(self, case: Case, nodeid: str, terms: CaseTerms) -> str | None:
        """Return that the device or the runtime is absent or failed, or that the time for all is spent."""
        absence = self._run.devices.failure(case.device)
        without = self._run.case_absence(case)
        if absence is not None:
            hint = ABSENT_BUT_STRICT if self._run.settings.strict else ""
            reason: Note | None = Note(code=NoteCode.DEVICE_ABSENT, text=absence, hint=hint)
        elif without is not None:
            reason = Note(code=NoteCode.RUNTIME_ABSENT, text=without)
        else:  # a rerun repeats what was measured, which takes no time
            reason = None if nodeid in self._run.measured else self._run.out_of_time()
        if reason is None:
            return None
        self._skipped[nodeid] = case_result(case, nodeid, terms, Outcome.SKIPPED, reason)
        return str(reason)

    def measure(self, case: Case, nodeid: str, terms: CaseTerms, invocation: Invocation) -> Result:
        """Measure and judge one case; the second time, repeat the first result."""
        with self._printed.of_first_call():
            measured = self._run.measure(case, nodeid, terms, invocation)
        return result_of(measured)

    def failure(self, nodeid: str) -> str | None:
        """Return the failure of the verdict, or that nothing was measured."""
        measured = self._run.measured.get(nodeid)
        if measured is None:
            return CAUGHT
        return (
            text.failure_message(measured.judged.verdict, measured.judged.result)
            if measured.judged.verdict.failed
            else None
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the case on the report of the phase that settled it, which carries it to where the run ends."""
        report = yield
        settled = report.when == "call" or (report.when == "setup" and not report.passed)
        if not settled or parameter_of(item) is None:
            return report
        result = self._result(item, report)
        if result is None:
            report.infergate_skipped = True  # type: ignore[attr-defined]
            return report
        measured = self._run.measured.get(item.nodeid)
        kept = measured is not None and measured.judged.result is result
        judged = measured.judged if kept and measured is not None else self._run.judge(result)
        report.infergate = case_report(judged, report.location)  # type: ignore[attr-defined]
        # JUnit takes them from the report of the teardown, which takes them from the item.
        named = dict(item.user_properties) | dict(junit.properties(result, judged.verdict))
        item.user_properties[:] = named.items()
        return report

    def _result(self, item: pytest.Item, report: pytest.TestReport) -> CaseResult | None:
        """What the report says of the case; ``None`` where the user's own skip kept it from running."""
        if item.nodeid in self._skipped:
            return self._skipped[item.nodeid]
        measured = self._run.measured.get(item.nodeid)
        if measured is not None and (
            report.passed or measured.judged.verdict.failed or measured.out_of_memory
        ):
            return measured.judged.result
        parameter = parameter_of(item)
        if not report.failed or parameter is None:
            return None
        case = case_of(item, parameter.axes)
        reason = Note(code=NoteCode.TEST_FAILED, text="the test itself failed", hint="fix the test first")
        return case_result(case, item.nodeid, parameter.terms, Outcome.FAILED, reason)
