"""A real accelerator, where there is one."""

import gc

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="torch sees no accelerator"),
]

if True:  # after the skip
    from torch import nn

    from pytest_infergate.devices.accelerator import AcceleratorKind
    from pytest_infergate.instruments.device import DeviceAbsentError
    from pytest_infergate.measure import timing_guard
    from pytest_infergate.measure.case import Effort, Subject, measure
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.memory import is_out_of_memory
    from pytest_infergate.measure.output_checks import unsound_output_note
    from pytest_infergate.measure.placement import placed


@pytest.fixture(scope="module")
def kind():
    return torch.accelerator.current_accelerator().type


@pytest.fixture
def device(kind):
    yield AcceleratorKind(kind).open(kind)
    gc.collect()
    torch.accelerator.empty_cache()


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)


@pytest.fixture
def product(device):
    """A product that takes much longer than its launch."""
    matrix = torch.ones(8192, 8192, device=device.torch_name)
    return lambda: matrix @ matrix


def test_a_device_that_is_there(device, kind):
    assert (device.name, device.torch_name, device.asynchronous) == (kind, f"{kind}:0", True)
    hardware = device.hardware()
    assert hardware.accelerator
    assert hardware.accelerator_count >= 1
    assert AcceleratorKind(kind).found() == (kind,)


def test_a_device_that_is_not(kind):
    if kind == "mps":
        pytest.skip("there is one mps device, without a number")
    with pytest.raises(DeviceAbsentError, match=rf"^{kind}:99 (absent|hidden): "):
        AcceleratorKind(kind).open(f"{kind}:99")


def test_a_call_returns_before_its_work_is_done(device, product):
    run = measure(Subject(product), device, Effort(2))
    measurement = run.measurement
    assert run.invalid is None
    # The order of the figures, by what they mean: no limit on any of them.
    assert measurement.enqueue < measurement.latency.p50.value
    assert set(measurement.reference_work) == {"compute", "copy", "dispatch"}


def test_work_sees_the_kernels(device, product):
    work = device.work(product)
    if work is None:
        pytest.skip("no profiler sees this device's kernels")
    assert work.kernels >= 1
    assert work.seconds > 0


def test_a_call_that_stays_on_the_host_launches_no_kernel(device):
    work = device.work(lambda: torch.ones(8) + 1)
    if work is None:
        pytest.skip("no profiler sees this device's kernels")
    assert work.kernels == 0


def test_a_copy_to_the_device_is_no_kernel(device):
    host = torch.ones(1 << 20)
    work = device.work(lambda: host.to(device.torch_name))
    if work is None:
        pytest.skip("no profiler sees this device's kernels")
    assert work.kernels == 0


def test_the_peak_of_a_known_allocation(device):
    size = 64 << 20

    def call():
        first = torch.empty(size, dtype=torch.uint8, device=device.torch_name)
        del first
        torch.empty(2 * size, dtype=torch.uint8, device=device.torch_name)

    peaks = [device.memory(call) for _ in range(3)]
    if peaks[0].note is not None:
        pytest.skip(str(peaks[0].note))
    assert {peak.activations for peak in peaks} == {2 * size}
    assert all(peak.reserved >= 2 * size for peak in peaks)


def test_what_earlier_cases_cached_is_not_reserved_by_this_one(device):
    big = torch.empty(1 << 30, dtype=torch.uint8, device=device.torch_name)
    del big
    memory = device.memory(lambda: torch.empty(1 << 20, dtype=torch.uint8, device=device.torch_name))
    if memory.note is not None:
        pytest.skip(str(memory.note))
    assert memory.reserved < 1 << 30


def test_running_out_of_memory_is_recognised_and_released(device):
    before = torch.accelerator.memory_allocated()
    with pytest.raises(RuntimeError) as caught:
        [torch.empty(1 << 40, dtype=torch.uint8, device=device.torch_name) for _ in range(8)]
    assert is_out_of_memory(caught.value)
    del caught
    gc.collect()
    device.release()
    assert torch.accelerator.memory_allocated() == before


def test_a_module_is_left_where_it_was_found(device):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LSTM(4, 4)).train()
    model[0](torch.ones(2, 4)).sum().backward()
    where = [(id(p), p.data_ptr(), p.device) for p in (*model.parameters(), *model.buffers())]
    with placed(Invocation(model, (torch.ones(2, 4),)), device.torch_name) as ready:
        output = ready.call()
        assert unsound_output_note(output, output, device.torch_name) is None
        assert ready.from_host()[0].device.type == "cpu"
    assert [(id(p), p.data_ptr(), p.device) for p in (*model.parameters(), *model.buffers())] == where
    assert model[0].weight.grad.device.type == "cpu"
    assert model.training


def test_packed_sequences_reach_the_device(device):
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
    with placed(Invocation(nn.LSTM(4, 4), (packed,)), device.torch_name) as ready:
        output = ready.call()
    assert unsound_output_note(output, output, device.torch_name) is None
    assert output[0].data.device.type == torch.device(device.torch_name).type


def test_operators_and_copies_are_counted(device):
    x = torch.ones(64, 64, device=device.torch_name)
    seen = device.count(lambda: (x @ x).cpu().to(device.torch_name))
    assert seen.totals["flops"] == 2 * 64**3
    assert seen.totals["host_device_copies"] == 2
    assert device.count(lambda: x.sum().item()).totals["host_device_copies"] == 1
    assert device.count(lambda: x.to(x.device)).totals.get("host_device_copies", 0) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_recurrent_layer_multiplies_as_on_the_cpu(device, kind, dtype):
    if kind != "cuda":
        pytest.skip("no formula is known for the recurrent layers of others")
    model = nn.LSTM(16, 32, 2, bidirectional=True).eval().to(device.torch_name, dtype)
    x = torch.ones(5, 3, 16, device=device.torch_name, dtype=dtype)
    with torch.inference_mode():
        figure = device.count(lambda: model(x)).totals["flops"]
    assert figure == 2 * 5 * 3 * 2 * 4 * 32 * ((16 + 32) + (2 * 32 + 32))


def test_a_module_is_measured_from_end_to_end(device):
    model = nn.Linear(64, 64)
    with placed(Invocation(model, (torch.ones(8, 64),)), device.torch_name) as ready:
        run = measure(Subject(ready.call, ready.from_host, 8, ready.weights), device, Effort(1))
    assert run.invalid is None
    assert run.output.device.type == torch.device(device.torch_name).type
    assert run.measurement.host_to_host is not None
    assert run.measurement.enqueue is not None
    assert run.measurement.page_faults is None
    assert run.measurement.counters.totals["flops"] == 2 * 8 * 64 * 64
    assert model.weight.device.type == "cpu"
