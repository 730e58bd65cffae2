"""A load as users ask for it: options, budgets, and what a run says."""

import json

import pytest

from pytest_infergate.core.domain.values import Note
from pytest_infergate.load import loadgen, under_load
from pytest_infergate.runner import run

needs_loadgen = pytest.mark.skipif(not loadgen.installed(), reason="mlcommons-loadgen is not installed")


def cases(project):
    found = json.loads((project.path / "r.json").read_text())
    return {case["nodeid"]: case for case in found["cases"]}


def codes(case):
    return [note["code"] for note in case["measurement"].get("notes", [])]


@needs_loadgen
@pytest.mark.slow
def test_the_case_of_the_largest_batch_is_served(project):
    """On a device without work, whose calls return at once; requests come in real time."""
    budget = {"load_p95_ms": 1000, "goodput_per_s": 1}
    project.test(f"batch_sizes=[1, 4], load='300/s', budget={budget}")
    result = project.measure("--infer-max-time=0.8", "--infer-json=r.json", "--infer-report=r.html")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["*2 cases on fake, about *, 1 s of it under load"])
    result.stdout.fnmatch_lines(["served under load*", "case *predicted*"])
    one, four = (case for _, case in sorted(cases(project).items()))
    assert "load" not in one["measurement"]
    assert "budgets" not in one
    load = four["measurement"]["load"]
    assert 120 < load["answered"] < 400
    assert load["limit"] == 1.0
    assert "load-not-batched" in codes(four)  # the call has no arguments
    assert "served under load" in (project.path / "r.html").read_text().lower()
    assert not [path for path in project.path.iterdir() if path.name.startswith("mlperf")]


def test_without_loadgen_the_option_stops_the_run_and_the_marker_is_a_note(project, monkeypatch):
    absent = Note(code="load-not-measured", text="no LoadGen", hint="pip install it")
    monkeypatch.setattr(run, "loadgen_absence", lambda: absent)
    monkeypatch.setattr(under_load.LoadPlan, "__new__", _without(absent))
    project.test("load='50/s', budget={'load_p95_ms': 10}")
    result = project.measure("--infer-load=50/s")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--infer-load: no LoadGen. Hint: pip install it"])
    result = project.measure("--infer-json=r.json")
    assert result.ret == 1
    (case,) = cases(project).values()
    assert codes(case).count("load-not-measured") == 1
    result.stdout.fnmatch_lines(["*budget load_p95_ms was not decided: no LoadGen"])


def _without(absent):
    usual = under_load.LoadPlan.__new__
    return lambda cls, *args, **kwargs: usual(cls, *args, **kwargs)._replace(absence=lambda: absent)


@pytest.mark.parametrize(
    ("load", "word"), [("0/s", "greater than 0/s"), ("-1/s", "greater than 0/s"), ("often", "must be a rate")]
)
def test_a_load_that_is_none_stops_the_run(project, load, word):
    project.test()
    result = project.measure(f"--infer-load={load}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--infer-load: *{word}*Hint: write 50/s, single-stream*"])


def test_counters_only_measures_no_load(project):
    project.test("load='50/s', budget={'load_p95_ms': 10}")
    result = project.measure("--infer-counters-only", "--infer-json=r.json")
    assert result.ret == 0
    (case,) = cases(project).values()
    assert "load-not-measured" in codes(case)
    assert "under load" not in next(line for line in result.outlines if "case on fake" in line)


def test_time_of_all_cases_limits_the_load(project, monkeypatch):
    plans = []
    monkeypatch.setattr(run, "measured_under_load", lambda plan, *given: plans.append(plan) or given[-1])
    project.test(
        "load='50/s', budget={'load_p99_ms': 10, 'load_p95_ms': 8}, batch_sizes=[1, 2]", "infer(model)"
    )
    project.measure("--infer-max-total=7")
    (plan,) = plans
    assert 1 < plan.seconds < 7
    assert (plan.batch_size, plan.limit, plan.load.text) == (2, 0.008, "50/s")


def test_a_run_that_does_not_measure_ignores_the_load(project):
    project.test("load='50/s'")
    project.run().assert_outcomes(passed=1)
