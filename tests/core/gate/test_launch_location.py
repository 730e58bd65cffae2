"""The mean log ratio of a case over its launches, and the spread of the other cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.gate.launch_location import Spread, location, spreads_of_others


def near(effect, count, spread=0.002):
    """Log ratios evenly spread about an effect, in an order that keeps every analysis centred."""
    offsets = [spread * (-1) ** index * (1 + index % 3) / 3 for index in range(count)]
    return [math.log1p(effect) + offset for offset in offsets]


# Location


def test_without_outliers_the_location_is_the_mean():
    found = location([0.010, 0.012, 0.011, 0.009, 0.013])
    assert found.value == pytest.approx(0.011)
    assert found.error == pytest.approx(math.sqrt(2.5e-6 / 5))
    assert found.degrees == 4


CALM = [0.010, 0.012, 0.011, 0.009, 0.010, 0.011, 0.010, 0.009, 0.011]


def test_one_outlier_in_ten_is_clamped():
    for outlier, pulled in [(0.127, 0.010 + 2.5 * 0.004), (-0.079, 0.010 - 2.5 * 0.004)]:
        found = location([*CALM, outlier])
        assert found.value == pytest.approx((sum(CALM) + pulled) / 10, abs=5e-4), (outlier, pulled)
        assert found.error < 0.0015, (outlier, pulled)


def test_of_fewer_launches_none_is_clamped():
    for count in [5, 7, 9]:
        found = location([*CALM[: count - 1], 0.127])
        assert found.value == pytest.approx((sum(CALM[: count - 1]) + 0.127) / count), count


def test_two_outliers_in_ten_are_a_mode_of_the_machine():
    found = location([*CALM[:8], 0.127, 0.127])
    assert found.value == pytest.approx((sum(CALM[:8]) + 0.254) / 10)


def test_launches_that_agree_by_chance_do_not_make_the_next_one_an_outlier():
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


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=15), st.floats(0, 0.5), st.integers(0, 500))
def test_others_never_widen_an_interval(differences, deviation, degrees):
    joined = location(differences, others(deviation, degrees))
    assert joined.half_width(0.01) <= location(differences).half_width(0.01)
