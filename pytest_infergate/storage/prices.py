"""Tables of prices: the one that comes with infergate and the user's own."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.instance_types import MOST_USD, Instance
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import atomic_write

COLUMNS: Final = (
    "provider", "region", "name", "vcpus", "memory_gib", "accelerator", "accelerator_count", "cpu_model",
    "usd_per_hour", "spot_usd_per_hour", "as_of", "source",
)  # fmt: skip
"""Of our own tables, in the order in which they are written."""
REQUIRED: Final = ("provider", "region", "name", "vcpus", "usd_per_hour", "as_of")
MOST_BYTES: Final = 64 * 10**6
"""A larger file is taken for something else."""
MOST_DIGITS: Final = 9
"""Of a count: more vCPUs or accelerators are none."""
_OURS: Final = "the table of infergate"
CURRENCY: Final = re.compile(r"(?:spot_)?([a-z]{3})_per_hour(?:_spot)?")
NUMBER: Final = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
Key = tuple[str, str, str]
"""Provider, region and name: an instance has one price."""


def load_prices(paths: Iterable[Path] = ()) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read the table that comes with infergate and those of the user, whose rows win.

    Raises `StorageError` as `read` does. The notes say what of a table is doubtful.
    """
    rows: dict[Key, Instance] = {}
    notes: list[Note] = []
    for instances, remarks in (default(), *map(read_prices, paths)):
        rows |= {price_key(one): one for one in instances}
        notes += remarks
    found = tuple(rows.values())
    return found, (*notes, *instance_types.price_doubts(found))


def default() -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read the table that comes with infergate."""
    text = (resources.files("pytest_infergate") / "data" / "prices.csv").read_text(encoding="utf-8")
    return _table(text, _OURS)


def read_prices(path: Path) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read a table in our own columns.

    Raises `StorageError` naming file, line, column and cure. A spot price above the one on demand is dropped
    with a note.
    """
    return _table(table_text(path), str(path))


def write_prices(path: Path, instances: Iterable[Instance]) -> None:
    """Write a table in our own columns, by provider, region and name. Raises `StorageError`."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in sorted(instances, key=price_key):
        cells = msgspec.to_builtins(one)
        writer.writerow([_written(cells.get(column)) for column in COLUMNS])
    atomic_write(path, lines.getvalue())


def today() -> str:
    """What day it is, as ISO 8601 has it."""
    return datetime.now(timezone.utc).date().isoformat()


def price_key(instance: Instance) -> Key:
    return instance.provider, instance.region, instance.name


def _written(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else "" if value is None else str(value)


# CSV


class _Row(NamedTuple):
    line: int
    cells: tuple[str, ...]


def table_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StorageError(
                f"{path}: larger than {units.bytes_(MOST_BYTES)}: no table of prices is; give another file"
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{path}: not UTF-8 at byte {error.start}; save it as CSV in UTF-8") from None
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}; give the path of a CSV file"
        ) from error


def table_rows(text: str, where: str) -> tuple[tuple[str, ...], list[_Row]]:
    """Split a file into its header, in lower case, and its rows; empty lines are none."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [_Row(reader.line_num, tuple(map(str.strip, cells))) for cells in reader]
    except csv.Error as error:
        raise StorageError(
            f"{where}: line {reader.line_num}: not CSV: {error}; save it as CSV again"
        ) from None
    rows = [row for row in lines if any(row.cells)]
    if not rows:
        raise StorageError(f"{where}: the file is empty; its first line must name the columns")
    header = tuple(cell.lower() for cell in rows[0].cells)
    if len(header) == 1 and ";" in header[0]:
        raise StorageError(f"{where}: line 1: the columns stand apart by semicolons; save it with commas")
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise StorageError(f"{where}: line 1: two columns are named {twice[0]!r}; rename or remove one")
    for row in rows[1:]:
        if len(row.cells) != len(header):
            raise StorageError(
                f"{where}: line {row.line}: {units.plural(len(row.cells), 'cell')} below "
                f"{units.plural(len(header), 'column')}; "
                "a decimal comma, or a comma in a text without quotes?"
            )
    return header, rows[1:]


# Our own tables


def _table(text: str, where: str) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    header, rows = table_rows(text, where)
    _check_columns(header, where)
    lines: dict[Key, int] = {}
    instances, dear = [], []
    for row in rows:
        one = _instance(_Cells(where, row.line, dict(zip(header, row.cells, strict=True))))
        before = lines.setdefault(price_key(one), row.line)
        if before != row.line:
            raise StorageError(
                f"{where}: line {row.line}: {one.full_name} in {one.region} stands in line {before} already; "
                "keep one of the two"
            )
        kept = without_dear_spot(one)
        instances.append(kept)
        if kept is not one:
            dear.append(one)
    return tuple(instances), _dear_spot(dear, where)


def _check_columns(header: Sequence[str], where: str) -> None:
    for column in header:
        money = CURRENCY.fullmatch(column)
        if money is not None and money[1] != "usd":
            raise StorageError(
                f"{where}: line 1: column {column!r}: prices are in US dollars; convert them, and name the "
                f"column {column.replace(money[1], 'usd', 1)!r}"
            )
        if column not in COLUMNS:
            near = get_close_matches(column, COLUMNS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StorageError(
                f"{where}: line 1: unknown column {column!r}: known are {', '.join(COLUMNS)}{hint} "
                "(a catalogue of somebody else goes through infergate prices import)"
            )
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise StorageError(
            f"{where}: line 1: no column {missing[0]!r}: a table of prices needs {', '.join(REQUIRED)}"
        )


class _Cells:
    """The cells of one line by column, each read with an error that names its place."""

    def __init__(self, where: str, line: int, cells: Mapping[str, str]) -> None:
        self._where = where
        self._line = line
        self._cells = cells

    def text(self, column: str) -> str:
        return self._cells.get(column, "")

    def name(self, column: str) -> str:
        text = self.text(column)
        if not text:
            raise self.wrong(column, "it is empty; every row needs one")
        return text

    def amount(self, column: str) -> float | None:
        """A number above 0, or ``None`` for an empty cell."""
        text = self.text(column)
        number = parse_amount(text)
        if text and number is None:
            raise self.wrong(column, f"{text!r} is not a number above 0, such as 0.526")
        return number

    def dollars(self, column: str) -> float | None:
        """A price of an hour."""
        price = self.amount(column)
        if price is not None and price > MOST_USD:
            raise self.wrong(
                column, f"{self.text(column)!r} is more than an hour can cost, {MOST_USD:,.0f} USD"
            )
        return price

    def count(self, column: str) -> int | None:
        text = self.text(column)
        if text and not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
            raise self.wrong(column, f"{text!r} is not a whole number")
        return int(text) if text else None

    def day(self, column: str) -> str:
        text = self.text(column)
        if text and not is_day(text):
            raise self.wrong(column, f"{text!r} is not a day such as 2026-07-20")
        return text

    def wrong(self, column: str, what: str) -> StorageError:
        return StorageError(f"{self._where}: line {self._line}: {column}: {what}")


def _instance(cells: _Cells) -> Instance:
    price, vcpus = cells.dollars("usd_per_hour"), cells.count("vcpus")
    if price is None:
        raise cells.wrong("usd_per_hour", "it is empty; every row needs the price on demand")
    if not vcpus:
        raise cells.wrong("vcpus", "an instance has 1 or more")
    accelerator, count = cells.text("accelerator") or None, cells.count("accelerator_count")
    if accelerator is not None and count == 0:
        raise cells.wrong("accelerator_count", f"0 of {accelerator}; empty the accelerator, or count it")
    if accelerator is None and count:
        raise cells.wrong("accelerator", f"it is empty, and there are {count} of it; name it")
    return Instance(
        provider=cells.name("provider"),
        region=cells.name("region"),
        name=cells.name("name"),
        vcpus=vcpus,
        memory_gib=cells.amount("memory_gib"),
        accelerator=accelerator,
        accelerator_count=(count or 1) if accelerator is not None else 0,
        cpu_model=cells.text("cpu_model") or None,
        usd_per_hour=price,
        spot_usd_per_hour=cells.dollars("spot_usd_per_hour"),
        as_of=cells.day("as_of"),
        source=cells.text("source"),
    )


def parse_amount(text: str) -> float | None:
    """A number above 0; ``None`` for anything else."""
    number = float(text) if NUMBER.fullmatch(text) else math.nan
    return number if 0 < number < math.inf else None


def is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def without_dear_spot(one: Instance) -> Instance:
    """Drop a spot price that is above the one on demand: nobody would pay it."""
    if one.spot_usd_per_hour is None or one.spot_usd_per_hour <= one.usd_per_hour:
        return one
    return msgspec.structs.replace(one, spot_usd_per_hour=None)


def _dear_spot(dropped: Sequence[Instance], where: str) -> tuple[Note, ...]:
    if not dropped:
        return ()
    first = dropped[0]
    more = f", and {len(dropped) - 1} more like it" if dropped[1:] else ""
    text = (
        f"{where}: the spot price of {first.full_name} in {first.region}, {first.spot_usd_per_hour:g} USD an "
        f"hour, is above {first.usd_per_hour:g} on demand and was dropped{more}"
    )
    return (Note(code=NoteCode.SPOT_DROPPED, text=text, hint="look it up at the provider"),)
