"""The price to assume for a machine that is not in the price table: that of the nearest one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from pytest_infergate.core.domain import hardware_names, units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.values import Hardware


class AssumedPrice(NamedTuple):
    """An instance whose price is assumed for a machine, and the reason in words."""

    instance: Instance
    """Its price is that of the whole machine; name, region and day are those of the row of the table."""
    reason: str
    ends: tuple[float, float] | None = None
    """Range of the price in USD per hour, if it is wide."""


def assumed_price(hardware: Hardware, table: Sequence[Instance]) -> AssumedPrice | None:
    """Return the price to assume for a machine; ``None`` if the table has no machine of its kind.

    A machine with an accelerator costs as much as the nearest one with this accelerator, or as much as the
    median price of an accelerator. Another machine costs as much as one of its architecture with as many
    cores, or the median price of a core.
    """
    if hardware.accelerator is not None:
        return _accelerator_price(hardware, [row for row in table if row.accelerator_count])
    arm = "asimd" in hardware.isa or hardware_names.is_arm(hardware.cpu_model)
    kind = "ARM" if arm else "x86-64"
    rows = [
        row
        for row in table
        if not row.accelerator_count and row.vcpus and hardware_names.is_arm(row.cpu_model) == arm
    ]
    alike = [row for row in rows if row.vcpus == hardware.cores]
    if alike:
        vendor = hardware_names.cpu_model(hardware.cpu_model).vendor
        # The vendor of the CPU comes first, then the lowest price, as for a machine found by its class.
        nearest = min(
            alike,
            key=lambda row: (
                hardware_names.cpu_model(row.cpu_model or "").vendor != vendor,
                row.price,
                row.full_name,
            ),
        )
        return AssumedPrice(
            nearest,
            f"as much as {nearest.full_name}, the nearest machine of the price table with "
            f"{units.plural(nearest.vcpus, kind + ' core')}",
        )
    if not rows:
        return None
    middle = _median(rows, lambda row: row.price / row.vcpus)
    return AssumedPrice(
        _scaled(middle, hardware.cores / middle.vcpus, vcpus=hardware.cores),
        f"the median price of {kind} cores in the price table, that of {middle.full_name}",
    )


def _accelerator_price(hardware: Hardware, rows: Sequence[Instance]) -> AssumedPrice | None:
    count = max(1, hardware.accelerator_count)
    same = [row for row in rows if hardware_names.same_accelerator(hardware.accelerator, row.accelerator)]
    alike = [row for row in same if row.accelerator_count == count]
    if alike:
        nearest = min(
            alike,
            key=lambda row: (
                hardware_names.cpus_differ(hardware.cpu_model, row.cpu_model),
                abs(row.vcpus - hardware.cores),
                row.price,
                row.full_name,
            ),
        )
        cores = f"{units.plural(nearest.vcpus, 'core')} instead of {hardware.cores}"
        host = cores if nearest.vcpus != hardware.cores else f"another CPU than {hardware.cpu_model}"
        return AssumedPrice(
            nearest, f"as much as {nearest.full_name}, which has the same accelerator and {host}"
        )
    if not rows:
        return None

    def each(row: Instance) -> float:
        return row.price / row.accelerator_count

    ends = None
    if same:
        nearest = min(same, key=lambda row: (each(row), row.full_name))
        reason = f"{count} x the price of one {nearest.accelerator} of {nearest.full_name}"
    else:
        nearest = _median(rows, each)
        low, high = min(map(each, rows)), max(map(each, rows))
        ends = count * low, count * high
        reason = (
            f"the median price of accelerators in the price table, that of {nearest.full_name}; they cost "
            f"{units.dollars(low)} to {units.dollars(high)} USD per hour each"
        )
    scaled = _scaled(nearest, count / nearest.accelerator_count, accelerator_count=count)
    return AssumedPrice(scaled, reason, ends)


def _median(rows: Iterable[Instance], value: Callable[[Instance], float]) -> Instance:
    """Return the row in the middle, of two the cheaper one."""
    ordered = sorted(rows, key=lambda row: (value(row), row.full_name, row.region))
    return ordered[(len(ordered) - 1) // 2]


def _scaled(instance: Instance, factor: float, **changes: int) -> Instance:
    """Return an instance with another number of cores or accelerators, at the same price for each."""
    spot = instance.spot_usd_per_hour
    return msgspec.structs.replace(
        instance,
        usd_per_hour=instance.usd_per_hour * factor,
        spot_usd_per_hour=None if spot is None else spot * factor,
        # The memory of a machine that does not exist is unknown.
        memory_gib=None,
        **changes,
    )
