"""Instance types, their prices, and what inference on them costs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.hardware_names import (
    AcceleratorModel,
    accelerator_model,
    parsed_name,
    same_accelerator,
    same_cpu,
)
from pytest_infergate.core.domain.model import Hardware, Note, Struct
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Price

HOURS_PER_MONTH: Final = 730.0
"""A twelfth of a year of 365 days: what clouds multiply an hourly price with."""
SECONDS_PER_HOUR: Final = 3600.0
MOST_USD: Final = 1e6
"""A dearer hour is taken for a slip."""
UTILISATION: Final = 0.6
"""Share of a machine's capacity that is planned to be used, unless the user says another."""
OLDEST_DAYS: Final = 90
"""Prices that are older than this are shown with a warning."""
WIDEST_RATIO: Final = 2.0
"""Prices of one accelerator at one provider that differ by a larger factor are doubted."""


class Instance(Struct, frozen=True, kw_only=True):
    """One type of machine to rent, and its price in one region."""

    provider: str
    region: str
    name: str
    """As the provider calls the type: ``c7i.xlarge``."""
    vcpus: int
    memory_gib: float | None
    accelerator: str | None = None
    """Model of its accelerators; one that comes in two sizes of memory has the size in it: ``A100-80GB``."""
    accelerator_count: int = 0
    cpu_model: str | None = None
    """As it stands in the table; ``None``, or a vendor alone, where the provider does not tell."""
    usd_per_hour: float
    """List price, on demand."""
    spot_usd_per_hour: float | None = None
    """Of a machine that may be taken away at any time."""
    discount: float = 0.0
    """Off the list price for a commitment, 0 to less than 1."""
    as_of: str
    """Day of the price, ISO 8601; empty where nobody knows."""
    source: str = ""

    @property
    def price(self) -> float:
        """USD an hour that is paid: the list price without the discount."""
        return self.usd_per_hour * (1 - self.discount)

    @property
    def full_name(self) -> str:
        """``aws/c7i.xlarge``."""
        return f"{self.provider}/{self.name}"

    @property
    def text(self) -> str:
        """What stands beside its price: ``aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20``."""
        reduced = f", {units.percent(self.discount, signed=False, decimals=0)} off" if self.discount else ""
        when = f"as of {self.as_of}" if self.as_of else "of unknown date"
        return f"{self.full_name} in {self.region}, on demand{reduced}, {when}"


def usd_per_million(usd_per_hour: float, items_per_second: float, utilisation: float = 1.0) -> float:
    """What a million items cost on a machine that is used to this share of its capacity.

    Raises `ValueError` for a throughput or a share that nothing can be divided by.
    """
    return usd_per_hour / (_used(items_per_second, utilisation) * SECONDS_PER_HOUR) * 1e6


def usd_per_month(usd_per_hour: float, instances: float) -> float:
    """What so many machines cost, on average over the hours of a month."""
    return usd_per_hour * HOURS_PER_MONTH * instances


def instance_hours(instances: Sequence[int], scale_up: float) -> float:
    """Hours that are paid for in a day when so many machines are needed in each hour of it.

    Each is ordered `scale_up` seconds before it is needed, and given back when its hour is over.
    """
    ahead, part = divmod(scale_up / SECONDS_PER_HOUR, 1)
    hours = len(instances)

    def most(begin: int, further: int) -> int:
        return max(instances[(begin + later) % hours] for later in range(min(further + 1, hours)))

    return sum(
        (1 - part) * most(hour, int(ahead)) + part * most(hour, int(ahead) + 1) for hour in range(hours)
    )


def instances_for_throughput(rate: float, items_per_second: float, utilisation: float = UTILISATION) -> int:
    """Whole machines for a demand in items a second, by throughput alone: nothing waits here.

    Raises `ValueError` as `usd_per_million` does.
    """
    needed = rate / _used(items_per_second, utilisation)
    if not 0 <= needed < math.inf:
        raise ValueError(f"a demand of {rate:g}/s cannot be served with {items_per_second:g}/s a machine")
    # Rounded, so that a machine at its very limit is not two by the last bit of a float.
    return max(1, math.ceil(round(needed, 9)))


def _used(items_per_second: float, utilisation: float) -> float:
    """Items a second of a machine that is used to a share."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"a utilisation of {utilisation:g} is not a share above 0 and at most 1")
    used = items_per_second * utilisation
    if not 0 < used < math.inf:
        raise ValueError(f"a throughput of {items_per_second:g}/s has no cost; it must be above 0")
    return used


def price_of(instance: Instance, utilisation: float, notes: Iterable[Note] = ()) -> Price:
    """What is paid for an instance, with what must stand beside the figure."""
    return Price(
        usd_per_hour=instance.price, utilisation=utilisation, source=instance.text, notes=tuple(notes)
    )


# Instances by name


def find_instance(instances: Iterable[Instance], name: str) -> Instance:
    """Look an instance up by ``provider/name``, or by its name alone where no other has it.

    Raises `ValueError` with the nearest name, or with what there is to choose from.
    """
    known = tuple(instances)
    found = [one for one in known if name in (one.full_name, one.name)]
    if not found:
        names = [text for one in known for text in (one.full_name, one.name)]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no instance {name!r} is in the table of prices{hint}")
    if len(found) > 1:
        places = ", ".join(f"{one.full_name} in {one.region}" for one in found)
        raise ValueError(f"{name!r} may be {places}: name the provider, and choose one region")
    return found[0]


def select_instances(
    instances: Iterable[Instance], accelerator: str | None = None, regions: Collection[str] = ()
) -> tuple[Instance, ...]:
    """Instances with an accelerator and of some regions, where these are said.

    Memory and form of the accelerator count where its name tells them. Raises `ValueError` naming what there
    is where no instance is left.
    """
    found = tuple(instances)
    if accelerator is not None:
        known = sorted({one.accelerator for one in found if one.accelerator is not None})
        found = tuple(one for one in found if _is(one.accelerator, accelerator))
        if not found:
            raise ValueError(f"no instance has the accelerator {accelerator!r}: known are {', '.join(known)}")
    if regions:
        known = sorted({one.region for one in found})
        found = tuple(one for one in found if one.region in regions)
        if not found:
            raise ValueError(f"no instance is of region {', '.join(regions)}: known are {', '.join(known)}")
    return found


def _is(accelerator: str | None, asked: str) -> bool:
    if accelerator is None:
        return False
    model, wanted = accelerator_model(accelerator), parsed_name(asked)
    return (
        model.model == wanted.model
        and wanted.memory in (None, model.memory)
        and wanted.form in (None, model.form)
    )


def discounted(instances: Iterable[Instance], discounts: Mapping[str, float]) -> tuple[Instance, ...]:
    """Set discounts by pattern over ``provider/name``, later patterns over earlier ones."""
    return tuple(msgspec.structs.replace(one, discount=_discount(one, discounts)) for one in instances)


def _discount(instance: Instance, discounts: Mapping[str, float]) -> float:
    given = [share for pattern, share in discounts.items() if fnmatchcase(instance.full_name, pattern)]
    return given[-1] if given else instance.discount


# Instances by class


def same_class(instance: Instance, hardware: Hardware) -> bool:
    """Whether what was measured on this hardware holds for the instance.

    That takes its accelerators, model and count; where it has none, its CPU model and number of cores.
    """
    return not hardware_difference(instance, hardware)


def hardware_difference(instance: Instance, hardware: Hardware) -> str:
    """Say in what an instance is another machine; empty where it is of the same class."""
    name = instance.full_name
    if instance.accelerator_count:
        return _other_accelerators(instance, hardware)
    if hardware.accelerator is not None:
        return f"the machine has an accelerator, {hardware.accelerator}, and {name} has none"
    if not same_cpu(hardware.cpu_model, instance.cpu_model):
        return f"the CPU is {hardware.cpu_model}, that of {name} is {instance.cpu_model or 'not known'}"
    if hardware.cores != instance.vcpus:
        cores = units.plural(hardware.cores, "core")
        return f"{cores} can be used here, {name} has {units.plural(instance.vcpus, 'vCPU')}"
    return ""


def _other_accelerators(instance: Instance, hardware: Hardware) -> str:
    name = instance.full_name
    if hardware.accelerator is None:
        return f"no accelerator was used, and {name} has {instance.accelerator}"
    if not same_accelerator(hardware.accelerator, instance.accelerator):
        return f"the accelerator is {hardware.accelerator}, that of {name} is {instance.accelerator}"
    if hardware.accelerator_count != instance.accelerator_count:
        here = units.plural(hardware.accelerator_count, "accelerator")
        return f"{here} can be seen here, {name} has {instance.accelerator_count}"
    return ""


def proposals(hardware: Hardware, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Instances of the same class, cheapest first."""
    same = (one for one in instances if same_class(one, hardware))
    return tuple(sorted(same, key=lambda one: (one.price, one.full_name, one.region)))


# What is doubtful about a table


def stale_price_note(instances: Iterable[Instance], today: str) -> Note | None:
    """Say that a price is older than `OLDEST_DAYS`, or of an unknown day; ``None`` where none is.

    `today` is a day as ISO 8601 has it. Raises `ValueError` for a day that is none.
    """
    used = tuple(instances)
    undated = [one for one in used if not one.as_of]
    oldest = min((one for one in used if one.as_of), key=lambda one: one.as_of, default=None)
    age = 0 if oldest is None else _day_number(today) - _day_number(oldest.as_of)
    hint = "compare it with the provider's, and give your own with --infer-prices"
    if oldest is not None and age > OLDEST_DAYS:
        text = f"the price of {oldest.full_name} is {age} days old, of {oldest.as_of}"
        return Note(code=NoteCode.PRICES_OLD, text=text, hint=hint)
    if undated:
        text = f"nobody knows of when the price of {undated[0].full_name} is"
        return Note(code=NoteCode.PRICES_UNDATED, text=text, hint=hint)
    return None


def _day_number(day: str) -> int:
    """Count days, so that two of them can be subtracted: years begin in March, leap days end them."""
    year, month, date = map(int, day.split("-"))
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)  # noqa: PLR2004 - February
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + date


def price_doubts(instances: Iterable[Instance]) -> tuple[Note, ...]:
    """Say where one provider's price of one accelerator differs by more than `WIDEST_RATIO`."""
    groups: dict[tuple[str, AcceleratorModel], list[Instance]] = {}
    for one in instances:
        if one.accelerator is not None and one.accelerator_count:
            groups.setdefault((one.provider, accelerator_model(one.accelerator)), []).append(one)
    return tuple(note for group in groups.values() if (note := _wide(group)) is not None)


def _wide(group: Sequence[Instance]) -> Note | None:
    """Doubt the prices of one model of accelerator at one provider."""

    def each(one: Instance) -> float:
        return one.usd_per_hour / one.accelerator_count

    low, high = min(group, key=each), max(group, key=each)
    if each(high) <= WIDEST_RATIO * each(low):
        return None
    ends = " and ".join(f"{each(one):.2f} with {one.name} in {one.region}" for one in (low, high))
    return Note(
        code=NoteCode.PRICES_DOUBTFUL,
        text=f"{low.provider} asks between {ends}, in USD an hour, for one {low.accelerator}",
        hint="compare both with the provider's own list",
    )
