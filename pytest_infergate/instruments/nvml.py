"""Energy and state of NVIDIA boards through NVML, if the optional nvidia-ml-py is installed.

The driver is only queried; no setting is changed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, Final

from pytest_infergate.core.domain.machine_values import GpuReading
from pytest_infergate.instruments.device import DeviceState

# Interval of power readings while the board rests. Boards without an energy counter report power only, whose
# integral needs several readings within the rest.
SAMPLE_SECONDS: Final = 0.1
# Bits of NVML's clock event reasons that throttle a busy board (nvml.h). An idle board and a user's clock
# setting have bits of their own and are not throttling.
THROTTLING: Final = (
    (0x04, "power cap"),
    (0x08, "hardware slowdown"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "hardware power brake"),
)


class NvmlMeter:
    """`Meter` of one board: the energy counter of the driver, or the integral of its power without one.

    Some boards sample power over a part of the time only (A100 and H100 over 25 %), so that the counter is
    preferred.
    """

    source = "nvml"
    scope = "board"

    def __init__(
        self,
        nvml: Any,
        handle: Any,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._clock = clock
        self._sleep = sleep
        self._has_counter = self._counter() is not None
        self._joules = 0.0
        self._last: tuple[float, float] | None = None

    def joules(self) -> float | None:
        """Return the energy of the board with its memory; without a counter, since the first reading."""
        if self._has_counter:
            return self._counter()
        watts = _from_thousandths(self._read("nvmlDeviceGetPowerUsage"))
        if watts is None:
            return None
        now = self._clock()
        if self._last is not None:
            then, before = self._last
            self._joules += (now - then) * (watts + before) / 2
        self._last = now, watts
        return self._joules

    def rest(self, seconds: float) -> None:
        """Sleep for some seconds, and continue to sample power."""
        intervals = max(1, round(seconds / SAMPLE_SECONDS))
        for _ in range(intervals):
            self._sleep(seconds / intervals)
            self.joules()

    def state(self) -> DeviceState | None:
        """Return clock, temperature, power limit, reasons of throttling and the number of other processes."""
        megahertz = self._read("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        celsius = self._read("nvmlDeviceGetTemperature", sensor)
        if celsius is None:
            celsius = self._read("nvmlDeviceGetTemperatureV", sensor)
        processes = self._read("nvmlDeviceGetComputeRunningProcesses")
        return DeviceState(
            clock_hz=None if megahertz is None else megahertz * 1e6,
            celsius=None if celsius is None else float(celsius),
            power_limit=_from_thousandths(self._read("nvmlDeviceGetEnforcedPowerLimit")),
            throttled=_throttling(self._nvml, self._handle),
            # One process is this one. It cannot be found by its id, which differs inside a container.
            others=None if processes is None else max(0, len(processes) - 1),
        )

    def _counter(self) -> float | None:
        return _from_thousandths(self._read("nvmlDeviceGetTotalEnergyConsumption"))

    def _read(self, function: str, *arguments: Any) -> Any:
        return _query(self._nvml, self._handle, function, *arguments)


def nvml_meter(uuid: str) -> NvmlMeter | None:
    """Open the meter of the board, or of the MIG instance, with this UUID.

    ``None`` if nvidia-ml-py or the driver is absent, the board is unknown, or its energy cannot be read.
    """
    nvml = _opened()
    if nvml is None:
        return None
    # torch reports bare UUIDs; NVML expects the prefix GPU- for a board and MIG- for an instance of one.
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    for name in (f"GPU-{bare}", f"MIG-{bare}"):
        try:
            meter = NvmlMeter(nvml, nvml.nvmlDeviceGetHandleByUUID(name))
        except nvml.NVMLError:
            continue
        if meter.joules() is not None:
            return meter
    return None


def nvml_boards() -> tuple[GpuReading, ...] | None:
    """Describe all boards; ``None`` if nvidia-ml-py or the driver is absent."""
    nvml = _opened()
    if nvml is None:
        return None
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError:
            continue
        found.append(_board(nvml, handle, name if isinstance(name, str) else name.decode(errors="replace")))
    return tuple(found)


def _board(nvml: Any, handle: Any, name: str) -> GpuReading:
    def hertz(function: str) -> float | None:
        megahertz = _query(nvml, handle, function, nvml.NVML_CLOCK_SM)
        return None if megahertz is None else megahertz * 1e6

    processes = _query(nvml, handle, "nvmlDeviceGetComputeRunningProcesses")
    return GpuReading(
        name=name,
        clock_hz=hertz("nvmlDeviceGetClockInfo"),
        max_clock_hz=hertz("nvmlDeviceGetMaxClockInfo"),
        application_clock_hz=hertz("nvmlDeviceGetApplicationsClock"),
        default_clock_hz=hertz("nvmlDeviceGetDefaultApplicationsClock"),
        throttled=_throttling(nvml, handle),
        tenants=None if processes is None else len(processes),
    )


def _throttling(nvml: Any, handle: Any) -> tuple[str, ...]:
    """Return the reasons why the clock of a board is throttled."""
    reasons = _query(nvml, handle, "nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # drivers before 535
        reasons = _query(nvml, handle, "nvmlDeviceGetCurrentClocksThrottleReasons")
    return tuple(reason for bit, reason in THROTTLING if bit & (reasons or 0))


def _opened() -> Any:
    """Return the library with the driver initialised; ``None`` if one of them is absent."""
    with warnings.catch_warnings():
        # The deprecated package pynvml, which has the same module name as nvidia-ml-py, warns on import.
        warnings.simplefilter("ignore")
        try:
            import pynvml as nvml
        except ImportError:
            return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _query(nvml: Any, handle: Any, function: str, *arguments: Any) -> Any:
    """Query the driver; ``None`` if the driver or this version of the library does not support it."""
    query = getattr(nvml, function, None)
    if query is None:
        return None
    try:
        return query(handle, *arguments)
    except nvml.NVMLError:
        return None


def _from_thousandths(value: float | None) -> float | None:
    return None if value is None else value / 1e3
