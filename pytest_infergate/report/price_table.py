"""The table of instance types and prices of ``infergate prices list``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column
from pytest_infergate.report.text_table import text_table


def _accelerators(instance: Instance) -> str:
    name = plain(instance.accelerator or units.UNKNOWN)
    return f"{instance.accelerator_count} x {name}" if instance.accelerator_count > 1 else name


def _usd(price: float | None) -> str:
    return units.UNKNOWN if price is None else f"{price:.5f}"


PRICE_COLUMNS: Final[tuple[Column[Instance], ...]] = (
    Column("instance", "instance", lambda instance: plain(instance.full_name), left=True),
    Column("region", "region", lambda instance: plain(instance.region), left=True),
    Column("vcpus", "vCPUs", lambda instance: str(instance.vcpus)),
    Column(
        "memory",
        "memory",
        lambda instance: units.UNKNOWN if instance.memory_gib is None else f"{instance.memory_gib:g} GiB",
    ),
    Column("accelerators", "accelerators", _accelerators, left=True),
    Column("cpu", "CPU", lambda instance: plain(instance.cpu_model or units.UNKNOWN), left=True),
    Column("usd", "USD/h", lambda instance: _usd(instance.usd_per_hour)),
    Column("spot", "spot", lambda instance: _usd(instance.spot_usd_per_hour)),
    Column("as_of", "as of", lambda instance: str(instance.as_of or "unknown, unverified"), left=True),
)
"""Prices are in USD per hour, on demand and for a spot machine."""


def price_table(instances: Iterable[Instance]) -> str:
    """Render one line for each instance type."""
    return text_table(PRICE_COLUMNS, list(instances))
