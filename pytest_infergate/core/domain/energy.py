"""Energy per item, at a demand and as CO2e, and an estimate for processors without a meter.

The energy of a rented machine is part of its price: it is never added to the cost of a cloud instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from pytest_infergate.core.domain.measurement import Energy, Estimate, Latency
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.core.domain.values import Hardware

# The energy counter of a board advances every 20 to 100 ms, so both ends of a window are known to 0.1 s.
TICK_SECONDS: Final = 0.1
"""Uncertainty of the length of a metered window."""
JOULES_PER_KWH: Final = 3.6e6
# 730 hours, a twelfth of a year of 365 days: clouds multiply hourly prices with the same number.
MONTH_SECONDS: Final = 730 * 3600


class CpuPower(NamedTuple):
    """Power of one virtual processor of a class, in watts."""

    name: str
    pattern: str
    """Regular expression over `Hardware.cpu_model`, which ends with family and model number in brackets."""
    idle_watts: float
    full_watts: float


CPU_POWER: Final = (
    CpuPower("Intel Cascade Lake", r"\b(?:Platinum 8|Gold 6)2\d\d", 0.639, 3.967),
    CpuPower("AMD Rome", r"\bEPYC 7[0-9A-Z]{2}2\b|\bAMD EPYC\b.{0,80}\(23/49\)", 0.474, 1.693),
    CpuPower("AMD Milan", r"\bEPYC 7[0-9A-Z]{2}3\b|\bAMD EPYC\b.{0,80}\(25/1\)", 0.445, 2.019),
)
"""Processor classes of known power, without memory.

Source: Cloud Carbon Footprint, cloud-carbon-coefficients at dda7621, from SPECpower, 2023.
"""


class Grid(NamedTuple):
    """CO2e emissions of the electricity of a country."""

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
"""Grids by country, ISO 3166 alpha-3. Source: codecarbon 3.3.2, with the figure of the IEA for the world."""
PUE: Final[Mapping[str, float]] = MappingProxyType(
    {"aws": 1.135, "gcp": 1.1, "azure": 1.185, "on_premise": 1.58}
)
"""Mean power usage effectiveness by provider: energy of a data centre over that of its computers.

Source: Cloud Carbon Footprint.
"""


class Emission(NamedTuple):
    """An amount of CO2e with the factors behind it."""

    grams: float
    basis: str
    """``475 g/kWh (world, 2019), PUE 1.135 (aws)``."""


def cpu_power(cpu_model: str) -> CpuPower | None:
    """Return the class of a processor by the name that the system reports; ``None`` if it is unknown."""
    return next((known for known in CPU_POWER if re.search(known.pattern, cpu_model)), None)


def estimated(
    hardware: Hardware, latency: Latency, *, batch_size: int = 1, threads: int | None = None
) -> Energy | None:
    """Estimate the energy of a call on a CPU: its time multiplied by the power of all virtual processors.

    As many processors as `threads` are assumed to be busy all the time, the others to be idle. ``None`` for
    accelerators and for processors of unknown power.
    """
    power = cpu_power(hardware.cpu_model)
    if power is None or hardware.accelerator is not None or not latency.mean > 0:
        return None
    busy = min(threads or 1, hardware.cores)
    # A machine is rented as a whole, so that the processors which the case leaves idle count too.
    idle_watts = power.idle_watts * hardware.cores
    total_watts = idle_watts + (power.full_watts - power.idle_watts) * busy
    return Energy(
        joules=total_watts * latency.mean,
        source="estimate",
        scope="vcpus",
        seconds=latency.mean * latency.count,
        calls=latency.count,
        batch_size=batch_size,
        idle_watts=idle_watts,
    )


def joules_per_item(energy: Energy) -> float:
    """Return the energy of one item of a batch while calls are issued back to back."""
    return energy.joules / energy.batch_size


def per_item(energy: Energy) -> Estimate:
    """Return the energy of one item with bounds from the resolution of the meter.

    An estimate has no meter: its bounds are its value.
    """
    value = joules_per_item(energy)
    # A window that is shorter than a tick is not known at all.
    share = 0.0 if energy.estimated else min(1.0, TICK_SECONDS / energy.seconds)
    return Estimate(value=value, low=value * (1 - share), high=value * (1 + share))


def watts(energy: Energy) -> float:
    """Return the mean power while calls were issued back to back."""
    return energy.joules * energy.calls / energy.seconds


def joules_per_item_at(energy: Energy, rate: float, throughput: float) -> float | None:
    """Return the energy of one item at a demand, idle power between requests included.

    `rate` is the demand of one instance and `throughput` its capacity, both in items per second. ``None`` if
    the idle power is unknown. Raises `ValueError` if the rate is not greater than 0 or exceeds the
    throughput.
    """
    if not 0 < rate <= throughput:
        raise ValueError(
            f"a rate must be greater than 0 and at most the throughput of {throughput:g}, got {rate:g}"
        )
    if energy.idle_watts is None:
        return None
    # Between requests the machine draws idle power, which dominates at low rates.
    utilisation = rate / throughput
    return (energy.idle_watts * (1 - utilisation) + watts(energy) * utilisation) / rate


def co2e(joules: float, grid: str = "world", provider: str | None = None) -> Emission:
    """Convert energy to CO2e with the factor of a grid.

    `provider`, a name of `PUE`, adds the overhead of its data centres. Raises `ValueError` for an unknown
    name.
    """
    if grid not in GRID:
        raise ValueError(not_one_of("grid", grid, GRID))
    if provider is not None and provider not in PUE:
        raise ValueError(not_one_of("provider", provider, PUE))
    factor = GRID[grid]
    overhead = 1.0 if provider is None else PUE[provider]
    basis = f"{factor.grams_per_kwh:g} g/kWh ({grid}, {factor.year})"
    if provider is not None:
        basis += f", PUE {overhead:g} ({provider})"
    return Emission(joules / JOULES_PER_KWH * factor.grams_per_kwh * overhead, basis)
