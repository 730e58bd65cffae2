import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import atomic_write

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "report.html"
    atomic_write(path, "one\n")
    atomic_write(str(path), "größer\r\n")
    assert path.read_bytes() == "größer\r\n".encode()
    assert names(path.parent) == ["report.html"]


def test_bytes_of_a_file_name_that_are_no_text_are_escaped(tmp_path):
    atomic_write(tmp_path / "a.json", '"\udc80"')
    assert (tmp_path / "a.json").read_text() == '"\\udc80"'


ERRORS = (
    *(errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.EISDIR, errno.ENAMETOOLONG, errno.EIO),
)


@posix
def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, snapshot):
    path = tmp_path / "report.html"
    atomic_write(path, "earlier")

    def failing(number, owner, step):
        """What is said where a step of writing fails with this error."""

        def fail(*_):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(owner, step, fail)
            with pytest.raises(StorageError) as caught:
                atomic_write(path, "later")
        assert path.read_text() == "earlier", (number, step)
        assert names(tmp_path) == ["report.html"], (number, step)
        return str(caught.value).replace(str(path), path.name)

    synchronised = [failing(number, os, "fsync") for number in ERRORS]
    assert synchronised == snapshot
    assert [failing(number, Path, "replace") for number in ERRORS] == synchronised


def test_an_interruption_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    atomic_write(path, "earlier")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, "later")
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["report.html"]


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(StorageError, match=re.escape(str(tmp_path))):
        atomic_write(tmp_path, "text")
    assert names(tmp_path) == []


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "folder").write_text("a file")
    path = tmp_path / "folder" / "report.html"
    with pytest.raises(StorageError, match=re.escape(str(path))):
        atomic_write(path, "text")


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(StorageError, match="create the folder"):
        atomic_write(tmp_path / "no" / "report.html", "text")
    assert names(tmp_path) == []


def test_old_unfinished_files_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    unfinished = ".infergate-0123456789ab.tmp"
    others = ["report.tmp", ".infergate-0123.tmp", ".infergate-notes.tmp", ".infergate-0123456789AB.tmp"]
    for name in (unfinished, *others):
        (tmp_path / name).write_text("")
    (tmp_path / ".infergate-00000000000a.tmp").mkdir()
    young = ".infergate-00000000000b.tmp"
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    (tmp_path / young).write_text("")
    atomic_write(tmp_path / "a.json", "text")
    assert names(tmp_path) == sorted([*others, ".infergate-00000000000a.tmp", young, "a.json"])


@posix
def test_an_old_link_in_place_of_an_unfinished_file_is_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("text")
    link = tmp_path / ".infergate-0123456789ab.tmp"
    link.symlink_to(kept)
    os.utime(link, (0, 0), follow_symlinks=False)
    atomic_write(tmp_path / "a.json", "text")
    assert names(tmp_path) == [link.name, "a.json", "kept"]


@posix
@pytest.mark.parametrize(
    "name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "log", "/dev/fd/3", "link"]
)
def test_an_output_that_is_open_already_is_written_to_and_not_replaced(tmp_path, name):
    if name.startswith("/proc") and not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "import os, sys; from pytest_infergate.storage.atomic import atomic_write; "
        "os.dup2(1, 3); print('before'); atomic_write(sys.argv[1], 'text\\n'); print('after')"
    )
    path = tmp_path / "log"
    with path.open("w") as log:
        subprocess.run([sys.executable, "-c", program, name], stdout=log, cwd=tmp_path, check=True)
    assert path.read_text() == "before\ntext\nafter\n"
    assert names(tmp_path) == ["link", "log"]


@posix
def test_a_pipe_is_written_to_and_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write(path, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert path.is_fifo()


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(StorageError, match="x" * 300):
        atomic_write(tmp_path / ("x" * 300), "text")
    assert names(tmp_path) == []


@posix
def test_modes_are_those_of_other_files(tmp_path):
    plain, kept = tmp_path / "plain", tmp_path / "kept"
    plain.write_text("")
    atomic_write(tmp_path / "new", "")
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode
    kept.write_text("")
    kept.chmod(0o640)
    atomic_write(kept, "later")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640


@posix
def test_links_are_followed(tmp_path):
    (tmp_path / "target").write_text("earlier")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    atomic_write(tmp_path / "link", "later")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "later"


@posix
def test_devices_are_written_through_and_stay(capfd):
    atomic_write("/dev/null", "text")
    assert not Path("/dev/null").is_file()
    with pytest.raises(StorageError, match=r"/dev/full.*No space left on device"):
        atomic_write("/dev/full", "text")
