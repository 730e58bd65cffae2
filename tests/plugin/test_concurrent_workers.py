"""Several workers at once as users ask for them: real processes, a device whose time is exact."""

import json
from pathlib import Path

import pytest

from pytest_infergate.paired import concurrency


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(concurrency, "SECONDS", 0.02)


def measurements():
    return {case["nodeid"]: case["measurement"] for case in json.loads(Path("r.json").read_text())["cases"]}


@pytest.mark.slow
def test_crews_of_each_size_are_measured(project, hurried):
    project.test("batch_sizes=[1, 4]")
    result = project.measure("--infer-workers=2,3", "--infer-json=r.json")
    assert result.ret == 0, result.stdout.str()
    found = measurements()
    assert len(found) == 2
    for nodeid, measurement in found.items():
        assert [one["workers"] for one in measurement["concurrent_runs"]] == [2, 3]
        assert all(one["mean"] == pytest.approx(0.010) for one in measurement["concurrent_runs"]), nodeid
        assert all(
            len(one["percentiles"]) == 101 and one["calls"] >= 2 for one in measurement["concurrent_runs"]
        )
        assert measurement["latency"]["p50"]["value"] == pytest.approx(0.010)


@pytest.mark.slow
def test_strict_projects_start_their_workers(project, hurried):
    """Warnings are errors there, unknown options too, and the cache may be off."""
    project.pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-config --strict-markers\n")
    project.test()
    result = project.measure("--infer-workers=2", "--infer-json=r.json", "-p", "no:cacheprovider")
    assert result.ret == 0, result.stdout.str()
    assert next(iter(measurements().values()))["concurrent_runs"][0]["workers"] == 2


def test_without_the_option_no_process_is_started(project, monkeypatch):
    monkeypatch.setattr("pytest_infergate.paired.worker_process.subprocess.Popen", None)
    project.test()
    result = project.measure("--infer-json=r.json")
    assert result.ret == 0
    assert all("concurrent_runs" not in one for one in measurements().values())


def test_a_paired_run_and_workers_exclude_each_other(project):
    project.test()
    result = project.measure("--infer-workers=2", "--infer-against=HEAD")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--infer-workers measures what a paired run does not*"])


def test_other_workers_share_no_machine(project):
    pytest.importorskip("xdist")
    project.test()
    result = project.measure("--infer-workers=2", "-p", "xdist.plugin", "-n2")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--infer-workers has the machine to itself*"])


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_what_is_no_number_of_workers(project, text):
    project.test()
    result = project.measure(f"--infer-workers={text}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--infer-workers: *"])
