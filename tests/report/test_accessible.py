"""What the page owes readers who hear it, print it, have no mouse, or get it without its style."""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import pytest
from pages import Page, section, table
from sessions import SWEEP, advised, answer, regressed

from pytest_infergate.core.advice.bottleneck import Bottleneck
from pytest_infergate.report import html, html_cases
from pytest_infergate.report.charts import line_charts

TEXT, SHAPES = 4.5, 3.0
"""Least contrast, WCAG 2.1 AA."""


# Landmarks, names, tables


def test_sections_are_the_only_regions_and_each_has_a_name_of_its_own(pages):
    """What scrolls is a group: one region for each of its tables would bury the page's own."""
    for name, page in pages.items():
        names = [attributes["aria-labelledby"] for attributes in page.find("section")]
        assert len(names) == len(set(names)), name
        assert "region" not in {attributes.get("role") for _, attributes, _ in page.elements}


def test_what_scrolls_can_be_reached_and_has_a_name(pages):
    scrolling = [one for page in pages.values() for one in page.find("div") if one.get("class") == "scroll"]
    assert scrolling
    for attributes in scrolling:
        assert (attributes["tabindex"], attributes["role"]) == ("0", "group")
        assert attributes["aria-label"]


def test_every_reference_of_a_picture_has_its_target(pages):
    for name, page in pages.items():
        for attributes in page.find("svg"):
            if attributes.get("role") == "img":
                assert attributes["aria-labelledby"] in page.ids, name
                assert attributes.get("aria-describedby", page.ids[0]) in page.ids, name


def test_a_picture_is_named_in_short_and_described_at_length(sample):
    picture = next(each for each in Page(html.render_html(regressed(sample))).find("svg") if "role" in each)
    assert (picture["aria-labelledby"], picture["aria-describedby"]) == ("t1a", "t1b")


def test_what_can_be_folded_is_called_by_what_is_in_it(pages):
    summaries = Counter(re.findall(r"<summary><span[^>]*>(.*?)</span>", pages["everything"].markup))
    assert summaries["Figures"] == 0
    assert {"Cost by demand in figures", "Throughput by batch size in figures"} <= set(summaries)


def test_no_list_of_facts_is_empty(pages):
    for name, page in pages.items():
        assert not re.search(r"<(dl|ul)[^>]*>\s*</", page.markup), name


def test_the_names_of_percentiles_stay_small_in_headers(sample):
    found = table(html.render_html(advised(sample.session(), answer())), "The best plan for each machine")
    assert found.header[:6] == ["Plan", "Device", "Batch", "Wait", "p95, simulated", "Used"]


# Without the page's style, as some servers show it


def test_every_drawing_has_a_size_of_its_own(pages):
    drawings = [attributes for page in pages.values() for attributes in page.find("svg")]
    assert all(attributes["height"] and attributes["width"] for attributes in drawings)


RUN_TOGETHER = re.compile(r"(?:[^\s>]|</(?:a|span|strong)>)<small")


def test_words_do_not_run_into_the_smaller_ones_after_them(pages):
    for name, page in pages.items():
        outside_of_notes = re.sub(
            r'<section aria-labelledby="notes">.*?</section>', "", page.markup, flags=re.DOTALL
        )
        assert not RUN_TOGETHER.findall(outside_of_notes), name


def test_notes_do_not_run_into_the_names_of_their_cases(pages):
    assert not RUN_TOGETHER.findall(section(pages["stored"].markup, "notes"))


def test_what_places_words_in_a_picture_is_not_the_style(pages):
    assert not [name for name, page in pages.items() if "text-anchor" in page.style]


def test_lines_are_seen_and_not_filled(pages):
    chart = re.search(r'<svg class="picture chart".*?<polyline', pages["everything"].markup, re.DOTALL)[0]
    assert 'fill="none" stroke="currentColor"' in chart.rpartition("<svg")[2]


# Colours


def colours(page, scheme):
    """Custom properties of a scheme; those of dark pages and of paper replace some of the light ones."""
    blocks = re.findall(r":root\{([^}]*)\}", page.style)
    light, dark, paper = [dict(re.findall(r"--(\w+):(#\w+)", block)) for block in blocks]
    return {"light": light, "dark": {**light, **dark}, "print": {**light, **paper}}[scheme]


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.01)


def test_words_and_shapes_stand_out_from_what_is_behind_them(pages):
    words = ("ink", "soft", "bad", "warn", "good")
    shapes = ("mark", "c0", "c1", "c2", "c3", "c4", "c5")
    for scheme in ("light", "dark", "print"):
        known = colours(pages["empty"], scheme)
        for ground in ("page", "card"):
            for names, least in ((words, TEXT), (shapes, SHAPES)):
                ratios = {name: contrast(known[name], known[ground]) for name in names}
                assert {name: ratio for name, ratio in ratios.items() if ratio < least} == {}, (
                    scheme,
                    ground,
                )


def test_every_colour_that_is_named_is_used_and_known(pages):
    sheet = pages["empty"].style
    assert set(re.findall(r"--(\w+):", sheet)) == set(re.findall(r"var\(--(\w+)\)", sheet))


# Paper


def test_paper_shows_what_the_screen_folds(pages):
    paper = pages["empty"].style.partition("@media print{")[2]
    assert "details::details-content{content-visibility:visible;" in paper


# Lines and their keys


def test_the_key_of_a_line_without_points_is_a_line(pages):
    found = Bottleneck(
        kind="memory",
        evidence="far below",
        intensity=2.0,
        attained_flops=1e9,
        attained_bandwidth=5e8,
        ridge=8.0,
    )
    roof, cases = line_charts.roofline(
        [line_charts.CaseBottleneck(label="cpu", machine="cpu, 2 cores", bottleneck=found, bandwidth=1e9)]
    ).lines
    assert (bool(roof.path), bool(roof.points)) == (True, False)
    assert (bool(cases.path), bool(cases.points)) == (False, True)
    keys = re.findall(r"<li class=\"c\d\">(.*?)</li>", pages["everything"].markup)
    both = [("<path" in key, "<use" in key) for key in keys]
    assert both[:4] == [(True, True), (True, True), (False, True), (False, True)]


def test_an_offer_looks_the_same_in_every_picture():
    """Also where one of them cannot meet the limit, and has no plan to be drawn."""
    two = (answer().plans[1], msgspec.structs.replace(answer().plans[1], usd_per_month=1175.0))
    found = line_charts.charts(answer(considered=two, sweeps=(SWEEP,)))
    styles = [{line.label: line.style for line in chart.lines} for chart in found]
    assert styles == [
        {"c7i.xlarge (cpu)": 0, "g6.xlarge (cuda)": 1},
        {"g6.xlarge (cuda)": 1},
        {"c7i.xlarge (cpu)": 0},
    ]


def test_lines_leave_room_for_the_words_of_the_upright_axis():
    for chart in line_charts.charts(answer(sweeps=(SWEEP,))):
        first = min(float(x.rstrip("%")) for line in chart.lines for x, _ in line.points)
        assert first >= 12


def test_a_picture_names_what_tells_cases_apart_before_their_machine():
    for label, place, shown in (
        ("cpu-b8", "", "cpu-b8"),
        ("cuda-b8", " on 1 x NVIDIA L4", "cuda-b8 on 1 x NVIDIA L4"),
        ("cpu-b8", " on 4 cores of Intel Xeon Platinum", "cpu-b8 on 4 cores of Intel …"),
        ("x" * 27, " on 1 x NVIDIA L4", "x" * 27 + "…"),
        ("cuda-compile-float16-b32-t2-x", " on 1 x NVIDIA L4", "…da-compile-float16-b32-t2-x"),
    ):
        assert html_cases.picture_label(label, place) == shown
        assert len(shown) <= html_cases.LABEL
