"""Measurements as Parquet, a file for each month: a copy of the sessions, which stay, for fast questions."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.history.documents import RUN, decoded, document_name
from pytest_infergate.history.measurements import MEASUREMENT_COLUMNS, MEASUREMENTS, measurement_rows
from pytest_infergate.history.session_branch import BranchSessions
from pytest_infergate.history.session_folder import FolderSessions
from pytest_infergate.history.session_store import SessionStore
from pytest_infergate.storage.atomic import unwritable
from pytest_infergate.storage.shared_folder import locked, unreadable
from pytest_infergate.storage.user_cache import user_cache

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NAME: Final = re.compile(r"(?P<month>\d{6})\.(?P<checksum>[0-9a-f]{8})\.parquet")
_SESSIONS: Final = "infergate_sessions"
"""Key of the metadata of a file in which the names of its sessions are."""


class ParquetPart(NamedTuple):
    """One file: the measurements of some sessions of a month, or of all of them."""

    path: Path
    month: str
    """Year and month of the sessions, as ``202601``."""
    sessions: frozenset[str]
    """Names of their documents."""


class Compacted(NamedTuple):
    """What compacting a history did."""

    sessions: int
    """Number of sessions that are in Parquet now."""
    new: int
    """Number of those that were not before."""
    folder: Path


def parquet_folder(store: SessionStore) -> Path:
    """Return the folder of the files: in that of the sessions, or else in the cache folder of this user.

    The files of places that share a folder do no harm, because the name of a session depends on its content.
    """
    if isinstance(store, FolderSessions):
        return Path(store.location) / "parquet"
    top = store.top if isinstance(store, BranchSessions) else ""
    return user_cache("histories") / hashlib.sha256(f"{store.location} {top}".encode()).hexdigest()[:16]


def run_names(store: SessionStore) -> tuple[str, ...]:
    """Return the names of all runs of a place, of every project, the oldest first."""
    known = (document_name(name) for name in store.names())
    return tuple(sorted(one.name for one in known if one is not None and one.kind == RUN))


def existing_runs(store: SessionStore) -> tuple[str, ...]:
    """Return `run_names`. Raises `ConfigurationError` if there are none."""
    names = run_names(store)
    if not names:
        raise without_runs(store)
    return names


def without_runs(store: SessionStore) -> ConfigurationError:
    """Return the error for a place without runs."""
    return ConfigurationError(f"{store.location} has no runs. Hint: add them with --infer-history")


def compact(store: SessionStore) -> Compacted:
    """Write the runs that are in no Parquet file yet, by month; what is complete is left as it is.

    Sessions are read and never changed. If this is interrupted, the files are those of before. Raises
    `ConfigurationError` without DuckDB, and `StorageError` for a damaged session and an unwritable folder.
    """
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(
            "history compact needs duckdb. Hint: pip install 'pytest-infergate[history]'; queries are "
            "answered without it, but take longer"
        ) from None
    folder = parquet_folder(store)
    names = existing_runs(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # It can be made again, and does not belong into a commit.
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        with locked(folder):
            new = _complete(store, folder, names)
    except OSError as error:
        raise unwritable(folder, error) from error
    except duckdb.Error as error:
        raise StorageError(
            f"cannot write {folder}: {first_sentence(error)}. Hint: check that disk, and try again"
        ) from error
    return Compacted(len(names), new, folder)


def _complete(store: SessionStore, folder: Path, names: Sequence[str]) -> int:
    """Write the file of each month that has sessions which its file does not have; return their number."""
    for unfinished in folder.glob(".infergate-*.tmp"):
        unfinished.unlink(missing_ok=True)
    months: dict[str, list[str]] = defaultdict(list)
    for name in names:
        months[name[:6]].append(name)
    parts = {part.month: part for part in usable_parts(folder, names)}
    new = 0
    for month, wanted in months.items():
        part = parts.get(month)
        known = frozenset[str]() if part is None else part.sessions
        if part is None or known != frozenset(wanted):
            parts[month] = _written(store, folder, part, month, wanted)
            new += len(frozenset(wanted) - known)
    kept = {part.path.name for month, part in parts.items() if month in months}
    for path in _files(folder):
        if path.name not in kept:
            path.unlink(missing_ok=True)
    return new


def _written(
    store: SessionStore, folder: Path, part: ParquetPart | None, month: str, names: Sequence[str]
) -> ParquetPart:
    """Write the file of a month: the rows of the one before, and those of sessions it does not have."""
    temporary = folder / f".infergate-{secrets.token_hex(6)}.tmp"
    metadata = msgspec.json.encode(names).decode()
    try:
        with opened_measurements(store, names, [] if part is None else [part], locked_up=False) as connection:
            connection.execute(
                f"COPY (SELECT * FROM {MEASUREMENTS} ORDER BY session, number) TO {quoted(temporary)} "  # noqa: S608
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{_SESSIONS}: {quoted(metadata)}}})"
            )
        path = folder / f"{month}.{_checksum(temporary)}.parquet"
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return ParquetPart(path, month, frozenset(names))


def usable_parts(folder: Path, names: Collection[str]) -> list[ParquetPart]:
    """Return the file of each month that has the most of these sessions; damaged files are left out."""
    import duckdb

    wanted = frozenset(names)
    best: dict[str, ParquetPart] = {}
    with duckdb.connect() as connection:
        for path in _files(folder):
            match = _NAME.fullmatch(path.name)
            # The name has a checksum, because a part that is damaged might be read as other figures.
            if match is None or _checksum(path) != match["checksum"]:
                continue
            query = f"SELECT value FROM parquet_kv_metadata({quoted(path)}) WHERE key = '{_SESSIONS}'"  # noqa: S608
            try:
                ((value,),) = connection.execute(query).fetchall()
                sessions = frozenset(msgspec.json.decode(value, type=list[str]))
            except (duckdb.Error, ValueError):
                continue
            part = ParquetPart(path, match["month"], sessions)
            other = best.get(part.month)
            if other is None or len(part.sessions & wanted) > len(other.sessions & wanted):
                best[part.month] = part
    return list(best.values())


@contextmanager
def opened_measurements(
    store: SessionStore, names: Sequence[str], parts: Sequence[ParquetPart], *, locked_up: bool = True
) -> Iterator[DuckDBPyConnection]:
    """Open DuckDB with the table of the measurements of these sessions.

    Those in `parts` are read from there, others from their documents. If it is locked up, nothing else can be
    read, and nothing written.
    """
    import duckdb

    covered = frozenset[str]().union(*(part.sessions for part in parts))
    files = [str(part.path) for part in parts]
    with (
        tempfile.TemporaryDirectory(prefix="infergate-") as temporary,
        duckdb.connect(config={"temp_directory": temporary}) as connection,
    ):
        documents = Path(temporary) / "rows.json"
        with documents.open("wb") as lines:
            for row in document_rows(store, [name for name in names if name not in covered]):
                lines.write(msgspec.json.encode(row) + b"\n")
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in MEASUREMENT_COLUMNS.items())
        connection.execute(
            f"CREATE TABLE uncompacted AS FROM read_json({quoted(documents)}, "
            f"format = 'newline_delimited', columns = {{{columns}}})"
        )
        documents.unlink()
        source = "FROM uncompacted"
        if files:
            source += f" UNION ALL BY NAME FROM read_parquet([{', '.join(map(quoted, files))}])"
        if covered - set(names):
            connection.execute("CREATE TABLE wanted AS SELECT unnest(?) AS session", [list(names)])
            source = f"FROM ({source}) SEMI JOIN wanted USING (session)"
        connection.execute(f"CREATE VIEW {MEASUREMENTS} AS {source}")
        if locked_up:
            connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, files))}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        yield connection


def document_rows(store: SessionStore, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of sessions from their documents. Raises `StorageError` for a damaged one."""
    for name, content in store.read(names):
        yield from measurement_rows(name, decoded(name, content, store.location))


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def _checksum(path: Path) -> str:
    value = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                value = zlib.crc32(block, value)
    except OSError:
        return "unreadable"
    return f"{value:08x}"


def quoted(text: object) -> str:
    """Return a text as a literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def first_sentence(error: BaseException) -> str:
    """Return what an engine says about a query, in one line and without the query."""
    lines = str(error).partition("\nLINE ")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip()).rstrip(".")
