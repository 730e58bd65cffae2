"""`infergate baseline`."""

import pytest
from refusals import refused
from test_commands_on_results import measured, run, session  # noqa: F401 - a fixture

from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.report import results_json
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.testing import sample_session

TEST_B = "tests/test_b.py::test_other"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with fifteen sessions of two cases."""
    monkeypatch.chdir(tmp_path)
    store = FileStore(".infergate/baselines")
    for day in range(1, 16):
        for test in (sample_session().cases[0].case.test, TEST_B):
            store.record(sample_session(f"2026-01-{day:02}T00:00:00Z", test=test, p50=day / 1000))
    return tmp_path


def kept(place=".infergate/baselines"):
    (baseline,) = [FileStore(place).load(key) for key in FileStore(place).classes()]
    return {entry.case.test.rpartition("::")[2]: entry for entry in baseline.cases}


def test_cases_and_sessions_are_shown(run, folder):  # noqa: F811
    _, out, _ = run("baseline", "list")
    line = next(line for line in out.splitlines() if "test_embedder" in line)
    assert line.split()[1] == "12"
    assert "2026-01-15" in line
    _, out, _ = run("baseline", "show", "-k", "test_embedder")
    assert [line.split()[1] for line in out.splitlines() if line.startswith("2026")] == ["anchor"] * 3 + [
        "both"
    ] * 9 + ["recent"] * 3
    assert "test_other" not in out


def test_an_accepted_change_begins_anew(run, folder):  # noqa: F811
    code, out, _ = run("baseline", "accept", "-k", "test_embedder", "--reason", "larger vocabulary")
    assert (code, out.startswith("accepted tests/test_model.py::test_embedder")) == (0, True)
    entry = kept()["test_embedder"]
    assert (entry.sessions, entry.anchor) == ((), ())
    assert [one.reason for one in entry.accepted] == ["larger vocabulary"]
    assert len(kept()["test_other"].sessions) == 12
    # What is recorded later counts; a session from before, of another branch, does not.
    for created in ("2099-01-01T00:00:00Z", "2026-01-20T00:00:00Z"):
        FileStore(".infergate/baselines").record(sample_session(created, p50=0.5))
    assert [point.created[:4] for point in kept()["test_embedder"].sessions] == ["2099"]
    assert "larger vocabulary" in run("baseline", "list")[1]


def test_cases_are_pruned_by_name_and_age(run, folder):  # noqa: F811
    assert "would remove" in run("baseline", "prune", "-k", "test_other", "--dry-run")[1]
    assert set(kept()) == {"test_embedder", "test_other"}
    run("baseline", "prune", "--before", "2026-01-15")
    assert set(kept()) == {"test_embedder", "test_other"}
    run("baseline", "prune", "-k", "test_other", "--before", "2026-01-16")
    assert set(kept()) == {"test_embedder"}


def test_baselines_move_between_places(run, folder):  # noqa: F811
    pytest.importorskip("sqlalchemy")
    before = kept()
    assert run("baseline", "export", "sqlite:///h.db")[0] == 0
    assert run("baseline", "list", "--baseline", "sqlite:///h.db")[1] == run("baseline", "list")[1]
    assert run("baseline", "import", "sqlite:///h.db", "--baseline", "copy")[0] == 0
    assert kept("copy") == before
    # A history takes accepted changes as well.
    run("baseline", "accept", "--reason", "new", "--baseline", "sqlite:///h.db")
    assert "2026-" in run("baseline", "show", "--baseline", "sqlite:///h.db")[1]
    assert "no session since" in run("baseline", "show", "--baseline", "sqlite:///h.db")[1]


def test_results_are_recorded_without_those_that_failed(run, folder):  # noqa: F811
    good, bad = measured(0.01, name="test_good"), measured(0.01, name="test_bad")
    made = session(good)
    failed = session(bad, kind=Verdict.REGRESSED, failed=True)
    for name, one in {"good": made, "bad": failed}.items():
        (folder / f"{name}.json").write_text(results_json.render_results(one))
    assert run("baseline", "import", "good.json", "--baseline", "new")[0] == 0
    _, out, _ = run("baseline", "import", "bad.json", "--baseline", "new")
    assert "left out 1 case that" in out
    assert set(kept("new")) == {"test_good"}


def test_what_is_refused(run, folder, snapshot):  # noqa: F811
    asked = {
        "no case": ("baseline", "show", "-k", "bogus"),
        "no reason": ("baseline", "accept", "--reason", " "),
        "prune everything": ("baseline", "prune"),
        "a date": ("baseline", "prune", "--before", "yesterday"),
        "prune a history": ("baseline", "prune", "-k", "x", "--baseline", "memory://x"),
        "an unknown place": ("baseline", "list", "--baseline", "s4://bucket/x"),
        "an empty place": ("baseline", "export", "copy", "--baseline", "absent"),
    }
    assert refused(run, asked, folder=folder) == snapshot
