"""What a machine can decide: the reach that is stated is the one that the rules have."""

import math
import random

import pytest
from core_values import counted, measurement

from pytest_infergate.core.domain.machine_values import Examination, ModelLaunches
from pytest_infergate.core.gate.decidable import LAUNCHES_AT_MOST, decidable
from pytest_infergate.core.gate.paired_times import PairedTerms, Stage, decide


def rows(count, seed=0):
    chance = random.Random(seed)
    return [[chance.gauss(0, 1) for _ in range(LAUNCHES_AT_MOST)] for _ in range(count)]


def examined(*differences, overhead=8.0, case=2.0, **fields):
    models = tuple(ModelLaunches(name=str(index), differences=one) for index, one in enumerate(differences))
    return Examination(models=models, paired_overhead=overhead, paired_case=case, **fields)


def launched(*medians, speeds=(), contention=0.0):
    """A model whose launches have these medians, and these factors of its reference workloads."""
    speeds = speeds or (1.0,) * len(medians)
    return ModelLaunches(
        name="model",
        measurements=tuple(
            measurement(
                median,
                reference_work={"compute": 1e-3 * speed, "copy": 2e-3 * speed},
                counters=counted(flops=100, operators=7),
                contention=contention,
            )
            for median, speed in zip(medians, speeds, strict=True)
        ),
    )


def test_nine_of_ten_runs_report_the_stated_slowdown():
    found = decidable(examined((0.02, -0.02), (0.02, -0.02)), rows(200), virtual=True)
    longest = found.paired[-1]
    assert found.paired_spread.value == pytest.approx(0.02 * math.sqrt(2))
    assert found.paired_spread.low < found.paired_spread.value < found.paired_spread.high
    assert longest.launches == LAUNCHES_AT_MOST
    assert longest.smallest.low < longest.smallest.value < longest.smallest.high
    # The rule itself, on other draws: all launches are there from the start, as in a run without a limit.
    for slowdown, least, most in ((longest.smallest.value, 0.86, 0.94), (longest.smallest.value / 2, 0, 0.3)):
        regressed = 0
        for row in rows(300, seed=1):
            ratios = [math.log1p(slowdown) + found.paired_spread.value * draw for draw in row]
            decision = decide(ratios[:15], ratios[15:30], PairedTerms())
            regressed += decision.stage is Stage.DONE and decision.verdict.value == "regressed"
        assert least <= regressed / 300 <= most


def test_a_short_paired_run_detects_less_or_nothing():
    found = decidable(examined((0.02, -0.02)), rows(50), virtual=True)
    assert [(one.minutes, one.launches) for one in found.paired] == [(2.0, 12), (5.0, 30), (10.0, 31)]
    assert found.paired[0].smallest.value > found.paired[1].smallest.value
    found = decidable(examined((0.02, -0.02), overhead=60.0), rows(50), virtual=True)
    assert [(one.launches, one.smallest) for one in found.paired] == [(1, None), (4, None), (9, None)]


def test_the_reach_of_a_baseline_is_that_of_its_rule():
    # Two launches of this difference have a standard deviation of 2.7 %: docs/method.md has the same figures.
    step = math.exp(0.027 * math.sqrt(2))
    found = decidable(Examination(models=(launched(0.01, 0.01 * step),)), (), virtual=True)
    assert found.stored_spread.value == pytest.approx(0.027)
    reaches = {one.sessions: one.smallest.value for one in found.stored}
    assert reaches == pytest.approx({1: 1.33, 3: 1.00, 12: 0.19}, abs=0.01)


def test_reference_workloads_correct_the_spread_but_not_where_they_disagree():
    found = decidable(Examination(models=(launched(0.01, 0.02, speeds=(1.0, 2.0)),)), (), virtual=True)
    assert found.raw_spread.value == pytest.approx(math.log(2) / math.sqrt(2))
    assert found.stored_spread.value == pytest.approx(0)
    steady = found.stored[-1].smallest.value
    one, other = launched(0.01, 0.01).measurements
    model = ModelLaunches(
        name="model",
        measurements=(
            one,
            measurement(
                0.01, reference_work={"compute": 1.2e-3, "copy": 2e-3 / 1.2}, counters=other.counters
            ),
        ),
    )
    assert decidable(Examination(models=(model,)), (), virtual=True).stored[-1].smallest.value > steady


def test_contention_leaves_little_to_decide():
    quiet, busy = (
        decidable(Examination(models=(launched(0.01, 0.0101),), contention=share), (), virtual=True)
        for share in (0.0, 0.5)
    )
    assert busy.stored[-1].smallest.value > 4 > quiet.stored[-1].smallest.value


def test_counters_that_differ_between_launches_are_named():
    model = launched(0.01, 0.01)
    assert decidable(Examination(models=(model,)), (), virtual=True).counters is True
    other = measurement(0.01, counters=counted(flops=100, operators=8))
    changed = ModelLaunches(name="model", measurements=(*model.measurements, other))
    found = decidable(Examination(models=(changed,)), (), virtual=True)
    assert (found.counters, found.varying) == (False, ("operators",))


def test_nothing_is_stated_without_launches():
    found = decidable(Examination(), (), virtual=False)
    assert (found.counters, found.paired, found.stored, found.stored_spread) == (None, (), (), None)
    # The band of a budget is a prior that a launch does not need.
    assert 0 < found.budget < decidable(Examination(), (), virtual=True).budget
    single = decidable(Examination(models=(launched(0.01),)), (), virtual=True)
    assert (single.counters, single.stored) == (None, ())
