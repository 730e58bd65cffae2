"""From the trial of a case to its result and verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import (
    CaseResult,
    CaseVerdict,
    Comparison,
    Outcome,
    Verdict,
)
from pytest_infergate.core.gate import decide, paired
from pytest_infergate.paired.trial import Trial

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun
from pytest_infergate.paired.selected_case import SelectedCase


class Judge(NamedTuple):
    """What all cases of a run are judged by."""

    run: InferenceRun
    confirming: int
    control: Note | None
    """Why no time of this run counts, if none does."""

    def judged(
        self, entry: SelectedCase, trial: Trial, trusted: Note | None
    ) -> tuple[CaseResult, CaseVerdict]:
        """Judge one case from what its trial brought."""
        outcome, reason = _ending(trial)
        sides = {
            name: None if data is None else msgspec.convert(data, Measurement)
            for name, data in trial.figures.items()
        }
        measured = msgspec.structs.replace(
            self.run.result(entry.case, entry.nodeid, entry.marker, outcome),
            hardware=self.run.device(entry.case.device).hardware(),
            measurement=sides.get("candidate"),
            reason=reason,
            budgets=(),
        )
        base = msgspec.structs.replace(
            measured, outcome=Outcome.MEASURED, measurement=sides.get("base"), reason=None
        )
        mismatch = None
        if trial.mismatch is not None:
            hint = "if that is meant, say so with @pytest.mark.inference(parity=False), or a tolerance there"
            mismatch = Note(code=NoteCode.OUTPUTS_DIFFER, text=trial.mismatch, hint=hint)
        verdict = decide.judge_paired(
            measured,
            base,
            self._comparison(trial) if outcome is Outcome.MEASURED else None,
            self.run.policy,
            self.run.environment,
            mismatch=mismatch,
            accepted=trusted,
        )
        return measured, verdict

    def _comparison(self, trial: Trial) -> Comparison:
        plan = trial.wanted.plan
        if trial.no_base is not None:
            data = trial.figures.get("candidate")
            return Comparison(
                metric="p50",
                verdict=Verdict.NO_BASELINE,
                evidence="paired",
                candidate=None if data is None else data["latency"]["p50"]["value"],
                tolerance=plan.tolerance,
                note=trial.no_base,
            )
        return paired.compared(
            trial.screen,
            trial.confirm,
            plan,
            confirming=self.confirming,
            others=trial.others,
            stopped=trial.stopped,
            control=self.control,
        )


def _ending(trial: Trial) -> tuple[Outcome, Note | None]:
    """What became of a case before anything was judged."""
    if trial.lost is not None:
        return Outcome.FAILED, trial.lost
    if trial.exhausted is not None:
        return Outcome.INFEASIBLE, trial.exhausted
    if trial.failed:
        skipped = any(report["outcome"] == "skipped" for report in trial.reports)
        if skipped:
            return Outcome.SKIPPED, Note(code=NoteCode.SKIPPED, text="the test was skipped")
        return Outcome.FAILED, Note(
            code=NoteCode.TEST_FAILED, text="the test itself failed", hint="mend the test first"
        )
    if trial.invalid is not None:
        return Outcome.INVALID, trial.invalid
    return Outcome.MEASURED, None
