"""A paired run decided again from its turns: the times alone, without counters and outputs."""

from __future__ import annotations

from pytest_infergate import __version__
from pytest_infergate.core import gate, paired
from pytest_infergate.core.model import CaseVerdict, Comparison, Environment, Policy, Session, Verdict
from pytest_infergate.storage.turns import Turns, TurnsOfCase


def replayed(turns: Turns) -> Session:
    """Decide every case of a file of turns as the run did."""
    disturbed = paired.moved(turns.control) is not None
    policy = Policy()
    verdicts = [_verdict(case, turns.confirming, policy, disturbed=disturbed) for case in turns.cases]
    return Session(
        tool_version=__version__,
        created="",
        environment=Environment(),
        cases=(),
        gate=gate.gate(verdicts, policy, known=[case.case for case in turns.cases]),
        against=turns.against,
    )


def _verdict(case: TurnsOfCase, confirming: int, policy: Policy, *, disturbed: bool) -> CaseVerdict:
    comparison = _compared(case, confirming)
    verdict = Verdict.INVALID if disturbed else comparison.verdict
    return CaseVerdict(
        case=case.case,
        nodeid=case.nodeid,
        verdict=verdict,
        failed=gate.fails(verdict, policy),
        comparisons=(comparison,),
    )


def _compared(case: TurnsOfCase, confirming: int) -> Comparison:
    decision = paired.decide(
        [launch.difference for launch in case.screen],
        [launch.difference for launch in case.confirm],
        case.plan,
        confirming=confirming,
    )
    return paired.comparison(case.screen, case.confirm, case.plan, decision)
