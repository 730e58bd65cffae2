"""From the trial of a case to its result and verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Judged, Outcome, Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import counter_changes, decide, paired_times
from pytest_infergate.load.under_load import not_measured
from pytest_infergate.paired.case_events import AT_ONCE
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.trial import Trial
from pytest_infergate.runner.case_result import case_result
from pytest_infergate.runtimes.accuracy import function_name

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun


class Judge(NamedTuple):
    """Judges the cases of a run."""

    run: InferenceRun
    confirming: int
    """Cases that went into confirmation, which share its level."""
    control: Note | None
    """Why no time of this run can be compared, if the control shows that."""

    def judge(self, case: SelectedCase, trial: Trial, accepted: Note | None) -> Judged:
        """Judge one case; `accepted` is the note of a commit that accepts its changes."""
        outcome, reason = _outcome(trial)
        measured = msgspec.structs.replace(
            case_result(case.case, case.nodeid, case.terms, outcome),
            hardware=self.run.devices.open(case.case.device).hardware(),
            measurement=trial.measurements.get("candidate"),
            reason=reason,
        )
        if not self.run.settings.counters_only:
            # Threads wait differently in paired workers: their times meet no budget.
            measured = msgspec.structs.replace(measured, budgets=())
        runtime = self.run.settings.against_runtime or case.case.runtime
        of_base = msgspec.structs.replace(case.case, runtime=runtime)
        base = msgspec.structs.replace(
            measured, case=of_base, outcome=Outcome.MEASURED, measurement=trial.measurements.get("base")
        )
        mismatch = None
        if trial.output_difference is not None:
            mismatch = Note(
                code=NoteCode.OUTPUTS_DIFFER,
                text=trial.output_difference,
                hint="if that is intended, set @pytest.mark.inference(parity=False), or a tolerance there",
            )
        verdict = decide.judge_paired(
            measured,
            base,
            self._comparison(trial) if outcome is Outcome.MEASURED else None,
            self.run.policy,
            self.run.environment,
            mismatch=mismatch,
            accepted=accepted,
        )
        if trial.uncompared_outputs and outcome is Outcome.MEASURED:
            note = Note(
                code=NoteCode.OUTPUTS_NOT_COMPARED,
                text=f"outputs not compared: {', '.join(trial.uncompared_outputs)}",
                hint="compare these parts in the test, or leave them out of the output",
            )
            verdict = msgspec.structs.replace(verdict, notes=(*verdict.notes, note))
        if case.terms.accuracy is not None and outcome is Outcome.MEASURED:
            note = Note(
                code=NoteCode.OUTPUTS_NOT_COMPARED,
                text=f"accuracy={function_name(case.terms.accuracy)} was not called: a paired run compares "
                "outputs",
                hint="run without --infer-against to compare accuracies",
            )
            verdict = msgspec.structs.replace(verdict, notes=(*verdict.notes, note))
        if case.terms.load is not None and case.terms.served:
            note = not_measured("a paired run compares calls one by one", "leave out --infer-against")
            verdict = msgspec.structs.replace(verdict, notes=(*verdict.notes, note))
        return Judged(result=measured, verdict=verdict)

    def _comparison(self, trial: Trial) -> Comparison | None:
        """Return the comparison of the times; without times, only that there is no base."""
        if self.run.settings.counters_only:
            return None if trial.no_base is None else counter_changes.not_recorded(trial.no_base)
        if trial.no_base is not None:
            measurement = trial.measurements.get("candidate")
            latency = None if measurement is None else measurement.latency
            return Comparison(
                metric="p50",
                verdict=Verdict.NO_BASELINE,
                evidence="paired",
                candidate=None if latency is None else latency.p50.value,
                tolerance=trial.spec.terms.tolerance,
                note=trial.no_base,
            )
        row = paired_times.compared(
            trial.screen,
            trial.confirm,
            trial.spec.terms,
            confirming=self.confirming,
            others=trial.other_spreads,
            stopped=trial.stopped,
            control=self.control,
        )
        return paired_times.checked_in_plain(row, trial.confirm, trial.plain, trial.spec.terms)


def _outcome(trial: Trial) -> tuple[Outcome, Note | None]:
    """What became of a case before anything is judged, and why it was not measured."""
    if trial.lost is not None:
        return Outcome.FAILED, trial.lost
    if trial.infeasible is not None:
        return Outcome.INFEASIBLE, trial.infeasible
    if any(report.outcome == "skipped" for report in trial.reports):
        return Outcome.SKIPPED, Note(code=NoteCode.SKIPPED, text="the test was skipped")
    if trial.failed:
        in_setup = any(report.when == "setup" for report in trial.reports if report.outcome != "passed")
        hint = f"fix the test first{f'; {AT_ONCE}' if in_setup else ''}"
        return Outcome.FAILED, Note(code=NoteCode.TEST_FAILED, text="the test itself failed", hint=hint)
    if trial.invalid is not None:
        return Outcome.INVALID, trial.invalid
    # An interrupt ended the run before the first launch of this case.
    interrupted = trial.stopped is not None and trial.stopped.code == NoteCode.INTERRUPTED
    unreached = interrupted and not trial.launches
    return (Outcome.SKIPPED, trial.stopped) if unreached else (Outcome.MEASURED, None)
