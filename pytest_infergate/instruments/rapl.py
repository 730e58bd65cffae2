"""Energy of processor packages through RAPL in the powercap files of Linux.

Usually only root can read them, and most virtual machines do not have them. Processors of AMD appear under
``intel-rapl`` as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pytest_infergate.instruments.device import DeviceState

_POWERCAP: Final = Path("/sys/class/powercap")
# Folders of packages. The folders of their parts (core, dram) have a second number: the counter of the
# package includes its cores already, and memory is not part of the scope.
_PACKAGE: Final = re.compile(r"intel-rapl:\d+")


class Zone:
    """The energy counter of one package, which wraps around to 0."""

    def __init__(self, folder: Path, now: int) -> None:
        self._folder = folder
        self._last = now
        self._span = _number(folder / "max_energy_range_uj")
        self.joules = 0.0
        """Joules since the zone was opened."""

    def advance(self) -> bool:
        """Add the energy since the last reading; `False` if the counter could not be read.

        To be called at least once per wrap-around, which takes minutes at full power.
        """
        now = _number(self._folder / "energy_uj")
        if now is None:
            return False
        grown = now - self._last
        # A smaller value than before is a wrap-around. Without a known range it cannot be distinguished from
        # a reset.
        if grown < 0 and self._span is not None:
            grown += self._span
        if grown < 0:
            return False
        self._last = now
        self.joules += grown / 1e6
        return True


class RaplMeter:
    """`Meter` of all packages of the machine, no matter which process uses them."""

    source = "rapl"
    scope = "package"

    def __init__(self, zones: Sequence[Zone], sleep: Callable[[float], None] = time.sleep) -> None:
        self._zones = zones
        self._sleep = sleep

    def joules(self) -> float | None:
        """Return the energy of all packages since the meter was opened; `None` if one cannot be read."""
        # A list, so that every zone advances even if an earlier one fails.
        readable = [zone.advance() for zone in self._zones]
        return sum(zone.joules for zone in self._zones) if all(readable) else None

    def rest(self, seconds: float) -> None:
        """Sleep for some seconds."""
        self._sleep(seconds)

    def state(self) -> DeviceState | None:
        """Return ``None``: RAPL reports energy only."""
        return None


def rapl_meter(root: Path = _POWERCAP) -> RaplMeter | None:
    """Open all packages below `root`; ``None`` if there are no packages, or one of them cannot be read."""
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
    """Read a file without its newline; empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
