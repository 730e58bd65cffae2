from __future__ import annotations

import re
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from pytest_infergate.report import markdown

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


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_escaped_text_is_text_and_reads_as_written(name):
    text = markdown.escaped(name)
    assert types(text) <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert words(text).replace("\u200b", "") == markdown.plain(name)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_escaped_text_mentions_nobody(name):
    assert not re.search(r"[@#][A-Za-z0-9]", words(markdown.escaped(name)))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_span_of_code_says_the_name(name):
    spans = [token for token in inline(rendered(markdown.code(name))) if token.type == "code_inline"]
    assert [span.content.strip() for span in spans] == [markdown.plain(name)]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize(
    "safe", [markdown.escaped, lambda name: markdown.code(name, cell=True)], ids=["text", "code"]
)
def test_a_table_keeps_its_cells(name, safe):
    text = markdown.markdown_table(("first", "second"), [(safe(name), "last")])
    tokens = rendered(text)
    cells = [after.children for token, after in pairwise(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    said = "".join(child.content for child in cells[0]).replace("\u200b", "").strip()
    assert said == markdown.plain(name)
    assert [child.content for child in cells[1]] == ["last"]


def test_empty_text_is_no_span():
    assert markdown.code(" \n".strip()) == ""


def test_a_table_aligns():
    text = markdown.markdown_table(("a", "b"), [("1", "2")], frozenset({1}))
    assert text == "| a | b |\n| :-- | --: |\n| 1 | 2 |"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_block_holds_its_lines(name):
    tokens = rendered(markdown.block(["first", name]))
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content == f"first\n{markdown.plain(name)}\n"


def test_details_fold_markdown():
    tokens = rendered(markdown.details("All cases", "**one**"))
    assert [token.type for token in tokens] == [
        "html_block", "paragraph_open", "inline", "paragraph_close", "html_block",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "https://a b", "https://a>b", "file:///etc/passwd", "https://a|b", ""]
)
def test_only_addresses_of_the_web_are_linked(address):
    assert markdown.link("Report", address) == "Report"


def test_a_link():
    assert markdown.link("Report", "https://example.org/a(b)#c") == "[Report](<https://example.org/a(b)#c>)"
    assert "link_open" in types(markdown.link("Report", "https://example.org/a(b)#c"))


@pytest.mark.parametrize(("most", "expected"), [(5, "words"), (4, "wor…"), (1, "…")])
def test_cut_leaves_the_beginning(most, expected):
    assert markdown.cut("words", most) == expected
