import math
import re
from itertools import product

import msgspec
import pytest
from core_values import REFERENCE_WORK, counted, day, exact, latency, measurement, point

from pytest_infergate.core.domain import launch_spread, metrics, units
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import (
    Contention,
    Counters,
    Energy,
    Estimate,
    LoadFigures,
    Memory,
    Stream,
)
from pytest_infergate.core.domain.outcome import Budget, Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import budgets

KEPT = None


def check(metric, limit, measured, band=0.0):
    return budgets.check_budget(Budget(metric=metric, limit=limit), measured, band)


def between(low, value, high):
    return Estimate(value=value, low=low, high=high)


P95 = measurement(latency=latency(p95=between(0.030, 0.032, 0.036)))


def test_an_upper_limit_against_both_bounds():
    for limit, verdict in [
        (36.1, KEPT),
        (35.9, Verdict.INCONCLUSIVE),
        (32.0, Verdict.INCONCLUSIVE),
        (30.0, Verdict.INCONCLUSIVE),
        (29.9, Verdict.OVER_BUDGET),
    ]:
        outcome = check("p95_ms", limit, P95)
        assert outcome.verdict is verdict, (limit, verdict)
        assert outcome.value == between(pytest.approx(30.0), pytest.approx(32.0), pytest.approx(36.0)), (
            limit,
            verdict,
        )
        assert (outcome.note is None) == (verdict is not Verdict.INCONCLUSIVE), (limit, verdict)


def under_load(p95, *, share=0.0, **fields):
    figures = LoadFigures(
        load=Load(scenario="server", rate=50.0),
        **{"seconds": 20.0, "queries": 1000, "answered": 1000, "requests": 1000, "p95": p95, "max_batch": 8,
           "mean_batch": 1.5, "busy": 0.4, "longest_queue": 9, "contention": Contention(share=share)} | fields,
    )  # fmt: skip
    return measurement(load=figures)


def test_limits_under_load():
    measured = under_load(between(0.030, 0.032, 0.036), limit=0.034, within=950)
    for metric, limit, verdict in [
        ("load_p95_ms", 36.1, KEPT),
        ("load_p95_ms", 34, Verdict.INCONCLUSIVE),
        ("load_p95_ms", 29, Verdict.OVER_BUDGET),
        ("goodput_per_s", 47.5, KEPT),
        ("goodput_per_s", 47.6, Verdict.OVER_BUDGET),
    ]:
        assert check(metric, limit, measured).verdict is verdict, (metric, limit)


def test_contention_under_load_decides_no_excess_that_it_may_explain():
    measured = under_load(between(0.030, 0.032, 0.036), share=0.5, limit=0.01, within=10)
    for metric, limit, verdict in [
        ("load_p95_ms", 36.1, KEPT),
        ("load_p95_ms", 29, Verdict.INCONCLUSIVE),
        ("goodput_per_s", 47.6, Verdict.INCONCLUSIVE),
    ]:
        assert check(metric, limit, measured).verdict is verdict, (metric, limit)


def test_too_few_requests_and_a_load_that_was_not_measured_decide_nothing():
    few = check("load_p99_ms", 100, measurement(load=under_load(None, p99=Estimate(value=0.05)).load))
    assert (few.verdict, few.value.value) == (Verdict.OVER_BUDGET, 50.0)
    assert "1,000 requests" in few.missing
    why = Note(code="load-not-measured", text="the server was away", hint="fetch it")
    for name in ("load_p95_ms", "load_p99_ms", "goodput_per_s"):
        assert check(name, 100, measurement(notes=(why,))).missing == "the server was away"
    assert "latency limit" in check("goodput_per_s", 100, under_load(exact(0.1))).missing


def test_a_lower_limit_on_throughput():
    for limit, verdict in [
        (99.0, KEPT),
        (100.0, KEPT),
        (100.1, Verdict.OVER_BUDGET),
    ]:
        assert check("throughput_per_s", limit, measurement(throughput=100.0)).verdict is verdict, (
            limit,
            verdict,
        )


def test_a_lower_limit_within_the_spread_of_launches():
    for limit, verdict in [
        (90.0, KEPT),
        (91.0, Verdict.INCONCLUSIVE),
        (110.0, Verdict.INCONCLUSIVE),
        (111.0, Verdict.OVER_BUDGET),
    ]:
        # A band of 10 % reaches from 90.5 to 110.5.
        assert check("throughput_per_s", limit, measurement(throughput=100.0), band=0.1).verdict is verdict, (
            limit,
            verdict,
        )


def test_tokens_per_second_are_a_lower_limit():
    streaming = measurement(0.010, stream=Stream(items=5, output_tokens=20, first_item=latency(0.003)))
    assert check("tokens_per_s", 2000, streaming).verdict is KEPT
    assert check("tokens_per_s", 2001, streaming).verdict is Verdict.OVER_BUDGET


def test_one_launch_within_the_spread_of_launches_is_inconclusive():
    for limit, verdict in [
        (11.1, KEPT),
        (11.0, Verdict.INCONCLUSIVE),
        (9.1, Verdict.INCONCLUSIVE),
        (9.0, Verdict.OVER_BUDGET),
    ]:
        # 10 ms and a band of 10 %: 9.05 to 11.05 ms.
        outcome = check("p50_ms", limit, measurement(0.010), band=0.1)
        assert outcome.verdict is verdict, (limit, verdict)


def test_samples_and_launches_join_in_quadrature():
    measured = measurement(latency=latency(p95=between(0.030 / math.exp(0.3), 0.030, 0.030 * math.exp(0.3))))
    value = check("p95_ms", 1000, measured, band=0.4).value
    assert value == between(
        pytest.approx(30 * math.exp(-0.5)), pytest.approx(30.0), pytest.approx(30 * math.exp(0.5))
    )


def test_what_no_launch_changes_is_exact():
    for metric, limit in [
        ("peak_memory_mb", 50.0),
        ("host_memory_mb", 300.0),
        ("weights_mb", 40.0),
        ("gflops", 35.1),
        ("graph_breaks", 0),
    ]:
        measured = measurement(counters=counted(flops=35_100_000_000, graph_breaks=0))
        assert check(metric, limit, measured, band=0.5).verdict is KEPT, (metric, limit)
        assert check(metric, limit - 0.1, measured, band=0.5).verdict is Verdict.OVER_BUDGET, (metric, limit)


def test_a_limit_of_what_is_exact_may_be_reached():
    for tenths in range(1, 1000, 7):
        measured = measurement(
            counters=counted(flops=tenths * 10**8), memory=Memory(weights=tenths * 10**5, activations=0)
        )
        for metric in ("gflops", "weights_mb", "peak_memory_mb"):
            assert check(metric, tenths / 10, measured, band=0.5).verdict is KEPT, tenths


def test_a_cold_start_spreads_as_launches_do():
    assert check("cold_start_ms", 500, measurement(cold_start=0.5)).verdict is KEPT
    assert check("cold_start_ms", 500, measurement(cold_start=0.5), band=0.1).verdict is Verdict.INCONCLUSIVE


def numbers(text):
    """The whole numbers of a text, which are no part of a name or of another figure."""
    return re.findall(r"(?<![\w.])\d+(?![\w.])", text)


def test_too_few_samples_are_over_budget_not_decided():
    for metric, count, needed in [
        ("p50_ms", 6, 7),
        ("p90_ms", 43, 44),
        ("p95_ms", 89, 90),
        ("p99_ms", 120, 459),
    ]:
        name = metric.removesuffix("_ms")
        few = latency(0.010, count, **{name: Estimate(value=0.012, low=0.011)})
        outcome = check(metric, 40, measurement(latency=few))
        assert outcome.verdict is Verdict.OVER_BUDGET, metric
        assert outcome.value.value == pytest.approx(12.0), metric
        assert outcome.note.code == "budget-not-decided", metric
        assert numbers(outcome.note.text) == [str(needed), str(count)], metric


def test_few_samples_can_still_break_a_budget():
    few = latency(0.010, 120, p99=Estimate(value=0.05, low=0.045))
    outcome = check("p99_ms", 40, measurement(latency=few))
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert outcome.note is None


def test_few_samples_are_not_decided_whatever_else_explains_them():
    """One rule: too few calls break a budget for certain, or leave it undecided. Contention excuses nothing."""
    for bound in (0.035, 0.045):  # below its limit, and above it
        for share in (None, 0.06, 0.5):
            few = latency(0.010, 20, p95=Estimate(value=0.05, low=bound))
            outcome = check("p95_ms", 40, measurement(latency=few, contention=share))
            certain = bound > 0.04 and share is None
            assert outcome.verdict is Verdict.OVER_BUDGET, (bound, share)
            assert (outcome.note is None) is certain, (bound, share)
            if not certain:
                assert outcome.note.code == "budget-not-decided"
                assert numbers(outcome.note.text) == ["90", "20"]


def test_few_samples_and_no_bound_at_all():
    few = latency(0.010, 3, p50=Estimate(value=0.010))
    assert numbers(check("p50_ms", 5, measurement(latency=few)).note.text) == ["7", "3"]


def test_a_stream_counts_its_own_samples():
    stream = Stream(
        items=20,
        first_item=latency(0.003, 5, p50=Estimate(value=0.003), p95=Estimate(value=0.003)),
        between_items=latency(0.0004, 80, p95=Estimate(value=0.0004)),
    )
    for metric, has in [("ttft_ms", "5"), ("ttft_p95_ms", "5"), ("itl_p95_ms", "80")]:
        assert numbers(check(metric, 1000, measurement(stream=stream)).note.text)[-1] == has, metric


def test_an_unchecked_budget_counts_as_failed():
    unknown = [
        *("peak_memory_mb", "host_memory_mb", "weights_mb", "tokens_per_s", "ttft_ms", "itl_p95_ms"),
        *("usd_per_million", "usd_per_month", "joules_per_item"),
        *("gflops", "graph_breaks", "allocations", "kernel_launches"),
    ]
    for metric in unknown:
        outcome = check(metric, 1e12, measurement(memory=Memory()))
        assert outcome.verdict is Verdict.OVER_BUDGET, metric
        assert outcome.value is None, metric
        assert outcome.note.code == "budget-not-decided", metric


def test_a_budget_on_memory_without_known_weights_is_not_decided():
    activations = measurement(memory=Memory(activations=16_384), counters=counted(peak_memory_bytes=16_384))
    for metric, limit in (("peak_memory_mb", 5), ("peak_memory_bytes", 5e6), ("weights_mb", 5)):
        outcome = check(metric, limit, activations)
        assert (outcome.verdict, outcome.value) == (Verdict.OVER_BUDGET, None), metric
        assert outcome.note.code == "budget-not-decided", metric


def test_a_budget_on_flops_of_a_part_decides_only_that_it_is_exceeded():
    partial = measurement(
        counters=counted(flops=10**9), notes=(Note(code="flops-uncovered", text="no formula"),)
    )
    for limit, noted in ((0.5, None), (1.0, "budget-not-decided"), (2.0, "budget-not-decided")):
        outcome = check("gflops", limit, partial)
        assert outcome.verdict is Verdict.OVER_BUDGET, limit
        assert (outcome.note.code if outcome.note else None) == noted, limit


def test_a_reading_that_is_no_number_counts_as_failed():
    for value, metric in product((math.nan, math.inf), ("p50_ms", "throughput_per_s")):
        measured = measurement(latency=latency(p50=exact(value)), throughput=value)
        outcome = check(metric, 40, measured, band=0.1)
        assert outcome.verdict is Verdict.OVER_BUDGET, (value, metric)
        assert outcome.note.code == "budget-not-decided", (value, metric)


def taken(source="nvml", **fields):
    """2 J a call and 0.5 J an item, in a window of 2 s: known to 5 %."""
    known = {"joules": 2.0, "scope": "board", "seconds": 2.0, "calls": 100, "batch_size": 4}
    return measurement(energy=Energy(source=source, **{**known, **fields}))


def test_energy_of_an_item_within_the_ticks_of_its_counter():
    for limit, verdict in [
        (0.53, KEPT),
        (0.52, Verdict.INCONCLUSIVE),
        (0.48, Verdict.INCONCLUSIVE),
        (0.47, Verdict.OVER_BUDGET),
    ]:
        assert check("joules_per_item", limit, taken()).verdict is verdict, (limit, verdict)


def test_energy_spreads_as_the_times_of_launches_do():
    assert check("joules_per_item", 0.6, taken()).verdict is KEPT
    assert check("joules_per_item", 0.6, taken(), band=0.2).verdict is Verdict.INCONCLUSIVE


def contended(share, **fields):
    """A measurement while other processes took this share of the processors; 10 ms and 50 MB."""
    return measurement(
        0.010, contention=share, first_call=Contention(share=share), counters=counted(flops=10**9), **fields
    )


def test_under_contention_a_time_is_inconclusive_and_what_contention_cannot_change_decides():
    for metric, limit, under_contention in [
        ("p50_ms", 9, Verdict.INCONCLUSIVE),
        ("throughput_per_s", 101, Verdict.INCONCLUSIVE),
        ("cold_start_ms", 499, Verdict.INCONCLUSIVE),
        ("peak_memory_mb", 49, Verdict.OVER_BUDGET),
        ("weights_mb", 39, Verdict.OVER_BUDGET),
        ("gflops", 0.9, Verdict.OVER_BUDGET),
    ]:
        assert check(metric, limit, contended(0.26)).verdict is under_contention, metric
        for share in (None, 0.0, 0.25):
            assert check(metric, limit, contended(share)).verdict is Verdict.OVER_BUDGET, (metric, share)
    assert check("p50_ms", 11, contended(0.26)).verdict is KEPT


def test_a_high_percentile_is_inconclusive_at_less_contention_than_the_median():
    tail = latency(0.010, 600, p99=Estimate(value=0.020, low=0.019, high=0.021))
    for share, verdict in [(0.05, Verdict.OVER_BUDGET), (0.06, Verdict.INCONCLUSIVE)]:
        assert check("p99_ms", 15, measurement(latency=tail, contention=share)).verdict is verdict, share
    assert check("p99_ms", 22, measurement(latency=tail, contention=0.06)).verdict is KEPT


def test_energy_under_contention_is_inconclusive():
    contended = msgspec.structs.replace(taken("rapl"), contention=0.5)
    assert check("joules_per_item", 0.1, contended).verdict is Verdict.INCONCLUSIVE


def test_an_estimate_of_the_energy_is_shown_and_not_decided():
    outcome = check("joules_per_item", 100, taken("estimate"))
    assert outcome.verdict is Verdict.OVER_BUDGET
    assert outcome.value == exact(0.5)
    assert outcome.note.code == "budget-not-decided"


def test_notes_of_budgets(snapshot):
    few = measurement(
        latency=latency(0.010, 3, p50=Estimate(value=0.010), p99=Estimate(value=0.012, low=0.011))
    )
    nothing = measurement(memory=Memory())
    noted = {
        "near the limit": check("p50_ms", 11.0, measurement(0.010), band=0.1),
        "few samples": check("p50_ms", 5, few),
        "far too few samples": check("p99_ms", 40, few),
        "a reading of NaN": check("throughput_per_s", 40, measurement(throughput=math.nan)),
        "contention": check("p50_ms", 9, contended(0.26)),
        "an estimate of energy": check("joules_per_item", 100, taken("estimate")),
        **{
            name: check(name, 1e12, nothing)
            for name in metrics.metric_names()
            if metrics.metric(name).read is None or metrics.metric(name).read(nothing) is None
        },
    }
    assert {name: str(outcome.note) for name, outcome in noted.items()} == snapshot


def test_a_lower_bound_of_a_counter_decides_a_smaller_limit_only():
    taken = measurement(counters=Counters(at_least={"bytecodes": 5000}))
    over = check("bytecodes", 4999, taken)
    assert (over.verdict, over.note) == (Verdict.OVER_BUDGET, None)
    unknown = check("bytecodes", 5001, taken)
    assert (unknown.verdict, unknown.note.code) == (Verdict.OVER_BUDGET, "budget-not-decided")


def test_an_estimate_decides_where_the_policy_lets_it():
    for limit, verdict in [(0.5, KEPT), (0.49, Verdict.OVER_BUDGET)]:
        budget = Budget(metric="joules_per_item", limit=limit)
        assert budgets.check_budget(budget, taken("estimate"), 0.0, estimates=True).verdict is verdict, (
            limit,
            verdict,
        )


def test_an_estimate_of_the_energy_leaves_other_promises_alone():
    assert check("p50_ms", 20, taken("estimate")).verdict is KEPT


def test_a_reading_of_zero():
    assert check("p50_ms", 1, measurement(0.0, throughput=1.0), band=0.1).verdict is KEPT


def test_a_reading_of_zero_with_an_upper_bound():
    outcome = check("p95_ms", 1, measurement(latency=latency(p95=between(0.0, 0.0, 0.0005))), band=0.1)
    assert outcome.verdict is KEPT
    assert outcome.value == between(0.0, 0.0, 0.5)


@pytest.mark.parametrize("limit", [0.05, 1.0, 6.0, 10.0, 80.0, 110.0, 180.0, 5000.0])
@pytest.mark.parametrize("has", [1, 45, 67, 89])
def test_the_hint_on_the_time_limit_allows_for_the_missing_calls(limit, has):
    # As if most of the limit had been spent on something else than calls of 1 ms.
    few = latency(0.001, count=has, p95=between(0.001, 0.001, None))
    hint = check("p95_ms", 60, measurement(latency=few, time_limit=limit)).note.hint
    raised = units.parse_duration(re.search(r" to (\w+) or more", hint)[1])
    assert raised > limit
    assert raised >= limit * 90 / has


def test_the_band_starts_at_the_prior_of_the_class():
    t = 2.13184678  # the 95th percentile of Student's distribution with 4 degrees of freedom
    assert launch_spread.launch_band([], virtual=True) == pytest.approx(0.20 * t)
    assert launch_spread.launch_band([], virtual=False) == pytest.approx(0.05 * t)
    assert launch_spread.launch_band([point()], virtual=True) == pytest.approx(0.20 * t)


def test_the_band_learns_from_history():
    history = [point(0.010, day(number + 1), reference_work=REFERENCE_WORK) for number in range(5)]
    assert launch_spread.launch_band(history, virtual=True) == pytest.approx(0.0, abs=1e-12)
    unsteady = [point(0.010 * (1 + number % 2), day(number + 1)) for number in range(12)]
    assert launch_spread.launch_band(unsteady, virtual=False) > 0.5


def test_a_budget_on_what_there_was_no_time_to_count_says_so():
    for complete in (True, False):
        measured = measurement(counters=Counters(counted=complete))
        outcome = check("gflops", 1, measured)
        assert outcome.verdict is Verdict.OVER_BUDGET
        assert ("no time" in outcome.missing) is not complete
        assert ("--infer-max-time" in outcome.note.hint) is not complete
