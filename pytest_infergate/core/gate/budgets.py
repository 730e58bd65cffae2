"""Absolute limits: `(budget, measurement, spread between launches) -> BudgetCheck`."""

from __future__ import annotations

import math

from pytest_infergate.core.domain import metrics, stats, units
from pytest_infergate.core.domain.measurement import Estimate, Latency, Measurement
from pytest_infergate.core.domain.metrics import Metric
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Budget, BudgetCheck, Price, Verdict
from pytest_infergate.core.gate.stored import IDLE, MAX_CONTENTION

TIME_FOR_A_CALL = 2.0
"""Wall time of a case over the time of its calls: warm-up and yardsticks take the rest."""
_PROVIDE = "remove the budget, or provide what it needs"
_MEASURE = "measure where one is, or set gate_estimates = true in [tool.infergate]"
_SAY_DEMAND = 'say how much is to be served: demand="50/s" in the marker, or --infer-demand=50/s'


def check_budget(
    budget: Budget,
    measurement: Measurement,
    band: float,
    *,
    price: Price | None = None,
    demand: float | None = None,
    unpriced: Note | None = None,
    estimates: bool = False,
) -> BudgetCheck:
    """Hold one budget against a measurement.

    `band` is the launch band of `launch_band`; it widens timed metrics only. What is paid for needs a
    `price`, or else `unpriced` says why there is none, and `demand` in items a second where it is by month.
    With `estimates` an energy that nobody measured decides too.
    A budget that nobody could check is not kept: it comes back as over budget with a note that says what
    was missing.
    """
    metric = metrics.metric(budget.metric)
    if metric.dollars is not None:
        if price is not None:
            return _check_cost(budget, metric, measurement, band, price=price, demand=demand)
        why = unpriced or Note(code=NoteCode.UNPRICED, text=f"it needs {metric.needs}", hint=_PROVIDE)
        return not_checked(budget, why.text, why.hint)
    estimate = metric.read(measurement) if metric.read is not None else None
    if estimate is None or (_energy_estimated(metric, measurement) and not estimates):
        return _not_read(budget, metric, estimate)
    if not math.isfinite(estimate.value):
        return not_checked(budget, f"{metric.text} reads {estimate.value}", "report this as a bug")
    value = _in_budget_units(estimate, metric, band)
    if metric.percentile is not None and (estimate.low is None or estimate.high is None):
        has = _samples(metric, measurement)
        needed = stats.samples_needed(max(metric.percentile, 1 - metric.percentile))
        if value.low is None or value.low <= budget.limit:
            enough = units.duration(TIME_FOR_A_CALL * needed * measurement.latency.mean)
            hint = f"give it about {enough} with --infer-max-time or max_time in the marker"
            return not_checked(budget, f"it needs {needed} calls and has {has}", hint, value=value)
    return _held(budget, metric, value, measurement)


def _check_cost(
    budget: Budget,
    metric: Metric,
    measurement: Measurement,
    band: float,
    *,
    price: Price,
    demand: float | None,
) -> BudgetCheck:
    """Hold a budget in dollars against a throughput, which another launch may raise or lower."""
    rate = measurement.throughput
    if metric.dollars is None or not stats.positive(rate):
        return not_checked(budget, f"throughput reads {rate}", "report this as a bug")
    usual, low, high = (metric.dollars(price, rate * math.exp(shift), demand) for shift in (0.0, band, -band))
    if usual is None:
        return not_checked(budget, "it needs a demand", _SAY_DEMAND)
    return _held(budget, metric, Estimate(value=usual, low=low, high=high), measurement)


def _held(budget: Budget, metric: Metric, value: Estimate, measurement: Measurement) -> BudgetCheck:
    """Hold a budget against a value in its own unit, whose bounds are all there that can be."""
    verdict = _verdict(value, budget.limit, metric)
    if verdict is Verdict.OVER_BUDGET and metric.timed and (measurement.contention or 0.0) > MAX_CONTENTION:
        text = f"{metric.text} was measured while other processes took the processors"
        note = Note(code=NoteCode.BUDGET_INCONCLUSIVE, text=text, hint=IDLE)
        return BudgetCheck(budget=budget, verdict=Verdict.INCONCLUSIVE, value=value, note=note)
    if verdict is not Verdict.INCONCLUSIVE:
        return BudgetCheck(budget=budget, verdict=verdict, value=value)
    text = (
        f"{metric.text} {metric.shown(value.value)} is within the spread between launches of its limit "
        f"{metric.shown(budget.limit)}"
    )
    hint = "record sessions with --infer-save to learn this machine's spread, or leave more room"
    return BudgetCheck(
        budget=budget,
        verdict=verdict,
        value=value,
        note=Note(code=NoteCode.BUDGET_INCONCLUSIVE, text=text, hint=hint),
    )


def not_checked(budget: Budget, why: str, hint: str, value: Estimate | None = None) -> BudgetCheck:
    """Record a budget that could not be evaluated: over budget (not decided)."""
    note = Note(
        code=NoteCode.BUDGET_NOT_DECIDED, text=f"budget {budget.metric} was not decided: {why}", hint=hint
    )
    return BudgetCheck(budget=budget, verdict=Verdict.OVER_BUDGET, value=value, note=note, missing=why)


def _verdict(value: Estimate, limit: float, metric: Metric) -> Verdict | None:
    """Apply the limit to the bounds; for a lower limit the world is turned upside down."""
    low, high = (
        (value.low, value.high) if metric.better == "lower" else (_minus(value.high), _minus(value.low))
    )
    bound = limit if metric.better == "lower" else -limit
    if low is not None and low > bound:
        return Verdict.OVER_BUDGET
    return None if high is not None and high <= bound else Verdict.INCONCLUSIVE


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _in_budget_units(estimate: Estimate, metric: Metric, band: float) -> Estimate:
    """Scale, and join the bounds of the samples with the spread between launches, in quadrature."""
    centre = estimate.value

    def widened(bound: float | None, sign: int) -> float | None:
        if bound is None or centre <= 0 or bound <= 0:
            return None if bound is None else metric.in_unit(bound)
        within = math.log(bound / centre)
        return metric.in_unit(centre * math.exp(sign * math.hypot(within, band if metric.timed else 0.0)))

    return Estimate(
        value=metric.in_unit(centre), low=widened(estimate.low, -1), high=widened(estimate.high, 1)
    )


def _energy_estimated(metric: Metric, measurement: Measurement) -> bool:
    """Whether the metric is read off an energy that nobody measured."""
    energy = measurement.energy if metric.name == "joules_per_item" else None
    return energy is not None and energy.estimated


def _not_read(budget: Budget, metric: Metric, estimate: Estimate | None) -> BudgetCheck:
    """Say what a metric needs; an estimate is shown and decides nothing."""
    if estimate is None:
        return not_checked(budget, f"it needs {metric.needs}", _PROVIDE)
    value = _in_budget_units(estimate, metric, 0.0)
    why = f"it needs {metric.needs}, and {metric.shown(value.value)} is an estimate"
    return not_checked(budget, why, _MEASURE, value=value)


def _samples(metric: Metric, measurement: Measurement) -> int:
    latency: Latency | None = measurement.latency
    if measurement.stream is not None and metric.name == "ttft_ms":
        latency = measurement.stream.first_item
    elif measurement.stream is not None and metric.name == "itl_p95_ms":
        latency = measurement.stream.between_items
    return 0 if latency is None else latency.count
