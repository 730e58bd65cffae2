"""A paired run decided again from its turns: the times alone, without counters and outputs."""

from __future__ import annotations

from pytest_infergate import __version__
from pytest_infergate.core.domain.model import Environment, Note
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Policy, Session
from pytest_infergate.core.gate import decide, paired
from pytest_infergate.storage.paired_data import PairedCaseData, PairedData


def decide_again(turns: PairedData) -> Session:
    """Decide every case of a file of turns as the run did."""
    policy = Policy()
    control = paired.control_moved(turns.control)
    verdicts = [_judged(case, turns, policy, control) for case in turns.cases]
    return Session(
        tool_version=__version__,
        created="",
        environment=Environment(),
        cases=(),
        gate=decide.gate_session(verdicts, policy, known=[case.case for case in turns.cases]),
        against=turns.against,
    )


def _judged(case: PairedCaseData, turns: PairedData, policy: Policy, control: Note | None) -> CaseVerdict:
    time = paired.compared(
        case.screen,
        case.confirm,
        case.plan,
        confirming=turns.confirming,
        others=case.others,
        control=control,
    )
    side = CaseResult(case=case.case, nodeid=case.nodeid, outcome=Outcome.MEASURED)
    accepted = decide.accepted_note(case.case, case.nodeid, turns.against.accepted)
    return decide.judge_paired(side, side, time, policy, Environment(), accepted=accepted)
