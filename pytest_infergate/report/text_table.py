"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tabulate import tabulate

from pytest_infergate.report.sanitize import shorten
from pytest_infergate.report.table import Column

_T = TypeVar("_T")

MIN_NAME = 16
"""Number of characters that names in the first column keep on a narrow terminal."""
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


def text_list(title: str, entries: Sequence[str], limit: int | None = None) -> str:
    """Render entries as indented lines below a title; empty without entries.

    With a `limit`, the entries beyond it are only counted.
    """
    if not entries:
        return ""
    lines = [f"{title}:", *(f"  {entry}" for entry in entries[:limit])]
    if limit is not None and len(entries) > limit:
        lines.append(f"  and {len(entries) - limit} more")
    return "\n".join(lines)
