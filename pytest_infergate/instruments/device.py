"""The interface to hardware: what a device provides so that a case can be measured on it.

The Protocols and values of this module are public; `docs/extending.md` describes how a plugin adds a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.errors import InfergateError


class DeviceAbsentError(InfergateError):
    """A device cannot be used; the message is the actual reason, and becomes the reason of a skip."""


class InstrumentError(InfergateError):
    """An instrument failed, not the model: its figure is missing, and a note has the reason."""


class DeviceMemory(NamedTuple):
    """Memory of one call in bytes, as the allocator reports it; `None` if it does not."""

    activations: int | None = None
    """Peak of the call above the memory at its start."""
    reserved: int | None = None
    """Peak of the memory that the allocator reserved on the device."""
    allocations: int | None = None
    """Number of allocations that the call requested."""
    note: Note | None = None
    """Why figures are missing."""


class DeviceWork(NamedTuple):
    """What one call did on an asynchronous device, as a profiler reports it."""

    kernels: int
    """Number of kernels, without copies."""
    seconds: float
    """Summed durations of kernels and copies."""
    copies: int = 0
    """Copies from or to the host, and within the device."""
    synchronisations: int = 0
    """How often the host waited for the device within the call."""


class UsedMemory(NamedTuple):
    """Memory of a tensor that no operator of the call made.

    It was there before the call, or the call made it of an array, a number or a file.
    """

    device: str
    start: int
    """Address of its first byte."""
    size: int
    """Bytes."""
    owner: object = None
    """What keeps it, so that no other tensor gets its address."""


class DeviceCounters(NamedTuple):
    """Exact counters of one call, summed over its operators."""

    totals: Mapping[str, int] = {}
    """Counts by the names of `core.domain.metrics.COUNTERS`."""
    work: tuple[OperatorWork, ...] = ()
    """One row for each operator and module path, in any order."""
    notes: tuple[Note, ...] = ()
    """What the counters leave out."""
    other_threads: bool = False
    """Whether other threads worked too, so that what is observed of one thread is not the whole."""
    used: tuple[UsedMemory, ...] = ()
    """Memory that the operators read or overwrite and that none of them made."""


class Board(NamedTuple):
    """Which accelerator of a machine a device is."""

    uuid: str
    """The same in every process, whatever number the device has there."""
    boards: int
    """Number of accelerators of the machine, visible to this process or not."""


class DeviceState(NamedTuple):
    """State of a device at one moment; `None` for what it does not report."""

    clock_hz: float | None = None
    """Clock frequency of the arithmetic units."""
    celsius: float | None = None
    power_limit: float | None = None
    """Power limit in watts."""
    throttled: tuple[str, ...] = ()
    """Reasons why the clock is throttled, as texts for users."""
    others: int | None = None
    """Number of other processes that compute on the device."""


@runtime_checkable
class Meter(Protocol):
    """Measures the energy of a device, no matter which process uses it."""

    source: str
    """Common name of the counter: ``nvml``, ``rapl``."""
    scope: str
    """What the counter covers: ``board``, ``package``."""

    def joules(self) -> float | None:
        """Return joules since a fixed moment, which never decrease; `None` if they cannot be read."""

    def rest(self, seconds: float) -> None:
        """Let time pass without any work, so that the power in between is the idle power."""

    def state(self) -> DeviceState | None:
        """Return the current state of the device; `None` if it cannot be read."""


class Probe(NamedTuple):
    """A workload of known size, from whose time a peak rate is computed."""

    run: Callable[[], object]
    work: float
    """Floating point operations, or bytes read and written."""


class Probes(NamedTuple):
    """Workloads from which the peak rates of a device are measured."""

    products: Mapping[str, Probe] = {}
    """Products of large matrices, by dtype."""
    copy: Probe | None = None
    """A large copy."""


class CpuTimes(NamedTuple):
    """Cumulative processor time in seconds, of the whole machine and of this process with its children."""

    wall: float
    """Monotonic wall time."""
    machine: float
    own: float
    """Of this process, of its children that have ended, and of its living descendants."""
    cores: int
    """Number of cores of the machine."""
    stolen: float = 0.0
    """The part of `machine` that the hypervisor took."""
    waited: float | None = None
    """Time for which the threads of this process waited for a core; ``None`` if it is unknown."""
    children: float = 0.0
    """The part of `own` that is not of this process itself."""


@runtime_checkable
class Device(Protocol):
    """One device, ready to run models on."""

    name: str
    """Name that users write: ``cpu``, ``cuda``, ``cuda:1``."""
    torch_name: str | None
    """Torch device to which tensors and modules are moved; ``None`` moves nothing."""
    asynchronous: bool
    """Whether a call may return before its work is done."""
    clock: Callable[[], int]
    """Monotonic clock in nanoseconds; it is read twice for each timed call."""

    def synchronize(self) -> None:
        """Wait until all issued work is done."""

    def hardware(self) -> Hardware:
        """Return the hardware class within which times are compared."""

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Return the reference workloads by name: fixed work of about a millisecond each.

        Their times, measured alternately with the case, are the current speed of the machine.
        """

    def architecture(self) -> str:
        """Return what kernels are selected by, such as ``AVX512`` or ``sm_90``; counters are keyed by it."""

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Run one call and count its operators; empty if nothing can be counted."""

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Run one call and return its memory."""

    def work(self, call: Callable[[], object]) -> DeviceWork | None:
        """Run one call under a profiler and return its kernels; ``None`` if no profiler can observe them."""

    def release(self) -> None:
        """Release cached memory, after a case ran out of memory."""

    def cpu_times(self) -> CpuTimes | None:
        """Return the processor time used so far, to detect CPU contention; ``None`` if it is unknown."""

    def meter(self) -> Meter | None:
        """Return the energy meter of the device; ``None`` if there is no readable one."""

    def probes(self) -> Probes:
        """Return the workloads for measuring peak rates; empty if there are none."""


@runtime_checkable
class DeviceKind(Protocol):
    """A family of devices under one name; registered through the hook `pytest_infergate_devices`."""

    kind: str
    """Name before the colon: ``cuda`` in ``cuda:1``."""

    def open(self, name: str) -> Device:
        """Open a device by its name.

        Raises `DeviceAbsentError` with the actual reason if it cannot be used.
        """

    def found(self) -> tuple[str, ...]:
        """Return the names that ``auto`` selects on this machine; empty if there are none."""
