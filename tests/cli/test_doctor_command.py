"""`infergate doctor`."""

import json

import pytest
from test_commands_on_results import run  # noqa: F401 - a fixture

from pytest_infergate.core.domain.machine_values import Examination
from pytest_infergate.doctor import examine, trial_project


@pytest.fixture(autouse=True)
def no_launches(monkeypatch, tmp_path):
    """The command alone: its lock is elsewhere, and nothing is measured."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(examine, "examine", lambda *_: Examination(seconds=5.0))


def test_the_time_is_announced(run):  # noqa: F811
    code, out, err = run("doctor")
    assert code == 0
    assert "about 60 s" in err
    assert "why not better" in out
    _, _, err = run("doctor", "--quick")
    assert "about 30 s" in err


def test_without_torch_the_settings_are_shown(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(trial_project, "missing_package", lambda _: "torch")
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "torch is not installed" in out
    assert "CPU quota" in out


def test_json_to_a_file(run, tmp_path):  # noqa: F811
    code, out, _ = run("doctor", "--json", "-o", str(tmp_path / "doctor.json"))
    assert (code, out) == (0, "")
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert found["reading"]["cores"] > 0
