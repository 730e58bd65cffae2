"""Absolute limits: `(budget, measurement, spread between launches) -> BudgetCheck`."""

from __future__ import annotations

import math

from pytest_infergate.core.domain import metrics, stats, units
from pytest_infergate.core.domain.load_values import LOAD_BUDGETS
from pytest_infergate.core.domain.measurement import CONTENDED, Contention, Estimate, Latency, Measurement
from pytest_infergate.core.domain.metrics import Metric
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Budget, BudgetCheck, Price, Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.contention import (
    FAR_BEYOND,
    IDLE,
    explained,
    heavy,
    typical_seconds,
)

# A case spends about as much time on its warm-up and the reference workloads as on its own calls.
TIME_FOR_A_CALL = 2.0
"""Wall time of a case divided by the time of its calls, for hints on the time limit."""
SPARE_TIME = 1.25
"""Factor of a time limit beyond the calls that are missing, for hints on it."""
_PROVIDE = "remove the budget, or provide what it needs"
_MEASURE = "measure on a machine that has one, or set gate_estimates = true in [tool.infergate]"
_NOT_SAMPLED = frozenset({"throughput_per_s", "tpot_ms", "joules_per_item", *metrics.STREAM_PERCENTILES})
"""Metrics of the passes after the sampling; costs are of the throughput."""
_OF_WEIGHTS = frozenset({"weights_mb", "weight_bytes", "peak_memory_mb", "peak_memory_bytes"})
_REASONS = {NoteCode.WEIGHTS_UNSEEN: _OF_WEIGHTS, NoteCode.LOAD_NOT_MEASURED: LOAD_BUDGETS}
"""Codes of notes that say why metrics are missing."""
_SET_DEMAND = 'set the demand with demand="50/s" in the marker, or with --infer-demand=50/s'
_BUG = "report this as a bug"


def check_budget(  # noqa: PLR0911 - one return for each thing that may be missing
    budget: Budget,
    measurement: Measurement,
    band: float,
    *,
    price: Price | None = None,
    demand: float | None = None,
    unpriced: Note | None = None,
    estimates: bool = False,
) -> BudgetCheck:
    """Compare a measurement with a budget.

    `band` is the result of `launch_band`; it widens timed metrics only. Costs need a `price`, or else
    `unpriced` is the reason why there is none, and costs per month need a `demand` in items per second. With
    `estimates`, an estimate of the energy decides too.

    A budget that cannot be checked counts as exceeded, with a note on what is missing.
    """
    metric = metrics.metric(budget.metric)
    if metric.dollars is not None:
        if price is not None:
            return _check_cost(budget, metric, measurement, band, price=price, demand=demand)
        reason = unpriced or Note(code=NoteCode.UNPRICED, text=f"it needs {metric.needs}", hint=_PROVIDE)
        return not_checked(budget, reason.text, reason.hint)
    estimate = metric.read(measurement) if metric.read is not None else None
    if estimate is None:
        return not_checked(budget, *why_missing(metric, measurement))
    energy = measurement.energy if metric.name == "joules_per_item" else None
    if energy is not None and energy.estimated and not estimates:
        value = _in_budget_units(estimate, metric, 0.0)
        why = f"it needs {metric.needs}, and {metric.shown(value.value)} is an estimate"
        return not_checked(budget, why, _MEASURE, value=value)
    # A NaN is neither above nor below a limit.
    if not math.isfinite(estimate.value):
        return not_checked(budget, f"{metric.text} must be finite, got {estimate.value}", _BUG)
    value = _in_budget_units(estimate, metric, band)
    # A lower bound above the limit decides the budget without the upper bound that is missing.
    exceeded = value.low is not None and value.low > budget.limit
    if metric.percentile is None and estimate.high is None and not exceeded:
        return not_checked(budget, f"it needs {metric.needs}", _PROVIDE, value=value)
    check = _check_value(budget, metric, value, measurement)
    # So few calls decide that a budget is exceeded, or nothing: contention does not excuse the missing calls.
    if metric.percentile and None in (value.low, value.high) and check.verdict is not Verdict.OVER_BUDGET:
        return not_checked(budget, *why_unbounded(metric, measurement), value=value)
    return check


def why_missing(metric: Metric, measurement: Measurement) -> tuple[str, str]:
    """Return why a figure was not measured, and a hint."""
    for code, names in _REASONS.items():
        known = [note for note in measurement.notes if note.code == code]
        if known and metric.name in names:
            return known[0].text, known[0].hint
    unknown = [note for note in measurement.notes if note.code == NoteCode.NOT_COUNTED]
    if unknown and not measurement.counters.counted and metric.name not in metrics.ANSWER_TIMES:
        return unknown[0].text, unknown[0].hint or _PROVIDE
    if not measurement.counters.counted and not metric.timed:
        return "there was no time to count it", "raise --infer-max-time, or max_time in the marker"
    return f"it needs {metric.needs}", _PROVIDE


def why_unbounded(metric: Metric, measurement: Measurement) -> tuple[str, str, float]:
    """Return why a percentile has too few samples for its bounds, a hint, and the time limit in it."""
    needed = stats.samples_needed(max(metric.percentile or 0.5, 1 - (metric.percentile or 0.5)))
    has = _samples(metric, measurement)
    load = measurement.load if metric.name in LOAD_BUDGETS else None
    limit = (measurement.time_limit or 0.0) if load is None else load.seconds
    seconds = SPARE_TIME * limit * needed / max(1, has)
    why = f"it needs {units.plural(needed, 'call')} and has {has}"
    if load is None:
        seconds = max(seconds, TIME_FOR_A_CALL * needed * measurement.call_times.mean)
    else:  # it may have enough of them, in too few phases of the test
        seconds = max(seconds, 2 * limit)
        why = f"{units.plural(has, 'request')} under load give it no upper bound"
    hint = units.longer_limit(seconds)
    return why, f"{IDLE}, or {hint}" if heavy(_taken(metric, measurement).share) else hint, seconds


def _check_cost(
    budget: Budget,
    metric: Metric,
    measurement: Measurement,
    band: float,
    *,
    price: Price,
    demand: float | None,
) -> BudgetCheck:
    """Compare a cost with a budget; its bounds are the costs at the throughputs of other launches."""
    rate = measurement.throughput
    if metric.dollars is None or rate is None or not stats.positive(rate):
        return not_checked(budget, f"throughput must be greater than 0, got {rate}", _BUG)
    # Another launch may be faster or slower by the launch band, which changes the cost in the other
    # direction.
    usual, low, high = (metric.dollars(price, rate * math.exp(shift), demand) for shift in (0.0, band, -band))
    if usual is None:
        return not_checked(budget, "it needs a demand", _SET_DEMAND)
    # A number of machines is whole, so that the cost is not in proportion to the rate.
    least = metric.dollars(price, rate * math.exp(band) / _share_left(metric, measurement), demand)
    return _check_value(budget, metric, Estimate(value=usual, low=low, high=high), measurement, least)


def _taken(metric: Metric, measurement: Measurement) -> Contention:
    """Return what other processes took while a metric was measured."""
    if metric.name == "cold_start_ms":
        return measurement.first_call
    if metric.name in LOAD_BUDGETS:
        return Contention() if measurement.load is None else measurement.load.contention
    if metric.dollars is None and metric.name not in _NOT_SAMPLED:
        return Contention(share=measurement.contention)
    later = measurement.later_passes
    shares = [share for share in (measurement.contention, later.share) if share is not None]
    return Contention(share=max(shares, default=None), left=later.left)


def _share_left(metric: Metric, measurement: Measurement) -> float:
    """Return the share of a time that contention cannot explain, above 0 and at most 1/4."""
    taken = _taken(metric, measurement)
    left = min(1 / (FAR_BEYOND * explained(taken.share)), 1.0 if taken.left is None else taken.left)
    typical = None if metric.name == "cold_start_ms" else typical_seconds(measurement)
    return max(1e-9, left if typical is None else min(left, typical / measurement.call_times.mean))


def _check_value(
    budget: Budget, metric: Metric, value: Estimate, measurement: Measurement, least: float | None = None
) -> BudgetCheck:
    """Compare a value in the unit of the budget with its limit.

    `least` is the lower bound of a cost that contention cannot explain.
    """
    low, high, limit = value.low, value.high, budget.limit
    if metric.better == "higher":
        # A lower limit is an upper limit of the negative value.
        low, high = (None if bound is None else -bound for bound in (high, low))
        limit = -limit
    share = _taken(metric, measurement).share if metric.timed else None
    # A few calls that had to wait lengthen a high percentile by any factor, however little was taken in all.
    tail = metric.percentile is not None and metric.percentile > 0.5  # noqa: PLR2004 - the median
    disturbed = heavy(share) or (tail and (share or 0.0) > CONTENDED)
    if high is not None and high <= limit:
        # Contention only adds time, so that a budget that is met under contention is met.
        return BudgetCheck(budget=budget, verdict=None, value=value)
    if low is not None and low > limit:
        known = _least(metric, low, measurement) if least is None else least
        # In a queue, a small delay may grow beyond any factor.
        if not disturbed or (known > limit and metric.name not in LOAD_BUDGETS):
            return BudgetCheck(budget=budget, verdict=Verdict.OVER_BUDGET, value=value)
    if disturbed:
        note = Note(
            code=NoteCode.CONTENDED_TIME,
            text=f"{metric.text} was measured while other processes took "
            f"{units.percent(share, signed=False, decimals=0)} of the case's processor time, which may be "
            "why it is not known to be within its limit",
            hint=IDLE,
        )
    else:
        note = Note(
            code=NoteCode.BUDGET_INCONCLUSIVE,
            text=f"{metric.text} {metric.shown(value.value)} is within the spread between launches of its "
            f"limit {metric.shown(budget.limit)}",
            hint="record sessions with --infer-save to learn the spread of this machine, or widen the limit",
        )
    return BudgetCheck(budget=budget, verdict=Verdict.INCONCLUSIVE, value=value, note=note)


def _least(metric: Metric, low: float, measurement: Measurement) -> float:
    """Return the part of a lower bound that contention cannot explain.

    The bound of a rate is negative, as in `_check_value`.
    """
    if metric.percentile is None or metric.name in metrics.STREAM_PERCENTILES:
        left = _share_left(metric, measurement)
        return low / left if low < 0 else low * left
    # A few calls that had to wait lengthen a high percentile by any factor: a typical call must exceed the
    # limit as well.
    known, typical = low / (FAR_BEYOND * explained(measurement.contention)), typical_seconds(measurement)
    return known if typical is None else min(known, metric.in_unit(typical))


def not_checked(
    budget: Budget, why: str, hint: str, max_time: float | None = None, *, value: Estimate | None = None
) -> BudgetCheck:
    """Return the check of a budget that could not be evaluated: over budget (not decided)."""
    text = f"budget {budget.metric} was not decided: {why}"
    note = Note(code=NoteCode.BUDGET_NOT_DECIDED, text=text, hint=hint, max_time=max_time)
    return BudgetCheck(budget=budget, verdict=Verdict.OVER_BUDGET, value=value, note=note, missing=why)


def _in_budget_units(estimate: Estimate, metric: Metric, band: float) -> Estimate:
    """Convert to the unit of the budget, and widen the bounds of a timed metric by the launch band."""
    centre = estimate.value

    def widened(bound: float | None, sign: int) -> float | None:
        if bound is None or centre <= 0 or bound <= 0:
            return None if bound is None else metric.in_unit(bound)
        # In quadrature, since the spread of calls and the spread between launches are independent.
        within = math.log(bound / centre)
        return metric.in_unit(centre * math.exp(sign * math.hypot(within, band if metric.timed else 0.0)))

    return Estimate(
        value=metric.in_unit(centre), low=widened(estimate.low, -1), high=widened(estimate.high, 1)
    )


def _samples(metric: Metric, measurement: Measurement) -> int:
    """Return the number of samples behind a percentile."""
    latency = measurement.call_times
    if measurement.load is not None and metric.name in LOAD_BUDGETS:
        return measurement.load.queries
    field = metrics.STREAM_PERCENTILES.get(metric.name)
    if measurement.stream is not None and field is not None:
        found: Latency | None = getattr(measurement.stream, field)
        return 0 if found is None else found.count
    return latency.count
