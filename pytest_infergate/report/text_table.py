"""Tables for the terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TypeVar

from tabulate import tabulate

from pytest_infergate.core.domain import units
from pytest_infergate.report.sanitize import shorten
from pytest_infergate.report.table import Column

_T = TypeVar("_T")

MIN_NAME = 16
"""Number of characters that names in the first column keep on a narrow terminal."""
_WHOLE = re.compile(
    r"(?:pytest|infergate \w+) \S+(?: --[\w-]+(?:=[^\s,;]+)?(?: \d[\w./:]*)?)+|\w+ = \{[^{}]*\}"
)
_GUTTER = 2
"""Number of spaces that tabulate puts between columns."""


def text_table(columns: Sequence[Column[_T]], rows: Sequence[_T], width: int | None = None) -> str:
    """Render rows below their headers and a rule.

    With a `width`, names in the first column are shortened to the room that the other columns leave.
    """
    body = [tuple(column.cell(row) for column in columns) for row in rows]
    if width is not None:
        room = max(MIN_NAME, room_for_names(columns, rows, width))
        body = [(shorten(cells[0], room), *cells[1:]) for cells in body]
    # Headers are passed as a row: tabulate pads real headers beyond their text.
    lines = [tuple(column.header for column in columns), *body]
    rule = tuple("-" * max(map(len, cells)) for cells in zip(*lines, strict=True))
    text = tabulate(
        [lines[0], rule, *body],
        tablefmt="plain",
        colalign=["left" if column.left else "right" for column in columns],
        disable_numparse=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def room_for_names(columns: Sequence[Column[_T]], rows: Sequence[_T], width: int) -> int:
    """Return the number of characters left for the first column; negative if the others do not fit."""
    widths = (max(len(column.header), *(len(column.cell(row)) for row in rows)) for column in columns[1:])
    return width - sum(longest + _GUTTER for longest in widths)


def fitted_table(columns: Sequence[Column[_T]], rows: Sequence[_T], width: int | None) -> str:
    """Render rows as a table, or as blocks of lines where the table is wider than `width`."""
    if width is not None and rows:
        name = max(len(columns[0].cell(row)) for row in rows)
        if room_for_names(columns, rows, width) < name:
            return stacked_rows(columns, rows, width)
    return text_table(columns, rows)


def stacked_rows(columns: Sequence[Column[_T]], rows: Sequence[_T], width: int) -> str:
    """Render each row as a block: the first cell, and below it a line for each other cell with its header."""
    first, *others = columns
    pad = max(len(column.header) for column in others) + _GUTTER
    return "\n".join(
        "\n".join(
            [
                wrapped(first.cell(row), width, "  "),
                *(
                    wrapped(f"  {column.header:<{pad}}{cell}", width, " " * (pad + 2))
                    for column in others
                    if (cell := column.cell(row)) not in ("", units.UNKNOWN)
                ),
            ]
        )
        for row in rows
    )


def wrapped(text: str, width: int | None, indent: str = "") -> str:
    """Break a text into lines of at most `width` characters; lines after the first one have the `indent`.

    Names, commands and settings stay whole, so that they can be copied. Without a width, it is one line.
    """
    if width is None:
        return text
    kept = _WHOLE.sub(lambda match: match[0].replace(" ", "\xa0"), text)
    lines = textwrap.wrap(
        kept, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\xa0", " ")


def text_list(title: str, entries: Sequence[str], limit: int | None = None, width: int | None = None) -> str:
    """Render entries as indented lines below a title; empty without entries.

    With a `limit`, the entries beyond it are only counted. With a `width`, long entries have several lines.
    """
    if not entries:
        return ""
    shown = entries[:limit]
    lines = [f"{title}:"]
    lines += [wrapped(f"  {entry}", width, "    ") for entry in shown]
    if limit is not None and len(entries) > limit:
        lines.append(f"  and {len(entries) - limit} more")
    return "\n".join(lines)
