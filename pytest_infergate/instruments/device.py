"""The seam to hardware: what a device must offer so that a case can be measured on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.model import Hardware, Note
from pytest_infergate.errors import InfergateError


class DeviceAbsentError(InfergateError):
    """The device that was asked for cannot be used; the text is the true reason, fit for a skip."""


class DeviceMemory(NamedTuple):
    """What the allocator saw during one call, in bytes; `None` where it cannot tell."""

    activations: int | None = None
    """Peak above the start of the call."""
    reserved: int | None = None
    """Peak that the allocator took from the device."""
    allocations: int | None = None
    """How often the call asked the allocator for memory."""
    note: Note | None = None


class DeviceWork(NamedTuple):
    """What one call did on an asynchronous device."""

    kernels: int
    seconds: float
    """Summed durations of its kernels."""
    copies: int = 0
    """From or to the host, and on the device."""
    synchronisations: int = 0
    """How often the host waited for the device within the call."""


class DeviceCounters(NamedTuple):
    """What the operators of one call added up to."""

    totals: Mapping[str, int] = {}
    """By the names of `core.metrics.COUNTERS`."""
    work: tuple[OperatorWork, ...] = ()
    """One row an operator and module path, in any order."""
    notes: tuple[Note, ...] = ()


class DeviceState(NamedTuple):
    """What a device was doing and was allowed to do at one moment; `None` where it does not tell."""

    clock_hz: float | None = None
    """Of its arithmetic units."""
    celsius: float | None = None
    power_limit: float | None = None
    """Watts."""
    throttled: tuple[str, ...] = ()
    """Why its clock is held down, in words."""
    others: int | None = None
    """Processes of others that compute on it."""


@runtime_checkable
class Meter(Protocol):
    """Counts the energy that a device takes, whoever makes it work."""

    source: str
    """How people know it: ``nvml``, ``rapl``."""
    scope: str
    """What is covered: ``board``, ``package``."""

    def joules(self) -> float | None:
        """Energy so far since some moment, never falling; ``None`` where it cannot be read."""

    def rest(self, seconds: float) -> None:
        """Let time pass without any work, so that the power in between can be told."""

    def state(self) -> DeviceState | None:
        """What the device is doing right now; ``None`` where nobody can tell."""


class Probe(NamedTuple):
    """Work of known size, to find out how fast a device can be."""

    run: Callable[[], object]
    work: float
    """Floating point operations, or bytes read and written."""


class Probes(NamedTuple):
    """What the peaks of a device are measured with."""

    products: Mapping[str, Probe] = {}
    """Large products of matrices, by dtype."""
    copy: Probe | None = None
    """A large copy."""


class CpuTimes(NamedTuple):
    """Seconds of processor time so far: of the whole machine, and of this process with its children."""

    wall: float
    machine: float
    own: float
    cores: int


@runtime_checkable
class Device(Protocol):
    """One device, ready to run on."""

    name: str
    """As users write it: ``cpu``, ``cuda``, ``cuda:1``."""
    torch_name: str | None
    """Where tensors and modules are moved; ``None`` moves nothing."""
    asynchronous: bool
    """Whether a call may return before its work is done."""
    clock: Callable[[], int]
    """Monotonic nanoseconds; read twice around every timed call."""

    def synchronize(self) -> None:
        """Wait until everything issued so far is done."""

    def hardware(self) -> Hardware:
        """The class of hardware whose times compare with this device's."""

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Fixed pieces of work, a millisecond or so each, that tell how fast the machine is right now."""

    def architecture(self) -> str:
        """Instruction set or GPU architecture by which operators are chosen; part of the key of counters."""

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Run one call and count its operators; empty where nothing can be counted."""

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Run one call and report its memory."""

    def work(self, call: Callable[[], object]) -> DeviceWork | None:
        """Run one call under a profiler and report its kernels; ``None`` where nothing can see them."""

    def release(self) -> None:
        """Give cached memory back, after a case that ran out of it."""

    def cpu_times(self) -> CpuTimes | None:
        """Who used the host's processors, so that disturbance is known; ``None`` where nobody can tell."""

    def meter(self) -> Meter | None:
        """Count the energy it takes; ``None`` where there is no meter, or none that may be read."""

    def probes(self) -> Probes:
        """Work to find its peaks with; empty where it has none."""


@runtime_checkable
class DeviceKind(Protocol):
    """A family of devices under one name; registered through the hook `pytest_infergate_devices`."""

    kind: str
    """The name before the colon: ``cuda`` of ``cuda:1``."""

    def open(self, name: str) -> Device:
        """Make a device ready.

        Raises `DeviceAbsentError` with the true reason where it cannot be used.
        """

    def found(self) -> tuple[str, ...]:
        """Names that ``auto`` stands for on this machine; empty where there is none."""
