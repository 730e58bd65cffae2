"""Pictures of figures that a file from elsewhere may hold: what has no place is left out, the rest is drawn."""

import math
import re

import msgspec
from sessions import answer, plan

from pytest_infergate.core.advice.bottleneck import Bottleneck
from pytest_infergate.report.charts import line_charts
from pytest_infergate.report.charts.line_charts import CaseBottleneck, Line


def held(intensity=10.0, flops=1e10, ridge=5.0, bandwidth=1e10):
    found = Bottleneck(
        kind="compute", evidence="figures", intensity=intensity, attained_flops=flops, ridge=ridge
    )
    return CaseBottleneck(label="cpu", machine="cpu, 4 cores", bottleneck=found, bandwidth=bandwidth)


IMPOSSIBLE = (-1.0, -1e-300, 5e-324, 1e308, math.inf, -math.inf, math.nan)


def test_a_case_that_has_no_place_below_the_roof_is_left_out():
    for value in IMPOSSIBLE:
        for field in ("intensity", "flops", "ridge", "bandwidth"):
            strange = held(**{field: value})
            assert line_charts.roofline([strange]) is None, (field, value)
            assert line_charts.roofline([held(), strange]) == line_charts.roofline([held()]), (field, value)


def chart(points, lines=1):
    """Lines of the same points on plain axes."""
    return line_charts._chart(
        [Line(label="line", points=points)] * lines,
        title="t",
        across="x",
        up="y",
        formats=(str, str),
        headers=("x", "y"),
        cells=[(str(x), str(y)) for x, y in points],
    )


def test_a_point_that_has_no_place_is_left_out_of_the_picture_and_not_of_the_table():
    for value in IMPOSSIBLE:
        drawn = chart(((1.0, 1.0), (value, 2.0), (3.0, value), (4.0, 3.0)))
        assert len(drawn.lines[0].points) == 2, value
        assert len(drawn.cells) == 4
        assert chart(((value, 1.0),)) is None


def test_the_widest_axes_that_there_are_hold_their_points():
    drawn = chart(((1e-100, 1e-100), (1e100, 1e100)))
    places = [float(text.rstrip("%")) for point in drawn.lines[0].points for text in point]
    assert all(map(math.isfinite, places))
    assert not re.search("inf|nan", str(drawn))


def test_twelve_lines_have_looks_of_their_own():
    drawn = chart(((1.0, 1.0), (2.0, 2.0)), lines=12)
    assert len({(line.style, line.hollow) for line in drawn.lines}) == 12


def test_a_single_point_is_not_drawn():
    assert chart(((1.0, 2.0),)) is None
    assert chart(((1.0, 2.0), (1.0, 2.0))) is None
    assert chart(((1.0, 2.0), (3.0, 2.0))) is not None


def test_plans_that_cost_the_same_have_no_picture_of_cost_by_latency():
    slower = plan(load=msgspec.structs.replace(plan().load, p95=0.2))
    titles = [each.title for each in line_charts.charts(answer(considered=(plan(), slower)))]
    assert titles == ["Cost by demand"]
    dearer = msgspec.structs.replace(slower, usd_per_month=999.0)
    titles = [each.title for each in line_charts.charts(answer(considered=(plan(), dearer)))]
    assert "Cost by latency" in titles
