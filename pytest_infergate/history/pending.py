"""Sessions that could not be added to their history yet, kept beside the baselines until they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pytest_infergate.core.domain.history_values import HistorySession
from pytest_infergate.errors import StorageError
from pytest_infergate.history.documents import document_name, encoded
from pytest_infergate.history.session_folder import FolderSessions
from pytest_infergate.history.session_history import Added, SessionHistory
from pytest_infergate.storage.atomic import unwritable

PENDING_FOLDER: Final = ".infergate/pending"
"""Folder of sessions that are not in the history yet, relative to the rootdir."""
ANSWER_SECONDS: Final = 60.0
"""Time in which a history must take a session at the end of a run."""
_T = TypeVar("_T")


class Pushed(NamedTuple):
    """What became of pending sessions."""

    added: tuple[Added, ...]
    problem: str = ""
    """Why some of them are still pending; empty if none is."""
    pending: int = 0


def keep_pending(session: HistorySession, rootdir: Path) -> str:
    """Write a session into the folder of pending ones; return its name."""
    folder = rootdir / PENDING_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What waits here is not part of the project.
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from error
    name, content = encoded(session)
    FolderSessions(folder).add(name, content)
    return name


def push(opened: Callable[[], SessionHistory], rootdir: Path, seconds: float = ANSWER_SECONDS) -> Pushed:
    """Add every pending session, and remove it when it is in the history; the oldest is the first.

    A session that the history refuses, or does not answer within `seconds`, stays.
    """
    store = FolderSessions(rootdir / PENDING_FOLDER)
    names = sorted(name for name in store.names() if document_name(name))
    added: list[Added] = []
    try:
        if names:
            history = called_within(seconds, opened, store.location)
        for name, content in store.read(names):

            def add(name: str = name, content: bytes = content) -> Added:
                return history.add_document(name, content)

            added.append(called_within(seconds, add, history.location))
            with suppress(FileNotFoundError):
                (rootdir / PENDING_FOLDER / name).unlink()
    except StorageError as error:
        return Pushed(tuple(added), str(error), len(names) - len(added))
    return Pushed(tuple(added))


def called_within(seconds: float, call: Callable[[], _T], where: str) -> _T:
    """Return the result of a call. Raises `StorageError` if it takes longer; it may go on in its thread."""
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            failure.append(error)

    # A thread that is no daemon would keep the process alive for as long as the server is silent.
    thread = threading.Thread(target=run, name="infergate-history", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise StorageError(
            f"{where} did not answer within {seconds:g} s. Hint: check the server, and push later"
        )
    return outcome[0]
