"""Prices as a table of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.report.columns import Column
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.text_table import text_table


def _accelerators(one: Instance) -> str:
    name = plain(one.accelerator or units.UNKNOWN)
    return f"{one.accelerator_count} x {name}" if one.accelerator_count > 1 else name


def _usd(price: float | None) -> str:
    return units.UNKNOWN if price is None else f"{price:.5f}"


PRICE_COLUMNS: Final[tuple[Column[Instance], ...]] = (
    Column("instance", "instance", lambda one: plain(one.full_name), left=True),
    Column("region", "region", lambda one: plain(one.region), left=True),
    Column("vcpus", "vCPUs", lambda one: str(one.vcpus)),
    Column(
        "memory",
        "memory",
        lambda one: units.UNKNOWN if one.memory_gib is None else f"{one.memory_gib:g} GiB",
    ),
    Column("accelerators", "accelerators", _accelerators, left=True),
    Column("cpu", "CPU", lambda one: plain(one.cpu_model or units.UNKNOWN), left=True),
    Column("usd", "USD/h", lambda one: _usd(one.usd_per_hour)),
    Column("spot", "spot", lambda one: _usd(one.spot_usd_per_hour)),
    Column("as_of", "as of", lambda one: str(one.as_of or "unknown"), left=True),
)
"""USD an hour, on demand and of a spot machine."""


def price_table(instances: Iterable[Instance]) -> str:
    """Render one line for each instance."""
    return text_table(PRICE_COLUMNS, list(instances))
