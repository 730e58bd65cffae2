"""What a paired run asks for of its launches, and what it does with signals and with the times of its blocks."""

import signal
from pathlib import Path

import msgspec
import pytest

from pytest_infergate.config.case_terms import case_terms
from pytest_infergate.config.marker import Marker
from pytest_infergate.config.settings import parse_settings
from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.core.domain.values import Case
from pytest_infergate.outputs.value_differences import PAIRED
from pytest_infergate.paired.compare_run import (
    answer_timeout,
    interruptible,
    trial_spec,
    worker_variables,
    write_paired_data,
)
from pytest_infergate.paired.launches import LaunchesResult
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.trial import Trial
from pytest_infergate.paired.worker_process import ANSWER_TIMEOUT_SECONDS, MALLOC, THREADS
from pytest_infergate.runtimes.conversion import MAX_SECONDS
from pytest_infergate.storage.paired_data import read_paired_data

CASE = Case(test="t.py::test_a", device="cpu")


def selected(folder, marker=None, **command):
    """A case of a run against main."""
    settings = parse_settings(
        {"against": "main", **command}, {}, rootdir=folder, invocation_dir=folder, kinds=("cpu",)
    )
    return SelectedCase(
        "t.py::test_a[cpu]", Path("t.py"), CASE, case_terms(settings, marker or Marker(), CASE.test)
    )


@pytest.mark.parametrize(
    ("parity", "tolerance", "compared"),
    [(None, None, True), (False, None, False), (0.05, 0.05, True), (0, 0.0, True)],
)
def test_parity_reaches_the_launches(tmp_path, parity, tolerance, compared):
    """0 asks for equal outputs, which is not what the dtype allows."""
    found = trial_spec(selected(tmp_path, Marker(parity=parity)))
    assert (found.output_tolerance, found.compare_outputs) == (tolerance, compared)


def test_outputs_of_runtimes_are_compared_in_the_precision_of_the_coarser_one(tmp_path):
    case = selected(tmp_path)
    assert trial_spec(case).sides is PAIRED
    compiled = msgspec.structs.replace(CASE, runtime="compile")
    assert trial_spec(case._replace(case=compiled), "eager").sides == ("in eager", "in compile", "float64")
    on_gpu = msgspec.structs.replace(compiled, device="cuda", dtype="float32")  # where TF32 is as coarse
    assert trial_spec(case._replace(case=on_gpu), "eager").sides.precision == "float16"


def test_threads_are_bound_to_cores_only_if_all_of_them_are_those_of_openmp():
    assert worker_variables({"eager", "compile:max-autotune"}) == {**THREADS, **MALLOC}
    assert worker_variables({"eager", "onnxruntime"}) == MALLOC


def test_workers_of_converted_models_may_take_as_long_as_a_conversion():
    assert answer_timeout({"eager"}) == ANSWER_TIMEOUT_SECONDS
    assert answer_timeout({"eager", "aoti"}) > MAX_SECONDS


def test_tolerance_and_time_reach_the_launches(tmp_path):
    plain = trial_spec(selected(tmp_path))
    assert (plain.nodeid, plain.terms.tolerance, plain.max_seconds) == ("t.py::test_a[cpu]", 0.02, 180.0)
    given = {"tolerance": "5%", "max_time": "2min"}
    wide = trial_spec(selected(tmp_path, **given))
    assert (wide.terms.tolerance, wide.max_seconds) == (0.05, 120.0)
    marked = Marker(tolerance={"p50": 0.1}, max_time=2.0)
    assert trial_spec(selected(tmp_path, marked)).terms.tolerance == 0.1
    assert trial_spec(selected(tmp_path, marked, **given)).terms.tolerance == 0.05


def test_paired_data_is_written_where_it_is_asked_for(tmp_path):
    case = selected(tmp_path)
    trial = Trial(trial_spec(case))
    trial.add(Launch(base=(0.1, 0.1), candidate=(0.1, 0.2)))
    found = LaunchesResult([trial], [Launch(base=(0.1,), candidate=(0.1,))], 1, False, 0)
    assert write_paired_data(None, [case], found, Against()) == ((), ())
    path = tmp_path / "paired.json"
    assert write_paired_data(path, [case], found, Against(revision="main")) == ((f"wrote {path}",), ())
    data = read_paired_data(path)
    assert (data.against.revision, data.control) == ("main", tuple(found.control))
    assert [(one.nodeid, one.screen, one.confirm) for one in data.cases] == [
        (case.nodeid, tuple(trial.screen), ())
    ]


def test_paired_data_that_cannot_be_written_is_a_problem_and_no_end(tmp_path):
    written, (problem,) = write_paired_data(tmp_path, [], LaunchesResult([], [], 0, False, 0), Against())
    assert written == ()
    assert str(tmp_path) in problem


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_a_run_interrupt_it(number):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with interruptible():
            interrupt = signal.getsignal(number)
            with pytest.raises(KeyboardInterrupt):
                interrupt(number, None)
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with interruptible():
            assert signal.getsignal(number) is signal.SIG_IGN  # the user's code handles it
    finally:
        signal.signal(number, before)
