"""How large a page grows, and that it leaves out nothing that it does not name."""

import re

import pytest
from full_session import advised as answers
from full_session import full
from sessions import advised

from pytest_infergate.report import html
from pytest_infergate.report.charts import line_charts

LIMIT = 500_000
"""Bytes of a page of 200 cases."""


def page(sample, count, *, paired=False):
    session = advised(full(sample, count, paired=paired), *answers(1))
    return html.render_html(session, settings={"--infer-devices": "cpu"})


def test_two_hundred_cases_with_every_section_stay_under_half_a_megabyte(sample):
    for paired in (False, True):
        text = page(sample, 200, paired=paired)
        assert set(re.findall(r'<h2 id="(\w+)">', text)) >= {
            "failed", "advice", "cases", "latency", "bottlenecks", "counters", "changes", "notes", "environment",
        }  # fmt: skip
        assert text.count('class="picture chart"') == 4  # demand, latency, batches, roofline
        assert ("CO2e" in text) != paired
        assert len(text.encode()) < LIMIT


def test_a_case_more_adds_its_own_size_and_no_more(sample):
    sizes = [len(page(sample, count).encode()) for count in (80, 120, 160)]
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert first == pytest.approx(second, rel=0.05)
    assert first / 40 < 2_500


def rows(text, caption):
    """Rows of every table whose caption begins so, headers left out."""
    tables = re.findall(r"<table[^>]*>(.*?)</table>", text, re.DOTALL)
    wanted = [one for one in tables if re.search(rf"<caption>{re.escape(caption)}", one)]
    assert wanted
    return sum(one.count("<tr") - 1 for one in wanted)


COUNT, POINTS = 60, 30


@pytest.fixture
def large(sample, monkeypatch):
    """A page with more cases than a picture has points."""
    monkeypatch.setattr(line_charts, "MAX_POINTS", POINTS)
    return page(sample, COUNT)


def test_many_cases_are_all_in_the_tables(large):
    measured = COUNT - COUNT // 10
    assert rows(large, f"{COUNT} cases") == COUNT
    assert rows(large, "Latency of one call") == measured
    assert rows(large, "Work of one call") == measured
    assert rows(large, "These figures are counted, not timed") == COUNT // 20
    assert large.count('class="w"') == measured  # a whisker each, in the pictures
    assert large.count("<details") >= COUNT // 8


def test_a_picture_that_shows_a_part_says_so(large):
    left_out = COUNT - COUNT // 10 - POINTS
    assert left_out > 0
    assert large.count(f">{left_out} more ") == 1
