"""Energy of a call per item, at a demand and as CO2e, and an estimate where nothing can be measured.

The energy of a rented machine is part of its price: it is never added to the cost of a cloud instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from pytest_infergate.core.domain.measurement import Energy, Estimate, Latency
from pytest_infergate.core.domain.model import Hardware

TICK_SECONDS: Final = 0.1
"""A board's counter moves every 20 to 100 ms, so that a window is known to so much."""
JOULES_PER_KWH: Final = 3.6e6
MONTH_SECONDS: Final = 730 * 3600
"""As prices count a month."""


class CpuPower(NamedTuple):
    """What one virtual processor of a class takes, in watts."""

    name: str
    pattern: str
    """Regular expression over `Hardware.cpu_model`, which holds family and model number in brackets."""
    idle_watts: float
    full_watts: float


CPU_POWER: Final = (
    CpuPower("Intel Cascade Lake", r"\b(?:Platinum 8|Gold 6)2\d\d", 0.639, 3.967),
    CpuPower("AMD Rome", r"\bEPYC 7[0-9A-Z]{2}2\b|\bAMD EPYC\b.{0,80}\(23/49\)", 0.474, 1.693),
    CpuPower("AMD Milan", r"\bEPYC 7[0-9A-Z]{2}3\b|\bAMD EPYC\b.{0,80}\(25/1\)", 0.445, 2.019),
)
"""Classes of processors whose power is known.

Source: Cloud Carbon Footprint, cloud-carbon-coefficients at dda7621, from SPECpower, 2023. Without memory.
"""


class Grid(NamedTuple):
    """How much CO2e the making of electricity emits."""

    grams_per_kwh: float
    year: int


GRID: Final[Mapping[str, Grid]] = MappingProxyType(
    {
        "world": Grid(475.0, 2019),
        "USA": Grid(369.473, 2023),
        "DEU": Grid(380.95, 2023),
        "FRA": Grid(56.039, 2023),
        "GBR": Grid(237.589, 2023),
        "IRL": Grid(290.805, 2023),
        "SWE": Grid(40.695, 2023),
        "IND": Grid(713.441, 2023),
        "JPN": Grid(485.392, 2023),
    }
)
"""By country, ISO 3166 alpha-3. Source: codecarbon 3.3.2; its figure of the world is the IEA's."""
PUE: Final[Mapping[str, float]] = MappingProxyType(
    {"aws": 1.135, "gcp": 1.1, "azure": 1.185, "on_premise": 1.58}
)
"""Energy of a data centre over that of its computers, mean. Source: Cloud Carbon Footprint."""


class Emission(NamedTuple):
    """An amount of CO2e, and the factors behind it."""

    grams: float
    basis: str
    """``475 g/kWh (world, 2019), PUE 1.135 (aws)``."""


def cpu_power(cpu_model: str) -> CpuPower | None:
    """Find the class of a processor by the name that the system gives it; ``None`` where it is not known."""
    return next((known for known in CPU_POWER if re.search(known.pattern, cpu_model)), None)


def estimated(
    hardware: Hardware, latency: Latency, *, batch_size: int = 1, threads: int | None = None
) -> Energy | None:
    """Estimate the energy of a call on a CPU: its time, and the power of all virtual processors.

    Those of `threads` are taken to be busy all the time, the rest to be idle. ``None`` where the class of
    the processor is not known, or the case runs on an accelerator.
    """
    power = cpu_power(hardware.cpu_model)
    if power is None or hardware.accelerator is not None or not latency.mean > 0:
        return None
    busy = min(threads or 1, hardware.cores)
    idle_watts = power.idle_watts * hardware.cores
    taken = idle_watts + (power.full_watts - power.idle_watts) * busy
    return Energy(
        joules=taken * latency.mean,
        source="estimate",
        scope="vcpus",
        seconds=latency.mean * latency.count,
        calls=latency.count,
        batch_size=batch_size,
        idle_watts=idle_watts,
    )


def joules_per_item(energy: Energy) -> float:
    """Energy of one item of a batch, issued back to back."""
    return energy.joules / energy.batch_size


def per_item(energy: Energy) -> Estimate:
    """Energy of one item within what the ticks of a counter leave open; an estimate has no ticks."""
    value = joules_per_item(energy)
    share = 0.0 if energy.estimated else min(1.0, TICK_SECONDS / energy.seconds)
    return Estimate(value=value, low=value * (1 - share), high=value * (1 + share))


def watts(energy: Energy) -> float:
    """Mean power while calls were issued back to back."""
    return energy.joules * energy.calls / energy.seconds


def joules_per_item_at(energy: Energy, rate: float, throughput: float) -> float | None:
    """Energy of one item where so many arrive in a second, idle power between them included.

    `rate` is what one instance gets, `throughput` what it could do, both in items a second. ``None`` where
    the idle power is not known. Raises `ValueError` for a rate that is not above 0, or above the throughput.
    """
    if not 0 < rate <= throughput:
        raise ValueError(f"a rate of {rate:g} is not above 0 and at most the throughput of {throughput:g}")
    if energy.idle_watts is None:
        return None
    utilisation = rate / throughput
    return (energy.idle_watts * (1 - utilisation) + watts(energy) * utilisation) / rate


def joules_per_month(energy: Energy, rate: float, throughput: float) -> float | None:
    """Energy that one instance takes in a month at a demand, as `joules_per_item_at`."""
    item = joules_per_item_at(energy, rate, throughput)
    return None if item is None else item * rate * MONTH_SECONDS


def co2e(joules: float, grid: str = "world", provider: str | None = None) -> Emission:
    """Convert energy to CO2e with the factor of a grid.

    With `provider`, a name of `PUE`, the data centre around the machine is counted too. Raises `ValueError`
    for names that are not known.
    """
    factor = GRID[_known(grid, GRID, "grid")]
    overhead = 1.0 if provider is None else PUE[_known(provider, PUE, "provider")]
    basis = f"{factor.grams_per_kwh:g} g/kWh ({grid}, {factor.year})"
    if provider is not None:
        basis += f", PUE {overhead:g} ({provider})"
    return Emission(joules / JOULES_PER_KWH * factor.grams_per_kwh * overhead, basis)


def _known(name: str, table: Mapping[str, object], what: str) -> str:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}: known are {', '.join(table)}")
    return name
