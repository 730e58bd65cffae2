"""Energy, CO2e and cost of a case in words, and what they rest on."""

from __future__ import annotations

import math

import pytest

from pytest_infergate.core.domain.outcome import Outcome
from pytest_infergate.report.cost_and_energy import ESTIMATED, LEGEND, CostAndEnergy, bases, cost_and_energy

BOARD = "Energy is measured by NVML, of the board alone, idle power included; the rest of the machine is left out."
PACKAGE = (
    "Energy is measured by RAPL, of the processors, idle power included; memory and the rest are left out."
)
MILAN = (
    "Energy is an estimate, marked ~: the time of a call times the power of AMD Milan by Cloud Carbon Footprint, "
    "0.445 W idle and 2.02 W busy a virtual processor; memory is left out."
)
CLASS = (
    "Energy is an estimate, marked ~: the time of a call times the power of the processor's class; "
    "memory is left out."
)
CO2E = "CO2e is that energy at 475 g/kWh (world, 2019); what a data centre adds is left out."
COST = (
    "Cost: 0.1785 USD an hour, aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20; used to 60 %; "
    "electricity is not added."
)


def told(sample, energy=None, **fields):
    return cost_and_energy(sample.result(**{"measurement": sample.measurement(energy=energy), **fields}))


def test_what_was_measured_and_paid_is_told_with_what_it_rests_on(sample):
    assert told(sample, sample.energy(), price=sample.price()) == CostAndEnergy(
        energy="12.3 mJ", idle="60.3 W", co2e="1.62 g", cost="3.31 USD", basis=(BOARD, CO2E, COST)
    )


def test_energy_and_cost_stand_without_each_other(sample):
    assert told(sample, sample.energy(idle_watts=None)) == CostAndEnergy(
        energy="12.3 mJ", co2e="1.62 g", basis=(BOARD, CO2E)
    )
    assert told(sample, price=sample.price()) == CostAndEnergy(cost="3.31 USD", basis=(COST,))


def test_where_nothing_is_known_nothing_is_told(sample):
    assert told(sample) == cost_and_energy(None) == CostAndEnergy()
    skipped = sample.result(outcome=Outcome.SKIPPED, price=sample.price())
    assert cost_and_energy(skipped) == CostAndEnergy()


def test_the_energy_of_a_batch_is_shared_among_its_items(sample):
    found = told(sample, sample.energy(0.0984, batch_size=8))
    assert (found.energy, found.co2e) == ("12.3 mJ", "1.62 g")


def test_an_estimate_is_marked_in_every_figure_that_comes_from_it(sample):
    found = told(sample, sample.estimate(idle_watts=0.89), price=sample.price())
    assert found == CostAndEnergy(
        energy="~12.3 mJ", idle="~0.890 W", co2e="~1.62 g", cost="3.31 USD", basis=(MILAN, CO2E, COST)
    )
    assert LEGEND.startswith(f"{ESTIMATED} an estimate")


@pytest.mark.parametrize(
    ("source", "scope", "basis"),
    [
        ("nvml", "board", BOARD),
        ("rapl", "package", PACKAGE),
        ("xpu-smi", "tile", "Energy is measured by xpu-smi, of the tile, idle power included."),
        ("nvml", "rack", "Energy is measured by nvml, of the rack, idle power included."),
        ("a\nb", "\x1b[31m", r"Energy is measured by a\nb, of the \x1b[31m, idle power included."),
    ],
    ids=["nvml", "rapl", "plugin", "other-scope", "hostile"],
)
def test_each_meter_says_what_it_sees(sample, source, scope, basis):
    assert told(sample, sample.energy(source=source, scope=scope)).basis == (basis, CO2E)


@pytest.mark.parametrize("known", [True, False])
def test_an_estimate_of_an_unknown_processor_names_no_class(sample, known):
    hardware = sample.hardware(cpu_model="fake") if known else None
    assert told(sample, sample.estimate(), hardware=hardware).basis == (CLASS, CO2E)


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        *({"joules": value} for value in (0.0, -1.0, math.nan, math.inf)),
    ],
    ids=str,
)
def test_an_energy_that_cannot_be_is_not_known(sample, fields):
    assert told(sample, sample.energy(**fields)) == CostAndEnergy()


@pytest.mark.parametrize("idle", [-1.0, math.nan, math.inf])
def test_an_idle_power_that_cannot_be_is_not_known(sample, idle):
    found = told(sample, sample.energy(idle_watts=idle))
    assert (found.energy, found.idle) == ("12.3 mJ", "-")


def test_what_is_too_much_to_be_counted_bears_no_mark(sample):
    assert told(sample, sample.estimate(1e305)).co2e == "-"


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_throughput_that_cannot_be_has_no_cost(sample, rate):
    measurement = sample.measurement(throughput=rate)
    assert told(sample, price=sample.price(), measurement=measurement) == CostAndEnergy()


@pytest.mark.parametrize(
    "fields",
    [
        *({"utilisation": value} for value in (0.0, 1.5, math.nan)),
        *({"usd_per_hour": value} for value in (-1.0, math.nan, math.inf)),
    ],
    ids=str,
)
def test_a_price_that_cannot_be_is_none(sample, fields):
    assert told(sample, price=sample.price(**fields)) == CostAndEnergy()


def test_no_text_holds_what_a_terminal_would_obey(sample):
    for result in sample.hostile_session().cases:
        found = cost_and_energy(result)
        assert len(found.basis) == 3
        assert all(text.isprintable() for text in found.basis)


def test_a_sentence_of_all_cases_stands_once_and_any_other_names_its_own(sample):
    measured = told(sample, sample.energy())
    estimated = told(sample, sample.estimate())
    assert bases([("cpu", estimated), ("cuda", measured), ("cuda-b8", measured)]) == (
        (MILAN, "cpu"),
        (CO2E, ""),
        (BOARD, "cuda, cuda-b8"),
    )
    assert bases([]) == ()
