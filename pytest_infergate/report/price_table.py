"""Prices as a table of text."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.report.sanitize import plain

PRICE_HEADERS = ("instance", "region", "vCPUs", "memory", "accelerators", "CPU", "USD/h", "spot", "as of")
_ALIGNED = ("left", "left", "right", "right", "left", "left", "right", "right", "left")


def price_table(instances: Iterable[Instance]) -> str:
    """One line an instance; USD an hour, on demand and of a spot machine."""
    # Headers are rows to tabulate, which would else pad them beyond their words.
    body = [PRICE_HEADERS, *map(_cells, instances)]
    rule = tuple("-" * max(map(len, column)) for column in zip(*body, strict=True))
    lines = tabulate([body[0], rule, *body[1:]], tablefmt="plain", colalign=_ALIGNED, disable_numparse=True)
    return "\n".join(line.rstrip() for line in lines.splitlines())


def _cells(one: Instance) -> tuple[str, ...]:
    accelerators = plain(one.accelerator or units.UNKNOWN)
    if one.accelerator_count > 1:
        accelerators = f"{one.accelerator_count} x {accelerators}"
    return (
        plain(one.full_name),
        plain(one.region),
        str(one.vcpus),
        units.UNKNOWN if one.memory_gib is None else f"{one.memory_gib:g} GiB",
        accelerators,
        plain(one.cpu_model or units.UNKNOWN),
        f"{one.usd_per_hour:.5f}",
        units.UNKNOWN if one.spot_usd_per_hour is None else f"{one.spot_usd_per_hour:.5f}",
        plain(one.as_of or "unknown"),
    )
