"""Columns of tables as values, so that every renderer shows the same headers, figures and alignment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Column(Generic[_T]):
    """One column of a table of `_T`.

    `cell` reads the text of a row, which is safe to print but not escaped for a format. `shown` decides from
    all rows of a table whether it has the column.
    """

    key: str
    header: str
    cell: Callable[[_T], str]
    left: bool = False
    """Whether cells are aligned left, for text; figures are aligned right."""
    title: str = ""
    """Header on a page, which has more room than a terminal; empty: the same."""
    label: str = ""
    """Text in front of the cell on a page that is too narrow for headers; empty: the title."""
    shown: Callable[[Sequence[_T]], bool] = lambda _: True

    @property
    def page_header(self) -> str:
        """Header on a page."""
        return self.title or self.header

    @property
    def page_label(self) -> str:
        """Text in front of the cell on a narrow page."""
        return self.label or self.page_header


def shown_columns(columns: Sequence[Column[_T]], rows: Sequence[_T]) -> tuple[Column[_T], ...]:
    """Return the columns that a table of these rows has."""
    return tuple(column for column in columns if column.shown(rows))


class BoundedRow(Protocol):
    """A row of a table of one test, whose figures have bounds."""

    @property
    def case(self) -> str:
        """Name of the case."""

    @property
    def bounds(self) -> Mapping[str, str]:
        """Bounds of figures, by column."""


_Bounded = TypeVar("_Bounded", bound=BoundedRow)


class FigureTable(NamedTuple):
    """The table of some cases of a test on a page."""

    title: str
    headers: tuple[str, ...]
    lines: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Label of each case, and its figures, each with its bounds."""


def figure_table(
    title: str, columns: Sequence[Column[_Bounded]], rows: Sequence[_Bounded]
) -> FigureTable | None:
    """Return the table of some cases, the first of whose columns is the name; ``None`` without rows."""
    _, *shown = shown_columns(columns, rows)
    lines = [
        (row.case, tuple((column.cell(row), row.bounds.get(column.key, "")) for column in shown))
        for row in rows
    ]
    headers = ("case", *(column.page_header for column in shown))
    return FigureTable(f"{title}, with 99 % bounds", headers, tuple(lines)) if lines else None
