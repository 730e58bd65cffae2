"""Results of cases without figures."""

from __future__ import annotations

from pytest_infergate.config.case_terms import CaseTerms
from pytest_infergate.core.domain.outcome import Budget, CaseResult, GateMode, Outcome
from pytest_infergate.core.domain.values import Case, Note


def case_result(
    case: Case, nodeid: str, terms: CaseTerms, outcome: Outcome, reason: Note | None = None
) -> CaseResult:
    """Return a result under the terms of its test; `reason` states why there are no figures."""
    demand = terms.demand
    return CaseResult(
        case=case,
        nodeid=nodeid,
        outcome=outcome,
        reason=reason,
        budgets=tuple(Budget(metric=name, limit=limit) for name, limit in terms.budgets.items()),
        tolerance=dict(terms.tolerance),
        gate=None if terms.gate is None else GateMode(terms.gate),
        unit=terms.unit,
        demand=None if demand is None else demand.rate,
        streams=demand.streams if demand is not None and demand.pattern == "periodic" else None,
    )
