"""Ways and offers: what a file from elsewhere may hold makes none, and several machines are told apart."""

import msgspec
import pytest
from core_values import ENVIRONMENT, HARDWARE, OTHER_HARDWARE, case, latency, measurement, result

from pytest_infergate.core import gate, offers
from pytest_infergate.core.cost import Instance
from pytest_infergate.core.model import Crew, Energy, Hardware, Policy, Session

OWN = Instance(
    provider="own", region="", name="own cpu", vcpus=0, memory_gib=None, usd_per_hour=0.1, as_of=""
)
RENTED = Instance(
    provider="lab", region="cellar", name="small", vcpus=4, memory_gib=8.0, cpu_model="Test CPU",
    usd_per_hour=0.2, as_of="2026-07-20",
)  # fmt: skip


def timed(seconds=0.02, size=1, hardware=HARDWARE, **fields):
    """Calls that all take the same time."""
    constant = msgspec.structs.replace(latency(seconds), percentiles=(seconds,) * 101)
    return result(
        of=case(batch_size=size),
        hardware=hardware,
        measurement=measurement(0.02, **{"latency": constant, **fields}),
    )


def ways(*results):
    session = Session(
        tool_version="0.1.0",
        created="2026-07-01T12:00:00Z",
        environment=ENVIRONMENT,
        cases=results,
        gate=gate.gate((), Policy()),
    )
    return offers.ways([session])


def sizes(*results):
    return [one.service.batch_sizes for one in ways(*results)]


@pytest.mark.parametrize("size", [0, -1, -(2**63)])
def test_a_batch_of_nothing_makes_no_way(size):
    assert sizes(timed(size=size), timed(size=8)) == [(8,)]
    assert ways(timed(size=size)) == ()


@pytest.mark.parametrize("seconds", [5e-324, 1e-12, 1e8, 1e308])
def test_times_that_no_clock_tells_make_no_way(seconds):
    assert sizes(timed(seconds), timed(size=8)) == [(8,)]


@pytest.mark.parametrize("seconds", [1e-8, 1e6])
def test_very_short_and_very_long_calls_make_one(seconds):
    assert sizes(timed(seconds)) == [(1,)]


def test_copies_that_no_clock_tells_make_no_way():
    assert ways(timed(host_to_host=1e308)) == ()
    assert sizes(timed(host_to_host=-1.0)) == [(1,)]


def crew(workers, seconds=0.03):
    return Crew(workers=workers, throughput=1.0, calls=100, mean=seconds, percentiles=(seconds,) * 101)


def test_a_crew_has_two_workers_or_more():
    crews = tuple(map(crew, (-1, 0, 1, 2)))
    assert [one.workers for one in ways(timed(crews=crews))] == [1, 2]


@pytest.mark.parametrize("seconds", [5e-324, 1e308])
def test_a_crew_whose_times_no_clock_tells_is_none(seconds):
    assert [one.workers for one in ways(timed(crews=(crew(2, seconds),)))] == [1]


def metered(**fields):
    known = {
        "joules": 1.0,
        "source": "nvml",
        "scope": "board",
        "seconds": 2.0,
        "calls": 50,
        "idle_watts": 20.0,
    }
    return Energy(**{**known, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"seconds": 0.0},
        {"seconds": -1.0},
        {"calls": 0},
        {"batch_size": 0},
        {"joules": -1.0},
        {"joules": 1e308},
        {"idle_watts": -1.0},
        {"idle_watts": 1e308},
    ],
    ids=str,
)
def test_energy_that_no_meter_tells_is_not_known(fields):
    (usual,) = ways(timed(energy=metered()))
    assert dict(usual.energies) == {1: metered()}
    (strange,) = ways(timed(energy=metered(**fields)))
    assert not strange.energies


# Several machines of one name


def offered(*machines, told):
    made, _ = offers.offers(ways(*(timed(hardware=one) for one in machines)), (), told)
    return [offer.words for offer in made]


def test_a_price_that_is_said_of_several_machines_names_each():
    assert offered(HARDWARE, OTHER_HARDWARE, told={"cpu": OWN}) == [
        "own cpu, 4 cores of Other CPU (cpu)",
        "own cpu, 4 cores of Test CPU (cpu)",
    ]


def test_machines_of_the_same_words_go_by_their_class():
    twin = Hardware(cpu_model="Test CPU", isa=("avx512",), cores=4)
    words = offered(HARDWARE, twin, told={"cpu": OWN})
    assert sorted(words) == sorted(f"own cpu, {one.id} (cpu)" for one in (HARDWARE, twin))


def test_one_machine_keeps_its_name():
    assert offered(HARDWARE, told={"cpu": OWN}) == ["own cpu (cpu)"]
    assert offered(HARDWARE, OTHER_HARDWARE, told={HARDWARE.id: OWN}) == ["own cpu (cpu)"]


def test_an_instance_keeps_the_name_under_which_it_is_rented():
    assert offered(HARDWARE, Hardware(cpu_model="Test CPU", cores=4), told={"cpu": RENTED}) == [
        "small (cpu)",
        "small (cpu)",
    ]
