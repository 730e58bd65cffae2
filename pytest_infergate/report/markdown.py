"""Pieces of Markdown that show foreign text as it is: no markup, link or mention comes out of a name.

What these functions return stands in a paragraph, a list or a table, as GitHub and GitLab read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_infergate.report.sanitize import ELLIPSIS, plain

_MARKUP = frozenset("\\`*_{}[]<>()#+-.!|~@&:=$^")
_REFERRING = frozenset("@#")
_BREAK = "&#8203;"
"""A space without width: mentions and references are looked for after Markdown, when a backslash is gone."""
_TICKS = re.compile(r"`+")
_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\|]+")


def escaped(text: str) -> str:
    """Text that reads as it is written."""
    return "".join(map(_escaped, plain(text).strip()))


def _escaped(character: str) -> str:
    shown = f"\\{character}" if character in _MARKUP else character
    return shown + _BREAK if character in _REFERRING else shown


def code(text: str, *, cell: bool = False) -> str:
    """A span of code, for names; empty text stays empty. In the cell of a table a pipe needs a backslash."""
    shown = plain(text).strip()
    if not shown:
        return ""
    ticks = "`" * (_longest([shown]) + 1)
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    span = f"{ticks}{pad}{shown}{pad}{ticks}"
    return span.replace("|", "\\|") if cell else span


def block(lines: Iterable[str]) -> str:
    """A block of code, a line each."""
    shown = [plain(line) for line in lines]
    fence = "`" * max(3, _longest(shown) + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def _longest(lines: Iterable[str]) -> int:
    """Length of the longest run of backticks."""
    return max((len(run) for line in lines for run in _TICKS.findall(line)), default=0)


def markdown_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()
) -> str:
    """A table; cells are Markdown already, and those of the columns `right` stand to the right."""
    rule = ["--:" if index in right else ":--" for index in range(len(headers))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headers, rule, *rows))


def details(title: str, body: str) -> str:
    """A part that is folded; `title` are words of ours, since no Markdown is read in it."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def link(words: str, address: str) -> str:
    """A link with words of ours; the words alone where the address is none of the web."""
    return f"[{words}](<{address}>)" if _ADDRESS.fullmatch(address) else words


def cut(text: str, most: int) -> str:
    """At most so many characters, the end left out."""
    return text if len(text) <= most else text[: most - len(ELLIPSIS)] + ELLIPSIS
