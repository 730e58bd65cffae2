"""Which cases are measured beside those on other GPUs, and what is remembered for that."""

import json
from types import SimpleNamespace

import pytest
from fake_cache import FakeCache

from pytest_infergate.core.domain.values import Case
from pytest_infergate.instruments.device import Board
from pytest_infergate.measure.lock import MachineLock
from pytest_infergate.plugin import gpu_sharing
from pytest_infergate.plugin.gpu_sharing import GpuSharing, fits_share
from pytest_infergate.runner.open_devices import OpenDevices
from pytest_infergate.testing import FakeDevice, FakeKind

GIB = 2**30


@pytest.mark.parametrize(
    ("gpus", "cores", "threads", "memory", "fits"),
    [
        (2, 16, 3, 8, True),
        (2, 16, 4, 8, False),  # of its 8 cores it needs 9
        (2, 16, 3, 33, False),
        (4, 16, 1, 16, True),
        (4, 16, 2, 16, False),
        (1, 16, 1, 1, False),  # nothing to share with
        (0, 16, 1, 1, False),
    ],
)
def test_a_case_must_fit_the_share_of_one_gpu(gpus, cores, threads, memory, fits):
    assert fits_share(gpus, cores, threads, memory * GIB, 64 * GIB) is fits


class Boards(FakeDevice):
    """A GPU of a machine of two, or one that cannot say which it is."""

    def board(self):
        if self.name == "fake:2":
            raise RuntimeError("driver error")
        return None if self.name == "fake:1" else Board("GPU-1", 2)


@pytest.mark.parametrize(
    ("device", "threads", "nodeid", "gpu"),
    [
        ("fake", 1, "known", "GPU-1"),
        ("fake", None, "known", None),
        ("fake", 1, "new", None),
        ("fake", 1, "large", None),
        ("fake:1", 1, "known", None),
        ("fake:2", 1, "known", None),
        ("fake:3", 1, "known", None),
        ("cpu", 1, "known", None),
    ],
)
def test_what_is_not_known_has_the_machine_alone(monkeypatch, device, threads, nodeid, gpu):
    monkeypatch.setattr(gpu_sharing, "usable_cores", lambda: 8)
    monkeypatch.setattr(gpu_sharing, "free_memory", lambda: 64 * GIB)
    kinds = [
        FakeKind(*(Boards(name) for name in ("fake", "fake:1", "fake:2"))),
        FakeKind(FakeDevice("cpu"), kind="cpu"),
    ]
    cache = FakeCache({"infergate/host-memory": {"known": 8 * GIB, "large": 33 * GIB}})
    sharing = GpuSharing(SimpleNamespace(cache=cache), OpenDevices((), kinds))
    assert sharing.gpu(Case(test="t.py::t", device=device, threads=threads), nodeid) == gpu
    monkeypatch.setattr(gpu_sharing, "free_memory", lambda: None)
    assert sharing.gpu(Case(test="t.py::t", device=device, threads=threads), nodeid) is None


def test_the_second_run_of_a_case_shares_the_machine(project, monkeypatch):
    monkeypatch.setattr(gpu_sharing, "usable_cores", lambda: 8)
    gpus = []
    held = MachineLock.held

    def spy(self, how, waiting, gpu=None):
        gpus.append(gpu)
        return held(self, how, waiting, gpu)

    monkeypatch.setattr(MachineLock, "held", spy)
    project.test("threads=[1]")
    project.change("from pytest_infergate.instruments.device import Board")
    project.change("DEVICE.board = lambda: Board('GPU-1', 2)")
    project.measure()
    (file,) = project.path.glob(".pytest_cache/v/infergate/host-memory")
    (peak,) = json.loads(file.read_text()).values()
    assert peak > 1e6
    monkeypatch.setattr(gpu_sharing, "free_memory", lambda: round(2 * peak + 2))
    project.measure().assert_outcomes(passed=1)
    assert gpus[:2] == [None, "GPU-1"]
    monkeypatch.setattr(gpu_sharing, "free_memory", lambda: round(2 * peak - 2))
    project.measure().assert_outcomes(passed=1)
    assert gpus[-1] is None
