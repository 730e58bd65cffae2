"""Documents of a history: their names, which say what is in them, and their text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, TypeVar, overload

import msgspec

from pytest_infergate.core.domain.history_values import HISTORY_VERSION, HistorySession
from pytest_infergate.errors import StorageError

MAX_DOCUMENT_BYTES: Final = 64 * 10**6
"""Maximum size of a document; a session of 500 cases has 0.4 MB."""
RUN: Final = "run"
"""Kind of a document with the cases of a run."""
RECORDED: Final = "baseline"
"""Kind of a document that was recorded into the baseline."""
ACCEPTED: Final = "accept"
"""Kind of a document that accepts changes of cases."""
_KINDS: Final = (RUN, RECORDED, ACCEPTED)
_NAME: Final = re.compile(
    r"(?P<time>\d{8}T\d{12}Z)\.(?P<project>[a-z0-9-]{1,40})\.(?P<kind>run|baseline|accept)"
    r"\.(?P<classes>none|[0-9a-f]{8}(?:-[0-9a-f]{8}){0,7})\.(?P<digest>[0-9a-f]{16})\.json"
)
_T = TypeVar("_T")
_HINT: Final = "Hint: restore that document, or remove it; the others are independent of it"


class DocumentName(NamedTuple):
    """The parts of a name. Names sort by time."""

    name: str
    time: str
    """Start of the session: ``20260131T120000000000Z``."""
    project: str
    """Name of the project, as far as file names allow it."""
    kind: str
    classes: tuple[str, ...]
    """The last eight digits of the ids of its hardware classes."""
    digest: str


def document_name(name: str) -> DocumentName | None:
    """Return the parts of a name; ``None`` for the name of anything else."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    classes = () if match["classes"] == "none" else tuple(match["classes"].split("-"))
    return DocumentName(name, match["time"], match["project"], match["kind"], classes, match["digest"])


def slug(project: str) -> str:
    """Return the name of a project as it is in the names of its documents."""
    return re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-")[:40].strip("-") or "project"


def encoded(session: HistorySession) -> tuple[str, bytes]:
    """Return the name and the text of a document; equal sessions have equal names.

    Raises `StorageError` for a session whose start is not a time.
    """
    content = msgspec.json.encode(session, order="sorted")
    time = stamp(session.created)
    if session.baseline is None:
        kind, classes = RUN, sorted(session.hardware)
    else:
        accepting = any(entry.accepted for entry in session.baseline.cases)
        kind, classes = ACCEPTED if accepting else RECORDED, [session.baseline.hardware.id]
    digests = [each[-8:] for each in classes[:8]]
    name = f"{time}.{slug(session.project)}.{kind}.{'-'.join(digests) or 'none'}.{_digest(content)}.json"
    return name, content


def stamp(created: str) -> str:
    """Return a time as names of documents begin. Raises `StorageError` for a text that is not a time."""
    try:
        time = datetime.fromisoformat(created.replace("Z", "+00:00"))
        if time.tzinfo is None:
            time = time.replace(tzinfo=timezone.utc)
        return time.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    except (ValueError, OverflowError):
        raise StorageError(
            f"the start of a session must be a time like 2026-01-31T12:00:00Z, got {created!r}. "
            "Hint: correct `$.created`"
        ) from None


@overload
def decoded(name: str, content: bytes, where: str) -> HistorySession: ...
@overload
def decoded(name: str, content: bytes, where: str, kind: type[_T]) -> _T: ...
def decoded(name: str, content: bytes, where: str, kind: type[Any] = HistorySession) -> Any:
    """Read a document. Raises `StorageError` with place, name and hint if it is not what was kept.

    `kind` may be a struct with some of the fields, among them `schema_version`.
    """
    place = f"{where}: {name}"
    if len(content) > MAX_DOCUMENT_BYTES:
        raise StorageError(
            f"{place} must have at most {MAX_DOCUMENT_BYTES / 1e6:.0f} MB, got {len(content) / 1e6:,.0f} MB. "
            f"{_HINT}"
        )
    parts = document_name(name)
    if parts is None or parts.digest != _digest(content):
        raise StorageError(f"{place} is damaged: its content does not match its name. {_HINT}")
    try:
        session = msgspec.json.decode(content, type=kind)
        version = session.schema_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Parsing it twice is for documents that fail only: a newer one may have fields that are unknown here.
        version = _version(content)
        if version <= HISTORY_VERSION:
            raise StorageError(f"{place} does not match the schema of histories: {error}. {_HINT}") from error
    if version > HISTORY_VERSION:
        raise StorageError(
            f"{place}: `$.schema_version` must be at most {HISTORY_VERSION}, got {version}, which a newer "
            "infergate wrote. Hint: upgrade pytest-infergate"
        )
    if version < 1:
        raise StorageError(f"{place}: `$.schema_version` must be at least 1, got {version}. {_HINT}")
    return session


class _Version(msgspec.Struct, frozen=True):
    schema_version: int = HISTORY_VERSION


def _version(content: bytes) -> int:
    try:
        return msgspec.json.decode(content, type=_Version).schema_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return HISTORY_VERSION


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def of_project(names: Sequence[str], project: str | None, where: str) -> tuple[DocumentName, ...]:
    """Return the documents of a project, the oldest first; ``None`` is the only project of the history.

    Other files are ignored. Raises `StorageError` if there are documents, but none of this project, and for
    ``None`` if there are several projects.
    """
    known = sorted(filter(None, map(document_name, names)))
    found = sorted({name.project for name in known})
    if project is None and len(found) > 1:
        raise StorageError(
            f"{where} holds several projects: {', '.join(found)}. Hint: choose one with --project"
        )
    wanted = found[0] if project is None and found else slug(project or "")
    if known and wanted not in found:
        raise StorageError(
            f"{where} holds the history of {', '.join(found)}, not of {wanted}. Hint: choose another place, "
            "or set the name with project in [tool.infergate]"
        )
    return tuple(name for name in known if name.project == wanted)
