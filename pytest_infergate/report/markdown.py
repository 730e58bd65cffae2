"""Markdown that shows untrusted text literally: no name becomes markup, a link or a mention.

The results are meant for paragraphs, lists and tables in the dialect of GitHub and GitLab.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from pytest_infergate.report.sanitize import ELLIPSIS, plain
from pytest_infergate.report.table import Column

_T = TypeVar("_T")

CELL: Final = 240
"""Maximum number of characters of a cell or a sentence."""
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#+\-!|~@&:=$^]|\.(?!\d)|(?<!\d)\.")
"""Characters with a meaning in Markdown. A point between digits has none and stays unescaped."""
_BREAK = "&#8203;"
"""Zero-width space. GitHub searches for mentions and references after it has removed backslashes."""
_TICKS = re.compile(r"`+")
# Other schemes, such as javascript:, and characters that end a link must not get into a page.
_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\|]+")


def escaped(text: str) -> str:
    """Escape a text, so that it is shown literally."""
    return _MARKUP.sub(lambda match: f"\\{match[0]}{_BREAK if match[0] in '@#' else ''}", plain(text).strip())


def code(text: str, *, cell: bool = False) -> str:
    """Render a name as a code span; empty for an empty name. `cell` escapes pipes for the cell of a table."""
    shown = plain(text).strip()
    if not shown:
        return ""
    # A span ends with as many backticks as it begins with, so one more than the text contains is safe.
    ticks = "`" * (_longest([shown]) + 1)
    # A backtick at the edge would merge with the delimiter; one space on each side is not shown.
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    span = f"{ticks}{pad}{shown}{pad}{ticks}"
    return span.replace("|", "\\|") if cell else span


def block(lines: Iterable[str]) -> str:
    """Render lines as a code block."""
    shown = [plain(line) for line in lines]
    # A fence must be longer than any run of backticks in the block.
    fence = "`" * max(3, _longest(shown) + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def _longest(lines: Iterable[str]) -> int:
    """Return the length of the longest run of backticks."""
    return max((len(run) for line in lines for run in _TICKS.findall(line)), default=0)


def markdown_table(
    columns: Sequence[Column[_T]],
    rows: Iterable[_T],
    formatted: Mapping[str, Callable[[_T], str]] | None = None,
) -> str:
    """Render a table.

    `formatted` maps the key of a column to a function that returns the Markdown of a cell; the cells of other
    columns are escaped.
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
    """Render a folded section; `title` must be trusted, because it is HTML."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def link(text: str, address: str) -> str:
    """Render a link with a trusted text; only the text if the address is not an http address."""
    return f"[{text}](<{address}>)" if _ADDRESS.fullmatch(address) else text


def cut(text: str, limit: int) -> str:
    """Shorten a text to at most `limit` characters; its end is left out."""
    return text if len(text) <= limit else text[: limit - len(ELLIPSIS)] + ELLIPSIS
