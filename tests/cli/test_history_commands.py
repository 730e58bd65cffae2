"""`infergate history`."""

import pytest
from core_values import HARDWARE, case
from refusals import refused
from test_commands_on_results import run  # noqa: F401 - a fixture

from pytest_infergate.core.domain.history_values import HistoryEntry, HistorySession
from pytest_infergate.history.documents import encoded
from pytest_infergate.history.pending import keep_pending
from pytest_infergate.history.session_folder import FolderSessions
from pytest_infergate.history.session_history import SessionHistory


def collected(folder, days, project="demo", names=("test_a", "test_b"), slow_from=None):
    """A history of so many days; ``test_a`` takes half as long again from a day on."""
    history = SessionHistory(FolderSessions(folder))
    for day in range(days):
        entries = tuple(
            HistoryEntry(
                case=case(f"tests/test_m.py::{name}"),
                hardware=HARDWARE.id,
                verdict="equivalent",
                p50=0.01 * (1.5 if slow_from is not None and day >= slow_from and name == "test_a" else 1)
                * (1 + 0.002 * ((day * 7) % 5)),
            )
            for name in names
        )  # fmt: skip
        history.add(
            HistorySession(
                project=project,
                created=f"2026-{1 + day // 28:02}-{1 + day % 28:02}T00:00:00Z",
                hardware={HARDWARE.id: HARDWARE},
                entries=entries,
            )
        )
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFERGATE_HISTORY", raising=False)
    return tmp_path


def test_the_largest_drift_comes_first(run, here):  # noqa: F811
    collected(here / ".infergate/history", 40, slow_from=30)
    code, out, err = run("history", "show")
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "test_m.py" in line]
    assert [line.split("::")[1].split("[")[0] for line in lines] == ["test_a", "test_b"]
    assert "+50." in lines[0]
    assert "(noise)" in lines[1]
    assert "▁" in lines[0]
    _, out, _ = run("history", "show", "-k", "test_b")
    assert "test_a" not in out


def test_change_points_are_dated(run, here):  # noqa: F811
    pytest.importorskip("otava")
    collected(here / "h", 40, slow_from=30)
    _, out, _ = run("history", "show", "--history", "h")
    assert "% on 2026-02-03" in next(line for line in out.splitlines() if "test_a" in line)


def test_without_otava_the_extra_is_named(run, here, monkeypatch):  # noqa: F811
    import sys

    monkeypatch.setitem(sys.modules, "otava", None)
    monkeypatch.setitem(sys.modules, "otava.analysis", None)
    collected(here / "h", 10)
    code, out, _ = run("history", "show", "--history", "h")
    assert code == 0
    assert "pytest-infergate[history]" in out


def test_sessions_are_listed_and_copied(run, here):  # noqa: F811
    pytest.importorskip("sqlalchemy")
    collected(here / "h", 3)
    _, out, _ = run("history", "list", "--history", "h")
    assert out.splitlines()[0].startswith("2026-01-01T00:00:00Z  run       demo  ")
    assert run("history", "copy", "sqlite:///h.db", "--history", "h")[1].startswith("copied 3 of 3")
    assert run("history", "copy", "sqlite:///h.db", "--history", "h")[1].startswith("copied 0 of 3")
    assert run("history", "show", "--history", "sqlite:///h.db") == run("history", "show", "--history", "h")


def test_pending_sessions_are_pushed(run, here):  # noqa: F811
    sessions = [HistorySession(project="demo", created=f"2026-01-0{day}T00:00:00Z") for day in (1, 2)]
    for session in sessions:
        keep_pending(session, here)
    (here / ".infergate/pending/notes.txt").write_text("left alone")
    (here / "file").write_text("")
    code, out, err = run("history", "push", "--history", "file")
    assert (code, out) == (1, "added 0 sessions to the history\n")
    assert "2 sessions stay in .infergate/pending" in err
    assert run("history", "push", "--history", "h")[:2] == (0, "added 2 sessions to the history\n")
    assert run("history", "push", "--history", "h")[:2] == (0, "added 0 sessions to the history\n")
    assert sorted(path.name for path in (here / "h").iterdir()) == sorted(encoded(one)[0] for one in sessions)


def test_what_is_refused(run, here, snapshot):  # noqa: F811
    """Damaged, newer, foreign and misnamed documents; a place without sessions; several projects."""
    place = collected(here / "good", 2)
    names = sorted(path.name for path in place.iterdir())
    damaged = collected(here / "damaged", 2)
    (damaged / names[0]).write_text("{}")
    cut = collected(here / "cut", 2)
    (cut / names[1]).write_bytes((cut / names[1]).read_bytes()[:-5])
    newer = HistorySession(schema_version=99, project="demo", created="2026-01-01T00:00:00Z")
    (here / "newer").mkdir()
    name, content = encoded(newer)
    (here / "newer" / name).write_bytes(content)
    collected(here / "two", 2)
    (here / "two" / encoded(HistorySession(project="other", created="2026-01-01T00:00:00Z"))[0]).write_text(
        "x"
    )
    older = HistorySession(schema_version=0, project="demo", created="2026-01-01T00:00:00Z")
    (here / "older").mkdir()
    name, content = encoded(older)
    (here / "older" / name).write_bytes(content)
    (here / "h.db").write_text("")
    (here / "links").mkdir()
    (here / "links" / names[0]).symlink_to(place / names[0])
    keep_pending(HistorySession(project="other", created="2026-01-01T00:00:00Z"), here)
    asked = {
        "damaged": ("history", "show", "--history", "damaged"),
        "cut": ("history", "show", "--history", "cut"),
        "newer": ("history", "show", "--history", "newer"),
        "older": ("history", "show", "--history", "older"),
        "a file": ("history", "list", "--history", "h.db"),
        "several projects": ("history", "show", "--history", "two"),
        "another project": ("history", "show", "--history", "good", "--project", "other"),
        "no session": ("history", "show", "--history", "empty"),
        "only links": ("history", "show", "--history", "links"),
        "no case": ("history", "show", "--history", "good", "-k", "bogus"),
    }
    assert refused(run, asked, folder=here) == snapshot
    assert not (here / "empty").exists()
    code, _, err = run("history", "push", "--history", "good")
    assert code == 1
    assert "holds the history of demo, not of other" in err


def test_the_page_is_written(run, here):  # noqa: F811
    collected(here / "h", 40, slow_from=30)
    code, _, err = run("history", "--history", "h", "-o", "page.html", "-k", "test_a")
    assert (code, err) == (0, "wrote page.html\n")
    page = (here / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "1 of 1 series became slower" in page
    assert run("history", "--history", "h", "-o", "all.html", "--last", "5")[0] == 0
    assert "5 sessions from" in (here / "all.html").read_text()


def test_questions_are_answered_as_table_csv_and_json(run, here, snapshot):  # noqa: F811
    pytest.importorskip("duckdb")
    collected(here / "h", 3)
    code, out, _ = run("history", "compact", "--history", "h")
    assert (code, out) == (0, f"3 runs of {here}/h, 3 of them new, in {here}/h/parquet\n")
    sql = (
        "SELECT case_name, count(*) AS runs, max(p50) AS slowest, '=1+1' AS formula, min(p95) AS p95 "
        "FROM infergate_measurements GROUP BY case_name ORDER BY case_name"
    )
    asked = ("history", "query", "--history", "h", sql)
    forms = [run(*asked), run(*asked, "--csv"), run(*asked, "--json")]
    assert [code for code, _, _ in forms] == [0, 0, 0]
    assert "\n".join(out for _, out, _ in forms) == snapshot
    assert run(*asked, "--csv", "-o", "all.csv")[0] == 0
    assert (here / "all.csv").read_text() == forms[1][1]


def test_questions_that_are_refused(run, here, snapshot):  # noqa: F811
    pytest.importorskip("duckdb")
    pytest.importorskip("sqlalchemy")
    collected(here / "h", 1)
    query = ("history", "query", "--history", "h")
    asked = {
        "no SQL": (*query, "SELEC 1"),
        "two statements": (*query, "SELECT 1; SELECT 2"),
        "another file": (*query, "SELECT * FROM read_csv('/etc/passwd')"),
        "nothing to compact": ("history", "compact", "--history", "empty"),
        "no run": ("history", "query", "--history", "empty", "SELECT 1"),
        "two names of one column": (*query, "SELECT 1 AS x, 2 AS x", "--json"),
        "compacting a database": ("history", "compact", "--history", "sqlite:///h.db"),
    }
    assert refused(run, asked, folder=here) == snapshot
    assert not (here / "empty").exists()
