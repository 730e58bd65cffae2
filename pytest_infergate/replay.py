"""A paired run decided again from its turns: the times alone, without counters and outputs."""

from __future__ import annotations

from pytest_infergate import __version__
from pytest_infergate.core import gate, paired
from pytest_infergate.core.model import CaseResult, CaseVerdict, Environment, Note, Outcome, Policy, Session
from pytest_infergate.storage.turns import Turns, TurnsOfCase


def replayed(turns: Turns) -> Session:
    """Decide every case of a file of turns as the run did."""
    policy = Policy()
    control = paired.moved(turns.control)
    verdicts = [_judged(case, turns, policy, control) for case in turns.cases]
    return Session(
        tool_version=__version__,
        created="",
        environment=Environment(),
        cases=(),
        gate=gate.gate(verdicts, policy, known=[case.case for case in turns.cases]),
        against=turns.against,
    )


def _judged(case: TurnsOfCase, turns: Turns, policy: Policy, control: Note | None) -> CaseVerdict:
    time = paired.compared(
        case.screen,
        case.confirm,
        case.plan,
        confirming=turns.confirming,
        others=case.others,
        control=control,
    )
    side = CaseResult(case=case.case, nodeid=case.nodeid, outcome=Outcome.MEASURED)
    accepted = gate.accepted(case.case, case.nodeid, turns.against.accepted)
    return gate.judge_paired(side, side, time, policy, Environment(), accepted=accepted)
