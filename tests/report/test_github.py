from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_infergate.core.domain.outcome import Against, Outcome, Verdict
from pytest_infergate.report import github
from pytest_infergate.report.markdown import escaped

NODE = "tests/test_model.py::test_embedder[cpu]"
PLACE = {NODE: ("tests/test_model.py", 12)}
NASTY = (
    "a|b", "`tick`", "@octocat", "#12", "[x](https://evil.example)", "<img src=x>", "<!-- infergate -->",
    "https://evil.example", "www.evil.example", "%0A::error::x", "a,line=1::b", "</details>", "**bold**",
)  # fmt: skip


def regressed(sample, *names, **fields):
    """A session in which each test named fails."""
    rows = (sample.counter(before=1, now=2), sample.time(Verdict.EQUIVALENT, 0.01))
    cases = [sample.case(f"tests/test_model.py::{name}") for name in names or ("test_embedder",)]
    pairs = [sample.pair(case, Verdict.REGRESSED, failed=True, comparisons=rows) for case in cases]
    known = {
        "passed": False,
        "headline": f"FAILED: {len(cases)} of {len(cases)} cases decided",
        "decided": len(cases),
    }
    return sample.session(pairs, **{**known, **fields})


def obeyed(line):
    """What the runner makes of a line: command, properties, data; ``None`` where it is no command."""
    if not line.startswith("::") or "::" not in line[2:]:
        return None
    info, _, data = line[2:].partition("::")
    name, _, rest = info.partition(" ")
    properties = {}
    for pair in filter(None, rest.split(",")):
        key, _, value = pair.partition("=")
        for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            value = value.replace(code, character)
        properties[key] = value
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        data = data.replace(code, character)
    return name, properties, data


# Annotations


def test_a_failing_case_is_an_error_at_its_line(sample):
    (line,) = github.annotate(regressed(sample), PLACE).splitlines()
    assert line.startswith(
        "::error file=tests/test_model.py,line=12,"
        "title=regressed%3A tests/test_model.py%3A%3Atest_embedder[cpu]::regressed: operators 2 against 1%0A"
    )
    name, properties, data = obeyed(line)
    assert (name, properties["title"]) == ("error", f"regressed: {NODE}")
    assert data.splitlines()[1] == "exact counters, without noise: regressed"
    assert data.splitlines()[2].startswith("  operators: 2 against 1")
    assert data.splitlines()[-1].startswith("next: ")


def test_a_place_without_a_line_and_a_case_without_a_place(sample):
    (line,) = github.annotate(regressed(sample), {NODE: ("a.py", None)}).splitlines()
    assert line.startswith("::error file=a.py,title=")
    (line,) = github.annotate(regressed(sample), {}).splitlines()
    assert line.startswith("::error title=")


def test_at_most_nine_and_how_many_more(sample):
    lines = github.annotate(regressed(sample, *(f"test_{n}" for n in range(21))), {}).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error"] * 9 + ["::notice"]
    assert lines[-1] == "::notice title=infergate::and 12 more"


def test_nine_are_nine(sample):
    lines = github.annotate(regressed(sample, *(f"test_{n}" for n in range(9))), {}).splitlines()
    assert len(lines) == 9
    assert {line.partition(" ")[0] for line in lines} == {"::error"}


def test_nothing_failed_is_nothing(sample):
    pair = sample.pair(verdict=Verdict.SUSPECTED, comparisons=(sample.time(Verdict.SUSPECTED, 0.3),))
    assert github.annotate(sample.session([pair]), PLACE) == ""


def test_a_run_that_failed_as_a_whole_is_an_error_too(sample):
    session = sample.session(
        passed=False, headline="FAILED: 0 of 3 cases decided", reasons=("nothing was measured",)
    )
    assert github.annotate(session, {}) == (
        "::error title=infergate::FAILED: 0 of 3 cases decided%0Anothing was measured"
    )


def test_hostile_names_stay_in_their_command(sample):
    session = sample.hostile_session()
    places = {verdict.nodeid: (verdict.nodeid, 3) for verdict in session.gate.verdicts}
    lines = github.annotate(session, places, most=100).split("\n")
    assert len(lines) == len(session.gate.verdicts)
    for line in lines:
        name, properties, data = obeyed(line)
        assert (name, set(properties), properties["line"]) == ("error", {"file", "line", "title"}, "3")
        assert all(part.isprintable() for part in (*properties.values(), *data.split("\n")))


def test_a_file_with_commas_and_colons_is_one_property(sample):
    (line,) = github.annotate(regressed(sample), {NODE: ("a,line=1::b%.py", 12)}).splitlines()
    assert obeyed(line)[1]["file"] == "a,line=1::b%.py"
    assert obeyed(line)[1]["line"] == "12"


@given(st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_a_command_says_what_it_was_given(message, title):
    line = github.command("warning", message, title=title)
    assert "\n" not in line
    assert "\r" not in line
    assert obeyed(line) == ("warning", {"title": title}, message)


def test_a_long_message_is_cut():
    assert len(github.command("error", "x" * 10_000)) < 5_000


# The page


def test_the_sentence_that_matters_comes_first(sample):
    page = github.markdown_summary(regressed(sample, headline="FAILED: 1 of 1 case decided, 1 regressed"))
    assert page.startswith("### ❌ FAILED\\: 1 of 1 case decided, 1 regressed\n\n")
    good = github.markdown_summary(sample.session([sample.pair()], decided=1))
    assert good.startswith("### ✅ passed\\: 1 of 1 case decided\n\n")


def test_a_run_that_decided_nothing_is_no_success(sample):
    page = github.markdown_summary(
        sample.session([sample.pair()], headline="passed: 0 of 1 case decided", decided=0)
    )
    assert page.startswith("### ⚠️ passed")


def test_a_run_without_cases_is_no_success(sample):
    assert github.markdown_summary(sample.session(headline="passed: no inference case ran")).startswith(
        "### ⚠️ "
    )


def test_what_went_wrong_beside_the_cases_comes_before_them(sample):
    page = github.markdown_summary(sample.session([sample.pair()]), lead="pytest ended with exit code 1")
    assert page.startswith("### ❌ pytest ended with exit code 1\n\npassed\\: 1 of 1 case decided\n\n")


def test_reasons_and_the_address_of_the_artifact(sample):
    page = github.markdown_summary(
        regressed(sample, reasons=("1 case regressed",)), artifact_url="https://example.org/run"
    )
    assert "\n\n- 1 case regressed\n\n[Report and results](<https://example.org/run>)\n\n" in page


def section(page, title):
    """The text of a folded part."""
    return page.split(f"<details><summary>{title}</summary>\n\n")[1].split("\n\n</details>")[0]


def test_one_table_has_only_what_changed(sample):
    case = sample.case
    pairs = [
        sample.pair(
            case(device="a"),
            Verdict.REGRESSED,
            failed=True,
            comparisons=(sample.time(Verdict.REGRESSED, 0.5),),
        ),
        sample.pair(case(device="b"), Verdict.SUSPECTED, comparisons=(sample.time(Verdict.SUSPECTED, 0.3),)),
        sample.pair(case(device="c"), Verdict.IMPROVED, comparisons=(sample.time(Verdict.IMPROVED, -0.2),)),
        sample.pair(case(device="d"), Verdict.EQUIVALENT, comparisons=(sample.time(),)),
        sample.pair(case(device="e"), Verdict.NO_BASELINE),
        sample.pair(case(device="f"), Verdict.NOT_MEASURED, {"outcome": Outcome.FAILED}, failed=True),
        sample.pair(case(device="g"), Verdict.NOT_MEASURED, {"outcome": Outcome.SKIPPED}),
    ]
    page = github.markdown_summary(
        sample.session(pairs, passed=False, headline="FAILED: 4 of 7 cases decided")
    )
    table = page.split("\n\n<details>")[0].split("\n\n")[1].splitlines()
    assert table[0] == "| case | verdict | was | now | change | what |"
    assert [re.search(r"\[(.)\]", line)[1] for line in table[2:]] == ["a", "b", "c", "f"]
    assert table[2] == (
        "| `tests/test_model.py::test_embedder[a]` | ❌ regressed | 40.0 ms | 60.0 ms | +50.0 % (+46.0 % to +54.0 %) "
        f"| {escaped('p50 latency 60.0 ms against an expected 40.0 ms: +50.0 %, allowed +25.0 %')} |"
    )
    assert len(section(page, "All 7 cases").splitlines()) == 2 + 7


def test_energy_and_cost_have_columns_where_a_case_has_them(sample):
    cases = [sample.case(device=name) for name in ("cpu", "cuda")]
    pairs = [
        sample.spending(cases[0], sample.estimate(), sample.price()),
        sample.spending(cases[1], sample.energy()),
    ]
    assert section(github.markdown_summary(sample.session(pairs)), "All 2 cases").splitlines() == [
        "| case | verdict | p50 | p95 | throughput | peak memory | energy/item | cost/million | budget |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | :-- |",
        (
            "| `tests/test_model.py::test_embedder[cpu]` | ✅ equivalent | 40.0 ms | 43.4 ms | 25\\.0/s | 125 MB "
            "| \\~12\\.3 mJ | 3\\.31 USD | \\- |"
        ),
        (
            "| `tests/test_model.py::test_embedder[cuda]` | ✅ equivalent | 40.0 ms | 43.4 ms | 25\\.0/s | 125 MB "
            "| 12\\.3 mJ | \\- | \\- |"
        ),
        "",
        "\\~ an estimate, not measured\\: \\-\\-infer\\-energy measures where a meter can be read",
    ]


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"energy": True}, "| peak memory | energy/item | budget |"),
        ({"price": True}, "| peak memory | cost/million | budget |"),
        ({}, "| peak memory | budget |"),
    ],
    ids=["energy", "cost", "neither"],
)
def test_a_column_without_a_figure_is_not_there(sample, fields, header):
    pair = sample.spending(**{field: getattr(sample, field)() for field in fields})
    lines = section(github.markdown_summary(sample.session([pair])), "All 1 case").splitlines()
    assert lines[0].endswith(header)
    assert len(lines) == 3


def test_nothing_changed_is_no_table(sample):
    page = github.markdown_summary(sample.session([sample.pair()]))
    assert page.split("\n\n")[1].startswith("<details>")


def test_why_and_what_next_are_folded(sample):
    text = section(github.markdown_summary(regressed(sample)), "Why, and what next")
    assert text.startswith(f"`{NODE}`\n\n```text\nregressed: operators 2 against 1\n")
    assert "\nnext: if the change is meant, record it with --infer-save\n" in text


def test_words_are_explained_for_those_who_meet_them_first(sample):
    text = section(github.markdown_summary(regressed(sample)), "What these words mean")
    assert text.startswith("- **regressed**: slower, bigger or more work than before")
    assert text.endswith(
        "If a change is meant, record it with `pytest --infer-save`, and commit `.infergate/`."
    )
    assert "suspected" not in text


def test_every_verdict_has_a_meaning():
    assert set(github.MEANINGS) == set(Verdict)


def test_a_paired_run_says_against_what_and_how_to_accept(sample):
    against = Against(
        revision="origin/main",
        commit="1a2b3c4d5e",
        launches=7,
        seconds=180.0,
        accepted={"test_*": "larger @model"},
    )
    page = github.markdown_summary(msgspec.structs.replace(regressed(sample), against=against))
    assert (
        f"Against {escaped('origin/main (merge base 1a2b3c4)')}, call by call: 7 launches, 3 min\n\n" in page
    )
    assert f"- accepted by a commit: `test_*`: {escaped('larger @model')}\n\n" in page
    assert "`Infergate-Accept: PATTERN REASON`" in section(page, "What these words mean")


def test_cases_that_came_and_went_are_folded(sample):
    cases = tuple(sample.case(f"t.py::test_{index}") for index in range(14))
    page = github.markdown_summary(
        sample.session(
            [sample.pair()], new=cases, missing=cases[:1], renamed=((cases[0], cases[1]),),
            deselected=(sample.note("why", "do"),),
        )
    )  # fmt: skip
    text = section(page, "New, missing and deselected cases")
    assert text.startswith("New, unknown to what is on record:\n\n- `t.py::test_0[cpu]`\n")
    assert "\n- and 2 more\n\nMissing, on record only:\n\n- `t.py::test_0[cpu]`\n\n" in text
    assert "\n- `t.py::test_0[cpu]` is now `t.py::test_1[cpu]`\n\nDeselected:\n\n- why \\(do\\)" in text


def test_notes_and_environment_are_folded(sample):
    pair = sample.pair(notes=(sample.note("hidden", "unset it"),))
    page = github.markdown_summary(sample.session([pair]))
    assert section(page, "Notes") == f"- `{NODE}`: hidden \\(unset it\\)"
    assert f"- machine: {escaped('2 cores of AMD EPYC 7B13')}\n" in section(page, "Environment")


# Limits


@pytest.mark.parametrize("limit", [1_000, 2_000, 4_000, 8_000, 16_000])
def test_sections_are_left_out_whole_and_named(sample, limit):
    session = msgspec.structs.replace(sample.many(150), gate=regressed(sample).gate)
    full, page = github.markdown_summary(session), github.markdown_summary(session, limit=limit)
    assert len(page.encode()) <= limit
    *kept, last = page.rstrip("\n").split("\n\n")
    assert all(block in full.split("\n\n") for block in kept)
    assert page.count("<details>") == page.count("</details>") < full.count("<details>")
    assert last.startswith("Left out for want of room: ")
    assert last.endswith(". The results file has it all.")
    assert "all 151 cases" in last


def test_a_page_that_fits_leaves_nothing_out(sample):
    assert "Left out" not in github.markdown_summary(sample.many(200))


def test_a_hostile_session_keeps_the_limits(sample):
    session = sample.hostile_session()
    assert len(github.markdown_summary(session).encode()) <= github.SUMMARY_BYTES
    assert len(github.comment(session, (1, 1))) <= 65_536
    assert len(github.comment(session, (1, 1)).encode()) <= github.COMMENT_BYTES


def test_a_comment_of_many_failures_keeps_its_table(sample):
    page = github.comment(regressed(sample, *(f"test_{'x' * 200}_{n}" for n in range(300))), (1, 1))
    assert len(page.encode()) <= github.COMMENT_BYTES
    assert page.count("❌ regressed") >= github.COMMENT_ROWS
    assert "\n\nand 280 more cases\n\n" in page


# Hostile texts


def parsed(page):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(page)


OURS = re.compile(r"<details><summary>[\w ,]+</summary>|</details>|<!-- infergate -->|<!-- run \d+\.\d+ -->")


@pytest.mark.parametrize("nasty", [None, *NASTY])
def test_no_text_of_a_run_becomes_markup(sample, nasty):
    session = sample.hostile_session()
    if nasty is not None:
        case = sample.case(f"t.py::{nasty}", device="cpu", params=nasty)
        note = sample.note(nasty, nasty)
        pair = sample.pair(
            case, Verdict.REGRESSED, {"reason": note, "unit": nasty}, failed=True, notes=(note,),
            comparisons=(sample.time(Verdict.REGRESSED, 0.5, note=note), sample.counter(nasty, 1, 2)),
        )  # fmt: skip
        session = sample.session(
            [pair], headline=nasty, passed=False, reasons=(nasty,), new=(case,), deselected=(note,)
        )
    page = github.comment(session, (7, 1), lead=nasty or "", artifact_url="https://example.org/run")
    tokens = parsed(page)
    children = [child for token in tokens for child in token.children or ()]
    found = {token.type for token in children}
    assert found <= {
        "text",
        "text_special",
        "code_inline",
        "softbreak",
        "strong_open",
        "strong_close",
        "link_open",
        "link_close",
    }
    assert [token.attrs["href"] for token in children if token.type == "link_open"] == [
        "https://example.org/run"
    ]
    assert all(OURS.fullmatch(token.content.strip()) for token in tokens if token.type == "html_block")
    words = "".join(child.content for child in children if child.type in ("text", "text_special"))
    assert not re.search(r"[@#][A-Za-z0-9]", words)
    for line in page.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (7, 8, 10)


# The comment


def test_a_comment_is_found_by_its_first_line(sample):
    text = github.comment(regressed(sample), (123, 2))
    assert text.startswith("<!-- infergate -->\n<!-- run 123.2 -->\n\n### ❌ ")
    assert github.order_of(text) == (123, 2)
    assert github.order_of(text.replace("\n", "\r\n")) == (123, 2)


@pytest.mark.parametrize(
    ("body", "order"),
    [
        ("", None),
        ("hello\n<!-- infergate -->\n<!-- run 9.9 -->", None),
        ("<!-- infergate -->\n\nhello <!-- run 9.9 -->", (0, 0)),
        ("<!-- infergate -->\n<!-- run 1234567890123456789.1 -->", (0, 0)),
    ],
)
def test_other_comments_are_not_ours(body, order):
    assert github.order_of(body) == order


def test_a_run_without_results_is_no_pass():
    page = github.without_results(
        "pytest ended with exit code 4", artifact_url="https://example.org/run", order=(5, 1)
    )
    assert page == (
        "<!-- infergate -->\n<!-- run 5.1 -->\n\n### ❌ No result: pytest ended with exit code 4\n\n"
        "Nothing was decided. [Look at the run.](<https://example.org/run>)\n"
    )
    assert github.without_results("x").startswith("### ❌ No result: x\n")
