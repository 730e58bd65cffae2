"""A paired run decided again from its turns: the times alone, without counters and outputs."""

from __future__ import annotations

from pytest_infergate import __version__
from pytest_infergate.core import gate, paired
from pytest_infergate.core.model import CaseVerdict, Comparison, Environment, Note, Policy, Session
from pytest_infergate.storage.turns import Turns, TurnsOfCase


def replayed(turns: Turns) -> Session:
    """Decide every case of a file of turns as the run did."""
    policy = Policy()
    moved = paired.moved(turns.control)
    verdicts = [
        _verdict(
            case,
            _compared(case, turns.confirming, moved),
            policy,
            gate.accepted(case.case, case.nodeid, turns.against.accepted),
        )
        for case in turns.cases
    ]
    return Session(
        tool_version=__version__,
        created="",
        environment=Environment(),
        cases=(),
        gate=gate.gate(verdicts, policy, known=[case.case for case in turns.cases]),
        against=turns.against,
    )


def _verdict(case: TurnsOfCase, comparison: Comparison, policy: Policy, accepted: Note | None) -> CaseVerdict:
    failing = gate.fails(comparison.verdict, policy)
    return CaseVerdict(
        case=case.case,
        nodeid=case.nodeid,
        verdict=comparison.verdict,
        failed=failing and accepted is None,
        comparisons=(comparison,),
        notes=(accepted,) if failing and accepted is not None else (),
    )


def _compared(case: TurnsOfCase, confirming: int, moved: Note | None) -> Comparison:
    decision = paired.decide(
        [launch.difference for launch in case.screen],
        [launch.difference for launch in case.confirm],
        case.plan,
        confirming=confirming,
    )
    row = paired.comparison(case.screen, case.confirm, case.plan, decision)
    return row if moved is None else paired.invalidated(row, moved)
