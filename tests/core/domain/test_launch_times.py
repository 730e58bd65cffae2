"""A launch: its difference and the error of it, from pairs of blocks."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain.launch_times import Launch


def of(*ratios, base=0.010):
    """A launch with these log ratios."""
    return Launch(base=(base,) * len(ratios), candidate=tuple(base * math.exp(ratio) for ratio in ratios))


def launch(effect=0.0, base=0.010, blocks=30):
    return Launch(base=(base,) * blocks, candidate=(base * (1 + effect),) * blocks)


# The blocks of a launch


def test_a_launch_is_the_trimmed_mean_of_its_log_ratios():
    ratios = [1.03] * 20 + [1.5] * 5 + [0.7] * 5
    found = Launch(base=(0.01,) * 30, candidate=tuple(0.01 * ratio for ratio in ratios))
    assert found.difference == pytest.approx(math.log(1.03))


def test_the_speed_of_the_machine_cancels_block_by_block():
    speeds = [1 + index / 10 for index in range(30)]
    found = Launch(base=tuple(speeds), candidate=tuple(1.05 * speed for speed in speeds))
    assert found.difference == pytest.approx(math.log(1.05))


# The error of one launch


def test_of_fewer_than_four_blocks_the_error_is_unknown():
    for blocks in [1, 2, 3]:
        assert of(*[0.01] * blocks).error == math.inf, blocks


def test_blocks_that_agree_have_no_error():
    for blocks in [4, 5, 9, 10, 30]:
        assert of(*[0.02] * blocks).error == pytest.approx(0, abs=1e-12), blocks


def test_the_error_is_that_of_a_trimmed_mean():
    # Winsorised: 0.01 0.01 0.02 0.03 0.03, their variance 1e-4, over 60 % of five blocks.
    assert of(0.0, 0.01, 0.02, 0.03, 0.5).error == pytest.approx(math.sqrt(1e-4 / 5) / 0.6)


def test_the_order_of_blocks_does_not_matter():
    ratios = [0.01 * index**2 for index in range(12)]
    assert of(*ratios).error == pytest.approx(of(*ratios[::-1]).error)


def test_outlying_blocks_are_not_in_the_error():
    for outlier in [1.0, -1.0]:
        calm = [0.001 * index for index in range(10)]
        assert of(*calm[:-1], outlier).error < 1.5 * of(*calm).error, outlier


@given(st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=40), st.floats(-0.5, 0.5))
def test_a_shift_leaves_the_error(ratios, shift):
    shifted = of(*[ratio + shift for ratio in ratios])
    assert shifted.error == pytest.approx(of(*ratios).error, abs=1e-9)
    assert shifted.difference == pytest.approx(of(*ratios).difference + shift, abs=1e-9)


@given(st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=40))
def test_swapping_the_sides_leaves_the_error(ratios):
    one = of(*ratios)
    assert Launch(base=one.candidate, candidate=one.base).error == pytest.approx(one.error, abs=1e-12)


def test_the_error_is_the_spread_of_differences():
    generator = random.Random(1)
    launches = [of(*(generator.gauss(0, 0.01) for _ in range(30))) for _ in range(400)]
    differences = [one.difference for one in launches]
    seen = math.sqrt(sum(value**2 for value in differences) / len(differences))
    stated = sum(one.error for one in launches) / len(launches)
    assert stated == pytest.approx(seen, rel=0.15)


def test_blocks_that_do_not_pair_have_neither():
    odd = Launch(base=(0.1, 0.1), candidate=(0.1,))
    with pytest.raises(ValueError, match="shorter"):
        _ = odd.difference
    with pytest.raises(ValueError, match="shorter"):
        _ = odd.error
