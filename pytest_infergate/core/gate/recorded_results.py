"""Results of one run decided against those of earlier runs, as a run against a recorded baseline is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pytest_infergate.core.domain.outcome import Policy, Session
from pytest_infergate.core.domain.records import Baseline, CounterRecord
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate import decide
from pytest_infergate.core.gate.baseline import baselines_from_results, merge_baselines
from pytest_infergate.core.gate.counter_changes import counter_record, merge_records


def decide_against(recorded: Sequence[Session], candidate: Session, policy: Policy) -> Session:
    """Return `candidate` with the verdicts that it would have if `recorded` were its baseline.

    Times are judged by the stored comparison, with one stored session for each recorded one; counters are
    compared with those of the latest. Neither may be a paired run: raises `ValueError` for one.
    """
    for session in (*recorded, candidate):
        if session.against is not None and not session.against.counters_only:
            raise ValueError("the times of a paired run are valid for its two sides only")
    baselines: dict[str, Baseline] = {}
    records: dict[Case, CounterRecord] = {}
    for session in sorted(recorded, key=lambda session: session.created):
        packages = session.environment.packages
        for key, baseline in baselines_from_results(session.cases, session.created, packages).items():
            baselines[key] = merge_baselines(baselines.get(key), baseline)
        for result in session.cases:
            record = counter_record(result, packages.get("torch"))
            if record is not None:
                records[result.case] = merge_records(records.get(result.case), record)
    verdicts = [
        decide.judge(
            result, baselines, policy, candidate.environment, records=records, cases=len(candidate.cases)
        )
        for result in candidate.cases
    ]
    known = frozenset(records).union(
        *(frozenset(entry.case for entry in baseline.cases) for baseline in baselines.values())
    )
    gate = decide.gate_session(verdicts, policy, known=known, expected=known)
    return msgspec.structs.replace(candidate, gate=gate, against=None)
