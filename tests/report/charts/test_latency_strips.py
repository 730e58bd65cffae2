from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.report.charts import latency_strips
from pytest_infergate.report.charts.latency_strips import Mark, Scale, Series


def series(*values, **fields):
    return Series(label="cpu", figures="p50 1 s", percentiles=values, **fields)


@pytest.mark.parametrize(
    "values",
    [(), (1.0,), (0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (1.0, math.nan, 2.0)],
)
def test_what_has_no_distribution_has_no_picture(values):
    assert latency_strips.picture([series(*values)]) is None


def test_a_picture_of_one_constant_time():
    made = latency_strips.picture([series(1.0, 1.0)])
    assert made.strips[0].whisker == "M500 48H500"
    assert made.height == 58 + 26


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.038, 0.044, (0.038, 0.04, 0.042, 0.044)),
        (0.001, 0.01, (0.001, 0.002, 0.005, 0.01)),
        (0.002, 0.2, (0.003, 0.01, 0.03, 0.1)),
        (1e-6, 1.0, (1e-5, 1e-3, 0.1)),
    ],
)
def test_ticks_are_round(low, high, expected):
    ticks = latency_strips.ticks(Scale(low=low, high=high * 1.0001))
    if len(expected) > 3:
        assert ticks == pytest.approx(expected)
    assert 2 <= len(ticks) <= 6


@given(st.floats(1e-9, 1e6), st.floats(1.001, 1e12))
def test_ticks_lie_within_their_scale(low, factor):
    scale = Scale(low=low, high=low * factor)
    ticks = latency_strips.ticks(scale)
    assert len(ticks) <= 7
    assert all(scale.low * 0.999 <= tick <= scale.high * 1.001 for tick in ticks)


@given(st.lists(st.floats(1e-9, 1e6), min_size=2, max_size=101))
def test_an_outline_stays_within_its_box_and_closes(values):
    values = tuple(sorted(values))
    made = latency_strips.picture([series(*values)])
    steps = re.findall(r"l(-?\d+) (-?\d+)", made.strips[0].outline)
    start = re.match(r"M(-?\d+) (\d+)", made.strips[0].outline)
    x, y = int(start[1]), int(start[2])
    heights = []
    for dx, dy in steps:
        x, y = x + int(dx), y + int(dy)
        heights.append(y)
    assert min(heights) >= 0
    assert max(heights) <= latency_strips.OUTLINE
    assert heights[-1] == latency_strips.OUTLINE
    assert 0 <= int(start[1]) < x <= latency_strips.BOX + 20


def test_two_modes_are_two_hills():
    values = sorted([*(1 + 0.001 * i for i in range(50)), *(1.5 + 0.001 * i for i in range(51))])
    outline = latency_strips.picture([series(*values)]).strips[0].outline
    y, heights = latency_strips.OUTLINE, []
    for dy in re.findall(r"l-?\d+ (-?\d+)", outline):
        y += int(dy)
        heights.append(latency_strips.OUTLINE - y)
    peaks = [
        b for a, b, c in zip(heights, heights[1:], heights[2:], strict=False) if b >= a and b > c and b > 5
    ]
    assert len(peaks) == 2


def test_marks_stand_on_the_shared_scale_and_far_ones_are_omitted():
    near = series(1.0, 2.0, marks=(Mark(symbol="limit", seconds=4.0), Mark(symbol="p50", seconds=1.0)))
    far = series(1.0, 2.0, marks=(Mark(symbol="limit", seconds=100.0),))
    made = latency_strips.picture([near])
    assert made.strips[0].marks == (("limit", "98.0%"), ("p50", "2.0%"))
    assert not made.omitted
    made = latency_strips.picture([far])
    assert made.strips[0].marks == ()
    assert made.omitted
