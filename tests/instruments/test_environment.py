import os
from importlib import metadata

import pytest

from pytest_infergate.instruments import environment as module
from pytest_infergate.instruments.environment import (
    cpuinfo,
    free_memory,
    host_hardware,
    software_environment,
    usable_cores,
)

XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu vme sse2 avx f16c fma avx2 hypervisor avx512f avx512_vnni amx_tile amx_int8 amx_bf16
bogomips\t: 5399.99

processor\t: 1
model name\t: Another
"""
EPYC = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7B13
flags\t\t: fpu fma avx f16c avx2
"""
GRAVITON = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1

processor\t: 1
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up machine of eight cores; give it files by name."""
    monkeypatch.setattr(module, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(module, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    host_hardware.cache_clear()

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("--", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield write
    host_hardware.cache_clear()


def test_cpuinfo_tells_the_first_processor():
    fields = cpuinfo(XEON)
    assert fields["model name"] == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert fields["processor"] == "0"
    assert cpuinfo("") == {"": ""} or cpuinfo("") == {}


@pytest.mark.parametrize(
    ("text", "model", "isa"),
    [
        (
            XEON,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz (6/143)",
            ("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"),
        ),
        (EPYC, "AMD EPYC 7B13 (25/1)", ("avx", "f16c", "fma", "avx2")),
        (GRAVITON, "aarch64 (0x41/0xd40)", ("asimd", "asimddp", "i8mm", "bf16", "sve")),
        ("", "aarch64", ()),
    ],
    ids=["xeon", "epyc", "graviton", "unknown"],
)
def test_hardware_by_cpuinfo(machine, monkeypatch, text, model, isa):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    machine(proc__cpuinfo=text)
    hardware = host_hardware()
    assert (hardware.cpu_model, hardware.isa, hardware.cores) == (model, isa, 8)
    assert (hardware.accelerator, hardware.accelerator_count, hardware.driver) == (None, 0, None)


@pytest.mark.parametrize(
    ("capability", "isa"),
    [
        ("default", ()),
        ("avx2", ("avx", "f16c", "fma", "avx2")),
        (
            "avx512",
            ("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"),
        ),
        (
            "nonsense",
            ("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"),
        ),
    ],
)
def test_extensions_that_torch_was_told_to_leave_alone_are_not_of_the_class(
    machine, monkeypatch, capability, isa
):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
    machine(proc__cpuinfo=XEON)
    assert host_hardware().isa == isa


def test_a_machine_without_proc(machine):
    assert host_hardware().cpu_model == "aarch64"
    assert software_environment().virtual


@pytest.mark.parametrize(("text", "virtual"), [(XEON, True), (EPYC, False), (GRAVITON, True)])
def test_virtual_by_flags(machine, text, virtual):
    machine(proc__cpuinfo=text)
    assert software_environment().virtual is virtual


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
        ("200000", 8),
        ("nonsense here\n", 8),
        ("100000 0\n", 8),
    ],
)
def test_cores_by_quota(machine, quota, cores):
    machine(**{"cgroup__cpu--max": quota})
    assert usable_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", 8), ("300000\n", 3)])
def test_cores_by_quota_of_an_old_container(machine, quota, cores):
    machine(**{"cgroup__cpu__cpu--cfs_quota_us": quota, "cgroup__cpu__cpu--cfs_period_us": "100000\n"})
    assert usable_cores() == cores


def test_cores_where_nobody_knows_the_affinity(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6


def test_versions_of_what_is_installed(monkeypatch):
    known = {"torch": "2.13.0+cpu", "numpy": None}

    def version(name):
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(module.metadata, "version", version)
    assert software_environment().packages == {"torch": "2.13.0+cpu"}


def test_no_environment_variable_but_one_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    found = software_environment()
    assert found.wait_policy == "passive"
    assert "hunter2" not in repr(found)
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert software_environment().wait_policy is None


def test_memory_is_absent_where_the_system_does_not_tell(monkeypatch):
    assert module._memory_bytes() is None or module._memory_bytes() > 0
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert software_environment().memory_bytes is None


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"proc__meminfo": "MemTotal:  9000 kB\nMemAvailable:    3000 kB\n"}, 3_072_000),
        ({"proc__meminfo": "MemAvailable: 3000 kB\n", "cgroup__memory--max": "max\n"}, 3_072_000),
        (
            {
                "proc__meminfo": "MemAvailable: 3000 kB\n",
                "cgroup__memory--max": "1000000\n",
                "cgroup__memory--current": "900000\n",
            },
            100_000,
        ),
    ],
)
def test_free_memory_is_what_the_machine_and_a_quota_leave(machine, files, free):
    machine(**files)
    assert free_memory() == free
