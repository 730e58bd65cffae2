"""Tables of prices in infergate's own columns: the table of the package and those of the user."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.instance_types import MAX_USD_PER_HOUR, MIN_USD_PER_HOUR, Instance
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.core.domain.values import Note
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import atomic_write

# The table of the package has 5 kB. A file beyond this limit is something else; it is refused before it fills
# the memory.
MAX_TABLE_BYTES: Final = 64 * 10**6
MAX_COUNT_DIGITS: Final = 9
"""Digits of a number of vCPUs or accelerators."""
_PACKAGE_TABLE: Final = "the price table of infergate"
_CURRENCY: Final = re.compile(r"(?:spot_)?([a-z]{3})_per_hour(?:_spot)?")
# `float` accepts more than a price list should contain: "nan", "1_000" and digits of other scripts.
NUMBER: Final = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
MIN_AMOUNT: Final = MIN_USD_PER_HOUR
"""Smallest price or size of memory."""
MAX_MEMORY_GIB: Final = 1e9
Key = tuple[str, str, str]
"""Provider, region and name, which identify a price."""


def load_prices(paths: Iterable[Path] = ()) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read the table of the package and those of the user, whose rows take precedence.

    Returns instances, and notes about doubtful prices. Raises `StorageError` like `read_prices`.
    """
    rows: dict[Key, Instance] = {}
    notes: list[Note] = []
    for instances, remarks in (default_prices(), *map(read_prices, paths)):
        # The tables of the user come later and replace rows of the package.
        rows |= {price_key(instance): instance for instance in instances}
        notes += remarks
    found = tuple(rows.values())
    return found, (*notes, *instance_types.price_doubts(found))


def default_prices() -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read the table of the package."""
    text = (resources.files("pytest_infergate") / "data" / "prices.csv").read_text(encoding="utf-8")
    return _parse_table(text, _PACKAGE_TABLE)


def read_prices(path: Path) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read a table with the columns of `CSV_COLUMNS`, of which those in `REQUIRED` must be present.

    A spot price above the on-demand price is dropped with a note. Raises `StorageError` with file, line,
    column and a hint.
    """
    return _parse_table(table_text(path), str(path))


def write_prices(path: Path, instances: Iterable[Instance]) -> None:
    """Write a table, sorted by provider, region and name. Raises `StorageError`."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for instance in sorted(instances, key=price_key):
        cells = msgspec.to_builtins(instance)
        values = [cells.get(column) for column in CSV_COLUMNS]
        # Ten digits: catalogues compute prices, and the last bits of a float are noise in a diff.
        writer.writerow([f"{value:.10g}" if isinstance(value, float) else value for value in values])
    atomic_write(path, lines.getvalue())


def today() -> date:
    """Return the current day in UTC."""
    return datetime.now(timezone.utc).date()


def price_key(instance: Instance) -> Key:
    """Return the key by which a table contains an instance once."""
    return instance.provider, instance.region, instance.name


# Any table as CSV


class TableRow(NamedTuple):
    """A row of a CSV file, with the number of its line."""

    line: int
    cells: tuple[str, ...]


def table_text(path: Path) -> str:
    """Read a CSV file. Raises `StorageError` if it cannot be read, is too large or is not UTF-8."""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            limit = units.bytes_(MAX_TABLE_BYTES)
            raise StorageError(
                f"{path}: a table of prices must have at most {limit}. Hint: name another file"
            )
        # Spreadsheets write a byte order mark.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(
            f"{path}: a table must be UTF-8, got another encoding at byte {error.start}. "
            "Hint: save it as CSV in UTF-8"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}. Hint: give the path of a CSV file"
        ) from error


def table_rows(text: str, where: str) -> tuple[tuple[str, ...], list[TableRow]]:
    """Split a CSV file into its header, in lower case, and its rows; empty lines are skipped.

    `where` names the file in errors. Raises `StorageError` with the line and a hint.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [TableRow(reader.line_num, tuple(map(str.strip, cells))) for cells in reader]
    except csv.Error as error:
        raise StorageError(
            f"{where}: line {reader.line_num}: not valid CSV: {error}. Hint: save it as CSV again"
        ) from None
    rows = [row for row in lines if any(row.cells)]
    if not rows:
        raise StorageError(f"{where}: the file is empty. Hint: the first line must name the columns")
    header = tuple(cell.lower() for cell in rows[0].cells)
    # The separator of spreadsheets in countries with a decimal comma.
    if len(header) == 1 and ";" in header[0]:
        raise StorageError(
            f"{where}: line 1: columns must be separated by commas, got semicolons. Hint: save it with commas"
        )
    repeated = [column for column, count in Counter(header).items() if count > 1]
    if repeated:
        raise StorageError(
            f"{where}: line 1: two columns are named {repeated[0]!r}. Hint: rename or remove one of them"
        )
    for row in rows[1:]:
        if len(row.cells) != len(header):
            raise StorageError(
                f"{where}: line {row.line}: a row must have {units.plural(len(header), 'cell')} like the "
                f"header, got {len(row.cells)}. Hint: look for a decimal comma, or a comma in a text without "
                "quotes"
            )
    return header, rows[1:]


def check_currency(header: Iterable[str], where: str) -> None:
    """Raise `StorageError` if the name of a column states prices in another currency than US dollars."""
    for column in header:
        match = _CURRENCY.fullmatch(column)
        if match is not None and match[1] != "usd":
            raise StorageError(
                f"{where}: line 1: prices must be in US dollars, got column {column!r}. Hint: convert them "
                f"and name the column {column.replace(match[1], 'usd', 1)!r}"
            )


def parse_amount(text: str, most: float = sys.float_info.max) -> float | None:
    """Parse a number from `MIN_AMOUNT` to `most`; ``None`` for any other text."""
    number = float(text) if NUMBER.fullmatch(text) else math.nan
    return number if MIN_AMOUNT <= number <= most else None


def parse_date(text: str) -> date | None:
    """Parse a day, ``2026-07-20``; ``None`` for any other text, such as a day that does not exist."""
    try:
        # Stricter than `date.fromisoformat`, which also reads "20260720" from Python 3.11 on.
        return msgspec.convert(text, date)
    except msgspec.ValidationError:
        return None


def drop_high_spot(
    instances: Iterable[Instance], where: str
) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Remove spot prices above the on-demand price, which are errors, and count them in a note."""
    kept, dropped = [], []
    for instance in instances:
        if instance.spot_usd_per_hour is not None and instance.spot_usd_per_hour > instance.usd_per_hour:
            dropped.append(instance)
            kept.append(msgspec.structs.replace(instance, spot_usd_per_hour=None))
        else:
            kept.append(instance)
    if not dropped:
        return tuple(kept), ()
    first = dropped[0]
    more = f", and {len(dropped) - 1} more like it" if dropped[1:] else ""
    text = (
        f"{where}: the spot price of {first.full_name} in {first.region}, {first.spot_usd_per_hour:g} USD "
        f"per hour, is above its on-demand price of {first.usd_per_hour:g} and was dropped{more}"
    )
    note = Note(code=NoteCode.SPOT_DROPPED, text=text, hint="check the price at the provider")
    return tuple(kept), (note,)


# Infergate's own columns


def _parse_count(text: str) -> int | None:
    digits = text.isascii() and text.isdecimal() and len(text) <= MAX_COUNT_DIGITS
    return int(text) if digits else None


class _Cell(NamedTuple):
    """How a cell is read, and what it may contain."""

    parse: Callable[[str], object]
    """Returns ``None`` for a text that the column does not allow."""
    allowed: str


_NAME = _Cell(str, "filled in")
_PRICE = _Cell(
    lambda text: parse_amount(text, MAX_USD_PER_HOUR),
    f"a price of {MIN_USD_PER_HOUR:f} to {MAX_USD_PER_HOUR:,.0f}, for example 0.526",
)
_CELLS: Final[Mapping[str, _Cell]] = {
    "provider": _NAME,
    "region": _NAME,
    "name": _NAME,
    "vcpus": _Cell(lambda text: _parse_count(text) or None, "a whole number from 1 to 999,999,999"),
    "memory_gib": _Cell(
        lambda text: parse_amount(text, MAX_MEMORY_GIB),
        f"a number of {MIN_AMOUNT:f} to {MAX_MEMORY_GIB:,.0f}",
    ),
    "accelerator": _NAME,
    "accelerator_count": _Cell(_parse_count, "a whole number from 0 to 999,999,999"),
    "cpu_model": _NAME,
    "usd_per_hour": _PRICE,
    "spot_usd_per_hour": _PRICE,
    "as_of": _Cell(parse_date, "a day that exists, for example 2026-07-20"),
    "source": _NAME,
}
CSV_COLUMNS: Final = tuple(_CELLS)
"""Columns in the order in which they are written."""
_FILLED: Final = ("provider", "region", "name", "vcpus", "usd_per_hour")
"""Columns without an empty cell."""
REQUIRED: Final = (*_FILLED, "as_of")
"""Columns that every table must have."""


def _parse_table(text: str, where: str) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    header, rows = table_rows(text, where)
    check_currency(header, where)
    for column in header:
        if column not in CSV_COLUMNS:
            raise StorageError(
                f"{where}: line 1: {not_one_of('column', column, CSV_COLUMNS)} "
                "(infergate prices import reads catalogues of other tools)"
            )
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise StorageError(
            f"{where}: line 1: column {missing[0]!r} is missing. Hint: a table of prices must have "
            f"{', '.join(REQUIRED)}"
        )
    lines: dict[Key, int] = {}
    instances = []
    for row in rows:
        instance = _parse_row(dict(zip(header, row.cells, strict=True)), f"{where}: line {row.line}")
        # Which of two prices counts must not depend on their order.
        first = lines.setdefault(price_key(instance), row.line)
        if first != row.line:
            raise StorageError(
                f"{where}: line {row.line}: {instance.full_name} in {instance.region} is already in line "
                f"{first}. Hint: keep one of the two"
            )
        instances.append(instance)
    return drop_high_spot(instances, where)


def _parse_row(cells: Mapping[str, str], where: str) -> Instance:
    """Read one row; `where` names file and line in errors."""
    values: dict[str, object] = {}
    for column, text in cells.items():
        values[column] = _CELLS[column].parse(text) if text else None
        if values[column] is None and (text or column in _FILLED):
            got = repr(text) if text else "an empty cell"
            raise StorageError(f"{where}: {column} must be {_CELLS[column].allowed}, got {got}")
    accelerator, count = values.get("accelerator"), values.get("accelerator_count")
    if accelerator is not None and count == 0:
        raise StorageError(
            f"{where}: accelerator_count must be 1 or more with accelerator {accelerator}, got 0. "
            "Hint: leave both cells empty, or count the accelerators"
        )
    if accelerator is None and count:
        raise StorageError(
            f"{where}: accelerator must be named with accelerator_count {count}, got an empty cell"
        )
    known = {column: value for column, value in values.items() if value is not None}
    count = (count or 1) if accelerator is not None else 0
    return msgspec.convert({"memory_gib": None, **known, "accelerator_count": count}, Instance)
