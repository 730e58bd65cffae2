"""What the page owes readers who hear it, print it, have no mouse, or get it without its style."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from test_advice_report import answer, unmet
from test_html import Page, counting, regressed, table

from pytest_infergate.core.advice.bottleneck import Bottleneck
from pytest_infergate.core.advice.recommendation import Sweep
from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.report import html
from pytest_infergate.report.charts import line_charts

SWEEP = Sweep(deployment="c7i.xlarge (cpu)", batch_sizes=(1, 8), p50=(0.02, 0.1), throughput=(50.0, 80.0))
TEXT, SHAPES = 4.5, 3.0
"""Least contrast, WCAG 2.1 AA."""


def everything(sample):
    """A page with every kind of table and picture, and two tests of one name."""
    twins = [sample.case(f"{module}.py::test_same", batch_size=8) for module in ("a", "b")]
    causes = (sample.cause(),)
    pairs = [
        counting(
            sample, twins[0], Verdict.REGRESSED, (sample.counter(now=104, causes=causes),), operators=104
        ),
        counting(sample, twins[1], operators=7),
        sample.pair(
            verdict=Verdict.SUSPECTED, failed=True, comparisons=(sample.time(Verdict.SUSPECTED, 0.3),)
        ),
    ]
    answers = [answer(sweeps=(SWEEP,)), answer(model="b.py::test_other"), unmet()]
    return html.render_html(sample.session(pairs), advice=answers, settings={"--infer-devices": "cpu"})


@pytest.fixture(params=["everything", "regressed", "hostile", "empty"])
def page(sample, request):
    builds = {
        "everything": lambda: everything(sample),
        "regressed": lambda: html.render_html(regressed(sample)),
        "hostile": lambda: html.render_html(sample.hostile_session()),
        "empty": lambda: html.render_html(sample.session()),
    }
    return builds[request.param]()


def style(page):
    return re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]


# Landmarks, names, tables


def test_sections_are_the_only_regions_and_each_has_a_name_of_its_own(page):
    """What scrolls is a group: one region for each of its tables would bury the page's own."""
    parsed = Page(page)
    names = [attributes["aria-labelledby"] for attributes in parsed.find("section")]
    assert len(names) == len(set(names))
    assert not [attributes for _, attributes, _ in parsed.elements if attributes.get("role") == "region"]


def test_what_scrolls_can_be_reached_and_has_a_name(page):
    scrolling = [each for each in Page(page).find("div") if each.get("class") == "scroll"]
    for attributes in scrolling:
        assert attributes["tabindex"] == "0"
        assert attributes["role"] == "group"
        assert attributes["aria-label"]


def test_every_table_says_what_it_is_also_beside_a_picture(page):
    parsed = Page(page)
    assert len(parsed.find("caption")) == len(parsed.find("table"))
    assert all(attributes.get("scope") in {"col", "row"} for attributes in parsed.find("th"))


def test_every_reference_of_a_picture_has_its_target(page):
    parsed = Page(page)
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in parsed.find("svg"):
        if attributes.get("role") == "img":
            assert attributes["aria-labelledby"] in ids
            assert attributes.get("aria-describedby", ids[0]) in ids


def test_a_picture_is_named_in_short_and_described_at_length(sample):
    picture = next(each for each in Page(html.render_html(regressed(sample))).find("svg") if "role" in each)
    assert (picture["aria-labelledby"], picture["aria-describedby"]) == ("t1a", "t1b")


def test_what_can_be_folded_is_called_by_what_is_in_it(sample):
    parsed = Page(html.render_html(sample.session(), advice=[answer(sweeps=(SWEEP,))]))
    summaries = re.findall(r"<summary><span[^>]*>(.*?)</span>", everything(sample))
    assert Counter(summaries)["Figures"] == 0
    assert "Cost against demand in figures" in parsed.text
    assert "What batches give in figures" in parsed.text


def test_no_list_of_facts_is_empty(page):
    assert not re.search(r"<dl>\s*</dl>", page)
    assert not re.search(r"<ul[^>]*>\s*</ul>", page)


def test_the_names_of_percentiles_stay_small_in_headers(sample):
    found = table(html.render_html(sample.session(), advice=[answer()]), "The best plan of each machine")
    assert found.header[:6] == ["Plan", "Device", "Batch", "Wait", "p95", "Used"]


# Without the page's style, as some servers show it


def test_every_drawing_has_a_size_of_its_own(page):
    for tag, attributes, above in Page(page).elements:
        if tag == "svg":
            assert attributes["height"], above
            assert attributes["width"], above


def test_words_do_not_run_into_the_smaller_ones_after_them(page):
    assert not re.findall(r"(?:[^\s>]|</(?:a|span|strong)>)<small", page)


def test_what_places_words_in_a_picture_is_not_the_style(page):
    assert "text-anchor" not in style(page)


def test_lines_are_seen_and_not_filled(sample):
    chart = re.search(r'<svg class="picture chart".*?<polyline', everything(sample), re.DOTALL)[0]
    assert 'fill="none" stroke="currentColor"' in chart.rpartition("<svg")[2]


# Colours


def colours(page, scheme):
    """Custom properties of a scheme; those of dark pages and of paper replace some of the light ones."""
    blocks = re.findall(r":root\{([^}]*)\}", style(page))
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


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("ground", ["page", "card"])
def test_words_and_shapes_stand_out_from_what_is_behind_them(sample, scheme, ground):
    known = colours(html.render_html(sample.session()), scheme)
    words = {name: contrast(known[name], known[ground]) for name in ("ink", "soft", "bad", "warn", "good")}
    shapes = {
        name: contrast(known[name], known[ground]) for name in ("mark", "c0", "c1", "c2", "c3", "c4", "c5")
    }
    assert {name: ratio for name, ratio in words.items() if ratio < TEXT} == {}
    assert {name: ratio for name, ratio in shapes.items() if ratio < SHAPES} == {}


def test_every_colour_that_is_named_is_used_and_known(sample):
    sheet = style(html.render_html(sample.session()))
    assert set(re.findall(r"--(\w+):", sheet)) == set(re.findall(r"var\(--(\w+)\)", sheet))


# Paper


def test_paper_shows_what_the_screen_folds(sample):
    paper = style(html.render_html(sample.session())).partition("@media print{")[2]
    assert "details::details-content{content-visibility:visible;" in paper


# Lines and their keys


def test_the_key_of_a_line_without_points_is_a_line(sample):
    found = Bottleneck(
        kind="memory",
        evidence="far below",
        intensity=2.0,
        attained_flops=1e9,
        attained_bandwidth=5e8,
        ridge=8.0,
    )
    roof, cases = line_charts.roofline(
        [line_charts.Held(label="cpu", machine="cpu, 2 cores", found=found, bandwidth=1e9)]
    ).lines
    assert (bool(roof.path), bool(roof.points)) == (True, False)
    assert (bool(cases.path), bool(cases.points)) == (False, True)
    keys = re.findall(r"<li class=\"c\d\">(.*?)</li>", everything(sample))
    both = [("<path" in key, "<use" in key) for key in keys]
    assert both[:4] == [(True, True), (True, True), (False, True), (False, True)]


def test_an_offer_looks_the_same_in_every_picture(sample):
    """Also where one of them cannot meet the limit, and has no plan to be drawn."""
    found = line_charts.charts(answer(considered=answer().plans[1:], sweeps=(SWEEP,)))
    styles = [{line.label: line.style for line in chart.lines} for chart in found]
    assert styles == [
        {"c7i.xlarge (cpu)": 0, "g6.xlarge (cuda)": 1},
        {"g6.xlarge (cuda)": 1},
        {"c7i.xlarge (cpu)": 0},
    ]


def test_lines_leave_room_for_the_words_of_the_upright_axis(sample):
    for chart in line_charts.charts(answer(sweeps=(SWEEP,))):
        first = min(float(x.rstrip("%")) for line in chart.lines for x, _ in line.points)
        assert first >= 12


@pytest.mark.parametrize(
    ("label", "place", "shown"),
    [
        ("cpu-b8", "", "cpu-b8"),
        ("cuda-b8", " on 1 x NVIDIA L4", "cuda-b8 on 1 x NVIDIA L4"),
        ("cpu-b8", " on 4 cores of Intel Xeon Platinum", "cpu-b8 on 4 cores of Intel …"),
        ("x" * 27, " on 1 x NVIDIA L4", "x" * 27 + "…"),
        ("cuda-compile-float16-b32-t2-x", " on 1 x NVIDIA L4", "…da-compile-float16-b32-t2-x"),
    ],
)
def test_a_picture_names_what_tells_cases_apart_before_their_machine(label, place, shown):
    assert html._beside(label, place) == shown
    assert len(shown) <= html.LABEL
