from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html import unescape
from html.parser import HTMLParser
from typing import NamedTuple

import pytest

from pytest_infergate.core.model import Counters, Outcome, Session, Verdict
from pytest_infergate.report import html, rows

VOID = {"meta", "br", "wbr", "path", "circle", "line", "use"}
"""Elements without an end tag, in HTML or because the page closes them at once."""


class Page(HTMLParser):
    """What a browser would build: elements in order, ids, links and text by element."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def find(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(data for tag, data in self.texts if tag != "style")


def regressed(sample):
    case = sample.case(batch_size=8)
    return sample.session(
        [
            sample.pair(
                case,
                Verdict.REGRESSED,
                failed=True,
                comparisons=(sample.time(Verdict.REGRESSED, 0.303),),
                budgets=(sample.check(),),
            ),
            sample.pair(sample.case("tests/test_other.py::test_fine")),
        ],
        passed=False,
        headline="FAILED: 2 of 2 cases decided, 1 regressed",
        reasons=("1 case regressed",),
    )


@pytest.fixture(params=["empty", "regressed", "hostile", "many"])
def page(sample, request):
    sessions = {
        "empty": sample.session,
        "regressed": lambda: regressed(sample),
        "hostile": sample.hostile_session,
        "many": lambda: sample.many(20),
    }
    return html.render(sessions[request.param]())


def test_every_page_is_well_formed(page):
    parsed = Page(page)
    assert parsed.open == []
    assert page.startswith("<!DOCTYPE html>")
    assert page.encode()


def test_every_page_keeps_its_own_content_policy(page):
    parsed = Page(page)
    policy = next(meta for meta in parsed.find("meta") if "http-equiv" in meta)["content"]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "\r" not in style
    assert "url(" not in style
    assert "@import" not in style


def test_no_page_loads_runs_or_styles_anything_inline(page):
    for tag, attributes, _ in Page(page).elements:
        assert tag not in {"script", "img", "link", "iframe", "object", "embed", "base", "form", "video"}
        assert not [
            name for name in attributes if name.startswith("on") or name in {"style", "src", "srcset"}
        ]
        assert attributes.get("href", "#").startswith("#")


def test_every_page_can_be_walked_by_landmarks_and_headings(page):
    parsed = Page(page)
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(parsed.find(landmark)) == 1
    levels = [int(tag[1]) for tag, _, _ in parsed.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_reference_has_its_one_target(page):
    parsed = Page(page)
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in parsed.elements:
        if "href" in attributes:
            assert attributes["href"][1:] in ids
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_every_table_is_captioned_and_every_picture_described(page):
    parsed = Page(page)
    assert len(parsed.find("caption")) == len(parsed.find("table"))
    assert all(attributes.get("scope") in {"col", "row"} for attributes in parsed.find("th"))
    pictures = [attributes for attributes in parsed.find("svg") if attributes.get("role") == "img"]
    assert len(parsed.find("title")) == len(pictures) + 1
    assert len(parsed.find("desc")) == len(pictures)
    for tag, attributes, above in parsed.elements:
        if tag == "svg" and attributes.get("role") != "img" and "svg" not in above:
            assert attributes["aria-hidden"] == "true"


def test_the_page_tells_what_failed_before_all_else(sample):
    page = html.render(regressed(sample), settings={"--infer-devices": "cpu"})
    text = Page(page).text
    order = [
        "FAILED:",
        "What failed, and why",
        "regressed: p50 latency 52.1 ms against an expected 40.0 ms: +30.3 %, allowed +25.0 %",
        "if the change is meant, record it with --infer-save",
        "All cases",
        "Latency by test",
        "Environment",
        "--infer-devices",
        "How to read the figures",
    ]
    places = [text.rindex(words) if words in order[4:] else text.index(words) for words in order]
    assert places == sorted(places)


class Table(NamedTuple):
    caption: str
    header: list[str]
    rows: list[list[str]]


def tables(page):
    """Every table of a page by its caption; cells joined from the texts in them."""
    found = []
    for body in re.findall(r"<table[^>]*>(.*?)</table>", page, re.DOTALL):
        caption = re.search(r"<caption>(.*?)</caption>", body, re.DOTALL)[1]
        lines = [
            [words(cell) for cell in re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line, re.DOTALL)]
            for line in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
        ]
        found.append(Table(unescape(caption), lines[0], lines[1:]))
    return found


def words(markup):
    parts = re.split(r"<[^>]*>", markup)
    return " | ".join(unescape(part).strip() for part in parts if part.strip())


def table(page, caption):
    (found,) = [each for each in tables(page) if each.caption.startswith(caption)]
    return found


WORK = "Work of one call, counted exactly"
MOVED = "Exact counters that changed"


def counting(sample, case=None, verdict=Verdict.EQUIVALENT, comparisons=(), **totals):
    """A case whose work was counted."""
    measurement = sample.measurement(counters=Counters(totals=totals, architecture="AVX2"))
    return sample.pair(case, verdict, {"measurement": measurement}, comparisons=comparisons)


def test_the_work_of_each_case_is_on_the_page(sample):
    cases = [sample.case(batch_size=size) for size in (1, 8, 16)]
    pairs = [
        counting(sample, cases[0], operators=1234, flops=2 * 10**9, bytes_read=164_000),
        counting(sample, cases[1], operators=7, views=3, dtype_casts=0),
        sample.pair(cases[2]),
    ]
    found = table(html.render(sample.session(pairs)), WORK)
    # Columns in the order of the counters; left out are views, what is zero, and cases without any.
    assert found.header == ["Case", "FLOPs", "Operators", "Bytes read"]
    assert found.rows == [["cpu", "2.00 GFLOP", "1,234", "164 kB"], ["cpu-b8", "-", "7", "-"]]


def test_every_test_has_a_table_of_its_own_work(sample):
    pairs = [
        counting(sample, sample.case("t.py::test_a"), flops=5),
        counting(sample, sample.case("t.py::test_b"), graphs=2),
        sample.pair(sample.case("t.py::test_c")),
    ]
    page = html.render(sample.session(pairs))
    assert [each.header for each in tables(page) if each.caption == WORK] == [
        ["Case", "FLOPs"],
        ["Case", "Compiled graphs"],
    ]
    labels = {region["aria-label"] for region in Page(page).find("div") if "aria-label" in region}
    assert {label for label in labels if label.startswith("Exact counters, ")} == {
        "Exact counters, test_a",
        "Exact counters, test_b",
    }


def test_a_counter_that_this_version_does_not_know_is_left_out(sample):
    page = html.render(sample.session([counting(sample, new_counter=1, flops=2)]))
    assert table(page, WORK).header == ["Case", "FLOPs"]
    assert WORK not in html.render(sample.session([counting(sample, new_counter=1)]))


def test_counters_that_changed_are_listed_the_gravest_case_first(sample):
    more, fewer, same = (sample.case(f"t.py::test_{name}") for name in ("more", "fewer", "same"))
    causes = (sample.cause(), sample.cause(1, "aten::add", ""))
    pairs = [
        counting(sample, same, comparisons=(sample.time(), sample.counter(), sample.memory())),
        counting(sample, fewer, Verdict.IMPROVED, comparisons=(sample.counter("flops", 4000, 3000),)),
        counting(
            sample,
            more,
            Verdict.REGRESSED,
            comparisons=(
                sample.time(Verdict.REGRESSED, 0.5),
                sample.counter("operators", 1000, 1005, causes=causes),
                sample.counter("graph_breaks", 0, 2),
                sample.counter("views", 100, 104, verdict=Verdict.EQUIVALENT, tolerance=0.1),
                sample.unsettled(Verdict.INCOMPARABLE, "allocations recorded with 4 threads"),
            ),
        ),
    ]
    page = html.render(sample.session(pairs))
    found = table(page, "Counted without a clock")
    assert found.header == ["Case", "Change", "From"]
    assert found.rows == [
        [
            "test_more[cpu]",
            "operators 1,000 → 1,005 (+0.5 %) | graph breaks 0 → 2",
            "+4 aten::clone in layers.{0-3} | +1 aten::add",
        ],
        ["test_fewer[cpu]", "FLOPs 4.00 kFLOP → 3.00 kFLOP (-25.0 %)", ""],
    ]
    kinds = re.findall(r'<div class="v (\w+)">', page[page.index('<h2 id="counters">') :])
    assert kinds[:3] == ["bad", "bad", "good"]


def test_the_counters_that_changed_are_in_the_navigation_and_link_to_their_case(sample):
    pair = counting(sample, None, Verdict.REGRESSED, comparisons=(sample.counter(now=101),))
    page = html.render(sample.session([pair]))
    assert '<li><a href="#counters">Counters that changed</a></li>' in page
    assert f'<h2 id="counters">{MOVED}</h2>' in page
    section = page[page.index('<h2 id="counters">') :]
    target = re.search(r'<a class="id" href="#([^"]+)">', section)[1]
    assert f'<div id="{target}">' in page


@pytest.mark.parametrize("build", ["empty", "without", "unchanged", "unsettled"])
def test_where_no_counter_changed_there_is_no_section(sample, build):
    comparisons = {
        "unchanged": (sample.time(), sample.counter(), sample.memory()),
        "unsettled": (sample.unsettled(Verdict.INCOMPARABLE, "other torch"),),
    }
    pairs = [] if build == "empty" else [sample.pair(comparisons=comparisons.get(build, ()))]
    page = html.render(sample.session(pairs))
    assert MOVED not in page
    assert 'href="#counters"' not in page
    assert 'id="counters"' not in page
    # None of these cases holds counters of its own.
    assert WORK not in page


def test_a_time_that_changed_is_no_counter(sample):
    assert MOVED not in html.render(regressed(sample))


def test_hostile_counters_and_operators_are_escaped(sample):
    page = html.render(sample.hostile_session())
    assert Page(page).open == []
    assert MOVED in page
    section = page[page.index('<h2 id="counters">') :]
    section = section[: section.index("</section>")]
    for spelt in (
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&gt;&lt;img src=x onerror=alert(1)&gt;",
        "{{ 7*7 }} {% raw %}",
        r"two\nlines\r\tand a tab",
        r"\x1b[31mred",
    ):
        assert section.count(spelt) >= 2  # as an operator in a place, and as the name of a counter


def test_failing_tests_are_open_and_the_others_folded(sample):
    details = Page(html.render(regressed(sample))).find("details")
    assert ["open" in attributes for attributes in details] == [True, False]


def test_every_figure_of_the_rows_is_on_the_page(sample):
    session = sample.many(20)
    text = Page(html.render(session)).text
    for row in rows.rows(session):
        for figure in (row.p50, row.p95, row.throughput, row.peak_memory, row.word):
            assert figure in text


def test_the_picture_marks_median_p95_expectation_and_limit(sample):
    page = html.render(regressed(sample))
    drawn = re.findall(r'<use href="#(\w+)" x="([\d.]+)%"', page)
    assert [symbol for symbol, _ in drawn[:4]] == ["limit", "expected", "p95", "p50"]
    assert "Distribution of call times of 1 case on one logarithmic scale: cpu-b8, p50 40.0 ms" in page


def test_a_strict_failure_says_so_in_the_table(sample):
    pair = sample.pair(verdict=Verdict.SUSPECTED, failed=True)
    assert "fails the run" in html.render(sample.session([pair]))


def test_a_skipped_case_tells_why(sample):
    fields = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": sample.note(cure="unset it")}
    page = html.render(sample.session([sample.pair(verdict=Verdict.NOT_MEASURED, result=fields)]))
    text = Page(page).text
    assert "not-measured: cuda hidden: CUDA_VISIBLE_DEVICES is empty" in text
    assert "Next: unset it." in text
    assert 'role="img"' not in page


def test_new_missing_renamed_and_deselected_are_all_listed(sample):
    cases = [sample.case(f"t.py::test_{index}") for index in range(40)]
    page = html.render(
        sample.session(
            new=tuple(cases[:30]),
            missing=(cases[30],),
            renamed=((cases[31], cases[32]),),
            deselected=(sample.note("no axis"),),
        )
    )
    text = Page(page).text
    assert all(case.name in text for case in cases[:33])
    assert "New, unknown to the baseline (30)" in text
    assert "no axis" in text


@pytest.mark.parametrize(
    "text", ["<script>alert(1)", "<img src=x", '"><img', "\x1b", "\u202e", "\x00", "\udc80"]
)
def test_nothing_hostile_survives(sample, text):
    page = html.render(sample.hostile_session(), settings={"<script>alert(1)": text})
    assert text not in page
    assert "49" not in re.findall(r"quoted[^<]{0,40}", page)[0]


def test_hostile_names_are_still_legible(sample):
    page = html.render(sample.hostile_session())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert r"two\nlines\r\tand a tab" in page


def test_two_hundred_cases_stay_under_half_a_megabyte(sample):
    assert len(html.render(sample.many(200)).encode()) < 400_000


def test_a_session_that_knows_nothing_renders(sample):
    other = sample.case("t.py::test_other")
    session = sample.session(
        [(None, sample.verdict()), (sample.result(other, measurement=None, hardware=None), None)]
    )
    bare = Session(
        tool_version="",
        created="",
        environment=type(session.environment)(),
        cases=session.cases,
        gate=session.gate,
    )
    assert "not judged" in html.render(bare)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e300, float("inf"), float("nan")])
def test_extreme_figures_render(sample, value):
    measurement = sample.measurement(cold_start=value, throughput=value)
    pair = sample.pair(
        result={"measurement": measurement},
        comparisons=(sample.time(baseline=value, effect=value),),
        budgets=(sample.check(limit=value),),
    )
    assert Page(html.render(sample.session([pair]))).open == []
