from __future__ import annotations

import random
import re

import msgspec
from markdown_it import MarkdownIt
from sessions import ASKED, SMALL, advised, answer, unmet

from pytest_infergate.core.domain.outcome import Outcome, Verdict
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
    name, properties, data = obeyed(line)
    assert name == "error"
    assert properties == {"file": "tests/test_model.py", "line": "12", "title": f"regressed: {NODE}"}
    assert data.startswith("regressed: operators 2, was 1\n")


def test_a_place_without_a_line_and_a_case_without_a_place(sample):
    (line,) = github.annotate(regressed(sample), {NODE: ("a.py", None)}).splitlines()
    assert line.startswith("::error file=a.py,title=")
    (line,) = github.annotate(regressed(sample), {}).splitlines()
    assert line.startswith("::error title=")


def test_at_most_nine_and_how_many_more(sample):
    for count, more in ((9, []), (21, ["12"])):
        lines = github.annotate(regressed(sample, *(f"test_{n}" for n in range(count))), {}).splitlines()
        assert [line.partition(" ")[0] for line in lines] == ["::error"] * 9 + ["::notice"] * len(more)
        assert re.findall(r"\d+", "".join(lines[9:])) == more


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
    lines = github.annotate(session, places, limit=100).split("\n")
    assert len(lines) == len(session.gate.verdicts)
    for line in lines:
        name, properties, data = obeyed(line)
        assert (name, set(properties), properties["line"]) == ("error", {"file", "line", "title"}, "3")
        assert all(part.isprintable() for part in (*properties.values(), *data.split("\n")))


def test_a_file_with_commas_and_colons_is_one_property(sample):
    (line,) = github.annotate(regressed(sample), {NODE: ("a,line=1::b%.py", 12)}).splitlines()
    assert obeyed(line)[1]["file"] == "a,line=1::b%.py"
    assert obeyed(line)[1]["line"] == "12"


def test_a_command_says_what_it_was_given():
    generator = random.Random(0)
    pieces = ("%", "0A", "%0D", "%25", ":", "::", ",", "=", "\r", "\n", " ", "a", "\x00", "\u2028", "🚀")
    for size in range(1, 200):
        message, title = ("".join(generator.choices(pieces, k=size % 12 + 1)) for _ in range(2))
        line = github.command("warning", message, title=title)
        assert not {"\r", "\n"} & set(line)
        assert obeyed(line) == ("warning", {"title": title}, message)
    assert obeyed(github.command("warning", "", title="x")) == ("warning", {"title": "x"}, "")


def test_a_long_message_is_cut():
    assert len(github.command("error", "x" * 10_000)) < 5_000


# The page


def test_the_sentence_that_matters_comes_first(sample):
    headline = "passed: 1 of 1 case decided"
    pages = {
        "❌": regressed(sample, headline=headline),
        "✅": sample.session([sample.pair()], headline=headline, decided=1),
    }
    for mark, session in pages.items():
        assert github.markdown_summary(session).startswith(f"### {mark} {escaped(headline)}\n\n")


def test_a_run_that_decided_nothing_is_no_success(sample):
    for pairs in ([sample.pair()], []):
        assert github.markdown_summary(sample.session(pairs, decided=0)).startswith("### ⚠️ ")


def test_what_went_wrong_beside_the_cases_comes_before_them(sample):
    session = sample.session([sample.pair()])
    page = github.markdown_summary(session, lead="the lead")
    assert page.startswith(f"### ❌ the lead\n\n{escaped(session.gate.headline)}\n\n")


def folded(page):
    """The text of each folded part by its title."""
    return dict(re.findall(r"<details><summary>(.*?)</summary>\n\n(.*?)\n\n</details>", page, re.DOTALL))


def all_cases(page):
    (text,) = [text for title, text in folded(page).items() if re.fullmatch(r"All \d+ cases?", title)]
    return text.splitlines()


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
    table = page.split("\n\n<details>")[0].split("\n\n")[2].splitlines()
    assert table[0] == "| case | verdict | was | now | change | finding |"
    assert [re.search(r"\[(.)\]", line)[1] for line in table[2:]] == ["a", "b", "c", "f"]
    assert [cell.strip() for cell in table[2].split("|")[2:6]] == [
        "❌ regressed", "40.0 ms", "60.0 ms", r"\+50.0 % \(\+46.0 % to \+54.0 %\)",
    ]  # fmt: skip
    assert len(all_cases(page)) == 2 + 7


def test_energy_and_cost_have_columns_where_a_case_has_them(sample, snapshot):
    cases = [sample.case(device=name) for name in ("cpu", "cuda")]
    pairs = [
        sample.spending(cases[0], sample.estimate(), sample.price()),
        sample.spending(cases[1], sample.energy()),
    ]
    assert "\n".join(all_cases(github.markdown_summary(sample.session(pairs)))) == snapshot


def test_a_column_without_a_figure_is_not_there(sample):
    for fields, header in (
        ({"energy": True}, "| peak memory | energy/item | budget |"),
        ({"price": True}, "| peak memory | cost/million | budget |"),
        ({}, "| peak memory | budget |"),
    ):
        pair = sample.spending(**{field: getattr(sample, field)() for field in fields})
        lines = all_cases(github.markdown_summary(sample.session([pair])))
        assert lines[0].endswith(header)
        assert len(lines) == 3


def test_advice_of_a_run_is_a_part_of_the_page(sample, snapshot):
    several = advised(sample.session(), answer(), SMALL, unmet(), unanswered=ASKED)
    title = "### Where to run each model"
    page = github.markdown_summary(several)
    # Advice is the first section below the changes, and not folded.
    assert page[page.index(title) : page.index("<details>", page.index(title))] == snapshot
    assert title not in github.markdown_summary(sample.session())
    many = advised(sample.session(), *(answer(model=f"t.py::test_{index}") for index in range(25)))
    page = github.comment(many, (1, 1))
    lines = page[page.index(title) : page.index("<details>", page.index(title))].strip().splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 + github.COMMENT_ROWS
    (rest,) = [line for line in lines if line.startswith("and ")]
    assert re.findall(r"\d+", rest) == ["6"]  # their sum is a line, too


def test_nothing_changed_is_no_table(sample):
    page = github.markdown_summary(sample.session([sample.pair()]))
    assert page.split("\n\n")[1].startswith("<details>")


def test_only_words_that_are_used_are_explained(sample):
    used = {
        verdict.value
        for verdict in Verdict
        if f"**{verdict.value}**" in github.markdown_summary(regressed(sample))
    }
    assert used == {"regressed"}


def test_every_verdict_has_a_meaning():
    assert set(github.MEANINGS) == set(Verdict)


def test_long_lists_of_cases_are_cut(sample):
    cases = [sample.case(f"t.py::test_{index}") for index in range(14)]
    new = [sample.pair(case, Verdict.NO_BASELINE) for case in cases]
    page = github.markdown_summary(sample.session([sample.pair(), *new]))
    (text,) = [text for name, text in folded(page).items() if "missing" in name]
    assert text.count("`t.py::test_") == 12
    assert re.findall(r"\d+", text.splitlines()[-1]) == ["2"]


# Limits


def test_sections_are_left_out_whole_and_named(sample):
    session = msgspec.structs.replace(sample.many(150), gate=regressed(sample).gate)
    full = github.markdown_summary(session)
    for limit in (1_000, 2_000, 4_000, 8_000, 16_000):
        page = github.markdown_summary(session, limit=limit)
        assert len(page.encode()) <= limit
        *kept, last = page.rstrip("\n").split("\n\n")
        assert all(block in full.split("\n\n") for block in kept)
        assert page.count("<details>") == page.count("</details>") < full.count("<details>")
        assert last not in full
        assert "all 151 cases" in last, limit


def test_a_page_that_fits_leaves_nothing_out(sample):
    session = sample.many(200)
    assert github.markdown_summary(session) == github.markdown_summary(session, limit=10**7)


def test_a_hostile_session_keeps_the_limits(sample):
    session = sample.hostile_session()
    assert len(github.markdown_summary(session).encode()) <= github.SUMMARY_BYTES
    assert len(github.comment(session, (1, 1))) <= 65_536
    assert len(github.comment(session, (1, 1)).encode()) <= github.COMMENT_BYTES


def test_a_comment_of_many_failures_keeps_its_table(sample):
    page = github.comment(regressed(sample, *(f"test_{'x' * 200}_{n}" for n in range(300))), (1, 1))
    assert len(page.encode()) <= github.COMMENT_BYTES
    assert page.count("❌ regressed") >= github.COMMENT_ROWS
    assert re.findall(r"\n\n.*\b280\b.*\n\n", page)


# Hostile texts


def parsed(page):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(page)


OURS = re.compile(r"<details><summary>[\w ,]+</summary>|</details>|<!-- infergate -->|<!-- run \d+\.\d+ -->")


SPOKEN = {
    "text", "text_special", "code_inline", "softbreak", "strong_open", "strong_close", "link_open", "link_close",
}  # fmt: skip


def test_no_text_of_a_run_becomes_markup(sample):
    sessions = {"": sample.hostile_session()}
    for nasty in NASTY:
        case = sample.case(f"t.py::{nasty}", device="cpu", params=nasty)
        note = sample.note(nasty, nasty)
        pair = sample.pair(
            case, Verdict.REGRESSED, {"reason": note, "unit": nasty}, failed=True, notes=(note,),
            comparisons=(sample.time(Verdict.REGRESSED, 0.5, note=note), sample.counter(nasty, 1, 2)),
        )  # fmt: skip
        sessions[nasty] = sample.session(
            [pair], headline=nasty, passed=False, reasons=(nasty,), new=(case,), deselected=(note,)
        )
    for nasty, session in sessions.items():
        page = github.comment(session, (7, 1), lead=nasty, artifact_url="https://example.org/run")
        tokens = parsed(page)
        children = [child for token in tokens for child in token.children or ()]
        assert {token.type for token in children} <= SPOKEN, nasty
        links = [token.attrs["href"] for token in children if token.type == "link_open"]
        assert links == ["https://example.org/run"], nasty
        assert all(OURS.fullmatch(token.content.strip()) for token in tokens if token.type == "html_block")
        words = "".join(child.content for child in children if child.type in ("text", "text_special"))
        assert not re.search(r"[@#][A-Za-z0-9]", words), nasty
        for line in page.splitlines():
            if line.startswith("| "):
                assert len(re.findall(r"(?<!\\)\|", line)) in (7, 8, 9, 10), nasty


# The comment


def test_a_comment_is_found_by_its_first_line(sample):
    text = github.comment(regressed(sample), (123, 2))
    assert text.startswith("<!-- infergate -->\n<!-- run 123.2 -->\n\n### ❌ ")
    assert github.order_of(text) == (123, 2)
    assert github.order_of(text.replace("\n", "\r\n")) == (123, 2)


def test_other_comments_are_not_ours():
    for body, order in (
        ("", None),
        ("hello\n<!-- infergate -->\n<!-- run 9.9 -->", None),
        ("<!-- infergate -->\n\nhello <!-- run 9.9 -->", (0, 0)),
        ("<!-- infergate -->\n<!-- run 1234567890123456789.1 -->", (0, 0)),
    ):
        assert github.order_of(body) == order, body
