"""Accelerators as torch without one shows them, and as a made-up one would be used."""

import types

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from pytest_infergate.devices.accelerator import Accelerator, AcceleratorKind
    from pytest_infergate.devices.visibility import BackendStatus, absence_reason
    from pytest_infergate.instruments.device import Device, DeviceAbsentError, DeviceWork


@pytest.mark.parametrize(("kind", "label"), [("cuda", "CUDA"), ("xpu", "XPU"), ("mps", "MPS")])
def test_a_torch_that_was_built_without_it(kind, label):
    built = {
        "cuda": torch.version.cuda or torch.version.hip,
        "xpu": getattr(torch.version, "xpu", None),
        "mps": torch.backends.mps.is_built(),
    }
    if built[kind]:
        pytest.skip(f"this torch was built with {label}")
    with pytest.raises(DeviceAbsentError, match=f"^torch built without {label}$"):
        AcceleratorKind(kind).open(kind)
    assert AcceleratorKind(kind).found() == ()


@pytest.fixture
def backend(monkeypatch):
    """A torch built for CUDA that sees so many devices."""

    def see(count, variable=None, value=None, hip=None):
        monkeypatch.setattr(torch.version, "cuda", None if hip else "13.0")
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        if variable is not None:
            monkeypatch.setenv(variable, value)
        return AcceleratorKind("cuda")

    return see


def test_the_reason_is_read_from_torch_and_the_environment(backend):
    cuda, hip = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
    for seen, name, status in (
        ((0,), "cuda", (0, cuda, None)),
        ((0, cuda, ""), "cuda", (0, cuda, "")),
        ((1, cuda, "0"), "cuda:1", (1, cuda, "0")),
        ((0, hip, "", "7.0"), "cuda", (0, hip, "")),
        ((0, cuda, "", "7.0"), "cuda", (0, cuda, "")),
        ((0, hip, ""), "cuda", (0, cuda, None)),
        ((2,), "cuda:99", (2, cuda, None)),
    ):
        devices, variable, visible = status
        expected = BackendStatus("CUDA", built=True, devices=devices, variable=variable, visible=visible)
        with pytest.raises(DeviceAbsentError) as caught:
            backend(*seen).open(name)
        assert str(caught.value) == absence_reason("cuda", int(name[5:] or 0), expected), seen


@pytest.fixture
def synchronized(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.accelerator, "synchronize", calls.append)
    return calls


def test_an_open_device_has_its_number(backend, synchronized):
    first, second = backend(2).open("cuda"), backend(2).open("cuda:1")
    assert (first.name, first.torch_name) == ("cuda", "cuda:0")
    assert (second.name, second.torch_name) == ("cuda:1", "cuda:1")
    assert first.asynchronous
    assert isinstance(first, Device)
    second.synchronize()
    assert synchronized == [1]


def test_memory_that_nobody_reports_is_a_note(synchronized, monkeypatch):
    def refuse(*_):
        raise RuntimeError("Allocator for mps is not a DeviceAllocator.")

    monkeypatch.setattr(torch.accelerator.memory, "empty_cache", refuse)
    memory = Accelerator("mps", 0).memory(lambda: pytest.fail("it need not be called"))
    assert (memory.activations, memory.reserved) == (None, None)
    assert memory.note.code == "memory-unseen"
    assert "Allocator for mps is not a DeviceAllocator." in memory.note.text


def test_memory_is_the_peak_above_the_start(synchronized, monkeypatch):
    log = []
    asked = iter((7, 12))
    fake = {
        "empty_cache": lambda *_: log.append("empty"),
        "reset_peak_memory_stats": lambda _: log.append("reset"),
        "memory_allocated": lambda _: 100,
        "max_memory_allocated": lambda _: 350,
        "max_memory_reserved": lambda _: 1000,
        "memory_stats": lambda _: {"allocation.all.allocated": next(asked)},
    }
    for name, function in fake.items():
        monkeypatch.setattr(torch.accelerator.memory, name, function)
    memory = Accelerator("cuda", 0).memory(lambda: log.append("call"))
    assert memory == (250, 1000, 5, None)
    assert log == ["empty", "reset", "call"]


def event(name, microseconds, where="CUDA", *, annotation=False):
    from torch.autograd.profiler import DeviceType

    return types.SimpleNamespace(
        name=name,
        device_type=getattr(DeviceType, where),
        is_user_annotation=annotation,
        time_range=types.SimpleNamespace(elapsed_us=lambda: microseconds),
    )


@pytest.fixture
def profiled(monkeypatch, synchronized):
    """Let the profiler see these events."""

    def see(*events):
        class Profile:
            def __init__(self, **_):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def events(self):
                return events

        monkeypatch.setattr(torch.profiler, "profile", Profile)
        return Accelerator("cuda", 0)._profiled(lambda: None)

    return see


def test_kernels_are_what_ran_on_the_device(profiled):
    work = profiled(
        event("aten::mm", 900, "CPU"),
        event("sgemm", 300),
        event("forward", 999, annotation=True),
        event("Memcpy HtoD (Pageable -> Device)", 200),
    )
    assert work.kernels == 1
    assert work.seconds == pytest.approx(500e-6)


def test_copies_alone_are_no_work(profiled):
    work = profiled(event("Memcpy DtoH (Device -> Pinned)", 10), event("Memset (Device)", 1))
    assert (work.kernels, work.copies) == (0, 2)


def test_the_host_waiting_for_the_device_is_counted(profiled):
    work = profiled(
        event("cudaStreamSynchronize", 5, "CPU"),
        event("cudaDeviceSynchronize", 5, "CPU"),
        event("sgemm", 300),
    )
    assert (work.kernels, work.synchronisations) == (1, 2)


def test_our_own_waiting_is_not_the_model_s(monkeypatch, synchronized):
    seen = iter((DeviceWork(1, 1e-6, 0, 1), DeviceWork(5, 1e-3, 2, 4)))
    monkeypatch.setattr(Accelerator, "_profiled", lambda *_: next(seen))
    monkeypatch.setattr(torch, "ones", lambda *_, **__: 1)
    assert Accelerator("cuda", 0).work(lambda: None) == (5, 1e-3, 2, 3)


def test_an_architecture_is_what_kernels_are_built_for(monkeypatch):
    properties = types.SimpleNamespace(gcnArchName="gfx942:sramecc+:xnack-")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    assert Accelerator("cuda", 0).architecture() == "sm_90"
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert Accelerator("cuda", 0).architecture() == "gfx942"


def test_operators_are_counted_by_the_dispatcher():
    assert Accelerator("cuda", 0).count(lambda: torch.ones(2) + 1).totals["operators"] == 2


def test_a_backend_without_a_profiler_sees_nothing(synchronized):
    assert Accelerator("mps", 0)._profiled(lambda: pytest.fail("it need not be called")) == (0, 0.0, 0, 0)


def test_releasing_empties_the_cache(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.accelerator.memory, "empty_cache", lambda: emptied.append(1))
    Accelerator("cuda", 0).release()
    assert emptied == [1]


def test_a_board_is_known_by_its_uuid_among_all_of_the_machine(monkeypatch, tmp_path):
    properties = types.SimpleNamespace(uuid="5a8e")
    name = "NVIDIA H200"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr("pytest_infergate.devices.accelerator._NVIDIA_BOARDS", tmp_path)
    for bus in ("0000:01:00.0", "0000:41:00.0"):
        (tmp_path / bus).mkdir()
    assert Accelerator("cuda", 0).board() == ("5a8e", 2)
    assert Accelerator("xpu", 0).board() is None
    name = "NVIDIA H200 MIG 1g.18gb"  # others may use the rest of the board
    assert Accelerator("cuda", 0).board() is None
    name = "NVIDIA H200"
    monkeypatch.setattr("pytest_infergate.devices.accelerator._NVIDIA_BOARDS", tmp_path / "none")
    assert Accelerator("cuda", 0).board() is None
