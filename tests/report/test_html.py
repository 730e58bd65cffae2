from __future__ import annotations

import base64
import hashlib
import itertools
import re

import msgspec
from pages import Page, section, table, tables
from sessions import (
    MAIN,
    advised,
    answer,
    counting,
    every_paired_kind,
    expensive,
    hostile_paired,
    judged,
    paired,
    regressed,
)

from pytest_infergate.core.domain.outcome import Against, Outcome, Session, Verdict
from pytest_infergate.report import html, rows
from pytest_infergate.report.sanitize import plain

MOVED = 'id="counters"'


def test_every_page_is_well_formed(pages):
    for name, page in pages.items():
        assert page.open == [], name
        assert page.markup.startswith("<!DOCTYPE html>")
        assert page.markup.encode()


def test_every_page_keeps_its_own_content_policy(pages):
    for name, page in pages.items():
        policy = next(meta for meta in page.find("meta") if "http-equiv" in meta)["content"]
        digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
        assert policy == (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        ), name
        assert not re.search(r"\r|url\(|@import", page.style)


def test_no_page_loads_runs_or_styles_anything_inline(pages):
    foreign = {"script", "img", "link", "iframe", "object", "embed", "base", "form", "video"}
    for name, page in pages.items():
        for tag, attributes, _ in page.elements:
            assert tag not in foreign, name
            assert not [
                one for one in attributes if one.startswith("on") or one in {"style", "src", "srcset"}
            ]
            assert attributes.get("href", "#").startswith("#")


def test_every_page_can_be_walked_by_landmarks_and_headings(pages):
    for name, page in pages.items():
        for landmark in ("header", "nav", "main", "footer", "h1"):
            assert len(page.find(landmark)) == 1, name
        levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), name


def test_every_reference_has_its_one_target(pages):
    for name, page in pages.items():
        ids = set(page.ids)
        assert len(page.ids) == len(ids), name
        for _, attributes, _ in page.elements:
            if "href" in attributes:
                assert attributes["href"][1:] in ids, name
            for one in attributes.get("aria-labelledby", "").split():
                assert one in ids, name


def test_every_table_is_captioned_and_every_picture_described(pages):
    for name, page in pages.items():
        assert len(page.find("caption")) == len(page.find("table")), name
        assert all(attributes.get("scope") in {"col", "row"} for attributes in page.find("th"))
        pictures = [attributes for attributes in page.find("svg") if attributes.get("role") == "img"]
        described = [attributes for attributes in pictures if "aria-describedby" in attributes]
        assert len(page.find("title")) == len(pictures) + 1, name
        assert len(page.find("desc")) == len(described), name
        for tag, attributes, above in page.elements:
            if tag == "svg" and attributes.get("role") != "img" and "svg" not in above:
                assert attributes["aria-hidden"] == "true", name


def test_the_page_begins_with_what_failed(sample):
    page = html.render_html(advised(regressed(sample), answer()), settings={"--infer-devices": "cpu"})
    sections = re.findall(r'<h2 id="(\w+)">', page)
    assert sections[:3] == ["failed", "advice", "cases"]
    assert sections[-2:] == ["environment", "read"]
    assert "--infer-devices" in section(page, "environment")
    assert page.index("FAILED:") < page.index('<h2 id="failed">')


def test_commands_name_the_results_file_of_the_run(sample):
    free = advised(sample.session(), answer(limit=None))
    assert "infergate advise results.json <" in html.render_html(free)
    page = html.render_html(free, results="'out/a b.json'")
    assert "results.json" not in page
    assert "infergate advise &#39;out/a b.json&#39; <" in page


WORK = "Work of one call, counted exactly"
MOVED = "Exact counters that changed"


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


def test_counters_that_changed_are_listed_the_most_severe_case_first(sample):
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
    found = table(page, "These figures are counted, not timed")
    assert found.header == ["Case", "Change", "Caused by"]
    assert found.rows == [
        [
            "test_more[cpu]",
            "operators 1,000 → 1,005 (+0.5 %) | graph breaks 0 → 2",
            "+4 aten::clone in layers.{0-3} | +1 aten::add",
        ],
        ["test_fewer[cpu]", "FLOPs 4.00 kFLOP → 3.00 kFLOP (-25.0 %)", ""],
    ]
    kinds = re.findall(r'<div class="v (\w+)">', section(page, "counters"))
    assert kinds[:3] == ["bad", "bad", "good"]


def test_the_counters_that_changed_are_in_the_navigation_and_link_to_their_case(sample):
    pair = counting(sample, None, Verdict.REGRESSED, comparisons=(sample.counter(now=101),))
    page = html.render_html(sample.session([pair]))
    assert '<li><a href="#counters">' in page
    target = re.search(r'<a class="id" href="#([^"]+)">', section(page, "counters"))[1]
    assert f'<div id="{target}">' in page


def test_where_no_counter_changed_there_is_no_section(sample):
    kinds = {
        "empty": [],
        "without": [sample.pair()],
        "unchanged": [sample.pair(comparisons=(sample.time(), sample.counter(), sample.memory()))],
        "unsettled": [sample.pair(comparisons=(sample.unsettled(Verdict.INCOMPARABLE, "other torch"),))],
    }
    for name, pairs in kinds.items():
        page = html.render_html(sample.session(pairs))
        assert MOVED not in page, name
        assert 'href="#counters"' not in page
        # None of these cases holds counters of its own.
        assert WORK not in page


def test_a_time_that_changed_is_no_counter(sample):
    assert MOVED not in html.render_html(regressed(sample))


def test_hostile_counters_and_operators_are_escaped(sample):
    page = html.render_html(sample.hostile_session())
    assert Page(page).open == []
    changed = section(page, "counters")
    for spelt in (
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&gt;&lt;img src=x onerror=alert(1)&gt;",
        "{{ 7*7 }} {% raw %}",
        r"two\nlines\r\tand a tab",
        r"\x1b[31mred",
    ):
        assert changed.count(spelt) >= 2  # as an operator in a place, and as the name of a counter


EXPENSES = "Energy and cost, calls issued back to back"


def rested_on(page):
    """How many sentences stand below the table of energy and cost."""
    return (
        section(page, "latency")
        .partition(EXPENSES)[2]
        .partition('<ul class="remarks">')[2]
        .partition("</ul>")[0]
        .count("<li>")
    )


def test_energy_and_cost_have_columns_where_a_case_has_them(sample):
    page = html.render_html(expensive(sample))
    found = table(page, "3 cases")
    assert found.header[4:] == [
        "Peak memory",
        "Energy per item",
        "Cost per million items",
        "Budget",
        "Verdict",
    ]
    assert [line[4:] for line in found.rows] == [
        ["125 MB", "~12.3 mJ", "3.31 USD", "-", "equivalent"],
        ["125 MB", "12.3 mJ", "-", "-", "equivalent"],
        ["125 MB", "-", "-", "-", "equivalent"],
    ]
    spent = table(page, EXPENSES)
    assert spent.header == [
        "Case", "Energy per item", "Idle power", "CO2e per million items", "Cost per million items",
    ]  # fmt: skip
    assert spent.rows == [
        ["cpu", "~12.3 mJ", "~0.890 W", "~1.62 g", "3.31 USD"],
        ["cuda", "12.3 mJ", "60.3 W", "1.62 g", "-"],
    ]
    # The estimate and the cost are of one case, what was measured of another, and the CO2e of both.
    assert rested_on(page) == 4


def test_a_column_without_a_figure_is_not_there(sample):
    for fields, shown, headers, bases in (
        (
            {"energy": True},
            ["Energy per item"],
            ["Energy per item", "Idle power", "CO2e per million items"],
            2,
        ),
        ({"price": True}, ["Cost per million items"], ["Cost per million items"], 1),
    ):
        pair = sample.spending(**{field: getattr(sample, field)() for field in fields})
        page = html.render_html(sample.session([pair]))
        assert table(page, "1 case").header[5:-2] == shown
        assert table(page, EXPENSES).header == ["Case", *headers]
        assert rested_on(page) == bases


def test_without_energy_and_cost_the_page_does_not_know_them(sample):
    """An energy and a price of which nothing follows change nothing."""
    impossible = sample.spending(energy=sample.energy(batch_size=0), price=sample.price(utilisation=0.0))
    page = html.render_html(sample.session([sample.pair()]))
    assert page == html.render_html(sample.session([impossible]))
    assert not re.search("Energy|Cost|CO2e", page)


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


def test_hostile_names_of_prices_and_meters_are_escaped(sample):
    for name in ("<script>alert(1)</script>", '"><img src=x>', "{{ 7*7 }}", "\u202eab\n\x1b"):
        price, energy = sample.price(source=name), sample.energy(source=name, scope=name)
        page = html.render_html(sample.session([sample.spending(None, energy, price)]))
        assert Page(page).open == []
        assert (name in page) == ("{{" in name)
        assert Page(page).text.count(plain(name)) >= 3


def test_cases_without_a_baseline_are_explained_and_not_tallied(sample):
    pairs = [sample.pair(sample.case("t.py::test_a"), Verdict.NO_BASELINE), sample.pair()]
    page = html.render_html(
        advised(sample.session(pairs, headline="gate passed: 1 of 2 cases decided"), answer())
    )
    head = page.partition("</header>")[0].partition("<body>")[2]
    assert "1 case has no baseline yet" in head
    assert "no-baseline" not in head
    assert "1 equivalent" in head
    assert "The gate does not depend on" in head
    assert re.search(r"<h1>.*Gate passed: 1 of 2", head, re.DOTALL)


def test_failing_tests_are_open_and_the_others_folded(sample):
    details = Page(html.render_html(regressed(sample))).find("details")
    assert ["open" in attributes for attributes in details] == [True, False]


def test_every_figure_of_the_rows_is_on_the_page(sample):
    session = sample.many(20)
    text = Page(html.render_html(session)).text
    for row in rows.rows(session):
        for figure in (row.p50, row.p95, row.throughput, row.peak_memory, row.verdict_text):
            assert figure in text


def test_the_recorded_median_is_below_the_expected_one(sample):
    corrected = sample.verdict(comparisons=(sample.time(recorded=0.0125),))
    page = html.render_html(sample.session([(sample.result(), corrected)]))
    assert "recorded 12.5 ms" in page
    assert "recorded 12.5 ms" not in html.render_html(sample.session([(sample.result(), sample.verdict())]))


def test_the_picture_marks_median_p95_expectation_and_limit(sample):
    page = html.render_html(regressed(sample))
    drawn = re.findall(r'<use href="#(\w+)" x="([\d.]+)%"', page)
    assert [symbol for symbol, _ in drawn[:4]] == ["limit", "expected", "p95", "p50"]
    assert "cpu-b8, p50 40.0 ms" in Page(page).text


def test_a_strict_failure_says_so_in_the_table(sample):
    pair = sample.pair(verdict=Verdict.SUSPECTED, failed=True)
    assert "fails the run" in html.render_html(sample.session([pair]))


def test_a_skipped_case_tells_why(sample):
    fields = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": sample.note(hint="unset it")}
    page = html.render_html(sample.session([sample.pair(verdict=Verdict.NOT_MEASURED, result=fields)]))
    text = Page(page).text
    assert sample.note().text in text
    assert "unset it." in text
    assert 'role="img"' not in page


def test_new_missing_renamed_and_deselected_are_all_listed(sample):
    cases = [sample.case(f"t.py::test_{index}") for index in range(40)]
    page = html.render_html(
        sample.session(
            [sample.pair(), *(sample.pair(case, Verdict.NO_BASELINE) for case in cases[:30])],
            missing=(cases[30],),
            renamed=((cases[31], cases[32]),),
            deselected=(sample.note("no axis"),),
        )
    )
    text = Page(page).text
    assert all(case.name in text for case in cases[:33])
    assert "(30)" in text
    assert "no axis" in text


def test_nothing_hostile_survives(sample, pages):
    texts = ("<script>alert(1)", "<img src=x", '"><img', "\x1b", "\u202e", "\u200b", "\x00", "\udc80")
    settings = {text: text for text in texts}
    page = html.render_html(sample.hostile_session(), settings=settings)
    for text in texts:
        assert text not in page
        assert text not in pages["paired hostile"].markup
    assert "49" not in re.findall(r"quoted[^<]{0,40}", page)[0]


def test_hostile_names_are_still_legible(sample):
    page = html.render_html(sample.hostile_session())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert r"two\nlines\r\tand a tab" in page


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


def test_extreme_figures_render(sample):
    for value in (0.0, 5e-324, 1e300, float("inf"), float("nan")):
        pair = sample.pair(
            result={"measurement": sample.measurement(cold_start=value, throughput=value)},
            comparisons=(sample.time(baseline=value, effect=value),),
            budgets=(sample.check(limit=value),),
        )
        assert Page(html.render_html(sample.session([pair]))).open == [], value


# Paired runs


def test_the_page_has_the_columns_of_a_paired_run(sample):
    session = every_paired_kind(sample)
    found = next(each for each in tables(html.render_html(session)) if each.header[-1] == "Verdict")
    assert found.header == ["Case", "Was", "Now", "Change", "99 % interval", "Launches", "Verdict"]
    cells = {line[0].rpartition(" | ")[2]: line[1:] for line in found.rows}
    assert len(cells) == len(session.cases)
    assert cells["test_taken[cpu]"] == [
        "40.0 ms", "43.5 ms", "+8.7 %", "+7.7 % to +9.7 %", "7", "regressed (accepted)",
    ]  # fmt: skip
    assert cells["test_new[cpu]"] == ["-", "40.0 ms", "-", "-", "-", "no-baseline"]
    assert cells["test_skipped[cpu]"] == ["-"] * 5 + ["not-measured"]


def test_times_of_a_paired_run_stand_beside_those_of_the_base(sample):
    pages = {
        "Base p50": html.render_html(every_paired_kind(sample)),
        "Expected p50": html.render_html(sample.session([sample.pair(comparisons=(sample.time(),))])),
    }
    for header, page in pages.items():
        found = next(each for each in tables(page) if len(each.header) > 6 and each.header[6].endswith("p50"))
        assert (found.header[6], found.rows[0][6]) == (header, "40.0 ms")


def test_what_a_commit_accepts_is_listed_only_where_there_is_any(sample):
    against = msgspec.structs.replace(MAIN, accepted={"test_a*": "it is worth it", "test_b": ""})
    with_it, without = (
        html.render_html(paired(sample, [judged(sample)], against)) for against in (against, MAIN)
    )
    assert with_it.count("<li>") == without.count("<li>") + 2
    assert "<li>test_a*: it is worth it</li>" in with_it


def test_the_figures_of_a_paired_run_are_labelled_on_narrow_screens(sample):
    """The header is hidden there: each cell has a label of its own."""
    labels = re.findall(r'::before\{content:"([^"]+)"\}', html.render_html(every_paired_kind(sample)))
    assert {"was", "now", "change", "interval", "launches"} <= {each.lower() for each in labels}


def test_hostile_revisions_and_trailers_are_escaped_and_made_plain(sample):
    page = html.render_html(hostile_paired(sample))
    line, trailers = re.search(r"<p>([^\n]*<strong>.*?)</p>.*?<ul[^>]*>(.*?)</ul>", page, re.DOTALL).groups()
    for place in (line, trailers):
        for spelt in (
            "&lt;script&gt;alert(1)&lt;/script&gt;", "{{ 7*7 }} {% raw %}", r"two\nlines\r\tand a tab",
            r"\x1b[31mred", r"\udc80",
        ):  # fmt: skip
            assert spelt in place
    assert trailers.count("&lt;script&gt;") == 2  # the pattern and the reason
