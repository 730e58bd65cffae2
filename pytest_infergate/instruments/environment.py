"""The hardware class of this machine, within which times are compared, and its software."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
from importlib import metadata
from pathlib import Path

from pytest_infergate.core.domain.values import Environment, Hardware

# Distributions whose version can change the speed of inference. They are recorded, and are not part of the
# hardware class: an upgrade that slows a model down is a finding.
_PACKAGES = (
    "torch",
    "numpy",
    "transformers",
    "tokenizers",
    "safetensors",
    "triton",
    "onnxruntime",
    "openvino",
)
# Vector extensions that change which kernels torch, oneDNN and MKL select. Other flags of the CPU are left
# out, so that a kernel or firmware update does not split a hardware class.
_ISA = (
    "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
# Prefixes of the extensions that torch does not use for a value of ``ATEN_CPU_CAPABILITY``. With that
# variable the same machine runs other kernels, so that its times belong to another class.
_UNUSED = {"default": ("avx", "f16c", "fma", "amx"), "avx2": ("avx512", "avx_vnni", "amx")}
_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


@functools.cache
def host_hardware() -> Hardware:
    """Return CPU model, vector extensions that torch may use, and usable cores, without any accelerator."""
    fields = cpuinfo(_read(_PROC / "cpuinfo"))
    flags = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    unused = _UNUSED.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), ())
    isa = tuple(flag for flag in _ISA if flag in flags and not flag.startswith(unused))
    return Hardware(cpu_model=_cpu_model(fields), isa=isa, cores=usable_cores())


def software_environment() -> Environment:
    """Return operating system, Python, package versions, memory and wait policy.

    The only environment variable that is recorded is ``OMP_WAIT_POLICY``.
    """
    fields = cpuinfo(_read(_PROC / "cpuinfo"))
    flags = (fields.get("flags") or "").split()
    return Environment(
        os=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version for name in _PACKAGES if (version := _version(name)) is not None},
        # Only x86 reports a hypervisor. Otherwise the machine is assumed to be shared, which has the wider
        # prior of the spread between process launches: a false alarm costs more than a missed slowdown.
        virtual="hypervisor" in flags if flags else True,
        memory_bytes=_memory_bytes(),
        wait_policy=os.environ.get("OMP_WAIT_POLICY"),
    )


def cpuinfo(text: str) -> dict[str, str]:
    """Parse the fields of the first processor from the text of ``/proc/cpuinfo``."""
    first = text.strip().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def usable_cores() -> int:
    """Return the number of cores available to this process: its affinity, limited by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    cgroup_1 = " ".join(_read(_CGROUP / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    # Quota and period in microseconds. An unlimited quota is the word max in cgroup v2, and -1 in v1.
    fields = (_read(_CGROUP / "cpu.max") or cgroup_1).split()
    if len(fields) != 2 or not all(field.isdecimal() for field in fields) or int(fields[1]) == 0:  # noqa: PLR2004
        return cores
    return min(cores, max(1, math.ceil(int(fields[0]) / int(fields[1]))))


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still use: what is available, and left of a quota.

    ``None`` if it is unknown, which it is except on Linux.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(_PROC / "meminfo"), re.MULTILINE)
    if found is None:
        return None
    limit, used = (_read(_CGROUP / f"memory.{name}").strip() for name in ("max", "current"))
    available = int(found[1]) * 1024
    if limit.isdecimal() and used.isdecimal():
        available = min(available, int(limit) - int(used))
    return max(0, available)


def _cpu_model(fields: dict[str, str]) -> str:
    """Return the name of the CPU and its family and model numbers, in case a cloud hides the name."""
    name = fields.get("model name") or platform.processor() or platform.machine() or "unknown"
    numbers = [fields[key] for key in ("cpu family", "model") if key in fields]
    if not numbers and "CPU part" in fields:
        numbers = [fields.get("CPU implementer", ""), fields["CPU part"]]
    return f"{name} ({'/'.join(numbers)})" if numbers else name


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
