import pytest
from core_values import HARDWARE, latency, refusals
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain import energy
from pytest_infergate.core.domain.measurement import Energy
from pytest_infergate.core.domain.values import Hardware

MILAN = Hardware(cpu_model="AMD EPYC 7763 64-Core Processor (25/1)", cores=4)


def measured(joules=2.0, seconds=2.0, calls=100, batch_size=4, idle_watts=20.0, **fields):
    """100 W while it works: 2 J a call of 20 ms, 0.5 J an item."""
    known = {"source": "nvml", "scope": "board", "idle_watts": idle_watts}
    return Energy(joules=joules, seconds=seconds, calls=calls, batch_size=batch_size, **{**known, **fields})


# Classes of processors


def test_a_class_is_known_by_name_or_by_its_numbers():
    for model, name in [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz (6/85)", "Intel Cascade Lake"),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz (6/85)", "Intel Cascade Lake"),
        ("AMD EPYC 7R32 (23/49)", "AMD Rome"),
        ("AMD EPYC 7742 64-Core Processor", "AMD Rome"),
        ("AMD EPYC-Rome Processor (23/49)", "AMD Rome"),
        ("AMD EPYC 7R13 Processor (25/1)", "AMD Milan"),
        ("AMD EPYC 7B13", "AMD Milan"),
        ("AMD EPYC 7763 64-Core Processor", "AMD Milan"),
        ("AMD EPYC 73F3 16-Core Processor", "AMD Milan"),
        ("AMD EPYC (25/1)", "AMD Milan"),
    ]:
        assert energy.cpu_power(model).name == name, (model, name)


def test_a_class_without_figures_is_none():
    for model in [
        "",
        "unknown",
        "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz (6/106)",
        "Intel(R) Xeon(R) Platinum 8124M CPU @ 3.00GHz (6/85)",
        "Intel(R) Xeon(R) Platinum 8488C (6/143)",
        "Intel(R) Xeon(R) CPU @ 2.80GHz (6/85)",
        "AMD EPYC 7571 (23/1)",
        "AMD EPYC 9R14 (25/17)",
        "AMD Ryzen 9 5950X 16-Core Processor (25/33)",
        "Neoverse-N1 (0x41/0xd0c)",
    ]:
        assert energy.cpu_power(model) is None, model


def test_a_busy_processor_takes_more():
    for known in energy.CPU_POWER:
        assert 0 < known.idle_watts < known.full_watts, known


# The estimate


def test_an_estimate_is_power_times_time():
    # 4 x 0.445 W idle, and 2 of them busy: 2 x (2.019 - 0.445) more.
    taken = energy.estimated(MILAN, latency(0.010, 50), batch_size=8, threads=2)
    assert taken == Energy(
        joules=pytest.approx(0.010 * (4 * 0.445 + 2 * 1.574)),
        source="estimate",
        scope="vcpus",
        seconds=pytest.approx(0.5),
        calls=50,
        batch_size=8,
        idle_watts=pytest.approx(1.78),
    )
    assert taken.estimated


def test_threads_keep_as_many_processors_busy_as_there_are():
    for threads, busy in [(None, 1), (1, 1), (4, 4), (64, 4)]:
        taken = energy.estimated(MILAN, latency(0.010), threads=threads)
        assert energy.watts(taken) == pytest.approx(4 * 0.445 + busy * 1.574), (threads, busy)


def test_nothing_is_estimated_without_figures():
    for hardware, seconds in [
        (HARDWARE, 0.010),
        (Hardware(cpu_model=MILAN.cpu_model, cores=4, accelerator="L4", accelerator_count=1), 0.010),
        (MILAN, 0.0),
        (MILAN, float("nan")),
    ]:
        assert energy.estimated(hardware, latency(seconds)) is None, (hardware, seconds)


# Per item


def test_the_energy_of_an_item_is_known_to_a_tick_of_the_counter():
    taken = energy.per_item(measured())
    assert (taken.value, taken.low, taken.high) == (0.5, pytest.approx(0.475), pytest.approx(0.525))
    assert energy.watts(measured()) == 100.0
    assert not measured().estimated


def test_a_window_as_short_as_a_tick_bounds_nothing_from_below():
    taken = energy.per_item(measured(seconds=0.05))
    assert (taken.low, taken.high) == (0.0, 1.0)


def test_an_estimate_has_no_ticks():
    taken = energy.per_item(measured(source="estimate", seconds=0.001))
    assert (taken.low, taken.high) == (0.5, 0.5)


# At a demand


def test_idle_power_counts_at_a_demand():
    # 200 items a second at most: at 50 a quarter of the time at 100 W, the rest at 20 W, which is 40 W.
    assert energy.joules_per_item_at(measured(), 50, 200) == pytest.approx(40 / 50)


def test_at_full_use_nothing_is_idle():
    assert energy.joules_per_item_at(measured(), 200, 200) == pytest.approx(
        energy.joules_per_item(measured())
    )


def test_a_rate_that_cannot_be_is_refused(snapshot):
    def at(rate):
        return energy.joules_per_item_at(measured(), rate, 200)

    assert refusals(at, 0, -1, 200.1, float("nan")) == snapshot


def test_without_idle_power_nothing_is_known_at_a_demand():
    assert energy.joules_per_item_at(measured(idle_watts=None), 50, 200) is None


@given(st.floats(0.01, 0.99), st.floats(1.001, 1.01))
def test_an_item_costs_less_the_more_arrive(utilisation, more):
    fewer, rather_more = 200 * utilisation, min(200.0, 200 * utilisation * more)
    at = [energy.joules_per_item_at(measured(), rate, 200) for rate in (fewer, rather_more)]
    assert at[0] >= at[1] >= energy.joules_per_item(measured()) - 1e-12


# CO2e


def test_a_kilowatt_hour_on_each_grid():
    assert energy.co2e(3.6e6) == (475.0, "475 g/kWh (world, 2019)")
    assert energy.co2e(3.6e6, "FRA").grams == pytest.approx(56.039)
    assert energy.co2e(0.0).grams == 0


def test_the_data_centre_is_counted_where_it_is_named():
    taken = energy.co2e(3.6e6, "DEU", "aws")
    assert taken.grams == pytest.approx(380.95 * 1.135)
    assert taken.basis == "380.95 g/kWh (DEU, 2023), PUE 1.135 (aws)"


def test_unknown_names_are_refused_with_what_is_known(snapshot):
    assert refusals(energy.co2e, (1, "XXX"), {"joules": 1, "provider": "ovh"}) == snapshot


def test_the_tables_hold_what_is_promised():
    assert set(energy.GRID) == {"world", "USA", "DEU", "FRA", "GBR", "IRL", "SWE", "IND", "JPN"}
    assert all(grid.grams_per_kwh > 0 for grid in energy.GRID.values())
    assert all(overhead >= 1 for overhead in energy.PUE.values())


def test_a_processor_of_any_length_of_name_is_looked_up():
    # In a file from elsewhere: where time grew with the square of the length, this test would not end.
    assert energy.cpu_power("AMD EPYC " * 10**5) is None
