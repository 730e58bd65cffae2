"""Energy, CO2e and cost of the items of a case as text, and the basis of these figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from pytest_infergate.core.domain import energy, instance_types, metrics, stats, units
from pytest_infergate.core.domain.measurement import Energy
from pytest_infergate.core.domain.outcome import CaseResult
from pytest_infergate.core.domain.values import Hardware, Struct
from pytest_infergate.report import wording
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column

ESTIMATED: Final = "~"
"""Prefix of an estimate, and of a figure computed from one."""
LEGEND: Final = "~ estimated, not measured; --infer-energy measures it if the machine has a meter"
MILLION: Final = 1_000_000
"""Number of items that cost and CO2e refer to: figures of a single item are tiny."""
_COVERED: Final = {
    ("nvml", "board"): "NVML for the board only, including idle power, without the rest of the machine",
    ("rapl", "package"): "RAPL for the processors, including idle power, without memory and other parts",
}
"""What a meter measures, by source and scope."""


class CostAndEnergy(Struct, frozen=True, kw_only=True):
    """Figures of a case as text, safe to print but not escaped for HTML."""

    energy: str = units.UNKNOWN
    """Energy per item: ``12.3 mJ``, or ``~12.3 mJ`` for an estimate."""
    idle: str = units.UNKNOWN
    """Power of the metered device between calls."""
    co2e: str = units.UNKNOWN
    """CO2e of the energy of a million items."""
    cost: str = units.UNKNOWN
    """Cost per million items."""
    estimated: bool = False
    """Whether the energy is an estimate."""
    basis: tuple[str, ...] = ()
    """Sentences on the basis of the figures; empty without figures."""


def _spending_column(key: str, title: str, read: Callable[[CostAndEnergy], str]) -> Column[CostAndEnergy]:
    return Column(key, title, read, shown=lambda rows: any(read(row) != units.UNKNOWN for row in rows))


SPENDING_COLUMNS: Final = (
    _spending_column("energy", "Energy per item", lambda row: row.energy),
    _spending_column("idle", "Idle power", lambda row: row.idle),
    _spending_column("co2e", "CO2e per million items", lambda row: row.co2e),
    _spending_column("cost", "Cost per million items", lambda row: row.cost),
)
"""Columns of the table that the page has for each test. A column without any figure is left out."""


def cost_and_energy(result: CaseResult | None) -> CostAndEnergy:
    """Format the figures of a case; a figure that makes no sense, from a foreign file, counts as unknown."""
    if result is None or result.measurement is None:
        return CostAndEnergy()
    taken, price = result.measurement.energy, result.price
    # Only a foreign file can have a batch size below 1, which would be a divisor.
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
        basis.append(f"CO2e is that energy at {emitted.basis}, without the overhead of a data centre.")
    try:
        dollars = None
        throughput = result.measurement.throughput
        if price is not None and throughput is not None:
            dollars = instance_types.usd_per_million(price.usd_per_hour, throughput, price.utilisation)
    except ValueError:  # a results file may contain any number
        dollars = None
    if price is not None and dollars is not None and stats.positive(dollars):
        figures["cost"] = metrics.METRICS["usd_per_million"].show(dollars)
        basis.append(f"Cost: {wording.price_text(price)}; electricity is not added.")
    return CostAndEnergy(**figures, estimated=estimated and "energy" in figures, basis=tuple(basis))


def _measured(taken: Energy) -> str:
    """Name the meter, and what it does not measure."""
    other = f"{plain(taken.source)} for the {plain(taken.scope)}, including idle power"
    return f"Energy is measured by {_COVERED.get((taken.source, taken.scope), other)}."


def _estimate(hardware: Hardware | None) -> str:
    """Describe the basis of an estimate by `core.domain.energy.estimated`."""
    power = None if hardware is None else energy.cpu_power(hardware.cpu_model)
    watts = "the power of the class of the processor"
    if power is not None:
        idle, full = units.significant(power.idle_watts), units.significant(power.full_watts)
        watts = (
            f"the power of {power.name} according to Cloud Carbon Footprint, {idle} W idle and {full} W busy "
            "per virtual processor"
        )
    return f"Energy is an estimate, marked {ESTIMATED}: the time of a call times {watts}, without memory."


def bases(cases: Sequence[tuple[str, CostAndEnergy]]) -> tuple[tuple[str, str], ...]:
    """Return each sentence once, with the labels of its cases; without labels if it applies to all."""
    labels: dict[str, list[str]] = {}
    for label, figures in cases:
        for sentence in figures.basis:
            labels.setdefault(sentence, []).append(label)
    return tuple(
        (sentence, "" if len(names) == len(cases) else ", ".join(names)) for sentence, names in labels.items()
    )
