"""The device of cases that a server executes, of which nothing is known but its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_infergate.core.domain.values import REMOTE_DEVICE, Hardware
from pytest_infergate.devices.cpu import Cpu
from pytest_infergate.instruments.device import DeviceCounters, DeviceMemory, Probes


class RemoteServer(Cpu):
    """A device without memory, counters, energy and peak rates. A call is done when it returns."""

    name = REMOTE_DEVICE
    torch_name: str | None = None

    def hardware(self) -> Hardware:
        """Return the class of the machine that calls the server: times are compared with its own only."""
        from pytest_infergate.instruments.environment import host_hardware

        host = host_hardware()
        return Hardware(
            cpu_model=f"client {host.cpu_model}",
            cores=host.cores,
            accelerator="remote server",
            accelerator_count=1,
        )

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Return none: the speed of the client is not that of the server."""
        return {}

    def architecture(self) -> str:
        """Return its name, for which no kernels are known."""
        return self.name

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Call, and count nothing."""
        call()
        return DeviceCounters()

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Call, and observe nothing."""
        call()
        return DeviceMemory()

    def cpu_times(self) -> None:
        """Return ``None``: a server on this machine is one of the other processes."""

    def meter(self) -> None:
        """Return ``None``."""

    def probes(self) -> Probes:
        """Return none."""
        return Probes()


class RemoteKind:
    """`DeviceKind` of servers. Users request their runtimes, not this device."""

    kind = REMOTE_DEVICE

    def open(self, name: str) -> RemoteServer:  # noqa: ARG002 - there is one
        """Return the device."""
        return RemoteServer()

    def found(self) -> tuple[str, ...]:
        """Return none."""
        return ()
