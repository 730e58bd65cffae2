"""The central processor, measured through torch's own allocator events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pytest_infergate.core.domain.model import Hardware, Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.devices.profiling import quiet
from pytest_infergate.instruments.device import (
    CpuTimes,
    DeviceAbsentError,
    DeviceCounters,
    DeviceMemory,
    DeviceWork,
    Meter,
    Probes,
)


class Cpu:
    """`Device` for the CPU: a call has done its work when it returns."""

    name = "cpu"
    torch_name: str | None = "cpu"
    asynchronous = False

    def __init__(self) -> None:
        self.clock: Callable[[], int] = time.perf_counter_ns

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def hardware(self) -> Hardware:
        """CPU model, instruction set and the cores this process may use."""
        from pytest_infergate.instruments.environment import host_hardware

        return host_hardware()

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Dense product, large copy, tiny operators, operators split among threads."""
        from pytest_infergate.instruments.reference_work import torch_reference_work

        return torch_reference_work("cpu")

    def architecture(self) -> str:
        """The widest vector extension that torch dispatches on: ``AVX512``."""
        import torch

        return torch.backends.cpu.get_cpu_capability()

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Operators by torch's dispatcher, transfers by name."""
        from pytest_infergate.instruments import operators

        return operators.counters(call, "cpu")

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Running sum of the allocator's events: deterministic; memory inside oneDNN is not seen."""
        # Not torch.profiler, which loads the whole compiler to see whether it is there.
        from torch.autograd.profiler import DeviceType, profile  # type: ignore[attr-defined]

        with quiet(), profile(use_kineto=True, profile_memory=True) as recorded:
            call()
        if recorded.kineto_results is None:
            note = Note(code=NoteCode.MEMORY_UNSEEN, text="torch's profiler reports no memory in this build")
            return DeviceMemory(note=note)
        events = [
            event
            for event in recorded.kineto_results.events()
            if event.name() == "[memory]" and event.device_type() == DeviceType.CPU
        ]
        events.sort(key=lambda event: event.start_ns())
        running = peak = allocations = 0
        for event in events:
            running += event.nbytes()
            peak = max(peak, running)
            allocations += event.nbytes() > 0
        return DeviceMemory(activations=peak, allocations=allocations)

    def work(self, call: Callable[[], object]) -> DeviceWork | None:  # noqa: ARG002 - part of the seam
        """Wall time says it all on a CPU."""
        return None

    def cpu_times(self) -> CpuTimes | None:
        """Processor time by the system's own accounts, stolen time included."""
        from pytest_infergate.instruments.interference import cpu_times

        return cpu_times()

    def meter(self) -> Meter | None:
        """RAPL's, of all processor packages, where the system lets it be read."""
        from pytest_infergate.instruments import rapl

        return rapl.rapl_meter()

    def probes(self) -> Probes:
        """Products in float32, and a copy larger than the caches."""
        from pytest_infergate.instruments.peaks import torch_probes

        return torch_probes("cpu")

    def release(self) -> None:
        """The allocator gives memory back by itself."""


class CpuKind:
    """`DeviceKind` of the CPU: one device, always there."""

    kind = "cpu"

    def open(self, name: str) -> Cpu:
        """Open the CPU.

        Raises `DeviceAbsentError` for a number after the colon: torch has one CPU device.
        """
        if name not in ("cpu", "cpu:0"):
            raise DeviceAbsentError(f"{name} absent: torch has one CPU device, named cpu")
        return Cpu()

    def found(self) -> tuple[str, ...]:
        """Always there."""
        return ("cpu",)
