"""The devices of a run, each opened once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.devices.remote_server import RemoteKind
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.instruments.device import Device, DeviceAbsentError, DeviceKind
from pytest_infergate.measure.guarded_device import GuardedDevice, error_line


class OpenDevices:
    """Opens devices by name, and keeps them, or the reason why they are absent, for the whole run."""

    def __init__(self, requested: Sequence[str], kinds: Iterable[DeviceKind]) -> None:
        self._requested = requested
        offered: list[DeviceKind] = [*kinds, RemoteKind()]
        self._kinds = {kind.kind: kind for kind in offered}
        self._devices: dict[str, GuardedDevice | DeviceAbsentError] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Requested names, with ``auto`` replaced by the names that are available."""
        names: list[str] = []
        for name in self._requested:
            names += (
                [available for kind in self._kinds.values() for available in kind.found()]
                if name == "auto"
                else [name]
            )
        return tuple(dict.fromkeys(names))

    def open(self, name: str) -> GuardedDevice:
        """Return a device, opened at the first request.

        Raises `DeviceAbsentError` with the actual reason each time if the device is absent, or if opening it
        failed.
        """
        if name not in self._devices:
            try:
                self._devices[name] = GuardedDevice(self._kinds[name.partition(":")[0]].open(name))
            except DeviceAbsentError as error:
                self._devices[name] = error
            except Exception as error:  # noqa: BLE001 - a driver may raise anything
                self._devices[name] = DeviceAbsentError(f"{name} cannot be used: {error_line(error)}")
        device = self._devices[name]
        if isinstance(device, DeviceAbsentError):
            # A new exception, because a traceback would grow each time the same one is raised.
            raise DeviceAbsentError(str(device))
        return device

    def absence_reason(self, name: str) -> str | None:
        """Return why a device cannot be used; ``None`` if it can."""
        try:
            self.open(name)
        except DeviceAbsentError as error:
            return str(error)
        return None

    def failure(self, name: str) -> str | None:
        """Return why nothing can be measured on a device now: it is absent, or it failed since."""
        return self.absence_reason(name) or self.open(name).failure()

    def machine(self, device: Device) -> Hardware:
        """Return the hardware of the whole machine of a device, by which its price is determined.

        An accelerator beside the CPU is part of the machine: it is paid for, even if the case does not use
        it.
        """
        hardware = device.hardware()
        if device.name != "cpu":
            return hardware
        others = [name for kind in self._kinds.values() if kind.kind != "cpu" for name in kind.found()]
        if not others:
            return hardware
        return msgspec.structs.replace(hardware, accelerator=others[0], accelerator_count=len(others))

    def check(self, required: Iterable[str]) -> None:
        """Raise `ConfigurationError` if a required device is absent, or if all requested devices are."""
        for name in required:
            reason = self.absence_reason(name)
            if reason is not None:
                raise ConfigurationError(
                    f"--infer-require={name} must be available: {reason}. "
                    "Hint: attach the device, or leave the option out"
                )
        reasons = [self.absence_reason(name) for name in self.names]
        if all(reasons):
            listed = "; ".join(dict.fromkeys(filter(None, reasons))) or "auto found no device"
            raise ConfigurationError(
                f"--infer-devices: none of the requested devices is available: {listed}. "
                "Hint: request another device; cpu is always available"
            )
