"""Tables of prices: the one that comes with infergate, the user's own, and catalogues of others."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core import cost, units
from pytest_infergate.core.cost import MOST_USD, Instance
from pytest_infergate.core.model import Note, Struct
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
PROVIDERS: Final = ("aws", "azure", "gcp", "lambdalabs", "nebius", "runpod")
"""What `refresh` asks for, unless told."""

_OURS: Final = "the table of infergate"
_CURRENCY: Final = re.compile(r"(?:spot_)?([a-z]{3})_per_hour(?:_spot)?")
_NUMBER: Final = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")

Key = tuple[str, str, str]
"""Provider, region and name: an instance has one price."""


def load(paths: Iterable[Path] = ()) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read the table that comes with infergate and those of the user, whose rows win.

    Raises `StorageError` as `read` does. The notes say what of a table is doubtful.
    """
    rows: dict[Key, Instance] = {}
    notes: list[Note] = []
    for instances, remarks in (default(), *map(read, paths)):
        rows |= {_key(one): one for one in instances}
        notes += remarks
    found = tuple(rows.values())
    return found, (*notes, *cost.doubts(found))


def default() -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read the table that comes with infergate."""
    text = (resources.files("pytest_infergate") / "data" / "prices.csv").read_text(encoding="utf-8")
    return _table(text, _OURS)


def read(path: Path) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read a table in our own columns.

    Raises `StorageError` naming file, line, column and cure. A spot price above the one on demand is dropped
    with a note.
    """
    return _table(_text(path), str(path))


def write(path: Path, instances: Iterable[Instance]) -> None:
    """Write a table in our own columns, by provider, region and name. Raises `StorageError`."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in sorted(instances, key=_key):
        cells = msgspec.to_builtins(one)
        writer.writerow([_written(cells.get(column)) for column in COLUMNS])
    atomic_write(path, lines.getvalue())


def import_catalog(
    path: Path, provider: str | None = None, as_of: str = ""
) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read a catalogue of somebody else, one row an offer: that of gpuhunt, of SkyPilot, and their like.

    `provider` and `as_of` hold for rows that do not say theirs; a catalogue without the former is taken for
    that of the provider its file is named after. Rows that cannot be a price are left out, and counted in a
    note. Raises `StorageError` where the file is no such catalogue or no row is left.
    """
    if as_of and not _is_day(as_of):
        raise StorageError(
            f"{as_of!r} is not a day such as 2026-07-20, of which the prices of {path} could be"
        )
    where = str(path)
    header, rows = _rows(_text(path), where)
    places = _places(header, where)
    usual = {"provider": provider or path.stem.lower(), "as_of": as_of, "source": path.name}
    cells = (
        {ours: row.cells[index] or usual.get(ours, "") for ours, index in places.items()} for row in rows
    )
    return _offered(({**usual, **cell} for cell in cells), where)


def refresh(providers: Sequence[str] = PROVIDERS) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Fetch prices from the latest catalogues of gpuhunt, over the network.

    Raises `StorageError` where the package gpuhunt or the network is not there, or no catalogue can be used.
    """
    try:
        from gpuhunt import Catalog, GPUHuntError
    except ImportError:
        raise StorageError(
            "fresh prices come through the package gpuhunt, which is not installed: "
            "pip install 'pytest-infergate[prices]'"
        ) from None
    # It logs a traceback for each provider that it cannot fetch; a note says the same.
    logging.getLogger("gpuhunt").addHandler(logging.NullHandler())
    catalog = Catalog(auto_reload=False)
    try:
        catalog.load()
        items = catalog.query(provider=list(providers))
    except (GPUHuntError, OSError, ValueError) as error:
        raise StorageError(
            f"the catalogue of gpuhunt cannot be fetched: {error.__cause__ or error}; check the network and "
            "the names of the providers, or give a catalogue of your own to infergate prices import"
        ) from error
    if not items:
        raise StorageError(
            f"gpuhunt has no prices of {', '.join(providers)} now; check the network, or ask for others"
        )
    versions: dict[str, str] = {name: found.version for name, found in catalog.catalog.items()}
    cells = (
        {
            "provider": item.provider,
            "region": item.location,
            "name": item.instance_name,
            "vcpus": item.cpu,
            "memory_gib": item.memory,
            "accelerator": item.gpu_name,
            "accelerator_count": item.gpu_count,
            "accelerator_memory_gib": item.gpu_memory,
            "usd_per_hour": item.price,
            "spot": item.spot,
            "as_of": _day_of(versions.get(item.provider, "")),
            "source": f"gpuhunt {versions.get(item.provider, '')}".strip(),
        }
        for item in items
    )
    told = ({name: "" if cell is None else str(cell) for name, cell in row.items()} for row in cells)
    instances, notes = _offered(told, "the catalogue of gpuhunt")
    return instances, (*_absent([name for name in providers if name not in versions]), *notes)


def _day_of(version: str) -> str:
    """The day that the version of a catalogue begins with, ``20260715-3``, or this one."""
    stamp = re.match(r"(\d{4})(\d{2})(\d{2})", version)
    return "-".join(stamp.groups()) if stamp else today()


def _absent(providers: Sequence[str]) -> Iterator[Note]:
    if providers:
        text = f"no prices of {', '.join(providers)}: the catalogue could not be fetched"
        yield Note(code="prices-absent", text=text, cure="try again later")


def today() -> str:
    """What day it is, as ISO 8601 has it."""
    return datetime.now(timezone.utc).date().isoformat()


def _key(instance: Instance) -> Key:
    return instance.provider, instance.region, instance.name


def _written(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else "" if value is None else str(value)


# CSV


class _Row(NamedTuple):
    line: int
    cells: tuple[str, ...]


def _text(path: Path) -> str:
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


def _rows(text: str, where: str) -> tuple[tuple[str, ...], list[_Row]]:
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
    header, rows = _rows(text, where)
    _check_columns(header, where)
    lines: dict[Key, int] = {}
    instances, dear = [], []
    for row in rows:
        one = _instance(_Cells(where, row.line, dict(zip(header, row.cells, strict=True))))
        before = lines.setdefault(_key(one), row.line)
        if before != row.line:
            raise StorageError(
                f"{where}: line {row.line}: {one.full_name} in {one.region} stands in line {before} already; "
                "keep one of the two"
            )
        kept = _without_dear_spot(one)
        instances.append(kept)
        if kept is not one:
            dear.append(one)
    return tuple(instances), _dear_spot(dear, where)


def _check_columns(header: Sequence[str], where: str) -> None:
    for column in header:
        money = _CURRENCY.fullmatch(column)
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
        number = _amount(text)
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
        if text and not _is_day(text):
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


def _amount(text: str) -> float | None:
    """A number above 0; ``None`` for anything else."""
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if 0 < number < math.inf else None


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _without_dear_spot(one: Instance) -> Instance:
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
    return (Note(code="spot-dropped", text=text, cure="look it up at the provider"),)


# Catalogues of others

_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "provider": ("provider", "cloud"),
    "region": ("region", "location"),
    "name": ("name", "instance_name", "instance_type", "instancetype"),
    "vcpus": ("vcpus", "cpu"),
    "memory_gib": ("memory_gib", "memory", "memorygib"),
    "accelerator": ("accelerator", "accelerator_name", "acceleratorname", "gpu_name"),
    "accelerator_count": ("accelerator_count", "acceleratorcount", "gpu_count"),
    "accelerator_memory_gib": ("accelerator_memory_gib", "gpu_memory"),
    "cpu_model": ("cpu_model",),
    "usd_per_hour": ("usd_per_hour", "price"),
    "spot_usd_per_hour": ("spot_usd_per_hour", "usd_per_hour_spot", "spotprice"),
    "spot": ("spot",),
    "as_of": ("as_of",),
    "source": ("source",),
}
"""What others call our columns, and two of theirs: a size of memory, and whether a row is a spot offer."""
_NEEDED: Final = ("region", "name", "vcpus", "usd_per_hour")
_NO_PRICE: Final = "without a price above 0"
_TOO_DEAR: Final = f"with a price above {MOST_USD:,.0f} USD an hour"
_NO_NAME: Final = "without a name, a region or a number of vCPUs"
_NO_ACCELERATOR: Final = "with accelerators that have no name, or with a part of one"
_SPOT_ALONE: Final = "of spot machines that have no price on demand"


class _Offer(Struct, frozen=True, kw_only=True):
    """One row of a catalogue."""

    instance: Instance
    spot: bool
    """Whether its price is that of a spot machine."""


class _UnusableError(Exception):
    """A row cannot be a price; its text completes "rows were left out: 12 ..."."""


def _places(header: Sequence[str], where: str) -> dict[str, int]:
    """Where our columns stand in a catalogue."""
    for column in header:
        money = _CURRENCY.fullmatch(column)
        if money is not None and money[1] != "usd":
            raise StorageError(
                f"{where}: line 1: column {column!r}: prices must be in US dollars; convert them"
            )
    places = {
        ours: header.index(theirs)
        for ours, names in _ALIASES.items()
        for theirs in reversed(names)
        if theirs in header
    }
    missing = [column for column in _NEEDED if column not in places]
    if missing:
        names = " or ".join(_ALIASES[missing[0]])
        raise StorageError(f"{where}: line 1: no column {names}: a catalogue of prices has one; give another")
    return places


def _offered(rows: Iterable[Mapping[str, str]], where: str) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Join the rows of a catalogue into instances, and doubt it."""
    left_out: Counter[str] = Counter()
    demand: dict[Key, list[Instance]] = {}
    spot: dict[Key, float] = {}
    for row in rows:
        try:
            offer = _offer(row)
        except _UnusableError as why:
            left_out[str(why)] += 1
            continue
        key = _key(offer.instance)
        if not offer.spot:
            demand.setdefault(key, []).append(offer.instance)
        price = offer.instance.usd_per_hour if offer.spot else offer.instance.spot_usd_per_hour
        if price is not None:
            spot[key] = min(price, spot.get(key, price))
    left_out[_SPOT_ALONE] += len(spot.keys() - demand.keys())
    if not demand:
        raise StorageError(f"{where}: no row has a price on demand; give another catalogue")
    joined = [
        msgspec.structs.replace(
            max(offers, key=lambda one: one.usd_per_hour), spot_usd_per_hour=spot.get(key)
        )
        for key, offers in demand.items()
    ]
    joined = _with_cpus(joined)
    instances = tuple(map(_without_dear_spot, joined))
    dear = [one for one, kept in zip(joined, instances, strict=True) if kept is not one]
    notes = (
        *_left_out(+left_out, where),
        *_contradictory(demand.values(), where),
        *_dear_spot(dear, where),
        *cost.doubts(instances),
    )
    return tuple(sorted(instances, key=_key)), notes


def _offer(row: Mapping[str, str]) -> _Offer:
    """Read one row of a catalogue. Raises `_UnusableError` where it cannot be a price."""
    price = _amount(row.get("usd_per_hour", ""))
    if price is None:
        raise _UnusableError(_NO_PRICE)
    if price > MOST_USD:
        raise _UnusableError(_TOO_DEAR)
    vcpus = _whole(row.get("vcpus", ""))
    if not (row.get("name") and row.get("region") and vcpus):
        raise _UnusableError(_NO_NAME)
    accelerator, count = _accelerator(row)
    instance = Instance(
        provider=row["provider"].lower(),
        region=row["region"],
        name=row["name"],
        vcpus=vcpus,
        memory_gib=_amount(row.get("memory_gib", "")),
        accelerator=accelerator,
        accelerator_count=count,
        cpu_model=row.get("cpu_model") or None,
        usd_per_hour=price,
        spot_usd_per_hour=_amount(row.get("spot_usd_per_hour", "")),
        as_of=row["as_of"] if _is_day(row["as_of"]) else "",
        source=row["source"],
    )
    return _Offer(instance=instance, spot=row.get("spot", "").lower() in ("true", "1", "yes"))


def _accelerator(row: Mapping[str, str]) -> tuple[str | None, int]:
    """The name of the accelerator, with its size of memory and form where they matter, and how many."""
    name, told = row.get("accelerator", ""), row.get("accelerator_count", "")
    count = _whole(told) if told else int(bool(name))
    if count == 0:
        return None, 0
    if count is None or not name:
        raise _UnusableError(_NO_ACCELERATOR)
    memory = _amount(row.get("accelerator_memory_gib", ""))
    return cost.complete(name, memory, row["name"]), count


def _whole(text: str) -> int | None:
    """A whole number, be it written ``8.0``; ``None`` for anything else."""
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return int(number) if number.is_integer() else None


def _with_cpus(instances: Iterable[Instance]) -> list[Instance]:
    """Add what our own table knows of the CPU of a type or its family, which catalogues leave out."""
    known = {(one.provider, _family(one.name)): one.cpu_model for one in default()[0]}
    return [
        msgspec.structs.replace(one, cpu_model=one.cpu_model or known.get((one.provider, _family(one.name))))
        for one in instances
    ]


def _family(name: str) -> str:
    """``c7i`` of ``c7i.xlarge``; a name without a dot is its own."""
    return name.partition(".")[0]


def _left_out(counts: Counter[str], where: str) -> Iterator[Note]:
    if counts:
        words = ", ".join(f"{count} {why}" for why, count in counts.most_common())
        text = f"{where}: {units.plural(counts.total(), 'row')} left out: {words}"
        yield Note(code="prices-left-out", text=text)


def _contradictory(offers: Iterable[Sequence[Instance]], where: str) -> Iterator[Note]:
    """Say where a catalogue has two prices on demand of one instance in one region."""
    doubtful = [group for group in offers if len({one.usd_per_hour for one in group}) > 1]
    if doubtful:
        first = doubtful[0]
        prices = " and ".join(f"{price:g}" for price in sorted({one.usd_per_hour for one in first}))
        more = f", and {len(doubtful) - 1} more like it" if doubtful[1:] else ""
        text = f"{where}: {first[0].full_name} in {first[0].region} costs {prices} USD an hour{more}"
        yield Note(code="prices-contradictory", text=f"{text}; the highest was kept", cure="look it up")
