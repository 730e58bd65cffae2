import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_infergate.core.gate.baseline import merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_document
from pytest_infergate.storage import folder as folders
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.storage.store import load_all
from pytest_infergate.testing import sample_session

SESSION = sample_session()
ID = SESSION.hardware.id
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
not_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may do anything")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "baselines"


@pytest.fixture
def store(folder):
    return FileStore(folder)


@pytest.fixture
def recorded(store):
    store.record(SESSION)
    return store


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    FileStore().record(SESSION)
    assert (tmp_path / ".infergate" / "baselines" / f"{ID}.json").is_file()


def test_reading_makes_nothing(store, folder):
    assert load_all(store) == {}
    assert not folder.exists()


def test_a_class_is_one_reviewable_file(recorded, folder):
    assert (folder / f"{ID}.json").read_text(encoding="utf-8") == baseline_document.encode_baseline(SESSION)


def test_only_baselines_are_left_for_version_control(recorded, folder):
    seen = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    assert seen == [f"{ID}.json"]
    assert ".*" in (folder / ".gitignore").read_text().splitlines()


def test_a_gitignore_of_the_users_stays(store, folder):
    folder.mkdir()
    (folder / ".gitignore").write_text("mine\n")
    store.record(SESSION)
    assert (folder / ".gitignore").read_text() == "mine\n"


def test_unchanged_content_is_not_rewritten(recorded, folder):
    path = folder / f"{ID}.json"
    reformatted = path.read_text().replace("\n", "\r\n")
    path.write_bytes(reformatted.encode())
    recorded.record(sample_session(p50=0.0125000001))
    assert path.read_bytes() == reformatted.encode()


def test_figures_are_rounded_when_they_are_written(store):
    store.record(sample_session(p50=0.0123456789))
    assert store.load(ID).cases[0].sessions[0].p50 == 0.012346


def test_other_files_are_not_classes(recorded, folder):
    for name in ("._hidden.json", "README.md", f"{ID}.json~", ".infergate-1a2b.tmp"):
        (folder / name).write_text("not a baseline")
    assert recorded.classes() == (ID,)


def test_a_foreign_file_is_named(recorded, folder):
    (folder / "package.json").write_text("{}")
    with pytest.raises(StorageError, match=r"package\.json does not fit the schema"):
        load_all(recorded)


def test_a_file_that_vanished_is_left_out(recorded, monkeypatch):
    monkeypatch.setattr(FileStore, "classes", lambda self: (ID, "gone-1234"))
    assert load_all(recorded) == {ID: SESSION}


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "a\\b", ".hidden", "", "c:d", "a\0b", "-dash", "a b", "a\n"]
)
def test_paths_never_leave_the_folder(store, name):
    with pytest.raises(StorageError, match="is no hardware class"):
        store.load(name)


DAMAGED = {
    "truncated": baseline_document.encode_baseline(SESSION)[:200].encode(),
    "conflict": b"<<<<<<< HEAD\n" + baseline_document.encode_baseline(SESSION).encode(),
    "newer": baseline_document.encode_baseline(SESSION).replace('_version": 1', '_version": 2').encode(),
    "no text": b"\xff\xfe\x00",
    "nonsense": baseline_document.encode_baseline(SESSION).replace("0.0125", "-1").encode(),
    "empty": b"",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_cannot_be_read_is_named_and_never_overwritten(store, folder, content):
    folder.mkdir()
    path = folder / f"{ID}.json"
    path.write_bytes(content)
    for attempt in (lambda: store.load(ID), lambda: store.record(SESSION), lambda: load_all(store)):
        with pytest.raises(StorageError) as caught:
            attempt()
        assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_file_of_another_class_than_its_name(recorded, folder):
    (folder / f"{ID}.json").rename(folder / "other-1234.json")
    with pytest.raises(StorageError) as caught:
        recorded.load("other-1234")
    assert str(caught.value) == (
        f"{folder / 'other-1234.json'}: `$.hardware` is of class {ID}, not of the one that the file is named after; "
        f"rename it to {ID}.json, or {baseline_document.RESTORE_HINT}"
    )


@posix
def test_a_folder_in_place_of_the_file(store, folder):
    (folder / f"{ID}.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot read .*: Is a directory; make it readable"):
        store.load(ID)


@not_root
def test_a_file_that_may_not_be_read(recorded, folder):
    (folder / f"{ID}.json").chmod(0)
    with pytest.raises(StorageError, match=r"cannot read .*: Permission denied"):
        recorded.load(ID)


def test_a_read_that_fails(recorded, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        StorageError, match=r"cannot read .*: Permission denied; make it readable for this user"
    ):
        recorded.load(ID)


def test_a_file_in_place_of_the_folder(folder):
    folder.write_text("a file")
    store = FileStore(folder)
    hint = "move the file that stands where a folder is needed" if sys.platform != "win32" else "cannot"
    for attempt in (store.check_writable, lambda: store.record(SESSION)):
        with pytest.raises(StorageError, match=hint):
            attempt()
    with pytest.raises(StorageError, match="cannot read"):
        store.classes()
    assert folder.read_text() == "a file"


def test_a_parent_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write "):
        FileStore(tmp_path / "file" / "deep" / "baselines").check_writable()


@not_root
def test_a_folder_that_is_read_only(recorded, folder):
    folder.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="make it writable for this user, or choose another place"):
            recorded.check_writable()
    finally:
        folder.chmod(0o700)


def test_a_disk_that_is_full_is_known_before_anything_is_measured(recorded, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        StorageError, match=r"cannot write .*baselines: No space left on device; free some space"
    ):
        recorded.check_writable()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        recorded.record(sample_session("2026-02-02T00:00:00Z"))
    assert recorded.load(ID) == SESSION


def test_a_lock_that_is_never_released(recorded, folder, monkeypatch):
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0.0)
    with FileLock(folder / ".lock"), pytest.raises(StorageError, match="was held by another process for 0 s"):
        recorded.check_writable()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(13, "Permission denied"),
            "cannot write .*lock: Permission denied; make it writable",
        ),
        (NotImplementedError("no flock"), "cannot lock .*lock: no flock; keep it on a local disk"),
    ],
)
def test_a_lock_that_cannot_be_had(recorded, monkeypatch, error, message):
    def refuse(*_):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(StorageError, match=message):
        recorded.record(SESSION)


def test_the_lock_is_free_after_a_failure(recorded, folder):
    path = folder / f"{ID}.json"
    path.write_text("damaged")
    with pytest.raises(StorageError):
        recorded.record(SESSION)
    path.unlink()
    recorded.record(SESSION)
    assert recorded.load(ID) == SESSION


def record_many(folder, process):
    store = FileStore(folder)
    for number in range(10):
        store.record(sample_session(test=f"test_{process}_{number}"))
        store.record(sample_session(f"2026-01-{10 * process + number + 1:02}T00:00:00Z"))


def test_processes_that_save_at_once_lose_nothing(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=record_many, args=(folder, process)) for process in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    loaded = FileStore(folder).load(ID)
    assert len(loaded.cases) == 21
    created = [point.created[8:10] for point in loaded.history(SESSION.cases[0].case)]
    assert created == [f"{day:02}" for day in range(9, 21)]
    assert merge_baselines(None, loaded) == loaded
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", ".lock", f"{ID}.json"]
