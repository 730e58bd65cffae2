"""Several workers at once as users ask for them: real processes, a device whose time is exact."""

import json
from pathlib import Path

import pytest

from pytest_infergate.paired import concurrency, worker_process


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(concurrency, "SECONDS", 0.02)


def measurements():
    return {case["nodeid"]: case["measurement"] for case in json.loads(Path("r.json").read_text())["cases"]}


@pytest.mark.slow
def test_crews_of_each_size_are_measured(project, hurried):
    """Of a strict project, too: warnings are errors there, unknown options too, and the cache may be off."""
    project.pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-config --strict-markers\n")
    project.test("batch_sizes=[1, 4]")
    result = project.measure("--infer-workers=1,2", "--infer-json=r.json", "-p", "no:cacheprovider")
    assert result.ret == 0, result.stdout.str()
    found = measurements()
    assert len(found) == 2
    for nodeid, measurement in found.items():
        assert [one["workers"] for one in measurement["concurrent_runs"]] == [1, 2]
        assert all(one["mean"] == pytest.approx(0.010) for one in measurement["concurrent_runs"]), nodeid
        assert all(
            len(one["percentiles"]) == 101 and one["calls"] >= 2 for one in measurement["concurrent_runs"]
        )
        assert measurement["latency"]["p50"]["value"] == pytest.approx(0.010)


def test_without_the_option_no_process_is_started(project, monkeypatch):
    monkeypatch.setattr(worker_process.subprocess, "Popen", None)
    project.test()
    result = project.measure("--infer-json=r.json")
    assert result.ret == 0
    assert all("concurrent_runs" not in one for one in measurements().values())
