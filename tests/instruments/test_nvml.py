# ruff: noqa: N802 - functions are named as the library names them
"""NVML as a made-up library shows it, and the real one where there is a board."""

import sys
import types
import warnings

import pytest

from pytest_infergate.core.domain.machine_values import GpuReading
from pytest_infergate.instruments import nvml
from pytest_infergate.instruments.device import DeviceState, Meter
from pytest_infergate.testing import FakeClock

UUID = "5ae2f1b0-8b0b-2f4c-9d0e-0123456789ab"


class NVMLError(Exception):
    """As the library names it."""


class Library(types.ModuleType):
    """A `pynvml` with one board; a figure of `None` is not supported, a missing function is too old."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError

    def __init__(self):
        super().__init__("pynvml")
        self.uuid = f"GPU-{UUID}"
        self.driver = True
        self.millijoules = 5_000
        self.milliwatts = 300_000
        self.figures = {
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetCurrentClocksEventReasons": 0,
            "nvmlDeviceGetComputeRunningProcesses": ["ours"],
        }
        self.asked = []

    def nvmlInit(self):
        if not self.driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked.append(uuid)
        if uuid != self.uuid:
            raise NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):
        assert index == 0
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._told(handle, self.millijoules)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._told(handle, self.milliwatts)

    def __getattr__(self, name):
        if name not in self.__dict__.get("figures", {}):
            raise AttributeError(name)
        return lambda handle, *_: self._told(handle, self.figures[name])

    @staticmethod
    def _told(handle, figure):
        assert handle == "handle"
        if figure is None:
            raise NVMLError("Not Supported")
        return figure


@pytest.fixture
def library(monkeypatch):
    library = Library()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


# Finding the board


def test_a_board_is_found_by_its_uuid(library):
    meter = nvml.nvml_meter(UUID)
    assert isinstance(meter, Meter)
    assert (meter.source, meter.scope) == ("nvml", "board")
    assert library.asked == [f"GPU-{UUID}"]


@pytest.mark.parametrize("name", [f"GPU-{UUID}", f"MIG-{UUID}"])
def test_a_name_may_hold_the_kind(library, name):
    library.uuid = name
    assert nvml.nvml_meter(name) is not None


def test_a_part_of_a_board_goes_by_another_name(library):
    library.uuid = f"MIG-{UUID}"
    assert nvml.nvml_meter(UUID) is not None
    assert library.asked == [f"GPU-{UUID}", f"MIG-{UUID}"]


def test_another_board_is_not_taken(library):
    assert nvml.nvml_meter("00000000-0000-0000-0000-000000000000") is None


def test_without_a_driver_there_is_no_meter(library):
    library.driver = False
    assert nvml.nvml_meter(UUID) is None
    assert library.asked == []


def test_without_the_library_there_is_no_meter(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.nvml_meter(UUID) is None


def test_a_library_that_warns_of_its_name_is_used(monkeypatch, tmp_path):
    (tmp_path / "pynvml.py").write_text(
        "import warnings\nwarnings.warn('use nvidia-ml-py', FutureWarning)\n"
        "class NVMLError(Exception): pass\ninitialised = []\n"
        "def nvmlInit():\n    initialised.append(True)\n    raise NVMLError\n"
    )
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nvml.nvml_meter(UUID) is None
    assert sys.modules["pynvml"].initialised == [True]
    del sys.modules["pynvml"]


def test_a_board_that_tells_neither_energy_nor_power_has_no_meter(library):
    library.millijoules = library.milliwatts = None
    assert nvml.nvml_meter(UUID) is None


# Energy


def test_the_counter_is_in_joules(library):
    meter = nvml.nvml_meter(UUID)
    assert meter.joules() == 5.0
    library.millijoules = 7_250
    assert meter.joules() == 7.25


def test_a_counter_that_breaks_is_none_and_no_mixture(library):
    meter = nvml.nvml_meter(UUID)
    library.millijoules = None
    assert meter.joules() is None


@pytest.fixture
def powered(library):
    """A meter on a board without a counter, and its clock."""
    library.millijoules = None
    clock = FakeClock()
    return nvml.NvmlMeter(library, "handle", clock=lambda: clock() / 1e9, sleep=clock.advance), clock


def test_power_is_summed_over_time(library, powered):
    meter, clock = powered
    assert meter.joules() == 0
    clock.advance(2)
    assert meter.joules() == pytest.approx(600)
    library.milliwatts = 100_000
    clock.advance(1)
    assert meter.joules() == pytest.approx(600 + 200)
    clock.advance(1)
    assert meter.joules() == pytest.approx(900)


def test_power_that_cannot_be_read_is_none(library, powered):
    meter, _ = powered
    library.milliwatts = None
    assert meter.joules() is None


def test_power_is_sampled_while_the_board_rests(library, powered):
    meter, clock = powered
    meter.joules()
    read = library.nvmlDeviceGetPowerUsage
    samples = []
    library.nvmlDeviceGetPowerUsage = lambda handle: samples.append(clock()) or read(handle)
    meter.rest(0.7)
    assert clock.now / 1e9 == pytest.approx(0.7)
    assert len(samples) == 7
    assert meter.joules() == pytest.approx(0.7 * 300)


# State


def test_a_board_at_work(library):
    assert nvml.nvml_meter(UUID).state() == DeviceState(
        clock_hz=1.98e9, celsius=61.0, power_limit=700.0, throttled=(), others=0
    )


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, ()),
        (0x1, ()),  # idle
        (0x2 | 0x10 | 0x100, ()),  # clocks that were set by hand
        (0x4, ("power cap",)),
        (0x8, ("hardware slowdown",)),
        (0x20, ("software thermal slowdown",)),
        (0x40, ("hardware thermal slowdown",)),
        (0x80, ("hardware power brake",)),
        (0x4 | 0x40, ("power cap", "hardware thermal slowdown")),
    ],
)
def test_what_holds_the_clock_down(library, bits, words):
    library.figures["nvmlDeviceGetCurrentClocksEventReasons"] = bits
    assert nvml.nvml_meter(UUID).state().throttled == words


def test_older_drivers_and_newer_libraries_have_other_names(library):
    del library.figures["nvmlDeviceGetCurrentClocksEventReasons"]
    del library.figures["nvmlDeviceGetTemperature"]
    library.figures |= {"nvmlDeviceGetCurrentClocksThrottleReasons": 0x4, "nvmlDeviceGetTemperatureV": 55}
    state = nvml.nvml_meter(UUID).state()
    assert (state.throttled, state.celsius) == (("power cap",), 55.0)


def test_a_driver_that_refuses_the_new_name_knows_the_old(library):
    library.figures |= {
        "nvmlDeviceGetCurrentClocksEventReasons": None,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x8,
    }
    assert nvml.nvml_meter(UUID).state().throttled == ("hardware slowdown",)


def test_what_is_not_supported_is_none(library):
    library.figures = dict.fromkeys(library.figures)
    assert nvml.nvml_meter(UUID).state() == DeviceState()


@pytest.mark.parametrize(("processes", "others"), [([], 0), (["ours"], 0), (["ours", "theirs", "more"], 2)])
def test_one_process_is_ours(library, processes, others):
    library.figures["nvmlDeviceGetComputeRunningProcesses"] = processes
    assert nvml.nvml_meter(UUID).state().others == others


# All boards, for what they are set to


def test_boards_are_described_without_their_energy(library):
    library.figures |= {
        "nvmlDeviceGetName": "NVIDIA H100",
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetApplicationsClock": 1500,
        "nvmlDeviceGetDefaultApplicationsClock": None,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
    }
    library.millijoules = library.milliwatts = None
    assert nvml.nvml_boards() == (
        GpuReading(
            name="NVIDIA H100",
            clock_hz=1.98e9,
            max_clock_hz=1.98e9,
            application_clock_hz=1.5e9,
            throttled=("power cap",),
            tenants=1,
        ),
    )


def test_without_a_driver_no_board_is_described(library, monkeypatch):
    library.driver = False
    assert nvml.nvml_boards() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.nvml_boards() is None


# On a device of torch


@pytest.fixture
def accelerator(monkeypatch):
    torch = pytest.importorskip("torch")
    from pytest_infergate.devices.accelerator import Accelerator

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid=UUID))
    monkeypatch.setattr(torch.version, "hip", None)
    return Accelerator


@pytest.mark.torch
def test_a_device_of_torch_has_the_meter_of_its_own_board(library, accelerator):
    assert accelerator("cuda", 1).meter().joules() == 5.0
    assert library.asked == [f"GPU-{UUID}"]


@pytest.mark.torch
def test_other_devices_have_none(library, accelerator, monkeypatch):
    import torch

    assert accelerator("mps", 0).meter() is None
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert accelerator("cuda", 0).meter() is None
    assert library.asked == []


@pytest.mark.torch
def test_a_torch_that_tells_no_uuid_has_none(library, accelerator, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace())
    assert accelerator("cuda", 0).meter() is None


@pytest.mark.torch
@pytest.mark.gpu
def test_the_meter_of_a_real_board_moves_with_its_work():
    torch = pytest.importorskip("torch")
    pytest.importorskip("pynvml")
    if not torch.cuda.is_available() or torch.version.hip is not None:
        pytest.skip("torch sees no board of NVIDIA")
    from pytest_infergate.core.domain.call_times import latency_of
    from pytest_infergate.core.domain.energy import watts
    from pytest_infergate.devices.accelerator import AcceleratorKind
    from pytest_infergate.instruments.peak_rates import peaks
    from pytest_infergate.instruments.timed_calls import time_calls
    from pytest_infergate.measure.energy_window import EnergyWorkload, measured_energy

    device = AcceleratorKind("cuda").open("cuda")
    meter = device.meter()
    if meter is None:
        pytest.skip("the driver reports no energy")
    matrix = torch.randn(4096, 4096, device=device.torch_name)
    latency = latency_of(tuple(time_calls(lambda: matrix @ matrix, device, 20)))
    found = measured_energy(
        EnergyWorkload(lambda: matrix @ matrix, latency), device, 60, requested=True
    ).energy
    assert (found.source, found.scope) == ("nvml", "board")
    # The order of the figures, by what they mean: a board takes more while it works.
    assert watts(found) > found.idle_watts > 0
    assert meter.state().clock_hz > 0
    reached = peaks(device)
    assert reached.flops["float16"] > reached.flops["float32"] > 0
    assert reached.bandwidth > 0
