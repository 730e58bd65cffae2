"""Pieces of Markdown that show foreign text as it is: no name becomes markup, a link or a mention.

The results belong in a paragraph, a list or a table, as GitHub and GitLab read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from pytest_infergate.report.columns import Column
from pytest_infergate.report.sanitize import ELLIPSIS, plain

_T = TypeVar("_T")

CELL: Final = 240
"""Characters of a cell or a sentence."""
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#+\-!|~@&:=$^]|\.(?!\d)|(?<!\d)\.")
"""Characters with a meaning in Markdown. A point between digits has none, so that figures stay legible."""
_BREAK = "&#8203;"
"""A space without width. GitHub looks for mentions and references after Markdown has removed backslashes."""
_TICKS = re.compile(r"`+")
_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\|]+")


def escaped(text: str) -> str:
    """Escape a text, so that it is shown as it is."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}{_BREAK if found[0] in '@#' else ''}", plain(text).strip())


def code(text: str, *, cell: bool = False) -> str:
    """A span of code, for names; empty text stays empty. In the cell of a table a pipe needs a backslash."""
    shown = plain(text).strip()
    if not shown:
        return ""
    # A span ends at the same number of backticks as it begins with, so one more than inside is safe.
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
    columns: Sequence[Column[_T]],
    rows: Iterable[_T],
    formatted: Mapping[str, Callable[[_T], str]] | None = None,
) -> str:
    """A table.

    `formatted` gives the Markdown of a cell by the key of its column; other cells are escaped.
    """

    def cell(column: Column[_T], row: _T) -> str:
        if formatted is not None and column.key in formatted:
            return formatted[column.key](row)
        return escaped(cut(plain(column.cell(row)), CELL))

    lines = (
        [column.header for column in columns],
        [":--" if column.left else "--:" for column in columns],
        *([cell(column, row) for column in columns] for row in rows),
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def details(title: str, body: str) -> str:
    """A folded part; `title` must be trusted, because it is HTML and not Markdown."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def link(words: str, address: str) -> str:
    """A link with a trusted text; only the text if the address is not an http address."""
    return f"[{words}](<{address}>)" if _ADDRESS.fullmatch(address) else words


def cut(text: str, most: int) -> str:
    """At most so many characters, the end left out."""
    return text if len(text) <= most else text[: most - len(ELLIPSIS)] + ELLIPSIS
