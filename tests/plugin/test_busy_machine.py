"""A run on a busy machine, from the options to the files that it leaves."""

import json

import pytest


@pytest.fixture
def busy(project):
    """A project whose device is shared with half a core of other processes."""
    project.test()
    project.change("DEVICE.others = 0.5")
    return project


def quiet(project):
    project.change("DEVICE.others = 0.0")


def sessions(project):
    files = (project.path / ".infergate/baselines").glob("*.json")
    return [
        point
        for file in files
        for case in json.loads(file.read_text())["cases"]
        for point in case["sessions"]
    ]


def test_a_disturbed_session_is_not_recorded(busy):
    result = busy.measure("--infer-save")
    assert result.ret == 1
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*ERROR: the times of 1 case were not recorded:*25.0 %*50.0 %*test_model*--infer-save-contended*"]
    )
    assert sessions(busy) == []
    # Nothing says that it was recorded, and no folder looks like it.
    result.stdout.no_fnmatch_line("recorded *")
    assert not (busy.path / ".infergate/baselines").exists()
    assert any((busy.path / ".infergate/counters").iterdir())


def test_only_disturbed_cases_are_left_out(busy):
    busy.record("--infer-save-contended")
    quiet(busy)
    busy.record()
    busy.change("DEVICE.others = 0.2")
    busy.record()
    assert [point.get("contention") for point in sessions(busy)] == [0.5, None, pytest.approx(0.2)]


def test_a_session_that_was_kept_allows_no_improvement(busy):
    busy.takes(1.9)
    busy.record("--infer-save-contended")
    quiet(busy)
    busy.takes(0.010)
    decided = busy.verdicts()["model"]
    assert (decided.verdict, decided.failed) == ("inconclusive", False)
    document = json.loads((busy.path / "verdicts.json").read_text())
    assert len(document["gate"]["blind"]) == 1
    assert "1 of 1 case could not have seen its tolerance (CPU contention: 1)" in document["gate"]["headline"]
    (row,) = (each for each in document["gate"]["verdicts"][0]["comparisons"] if each["metric"] == "p50")
    assert row["recorded"] == pytest.approx(1.9)
    assert busy.measure("--infer-strict").ret == 1


def test_keeping_disturbed_times_needs_a_session_to_record(project):
    project.test()
    result = project.measure("--infer-save-contended")
    assert result.ret == 4
    assert "Hint: add --infer-save" in result.stderr.str() + result.stdout.str()
