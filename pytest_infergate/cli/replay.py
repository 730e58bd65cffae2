"""Decide a paired run again from its recorded times, without counters and outputs."""

from __future__ import annotations

import msgspec

from pytest_infergate import __version__
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Policy, Session
from pytest_infergate.core.domain.values import Environment, Note
from pytest_infergate.core.gate import decide, paired_times
from pytest_infergate.storage.paired_data import PairedCaseData, PairedData


def decide_again(data: PairedData) -> Session:
    """Decide every case of paired data in the same way as the run."""
    policy = Policy()
    control = paired_times.control_moved(data.control)
    verdicts = [_judged(case, data, policy, control) for case in data.cases]
    return Session(
        tool_version=__version__,
        created="",
        environment=Environment(),
        cases=(),
        gate=decide.gate_session(verdicts, policy, known=[case.case for case in data.cases]),
        against=data.against,
    )


def _judged(case: PairedCaseData, data: PairedData, policy: Policy, control: Note | None) -> CaseVerdict:
    time = paired_times.compared(
        case.screen,
        case.confirm,
        case.plan,
        confirming=data.confirming,
        others=case.others,
        control=control,
    )
    time = paired_times.checked_in_plain(time, case.confirm, case.plain, case.plan)
    # Counters and outputs are not recorded, so both sides have the same empty result, but for the runtime.
    result = CaseResult(case=case.case, nodeid=case.nodeid, outcome=Outcome.MEASURED)
    accepted = decide.accepted_note(case.case, case.nodeid, data.against.accepted)
    of_base = msgspec.structs.replace(case.case, runtime=data.against.runtime or case.case.runtime)
    base = msgspec.structs.replace(result, case=of_base)
    return decide.judge_paired(result, base, time, policy, Environment(), accepted=accepted)
