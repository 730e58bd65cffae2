"""Which cases may be measured while cases on other GPUs of the machine are."""

from __future__ import annotations

import pytest

from pytest_infergate.core.domain.values import Case
from pytest_infergate.instruments.device import DeviceAbsentError
from pytest_infergate.instruments.environment import free_memory, usable_cores
from pytest_infergate.plugin import xdist
from pytest_infergate.runner.open_devices import OpenDevices
from pytest_infergate.storage.remembered_figures import RememberedFigures


def fits_share(gpus: int, cores: int, threads: int, memory: float, free: int) -> bool:
    """Return whether a case needs at most the share of one of several GPUs in the rest of the machine.

    It is an equal part of the cores, of which two for each thread of the case and one more are needed, and of
    the free memory, of which its peak in bytes is needed.
    """
    return gpus > 1 and 2 * threads + 1 <= cores // gpus and memory <= free // gpus


class GpuSharing:
    """Remembers the peak memory of each case for the next run, and decides by it and by the threads."""

    def __init__(self, config: pytest.Config, devices: OpenDevices) -> None:
        self._config = config
        self._devices = devices
        self._remembered = RememberedFigures(getattr(config, "cache", None), "host-memory")
        self._known = self._remembered.read()
        self._peaks: dict[str, float] = {}

    def gpu(self, case: Case, nodeid: str) -> str | None:
        """Return the UUID of the GPU of a case that needs no more than its share of the machine.

        ``None`` for any other case, and if the GPU or what the case needs is unknown.
        """
        memory = self._known.get(nodeid)
        if case.threads is None or memory is None:
            return None
        try:
            board = self._devices.open(case.device).board()
        except DeviceAbsentError:
            return None
        free = free_memory()
        if board is None or free is None:
            return None
        fits = fits_share(board.boards, usable_cores(), case.threads, memory, free)
        return board.uuid if fits else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the memory of a case that was measured."""
        peak = getattr(report, "infergate", {}).get("host_peak")
        if peak is not None:
            self._peaks[report.nodeid] = peak

    def pytest_sessionfinish(self) -> None:
        """Remember the peaks; a worker of pytest-xdist leaves that to its controller."""
        if not xdist.is_worker(self._config):
            self._remembered.add(self._peaks)
