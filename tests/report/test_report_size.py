"""How large a page grows, and that it leaves out nothing that it does not name."""

import functools
import re

import pytest
from full_session import advised, full

from pytest_infergate.report import html
from pytest_infergate.report.charts import line_charts

LIMIT = 500_000
"""Bytes of a page of 200 cases."""


def page(sample, count, *, paired=False):
    return html.render_html(
        full(sample, count, paired=paired), settings={"--infer-devices": "cpu"}, advice=advised(1)
    )


@pytest.mark.parametrize("paired", [False, True], ids=["stored", "paired"])
def test_two_hundred_cases_with_every_section_stay_under_half_a_megabyte(sample, paired):
    text = page(sample, 200, paired=paired)
    for section in (
        "failed",
        "advice",
        "cases",
        "latency",
        "held",
        "counters",
        "changes",
        "notes",
        "environment",
    ):
        assert f'id="{section}"' in text
    for words in ("Cost against demand", "Cost against latency", "What batches give", "Roofline"):
        assert words in text
    assert ("CO2e" in text) != paired
    assert len(text.encode()) < LIMIT


def test_a_case_more_adds_its_own_size_and_no_more(sample):
    sizes = [len(page(sample, count).encode()) for count in (160, 240, 320)]
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert first == pytest.approx(second, rel=0.05)
    assert first / 80 < 2_500


def rows(text, caption):
    """Rows of every table whose caption begins so, headers left out."""
    tables = re.findall(r"<table[^>]*>(.*?)</table>", text, re.DOTALL)
    wanted = [one for one in tables if re.search(rf"<caption>{re.escape(caption)}", one)]
    assert wanted
    return sum(one.count("<tr") - 1 for one in wanted)


COUNT = line_charts.MOST_POINTS + 60


@functools.cache
def large(sample):
    """A page with more cases than a picture has points."""
    return page(sample, COUNT)


def test_many_cases_are_all_in_the_tables(sample):
    text = large(sample)
    measured = COUNT - COUNT // 10
    assert rows(text, f"{COUNT} cases") == COUNT
    assert rows(text, "Latency of one call") == measured
    assert rows(text, "Work of one call") == measured
    assert rows(text, "Counted without a clock") == COUNT // 20
    assert text.count('class="w"') == measured  # a whisker each, in the pictures
    assert text.count("<details") >= COUNT // 8


def test_a_picture_that_shows_a_part_says_so(sample):
    text = large(sample)
    left_out = COUNT - COUNT // 10 - line_charts.MOST_POINTS
    assert left_out > 0
    assert text.count(" more are in the results file alone.") == 1
    assert f">{left_out} more are in the results file alone." in text
