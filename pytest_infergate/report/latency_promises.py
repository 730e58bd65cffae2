"""The p95 of a plan as text: as measured, in a slow launch, and what both rest on."""

from __future__ import annotations

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Plan
from pytest_infergate.core.domain.stats import TAIL_CALLS


def p95_text(plan: Plan) -> str:
    """Return ``12.0 ms, slow 31.0 ms``; a p95 that is not promised says so."""
    parts = [units.seconds(plan.load.p95)]
    if plan.slow_load is not None and plan.slowdown > 1:
        parts.append(f"slow {slow_p95(plan)}")
    if plan.sampled is not None and not plan.sampled.promised:
        parts.append("not promised")
    return ", ".join(parts)


def slow_p95(plan: Plan) -> str:
    """Return the p95 with calls as slow as another launch may make them."""
    load = plan.slow_load
    return units.UNKNOWN if load is None else units.seconds(load.p95) if load.stable else "without bound"


def sampled_text(plan: Plan) -> str:
    """Return a sentence on what the p95 of a plan rests on; empty for results of earlier versions."""
    rests = plan.sampled
    if rests is None:
        return ""
    took = "" if rests.seconds is None else f" in {units.seconds(rests.seconds)}"
    order = "in recorded order" if rests.ordered else "drawn independently, because their order is unknown"
    tail = "" if rests.tail_seen else f", fewer than the {TAIL_CALLS} that show the slowest hundredth"
    paced = "no paced calls"
    if rests.paced is not None:
        paced = f"paced calls as at 30 % load took {rests.paced:.2f} times as long"
    slow = f"slow means calls {plan.slowdown:.2f} times as slow, as another launch may make them; "
    promise = "any limit is held against slow calls" if rests.promised else "no p95 is promised"
    return (
        f" It rests on at least {units.plural(rests.calls, 'call')} back to back of each batch size{took}, "
        f"{order}{tail}; {paced}; {slow if plan.slowdown > 1 else ''}{promise}."
    )
