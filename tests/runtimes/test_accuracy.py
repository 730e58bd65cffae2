"""The user's function of accuracy: what it is given, and what it may return."""

import contextlib
import functools
import math

import msgspec
import pytest
from core_values import measurement

from pytest_infergate.core.domain.measurement import Accuracy
from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import CaseTimeoutError, ConversionError
from pytest_infergate.measure import timing_guard
from pytest_infergate.measure.call_limit import CallLimit
from pytest_infergate.measure.case import Effort
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.runtimes.accuracy import AccuracyError, AccuracyPlan, CaseModel, function_name, scored
from pytest_infergate.runtimes.eager import MeasuringPlan, measure_invocation
from pytest_infergate.testing import FakeDevice

CASE = Case(test="t.py::test_a", device="fake", batch_size=4)


def unwatched(_passed):
    return contextlib.nullcontext()


def doubled(x):
    return 2 * x


def three(model):
    return model(1.5)


def test_a_function_calls_the_model_and_knows_its_batch_size():
    model = CaseModel(CASE, doubled)
    assert scored(three, model, unwatched) == 3.0
    assert (model.batch_size, model.calls) == (4, 1)


def test_a_case_has_the_figure_and_its_tolerance(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)  # coverage is one
    plan = MeasuringPlan(accuracy=AccuracyPlan(three, 0.25, unwatched))
    found = measure_invocation(CASE, FakeDevice(), Effort(0.1), Invocation(doubled, (1.0,)), plan).measurement
    assert found.accuracy == Accuracy(name="three", value=3.0, reference=None, tolerance=0.25)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.9", True, [0.9]])
def test_only_a_finite_number_is_a_figure(value):
    def given(_model):
        return value

    message = r"^accuracy=given must return a finite number, where more is better"
    with pytest.raises(AccuracyError, match=message):
        scored(given, CaseModel(CASE, doubled), unwatched)


def test_an_error_of_the_function_is_passed_on():
    with pytest.raises(ZeroDivisionError):
        scored(lambda _: 1 / 0, CaseModel(CASE, doubled), unwatched)


def test_a_function_that_never_returns_is_ended():
    limit = CallLimit(0.05, lambda _: None)

    def endless(_model):
        while True:
            pass

    with pytest.raises(CaseTimeoutError):
        scored(endless, CaseModel(CASE, doubled), limit.watching)


def test_a_call_that_an_engine_refuses_is_no_failed_conversion():
    def refusing(_x):
        raise ConversionError("the call failed: ValueError: no")

    with pytest.raises(AccuracyError, match=r"^eager: the call failed: ValueError: no$"):
        scored(three, CaseModel(CASE, refusing), unwatched)


def test_names_of_functions():
    assert function_name(functools.partial(three)) == "three"
    assert function_name(Metric()) == "Metric"


class Metric:
    def __call__(self, model):
        return 0.0


@pytest.mark.torch
def test_inputs_are_cast_and_outputs_are_plain():
    torch = pytest.importorskip("torch")
    case = msgspec.structs.replace(CASE, device="cpu", dtype="bfloat16")
    seen = []

    def half(x, *, rows):
        seen.append((x.dtype, rows.dtype))
        return {"y": x}

    output = CaseModel(case, half)(torch.ones(2), rows=torch.ones(2, dtype=torch.int64))
    assert seen == [(torch.bfloat16, torch.int64)]
    assert output["y"].tolist() == [1.0, 1.0]
    assert scored(lambda _: torch.tensor([0.5]), CaseModel(case, half), unwatched) == 0.5


@pytest.mark.torch
def test_a_converted_model_takes_the_shapes_it_was_converted_for():
    torch = pytest.importorskip("torch")
    fixed = Invocation(doubled, (torch.ones(4, 2),))
    case = msgspec.structs.replace(CASE, device="cpu", runtime="onnxruntime")
    model = CaseModel(case, doubled, lambda flat: {"y": flat}, fixed=fixed)
    assert model(torch.ones(4, 2))["y"].shape == (4, 2)
    with pytest.raises(AccuracyError, match=r"shapes \(4, 2\), .* got \(3, 2\)\. Hint: .*model\.batch_size"):
        model(torch.ones(3, 2))


@pytest.mark.torch
def test_the_reference_is_the_model_of_the_test_on_the_cpu_in_its_own_dtype():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.001)
    x = torch.ones(1, 1)
    plan = AccuracyPlan(lambda model: model(x), 0.0, unwatched)
    case = Case(test="t.py::test_a", device="cpu", dtype="bfloat16")
    invocation = Invocation(layer, (x,))
    here = plan.scored(CaseModel(case, torch.nn.Identity()), measurement())
    found = plan.beside_reference(case, invocation, here).accuracy
    assert found.reference == pytest.approx(1.001)

    def needs_its_device(_model):
        raise RuntimeError("no kernel for the CPU\nand more")

    other = plan._replace(function=needs_its_device).beside_reference(case, invocation, here)
    assert other.accuracy.reference is None
    assert [note.code for note in other.notes] == ["outputs-not-compared"]
    assert "RuntimeError: no kernel for the CPU" in other.notes[0].text
