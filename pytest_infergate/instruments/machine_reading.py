"""Settings of this machine that change how steady times are: files of Linux, variables and drivers."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from pytest_infergate.core.domain.machine_values import MachineReading
from pytest_infergate.instruments.environment import cpuinfo, usable_cores
from pytest_infergate.instruments.nvml import nvml_boards

VARIABLES: Final = ("OMP_", "KMP_", "GOMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES")
"""Beginnings of the names of variables that set threads and memory. No other variable is read."""
_CGROUP: Final = "sys/fs/cgroup"
_CPUS: Final = "sys/devices/system/cpu"
_MICROSECONDS: Final = 1e-6


class MachineFiles:
    """The files of a machine below a folder, which is ``/`` except in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str | None:
        """Return the content of a file without white space at its ends; ``None`` if it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def groups(self, controller: str) -> list[str]:
        """Return the folders of the control groups of this process, its own first, then those above it."""
        found: list[str] = []
        for line in (self.text("proc/self/cgroup") or "").splitlines():
            _, names, path = [*line.split(":", 2), "", ""][:3]
            if names and controller not in names.split(","):
                continue
            top = f"{_CGROUP}/{controller}" if names else _CGROUP
            inner = PurePosixPath(path.lstrip("/"))
            # Inside of a container, the path may be that of the host, which is not visible there.
            found += [f"{top}/{folder}" for folder in (inner, *inner.parents) if str(folder) != "."]
        return [*found, _CGROUP, f"{_CGROUP}/{controller}"]


def read_machine(
    files: MachineFiles, environment: Mapping[str, str], system: str | None = None
) -> MachineReading:
    """Read what the machine says about itself. What it does not say is ``None``."""
    cpus = _usable_cpus()
    return MachineReading(
        system=platform.system() if system is None else system,
        cores=usable_cores(),
        virtual=_virtual(files),
        quota=_quota(files),
        throttled_seconds=throttled_seconds(files),
        governors=_governors(files, cpus),
        turbo=_turbo(files),
        smt=_smt(files, cpus),
        preloaded=tuple(
            PurePosixPath(library).name
            for library in environment.get("LD_PRELOAD", "").replace(":", " ").split()
        ),
        libc=platform.libc_ver()[0] or None,
        variables={name: value for name, value in sorted(environment.items()) if name.startswith(VARIABLES)},
        gpus=nvml_boards(),
    )


def _usable_cpus() -> Collection[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return range(os.cpu_count() or 1) if affinity is None else affinity(0)


def _virtual(files: MachineFiles) -> bool | None:
    flags = cpuinfo(files.text("proc/cpuinfo") or "").get("flags")
    return None if flags is None else "hypervisor" in flags.split()


def _quota(files: MachineFiles) -> float | None:
    """Return the smallest quota of the groups of this process in cores; 0 without one."""
    quotas = []
    for folder in files.groups("cpu"):
        one = files.text(f"{folder}/cpu.max")
        if one is None:
            quota, period = (files.text(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
            one = None if quota is None or period is None else f"{quota} {period}"
        fields = (one or "").split()
        if len(fields) != 2:  # noqa: PLR2004 - quota and period
            continue
        limited = all(field.isdecimal() for field in fields) and int(fields[1]) > 0
        quotas.append(int(fields[0]) / int(fields[1]) if limited else math.inf)
    if not quotas:
        return None
    return 0.0 if math.isinf(min(quotas)) else min(quotas)


def throttled_seconds(files: MachineFiles) -> float | None:
    """Return for how long the quota has stopped this process's groups so far; ``None`` if it is unknown."""
    found = []
    for folder in files.groups("cpu"):
        lines = (files.text(f"{folder}/cpu.stat") or "").splitlines()
        fields = dict(line.split()[:2] for line in lines if len(line.split()) > 1)
        for name, scale in (("throttled_usec", _MICROSECONDS), ("throttled_time", 1e-9)):
            if fields.get(name, "").isdecimal():
                found.append(int(fields[name]) * scale)
    return max(found, default=None)


def _governors(files: MachineFiles, cpus: Collection[int]) -> tuple[str, ...] | None:
    names = [files.text(f"{_CPUS}/cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus]
    return tuple(sorted(set(filter(None, names)))) or None


def _turbo(files: MachineFiles) -> bool | None:
    off = files.text(f"{_CPUS}/intel_pstate/no_turbo")
    if off in ("0", "1"):
        return off == "0"
    boost = files.text(f"{_CPUS}/cpufreq/boost")
    return boost == "1" if boost in ("0", "1") else None


def _smt(files: MachineFiles, cpus: Collection[int]) -> bool | None:
    """Return whether two usable cores are threads of one physical core."""
    siblings = [files.text(f"{_CPUS}/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus]
    known = [one for one in siblings if one]
    return len(set(known)) < len(known) if known else None
