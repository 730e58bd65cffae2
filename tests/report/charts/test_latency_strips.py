from __future__ import annotations

import math
import random
import re

from pytest_infergate.report.charts import latency_strips
from pytest_infergate.report.charts.latency_strips import Mark, Series
from pytest_infergate.report.charts.scale import BOX


def series(*values, **fields):
    return Series(label="cpu", figures=("p50 1 s",), percentiles=values, **fields)


def test_what_has_no_distribution_has_no_picture():
    for values in ((), (1.0,), (0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (1.0, math.nan, 2.0)):
        assert latency_strips.picture([series(*values)]) is None, values


def test_a_picture_of_one_constant_time():
    made = latency_strips.picture([series(1.0, 1.0)])
    assert made.strips[0].whisker == "M500 48H500"
    assert made.height == 58 + 26


def distributions():
    """Sorted times: the extremes, and random ones of a fixed seed."""
    generator = random.Random(0)
    yield from ([1e-9, 1e6], [1.0] * 101, [1.0, 1.0, 1.0, 2.0], [1e-9] * 50 + [1e6] * 51)
    for size in (2, 3, 10, 50, 101):
        for low, high in ((-9, 6), (-3, -2), (0, 0.001)):
            yield sorted(10 ** generator.uniform(low, high) for _ in range(size))


def test_an_outline_stays_within_its_box_and_closes():
    for values in distributions():
        made = latency_strips.picture([series(*values)])
        steps = re.findall(r"l(-?\d+) (-?\d+)", made.strips[0].outline)
        start = re.match(r"M(-?\d+) (\d+)", made.strips[0].outline)
        x, y = int(start[1]), int(start[2])
        heights = []
        for dx, dy in steps:
            x, y = x + int(dx), y + int(dy)
            heights.append(y)
        assert min(heights) >= 0, values
        assert max(heights) <= latency_strips.OUTLINE, values
        assert heights[-1] == latency_strips.OUTLINE, values
        assert 0 <= int(start[1]) < x <= BOX + 20, values


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
