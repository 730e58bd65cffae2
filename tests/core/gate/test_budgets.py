import math
import re

import msgspec
import pytest
from core_values import REFERENCE_WORK, counted, day, exact, latency, measurement, point
from scipy.special import stdtrit

from pytest_infergate.core.domain import launch_spread
from pytest_infergate.core.domain.measurement import Energy, Estimate, Memory, Stream
from pytest_infergate.core.domain.outcome import Budget, Verdict
from pytest_infergate.core.gate import budgets

KEPT = None


def check(metric, limit, measured, band=0.0):
    return budgets.check_budget(Budget(metric=metric, limit=limit), measured, band)


def between(low, value, high):
    return Estimate(value=value, low=low, high=high)


P95 = measurement(latency=latency(p95=between(0.030, 0.032, 0.036)))


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (36.1, KEPT),
        (35.9, Verdict.INCONCLUSIVE),
        (32.0, Verdict.INCONCLUSIVE),
        (30.0, Verdict.INCONCLUSIVE),
        (29.9, Verdict.OVER_BUDGET),
    ],
)
def test_an_upper_limit_against_both_bounds(limit, verdict):
    outcome = check("p95_ms", limit, P95)
    assert outcome.verdict is verdict
    assert outcome.value == between(pytest.approx(30.0), pytest.approx(32.0), pytest.approx(36.0))
    assert (outcome.note is None) == (verdict is not Verdict.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (99.0, KEPT),
        (100.0, KEPT),
        (100.1, Verdict.OVER_BUDGET),
    ],
)
def test_a_lower_limit_on_throughput(limit, verdict):
    assert check("throughput_per_s", limit, measurement(throughput=100.0)).verdict is verdict


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(90.0, KEPT), (91.0, Verdict.INCONCLUSIVE), (110.0, Verdict.INCONCLUSIVE), (111.0, Verdict.OVER_BUDGET)],
)
def test_a_lower_limit_within_the_spread_of_launches(limit, verdict):
    # A band of 10 % reaches from 90.5 to 110.5.
    assert check("throughput_per_s", limit, measurement(throughput=100.0), band=0.1).verdict is verdict


def test_tokens_per_second_are_a_lower_limit():
    streaming = measurement(0.010, stream=Stream(items=20, first_item=latency(0.003)))
    assert check("tokens_per_s", 2000, streaming).verdict is KEPT
    assert check("tokens_per_s", 2001, streaming).verdict is Verdict.OVER_BUDGET


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(11.1, KEPT), (11.0, Verdict.INCONCLUSIVE), (9.1, Verdict.INCONCLUSIVE), (9.0, Verdict.OVER_BUDGET)],
)
def test_one_launch_within_the_spread_of_launches_is_inconclusive(limit, verdict):
    # 10 ms and a band of 10 %: 9.05 to 11.05 ms.
    outcome = check("p50_ms", limit, measurement(0.010), band=0.1)
    assert outcome.verdict is verdict


def test_inconclusive_says_what_is_near_what():
    note = check("p50_ms", 11.0, measurement(0.010), band=0.1).note
    assert note.code == "budget-inconclusive"
    assert note.text == "p50 latency 10.0 ms is within the spread between launches of its limit 11.0 ms"
    assert note.hint == "record sessions with --infer-save to learn this machine's spread, or leave more room"


def test_samples_and_launches_join_in_quadrature():
    measured = measurement(latency=latency(p95=between(0.030 / math.exp(0.3), 0.030, 0.030 * math.exp(0.3))))
    value = check("p95_ms", 1000, measured, band=0.4).value
    assert value == between(
        pytest.approx(30 * math.exp(-0.5)), pytest.approx(30.0), pytest.approx(30 * math.exp(0.5))
    )


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        ("peak_memory_mb", 50.0),
        ("host_memory_mb", 300.0),
        ("weights_mb", 40.0),
        ("gflops", 35.1),
        ("graph_breaks", 0),
    ],
)
def test_what_no_launch_changes_is_exact(metric, limit):
    measured = measurement(counters=counted(flops=35_100_000_000, graph_breaks=0))
    assert check(metric, limit, measured, band=0.5).verdict is KEPT
    assert check(metric, limit - 0.1, measured, band=0.5).verdict is Verdict.OVER_BUDGET


@pytest.mark.parametrize("tenths", range(1, 1000, 7))
def test_a_limit_of_what_is_exact_may_be_reached(tenths):
    measured = measurement(
        counters=counted(flops=tenths * 10**8), memory=Memory(weights=tenths * 10**5, activations=0)
    )
    for metric in ("gflops", "weights_mb", "peak_memory_mb"):
        assert check(metric, tenths / 10, measured, band=0.5).verdict is KEPT


def test_a_cold_start_spreads_as_launches_do():
    assert check("cold_start_ms", 500, measurement(cold_start=0.5)).verdict is KEPT
    assert check("cold_start_ms", 500, measurement(cold_start=0.5), band=0.1).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("metric", "count", "needed"),
    [("p50_ms", 6, 7), ("p90_ms", 43, 44), ("p95_ms", 89, 90), ("p99_ms", 120, 459)],
)
def test_too_few_samples_are_over_budget_not_decided(metric, count, needed):
    name = metric.removesuffix("_ms")
    few = latency(0.010, count, **{name: Estimate(value=0.012, low=0.011)})
    outcome = check(metric, 40, measurement(latency=few))
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert outcome.value.value == pytest.approx(12.0)
    assert outcome.note.code == "budget-not-decided"
    assert outcome.note.text == f"budget {metric} was not decided: it needs {needed} calls and has {count}"
    assert re.fullmatch(
        r"give it about \d+ (s|min) with --infer-max-time or max_time in the marker", outcome.note.hint
    )


def test_few_samples_can_still_break_a_budget():
    few = latency(0.010, 120, p99=Estimate(value=0.05, low=0.045))
    outcome = check("p99_ms", 40, measurement(latency=few))
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert outcome.note is None


def test_few_samples_and_no_bound_at_all():
    few = latency(0.010, 3, p50=Estimate(value=0.010))
    assert "it needs 7 calls and has 3" in check("p50_ms", 5, measurement(latency=few)).note.text


@pytest.mark.parametrize(("metric", "has"), [("ttft_ms", 5), ("itl_p95_ms", 80)])
def test_a_stream_counts_its_own_samples(metric, has):
    stream = Stream(
        items=20,
        first_item=latency(0.003, 5, p50=Estimate(value=0.003)),
        between_items=latency(0.0004, 80, p95=Estimate(value=0.0004)),
    )
    assert f"and has {has}" in check(metric, 1000, measurement(stream=stream)).note.text


@pytest.mark.parametrize(
    ("metric", "needs"),
    [
        ("peak_memory_mb", "an allocator that reports its peak"),
        ("host_memory_mb", "a system that reports peak resident memory"),
        ("weights_mb", "a torch module: a plain callable hides its weights"),
        ("tokens_per_s", "a generator or iterator as the result of the call"),
        ("ttft_ms", "a generator or iterator as the result of the call"),
        ("itl_p95_ms", "a generator or iterator as the result of the call"),
        ("usd_per_million", "a price for the machine"),
        ("usd_per_month", "a demand, and a price for the machine"),
        (
            "joules_per_item",
            "an energy meter that can be read: NVML of NVIDIA's boards, RAPL of processors",
        ),
        ("gflops", "a torch model that is not compiled, whose operators can be counted"),
        ("graph_breaks", "a model under torch.compile"),
        ("allocations", "an allocator that reports what it hands out"),
        ("kernel_launches", "an accelerator whose work torch's profiler sees"),
    ],
)
def test_a_promise_that_nobody_checked_is_not_kept(metric, needs):
    outcome = check(metric, 1e12, measurement(memory=Memory()))
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert outcome.value is None
    assert outcome.note.text == f"budget {metric} was not decided: it needs {needs}"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("metric", ["p50_ms", "throughput_per_s"])
def test_a_reading_that_is_no_number_keeps_no_promise(metric, value):
    measured = measurement(latency=latency(p50=exact(value)), throughput=value)
    outcome = check(metric, 40, measured, band=0.1)
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert f"reads {value}" in outcome.note.text


def taken(source="nvml", **fields):
    """2 J a call and 0.5 J an item, in a window of 2 s: known to 5 %."""
    known = {"joules": 2.0, "scope": "board", "seconds": 2.0, "calls": 100, "batch_size": 4}
    return measurement(energy=Energy(source=source, **{**known, **fields}))


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(0.53, KEPT), (0.52, Verdict.INCONCLUSIVE), (0.48, Verdict.INCONCLUSIVE), (0.47, Verdict.OVER_BUDGET)],
)
def test_energy_of_an_item_within_the_ticks_of_its_counter(limit, verdict):
    assert check("joules_per_item", limit, taken()).verdict is verdict


def test_energy_spreads_as_the_times_of_launches_do():
    assert check("joules_per_item", 0.6, taken()).verdict is KEPT
    assert check("joules_per_item", 0.6, taken(), band=0.2).verdict is Verdict.INCONCLUSIVE


def test_energy_beside_others_that_overran_the_machine_breaks_no_promise():
    contended = msgspec.structs.replace(taken("rapl"), contention=0.5)
    assert check("joules_per_item", 0.1, contended).verdict is Verdict.INCONCLUSIVE


def test_an_estimate_of_the_energy_is_shown_and_not_decided():
    outcome = check("joules_per_item", 100, taken("estimate"))
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert outcome.value == exact(0.5)
    assert str(outcome.note) == (
        "budget joules_per_item was not decided: it needs an energy meter that can be read: NVML of NVIDIA's "
        "boards, RAPL of processors, and 500 mJ is an estimate (measure where one is, or set "
        "gate_estimates = true in [tool.infergate])"
    )


@pytest.mark.parametrize(("limit", "verdict"), [(0.5, KEPT), (0.49, Verdict.OVER_BUDGET)])
def test_an_estimate_decides_where_the_policy_lets_it(limit, verdict):
    budget = Budget(metric="joules_per_item", limit=limit)
    assert budgets.check_budget(budget, taken("estimate"), 0.0, estimates=True).verdict is verdict


def test_an_estimate_of_the_energy_leaves_other_promises_alone():
    assert check("p50_ms", 20, taken("estimate")).verdict is KEPT


def test_a_reading_of_zero():
    assert check("p50_ms", 1, measurement(0.0, throughput=1.0), band=0.1).verdict is KEPT


def test_the_band_starts_at_the_prior_of_the_class():
    t = float(stdtrit(4, 0.95))
    assert launch_spread.launch_band([], virtual=True) == pytest.approx(0.20 * t)
    assert launch_spread.launch_band([], virtual=False) == pytest.approx(0.05 * t)
    assert launch_spread.launch_band([point()], virtual=True) == pytest.approx(0.20 * t)


def test_the_band_learns_from_history():
    history = [point(0.010, day(number + 1), reference_work=REFERENCE_WORK) for number in range(5)]
    assert launch_spread.launch_band(history, virtual=True) == pytest.approx(0.0, abs=1e-12)
    wild = [point(0.010 * (1 + number % 2), day(number + 1)) for number in range(12)]
    assert launch_spread.launch_band(wild, virtual=False) > 0.5
