"""Settings of a machine, read from made-up files."""

import os

import pytest

from pytest_infergate.instruments import machine_reading as module
from pytest_infergate.instruments.machine_reading import MachineFiles, read_machine, throttled_seconds

CPU = "sys/devices/system/cpu"


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a machine of two cores with these files and variables."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(module, "nvml_boards", lambda: None)

    def reading(files=None, environment=None, system="Linux"):
        for path, text in (files or {}).items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return read_machine(MachineFiles(tmp_path), environment or {}, system)

    return reading


def test_a_machine_that_shows_nothing(read):
    found = read(system="Darwin")
    assert found.system == "Darwin"
    for name in ("virtual", "quota", "throttled_seconds", "governors", "turbo", "smt", "gpus"):
        assert getattr(found, name) is None


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 0.0),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 0.0),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        # The limit may be that of a group above the process's own.
        (
            {
                "proc/self/cgroup": "0::/user.slice/job",
                "sys/fs/cgroup/user.slice/cpu.max": "300000 100000",
                "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
            },
            2.0,
        ),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({"sys/fs/cgroup/cpu.max": "100000 0"}, 0.0),
    ],
)
def test_quota(read, files, quota):
    assert read(files).quota == quota


def test_the_time_for_which_a_quota_stopped_the_container(tmp_path, read):
    read({"sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000"})
    assert throttled_seconds(MachineFiles(tmp_path)) == pytest.approx(2.5)
    read({"sys/fs/cgroup/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000"})
    assert throttled_seconds(MachineFiles(tmp_path)) == pytest.approx(1.5)


def test_clock_and_cores(read):
    found = read(
        {
            f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave",
            f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave",
            f"{CPU}/cpu9/cpufreq/scaling_governor": "performance",
            f"{CPU}/intel_pstate/no_turbo": "0",
            f"{CPU}/cpu0/topology/thread_siblings_list": "0-1",
            f"{CPU}/cpu1/topology/thread_siblings_list": "0-1",
            "proc/cpuinfo": "flags\t\t: fpu hypervisor",
        }
    )
    assert (found.governors, found.turbo, found.smt, found.virtual) == (("powersave",), True, True, True)
    found = read(
        {
            f"{CPU}/intel_pstate/no_turbo": "1",
            f"{CPU}/cpu0/topology/thread_siblings_list": "0,4",
            f"{CPU}/cpu1/topology/thread_siblings_list": "1,5",
            "proc/cpuinfo": "flags\t\t: fpu",
        }
    )
    assert (found.turbo, found.smt, found.virtual) == (False, False, False)


@pytest.mark.parametrize(("boost", "turbo"), [("1", True), ("0", False), ("", None)])
def test_turbo_of_other_drivers(read, boost, turbo):
    assert read({f"{CPU}/cpufreq/boost": boost}).turbo is turbo


def test_only_variables_of_threads_and_memory_are_read(read):
    environment = {
        "OMP_WAIT_POLICY": "passive",
        "MALLOC_ARENA_MAX": "2",
        "KMP_BLOCKTIME": "0",
        "SECRET_TOKEN": "hunter2",
        "LD_PRELOAD": "/home/me/secret/libjemalloc.so.2:/usr/lib/libother.so",
    }
    found = read(environment=environment)
    assert found.variables == {"OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": "2", "KMP_BLOCKTIME": "0"}
    assert found.preloaded == ("libjemalloc.so.2", "libother.so")
    assert "secret" not in repr(found)
