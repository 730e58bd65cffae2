"""The temporary folder of one run with worker processes, and the removal of what ended runs left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pytest_infergate.paired.worktree import remove

FOLDER_VARIABLE: Final = "PYTEST_INFERGATE_PAIRED"
"""Names the folder of a run in the environment of all its processes."""
FOLDER_PREFIX: Final = "infergate-paired-"


@contextmanager
def run_folder() -> Iterator[Path]:
    """Make the folder of this run, removed on exit; first clean up after runs that ended.

    Its name contains the process id of the run.
    """
    place = Path(tempfile.gettempdir()).resolve()
    # A run that was killed cannot clean up after itself, and its suspended workers never end.
    for folder in place.glob(f"{FOLDER_PREFIX}*"):
        _clean_up(folder)
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clean_up(folder: Path) -> None:
    """Kill the processes of a run that has ended, and remove its folder and worktree."""
    owner = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
    if not owner.isdecimal() or _is_alive(int(owner)):
        return
    if sys.platform == "linux":
        mark = f"{FOLDER_VARIABLE}={folder}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or belongs to another user
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
    for pointer in folder.glob("base*/.git"):
        # A worktree's .git is a file: ``gitdir: /repository/.git/worktrees/name``.
        with suppress(OSError, ValueError, IndexError):
            text = pointer.read_text(encoding="utf-8")
            repository = Path(text.removeprefix("gitdir: ").strip()).parents[1]
            if repository.is_dir():
                remove(repository, pointer.parent)
    shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True
