"""Accelerators of torch as devices: cuda (and ROCm), xpu, mps and those of plugins of torch."""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.devices.visibility import BackendStatus, absence_reason
from pytest_infergate.instruments.device import (
    Board,
    CpuTimes,
    DeviceAbsentError,
    DeviceCounters,
    DeviceMemory,
    DeviceWork,
    Meter,
    Probes,
)
from pytest_infergate.instruments.profiling import quiet

# Readable without nvidia-ml-py, which is optional.
_NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
# One entry for each board of the machine, also for those that CUDA_VISIBLE_DEVICES hides.
_NVIDIA_BOARDS = Path("/proc/driver/nvidia/gpus")


class Accelerator:
    """`Device` of one accelerator. Its work is queued, so that each timing ends with a synchronisation."""

    asynchronous = True

    def __init__(self, kind: str, index: int) -> None:
        import torch

        self.name = kind if index == 0 else f"{kind}:{index}"
        self.torch_name: str | None = f"{kind}:{index}"
        self.clock: Callable[[], int] = time.perf_counter_ns
        self._device = torch.device(kind, index)
        # Bound once, because the timed region must not look up attributes.
        self.synchronize: Callable[[], None] = functools.partial(torch.accelerator.synchronize, index)
        """Waits for all streams of the device."""

    def hardware(self) -> Hardware:
        """Return the class of the host with the name, the number and the driver of the accelerators."""
        import torch

        from pytest_infergate.instruments.environment import host_hardware

        module = torch.get_device_module(self._device)
        name = (
            module.get_device_name(self._device) if hasattr(module, "get_device_name") else self._device.type
        )
        # Only the major version of the driver is part of the class: every minor update would start a new
        # baseline.
        return msgspec.structs.replace(
            host_hardware(),
            accelerator=name,
            accelerator_count=torch.accelerator.device_count(),
            driver=_driver_major() if self._device.type == "cuda" else None,
        )

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Return a dense product, a large copy and tiny operators."""
        from pytest_infergate.instruments.reference_work import torch_reference_work

        return torch_reference_work(str(self._device))

    def architecture(self) -> str:
        """Return the target of its kernels: ``sm_90`` (CUDA), ``gfx942`` (ROCm), or the device's name."""
        import torch

        module = torch.get_device_module(self._device)
        if self._device.type == "cuda":
            gcn = getattr(module.get_device_properties(self._device), "gcnArchName", "")
            if torch.version.hip is not None and gcn:
                return str(gcn).partition(":")[0]
            major, minor = module.get_device_capability(self._device)
            return f"sm_{major}{minor}"
        return self.hardware().accelerator or self._device.type

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Count operators in torch's dispatcher."""
        from pytest_infergate.instruments import operator_counters

        return operator_counters.counters(call, self._device.type)

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Return the peaks of torch's caching allocator: allocated above the start, and reserved."""
        from torch.accelerator import memory

        try:
            self.synchronize()  # an earlier case may still use memory
            # Memory that earlier cases left in the cache would count as reserved by this one.
            memory.empty_cache()
            memory.reset_peak_memory_stats(self._device)
            before = memory.memory_allocated(self._device)
            requested = self._allocations()
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            note = Note(
                code=NoteCode.MEMORY_UNSEEN, text=f"{self.name} does not report its peak memory: {error}"
            )
            return DeviceMemory(note=note)
        call()
        self.synchronize()
        return DeviceMemory(
            activations=memory.max_memory_allocated(self._device) - before,
            reserved=memory.max_memory_reserved(self._device),
            allocations=self._allocations() - requested,
        )

    def _allocations(self) -> int:
        """Return the number of allocations of torch's allocator so far."""
        from torch.accelerator import memory

        return int(memory.memory_stats(self._device).get("allocation.all.allocated", 0))

    def work(self, call: Callable[[], object]) -> DeviceWork | None:
        """Return the kernels of one call, and the summed durations of its kernels and copies.

        ``None`` if the profiler cannot observe the device: it does not see the kernel of known work either.
        """
        import torch

        control = torch.ones(1024, device=self._device)

        def known() -> object:
            return control + 1

        reference = self._profiled(known)
        if not reference.kernels:
            return None
        work = self._profiled(call)
        # The known work does not synchronise, so that its synchronisations are those of the measurement.
        return work._replace(synchronisations=work.synchronisations - reference.synchronisations)

    def _profiled(self, call: Callable[[], object]) -> DeviceWork:
        from torch.autograd.profiler import DeviceType  # type: ignore[attr-defined]
        from torch.profiler import ProfilerActivity, profile

        activity = getattr(ProfilerActivity, self._device.type.upper(), None)
        if activity is None:
            return DeviceWork(kernels=0, seconds=0.0)
        self.synchronize()
        with quiet(), profile(activities=[ProfilerActivity.CPU, activity]) as profiler:
            call()
            self.synchronize()
        observed: list[Any] = list(profiler.events() or ())
        events = [
            event
            for event in observed
            if event.device_type != DeviceType.CPU and not getattr(event, "is_user_annotation", False)
        ]
        copies = sum(is_copy(event.name) for event in events)
        return DeviceWork(
            kernels=len(events) - copies,
            seconds=sum(event.time_range.elapsed_us() for event in events) / 1e6,
            copies=copies,
            synchronisations=sum("Synchronize" in event.name for event in observed),
        )

    def cpu_times(self) -> CpuTimes | None:
        """Return the processor time as the system accounts it, including time stolen by the hypervisor."""
        from pytest_infergate.instruments.cpu_contention import cpu_times

        return cpu_times()

    def meter(self) -> Meter | None:
        """Return the NVML meter of an NVIDIA board; ``None`` for other devices, or if it cannot be read."""
        from pytest_infergate.instruments import nvml

        # By UUID, because CUDA_VISIBLE_DEVICES renumbers devices, and NVML does not.
        uuid = self._uuid()
        return None if uuid is None else nvml.nvml_meter(uuid)

    def board(self) -> Board | None:
        """Return which NVIDIA board of the machine it is.

        ``None`` for other devices, for a part of a board (MIG), and if the driver does not list the boards.
        """
        import torch

        uuid = self._uuid()
        if uuid is None or " MIG " in torch.cuda.get_device_name(self._device):
            return None
        try:
            return Board(uuid, len(list(_NVIDIA_BOARDS.iterdir())))
        except OSError:
            return None

    def _uuid(self) -> str | None:
        import torch

        if self._device.type != "cuda" or torch.version.hip is not None:
            return None
        uuid = getattr(torch.cuda.get_device_properties(self._device), "uuid", None)
        return None if uuid is None else str(uuid)

    def probes(self) -> Probes:
        """Return products in float32 and the half dtypes, and a copy."""
        from pytest_infergate.instruments.peak_rates import torch_probes

        return torch_probes(str(self._device))

    def release(self) -> None:
        """Release the cache of the allocator, if it has one."""
        import torch

        with suppress(RuntimeError):  # of devices with another allocator
            torch.accelerator.memory.empty_cache()


class AcceleratorKind:
    """`DeviceKind` of one accelerator backend of torch."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def open(self, name: str) -> Accelerator:
        """Open the device ``kind`` or ``kind:index``.

        Raises `DeviceAbsentError` with the actual reason: not built, hidden by the environment, or not found.
        """
        number = name.partition(":")[2] or "0"
        if not number.isdecimal():
            raise DeviceAbsentError(f"{name} absent: {self.kind} devices have numbers, as in {self.kind}:0")
        index = int(number)
        reason = absence_reason(self.kind, index, self._status())
        if reason is not None:
            raise DeviceAbsentError(reason)
        return Accelerator(self.kind, index)

    def found(self) -> tuple[str, ...]:
        """Return the name of the first device, if it can be used."""
        return () if absence_reason(self.kind, 0, self._status()) else (self.kind,)

    def _status(self) -> BackendStatus:
        """Return what torch and the environment report about this kind."""
        import torch

        if self.kind == "cuda":
            # Builds of torch for ROCm also name their devices cuda.
            rocm = torch.version.hip is not None
            variable = (
                "HIP_VISIBLE_DEVICES"
                if rocm and "HIP_VISIBLE_DEVICES" in os.environ
                else "CUDA_VISIBLE_DEVICES"
            )
            built = rocm or torch.version.cuda is not None
            count, problem = _counted(torch.cuda)
            return BackendStatus("CUDA", built, count, variable, os.environ.get(variable), problem)
        if self.kind == "xpu":
            built = getattr(torch.version, "xpu", None) is not None
            variable = "ZE_AFFINITY_MASK"
            count, problem = _counted(torch.xpu)
            return BackendStatus("XPU", built, count, variable, os.environ.get(variable), problem)
        if self.kind != "mps":
            backend = getattr(torch, self.kind, None)
            count, problem = (0, None) if backend is None else _counted(backend)
            return BackendStatus(self.kind, backend is not None, count, "", None, problem)
        count = 1 if torch.backends.mps.is_available() else 0
        return BackendStatus("MPS", torch.backends.mps.is_built(), count, "", None)


def is_copy(event: str) -> bool:
    """Return whether an event on a device only copied or filled memory, as opposed to computing."""
    name = event.lower().replace(" ", "")
    return name.startswith(("memcpy", "memset", "memorycopy", "memoryfill", "copybuffer", "fillbuffer"))


def _counted(backend: Any) -> tuple[int, str | None]:
    """Return the number of usable devices, and the warning of the driver if there are none."""
    # device_count alone includes devices that the driver cannot use; is_available queries the driver and
    # warns.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count: int = backend.device_count() if backend.is_available() else 0
    warning = " ".join(str(caught[0].message).split()) if caught and not count else ""
    return count, warning.partition(" (Triggered internally")[0] or None


def _driver_major() -> str | None:
    """Return the major version of NVIDIA's driver from the kernel; ``None`` if it cannot be read."""
    try:
        fields = _NVIDIA_VERSION.read_text(encoding="utf-8").split()
    except OSError:
        return None
    versions = [field for field in fields if field.replace(".", "").isdigit() and "." in field]
    return versions[0].partition(".")[0] if versions else None
