"""The folder of a run, and what ended runs left behind."""

import os
import signal
import subprocess
import sys

import pytest

from pytest_infergate.paired.run_folder import FOLDER_PREFIX, FOLDER_VARIABLE, run_folder

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def dead():
    """The number of a process that is over."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def left_behind(place, owner):
    folder = place / f"{FOLDER_PREFIX}{owner}-abc"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "output").write_text("")
    return folder


def another_run():
    """What another run does when it begins and ends."""
    with run_folder():
        pass


def test_the_folder_names_its_run_and_is_removed_with_it(place):
    with run_folder() as made:
        assert made.parent == place
        assert made.name.startswith(f"{FOLDER_PREFIX}{os.getpid()}-")
        another_run()
        assert made.is_dir()
    assert not list(place.iterdir())


def test_the_folder_is_removed_after_an_error(place):
    with pytest.raises(KeyboardInterrupt), run_folder():
        raise KeyboardInterrupt
    assert not list(place.iterdir())


def test_the_folder_of_a_dead_run_is_removed(place, dead):
    left = left_behind(place, dead)
    another_run()
    assert not left.exists()


@pytest.mark.parametrize("owner", ["living", "", "x", "12x", "-1"])
def test_other_folders_stay(place, owner):
    left = left_behind(place, os.getppid() if owner == "living" else owner)
    another_run()
    assert (left / "inside" / "output").exists()


def test_a_folder_of_an_impossible_process_is_removed(place):
    left_behind(place, 10**30)
    another_run()
    assert not list(place.iterdir())


@linux
def test_processes_of_a_dead_run_are_killed_and_no_others(place, dead):
    left = left_behind(place, dead)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = {**os.environ, FOLDER_VARIABLE: f"{left}x"}
    with (
        subprocess.Popen(command, env={**os.environ, FOLDER_VARIABLE: str(left)}, **pipes) as orphan,
        subprocess.Popen(command, env=other, **pipes) as stranger,
    ):
        try:
            orphan.stdout.readline()
            stranger.stdout.readline()
            another_run()
            assert orphan.wait(5) == -signal.SIGKILL
            assert stranger.poll() is None
        finally:
            orphan.kill()
            stranger.kill()


def test_git_forgets_the_worktree_of_a_dead_run(place, dead):
    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *name, *arguments], cwd=place / "repository", capture_output=True, text=True, check=True
        )
        return done.stdout

    (place / "repository").mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    left = left_behind(place, dead)
    git("worktree", "add", "--detach", "-q", str(left / "base---"))
    assert str(left) in git("worktree", "list")
    another_run()
    assert not left.exists()
    assert str(left) not in git("worktree", "list", "--porcelain")
