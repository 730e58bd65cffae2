"""Energy and state of NVIDIA's boards through NVML, where the optional nvidia-ml-py is installed.

Everything is read, nothing is set.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, Final

from pytest_infergate.instruments.device import DeviceState

SAMPLE_SECONDS: Final = 0.1
"""Between two readings while the board rests."""
THROTTLING: Final = (
    (0x04, "power cap"),
    (0x08, "hardware slowdown"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "hardware power brake"),
)
"""Bits of NVML's clock event reasons that hold a working board back. Source: nvml.h."""


class NvmlMeter:
    """`Meter` of one board: the driver's energy counter, or its power over time where it has none.

    Power is what the driver sampled last, over a part of the time on some boards; the counter misses nothing.
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
        self._counting = self._counted() is not None
        self._joules = 0.0
        self._last: tuple[float, float] | None = None

    def joules(self) -> float | None:
        """Energy of the whole board, memory included; of its power, since the first reading."""
        return self._counted() if self._counting else self._integrated()

    def rest(self, seconds: float) -> None:
        """Sleep, and go on sampling."""
        naps = max(1, round(seconds / SAMPLE_SECONDS))
        for _ in range(naps):
            self._sleep(seconds / naps)
            self.joules()

    def state(self) -> DeviceState | None:
        """Clock, temperature, power limit, what holds the clock down, and who else computes on the board.

        One of the processes on it is taken to be this one, whose number may be another in a container.
        """
        megahertz = self._read("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        reasons = self._read("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # drivers before 535
            reasons = self._read("nvmlDeviceGetCurrentClocksThrottleReasons")
        celsius = self._read("nvmlDeviceGetTemperature", sensor)
        if celsius is None:
            celsius = self._read("nvmlDeviceGetTemperatureV", sensor)
        processes = self._read("nvmlDeviceGetComputeRunningProcesses")
        return DeviceState(
            clock_hz=None if megahertz is None else megahertz * 1e6,
            celsius=None if celsius is None else float(celsius),
            power_limit=_thousandth(self._read("nvmlDeviceGetEnforcedPowerLimit")),
            throttled=tuple(words for bit, words in THROTTLING if bit & (reasons or 0)),
            others=None if processes is None else max(0, len(processes) - 1),
        )

    def _counted(self) -> float | None:
        return _thousandth(self._read("nvmlDeviceGetTotalEnergyConsumption"))

    def _integrated(self) -> float | None:
        watts = _thousandth(self._read("nvmlDeviceGetPowerUsage"))
        if watts is None:
            return None
        now = self._clock()
        if self._last is not None:
            then, before = self._last
            self._joules += (now - then) * (watts + before) / 2
        self._last = now, watts
        return self._joules

    def _read(self, function: str, *arguments: Any) -> Any:
        """Ask the driver; ``None`` where it, or this version of the library, does not know."""
        ask = getattr(self._nvml, function, None)
        if ask is None:
            return None
        try:
            return ask(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None


def nvml_meter(uuid: str) -> NvmlMeter | None:
    """Find the board, or the part of one, with this UUID.

    ``None`` where nvidia-ml-py or the driver is absent, the board unknown, or its energy not told.
    """
    nvml = _library()
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    for name in (f"GPU-{bare}", f"MIG-{bare}"):
        try:
            found = NvmlMeter(nvml, nvml.nvmlDeviceGetHandleByUUID(name))
        except nvml.NVMLError:
            continue
        if found.joules() is not None:
            return found
    return None


def _library() -> Any:
    with warnings.catch_warnings():
        # A package that only stands in for nvidia-ml-py says so with a warning.
        warnings.simplefilter("ignore")
        try:
            import pynvml
        except ImportError:
            return None
    return pynvml


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1e3
