from __future__ import annotations

import re
from itertools import pairwise

from markdown_it import MarkdownIt

from pytest_infergate.report import markdown
from pytest_infergate.report.table import Column

NAMES = (
    "tests/test_a.py::test_b[cpu-b8]",
    "pipes a|b and a\\|b",
    "ticks ` and `` and ```",
    "`at both ends`",
    "*bold* _low_ ~~gone~~ $x^2$",
    "[words](https://evil.example)",
    "![picture](https://evil.example/x.png)",
    "https://evil.example and www.evil.example and me@evil.example",
    "@octocat and @org/team",
    "#1 and octo/cat#2",
    "<script>alert(1)</script> &lt; &copy;",
    "<!-- infergate -->",
    "</details></summary>",
    "# heading",
    "1. first",
    "- item",
    "> quote",
    "::error::gone",
    "=====",
    "two\nlines",
    "\u202eturned",
    "日本 🚀",
)


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def inline(tokens):
    return [child for token in tokens for child in token.children or ()]


def types(text):
    tokens = rendered(text)
    return {token.type for token in tokens} | {token.type for token in inline(tokens)}


def words(text):
    return "".join(
        token.content for token in inline(rendered(text)) if token.type in ("text", "text_special")
    )


def test_escaped_text_is_text_and_reads_as_written():
    for name in NAMES:
        text = markdown.escaped(name)
        assert types(text) <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}, name
        assert words(text).replace("\u200b", "") == markdown.plain(name)
        assert not re.search(r"[@#][A-Za-z0-9]", words(text)), name  # it mentions no user


def test_a_span_of_code_says_the_name():
    for name in NAMES:
        spans = [token for token in inline(rendered(markdown.code(name))) if token.type == "code_inline"]
        assert [span.content.strip() for span in spans] == [markdown.plain(name)]


def test_a_table_keeps_its_cells():
    for name in NAMES:
        for safe in (markdown.escaped(name), markdown.code(name, cell=True)):
            columns = (Column("a", "first", str), Column("b", "second", lambda _: "last"))
            tokens = rendered(markdown.markdown_table(columns, [name], {"a": lambda _, safe=safe: safe}))
            cells = [after.children for token, after in pairwise(tokens) if token.type == "td_open"]
            assert len(cells) == 2, name
            said = "".join(child.content for child in cells[0]).replace("\u200b", "").strip()
            assert said == markdown.plain(name)
            assert [child.content for child in cells[1]] == ["last"]


def test_empty_text_is_no_span():
    assert markdown.code(" \n".strip()) == ""


def test_a_table_aligns():
    columns = (Column("a", "a", str, left=True), Column("b", "b", lambda value: f"{value + 0.5}"))
    assert markdown.markdown_table(columns, [1]) == "| a | b |\n| :-- | --: |\n| 1 | 1.5 |"


def test_cells_are_escaped_and_cut_but_for_those_that_are_formatted():
    columns = (Column("a", "a", str), Column("b", "b", str))
    text = markdown.markdown_table(columns, ["*" + "x" * 300], {"b": lambda _: "`*`"}).splitlines()[-1]
    assert text.startswith("| \\*x")
    assert text.endswith("… | `*` |")
    assert text.count("x") == markdown.CELL - 2


def test_a_point_between_digits_stays_as_it_is():
    assert markdown.escaped("1.5 ms, 1. x, www.a.b, .5") == r"1.5 ms, 1\. x, www\.a\.b, \.5"


def test_a_block_holds_its_lines():
    for name in NAMES:
        tokens = rendered(markdown.block(["first", name]))
        assert [token.type for token in tokens] == ["fence"], name
        assert tokens[0].content == f"first\n{markdown.plain(name)}\n"


def test_details_fold_markdown():
    tokens = rendered(markdown.details("All cases", "**one**"))
    assert [token.type for token in tokens] == [
        "html_block", "paragraph_open", "inline", "paragraph_close", "html_block",
    ]  # fmt: skip


def test_only_addresses_of_the_web_are_linked():
    for address in (
        "javascript:alert(1)",
        "https://a b",
        "https://a>b",
        "file:///etc/passwd",
        "https://a|b",
        "",
    ):
        assert markdown.link("Report", address) == "Report", address


def test_a_link():
    assert markdown.link("Report", "https://example.org/a(b)#c") == "[Report](<https://example.org/a(b)#c>)"
    assert "link_open" in types(markdown.link("Report", "https://example.org/a(b)#c"))


def test_cut_leaves_the_beginning():
    for most, expected in ((5, "words"), (4, "wor…"), (1, "…")):
        assert markdown.cut("words", most) == expected
