"""Energy, CO2e and cost of the items of a case as text, and what these figures rest on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from pytest_infergate.core.domain import energy, instance_types, metrics, stats, units
from pytest_infergate.core.domain.measurement import Energy
from pytest_infergate.core.domain.model import Hardware, Struct
from pytest_infergate.core.domain.outcome import CaseResult
from pytest_infergate.report import wording
from pytest_infergate.report.columns import Column
from pytest_infergate.report.sanitize import plain

ESTIMATED: Final = "~"
"""Prefix of an estimate, and of a figure computed from one."""
LEGEND: Final = "~ an estimate, not measured: --infer-energy measures where a meter can be read"
MILLION: Final = 1_000_000
"""Items that cost and CO2e are given for: those of a single item are tiny."""
_COVERED: Final = {
    ("nvml", "board"): "NVML, of the board alone, idle power included; the rest of the machine is left out",
    ("rapl", "package"): "RAPL, of the processors, idle power included; memory and the rest are left out",
}
"""What a meter measures, by source and scope."""


class CostAndEnergy(Struct, frozen=True, kw_only=True):
    """Figures of a case as text, safe to print but not escaped for HTML."""

    energy: str = units.UNKNOWN
    """Of an item: ``12.3 mJ``, or ``~12.3 mJ`` for an estimate."""
    idle: str = units.UNKNOWN
    """Power of the metered device between calls."""
    co2e: str = units.UNKNOWN
    """Of the energy of a million items."""
    cost: str = units.UNKNOWN
    """Of a million items."""
    estimated: bool = False
    """Whether the energy is an estimate."""
    basis: tuple[str, ...] = ()
    """What the figures rest on, a sentence each; empty without figures."""


def _spending_column(key: str, title: str, read: Callable[[CostAndEnergy], str]) -> Column[CostAndEnergy]:
    return Column(key, title, read, shown=lambda rows: any(read(row) != units.UNKNOWN for row in rows))


SPENDING_COLUMNS: Final = (
    _spending_column("energy", "Energy per item", lambda row: row.energy),
    _spending_column("idle", "Idle power", lambda row: row.idle),
    _spending_column("co2e", "CO2e per million items", lambda row: row.co2e),
    _spending_column("cost", "Cost per million items", lambda row: row.cost),
)
"""Columns of the table that a page has for each test; a figure that no case has is left out."""


def cost_and_energy(result: CaseResult | None) -> CostAndEnergy:
    """Format the figures of a case; a figure that a foreign file makes impossible counts as unknown."""
    if result is None or result.measurement is None:
        return CostAndEnergy()
    taken, price = result.measurement.energy, result.price
    joules = energy.joules_per_item(taken) if taken is not None and taken.batch_size >= 1 else 0.0
    figures: dict[str, str] = {}
    basis: list[str] = []
    estimated = taken is not None and taken.estimated
    if taken is not None and stats.positive(joules):
        emitted = energy.co2e(MILLION * joules)
        figures = {"energy": units.joules(joules), "co2e": units.grams(emitted.grams)}
        if taken.idle_watts is not None and 0 <= taken.idle_watts < math.inf:
            figures["idle"] = f"{units.significant(taken.idle_watts)} W"
        if estimated:
            # Idle power and CO2e follow from the same estimate.
            figures = {name: ESTIMATED + text for name, text in figures.items() if text != units.UNKNOWN}
        basis.append(_estimate(result.hardware) if estimated else _measured(taken))
        basis.append(f"CO2e is that energy at {emitted.basis}; what a data centre adds is left out.")
    try:
        dollars = None
        if price is not None:
            throughput = result.measurement.throughput
            dollars = instance_types.usd_per_million(price.usd_per_hour, throughput, price.utilisation)
    except ValueError:  # a results file of another machine may hold any number
        dollars = None
    if price is not None and dollars is not None and stats.positive(dollars):
        figures["cost"] = metrics.METRICS["usd_per_million"].show(dollars)
        basis.append(f"Cost: {wording.price_words(price)}; electricity is not added.")
    return CostAndEnergy(**figures, estimated=estimated and "energy" in figures, basis=tuple(basis))


def _measured(taken: Energy) -> str:
    """Name the meter, and what it does not measure."""
    other = f"{plain(taken.source)}, of the {plain(taken.scope)}, idle power included"
    return f"Energy is measured by {_COVERED.get((taken.source, taken.scope), other)}."


def _estimate(hardware: Hardware | None) -> str:
    """What an estimate by `core.domain.energy.estimated` rests on."""
    power = None if hardware is None else energy.cpu_power(hardware.cpu_model)
    watts = "the power of the processor's class"
    if power is not None:
        idle, full = units.significant(power.idle_watts), units.significant(power.full_watts)
        watts = (
            f"the power of {power.name} by Cloud Carbon Footprint, {idle} W idle and {full} W busy "
            "a virtual processor"
        )
    return f"Energy is an estimate, marked {ESTIMATED}: the time of a call times {watts}; memory is left out."


def bases(cases: Sequence[tuple[str, CostAndEnergy]]) -> tuple[tuple[str, str], ...]:
    """Each sentence once, with the labels of its cases; without labels where it applies to all."""
    labels: dict[str, list[str]] = {}
    for label, found in cases:
        for sentence in found.basis:
            labels.setdefault(sentence, []).append(label)
    return tuple(
        (sentence, "" if len(of) == len(cases) else ", ".join(of)) for sentence, of in labels.items()
    )
