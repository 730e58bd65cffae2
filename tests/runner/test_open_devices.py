import pytest

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.instruments.device import DeviceAbsentError
from pytest_infergate.runner.open_devices import OpenDevices
from pytest_infergate.testing import FakeDevice, FakeKind


class CountingKind(FakeKind):
    """A kind that counts how often each name was opened."""

    def __init__(self, *devices, **settings):
        super().__init__(*devices, **settings)
        self.opened = []

    def open(self, name):
        self.opened.append(name)
        return super().open(name)


CPU = FakeKind(FakeDevice("cpu"), kind="cpu")
GHOST = FakeKind(kind="ghost", reason="no ghost device found")


def test_each_device_is_opened_once_and_its_absence_too():
    kind = CountingKind(FakeDevice())
    devices = OpenDevices(("fake", "fake:1"), [kind])
    assert devices.open("fake") is devices.open("fake")
    for _ in range(2):
        assert devices.absence_reason("fake") is None
        assert devices.absence_reason("fake:1") == "no fake device found"
    assert kind.opened == ["fake", "fake:1"]


def test_each_error_of_absence_is_a_new_one():
    devices = OpenDevices(("ghost",), [GHOST])
    errors = []
    for _ in range(2):
        with pytest.raises(DeviceAbsentError, match=r"^no ghost device found$") as caught:
            devices.open("ghost")
        errors.append(caught.value)
    assert errors[0] is not errors[1]


@pytest.mark.parametrize(
    ("requested", "names"),
    [
        (("auto",), ("cpu", "fake", "fake:1")),
        (("fake:1", "auto", "cpu"), ("fake:1", "cpu", "fake")),
        (("ghost", "cpu", "cpu"), ("ghost", "cpu")),
        ((), ()),
    ],
)
def test_auto_stands_in_for_what_is_available_and_each_name_is_kept_once(requested, names):
    kind = FakeKind(FakeDevice(), FakeDevice("fake:1"))
    assert OpenDevices(requested, [CPU, kind, GHOST]).names == names


def test_an_accelerator_beside_the_cpu_is_part_of_the_machine():
    card = FakeDevice("fake", asynchronous=True)
    devices = OpenDevices(("cpu", "fake"), [CPU, FakeKind(card, FakeDevice("fake:1", asynchronous=True))])
    machine = devices.machine(devices.open("cpu"))
    assert (machine.accelerator, machine.accelerator_count) == ("fake", 2)
    assert devices.machine(card) == card.hardware()
    alone = OpenDevices(("cpu",), [CPU, GHOST])
    assert alone.machine(alone.open("cpu")).accelerator is None


def test_one_device_of_many_is_enough_unless_another_is_required(snapshot):
    OpenDevices(("ghost", "cpu"), [CPU, GHOST]).check(())
    wrong = {
        "required": (("cpu",), ("ghost",)),
        "all absent": (("ghost", "ghost:1"), ()),
        "auto": (("auto",), ()),
    }
    messages = {}
    for name, (requested, required) in wrong.items():
        kinds = [GHOST] if name == "auto" else [CPU, GHOST]
        with pytest.raises(ConfigurationError) as caught:
            OpenDevices(requested, kinds).check(required)
        messages[name] = str(caught.value)
    assert messages == snapshot
