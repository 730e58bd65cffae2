"""Energy, CO2e and cost of a case in words, and what they rest on."""

from __future__ import annotations

import math

from pytest_infergate.core.domain.outcome import Outcome
from pytest_infergate.report.cost_and_energy import ESTIMATED, LEGEND, CostAndEnergy, bases, cost_and_energy


def figures_of(sample, energy=None, **fields):
    return cost_and_energy(sample.result(**{"measurement": sample.measurement(energy=energy), **fields}))


def figures(found):
    """Energy, idle power, CO2e and cost, and on how many sentences they rest."""
    return found.energy, found.idle, found.co2e, found.cost, len(found.basis)


def test_energy_and_cost_stand_with_and_without_each_other(sample):
    both = figures_of(sample, sample.energy(), price=sample.price())
    assert figures(both) == ("12.3 mJ", "60.3 W", "1.62 g", "3.31 USD", 3)
    assert figures(figures_of(sample, sample.energy(idle_watts=None))) == ("12.3 mJ", "-", "1.62 g", "-", 2)
    assert figures(figures_of(sample, price=sample.price())) == ("-", "-", "-", "3.31 USD", 1)


def test_where_nothing_is_known_nothing_is_told(sample):
    assert figures_of(sample) == cost_and_energy(None) == CostAndEnergy()
    skipped = sample.result(outcome=Outcome.SKIPPED, price=sample.price())
    assert cost_and_energy(skipped) == CostAndEnergy()


def test_the_energy_of_a_batch_is_shared_among_its_items(sample):
    found = figures_of(sample, sample.energy(0.0984, batch_size=8))
    assert (found.energy, found.co2e) == ("12.3 mJ", "1.62 g")


def test_an_estimate_is_marked_in_every_figure_that_comes_from_it(sample):
    found = figures_of(sample, sample.estimate(idle_watts=0.89), price=sample.price())
    assert figures(found) == ("~12.3 mJ", "~0.890 W", "~1.62 g", "3.31 USD", 3)
    assert LEGEND.startswith(ESTIMATED)


def test_what_figures_rest_on(sample, snapshot):
    """Each meter says what it sees; an estimate of an unknown processor names no class."""
    fake = sample.hardware(cpu_model="fake")
    found = {
        "nvml": figures_of(sample, sample.energy(source="nvml", scope="board")),
        "rapl": figures_of(sample, sample.energy(source="rapl", scope="package")),
        "of a plugin": figures_of(sample, sample.energy(source="xpu-smi", scope="tile")),
        "of another scope": figures_of(sample, sample.energy(source="nvml", scope="rack")),
        "hostile": figures_of(sample, sample.energy(source="a\nb", scope="\x1b[31m")),
        "estimate": figures_of(sample, sample.estimate()),
        "estimate of an unknown processor": figures_of(sample, sample.estimate(), hardware=fake),
        "estimate without hardware": figures_of(sample, sample.estimate(), hardware=None),
        "cost": figures_of(sample, price=sample.price()),
    }
    lines = [f"== {name}\n" + "\n".join(each.basis) for name, each in found.items()]
    assert "\n".join(lines) == snapshot


def test_what_cannot_be_is_not_known(sample):
    impossible = [
        *({"energy": sample.energy(batch_size=size)} for size in (0, -1)),
        *({"energy": sample.energy(joules=value)} for value in (0.0, -1.0, math.nan, math.inf)),
        *({"price": sample.price(), "measurement": sample.measurement(throughput=rate)} for rate in (0.0, -1.0, math.nan, math.inf)),
        *({"price": sample.price(utilisation=share)} for share in (0.0, 1.5, math.nan)),
        *({"price": sample.price(usd_per_hour=usd)} for usd in (-1.0, math.nan, math.inf)),
    ]  # fmt: skip
    for fields in impossible:
        assert figures_of(sample, **fields) == CostAndEnergy(), fields
    for idle in (-1.0, math.nan, math.inf):
        assert figures(figures_of(sample, sample.energy(idle_watts=idle)))[:2] == ("12.3 mJ", "-"), idle


def test_what_is_too_much_to_be_counted_bears_no_mark(sample):
    assert figures_of(sample, sample.estimate(1e305)).co2e == "-"


def test_no_text_holds_what_a_terminal_would_obey(sample):
    for result in sample.hostile_session().cases:
        found = cost_and_energy(result)
        assert len(found.basis) == 3
        assert all(text.isprintable() for text in found.basis)


def test_a_sentence_of_all_cases_stands_once_and_any_other_names_its_own(sample):
    measured = figures_of(sample, sample.energy())
    estimated = figures_of(sample, sample.estimate())
    assert bases([("cpu", estimated), ("cuda", measured), ("cuda-b8", measured)]) == (
        (estimated.basis[0], "cpu"),
        (measured.basis[1], ""),
        (measured.basis[0], "cuda, cuda-b8"),
    )
    assert bases([]) == ()
