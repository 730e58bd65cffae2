"""A synchronisation that waits, and one that does not, on a device whose time is exact."""

import math
import sys

import pytest

from pytest_infergate.measure.guarded_device import GuardedDevice
from pytest_infergate.measure.known_work import unwaited, unwaited_note
from pytest_infergate.testing import FakeDevice


class Card(FakeDevice):
    """A device whose synchronisation waits for a share of its work; reading a result waits for all of it."""

    def __init__(self, waits=1.0, seconds=1e-3, asynchronous=True):
        super().__init__("card", asynchronous=asynchronous)
        self.waits = waits
        self.seconds = seconds
        self.pauses = []

    def synchronize(self):
        left = max(0, self._idle_at - self.fake_clock.now)
        self.fake_clock.now += math.ceil(self.waits * left)

    def run(self):
        self.spend(self.seconds)

    def read(self, _):
        self.fake_clock.advance(20e-6 + (self.pauses.pop() if self.pauses else 0.0))
        super().synchronize()

    def note(self):
        return unwaited(self, self.run, self.read)


@pytest.mark.parametrize("seconds", [1e-4, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize(("waits", "noted"), [(1.0, False), (0.9, False), (0.3, True), (0.0, True)])
def test_what_is_not_waited_for_is_noted(seconds, waits, noted):
    note = Card(waits, seconds).note()
    assert (note is not None) is noted
    assert note is None or note.code == "too-fast"


def test_a_device_whose_calls_are_done_when_they_return_is_waited_for():
    assert Card(0.0, asynchronous=False).note() is None


def test_a_pause_in_a_read_is_no_evidence():
    card = Card()
    card.pauses = [0.0, 1.0, 1.0]
    assert card.note() is None


def test_work_that_takes_no_time_ends():
    assert Card(seconds=0.0).note() is None


def test_work_that_is_done_when_it_is_issued_needs_no_wait():
    assert Card(0.0, seconds=1e-6).note() is None


def test_a_device_that_torch_does_not_know_is_not_checked(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it takes seconds
    assert unwaited_note(FakeDevice(asynchronous=True)) is None


@pytest.mark.torch
def test_the_cpu_of_torch_is_waited_for():
    from pytest_infergate.devices.cpu import CpuKind

    device = CpuKind().open("cpu")
    device.torch_name, device.asynchronous = "cpu", True
    assert unwaited_note(device) is None


def test_the_check_is_made_once_and_what_fails_in_it_is_a_note(monkeypatch):
    pytest.importorskip("torch")
    device = FakeDevice("card", asynchronous=True)
    device.torch_name = "meta"  # which has no numbers to read
    guarded = GuardedDevice(device)
    assert guarded.unwaited is None
    assert [note.code for note in guarded.notes()] == ["instrument-failed"]
    assert guarded.unwaited is None
    assert guarded.notes() == ()
