"""What a worker answers to a turn: its time, and what its accelerator was allowed to do."""

import msgspec
import pytest

from pytest_infergate.core.gate.paired import GpuState
from pytest_infergate.instruments.device import DeviceState
from pytest_infergate.testing import FakeDevice, FakeMeter
from pytest_infergate.worker import serving
from pytest_infergate.worker.serving import TimedBlocks

HOT = DeviceState(clock_hz=1.2e9, celsius=91.0, throttled=("hardware thermal slowdown",), others=1)
TURN = {"do": "turn", "calls": 2}


@pytest.fixture
def card():
    device = FakeDevice("card", asynchronous=True)
    device.energy_meter = FakeMeter(device.fake_clock)
    return device


def blocks(device):
    return TimedBlocks(lambda: device.spend(0.003), device)


def test_a_turn_has_the_state_of_the_board_beside_it(card):
    card.energy_meter.seen = HOT
    answer = blocks(card).obey(TURN)
    assert answer["seconds"] == pytest.approx(0.003, rel=0.01)
    assert msgspec.convert(answer["board"], GpuState) == GpuState(clock_hz=1.2e9, throttled=HOT.throttled)


def test_the_driver_is_not_asked_at_every_turn(card, monkeypatch):
    monkeypatch.setattr(serving, "GPU_STATE_SECONDS", 3600.0)
    card.energy_meter.seen = HOT
    taking = blocks(card)
    first = taking.obey(TURN)
    card.energy_meter.seen = DeviceState(clock_hz=2e9)
    assert taking.obey(TURN)["board"] == first["board"]
    monkeypatch.setattr(serving, "GPU_STATE_SECONDS", 0.0)
    assert taking.obey(TURN)["board"] == {"clock_hz": 2e9}


def test_a_board_that_tells_nothing_is_left_out(card):
    assert set(blocks(card).obey(TURN)) == {"is", "seconds"}
    card.energy_meter = None
    assert set(blocks(card).obey(TURN)) == {"is", "seconds"}


def test_a_processor_is_not_asked():
    device = FakeDevice()
    device.energy_meter = FakeMeter(device.fake_clock, source="rapl", scope="package")
    device.energy_meter.seen = HOT
    assert set(blocks(device).obey(TURN)) == {"is", "seconds"}
