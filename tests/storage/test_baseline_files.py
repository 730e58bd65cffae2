import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from savers import save_baselines

from pytest_infergate.core.gate.baseline import merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_format
from pytest_infergate.storage import shared_folder as folders
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.storage.baseline_store import load_all
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


def refusal(folder, attempt):
    """What is said of an attempt that is refused, without the place of the folder."""
    with pytest.raises(StorageError) as caught:
        pytest.fail(f"not refused: {attempt()}")
    return str(caught.value).replace(str(folder), folder.name)


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    FileStore().record(SESSION)
    assert (tmp_path / ".infergate" / "baselines" / f"{ID}.json").is_file()


def test_reading_makes_nothing(store, folder):
    assert load_all(store) == {}
    assert not folder.exists()


def test_a_class_is_one_reviewable_file(recorded, folder):
    assert (folder / f"{ID}.json").read_text(encoding="utf-8") == baseline_format.encode_baseline(SESSION)


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
    with pytest.raises(StorageError, match=r"package\.json"):
        load_all(recorded)


def test_a_file_that_vanished_is_left_out(recorded, monkeypatch):
    monkeypatch.setattr(FileStore, "classes", lambda self: (ID, "gone-1234"))
    assert load_all(recorded) == {ID: SESSION}


def test_paths_never_leave_the_folder(store, folder, snapshot):
    names = ("../up", "a/b", "a\\b", ".hidden", "", "c:d", "a\0b", "-dash", "a b", "a\n")
    assert [refusal(folder, lambda name=name: store.load(name)) for name in names] == snapshot


DAMAGED = {
    "truncated": baseline_format.encode_baseline(SESSION)[:200].encode(),
    "conflict": b"<<<<<<< HEAD\n" + baseline_format.encode_baseline(SESSION).encode(),
    "newer": baseline_format.encode_baseline(SESSION).replace('_version": 2', '_version": 3').encode(),
    "no text": b"\xff\xfe\x00",
    "nonsense": baseline_format.encode_baseline(SESSION).replace("0.0125", "-1").encode(),
    "empty": b"",
}


def test_what_cannot_be_read_is_named_and_never_overwritten(store, folder):
    folder.mkdir()
    path = folder / f"{ID}.json"
    for name, content in DAMAGED.items():
        path.write_bytes(content)
        for attempt in (lambda: store.load(ID), lambda: store.record(SESSION), lambda: load_all(store)):
            with pytest.raises(StorageError) as caught:
                pytest.fail(f"{name}: {attempt()}")
            assert str(path) in str(caught.value), name
        assert path.read_bytes() == content, name


def test_a_file_of_another_class_than_its_name(recorded, folder, snapshot):
    (folder / f"{ID}.json").rename(folder / "other-1234.json")
    assert refusal(folder, lambda: recorded.load("other-1234")) == snapshot


@posix
def test_a_folder_in_place_of_the_file(store, folder):
    (folder / f"{ID}.json").mkdir(parents=True)
    with pytest.raises(StorageError, match="Is a directory"):
        store.load(ID)


@not_root
def test_a_file_that_may_not_be_read(recorded, folder):
    (folder / f"{ID}.json").chmod(0)
    with pytest.raises(StorageError, match="Permission denied"):
        recorded.load(ID)


def test_a_read_that_fails(recorded, folder, monkeypatch, snapshot):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(folder, lambda: recorded.load(ID)) == snapshot


def test_a_file_in_place_of_the_folder(folder):
    folder.write_text("a file")
    store = FileStore(folder)
    for attempt in (store.check_writable, lambda: store.record(SESSION), store.classes):
        assert folder.name in refusal(folder, attempt)
    assert folder.read_text() == "a file"


def test_a_parent_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "deep" / "baselines"
    assert folder.name in refusal(folder, FileStore(folder).check_writable)


@not_root
def test_a_folder_that_is_read_only(recorded, folder):
    folder.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            recorded.check_writable()
    finally:
        folder.chmod(0o700)


def test_a_disk_that_is_full_is_known_before_anything_is_measured(recorded, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"baselines.*No space left on device"):
        recorded.check_writable()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        recorded.record(sample_session("2026-02-02T00:00:00Z"))
    assert recorded.load(ID) == SESSION


def test_a_lock_that_is_never_released(recorded, folder, monkeypatch, snapshot):
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0.0)
    with FileLock(folder / ".lock"):
        assert refusal(folder, recorded.check_writable) == snapshot


def test_a_lock_that_cannot_be_had(recorded, folder, monkeypatch, snapshot):
    said = []
    for error in (PermissionError(13, "Permission denied"), NotImplementedError("no flock")):

        def refuse(*_, error=error):
            raise error

        monkeypatch.setattr(FileLock, "acquire", refuse)
        said.append(refusal(folder, lambda: recorded.record(SESSION)))
    assert said == snapshot


def test_the_lock_is_free_after_a_failure(recorded, folder):
    path = folder / f"{ID}.json"
    path.write_text("damaged")
    with pytest.raises(StorageError):
        recorded.record(SESSION)
    path.unlink()
    recorded.record(SESSION)
    assert recorded.load(ID) == SESSION


def test_processes_that_save_at_once_lose_nothing(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=save_baselines, args=(folder, process)) for process in range(2)]
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
    # Some versions of filelock remove the lock.
    assert {path.name for path in folder.iterdir()} - {".lock"} == {".gitignore", f"{ID}.json"}
