"""What limits the decisions on a machine, by what its files and its launches show."""

import pytest
from core_values import measurement

from pytest_infergate.core.domain.machine_values import (
    Examination,
    FindingState,
    GpuReading,
    MachineReading,
    ModelLaunches,
)
from pytest_infergate.core.gate.machine_findings import machine_findings

QUIET = {
    "system": "Linux", "cores": 4, "virtual": False, "quota": 0.0, "governors": ("performance",),
    "turbo": False, "smt": False, "libc": "glibc", "variables": {"OMP_PROC_BIND": "true"},
}  # fmt: skip


def examined(threads=2, page_faults=0.0, **fields):
    one = measurement(0.01, threads=threads, page_faults=page_faults)
    known = {"contention": 0.0, "stolen": 0.0, "throttled_seconds": 0.0}
    return Examination(models=(ModelLaunches(name="model", measurements=(one,)),), **{**known, **fields})


def findings(found=None, **reading):
    return machine_findings(MachineReading(**{**QUIET, **reading}), found or examined())


def states(*arguments, **reading):
    """Subjects of what is not good, with their states."""
    return {
        one.subject: one.state.value
        for one in findings(*arguments, **reading)
        if one.state is not FindingState.GOOD
    }


def test_a_quiet_machine_has_nothing_to_improve():
    assert states() == {}


@pytest.mark.parametrize(
    ("reading", "found", "subject"),
    [
        ({}, {"contention": 0.06}, "other load"),
        ({"quota": 2.5}, {}, "CPU quota"),
        ({"quota": 4.0}, {"throttled_seconds": 0.3}, "CPU quota"),
        ({"virtual": True}, {}, "hypervisor"),
        ({"virtual": True}, {"stolen": 0.05}, "hypervisor"),
        ({"governors": ("performance", "powersave")}, {}, "clock governor"),
        ({"turbo": True}, {}, "turbo"),
        ({"smt": True}, {}, "SMT"),
        ({}, {"threads": 4}, "threads"),
        ({}, {"threads": 8}, "threads"),
        ({}, {"page_faults": 300.0}, "malloc"),
        ({"variables": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_PROC_BIND": "true"}}, {}, "OpenMP waiting"),
        ({"variables": {"KMP_BLOCKTIME": "0", "KMP_AFFINITY": "compact"}}, {}, "OpenMP waiting"),
        ({"variables": {}}, {}, "OpenMP binding"),
        ({"gpus": (GpuReading(name="H100", clock_hz=1e9, tenants=2),)}, {}, "GPU 0 tenants"),
    ],
)
def test_each_limit_is_found_with_its_cost_and_hint(reading, found, subject):
    every = findings(examined(**found), **reading)
    first = every[0]
    assert first.state is FindingState.COSTS
    [wanted] = [one for one in every if one.subject == subject]
    assert wanted.state is FindingState.COSTS
    assert wanted.seen
    assert wanted.cost
    assert wanted.hint


def test_what_is_as_large_as_the_machine_limits_nothing():
    assert states(quota=4.0) == {}
    assert states(examined(threads=1), cores=1) == {}
    assert states(examined(contention=0.04)) == {}


def test_a_hint_fits_the_quota():
    [quota] = [one for one in findings(quota=2.5) if one.subject == "CPU quota"]
    assert quota.seen == "2.5 cores"
    assert "--infer-threads=2" in quota.hint
    [quota] = [one for one in findings(quota=0.5) if one.subject == "CPU quota"]
    assert "--infer-threads=1" in quota.hint


def test_an_allocator_that_keeps_memory_is_good_even_with_some_page_faults():
    [malloc] = [one for one in findings(preloaded=("libjemalloc.so.2",)) if one.subject == "malloc"]
    assert (malloc.state, malloc.seen) == (FindingState.GOOD, "jemalloc")


def test_what_a_container_does_not_show_is_unknown():
    bare = {"quota": None, "governors": None, "turbo": None, "smt": None, "virtual": None}
    unknown = states(examined(stolen=None), **bare)
    assert unknown == dict.fromkeys(
        ("CPU quota", "hypervisor", "clock governor", "turbo", "SMT"), FindingState.UNKNOWN.value
    )
    [turbo] = [one for one in findings(system="Darwin", turbo=None) if one.subject == "turbo"]
    assert "Darwin" in turbo.seen


def test_without_launches_what_needs_them_is_unknown():
    found = {one.subject: one.state for one in findings(Examination())}
    assert found["other load"] is found["threads"] is found["malloc"] is FindingState.UNKNOWN


@pytest.mark.parametrize(
    ("gpu", "state"),
    [
        ({"clock_hz": 2.1e8, "max_clock_hz": 1.98e9}, FindingState.COSTS),
        ({"clock_hz": 1e9, "application_clock_hz": 1e9, "default_clock_hz": 1.2e9}, FindingState.GOOD),
        ({"clock_hz": 1e9, "application_clock_hz": 1e9, "default_clock_hz": 1e9}, FindingState.COSTS),
        ({"clock_hz": 1e9, "throttled": ("power cap",)}, FindingState.COSTS),
        ({}, FindingState.UNKNOWN),
    ],
)
def test_the_clock_of_a_board(gpu, state):
    found = {one.subject: one.state for one in findings(gpus=(GpuReading(name="H100", tenants=0, **gpu),))}
    assert found["GPU 0 clock"] is state
    assert found["GPU 0 tenants"] is FindingState.GOOD
