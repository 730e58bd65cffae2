"""The decision of the paired gate, on plain numbers."""

import math
import random

import pytest

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import paired_times
from pytest_infergate.core.gate.launch_location import Spread, location
from pytest_infergate.core.gate.paired_times import (
    CONFIRM_ANALYSES,
    SCREEN_ANALYSES,
    Decision,
    PairedTerms,
    Stage,
    checked_in_plain,
    compared,
    comparison,
    decide,
    launches_to_next_analysis,
)

PLAN = PairedTerms()


def near(effect, count, spread=0.002):
    """Log ratios evenly spread about an effect, in an order that keeps every analysis centred."""
    offsets = [spread * (-1) ** index * (1 + index % 3) / 3 for index in range(count)]
    return [math.log1p(effect) + offset for offset in offsets]


def launch(effect=0.0, base=0.010, blocks=30):
    return Launch(base=(base,) * blocks, candidate=(base * (1 + effect),) * blocks)


# The other cases of a run


def others(deviation, degrees=40):
    return Spread(squares=degrees * deviation**2, degrees=degrees)


def test_others_settle_a_case_sooner():
    screen = [0.004, -0.006, 0.008]
    assert decide(screen, (), PLAN) == Decision(stage=Stage.SCREEN)
    found = decide(screen, (), PLAN, others={3: others(0.008)})
    assert found == Decision(stage=Stage.DONE, verdict=Verdict.EQUIVALENT)
    assert decide(screen, (), PLAN, others={3: others(0.020)}).stage is Stage.SCREEN


def test_a_case_alone_is_not_decided_by_three_launches():
    assert decide([0.0, 0.0001, 0.0002], (), PLAN).stage is Stage.SCREEN
    assert decide([0.1, 0.1001, 0.1002], (), PLAN).stage is Stage.SCREEN
    assert decide([0.1, 0.1001, 0.1002], (), PLAN, others={3: others(0.008)}).stage is Stage.CONFIRM


def test_the_others_of_another_analysis_do_not_count():
    assert decide([0.004, -0.006, 0.008], (), PLAN, others={5: others(0.008)}).stage is Stage.SCREEN


def test_others_confirm_nothing():
    screen, confirm = near(0.05, 5), near(0.045, 5, spread=0.03)
    analyses = {analysis: others(0.001) for analysis in (3, 5, 7, 10, 15)}
    alone = decide(screen, confirm, PLAN)
    assert alone == decide(screen, confirm, PLAN, others=analyses) == Decision(stage=Stage.CONFIRM)


def test_the_interval_of_a_case_settled_with_others_is_theirs_too():
    launches = [launch(effect) for effect in (0.004, -0.006, 0.008)]
    decision = Decision(stage=Stage.DONE, verdict=Verdict.EQUIVALENT)
    alone = comparison(launches, (), PLAN, decision)
    joined = comparison(launches, (), PLAN, decision, others={3: others(0.008)})
    assert joined.effect == alone.effect
    assert alone.low < joined.low < joined.high < alone.high
    assert joined.smallest_detectable < alone.smallest_detectable
    confirmed = comparison(launches, launches, PLAN, decision, others={3: others(0.008)})
    assert (confirmed.low, confirmed.high) == (alone.low, alone.high)


# The screen


def test_before_the_first_analysis_nothing_is_decided():
    for count in range(SCREEN_ANALYSES[0]):
        assert decide(near(1.0, count), (), PLAN) == Decision(stage=Stage.SCREEN), count


def test_a_case_well_within_its_tolerance_is_done_at_the_first_analysis():
    for effect, verdict in [
        (0.0, Verdict.EQUIVALENT),
        (0.004, Verdict.EQUIVALENT),
        (0.012, Verdict.SLOWER_WITHIN_TOLERANCE),
        (-0.004, Verdict.EQUIVALENT),
        (-0.05, Verdict.IMPROVED),
    ]:
        screen = near(effect, paired_times.MIN_LAUNCHES_UNPOOLED, spread=0.0005)
        assert decide(screen, (), PLAN) == Decision(stage=Stage.DONE, verdict=verdict), (effect, verdict)


def test_a_slower_case_goes_to_confirmation():
    for effect in [0.03, 0.05, 1.0]:
        assert decide(near(effect, 5), (), PLAN) == Decision(stage=Stage.CONFIRM), effect


def test_between_analyses_the_stage_stays():
    unsure = near(0.0, 6, spread=0.05)
    assert decide(unsure, (), PLAN) == Decision(stage=Stage.SCREEN)


def test_a_case_too_unsteady_is_inconclusive_at_the_last_analysis():
    assert decide(near(-0.01, 15, spread=0.3), (), PLAN).verdict is Verdict.INCONCLUSIVE


def test_a_case_too_unsteady_and_above_its_tolerance_is_confirmed():
    assert decide(near(0.05, 15, spread=0.5), (), PLAN).stage is Stage.CONFIRM


# Confirmation


def test_fresh_launches_confirm():
    decision = decide(near(0.05, 5), near(0.05, 5), PLAN)
    assert decision == Decision(stage=Stage.DONE, verdict=Verdict.REGRESSED)


def test_launches_of_the_screen_confirm_nothing():
    assert decide(near(0.05, 10), (), PLAN) == Decision(stage=Stage.CONFIRM)


def test_a_suspicion_that_fresh_launches_do_not_bear_out_is_dropped():
    decision = decide(near(0.05, 5), near(0.0, 5), PLAN)
    assert decision == Decision(stage=Stage.DONE, verdict=Verdict.EQUIVALENT)


def test_what_fifteen_launches_neither_confirm_nor_refute_is_suspected():
    decision = decide(near(0.05, 5), near(0.022, 15, spread=0.03), PLAN)
    assert decision == Decision(stage=Stage.DONE, verdict=Verdict.SUSPECTED)


def test_an_effect_below_the_tolerance_is_never_regressed():
    decision = decide(near(0.05, 5), near(0.019, 15, spread=1e-5), PLAN)
    assert decision.verdict is Verdict.SLOWER_WITHIN_TOLERANCE


def test_a_steady_effect_must_clear_the_floor_of_the_instrument():
    plan = PairedTerms(tolerance=0.0, floor=0.01)
    assert decide(near(0.008, 5, 1e-4), near(0.008, 15, 1e-4), plan).verdict is not Verdict.REGRESSED


def test_cases_in_confirmation_share_the_level_beyond_two():
    """The level is 0.00151 times 2 / cases, and never more than 0.00151."""
    offsets = [0.0, 0.009, -0.009, 0.003, -0.003]
    spread = location(offsets)
    for confirming, level in [
        (0, 0.00151),
        (1, 0.00151),
        (2, 0.00151),
        (3, 0.00151 * 2 / 3),
        (4, 0.000755),
        (20, 0.000151),
    ]:
        bound = math.log1p(PLAN.floor) + spread.half_width(level)
        assert bound > math.log1p(PLAN.tolerance)
        for distance, stage in [(1e-9, Stage.DONE), (-1e-9, Stage.CONFIRM)]:
            fresh = [bound + distance + offset for offset in offsets]
            found = decide(near(0.05, 5), fresh, PLAN, confirming=confirming)
            assert found.stage is stage, (confirming, distance)
            assert found.verdict is (Verdict.REGRESSED if stage is Stage.DONE else None), (
                confirming,
                distance,
            )


def test_a_wider_tolerance_forgives():
    for tolerance in [0.05, 0.2]:
        assert decide(near(0.03, 5), (), PairedTerms(tolerance=tolerance)).stage is Stage.DONE, tolerance


def test_how_many_launches_a_case_needs_next():
    for stage, screen, confirm, more in [
        (Stage.SCREEN, 0, 0, 3),
        (Stage.SCREEN, 3, 0, 2),
        (Stage.SCREEN, 5, 0, 2),
        (Stage.SCREEN, 8, 0, 2),
        (Stage.SCREEN, 10, 0, 5),
        (Stage.CONFIRM, 5, 0, 5),
        (Stage.CONFIRM, 7, 10, 5),
        (Stage.CONFIRM, 7, 15, 0),
        (Stage.DONE, 5, 0, 0),
    ]:
        assert launches_to_next_analysis(stage, screen, confirm) == more, (stage, screen, confirm, more)


# The row


def test_a_regression_in_a_row():
    screen = [launch(0.05 + offset) for offset in (0.0, 0.001, -0.001, 0.002, -0.002)]
    decision = decide([one.difference for one in screen], [one.difference for one in screen], PLAN)
    row = comparison(screen, screen, PLAN, decision)
    assert (row.metric, row.evidence, row.verdict) == ("p50", "paired", Verdict.REGRESSED)
    assert row.baseline == pytest.approx(0.010)
    assert row.candidate == pytest.approx(0.0105, rel=1e-4)
    assert row.effect == pytest.approx(0.05, abs=1e-4)
    assert 0.045 < row.low < row.effect < row.high < 0.055
    assert row.sessions == 5
    assert row.tolerance == 0.02
    assert 0 < row.smallest_detectable < 0.01
    assert row.note is None


def test_launches_that_ran_out_are_said():
    stopped = Note(code="time-limit", text="the time is up")
    row = comparison([launch(0.0), launch(0.1)], (), PLAN, Decision(stage=Stage.SCREEN), stopped=stopped)
    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.note == stopped


def test_a_case_without_launches_has_no_effect():
    row = comparison((), (), PLAN, Decision(stage=Stage.SCREEN))
    assert (row.verdict, row.effect, row.baseline) == (Verdict.INCONCLUSIVE, None, None)


def test_an_open_case_names_the_launches_that_would_decide_it(snapshot):
    unsteady = [launch(0.05 * (-1) ** index - 0.01) for index in range(15)]
    decision = decide([one.difference for one in unsteady], (), PLAN)
    row = comparison(unsteady, (), PLAN, decision)
    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.note.code == "undecided"
    assert str(row.note) == snapshot


# Laws, by seeded simulation


def verdicts(effect, spread, outlier, runs, seed=1):
    """Verdicts of simulated cases; a share of `outlier` launches is off by 10 % more."""
    generator = random.Random(seed)

    def draw(count):
        return [
            math.log1p(effect)
            + generator.gauss(0, spread)
            + (generator.gauss(0, 0.10) if generator.random() < outlier else 0.0)
            for _ in range(count)
        ]

    for _ in range(runs):
        yield decide(draw(15), draw(15), PLAN).verdict


def test_identical_code_is_never_regressed():
    for outlier, decided in [(0.0, 0.99), (0.05, 0.9), (0.15, 0.7)]:
        found = list(verdicts(0.0, 0.012, outlier, 400))
        assert Verdict.REGRESSED not in found, (outlier, decided)
        assert found.count(Verdict.EQUIVALENT) + found.count(Verdict.IMPROVED) >= decided * len(found), (
            outlier,
            decided,
        )


def test_a_slowdown_is_detected_although_one_launch_in_twenty_is_an_outlier():
    for effect, share in [(0.03, 0.85), (0.05, 0.95)]:
        found = list(verdicts(effect, 0.010, 0.05, 300))
        assert found.count(Verdict.REGRESSED) >= share * len(found), (effect, share)


def test_every_analysis_is_planned():
    assert SCREEN_ANALYSES == (3, 5, 7, 10, 15)
    assert CONFIRM_ANALYSES == (5, 7, 10, 15)
    multipliers = [location(near(0, 5)).half_width(level) / location(near(0, 5)).error
                   for level in (paired_times.SUSPECT, paired_times.EQUIVALENT, paired_times.REGRESSED, paired_times.REFUTED)]  # fmt: skip
    assert multipliers == pytest.approx([2.09, 2.81, 6.42, 3.06], abs=0.01)


# Plain processes


def spread_launch(effect, base, spread=0.01, blocks=40):
    """A launch whose blocks differ, so that it has an error."""
    candidate = tuple(base * (1 + effect + spread * (-1) ** index) for index in range(blocks))
    return Launch(base=(base,) * blocks, candidate=candidate)


@pytest.mark.parametrize(
    ("base", "effect", "red"),
    [
        (0.010, -0.06, True),  # as fast as in the workers: one launch does not outweigh five
        (0.0081, -0.06, True),
        (0.0124, -0.06, True),
        (0.0055, -0.06, False),
        (0.0055, 0.0, False),
        (0.0055, 0.006, False),  # not surely above the floor
        (0.0055, 0.05, True),
        (0.0300, -0.06, False),
        (0.0300, 0.05, True),
    ],
)
def test_a_regression_that_plain_processes_contradict_is_only_suspected(base, effect, red, snapshot):
    confirm = [spread_launch(0.05, 0.010) for _ in range(5)]
    row = compared([launch(0.05)] * 5, confirm, PLAN, confirming=1)
    assert row.verdict is Verdict.REGRESSED
    found = checked_in_plain(row, confirm, spread_launch(effect, base), PLAN)
    if red:
        assert found == row
    else:
        assert (found.verdict, found.note.code) == (Verdict.SUSPECTED, "regimes-differ")
        assert (found.effect, found.low, found.high) == (row.effect, row.low, row.high)
        assert str(found.note) == snapshot


def test_only_a_regression_is_checked_in_plain_processes():
    row = compared([launch(0.0)] * 5, (), PLAN, confirming=0)
    assert row.verdict is Verdict.EQUIVALENT
    assert checked_in_plain(row, (), spread_launch(-0.5, 0.001), PLAN) is row


def test_too_few_blocks_of_plain_processes_contradict_nothing():
    confirm = [launch(0.05)] * 5
    row = compared([launch(0.05)] * 5, confirm, PLAN, confirming=1)
    assert checked_in_plain(row, confirm, launch(-0.06, base=0.001, blocks=3), PLAN) is row
