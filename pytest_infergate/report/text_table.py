"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tabulate import tabulate

from pytest_infergate.report.columns import Column
from pytest_infergate.report.sanitize import shorten

_T = TypeVar("_T")

LEAST_NAME = 16
"""Characters that a name in the first column keeps, however narrow the terminal."""
_GUTTER = 2
"""Spaces that tabulate puts between columns."""


def text_table(columns: Sequence[Column[_T]], rows: Sequence[_T], width: int | None = None) -> str:
    """Lay rows out below their headers and a rule.

    With a `width` names in the first column are cut to the room that the other columns leave.
    """
    body = [tuple(column.cell(row) for column in columns) for row in rows]
    if width is not None:
        room = max(LEAST_NAME, room_for_names(columns, rows, width))
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
    """Characters that the columns after the first leave for names; negative where they do not fit."""
    taken = (max(len(column.header), *(len(column.cell(row)) for row in rows)) for column in columns[1:])
    return width - sum(longest + _GUTTER for longest in taken)


def text_list(title: str, entries: Sequence[str], most: int | None = None) -> str:
    """Put entries below a title, an indented line each; empty where there are none.

    With `most` a longer list is cut, and says how many entries are left out.
    """
    if not entries:
        return ""
    lines = [f"{title}:", *(f"  {entry}" for entry in entries[:most])]
    if most is not None and len(entries) > most:
        lines.append(f"  and {len(entries) - most} more")
    return "\n".join(lines)
