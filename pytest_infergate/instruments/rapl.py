"""Energy of processor packages through RAPL, as Linux shows it: root's alone, and missing in most machines.

Virtual machines have it rarely. AMD's processors stand there under Intel's name too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pytest_infergate.instruments.device import DeviceState

_POWERCAP: Final = Path("/sys/class/powercap")
_PACKAGE: Final = re.compile(r"intel-rapl:\d+")
"""Folder of a package; those of its parts have a second number."""


class Zone:
    """The counter of one package, which starts again at 0 when it is full."""

    def __init__(self, folder: Path, now: int) -> None:
        self._folder = folder
        self._last = now
        self._span = _number(folder / "max_energy_range_uj")
        self.joules = 0.0
        """Since it was opened."""

    def advance(self) -> bool:
        """Read on; whether the counter could be read. Read it before it can be full twice."""
        now = _number(self._folder / "energy_uj")
        if now is None:
            return False
        grown = now - self._last
        if grown < 0 and self._span is not None:
            grown += self._span
        if grown < 0:
            return False
        self._last = now
        self.joules += grown / 1e6
        return True


class RaplMeter:
    """`Meter` of all packages of the machine, whichever process makes them work."""

    source = "rapl"
    scope = "package"

    def __init__(self, zones: Sequence[Zone], sleep: Callable[[float], None] = time.sleep) -> None:
        self._zones = zones
        self._sleep = sleep

    def joules(self) -> float | None:
        """Sum of the packages since the meter was opened."""
        read = [zone.advance() for zone in self._zones]
        return sum(zone.joules for zone in self._zones) if all(read) else None

    def rest(self, seconds: float) -> None:
        """Sleep."""
        self._sleep(seconds)

    def state(self) -> DeviceState | None:
        """Nobody tells."""
        return None


def rapl_meter(root: Path = _POWERCAP) -> RaplMeter | None:
    """Open every package below `root`; ``None`` where there is none, or one may not be read."""
    zones = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if not _PACKAGE.fullmatch(folder.name) or not _text(folder / "name").startswith("package"):
            continue
        now = _number(folder / "energy_uj")
        if now is None:
            return None
        zones.append(Zone(folder, now))
    return RaplMeter(zones) if zones else None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    """The text of a file without its newline; empty where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
