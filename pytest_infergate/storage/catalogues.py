"""Price catalogues of others: gpuhunt, SkyPilot and similar tables, read into our own."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pytest_infergate.core.domain import hardware_names, instance_types, units
from pytest_infergate.core.domain.instance_types import MOST_USD, Instance
from pytest_infergate.core.domain.model import Note, Struct
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.prices import (
    CURRENCY,
    NUMBER,
    Key,
    _dear_spot,
    default,
    is_day,
    parse_amount,
    price_key,
    table_rows,
    table_text,
    today,
    without_dear_spot,
)

PROVIDERS: Final = ("aws", "azure", "gcp", "lambdalabs", "nebius", "runpod")
"""What `refresh` asks for, unless told."""


def import_catalog(
    path: Path, provider: str | None = None, as_of: str = ""
) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read a catalogue of somebody else, one row an offer: that of gpuhunt, of SkyPilot, and their like.

    `provider` and `as_of` hold for rows that do not say theirs; a catalogue without the former is taken for
    that of the provider its file is named after. Rows that cannot be a price are left out, and counted in a
    note. Raises `StorageError` where the file is no such catalogue or no row is left.
    """
    if as_of and not is_day(as_of):
        raise StorageError(
            f"{as_of!r} is not a day such as 2026-07-20, of which the prices of {path} could be"
        )
    where = str(path)
    header, rows = table_rows(table_text(path), where)
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
        yield Note(code=NoteCode.PRICES_ABSENT, text=text, hint="try again later")


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
        money = CURRENCY.fullmatch(column)
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
        key = price_key(offer.instance)
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
    instances = tuple(map(without_dear_spot, joined))
    dear = [one for one, kept in zip(joined, instances, strict=True) if kept is not one]
    notes = (
        *_left_out(+left_out, where),
        *_contradictory(demand.values(), where),
        *_dear_spot(dear, where),
        *instance_types.price_doubts(instances),
    )
    return tuple(sorted(instances, key=price_key)), notes


def _offer(row: Mapping[str, str]) -> _Offer:
    """Read one row of a catalogue. Raises `_UnusableError` where it cannot be a price."""
    price = parse_amount(row.get("usd_per_hour", ""))
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
        memory_gib=parse_amount(row.get("memory_gib", "")),
        accelerator=accelerator,
        accelerator_count=count,
        cpu_model=row.get("cpu_model") or None,
        usd_per_hour=price,
        spot_usd_per_hour=parse_amount(row.get("spot_usd_per_hour", "")),
        as_of=row["as_of"] if is_day(row["as_of"]) else "",
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
    memory = parse_amount(row.get("accelerator_memory_gib", ""))
    return hardware_names.completed_name(name, memory, row["name"]), count


def _whole(text: str) -> int | None:
    """A whole number, be it written ``8.0``; ``None`` for anything else."""
    number = float(text) if NUMBER.fullmatch(text) else math.nan
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
        yield Note(code=NoteCode.PRICES_LEFT_OUT, text=text)


def _contradictory(offers: Iterable[Sequence[Instance]], where: str) -> Iterator[Note]:
    """Say where a catalogue has two prices on demand of one instance in one region."""
    doubtful = [group for group in offers if len({one.usd_per_hour for one in group}) > 1]
    if doubtful:
        first = doubtful[0]
        prices = " and ".join(f"{price:g}" for price in sorted({one.usd_per_hour for one in first}))
        more = f", and {len(doubtful) - 1} more like it" if doubtful[1:] else ""
        text = f"{where}: {first[0].full_name} in {first[0].region} costs {prices} USD an hour{more}"
        yield Note(
            code=NoteCode.PRICES_CONTRADICTORY, text=f"{text}; the highest was kept", hint="look it up"
        )
