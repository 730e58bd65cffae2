"""What limits the decisions on a machine: its settings and other tenants, with cost and hint. Pure functions.

The figures of costs are measured ones (docs/method.md), or those of the examination itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.machine_values import (
    Examination,
    Finding,
    FindingState,
    GpuReading,
    MachineReading,
)
from pytest_infergate.core.domain.measurement import CONTENDED
from pytest_infergate.core.domain.notes import KEEP_MEMORY
from pytest_infergate.core.gate.contention import IDLE, MAX_CONTENTION, heavy
from pytest_infergate.core.gate.stored_times import FAULT_SECONDS, REMAPPED

STOLEN: Final = 0.01
"""Share of the time that the hypervisor takes from which on it costs something."""
STEADY_GOVERNORS: Final = frozenset({"performance"})
ALLOCATORS: Final = {"jemalloc": "jemalloc", "tcmalloc": "tcmalloc", "mimalloc": "mimalloc"}
"""Allocators by a part of the file name of their library."""
_KEEPS_MEMORY: Final = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_PAIRED: Final = "a paired run (--infer-against) compares both versions in the same minutes"
_CONTAINER: Final = "this container does not show it"
_WAITS: Final = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
_BINDS: Final = ("OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")
SAME_CLOCK: Final = 0.99
"""Share of the highest clock frequency from which on a clock counts as that."""


def machine_findings(reading: MachineReading, found: Examination) -> tuple[Finding, ...]:
    """Return the findings on a machine: those that cost something first, then unknown ones, then the rest."""
    every = (
        _other_load(found),
        _quota(reading, found),
        _stolen(reading, found),
        _governor(reading),
        _turbo(reading),
        _smt(reading),
        _threads(reading, found),
        _allocator(reading, found),
        _openmp_waiting(reading),
        _openmp_binding(reading),
        *_gpus(reading),
    )
    order = (FindingState.COSTS, FindingState.UNKNOWN, FindingState.GOOD)
    return tuple(sorted(every, key=lambda finding: order.index(finding.state)))


def _costs(subject: str, seen: str, cost: str, hint: str) -> Finding:
    return Finding(subject=subject, state=FindingState.COSTS, seen=seen, cost=cost, hint=hint)


def _good(subject: str, seen: str) -> Finding:
    return Finding(subject=subject, state=FindingState.GOOD, seen=seen)


def _unknown(subject: str, reading: MachineReading, seen: str = _CONTAINER) -> Finding:
    other = f"infergate reads this on Linux only, and this is {reading.system}"
    return Finding(
        subject=subject, state=FindingState.UNKNOWN, seen=seen if reading.system == "Linux" else other
    )


def _share(value: float) -> str:
    return units.percent(value, signed=False, decimals=0 if value >= 0.1 else 1)  # noqa: PLR2004 - digits


# Who else uses the machine


def _other_load(found: Examination) -> Finding:
    subject, share = "other load", found.contention
    if share is None:
        seen = "not measured" if not found.models else "the system does not report it"
        return Finding(subject=subject, state=FindingState.UNKNOWN, seen=seen)
    seen = f"other processes took {_share(share)} of the processor time of the models"
    if heavy(share):
        cost = f"above {_share(MAX_CONTENTION)}, no time is decided that other load can explain"
    elif share > CONTENDED:
        cost = f"above {_share(CONTENDED)}, stored times are expected to spread by 20 instead of 10 %"
    else:
        return _good(subject, seen)
    return _costs(subject, seen, cost, f"stop what else runs here; {IDLE}")


def _quota(reading: MachineReading, found: Examination) -> Finding:
    subject = "CPU quota"
    if reading.quota is None:
        return _unknown(subject, reading, "the files of the control group cannot be read")
    if not reading.quota:
        return _good(subject, "no limit")
    seen = f"{units.trimmed(reading.quota)} cores"
    stopped = found.throttled_seconds
    if stopped:
        seen += f", and it stopped this container for {units.seconds(stopped)} meanwhile"
    elif reading.quota >= reading.cores:
        return _good(subject, f"{seen}, which is as many as it may use")
    return _costs(
        subject,
        seen,
        "a call that has used the quota waits for the next period, often 100 ms: high percentiles are long",
        f"set as many threads as whole cores of the quota (--infer-threads={max(1, int(reading.quota))}), or "
        "raise the quota",
    )


def _stolen(reading: MachineReading, found: Examination) -> Finding:
    subject, virtual = "hypervisor", reading.virtual
    if virtual is None and found.stolen is None:
        return _unknown(subject, reading, "the processor does not report it")
    stolen = "" if found.stolen is None else f"; it took {_share(found.stolen)} of the time of the cores"
    if virtual is False and not found.stolen:
        return _good(subject, "none")
    if found.stolen is not None and found.stolen > STOLEN:
        return _costs(
            subject,
            f"a virtual machine{stolen}",
            "times are longer by that share, and by more in high percentiles",
            f"use a machine with dedicated cores; {_PAIRED}",
        )
    return _costs(
        subject,
        f"a virtual machine{stolen}",
        "neighbours change caches, bandwidth and clock: medians of launches of the same code spread by up to "
        "17 to 23 %",
        _PAIRED,
    )


# Settings of the processor


def _governor(reading: MachineReading) -> Finding:
    subject = "clock governor"
    if not reading.governors:
        return _unknown(subject, reading)
    seen = ", ".join(reading.governors)
    if STEADY_GOVERNORS.issuperset(reading.governors):
        return _good(subject, seen)
    return _costs(
        subject,
        seen,
        "the clock follows the load: the first calls after a pause are slower, and launches differ",
        "cpupower frequency-set --governor performance",
    )


def _turbo(reading: MachineReading) -> Finding:
    subject = "turbo"
    if reading.turbo is None:
        return _unknown(subject, reading)
    if not reading.turbo:
        return _good(subject, "off")
    return _costs(
        subject,
        "on",
        "the clock depends on temperature and on how many cores are busy; the reference workloads correct a "
        "part of it",
        "for steadier times, write 1 to /sys/devices/system/cpu/intel_pstate/no_turbo, or 0 to "
        "/sys/devices/system/cpu/cpufreq/boost",
    )


def _smt(reading: MachineReading) -> Finding:
    subject = "SMT"
    if reading.smt is None:
        return _unknown(subject, reading)
    if not reading.smt:
        return _good(subject, "each usable core is a physical one")
    return _costs(
        subject,
        "usable cores share physical ones",
        "two threads of one core slow each other down, by how much depends on where they run",
        "bind the process to one thread of each core with taskset, or set as many threads as physical cores",
    )


def _threads(reading: MachineReading, found: Examination) -> Finding:
    subject, cores = "threads", reading.cores
    used = {one.threads for model in found.models for one in model.measurements if one.threads is not None}
    if not used:
        return Finding(subject=subject, state=FindingState.UNKNOWN, seen="not measured")
    threads = max(used)
    seen = f"torch uses {units.plural(threads, 'thread')} on {units.plural(cores, 'core')}"
    if threads > cores:
        return _costs(
            subject,
            seen,
            "threads wait for each other and for a core: an operator may take a time slice longer",
            f"OMP_NUM_THREADS={cores}, or --infer-threads={cores}",
        )
    if threads < cores or cores == 1:
        return _good(subject, seen)
    return _costs(
        subject,
        f"{seen}, which leaves no core for anything else",
        "each other process takes time from a model",
        f"compare on fewer threads with --infer-threads={cores - 1}, if the service allows it",
    )


# Memory and OpenMP


def _allocator(reading: MachineReading, found: Examination) -> Finding:
    subject, variables = "malloc", reading.variables
    preloaded = [
        name for part, name in ALLOCATORS.items() if any(part in library for library in reading.preloaded)
    ]
    settings = [
        f"{name}={value}" for name, value in variables.items() if name.startswith(("MALLOC_", "GLIBC_"))
    ]
    name = " and ".join(preloaded) or reading.libc or "the allocator of the system"
    seen = ", ".join([name, *settings])
    remapped = max(_remapped_shares(found), default=0.0)
    if remapped >= REMAPPED:
        return _costs(
            subject,
            f"{seen}; page faults may take {_share(remapped)} of a call",
            "some launches keep the memory of activations and others map it again: identical code differed "
            "by 35 to 58 %",
            f"set {KEEP_MEMORY}, or preload jemalloc or tcmalloc with LD_PRELOAD",
        )
    if preloaded or all(variable in variables for variable in _KEEPS_MEMORY):
        return _good(subject, seen)
    if not found.models:
        return Finding(
            subject=subject,
            state=FindingState.UNKNOWN,
            seen=f"{seen}; whether calls map memory again was not measured",
        )
    return _good(subject, f"{seen}; calls map little memory again")


def _remapped_shares(found: Examination) -> Iterator[float]:
    """Return the share of a call that page faults may take, for each launch."""
    for model in found.models:
        for one in model.measurements:
            if one.latency is not None and one.page_faults and stats.positive(one.latency.p50.value):
                yield min(1.0, FAULT_SECONDS * one.page_faults / one.latency.p50.value)


def _chosen(reading: MachineReading, names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}={reading.variables[name]}" for name in names if name in reading.variables)


def _openmp_waiting(reading: MachineReading) -> Finding:
    subject, seen = "OpenMP waiting", _chosen(reading, _WAITS)
    passive = reading.variables.get("OMP_WAIT_POLICY", "").lower() == "passive"
    if passive or reading.variables.get("KMP_BLOCKTIME") == "0":
        return _costs(
            subject,
            seen,
            "threads sleep between operators: a transformer layer took 12.2 instead of 4.5 ms",
            "unset it, unless the service has it too",
        )
    return _good(subject, seen or "the default of torch")


def _openmp_binding(reading: MachineReading) -> Finding:
    subject, seen = "OpenMP binding", _chosen(reading, _BINDS)
    if seen or reading.cores == 1:
        return _good(subject, seen or "one core")
    return _costs(
        subject,
        "threads may move between cores",
        "launches differed by 2.8 % instead of 1.9 %; paired runs bind their threads themselves",
        "OMP_PROC_BIND=true OMP_PLACES=cores, if the service has it too",
    )


# Accelerators


def _gpus(reading: MachineReading) -> Iterator[Finding]:
    for index, gpu in enumerate(reading.gpus or ()):
        yield _gpu_clock(f"GPU {index} clock", gpu)
        yield _gpu_tenants(f"GPU {index} tenants", gpu)


def _gpu_clock(subject: str, gpu: GpuReading) -> Finding:
    if gpu.clock_hz is None:
        return Finding(
            subject=subject, state=FindingState.UNKNOWN, seen=f"{gpu.name}: the driver does not report it"
        )
    seen = f"{gpu.name}: {gpu.clock_hz / 1e6:.0f} MHz"
    if gpu.max_clock_hz:
        seen += f" of at most {gpu.max_clock_hz / 1e6:.0f} MHz"
    if gpu.throttled:
        return _costs(
            subject,
            f"{seen}, throttled: {', '.join(gpu.throttled)}",
            "the clock changes with heat and power, and times with it",
            "check cooling and power supply, and lower the clock with nvidia-smi --lock-gpu-clocks",
        )
    chosen, usual = gpu.application_clock_hz, gpu.default_clock_hz
    if chosen is not None and usual is not None and chosen != usual:
        return _good(subject, f"{seen}; applications are set to {chosen / 1e6:.0f} MHz")
    return _costs(
        subject,
        f"{seen}; no clock is set for applications, and a lock by --lock-gpu-clocks is not reported",
        "the clock follows temperature and power",
        "lock it with nvidia-smi --lock-gpu-clocks=MHZ below the frequency that it keeps under load",
    )


def _gpu_tenants(subject: str, gpu: GpuReading) -> Finding:
    if gpu.tenants is None:
        return Finding(
            subject=subject, state=FindingState.UNKNOWN, seen=f"{gpu.name}: the driver does not report it"
        )
    if not gpu.tenants:
        return _good(subject, f"{gpu.name}: nothing else computes on it")
    return _costs(
        subject,
        f"{gpu.name}: {units.plural(gpu.tenants, 'tenant')}, which are processes that compute on it",
        "kernels of others run between those of the model",
        "measure on a board without tenants",
    )
