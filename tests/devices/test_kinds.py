"""Kinds of devices, as far as they need no torch."""

import pytest

from pytest_infergate.devices import accelerator
from pytest_infergate.devices.accelerator import AcceleratorKind, is_copy
from pytest_infergate.devices.cpu import Cpu, CpuKind
from pytest_infergate.devices.visibility import BackendStatus
from pytest_infergate.instruments.device import (
    Device,
    DeviceAbsentError,
    DeviceCounters,
    DeviceKind,
    DeviceMemory,
)
from pytest_infergate.testing import FakeDevice, FakeKind


@pytest.mark.parametrize("device", [Cpu(), FakeDevice(), FakeDevice(asynchronous=True)])
def test_devices_keep_to_the_protocol(device):
    assert isinstance(device, Device)


@pytest.mark.parametrize("kind", [CpuKind(), AcceleratorKind("cuda"), FakeKind()])
def test_kinds_keep_to_the_protocol(kind):
    assert isinstance(kind, DeviceKind)


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_is_always_there(name):
    cpu = CpuKind().open(name)
    assert (cpu.name, cpu.torch_name, cpu.asynchronous) == ("cpu", "cpu", False)
    assert CpuKind().found() == ("cpu",)


def test_there_is_no_second_cpu():
    with pytest.raises(DeviceAbsentError, match=r"^cpu:1 absent: "):
        CpuKind().open("cpu:1")


def test_a_cpu_never_waits():
    cpu = Cpu()
    assert cpu.synchronize() is None
    assert cpu.work(lambda: 1 // 0) is None
    assert cpu.release() is None
    assert cpu.clock() <= cpu.clock()
    assert cpu.hardware().accelerator is None


def test_what_is_not_known_is_none():
    assert DeviceMemory() == (None, None, None, None)
    assert DeviceCounters() == ({}, (), (), False, ())


@pytest.fixture
def sighted(monkeypatch):
    def see(**fields):
        status = BackendStatus(
            **{"label": "CUDA", "built": True, "devices": 0, "variable": "V", "visible": None, **fields}
        )
        monkeypatch.setattr(AcceleratorKind, "_status", lambda _: status)
        return AcceleratorKind("cuda")

    return see


def test_opening_what_is_absent_gives_the_reason(sighted):
    kind = sighted()
    assert kind.found() == ()
    with pytest.raises(DeviceAbsentError):
        kind.open("cuda")
    with pytest.raises(DeviceAbsentError, match=r"^cuda:7 absent: 2 "):
        sighted(devices=2).open("cuda:7")


def test_auto_finds_the_first_device(sighted):
    assert sighted(devices=2).found() == ("cuda",)


@pytest.mark.parametrize("name", ["cuda:x", "cuda:-1", "cuda: 1"])
def test_devices_have_numbers(sighted, name):
    with pytest.raises(DeviceAbsentError, match=rf"^{name} absent: .*cuda:0"):
        sighted(devices=2).open(name)


CLOSED = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.07  Sat Feb 17 22:55:48 UTC 2024
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (root@x)
GCC version:  gcc version 13.2.0
"""


@pytest.mark.parametrize(
    ("text", "major"),
    [
        (CLOSED, "535"),
        (OPEN, "570"),
        ("", None),
        ("NVRM version: unknown\n", None),
        (None, None),
    ],
)
def test_the_driver_s_major_version(tmp_path, monkeypatch, text, major):
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(accelerator, "_NVIDIA_VERSION", path)
    assert accelerator._driver_major() == major


@pytest.mark.parametrize(
    ("event", "copy"),
    [
        ("Memcpy HtoD (Pageable -> Device)", True),
        ("Memset (Device)", True),
        ("Memory Copy (Host -> Device)", True),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>", False),
        ("ampere_sgemm_128x64_tn", False),
        ("_my_memcpy_like_triton_kernel", False),
    ],
)
def test_a_copy_is_no_kernel(event, copy):
    assert is_copy(event) is copy


class Backend:
    """As ``torch.cuda`` counts."""

    def __init__(self, available, count, warning=None):
        self.available, self.count, self.warning = available, count, warning

    def is_available(self):
        if self.warning:
            import warnings

            warnings.warn(self.warning, stacklevel=1)
        return self.available

    def device_count(self):
        return self.count


@pytest.mark.parametrize(
    ("backend", "counted"),
    [
        (Backend(True, 2), (2, None)),
        (Backend(False, 0), (0, None)),
        (Backend(True, 1, "by the way"), (1, None)),
        # NVML counts devices that the driver is too old for.
        (
            Backend(
                False,
                1,
                "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). "
                "(Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:109.)",
            ),
            (0, "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."),
        ),
    ],
)
def test_devices_that_cannot_be_used_are_not_counted(backend, counted):
    assert accelerator._counted(backend) == counted
