"""The CPU as a device. Its memory is measured by the events of torch's allocator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.instruments.device import (
    CpuTimes,
    DeviceAbsentError,
    DeviceCounters,
    DeviceMemory,
    DeviceWork,
    Meter,
    Probes,
)
from pytest_infergate.instruments.profiling import quiet
from pytest_infergate.instruments.timed_calls import RepeatedCall

_CALL = "infergate: one call"


class Cpu:
    """`Device` of the CPU, whose calls are synchronous."""

    name = "cpu"
    torch_name: str | None = "cpu"
    asynchronous = False

    def __init__(self) -> None:
        self.clock: Callable[[], int] = time.perf_counter_ns

    def synchronize(self) -> None:
        """Return immediately: a call is done when it returns."""

    def hardware(self) -> Hardware:
        """Return CPU model, instruction set and the cores that this process may use."""
        from pytest_infergate.instruments.environment import host_hardware

        return host_hardware()

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Return a dense product, a large copy, tiny operators, and operators split among threads."""
        from pytest_infergate.instruments.reference_work import torch_reference_work

        return torch_reference_work("cpu")

    def architecture(self) -> str:
        """Return the widest vector extension that torch uses: ``AVX512``."""
        import torch

        return torch.backends.cpu.get_cpu_capability()

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Count operators in torch's dispatcher, and copies between devices by the names in calls."""
        from pytest_infergate.instruments import operator_counters

        return operator_counters.counters(call, "cpu")

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Return the peak of the running sum of allocator events, which is deterministic.

        Memory that oneDNN allocates itself is not included.
        """
        allocated, left = _allocated(call, calls=1)
        # A call may replace state of the call before. Its release is seen if its allocation was.
        return _allocated(call, calls=2)[0] if left else allocated

    def work(self, call: Callable[[], object]) -> DeviceWork | None:  # noqa: ARG002 - part of the seam
        """Return ``None``: on a CPU the time of a call is the time of its work."""
        return None

    def cpu_times(self) -> CpuTimes | None:
        """Return the processor time as the system accounts it, including time stolen by the hypervisor."""
        from pytest_infergate.instruments.cpu_contention import cpu_times

        return cpu_times()

    def meter(self) -> Meter | None:
        """Return the meter of RAPL over all processor packages, if it can be read."""
        from pytest_infergate.instruments import rapl

        return rapl.rapl_meter()

    def probes(self) -> Probes:
        """Return a product in float32, and a copy that is larger than the caches."""
        from pytest_infergate.instruments.peak_rates import torch_probes

        return torch_probes("cpu")

    def release(self) -> None:
        """Do nothing: the allocator releases memory by itself."""


def _allocated(call: Callable[[], object], calls: int) -> tuple[DeviceMemory, int]:
    """Observe the allocator during `calls` calls; return the memory of the last, and what is left of it."""
    # torch.profiler would load the whole compiler, to check whether it is available.
    from torch.autograd.profiler import DeviceType, profile, record_function  # type: ignore[attr-defined]

    with quiet(), profile(use_kineto=True, profile_memory=True) as recorded:
        for _ in range(calls):
            if isinstance(call, RepeatedCall):
                call.prepare()
            with record_function(_CALL):
                call()
    if recorded.kineto_results is None:
        note = Note(code=NoteCode.MEMORY_UNSEEN, text="torch's profiler reports no memory in this build")
        return DeviceMemory(note=note), 0
    # Their order is not guaranteed to be that of time.
    events = sorted(recorded.kineto_results.events(), key=lambda event: event.start_ns())
    begin = max(event.start_ns() for event in events if event.name() == _CALL)
    running = peak = allocations = 0
    for event in events:
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU and event.start_ns() >= begin:
            running += event.nbytes()
            peak = max(peak, running)
            allocations += event.nbytes() > 0
    return DeviceMemory(activations=peak, allocations=allocations), running


class CpuKind:
    """`DeviceKind` of the CPU, which is always available."""

    kind = "cpu"

    def open(self, name: str) -> Cpu:
        """Open the CPU. Raises `DeviceAbsentError` for any number but 0: torch has one CPU device."""
        if name not in ("cpu", "cpu:0"):
            raise DeviceAbsentError(f"{name} absent: torch has one CPU device, named cpu")
        return Cpu()

    def found(self) -> tuple[str, ...]:
        """Return its name."""
        return ("cpu",)
