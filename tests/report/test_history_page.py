"""The page and the table of a history."""

import random
import re
from itertools import pairwise

import pytest
from core_values import HARDWARE, OTHER_HARDWARE, case
from pages import Page

from pytest_infergate.core.domain.history_values import CaseSeries, SeriesPoint
from pytest_infergate.core.gate.trends import trends_of
from pytest_infergate.report.charts.history_lines import history_picture
from pytest_infergate.report.history_page import render_history
from pytest_infergate.report.history_text import history_table, sparkline


def series(test="tests/test_a.py::test_a", count=40, *, step=None, hardware=HARDWARE, accepted=(), seed=1):
    generator = random.Random(seed)
    points = tuple(
        SeriesPoint(
            created=f"2026-{1 + day // 28:02}-{1 + day % 28:02}T03:00:00Z",
            p50=0.01 * generator.lognormvariate(0, 0.01) * (1.2 if step is not None and day >= step else 1),
            speed=None,
            failed=day == step,
            commit=f"{day:040x}",
            release="v1.0" if day == 3 else None,
        )
        for day in range(count)
    )
    return CaseSeries(case(test), hardware.id, points, accepted)


@pytest.fixture
def trends():
    accepted = (("2026-01-20T00:00:00Z", "larger <b>model</b>"),)
    found = [
        series(step=25),
        series("tests/test_b.py::test_b", seed=2),
        series("tests/test_b.py::test_b", hardware=OTHER_HARDWARE, accepted=accepted, seed=3),
    ]
    return trends_of(found, {0: [25]})


def test_what_drifted_comes_first_and_is_said(trends):
    page = render_history(trends, "s3://bucket/history")
    assert "<h1>1 of 3 series became slower: tests/test_a.py::test_a[cpu] the most, +19" in page
    assert page.index("test_a.py::test_a[cpu]</a>") < page.index("test_b.py::test_b[cpu]</a>")
    assert " since 2026-01-26</h1>" in page
    assert re.search(r"Change point: \+[12]\d\.\d % on 2026-01-26 at commit 0000000000\.", page)
    assert page.count("<figure") == 3
    assert "larger &lt;b&gt;model&lt;/b&gt;" in page


def test_the_page_is_self_contained_and_has_no_script(trends):
    page = render_history(trends, "s3://bucket/history")
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "default-src 'none'" in page


def test_filters_are_links_to_existing_anchors(trends):
    page = Page(render_history(trends, "h"))
    links = [one["href"] for one in page.find("a")]
    assert {"#k-slower", "#k-steady", "#m0", "#m1", "#f0", "#f1"} <= set(links)
    assert {link.removeprefix("#") for link in links} <= set(page.ids)
    for link in ("k-slower", "m0", "f1"):
        assert f"#{link}:target~main .x:not(.{link})" in page.markup


def test_simulated_figures_are_marked(trends):
    assert "Simulated." in render_history(trends, "h", simulated=True)
    assert "Simulated." not in render_history(trends, "h")
    assert "no change points" in render_history(trends, "h", ["no change points"])


def test_hostile_names_stay_text(sample):
    found = [series(f"{name}::t", seed=number) for number, name in enumerate(sample.hostile)]
    page = render_history(trends_of(found), "h")
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\x1b" not in history_table(trends_of(found))


@pytest.mark.parametrize("count", [1, 2, 39, 161, 1000])
def test_pictures_of_any_length(count):
    (trend,) = trends_of([series(count=count)])
    picture = history_picture(trend)
    points = [tuple(map(float, pair.split(","))) for pair in picture.path.split()]
    assert len(points) == min(count, 160)
    assert all(0 <= x <= 1000 and 0 <= y <= 120 for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_a_drift_without_a_step_that_explains_it_is_gradual():
    found = series(count=60)
    points = tuple(
        point._replace(p50=0.01 * 1.005**day, failed=False) for day, point in enumerate(found.points)
    )
    page = render_history(trends_of([found._replace(points=points)], {0: [10, 20, 30, 40, 45, 50, 55]}), "h")
    assert "the most, +30" in page
    assert ", gradually</h1>" in page
    assert "<td>2026-01-11, gradually</td>" in page  # the first step
    assert "since 2026-01-01, gradually. Change points: " in page
    assert "; 2 earlier." in page


def test_steps_for_the_better_look_different():
    (trend,) = trends_of([series(count=60, step=30)], {0: [30]})
    (back,) = trends_of([trend.series._replace(points=trend.series.points[::-1])], {0: [30]})
    kinds = [{mark.kind for mark in history_picture(one).marks} for one in (trend, back)]
    assert kinds == [{"release", "change"}, {"release", "improvement"}]


def test_labels_do_not_overlap():
    (trend,) = trends_of([series(count=60)], {0: [10, 11, 12, 40, 59]})
    marks = [mark for mark in history_picture(trend).marks if mark.kind in ("change", "improvement")]
    assert len(marks) == 5
    shown = [float(mark.at.rstrip("%")) for mark in marks if mark.text]
    assert all(late - early >= 8 for early, late in pairwise(shown))


def test_a_sparkline_has_the_medians_of_parts():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0] * 3) == "▄▄▄"
    assert len(sparkline(list(range(1, 1000)))) == 30


def test_the_table_of_the_terminal(trends, snapshot):
    assert history_table(trends, ["a note"]) == snapshot
