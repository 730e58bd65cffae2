"""Questions in SQL: the same answers from every place and engine, from Parquet and from sessions."""

import sqlite3
import sys

import msgspec
import pytest
from inputs import message
from test_session_stores import HOSTILE, history_run

from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.history.documents import encoded
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.measurements import MEASUREMENT_COLUMNS
from pytest_infergate.history.parquet_parts import compact, parquet_folder, run_names, usable_parts
from pytest_infergate.history.questions import asked
from pytest_infergate.history.session_history import SessionHistory

ALL = "SELECT session, p50, case_name, failed = (1 = 1), release FROM infergate_measurements ORDER BY session"


def answer(store, sql=ALL):
    with asked(store, sql) as found:
        return found.columns, [tuple(row) for row in found.rows]


def added(store, *days, month=1, **fields):
    for day in days:
        run = history_run(day, p50=day / 100, **fields)
        store.add(*encoded(msgspec.structs.replace(run, created=f"2026-{month:02}-{day:02}T00:00:00Z")))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERGATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def without_duckdb(monkeypatch):
    """Return a function that answers as if DuckDB were not installed."""

    def ask(store, sql=ALL):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "duckdb", None)
            return answer(store, sql)

    return ask


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("duckdb")
    return open_store("h", tmp_path)


def files(store):
    return sorted(path.name for path in parquet_folder(store).glob("*.parquet"))


@pytest.mark.parametrize("kind", ["folder", "s3", "sqlite", "postgresql", "branch"])
def test_every_place_and_engine_gives_the_same_answer(kind, address, tmp_path, without_duckdb):
    store = open_store(address(kind), tmp_path)
    added(store, 1, 2, 40 - 9, release="v1")
    added(store, 3, test=HOSTILE, project="demo '); DROP TABLE x; --")
    expected = [(0.01, False, "v1"), (0.02, False, "v1"), (0.03, False, None), (0.31, False, "v1")]
    columns, rows = without_duckdb(store)
    assert columns[:2] == ("session", "p50")
    assert [(row[1], bool(row[3]), row[4]) for row in rows] == expected
    assert [row[0] for row in rows] == sorted(store.names())
    assert rows[2][2] == HOSTILE.replace("\x00", "\\0") + "[cpu]"
    if kind in ("folder", "s3", "branch"):
        pytest.importorskip("duckdb")
        assert answer(store)[1] == rows
        assert compact(store)[:2] == (4, 4)
        assert answer(store)[1] == rows
        added(store, 5)
        assert len(answer(store)[1]) == 5
        assert answer(store)[1] == without_duckdb(store)[1]


def test_the_table_is_that_of_the_databases(tmp_path):
    pytest.importorskip("sqlalchemy")
    store = open_store(f"sqlite:///{tmp_path}/h.db", tmp_path)
    added(store, 1)
    with sqlite3.connect(tmp_path / "h.db") as connection:
        kept = connection.execute("SELECT name FROM pragma_table_info('infergate_measurements')").fetchall()
    assert [name for (name,) in kept] == list(MEASUREMENT_COLUMNS)


def test_compacting_again_changes_nothing_and_a_new_session_its_month_only(folder):
    for month in (1, 2, 3):
        added(folder, 3, month=month)
    assert compact(folder)[:2] == (3, 3)
    before = files(folder)
    assert [name[:6] for name in before] == ["202601", "202602", "202603"]
    assert compact(folder)[:2] == (3, 0)
    assert files(folder) == before
    added(folder, 1, month=2)
    assert compact(folder)[:2] == (4, 1)
    assert files(folder)[::2] == before[::2]
    assert len(set(files(folder)) | set(before)) == 4
    assert len(run_names(folder)) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "renamed", "other"])
def test_damaged_files_are_not_read_and_made_again(folder, damage):
    added(folder, 1, 2)
    expected = answer(folder)
    compact(folder)
    (path,) = parquet_folder(folder).glob("*.parquet")
    content = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    elif damage == "renamed":
        path = path.rename(path.with_name(f"202601.{'0' * 8}.parquet"))
    else:
        path.write_bytes({"cut": content[:-20], "empty": b"", "other": b"not Parquet"}[damage])
    assert usable_parts(parquet_folder(folder), run_names(folder)) == []
    assert answer(folder) == expected
    compact(folder)
    assert path.read_bytes() == content if damage != "renamed" else not path.exists()
    assert answer(folder) == expected


def test_what_an_interrupted_compaction_left_does_no_harm(folder):
    """A file that was not finished, and one of a month that has two, of which one is older."""
    added(folder, 1)
    compact(folder)
    (old,) = files(folder)
    content = (parquet_folder(folder) / old).read_bytes()
    added(folder, 2)
    compact(folder)
    (parquet_folder(folder) / old).write_bytes(content)
    unfinished = parquet_folder(folder) / ".infergate-0123456789ab.tmp"
    unfinished.write_bytes(b"PAR1")
    assert len(answer(folder)[1]) == 2
    assert compact(folder)[:2] == (2, 0)
    assert len(files(folder)) == 1
    assert not unfinished.exists()


def test_a_session_that_was_removed_is_in_no_answer(folder, tmp_path):
    added(folder, 1, 2)
    compact(folder)
    (tmp_path / "h" / run_names(folder)[0]).unlink()
    assert [row[1] for row in answer(folder)[1]] == [0.02]
    assert compact(folder)[:2] == (1, 0)
    assert [row[1] for row in answer(folder)[1]] == [0.02]


def test_a_damaged_session_is_named_and_keeps_what_is_compacted(folder, tmp_path):
    added(folder, 1)
    compact(folder)
    before = files(folder)
    added(folder, 2)
    (tmp_path / "h" / run_names(folder)[1]).write_text("{}")
    for question in (compact, answer):
        with pytest.raises(StorageError, match="is damaged"):
            question(folder)
    assert files(folder) == before


def test_links_in_the_place_of_files_are_not_followed(folder, tmp_path):
    added(folder, 1)
    compact(folder)
    (path,) = parquet_folder(folder).glob("*.parquet")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert usable_parts(parquet_folder(folder), run_names(folder)) == []


ENGINES = ["duckdb", "sqlite", "sqlite store", "postgresql"]


@pytest.fixture(params=ENGINES)
def engine(request, address, tmp_path, without_duckdb):
    """Return a store with a run, and the function that asks it."""
    kind = {"sqlite store": "sqlite", "postgresql": "postgresql"}.get(request.param, "folder")
    if request.param == "duckdb":
        pytest.importorskip("duckdb")
    store = open_store(address(kind), tmp_path)
    added(store, 1)
    return store, without_duckdb if request.param == "sqlite" else answer


REFUSED = (
    "SELEC 1", "", "SELECT nothere FROM infergate_measurements", "SELECT * FROM elsewhere", "SELECT 1; SELECT 2",
    "DELETE FROM infergate_measurements", "SELECT 1; DROP TABLE infergate_measurements", "CREATE TABLE x (y INT)",
    "INSERT INTO infergate_measurements SELECT * FROM infergate_measurements", "ATTACH 'other.db' AS other",
    "COPY infergate_measurements TO 'stolen.csv'", "SELECT * FROM read_text('secret')",
    "SELECT load_extension('x')", "SELECT * FROM 'secret'", "PRAGMA user_version = 7",
    "SET enable_external_access = true", "VACUUM INTO 'stolen.db'", "COMMIT",
)  # fmt: skip


def test_a_query_can_only_read_the_history(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("s3cret")
    store, ask = engine
    before = ask(store)
    for sql in REFUSED:
        text = message(ask, store, sql)
        assert "Hint: " in text, sql
        assert "\n" not in text, sql
    assert not list(tmp_path.glob("stolen*"))
    assert ask(store) == before


def test_an_error_in_a_later_row_is_one_of_the_query(engine):
    store, ask = engine
    assert ask(store, "WITH x AS (SELECT p50 AS y FROM infergate_measurements) SELECT y FROM x")[1] == [
        (0.01,)
    ]
    assert ask(store, "SELECT count(*) FROM infergate_measurements WHERE case_name LIKE '%TEST_A%'")[1] == [
        (0,)
    ]


def test_a_place_without_runs_is_refused(engine, tmp_path, address):
    for place in ("empty", f"sqlite:///{tmp_path}/empty.db"):
        with pytest.raises(ConfigurationError, match="has no runs"):
            answer(open_store(place, tmp_path))


def test_without_duckdb_compacting_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match=r"pytest-infergate\[history\]"):
        compact(open_store("h", tmp_path))


def test_sessions_without_measurements_are_compacted_too(folder):
    folder.add(*encoded(msgspec.structs.replace(history_run(), entries=())))
    assert compact(folder)[:2] == (1, 1)
    assert compact(folder)[:2] == (1, 0)
    assert answer(folder)[1] == []
    assert SessionHistory(folder).documents()[0].kind == "run"
