"""Outputs of plain callables, in a process that may have no torch."""

import io
import subprocess
import sys
import time

import msgspec
import pytest
from core_values import measurement

from pytest_infergate.core.domain.values import Case
from pytest_infergate.devices.cpu import Cpu
from pytest_infergate.errors import ConversionError
from pytest_infergate.measure import timing_guard
from pytest_infergate.measure.call_limit import CallLimit
from pytest_infergate.measure.case import Effort
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.runtimes.eager import (
    MeasuringPlan,
    comparison_with_reference,
    measure_invocation,
    run_once,
    torch_threads,
)
from pytest_infergate.testing import FakeDevice

CASE = Case(test="t.py::test_a", device="fake")


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)  # coverage is one
    return FakeDevice()


def reusing(results, device=None):
    """A callable that returns one list, with other contents in each call."""

    def call():
        if device is not None:
            device.spend(0.003)
        results.append(float(len(results)))
        return results

    return Invocation(call, (), {})


def streaming():
    buffer = [0]
    for item in range(3):
        buffer[0] = item
        yield buffer


def test_an_output_does_not_change_with_later_calls(device):
    results = []
    once = run_once(CASE, reusing(results))
    results.clear()
    assert once == [0.0]
    measured = measure_invocation(CASE, device, Effort(0.1), reusing(results, device))
    assert measured.output == [0.0]
    assert len(results) > 2


def test_the_items_of_a_stream_are_those_that_were_yielded():
    assert run_once(CASE, Invocation(streaming, (), {})) == [[0], [1], [2]]


def test_nan_is_seen_without_torch():
    code = (
        "import sys; from pytest_infergate.core.domain.values import Case;"
        "from pytest_infergate.measure import timing_guard;"
        "from pytest_infergate.measure.case import Effort;"
        "from pytest_infergate.measure.invocation import Invocation;"
        "from pytest_infergate.runtimes.eager import measure_invocation;"
        "from pytest_infergate.testing import FakeDevice;"
        "timing_guard.tracer_note = lambda: None;"
        "device = FakeDevice();"
        "case = Case(test='t.py::test_a', device='fake');"
        "call = lambda: (device.spend(0.003), {'a': [float('nan')]})[1];"
        "invalid = measure_invocation(case, device, Effort(0.1), Invocation(call, (), {})).invalid;"
        "assert invalid.code == 'nan-output', invalid;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.torch
def test_copies_of_the_output_are_no_work_of_the_first_call(device):
    torch = pytest.importorskip("torch")

    def call(x):
        device.spend(0.01)
        return x.unbind()

    measured = measure_invocation(CASE, device, Effort(1), Invocation(call, (torch.ones(200, 2),)))
    assert measured.invalid is None
    assert len(measured.output) == 200


def test_what_follows_gets_the_call_and_the_figures_of_a_valid_case(device):
    def further(call, inputs, measurement):
        seen.append((call.args, inputs, measurement.latency.p50.value))
        return msgspec.structs.replace(measurement, throughput=7.0)

    seen = []

    def call(x):
        device.spend(0.003)
        return x

    measured = measure_invocation(
        CASE, device, Effort(0.1), Invocation(call, (4,)), plan=MeasuringPlan(further=further)
    )
    assert measured.measurement.throughput == 7.0
    ((args, _, p50),) = seen
    assert (args, p50) == ((4,), pytest.approx(0.003))
    invalid = Invocation(lambda _: device.spend(0.003) or float("nan"), (4,))
    measure_invocation(CASE, device, Effort(0.1), invalid, plan=MeasuringPlan(further=further))
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "channels_last", "bfloat16:channels_last"])
def test_a_dtype_that_nothing_applies_is_no_case(device, dtype):
    case = msgspec.structs.replace(CASE, dtype=dtype)
    call = Invocation(lambda: device.spend(0.003))
    with pytest.raises(ConversionError, match="a dtype is applied to a module, got another callable"):
        measure_invocation(case, device, Effort(0.1), call)
    known = call._replace(own_dtype=True)  # by the test, which may build what it passes in this dtype
    if dtype == "bfloat16":
        assert measure_invocation(case, device, Effort(0.1), known).measurement is not None
    else:
        with pytest.raises(ConversionError):
            measure_invocation(case, device, Effort(0.1), known)


@pytest.mark.torch
@pytest.mark.parametrize("plain", [True, False])
def test_state_that_is_not_restored_is_noted(device, plain):
    torch = pytest.importorskip("torch")
    device.torch_name = "cpu"

    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, x):
            device.spend(0.003)
            self.calls += 1
            return x + 1

    model = Counting()
    target = (lambda x: model(x) * 2) if plain else model
    found = measure_invocation(CASE, device, Effort(1), Invocation(target, (torch.ones(1),))).measurement
    (note,) = [note for note in found.notes if note.code == "state-advances"]
    assert ("make what is called in each test" in note.hint) is plain
    assert (model.calls > 0) is plain


@pytest.mark.torch
def test_autocast_is_part_of_the_calls_of_any_callable():
    torch = pytest.importorskip("torch")
    case = msgspec.structs.replace(CASE, device="cpu", dtype="autocast:bfloat16")
    weights = torch.ones(4, 4)
    call = Invocation(lambda x: x @ weights, (torch.ones(4, 4),))
    assert measure_invocation(case, Cpu(), Effort(0.01), call).output.dtype is torch.bfloat16


@pytest.mark.torch
def test_a_plain_run_has_the_dtype_and_the_threads_of_its_case():
    torch = pytest.importorskip("torch")
    case = msgspec.structs.replace(CASE, dtype="bfloat16", threads=1)

    class Net(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x), torch.get_num_threads()

    output, threads = run_once(case, Invocation(Net(4, 2), (torch.ones(1, 4),), {}))
    assert (output.dtype, threads) == (torch.bfloat16, 1)


@pytest.mark.torch
def test_threads_that_a_model_sets_are_noted_and_restored(device):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()

    class Detector(torch.nn.Linear):
        def forward(self, x):
            torch.set_num_threads(before + 1)
            return super().forward(x)

    invocation = Invocation(Detector(4, 2), (torch.ones(1, 4),), {})
    with torch_threads(None):
        measured = measure_invocation(CASE, device, Effort(0.1), invocation)
    assert "torch-state" in [note.code for note in measured.measurement.notes]
    assert torch.get_num_threads() == before
    run_once(CASE, invocation)
    assert torch.get_num_threads() == before


def test_a_file_is_an_output_and_no_stream():
    def speech():
        file = io.BytesIO()
        file.write(b"wave\n")
        return file

    assert run_once(CASE, Invocation(speech, (), {})).getvalue() == b"wave\n"
    measured = measure_invocation(CASE, FakeDevice(), Effort(0.1), Invocation(speech, (), {}))
    assert measured.output.getvalue() == b"wave\n"


def test_a_reference_that_never_returns_is_not_compared():
    limit = CallLimit(0.05, lambda _: None)
    slow = Invocation(time.sleep, (60,), {})
    compared = comparison_with_reference(CASE, slow, None, limit.watching)
    (note,) = compared(None, measurement()).notes
    assert note.code == "outputs-not-compared"
    assert "CaseTimeoutError" in note.text
