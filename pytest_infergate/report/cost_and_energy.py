"""What items of a case take and cost, in words: energy, CO2e, dollars, and what these figures rest on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from pytest_infergate.core.domain import energy, instance_types, metrics, stats, units
from pytest_infergate.core.domain.measurement import Energy
from pytest_infergate.core.domain.model import Hardware, Struct
from pytest_infergate.core.domain.outcome import CaseResult
from pytest_infergate.report import wording
from pytest_infergate.report.sanitize import plain

ESTIMATED: Final = "~"
"""Stands before what nobody measured, and before what was computed from it."""
LEGEND: Final = "~ an estimate, not measured: --infer-energy measures where a meter can be read"
MILLION: Final = 1_000_000
"""Items that cost and CO2e are told of: those of a single one are tiny."""
_COVERED: Final = {
    ("nvml", "board"): "NVML, of the board alone, idle power included; the rest of the machine is left out",
    ("rapl", "package"): "RAPL, of the processors, idle power included; memory and the rest are left out",
}
"""What a meter of ours sees, by source and scope."""


class CostAndEnergy(Struct, frozen=True, kw_only=True):
    """Figures of a case in words, safe to print, though not escaped for HTML."""

    energy: str = units.UNKNOWN
    """Of an item: ``12.3 mJ``, or ``~12.3 mJ`` where nobody measured it."""
    idle: str = units.UNKNOWN
    """Power between calls of what the energy is of."""
    co2e: str = units.UNKNOWN
    """Of a million items, by the energy alone."""
    cost: str = units.UNKNOWN
    """Of a million items."""
    basis: tuple[str, ...] = ()
    """What the figures rest on, a sentence each; empty where there is none."""


def cost_and_energy(result: CaseResult | None) -> CostAndEnergy:
    """Put into words what is known of a case; what a foreign file makes impossible is not known."""
    if result is None or result.measurement is None:
        return CostAndEnergy()
    taken = result.measurement.energy
    joules, dollars = _joules(taken), _dollars(result)
    figures: dict[str, str] = {}
    basis: list[str] = []
    if taken is not None and joules is not None:
        emitted = energy.co2e(MILLION * joules)
        figures["energy"] = _marked(units.joules(joules), taken)
        figures["co2e"] = _marked(units.grams(emitted.grams), taken)
        if taken.idle_watts is not None and 0 <= taken.idle_watts < math.inf:
            figures["idle"] = _marked(f"{units.significant(taken.idle_watts)} W", taken)
        basis.append(_estimate(result.hardware) if taken.estimated else _measured(taken))
        basis.append(f"CO2e is that energy at {emitted.basis}; what a data centre adds is left out.")
    if result.price is not None and dollars is not None:
        figures["cost"] = metrics.METRICS["usd_per_million"].show(dollars)
        basis.append(f"Cost: {wording.price_words(result.price)}; electricity is not added.")
    return CostAndEnergy(**figures, basis=tuple(basis))


def _joules(taken: Energy | None) -> float | None:
    """Energy of an item; ``None`` where it cannot be."""
    if taken is None or taken.batch_size < 1:
        return None
    value = energy.joules_per_item(taken)
    return value if stats.positive(value) else None


def _dollars(result: CaseResult) -> float | None:
    """Cost of a million items; ``None`` where it cannot be."""
    if result.price is None or result.measurement is None:
        return None
    price = result.price
    try:
        value = instance_types.usd_per_million(
            price.usd_per_hour, result.measurement.throughput, price.utilisation
        )
    except ValueError:  # a file of somebody else may say anything
        return None
    return value if stats.positive(value) else None


def _marked(words: str, taken: Energy) -> str:
    return ESTIMATED + words if taken.estimated and words != units.UNKNOWN else words


def _measured(taken: Energy) -> str:
    """Which meter it was, and what that does not see."""
    other = f"{plain(taken.source)}, of the {plain(taken.scope)}, idle power included"
    return f"Energy is measured by {_COVERED.get((taken.source, taken.scope), other)}."


def _estimate(hardware: Hardware | None) -> str:
    """What an estimate is made of, as `core.energy.estimated` does."""
    power = None if hardware is None else energy.cpu_power(hardware.cpu_model)
    watts = "the power of the processor's class"
    if power is not None:
        idle, full = units.significant(power.idle_watts), units.significant(power.full_watts)
        watts = (
            f"the power of {power.name} by Cloud Carbon Footprint, {idle} W idle and {full} W busy "
            "a virtual processor"
        )
    return f"Energy is an estimate, marked {ESTIMATED}: the time of a call times {watts}; memory is left out."


def bases(told: Iterable[tuple[str, CostAndEnergy]]) -> tuple[tuple[str, str], ...]:
    """Each sentence once, with the labels of the cases that it is of; empty where it is of all."""
    cases = list(told)
    labels: dict[str, list[str]] = {}
    for label, found in cases:
        for sentence in found.basis:
            labels.setdefault(sentence, []).append(label)
    return tuple(
        (sentence, "" if len(of) == len(cases) else ", ".join(of)) for sentence, of in labels.items()
    )
