"""Answers to queries of a history, as a table, CSV and JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.report.exports import CsvLines, spreadsheet_cell
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column
from pytest_infergate.report.text_table import text_table

MAX_ANSWER: Final = 1000
"""Number of rows that the table in the terminal shows."""


def answer_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Render an answer for the terminal; the last line counts the rows."""
    shown: list[Sequence[Any]] = []
    count = 0
    for count, row in enumerate(rows, start=1):
        if count <= MAX_ANSWER:
            shown.append(row)
    made = [_column(index, name, shown) for index, name in enumerate(columns)]
    more = f", of which the first {MAX_ANSWER:,} are shown. Hint: --csv and --json have all"
    return f"{text_table(made, shown)}\n{units.plural(count, 'row')}{more if count > MAX_ANSWER else ''}"


def answer_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Render an answer as CSV; missing values are empty."""
    lines = CsvLines()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(map(spreadsheet_cell, columns))
    writer.writerows([spreadsheet_cell(value) for value in row] for row in rows)
    return "".join(lines)


def answer_json(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Render an answer as a list of objects. Raises `ValueError` if two columns have the same name."""
    if len(set(columns)) < len(columns):
        raise ValueError(
            f"the columns of JSON must have different names, got {', '.join(map(plain, columns))}. "
            "Hint: name them with AS"
        )
    encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
    lines = (encoder.encode(dict(zip(columns, row, strict=True))).decode() for row in rows)
    joined = ",\n ".join(lines)
    return f"[{joined}]\n"


def _column(index: int, name: str, rows: Sequence[Sequence[Any]]) -> Column[Sequence[Any]]:
    left = any(isinstance(row[index], str) for row in rows)
    return Column(key=str(index), header=plain(name), cell=lambda row: _text(row[index]), left=left)


def _text(value: Any) -> str:
    if value is None:
        return units.UNKNOWN
    return f"{value:.6g}" if isinstance(value, float) else plain(str(value))
