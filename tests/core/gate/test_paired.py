"""The decision of the paired gate, on plain numbers."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.gate import paired
from pytest_infergate.core.gate.launch_location import Spread, location, spreads_of_others
from pytest_infergate.core.gate.paired import (
    CONFIRM_ANALYSES,
    SCREEN_ANALYSES,
    Decision,
    PairedTerms,
    Stage,
    comparison,
    decide,
    launches_to_next_analysis,
)

PLAN = PairedTerms()


def near(effect, count, spread=0.002):
    """Log ratios evenly spread about an effect, in an order that keeps every look centred."""
    offsets = [spread * (-1) ** index * (1 + index % 3) / 3 for index in range(count)]
    return [math.log1p(effect) + offset for offset in offsets]


def launch(effect=0.0, base=0.010, turns=30):
    return Launch(base=(base,) * turns, candidate=(base * (1 + effect),) * turns)


# Location


def test_without_wild_launches_the_location_is_the_mean():
    found = location([0.010, 0.012, 0.011, 0.009, 0.013])
    assert found.value == pytest.approx(0.011)
    assert found.error == pytest.approx(math.sqrt(2.5e-6 / 5))
    assert found.degrees == 4


CALM = [0.010, 0.012, 0.011, 0.009, 0.010, 0.011, 0.010, 0.009, 0.011]


def test_one_wild_launch_in_ten_is_pulled_in():
    for wild, pulled in [(0.127, 0.010 + 2.5 * 0.004), (-0.079, 0.010 - 2.5 * 0.004)]:
        found = location([*CALM, wild])
        assert found.value == pytest.approx((sum(CALM) + pulled) / 10, abs=5e-4), (wild, pulled)
        assert found.error < 0.0015, (wild, pulled)


def test_of_fewer_launches_none_is_pulled_in():
    for count in [5, 7, 9]:
        found = location([*CALM[: count - 1], 0.127])
        assert found.value == pytest.approx((sum(CALM[: count - 1]) + 0.127) / count), count


def test_two_wild_launches_in_ten_are_a_mode_of_the_machine():
    found = location([*CALM[:8], 0.127, 0.127])
    assert found.value == pytest.approx((sum(CALM[:8]) + 0.254) / 10)


def test_launches_that_agree_by_chance_do_not_make_the_next_one_wild():
    found = location([0.01] * 9 + [0.018])
    assert found.value == pytest.approx(0.0108)


def test_one_launch_has_no_location():
    with pytest.raises(ValueError, match="two"):
        location([0.01])


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=15))
def test_swapping_the_sides_flips_the_sign(differences):
    there, back = location(differences), location([-value for value in differences])
    assert back.value == pytest.approx(-there.value, abs=1e-12)
    assert back.error == pytest.approx(there.error, abs=1e-12)


# The other cases of a run


def others(deviation, degrees=40):
    return Spread(squares=degrees * deviation**2, degrees=degrees)


def test_the_spread_of_others_leaves_out_the_case_itself():
    found = spreads_of_others([[0.0, 0.02], [0.01, 0.01, 0.04], [0.5], []])
    assert [one.squares for one in found] == pytest.approx([6e-4, 2e-4, 8e-4, 8e-4])
    assert [one.degrees for one in found] == [2, 1, 3, 3]


def test_a_case_alone_has_no_others():
    assert spreads_of_others([[0.01, 0.02, 0.03]]) == [Spread()]
    assert spreads_of_others([]) == []


def test_a_few_launches_are_joined_by_those_of_other_cases():
    alone, joined = location([0.007, 0.013, 0.010]), location([0.007, 0.013, 0.010], others(0.004))
    assert (joined.value, joined.error, joined.degrees) == (alone.value, alone.error, alone.degrees)
    assert joined.joint_error == pytest.approx(0.004 / math.sqrt(3))
    assert joined.joint_degrees == 42
    assert joined.half_width(0.005) == pytest.approx(2.698 * 0.004 / math.sqrt(3), rel=1e-3)


def test_a_case_is_never_surer_by_others_than_by_its_own_spread():
    own = [0.00, 0.02, 0.01]  # a standard deviation of 0.01, theirs is 0.008
    assert location(own, others(0.008)).joint_error == pytest.approx(0.01 / math.sqrt(3))


def test_a_case_much_less_steady_than_the_others_is_judged_by_itself():
    own = [0.00, 0.02, 0.01]
    assert location(own, others(0.006)) == location(own)


def test_a_case_steadier_than_the_others_needs_them_not():
    steady = [0.0100, 0.0101, 0.0102, 0.0101, 0.0100]
    assert location(steady, others(0.02)).half_width(0.02) == location(steady).half_width(0.02)


def test_too_few_others_say_nothing():
    for spread in [others(0.004, degrees=9), Spread(), None]:
        assert location([0.010, 0.012, 0.011], spread) == location([0.010, 0.012, 0.011]), spread


def test_others_that_do_not_differ_at_all_say_nothing_of_one_that_does():
    assert location([0.010, 0.012, 0.011], others(0.0)) == location([0.010, 0.012, 0.011])


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


def test_the_others_of_another_look_do_not_count():
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


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=15), st.floats(0, 0.5), st.integers(0, 500))
def test_others_never_widen_an_interval(differences, deviation, degrees):
    joined = location(differences, others(deviation, degrees))
    assert joined.half_width(0.01) <= location(differences).half_width(0.01)


# The turns of a launch


def test_a_launch_is_the_trimmed_mean_of_its_log_ratios():
    ratios = [1.03] * 20 + [1.5] * 5 + [0.7] * 5
    found = Launch(base=(0.01,) * 30, candidate=tuple(0.01 * ratio for ratio in ratios))
    assert found.difference == pytest.approx(math.log(1.03))


def test_the_speed_of_the_machine_cancels_turn_by_turn():
    speeds = [1 + index / 10 for index in range(30)]
    found = Launch(base=tuple(speeds), candidate=tuple(1.05 * speed for speed in speeds))
    assert found.difference == pytest.approx(math.log(1.05))


# The screen


def test_before_the_first_look_nothing_is_decided():
    for count in range(SCREEN_ANALYSES[0]):
        assert decide(near(1.0, count), (), PLAN) == Decision(stage=Stage.SCREEN), count


def test_a_case_well_within_its_tolerance_is_done_at_the_first_look():
    for effect, verdict in [
        (0.0, Verdict.EQUIVALENT),
        (0.004, Verdict.EQUIVALENT),
        (0.012, Verdict.SLOWER_WITHIN_TOLERANCE),
        (-0.004, Verdict.EQUIVALENT),
        (-0.05, Verdict.IMPROVED),
    ]:
        screen = near(effect, paired.MIN_LAUNCHES_UNPOOLED, spread=0.0005)
        assert decide(screen, (), PLAN) == Decision(stage=Stage.DONE, verdict=verdict), (effect, verdict)


def test_a_slower_case_goes_to_confirmation():
    for effect in [0.03, 0.05, 1.0]:
        assert decide(near(effect, 5), (), PLAN) == Decision(stage=Stage.CONFIRM), effect


def test_between_looks_the_stage_stays():
    unsure = near(0.0, 6, spread=0.05)
    assert decide(unsure, (), PLAN) == Decision(stage=Stage.SCREEN)


def test_a_case_too_unsteady_is_inconclusive_at_the_last_look():
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


def test_an_open_case_says_what_would_settle_it(snapshot):
    unsteady = [launch(0.05 * (-1) ** index - 0.01) for index in range(15)]
    decision = decide([one.difference for one in unsteady], (), PLAN)
    row = comparison(unsteady, (), PLAN, decision)
    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.note.code == "undecided"
    assert str(row.note) == snapshot


# Laws, by seeded simulation


def verdicts(effect, spread, wild, runs, seed=1):
    """Verdicts of simulated cases; a share of `wild` launches is off by 10 % more."""
    generator = random.Random(seed)

    def draw(count):
        return [
            math.log1p(effect)
            + generator.gauss(0, spread)
            + (generator.gauss(0, 0.10) if generator.random() < wild else 0.0)
            for _ in range(count)
        ]

    for _ in range(runs):
        yield decide(draw(15), draw(15), PLAN).verdict


def test_identical_code_is_never_regressed():
    for wild, decided in [(0.0, 0.99), (0.05, 0.9), (0.15, 0.7)]:
        found = list(verdicts(0.0, 0.012, wild, 400))
        assert Verdict.REGRESSED not in found, (wild, decided)
        assert found.count(Verdict.EQUIVALENT) + found.count(Verdict.IMPROVED) >= decided * len(found), (
            wild,
            decided,
        )


def test_a_slowdown_is_caught_though_one_launch_in_twenty_is_wild():
    for effect, share in [(0.03, 0.85), (0.05, 0.95)]:
        found = list(verdicts(effect, 0.010, 0.05, 300))
        assert found.count(Verdict.REGRESSED) >= share * len(found), (effect, share)


def test_every_look_is_planned():
    assert SCREEN_ANALYSES == (3, 5, 7, 10, 15)
    assert CONFIRM_ANALYSES == (5, 7, 10, 15)
    multipliers = [location(near(0, 5)).half_width(level) / location(near(0, 5)).error
                   for level in (paired.SUSPECT, paired.EQUIVALENT, paired.REGRESSED, paired.REFUTED)]  # fmt: skip
    assert multipliers == pytest.approx([2.09, 2.81, 6.42, 3.06], abs=0.01)
