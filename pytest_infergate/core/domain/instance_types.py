"""Instance types, their prices, and what inference on them costs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.hardware_names import (
    AcceleratorModel,
    accelerator_model,
    cpus_differ,
    parsed_name,
    same_accelerator,
    same_cpu,
)
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.core.domain.spelling import did_you_mean
from pytest_infergate.core.domain.values import Hardware, Note, Struct

# A twelfth of a year of 365 days: clouds multiply hourly prices with this number.
HOURS_PER_MONTH: Final = 730.0
SECONDS_PER_HOUR: Final = 3600.0
# No machine costs a million dollars an hour: such a cell is a typing error or another currency.
MAX_USD_PER_HOUR: Final = 1e6
# Less than a cent a year; a smaller price would make ratios of costs overflow.
MIN_USD_PER_HOUR: Final = 1e-6
# Requests wait in front of a busy machine: method.md recommends a utilisation of 60 % at most, because
# predictions of latency were far too good where queues get long.
UTILISATION: Final = 0.6
"""Default share of the capacity of a machine that is planned to be used."""
MIN_UTILISATION: Final = 0.001
MAX_PRICE_AGE_DAYS: Final = 90
"""Age in days from which on a price is shown with a warning."""
# Prices of one accelerator differ with the rest of the machine, but rarely by more than this factor.
MAX_PRICE_RATIO: Final = 2.0
"""Ratio of two prices of one accelerator at one provider from which on both are doubted."""


class Instance(Struct, frozen=True, kw_only=True):
    """A type of machine that can be rented, and its price in one region."""

    provider: str
    region: str
    name: str
    """Name of the type at its provider: ``c7i.xlarge``."""
    vcpus: int
    memory_gib: float | None
    accelerator: str | None = None
    """Model of its accelerators, with the memory if the model has several sizes: ``A100-80GB``."""
    accelerator_count: int = 0
    cpu_model: str | None = None
    """Name in the table; ``None``, or a vendor alone, if the provider does not state the model."""
    usd_per_hour: float
    """List price on demand."""
    spot_usd_per_hour: float | None = None
    """Price of a machine that the provider may take away at any time."""
    discount: float = 0.0
    """Share off the list price for a commitment, 0 to less than 1."""
    as_of: date | None = None
    """Day of the price; ``None`` if unknown."""
    source: str = ""

    @property
    def price(self) -> float:
        """USD per hour to pay: the list price less the discount."""
        return self.usd_per_hour * (1 - self.discount)

    @property
    def unverified(self) -> bool:
        """Whether a price list has the price without its day, so that it cannot be checked."""
        # A machine of the user has no region, and the user knows its price.
        return self.as_of is None and bool(self.region)

    @property
    def full_name(self) -> str:
        """``aws/c7i.xlarge``."""
        return f"{self.provider}/{self.name}"

    @property
    def text(self) -> str:
        """Source of the price: ``aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20``."""
        reduced = f", {units.percent(self.discount, signed=False, decimals=0)} off" if self.discount else ""
        when = "unverified price of unknown date" if self.as_of is None else f"as of {self.as_of}"
        return f"{self.full_name} in {self.region}, on demand{reduced}, {when}"


def usd_per_million(usd_per_hour: float, items_per_second: float, utilisation: float = 1.0) -> float:
    """Return the cost of a million items on a machine of which this share of the capacity is used.

    Raises `ValueError` for a throughput or a utilisation that is not greater than 0.
    """
    return usd_per_hour / (_used(items_per_second, utilisation) * SECONDS_PER_HOUR) * 1e6


def usd_per_month(usd_per_hour: float, instances: float) -> float:
    """Return the cost of a number of machines, which may be an average over the hours of a month."""
    return usd_per_hour * HOURS_PER_MONTH * instances


def instance_hours(instances: Sequence[int], scale_up: float) -> float:
    """Return the machine hours to pay for in a day that needs this number of instances in each of its hours.

    A machine is ordered `scale_up` seconds before the hour that needs it, and released at the end of the
    hour.
    """
    ahead, part = divmod(scale_up / SECONDS_PER_HOUR, 1)
    hours = len(instances)

    def peak(begin: int, further: int) -> int:
        return max(instances[(begin + later) % hours] for later in range(min(further + 1, hours)))

    # In the last `part` of each hour, the machines of one hour more have been ordered already.
    return sum(
        (1 - part) * peak(hour, int(ahead)) + part * peak(hour, int(ahead) + 1) for hour in range(hours)
    )


def instances_for_throughput(rate: float, items_per_second: float, utilisation: float = UTILISATION) -> int:
    """Return the number of machines for a demand in items per second by throughput alone, without waiting.

    Raises `ValueError` for a demand that is negative or needs infinitely many machines, and like
    `usd_per_million`.
    """
    needed = rate / _used(items_per_second, utilisation)
    if not 0 <= needed < math.inf:
        raise ValueError(
            f"a demand must be 0 or more and finite, got {rate:g}/s at {items_per_second:g}/s per machine"
        )
    # Rounded, so that the last bit of a float does not add a machine to a demand that fits exactly.
    return max(1, math.ceil(round(needed, 9)))


def _used(items_per_second: float, utilisation: float) -> float:
    """Return the items per second of a machine of which a share of the capacity is used."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be greater than 0 and at most 1, got {utilisation:g}")
    used = items_per_second * utilisation
    if not 0 < used < math.inf:
        raise ValueError(f"throughput must be greater than 0 and finite, got {items_per_second:g}/s")
    return used


def price_of(instance: Instance, utilisation: float, notes: Iterable[Note] = ()) -> Price:
    """Return the price of an instance with its source and the reasons to doubt it."""
    return Price(
        usd_per_hour=instance.price, utilisation=utilisation, source=instance.text, notes=tuple(notes)
    )


# Instances by name


def find_instance(instances: Iterable[Instance], name: str) -> Instance:
    """Find an instance by ``provider/name``, or by its name alone if that is unique.

    Raises `ValueError` with the nearest name, or with all matches if there are several.
    """
    known = tuple(instances)
    matches = [instance for instance in known if name in (instance.full_name, instance.name)]
    if not matches:
        names = [text for instance in known for text in (instance.full_name, instance.name)]
        raise ValueError(f"no instance {name!r} is in the table of prices{did_you_mean(name, names)}")
    if len(matches) > 1:
        places = ", ".join(f"{instance.full_name} in {instance.region}" for instance in matches)
        raise ValueError(
            f"{name!r} has several prices: {places}. Hint: add the provider to the name and select one region"
        )
    return matches[0]


def select_instances(
    instances: Iterable[Instance], accelerator: str | None = None, regions: Collection[str] = ()
) -> tuple[Instance, ...]:
    """Return the instances that have an accelerator and are in one of some regions, if these are given.

    Memory and form factor of the accelerator count if its name states them. Raises `ValueError` with the
    known names if no instance is left.
    """
    selected = tuple(instances)
    if accelerator is not None:
        wanted = parsed_name(accelerator)

        def matches(name: str) -> bool:
            model = accelerator_model(name)
            return (
                model.model == wanted.model
                and wanted.memory in (None, model.memory)
                and wanted.form in (None, model.form)
            )

        known = sorted({instance.accelerator for instance in selected if instance.accelerator is not None})
        selected = tuple(
            instance
            for instance in selected
            if instance.accelerator is not None and matches(instance.accelerator)
        )
        if not selected:
            raise ValueError(
                f"no instance has the accelerator {accelerator!r}. Hint: known are {', '.join(known)}"
            )
    if regions:
        known = sorted({instance.region for instance in selected})
        selected = tuple(instance for instance in selected if instance.region in regions)
        if not selected:
            raise ValueError(
                f"no instance is in region {', '.join(regions)}. Hint: known are {', '.join(known)}"
            )
    return selected


def discounted(instances: Iterable[Instance], discounts: Mapping[str, float]) -> tuple[Instance, ...]:
    """Set discounts by pattern over ``provider/name``; the last matching pattern takes precedence."""
    priced = []
    for instance in instances:
        # All patterns are tried, so that a rule for a provider can be followed by an exception for a family.
        shares = [share for pattern, share in discounts.items() if fnmatchcase(instance.full_name, pattern)]
        priced.append(msgspec.structs.replace(instance, discount=shares[-1]) if shares else instance)
    return tuple(priced)


# Instances by hardware class


def same_class(instance: Instance, hardware: Hardware) -> bool:
    """Return whether measurements on this hardware are valid for an instance, see `hardware_difference`."""
    return not hardware_difference(instance, hardware)


def hardware_difference(instance: Instance, hardware: Hardware) -> str:
    """Return in what an instance differs from the measured hardware; empty if it is of the same class.

    Model and number of accelerators are compared, or else CPU model and number of cores.
    """
    name, here, there = instance.full_name, hardware.accelerator, instance.accelerator
    accelerators = units.plural(hardware.accelerator_count, "accelerator")
    # The accelerators determine the times of a GPU machine, whatever its CPU is. Times of a CPU depend on its
    # model and on the number of cores.
    differences = (
        (here is None, f"no accelerator was used, and {name} has {there}"),
        (not same_accelerator(here, there), f"the accelerator is {here}, that of {name} is {there}"),
        (
            hardware.accelerator_count != instance.accelerator_count,
            f"{accelerators} can be used here, and {name} has {instance.accelerator_count}",
        ),
    )
    if not instance.accelerator_count:
        cores = units.plural(hardware.cores, "core")
        differences = (
            (here is not None, f"the machine has an accelerator, {here}, and {name} has none"),
            (
                not same_cpu(hardware.cpu_model, instance.cpu_model),
                f"the CPU is {hardware.cpu_model}, that of {name} is {instance.cpu_model or 'unknown'}",
            ),
            (
                hardware.cores != instance.vcpus,
                f"{cores} can be used here, and {name} has {units.plural(instance.vcpus, 'vCPU')}",
            ),
        )
    return next((text for differs, text in differences if differs), "")


def proposals(hardware: Hardware, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the instances that the hardware may be, the cheapest first.

    Beside the class, the host of an accelerator must not contradict: an L4 beside an EPYC is not the machine
    of another cloud with an L4 and a Xeon, and a T4 beside 48 cores is not a machine with 4.
    """
    same = (
        instance
        for instance in instances
        if same_class(instance, hardware)
        and instance.vcpus == hardware.cores
        and not cpus_differ(hardware.cpu_model, instance.cpu_model)
    )
    return tuple(sorted(same, key=lambda instance: (instance.price, instance.full_name, instance.region)))


# Doubts about prices


def stale_price_note(
    instances: Iterable[Instance], today: date, option: str = "--infer-prices"
) -> Note | None:
    """Return a note if a price is older than `MAX_PRICE_AGE_DAYS` or of unknown date.

    `option` is the one that takes a table of current prices.
    """
    used = tuple(instances)
    hint = f"fetch current ones with infergate prices refresh -o prices.csv, and add {option} prices.csv"
    dated = [(instance.as_of, instance) for instance in used if instance.as_of is not None]
    if dated:
        day, oldest = min(dated, key=lambda pair: pair[0])
        age = (today - day).days
        if age > MAX_PRICE_AGE_DAYS:
            text = f"the price of {oldest.full_name} is {age} days old, as of {day}"
            return Note(code=NoteCode.PRICES_OLD, text=text, hint=hint)
    undated = next((instance for instance in used if instance.as_of is None), None)
    if undated is None:
        return None
    text = f"the date of the price of {undated.full_name} is unknown"
    return Note(code=NoteCode.PRICES_UNDATED, text=text, hint=hint)


def price_doubts(instances: Iterable[Instance]) -> tuple[Note, ...]:
    """Return a note for each accelerator with doubtful prices at one provider, see `MAX_PRICE_RATIO`."""
    groups: dict[tuple[str, AcceleratorModel], list[Instance]] = {}
    for instance in instances:
        if instance.accelerator is not None and instance.accelerator_count:
            # Names of one model differ between regions and catalogues; its memory is part of the key.
            key = instance.provider, accelerator_model(instance.accelerator)
            groups.setdefault(key, []).append(instance)

    def each(instance: Instance) -> float:
        return instance.usd_per_hour / instance.accelerator_count

    notes = []
    for group in groups.values():
        # Per accelerator: machines with eight of them cost about eight times as much.
        low, high = min(group, key=each), max(group, key=each)
        if each(high) <= MAX_PRICE_RATIO * each(low):
            continue
        ends = " to ".join(f"{each(end):.2f} with {end.name} in {end.region}" for end in (low, high))
        notes.append(
            Note(
                code=NoteCode.PRICES_DOUBTFUL,
                text=f"prices of {low.provider} for one {low.accelerator} range from {ends}, in USD per hour",
                hint="compare both with the provider's price list",
            )
        )
    return tuple(notes)
