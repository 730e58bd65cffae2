"""Price catalogues of other tools, such as gpuhunt and SkyPilot, read into infergate's own instances."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pytest_infergate.core.domain import hardware_names, instance_types, units
from pytest_infergate.core.domain.instance_types import MAX_USD_PER_HOUR, Instance
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note, Struct
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.prices import (
    MAX_MEMORY_GIB,
    NUMBER,
    Key,
    check_currency,
    default_prices,
    drop_high_spot,
    parse_amount,
    parse_date,
    price_key,
    table_rows,
    table_text,
    today,
)

PROVIDERS: Final = ("aws", "azure", "gcp", "lambdalabs", "nebius", "runpod")
"""Providers whose prices `refresh` fetches by default."""


def import_catalog(
    path: Path, provider: str | None = None, as_of: str = ""
) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Read a CSV catalogue with one offer per row, in the columns of gpuhunt, SkyPilot or similar tools.

    `provider` and `as_of` apply to rows that do not state their own; the default provider is the name of the
    file. Rows that cannot be a price are left out and counted in a note. Raises `StorageError` if the file is
    not such a catalogue or no row is left.
    """
    if as_of and parse_date(as_of) is None:
        raise StorageError(
            f"the day of the prices of {path} must be a day that exists, got {as_of!r}. Hint: write it like "
            "2026-07-20"
        )
    where = str(path)
    header, rows = table_rows(table_text(path), where)
    check_currency(header, where)
    places = {
        ours: header.index(theirs)
        for ours, names in _ALIASES.items()
        # The first alias in the table of names takes precedence if a catalogue has several.
        for theirs in reversed(names)
        if theirs in header
    }
    missing = [column for column in _NEEDED if column not in places]
    if missing:
        names = " or ".join(_ALIASES[missing[0]])
        raise StorageError(
            f"{where}: line 1: a catalogue of prices must have a column {names}. Hint: name another file"
        )
    defaults = {"provider": provider or path.stem.lower(), "as_of": as_of, "source": path.name}
    cells = (
        {ours: row.cells[index] or defaults.get(ours, "") for ours, index in places.items()} for row in rows
    )
    return _instances(({**defaults, **cell} for cell in cells), where)


def refresh(providers: Sequence[str] = PROVIDERS) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Fetch prices from the latest catalogues of gpuhunt over the network.

    Raises `StorageError` if the package gpuhunt or the network is missing, or no catalogue can be used.
    """
    versions, items = _fetched(providers)

    def day(version: str) -> str:
        # Versions begin with the day of the catalogue: 20260715-3.
        stamp = re.match(r"(\d{4})(\d{2})(\d{2})", version)
        return "-".join(stamp.groups()) if stamp else today().isoformat()

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
            "as_of": day(versions.get(item.provider, "")),
            "source": f"gpuhunt {versions.get(item.provider, '')}".strip(),
        }
        for item in items
    )
    # As text, so that the rows of a package are checked like those of a file.
    rows = ({name: "" if cell is None else str(cell) for name, cell in row.items()} for row in cells)
    instances, notes = _instances(rows, "the catalogue of gpuhunt")
    absent = [name for name in providers if name not in versions]
    if absent:
        text = f"the catalogue with the prices of {', '.join(absent)} could not be fetched"
        notes = (Note(code=NoteCode.PRICES_ABSENT, text=text, hint="try again later"), *notes)
    return instances, notes


def _fetched(providers: Sequence[str]) -> tuple[dict[str, str], list[Any]]:
    """Return the versions of the catalogues by provider, and their items."""
    try:
        from gpuhunt import Catalog, GPUHuntError
    except ImportError:
        raise StorageError(
            "fetching prices needs the package gpuhunt, which is not installed. Hint: "
            "pip install 'pytest-infergate[prices]'"
        ) from None
    # gpuhunt logs a traceback for each provider that it cannot fetch; a note says the same.
    logging.getLogger("gpuhunt").addHandler(logging.NullHandler())
    catalog = Catalog(auto_reload=False)
    try:
        catalog.load()
        items = catalog.query(provider=list(providers))
    except (GPUHuntError, OSError, ValueError) as error:
        raise StorageError(
            f"the catalogue of gpuhunt cannot be fetched: {error.__cause__ or error}. Hint: check the "
            "network and the names of the providers, or read a catalogue file with infergate prices import"
        ) from error
    if not items:
        raise StorageError(
            f"gpuhunt has no prices of {', '.join(providers)}. Hint: check the network, or name others"
        )
    return {name: loaded.version for name, loaded in catalog.catalog.items()}, items


# Rows of catalogues

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
"""Names of our columns in catalogues, and of two further ones: accelerator memory, and spot offers."""
_NEEDED: Final = ("region", "name", "vcpus", "usd_per_hour")
# The reasons complete "12 rows left out: 7 ...".
_NO_PRICE: Final = "without a price greater than 0"
_TOO_EXPENSIVE: Final = f"with a price above {MAX_USD_PER_HOUR:,.0f} USD per hour"
_NO_NAME: Final = "without a name, a region or a number of vCPUs"
_NO_ACCELERATOR: Final = "with unnamed accelerators, or a fraction of one"
_SPOT_ONLY: Final = "of spot machines without an on-demand price"


class _Offer(Struct, frozen=True, kw_only=True):
    """One row of a catalogue."""

    instance: Instance
    spot: bool
    """Whether the price is that of a spot machine."""


class _UnusableError(Exception):
    """A row cannot be a price; the text is one of the reasons above."""


def _instances(
    rows: Iterable[Mapping[str, str]], where: str
) -> tuple[tuple[Instance, ...], tuple[Note, ...]]:
    """Join the rows of a catalogue into instances, with notes about rows and prices that are doubtful."""
    left_out: Counter[str] = Counter()
    on_demand: dict[Key, list[Instance]] = {}
    spot: dict[Key, float] = {}
    for row in rows:
        try:
            offer = _offer(row)
        except _UnusableError as reason:
            left_out[str(reason)] += 1
            continue
        key = price_key(offer.instance)
        if not offer.spot:
            on_demand.setdefault(key, []).append(offer.instance)
        price = offer.instance.usd_per_hour if offer.spot else offer.instance.spot_usd_per_hour
        if price is not None:
            # Spot prices differ by availability zone; the cheapest one is taken.
            spot[key] = min(price, spot.get(key, price))
    left_out[_SPOT_ONLY] += len(spot.keys() - on_demand.keys())
    if not on_demand:
        raise StorageError(f"{where}: no row has an on-demand price. Hint: name another catalogue")
    # The highest of several prices: a cost that turns out lower does less harm than one that turns out
    # higher.
    dearest = {key: max(offers, key=lambda offer: offer.usd_per_hour) for key, offers in on_demand.items()}
    joined = [
        msgspec.structs.replace(instance, spot_usd_per_hour=spot.get(key))
        for key, instance in dearest.items()
    ]
    instances, spot_notes = drop_high_spot(_with_cpu_models(joined), where)
    notes = (
        *_doubts(+left_out, on_demand.values(), where),
        *spot_notes,
        *instance_types.price_doubts(instances),
    )
    return tuple(sorted(instances, key=price_key)), notes


def _offer(row: Mapping[str, str]) -> _Offer:
    """Read one row of a catalogue. Raises `_UnusableError` if it cannot be a price."""
    price = parse_amount(row.get("usd_per_hour", ""))
    if price is None:
        raise _UnusableError(_NO_PRICE)
    if price > MAX_USD_PER_HOUR:
        raise _UnusableError(_TOO_EXPENSIVE)
    vcpus = _whole_number(row.get("vcpus", ""))
    if not (row.get("name") and row.get("region") and vcpus):
        raise _UnusableError(_NO_NAME)
    accelerator, stated = row.get("accelerator", ""), row.get("accelerator_count", "")
    # A named accelerator without a count is one.
    count = _whole_number(stated) if stated else int(bool(accelerator))
    if count is None or (count and not accelerator):
        raise _UnusableError(_NO_ACCELERATOR)
    if count:
        memory = parse_amount(row.get("accelerator_memory_gib", ""), MAX_MEMORY_GIB)
        accelerator = hardware_names.completed_name(accelerator, memory, row["name"])
    instance = Instance(
        provider=row["provider"].lower(),
        region=row["region"],
        name=row["name"],
        vcpus=vcpus,
        memory_gib=parse_amount(row.get("memory_gib", ""), MAX_MEMORY_GIB),
        accelerator=accelerator if count else None,
        accelerator_count=count,
        cpu_model=row.get("cpu_model") or None,
        usd_per_hour=price,
        spot_usd_per_hour=parse_amount(row.get("spot_usd_per_hour", "")),
        as_of=parse_date(row["as_of"]),
        source=row["source"],
    )
    return _Offer(instance=instance, spot=row.get("spot", "").lower() in ("true", "1", "yes"))


def _whole_number(text: str) -> int | None:
    """Parse a whole number, which catalogues may write as ``8.0``; ``None`` for any other text."""
    number = float(text) if NUMBER.fullmatch(text) else math.nan
    return int(number) if number.is_integer() else None


def _with_cpu_models(instances: Iterable[Instance]) -> list[Instance]:
    """Add CPU models, which catalogues leave out, from rows of our own table with the same type or family."""

    def family(instance: Instance) -> tuple[str, str]:
        # All sizes of a family, `c7i` of `c7i.xlarge`, have the same processor.
        return instance.provider, instance.name.partition(".")[0]

    known = {family(instance): instance.cpu_model for instance in default_prices()[0]}
    return [
        msgspec.structs.replace(instance, cpu_model=instance.cpu_model or known.get(family(instance)))
        for instance in instances
    ]


def _doubts(left_out: Counter[str], offers: Iterable[Sequence[Instance]], where: str) -> Iterator[Note]:
    """Yield notes about rows left out, and about two on-demand prices of one instance in one region."""
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        text = f"{where}: {units.plural(left_out.total(), 'row')} left out: {reasons}"
        yield Note(code=NoteCode.PRICES_LEFT_OUT, text=text)
    doubtful = [group for group in offers if len({instance.usd_per_hour for instance in group}) > 1]
    if doubtful:
        first = doubtful[0]
        prices = " and ".join(f"{price:g}" for price in sorted({offer.usd_per_hour for offer in first}))
        more = f", and {len(doubtful) - 1} more like it" if doubtful[1:] else ""
        text = f"{where}: {first[0].full_name} in {first[0].region} costs {prices} USD per hour{more}"
        yield Note(
            code=NoteCode.PRICES_CONTRADICTORY,
            text=f"{text}; the highest price was kept",
            hint="check the price at the provider",
        )
