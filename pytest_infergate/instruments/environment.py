"""What machine this is: the hardware class that times belong to, and what is recorded beside them."""

from __future__ import annotations

import functools
import math
import os
import platform
from importlib import metadata
from pathlib import Path

from pytest_infergate.core.domain.model import Environment, Hardware

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
"""Distributions whose version can change the speed of inference."""
_ISA = (
    "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
_UNUSED = {"default": ("avx", "f16c", "fma", "amx"), "avx2": ("avx512", "avx_vnni", "amx")}
"""Beginnings of extensions that torch leaves alone where ``ATEN_CPU_CAPABILITY`` says so."""
_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


@functools.cache
def host_hardware() -> Hardware:
    """CPU model, vector extensions that torch may use, and usable cores; the accelerator is left empty."""
    fields = cpuinfo(_read(_PROC / "cpuinfo"))
    flags = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    unused = _UNUSED.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), ())
    isa = tuple(flag for flag in _ISA if flag in flags and not flag.startswith(unused))
    return Hardware(cpu_model=_cpu_model(fields), isa=isa, cores=usable_cores())


def software_environment() -> Environment:
    """Everything else worth recording. No environment variable is kept but the one that is named."""
    fields = cpuinfo(_read(_PROC / "cpuinfo"))
    flags = (fields.get("flags") or "").split()
    return Environment(
        os=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version for name in _PACKAGES if (version := _version(name)) is not None},
        # Only x86 tells; where nothing is known, the machine is taken to be shared.
        virtual="hypervisor" in flags if flags else True,
        memory_bytes=_memory_bytes(),
        wait_policy=os.environ.get("OMP_WAIT_POLICY"),
    )


def cpuinfo(text: str) -> dict[str, str]:
    """The fields of the first processor in the text of ``/proc/cpuinfo``."""
    first = text.strip().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def usable_cores() -> int:
    """Cores by affinity, cut by the container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    old = " ".join(_read(_CGROUP / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    quota = _quota(_read(_CGROUP / "cpu.max") or old)
    return cores if quota is None else min(cores, max(1, math.ceil(quota)))


def _quota(text: str) -> float | None:
    """Cores that a quota and its period grant, as in cgroup v2's ``cpu.max``; ``None`` without a limit."""
    words = text.split()
    limited = len(words) == 2 and all(word.isdecimal() for word in words)  # noqa: PLR2004 - quota and period
    if not limited or int(words[1]) == 0:  # without a limit stands ``max``, or -1 in cgroup v1
        return None
    return int(words[0]) / int(words[1])


def _cpu_model(fields: dict[str, str]) -> str:
    """The marketing name, and the family and model numbers, since clouds hide the former."""
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
