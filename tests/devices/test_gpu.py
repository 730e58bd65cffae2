"""A real accelerator, where there is one: a GPU, or with ``-p mojo_device`` a device that runs on the CPU.

What a device lacks, such as an operator or statistics of its memory, is the reason of a skip.
"""

import gc
import os
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
from inner_results import verdicts

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
    from pytest_infergate.instruments.reference_work import FAST_KINDS
    from pytest_infergate.instruments.timed_calls import time_calls
    from pytest_infergate.measure import timing_guard
    from pytest_infergate.measure.case import Effort, Subject, measure
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.known_work import unwaited_note
    from pytest_infergate.measure.memory import is_out_of_memory
    from pytest_infergate.measure.output_checks import unsound_output_note
    from pytest_infergate.measure.placement import placed


@pytest.fixture(scope="module")
def kind():
    return torch.accelerator.current_accelerator().type


@pytest.fixture
def device(kind):
    found = AcceleratorKind(kind).open(kind)
    yield found
    gc.collect()
    found.release()


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)


@pytest.fixture
def product(device, kind):
    """A product that takes much longer than its launch; its kernel is compiled."""
    side = 8192 if kind in FAST_KINDS else 1024
    matrix = torch.ones(side, side, device=device.torch_name)
    time_calls(lambda: matrix @ matrix, device, 1)
    return lambda: matrix @ matrix


@contextmanager
def supported():
    """Skip where the device lacks an operator."""
    try:
        yield
    except NotImplementedError as error:
        pytest.skip(str(error).partition(". ")[0])


def on_device(kind):
    """The number of tensors on the device that are alive."""
    gc.collect()
    tensors = []
    for value in gc.get_objects():
        with suppress(Exception):
            tensors += [value.device.type == kind] if isinstance(value, torch.Tensor) else []
    return sum(tensors)


def test_a_device_that_is_there(device, kind):
    assert (device.name, device.torch_name, device.asynchronous) == (kind, f"{kind}:0", True)
    hardware = device.hardware()
    assert hardware.accelerator
    assert hardware.accelerator_count >= 1
    assert AcceleratorKind(kind).found() == (kind,)


@pytest.mark.parametrize("beyond", [0, 99])
def test_a_device_that_is_not(kind, beyond):
    if kind == "mps":
        pytest.skip("there is one mps device, without a number")
    number = torch.accelerator.device_count() + beyond
    with pytest.raises(DeviceAbsentError, match=rf"^{kind}:{number} (absent|hidden): "):
        AcceleratorKind(kind).open(f"{kind}:{number}")


def test_a_call_returns_before_its_work_is_done(device, kind, product):
    run = measure(Subject(product), device, Effort(20))
    measurement = run.measurement
    assert run.invalid is None
    # The order of the figures, by what they mean: no limit on any of them.
    # What runs on the CPU may be done when the call returns.
    latency = measurement.latency.p50 if kind in FAST_KINDS else measurement.latency.p99
    assert measurement.enqueue < latency.value
    if measurement.device_time is not None:
        # The profiler adds to a kernel of milliseconds less than this.
        assert measurement.enqueue < measurement.device_time < 1.1 * measurement.latency.p50.value
    assert set(measurement.reference_work) == {"compute", "copy", "dispatch"}


@pytest.mark.parametrize("waits", [True, False])
def test_a_synchronisation_that_does_not_wait_is_noticed(device, kind, waits):
    if not waits:
        if kind not in FAST_KINDS:
            pytest.skip("work on a CPU may be done when it is issued")
        device.synchronize = lambda: None
    assert (unwaited_note(device) is None) is waits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_outputs_are_those_of_the_cpu_within_the_tolerance_of_the_dtype(device, kind, dtype):
    if dtype is not torch.float32 and kind not in FAST_KINDS:
        pytest.skip("compiling kernels of other dtypes takes minutes")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).to(dtype).eval()
    x = torch.randn(16, 64).to(dtype)
    with supported(), placed(Invocation(model, (x,)), device.torch_name) as ready, torch.inference_mode():
        output = ready.call().cpu()
    with torch.inference_mode():
        torch.testing.assert_close(output, model(x), rtol=2e-2, atol=2e-2)


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


def test_running_out_of_memory_is_recognised_and_released(device, kind):
    try:
        before = torch.accelerator.memory_allocated()
    except RuntimeError as error:
        pytest.skip(str(error))
    with pytest.raises(RuntimeError) as caught:
        [torch.empty(1 << 40, dtype=torch.uint8, device=device.torch_name) for _ in range(8)]
    assert is_out_of_memory(caught.value)
    del caught
    gc.collect()
    device.release()
    assert torch.accelerator.memory_allocated() == before


def test_a_module_and_the_memory_are_left_as_they_were_found(device, kind):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()).train()
    model[0](torch.ones(2, 4)).sum().backward()
    where = [(id(p), p.data_ptr(), p.device) for p in (*model.parameters(), *model.buffers())]
    for _ in range(2):
        before = on_device(kind)  # in the second round, what the first call initialises for good is there
        with supported(), placed(Invocation(model, (torch.ones(2, 4),)), device.torch_name) as ready:
            run = measure(Subject(ready.call, ready.from_host), device, Effort(1))
            assert unsound_output_note(run.output, run.output, device.torch_name) is None
            assert ready.from_host().device.type == "cpu"
        del run, ready
    assert on_device(kind) == before
    assert [(id(p), p.data_ptr(), p.device) for p in (*model.parameters(), *model.buffers())] == where
    assert model[0].weight.grad.device.type == "cpu"
    assert model.training


def test_packed_sequences_reach_the_device(device):
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
    with supported(), placed(Invocation(nn.LSTM(4, 4), (packed,)), device.torch_name) as ready:
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
        ready.call()  # compiles kernels
        run = measure(Subject(ready.call, ready.from_host, 8, ready.weights), device, Effort(20))
    assert run.invalid is None
    assert run.output.device.type == torch.device(device.torch_name).type
    assert run.measurement.host_to_host is not None
    assert run.measurement.enqueue is not None
    assert run.measurement.page_faults is None
    assert run.measurement.counters.totals["flops"] == 2 * 8 * 64 * 64
    assert model.weight.device.type == "cpu"


# Whole runs

CONFTEST = """
import pytest

from pytest_infergate.devices.accelerator import AcceleratorKind

DRIVER = {"alive": True}


class Card:
    kind = "card"

    def open(self, name):
        device = AcceleratorKind("KIND").open("KIND")
        device.name, wait = name, device.synchronize

        def synchronize():
            if not DRIVER["alive"]:
                raise RuntimeError("the driver has gone")
            wait()

        device.synchronize = synchronize
        return device

    def found(self):
        return ()


@pytest.fixture
def driver():
    return DRIVER


def pytest_infergate_devices(config):
    return [Card()]
"""
CASES = """
import pytest
import torch

pytestmark = pytest.mark.inference


def network():
    return torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU())


def test_first(infer):
    infer(network(), torch.ones(4, 16))


def test_too_large(infer):
    def call():
        reserved = [torch.empty(1 << 40, dtype=torch.uint8, device="KIND") for _ in range(8)]
        raise RuntimeError(f"out of memory, as {len(reserved)} TiB would be if they were written to")

    infer(call)


def test_after_it(infer):
    infer(network(), torch.ones(4, 16))


def test_breaks(infer):
    calls = []

    class Weak(torch.nn.Module):
        def forward(self, x):
            calls.append(1)
            if len(calls) > 20:
                raise RuntimeError("device-side assert triggered")
            return x + 1

    infer(Weak(), torch.ones(4, 16))


def test_after_that(infer):
    infer(network(), torch.ones(4, 16))


def test_driver_dies(infer, driver):
    def call():
        output = torch.ones(4, device="KIND") + 1
        driver["alive"] = False
        return output

    infer(call)


def test_last(infer):
    infer(network(), torch.ones(4, 16))
"""


def test_a_case_that_fails_leaves_those_after_it_alone_until_the_driver_is_gone(project, pytester, kind):
    pytester.makeconftest(CONFTEST.replace("KIND", kind))
    pytester.makepyfile(test_it=CASES.replace("KIND", kind))
    arguments = ("--infer-devices=card", "--infer-max-time=5", "--infer-json=results.json", "-rs")
    result = project.run(*arguments)
    result.assert_outcomes(passed=3, failed=2, skipped=2)
    result.stdout.fnmatch_lines(["*RuntimeError: device-side assert triggered*", "*the driver has gone*"])
    result.stdout.fnmatch_lines(["SKIPPED*out of memory*"])
    result.stdout.fnmatch_lines(["SKIPPED*card does not work: RuntimeError: the driver has gone*"])
    measured = {
        name for name, one in verdicts(pytester.path / "results.json").items() if one.verdict == "no-baseline"
    }
    assert measured == {"first[card]", "after_it[card]", "after_that[card]"}


def test_an_empty_list_of_visible_devices_is_the_reason_why_one_is_absent(kind):
    if kind != "cuda":
        pytest.skip("CUDA_VISIBLE_DEVICES is about cuda")
    program = "from pytest_infergate.devices.accelerator import AcceleratorKind as K; K('cuda').open('cuda')"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert "DeviceAbsentError: cuda hidden: CUDA_VISIBLE_DEVICES is empty" in done.stderr
