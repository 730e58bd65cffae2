"""What the gate checked, as sentences below the headline, and which cases it compared with nothing."""

from __future__ import annotations

import math
from typing import Final

from pytest_infergate.core.advice.deployments import model_name
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import GateResult, Session, Verdict
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate.compared_cases import uncompared_cases, without_baseline
from pytest_infergate.report.sanitize import plain

LATENCY_BUDGETS: Final = frozenset({"p50_ms", "p90_ms", "p95_ms", "p99_ms", "load_p95_ms", "load_p99_ms"})
"""Budgets for the time of a call."""


def gate_lines(session: Session) -> list[str]:
    """Return what the gate checked: budgets, and cases that it compared with nothing."""
    verdicts = session.gate.verdicts
    lines = []
    with_budget = [verdict for verdict in verdicts if verdict.budgets]
    if with_budget:
        met = sum(all(check.verdict is None for check in verdict.budgets) for verdict in with_budget)
        # The headline of a run without a baseline says so already.
        if all(map(without_baseline, verdicts)) and met == len(verdicts):
            lines.append("Budgets are the limits that tests set for times, sizes, work or costs.")
        else:
            lines.append(f"{met} of {units.plural(len(with_budget), 'case')} with a budget are within it.")
    alone = units.plural(len(uncompared_cases(session.gate)), "case")
    have = "has" if alone == "1 case" else "have"
    if session.against is not None:
        new = f"{alone} {have} nothing to compare with: the base does not have the test, or cannot run it."
    elif session.gate.recording:
        new = f"{alone} had no baseline before this run."
    else:
        new = f"{alone} {have} no baseline yet: to record one, run the same tests once with --infer-save."
    return [*lines, *([] if alone == "0 cases" else [new]), *ungated_limits(session)]


def ungated_limits(session: Session) -> list[str]:
    """Return which latency limits of a demand no budget checks: the gate passes if they are missed.

    A budget that is wider than the limit does not check it.
    """
    checked: dict[str, float] = {}
    for verdict in session.gate.verdicts:
        model = model_name(verdict.case)
        limits = [check.budget.limit for check in verdict.budgets if check.budget.metric in LATENCY_BUDGETS]
        checked[model] = min([checked.get(model, math.inf), *(milliseconds / 1e3 for milliseconds in limits)])
    names = []
    for answer in () if session.advice is None else session.advice.answers:
        limit = answer.demand.period if answer.limit is None else answer.limit
        # A limit in whole milliseconds is the same number, although it may differ in the last digit.
        if limit is not None and checked.get(answer.model, math.inf) > limit * (1 + 1e-9):
            names.append(f"{plain(answer.model.rpartition('::')[2])} ({units.seconds(limit)})")
    first, *others = dict.fromkeys(names) or [""]
    more = f" and {len(others)} more" if others else ""
    return [f"No budget checks the latency limit in the demand of {first}{more}."] if first else []


def new_cases(gate: GateResult) -> tuple[Case, ...]:
    """Return the cases to list as new: none if all of them are, because then there is no baseline at all."""
    judged = [verdict for verdict in gate.verdicts if verdict.verdict is not Verdict.NOT_MEASURED]
    new = uncompared_cases(gate)
    return () if len(new) == len(judged) else tuple(verdict.case for verdict in new)
