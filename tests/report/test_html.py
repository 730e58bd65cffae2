from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html import unescape
from html.parser import HTMLParser
from typing import NamedTuple

import msgspec
import pytest

from pytest_infergate.core.domain.measurement import Counters
from pytest_infergate.core.domain.outcome import Against, Outcome, Session, Verdict
from pytest_infergate.report import html, rows
from pytest_infergate.report.sanitize import plain

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


@pytest.fixture(params=["empty", "regressed", "hostile", "many", "expensive"])
def page(sample, request):
    sessions = {
        "empty": sample.session,
        "regressed": lambda: regressed(sample),
        "hostile": sample.hostile_session,
        "many": lambda: sample.many(20),
        "expensive": lambda: expensive(sample),
    }
    return html.render_html(sessions[request.param]())


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
    page = html.render_html(regressed(sample), settings={"--infer-devices": "cpu"})
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
    found = table(html.render_html(sample.session(pairs)), WORK)
    # Columns in the order of the counters; left out are views, what is zero, and cases without any.
    assert found.header == ["Case", "FLOPs", "Operators", "Bytes read"]
    assert found.rows == [["cpu", "2.00 GFLOP", "1,234", "164 kB"], ["cpu-b8", "-", "7", "-"]]


def test_every_test_has_a_table_of_its_own_work(sample):
    pairs = [
        counting(sample, sample.case("t.py::test_a"), flops=5),
        counting(sample, sample.case("t.py::test_b"), graphs=2),
        sample.pair(sample.case("t.py::test_c")),
    ]
    page = html.render_html(sample.session(pairs))
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
    page = html.render_html(sample.session([counting(sample, new_counter=1, flops=2)]))
    assert table(page, WORK).header == ["Case", "FLOPs"]
    assert WORK not in html.render_html(sample.session([counting(sample, new_counter=1)]))


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
    page = html.render_html(sample.session(pairs))
    found = table(page, "Counted without a clock")
    assert found.header == ["Case", "Change", "By which operators"]
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
    page = html.render_html(sample.session([pair]))
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
    page = html.render_html(sample.session(pairs))
    assert MOVED not in page
    assert 'href="#counters"' not in page
    assert 'id="counters"' not in page
    # None of these cases holds counters of its own.
    assert WORK not in page


def test_a_time_that_changed_is_no_counter(sample):
    assert MOVED not in html.render_html(regressed(sample))


def test_hostile_counters_and_operators_are_escaped(sample):
    page = html.render_html(sample.hostile_session())
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


EXPENSES = "Energy and cost, calls issued back to back"
MILAN = (
    "Energy is an estimate, marked ~: the time of a call times the power of AMD Milan by Cloud Carbon Footprint, "
    "0.445 W idle and 2.02 W busy a virtual processor; memory is left out."
)
BOARD = "Energy is measured by NVML, of the board alone, idle power included; the rest of the machine is left out."
CO2E = "CO2e is that energy at 475 g/kWh (world, 2019); what a data centre adds is left out."
COST = (
    "Cost: 0.1785 USD an hour, aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20; used to 60 %; "
    "electricity is not added."
)


def expensive(sample):
    """A test whose cases took and cost different things, and one of which nothing is known."""
    cases = [sample.case(), sample.case(device="cuda"), sample.case(device="xpu")]
    return sample.session(
        [
            sample.spending(cases[0], sample.estimate(idle_watts=0.89), sample.price()),
            sample.spending(cases[1], sample.energy(0.0984, batch_size=8)),
            sample.pair(cases[2]),
        ]
    )


def rested_on(page):
    """The sentences below a table of energy and cost, with the cases that they are of."""
    (remarks,) = re.findall(r"<h4>What these figures rest on</h4>\s*<ul[^>]*>(.*?)</ul>", page, re.DOTALL)
    return [words(line) for line in re.findall(r"<li>(.*?)</li>", remarks)]


def test_energy_and_cost_have_columns_where_a_case_has_them(sample):
    found = table(html.render_html(expensive(sample)), "3 cases")
    assert found.caption == (
        "3 cases, the gravest first. Latency is that of one call. "
        "~ an estimate, not measured: --infer-energy measures where a meter can be read."
    )
    assert found.header == [
        "Case", "p50", "p95", "Throughput", "Peak memory", "Energy per item", "Cost per million items", "Budget", "Verdict",
    ]  # fmt: skip
    assert [line[4:] for line in found.rows] == [
        ["125 MB", "~12.3 mJ", "3.31 USD", "-", "equivalent"],
        ["125 MB", "12.3 mJ", "-", "-", "equivalent"],
        ["125 MB", "-", "-", "-", "equivalent"],
    ]


def test_what_energy_and_cost_rest_on_is_told_beside_their_test(sample):
    page = html.render_html(expensive(sample))
    found = table(page, EXPENSES)
    assert found.header == [
        "Case", "Energy per item", "Idle power", "CO2e per million items", "Cost per million items",
    ]  # fmt: skip
    assert found.rows == [
        ["cpu", "~12.3 mJ", "~0.890 W", "~1.62 g", "3.31 USD"],
        ["cuda", "12.3 mJ", "60.3 W", "1.62 g", "-"],
    ]
    assert rested_on(page) == [
        f"{MILAN} | cpu",
        CO2E,
        f"{COST} | cpu",
        f"{BOARD} | cuda",
    ]
    assert "Energy, CO2e and cost" in Page(page).text


@pytest.mark.parametrize(
    ("fields", "shown", "headers", "bases"),
    [
        (
            {"energy": True},
            ["Energy per item"],
            ["Energy per item", "Idle power", "CO2e per million items"],
            [BOARD, CO2E],
        ),
        ({"price": True}, ["Cost per million items"], ["Cost per million items"], [COST]),
    ],
    ids=["energy", "cost"],
)
def test_a_column_without_a_figure_is_not_there(sample, fields, shown, headers, bases):
    pair = sample.spending(**{field: getattr(sample, field)() for field in fields})
    page = html.render_html(sample.session([pair]))
    assert table(page, "1 case").header[5:-2] == shown
    assert table(page, "1 case").caption.endswith("Latency is that of one call.")
    assert table(page, EXPENSES).header == ["Case", *headers]
    assert rested_on(page) == bases


def test_without_energy_and_cost_the_page_does_not_know_them(sample):
    """An energy and a price of which nothing follows change nothing."""
    impossible = sample.spending(energy=sample.energy(batch_size=0), price=sample.price(utilisation=0.0))
    page = html.render_html(sample.session([sample.pair()]))
    assert page == html.render_html(sample.session([impossible]))
    for word in ("Energy", "Cost", "CO2e", "rest on"):
        assert word not in page


def test_workers_of_a_paired_run_cost_nothing(sample):
    comparisons = (sample.time(evidence="paired"),)
    bare, spending = (
        msgspec.structs.replace(sample.session([pair]), against=Against(revision="main"))
        for pair in (
            sample.pair(comparisons=comparisons),
            sample.spending(None, sample.estimate(), sample.price(), comparisons=comparisons),
        )
    )
    assert html.render_html(bare) == html.render_html(spending)


def test_on_a_narrow_screen_every_figure_bears_its_name(sample):
    """The heads of columns are hidden there: the style sheet names cells by their place."""
    page = html.render_html(expensive(sample))
    names = dict(re.findall(r'\.cases td:nth-of-type\((\d)\)::before\{content:"([^"]+)"\}', page))
    header = table(page, "3 cases").header[1:]
    assert names == {
        "1": "p50", "2": "p95", "3": "Rate", "4": "Peak",
        "5": "Energy per item", "6": "Cost per million items", "7": "Budget",
    }  # fmt: skip
    assert [header[int(place) - 1] for place in "567"] == [names[place] for place in "567"]
    assert ".cases .u td:nth-of-type(-n+7){display:none}" in page
    assert "@media screen and (max-width:72rem)" in page
    assert ".cases .u td:nth-of-type(-n+5){display:none}" in html.render_html(sample.session([sample.pair()]))


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x>', "{{ 7*7 }}", "\u202eab\n\x1b"]
)
def test_hostile_names_of_prices_and_meters_are_escaped(sample, name):
    price, energy = sample.price(source=name), sample.energy(source=name, scope=name)
    page = html.render_html(sample.session([sample.spending(None, energy, price)]))
    assert Page(page).open == []
    assert (name in page) == ("{{" in name)
    shown = plain(name)
    assert f"0.1785 USD an hour, {shown}; used to 60 %" in Page(page).text
    assert f"Energy is measured by {shown}, of the {shown}, idle power included." in Page(page).text


def test_failing_tests_are_open_and_the_others_folded(sample):
    details = Page(html.render_html(regressed(sample))).find("details")
    assert ["open" in attributes for attributes in details] == [True, False]


def test_every_figure_of_the_rows_is_on_the_page(sample):
    session = sample.many(20)
    text = Page(html.render_html(session)).text
    for row in rows.rows(session):
        for figure in (row.p50, row.p95, row.throughput, row.peak_memory, row.word):
            assert figure in text


def test_the_picture_marks_median_p95_expectation_and_limit(sample):
    page = html.render_html(regressed(sample))
    drawn = re.findall(r'<use href="#(\w+)" x="([\d.]+)%"', page)
    assert [symbol for symbol, _ in drawn[:4]] == ["limit", "expected", "p95", "p50"]
    assert "Distribution of call times of 1 case on one logarithmic scale: cpu-b8, p50 40.0 ms" in page


def test_a_strict_failure_says_so_in_the_table(sample):
    pair = sample.pair(verdict=Verdict.SUSPECTED, failed=True)
    assert "fails the run" in html.render_html(sample.session([pair]))


def test_a_skipped_case_tells_why(sample):
    fields = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": sample.note(hint="unset it")}
    page = html.render_html(sample.session([sample.pair(verdict=Verdict.NOT_MEASURED, result=fields)]))
    text = Page(page).text
    assert "not-measured: cuda hidden: CUDA_VISIBLE_DEVICES is empty" in text
    assert "Next: unset it." in text
    assert 'role="img"' not in page


def test_new_missing_renamed_and_deselected_are_all_listed(sample):
    cases = [sample.case(f"t.py::test_{index}") for index in range(40)]
    page = html.render_html(
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
    page = html.render_html(sample.hostile_session(), settings={"<script>alert(1)": text})
    assert text not in page
    assert "49" not in re.findall(r"quoted[^<]{0,40}", page)[0]


def test_hostile_names_are_still_legible(sample):
    page = html.render_html(sample.hostile_session())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert r"two\nlines\r\tand a tab" in page


def test_two_hundred_cases_stay_under_half_a_megabyte(sample):
    assert len(html.render_html(sample.many(200)).encode()) < 400_000


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
    assert "not judged" in html.render_html(bare)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e300, float("inf"), float("nan")])
def test_extreme_figures_render(sample, value):
    measurement = sample.measurement(cold_start=value, throughput=value)
    pair = sample.pair(
        result={"measurement": measurement},
        comparisons=(sample.time(baseline=value, effect=value),),
        budgets=(sample.check(limit=value),),
    )
    assert Page(html.render_html(sample.session([pair]))).open == []
