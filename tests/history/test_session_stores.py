"""One contract for every place of a history."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from core_values import case

from pytest_infergate.core.domain.history_values import HistoryEntry, HistorySession
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.errors import StorageError
from pytest_infergate.history import session_history
from pytest_infergate.history.documents import encoded
from pytest_infergate.history.parquet_parts import compact
from pytest_infergate.history.session_history import SessionHistory
from pytest_infergate.history.session_tables import TableSessions

HARDWARE = Hardware(cpu_model="Test CPU", cores=4)
HOSTILE = "tests/größe.py::test_x[\"a/b\\c\"\n../..\u2028'<<<<<<< '{}\x00-]"


def history_run(day=1, p50=0.01, project="demo", hardware=HARDWARE, test="tests/test_a.py::test_a", **fields):
    entry = HistoryEntry(case=case(test), hardware=hardware.id, verdict="equivalent", p50=p50)
    known = {"hardware": {hardware.id: hardware}, "entries": (entry,)}
    created = f"2026-01-{day:02}T00:00:00.000+00:00"
    return HistorySession(project=project, created=created, **{**known, **fields})


def test_it_starts_empty(opened):
    assert opened().names() == ()
    opened().check_writable()
    assert opened().names() == ()


def test_a_document_is_given_back_as_it_was(opened):
    name, content = encoded(history_run(test=HOSTILE))
    assert opened().add(name, content) is True
    assert opened().names() == (name,)
    assert list(opened().read([name])) == [(name, content)]


def test_adding_twice_changes_nothing(opened):
    name, content = encoded(history_run())
    assert [opened().add(name, content) for _ in range(2)] == [True, False]
    assert len(opened().names()) == 1


def test_documents_are_read_in_the_order_of_the_question(opened):
    documents = [encoded(history_run(day)) for day in (3, 1, 2)]
    for name, content in documents:
        opened().add(name, content)
    assert list(opened().read([name for name, _ in documents])) == documents
    assert list(opened().read([])) == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "x.json", "", "a/../b", "x\x00"])
def test_names_that_lead_elsewhere_are_refused(opened, name):
    with pytest.raises(StorageError, match="name of a document"):
        opened().add(name, b"{}")
    with pytest.raises(StorageError, match=r"name of a document|is gone"):
        list(opened().read([name]))


def test_a_document_that_is_gone_is_an_error(opened):
    name, content = encoded(history_run())
    opened().add(name, content)
    other, _ = encoded(history_run(2))
    with pytest.raises(StorageError):
        list(opened().read([name, other]))


def test_a_history_has_the_series_of_every_session(opened):
    history = SessionHistory(opened())
    for day in (3, 1, 2):
        assert history.add(history_run(day, p50=day / 100, release=f"v{day}", commit="abc")).new
    (series,) = SessionHistory(opened(), "demo").series()
    assert [point.p50 for point in series.points] == [0.01, 0.02, 0.03]
    assert [point.release for point in series.points] == ["v1", "v2", "v3"]
    assert (series.case, series.hardware) == (case("tests/test_a.py::test_a"), HARDWARE.id)


@pytest.mark.parametrize("duckdb", ["parquet", "documents", "absent"])
def test_a_point_has_the_medians_of_several_runs(opened, duckdb, monkeypatch, tmp_path):
    """Also the last one, of fewer runs; by each engine."""
    monkeypatch.setenv("INFERGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(session_history, "MAX_POINTS", 3)
    history = SessionHistory(opened())
    work = {"gemm": 0.002}
    for day in (1, 2, 3, 4, 5, 6, 7):
        run = history_run(day, p50=day / 100, release="v2" if day == 2 else None, commit=f"c{day}")
        (entry,) = run.entries
        entry = msgspec.structs.replace(entry, failed=day == 5, reference_work=work if day > 3 else {})
        history.add(msgspec.structs.replace(run, entries=(entry,)))
    if duckdb == "absent":
        monkeypatch.setitem(sys.modules, "duckdb", None)
    elif duckdb == "parquet" and not isinstance(opened(), TableSessions):
        pytest.importorskip("duckdb")
        compact(opened())
    (series,) = SessionHistory(opened()).series()
    assert series.runs_a_point == 3
    assert [point.created[8:10] for point in series.points] == ["01", "04", "07"]
    assert [point.p50 for point in series.points] == [0.02, 0.05, 0.07]
    assert [point.speed for point in series.points] == [None, pytest.approx(0.002), pytest.approx(0.002)]
    assert [point.failed for point in series.points] == [False, True, False]
    assert [point.commit for point in series.points] == ["c3", "c6", "c7"]
    assert [point.release for point in series.points] == ["v2", None, None]


def test_writers_at_the_same_time_lose_nothing(opened):
    """Also the first two, which may both create the place."""
    start = threading.Barrier(4)

    def write(worker):
        start.wait()
        for number in range(3):
            SessionHistory(opened()).add(history_run(1 + worker * 3 + number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(SessionHistory(opened()).documents()) == 12


def test_another_project_is_refused(opened):
    SessionHistory(opened()).add(history_run())
    for question in (
        lambda: SessionHistory(opened()).add(history_run(2, project="other")),
        lambda: SessionHistory(opened(), "other").documents(),
    ):
        with pytest.raises(StorageError, match="holds the history of demo, not of other"):
            question()
    assert len(opened().names()) == 1


def test_a_clock_that_goes_backwards_is_noticed_and_the_session_kept(opened):
    history = SessionHistory(opened())
    assert history.add(history_run(9)).later is None
    assert history.add(history_run(2)).later.startswith("20260109")
    assert history.add(history_run(10)).later is None
    assert [name.time[:8] for name in history.documents()] == ["20260102", "20260109", "20260110"]


def test_equal_sessions_have_equal_names_and_others_do_not():
    name, _ = encoded(history_run())
    assert encoded(history_run())[0] == name
    assert encoded(history_run(p50=0.011))[0] != name
    utc = msgspec.structs.replace(history_run(), created="2026-01-01T01:00:00+01:00")
    assert encoded(utc)[0][:21] == name[:21]
