"""A history in a database: a row for each session, and one for each case of it, which queries may use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from pytest_infergate.core.domain.history_values import CaseSeries, SeriesPoint
from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.history.documents import decoded, document_name
from pytest_infergate.history.measurements import MEASUREMENTS, measurement_rows
from pytest_infergate.history.session_folder import checked_name, different
from pytest_infergate.history.session_objects import unreachable

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA: Final = 1
"""Version of the tables."""
DATABASES: Final = ("sqlite", "postgresql", "postgresql+psycopg")
"""Schemes of addresses."""
_LOCK: Final = 5_201_846_297
"""Key of the advisory lock under which the tables are created."""
TIMEOUT: Final = 10
"""Seconds until a server must have answered."""


class TableSessions:
    """A `SessionStore` in SQLite or PostgreSQL. The tables are created when the first document is added."""

    def __init__(self, url: str, location: str) -> None:
        """Take the address, also without credentials. Raises `ConfigurationError` without a driver."""
        self.location = location
        self._password = unquote(url.rpartition("@")[0].partition("://")[2].partition(":")[2])
        self._known = False
        """Whether the tables are known to be those of this version."""
        scheme, _, rest = url.partition("://")
        try:
            import sqlalchemy

            options: dict[str, Any] = {"connect_args": {"timeout": 60, "isolation_level": None}}
            if scheme != "sqlite":
                scheme = "postgresql+psycopg"
                limit = f"-c statement_timeout={3 * TIMEOUT}s -c lock_timeout={3 * TIMEOUT}s"
                options = {"connect_args": {"connect_timeout": TIMEOUT, "options": limit}}
            with self._errors():
                self._engine = sqlalchemy.create_engine(
                    f"{scheme}://{rest}", poolclass=sqlalchemy.pool.NullPool, **options
                )
        except ImportError as error:
            raise ConfigurationError(
                f"{location}: {scheme}:// needs {error.name or 'a driver'}. Hint: pip install "
                "'pytest-infergate[sql]'"
            ) from None
        except StorageError as error:
            raise ConfigurationError(str(error)) from None
        if scheme == "sqlite":
            # Otherwise two writers may both begin to read, and neither can go on to write.
            sqlalchemy.event.listen(
                self._engine, "begin", lambda one: one.exec_driver_sql("BEGIN IMMEDIATE") and None
            )
        tables = sqlalchemy.MetaData()
        text, real = sqlalchemy.Text, sqlalchemy.Double
        self._version = sqlalchemy.Table(
            "infergate_schema", tables, sqlalchemy.Column("version", sqlalchemy.Integer, nullable=False)
        )
        self._sessions = sqlalchemy.Table(
            "infergate_sessions", tables,
            sqlalchemy.Column("name", text, primary_key=True),
            sqlalchemy.Column("project", text, nullable=False),
            sqlalchemy.Column("kind", text, nullable=False),
            sqlalchemy.Column("created", text, nullable=False),
            sqlalchemy.Column("content", text, nullable=False),
        )  # fmt: skip
        self._measurements = sqlalchemy.Table(
            MEASUREMENTS, tables,
            sqlalchemy.Column("session", text, nullable=False, primary_key=True),
            sqlalchemy.Column("number", sqlalchemy.Integer, nullable=False, primary_key=True),
            sqlalchemy.Column("project", text, nullable=False, index=True),
            sqlalchemy.Column("created", text, nullable=False),
            sqlalchemy.Column("commit_hash", text),
            sqlalchemy.Column("release", text),
            sqlalchemy.Column("case_name", text, nullable=False),
            sqlalchemy.Column("case_json", text, nullable=False),
            sqlalchemy.Column("hardware", text, nullable=False),
            sqlalchemy.Column("verdict", text, nullable=False),
            sqlalchemy.Column("failed", sqlalchemy.Boolean, nullable=False),
            *(sqlalchemy.Column(name, real) for name in ("p50", "p95", "p99", "throughput", "speed")),
            sqlalchemy.Column("peak_memory", sqlalchemy.BigInteger),
        )  # fmt: skip
        self._tables = tables

    def names(self) -> tuple[str, ...]:
        """Return the keys of all sessions."""
        import sqlalchemy

        if self._is_absent():
            return ()
        with self._connected() as connection:
            if not self._made(connection):
                return ()
            return tuple(connection.scalars(sqlalchemy.select(self._sessions.c.name)))

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the content of sessions, in one query for a few hundred of them."""
        import sqlalchemy

        batch = 200
        for start in range(0, len(names), batch):
            chosen = names[start : start + batch]
            columns = self._sessions.c
            query = sqlalchemy.select(columns.name, columns.content).where(columns.name.in_(chosen))
            with self._connected() as connection:
                found = (
                    {row.name: row.content for row in connection.execute(query)}
                    if self._made(connection)
                    else {}
                )
            for name in chosen:
                if name not in found:
                    raise StorageError(f"{self.location}: {name} is gone. Hint: run again")
                yield name, found[name].encode()

    def add(self, name: str, content: bytes) -> bool:
        """Insert a session and its cases in one transaction."""
        import sqlalchemy
        from sqlalchemy.dialects import postgresql, sqlite

        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        parts = document_name(checked_name(name, self.location))
        session = decoded(name, content, self.location)
        with self._connected() as connection:
            self._create(connection)
            row = {
                "name": name,
                "project": session.project,
                "kind": "" if parts is None else parts.kind,
                "created": session.created,
                "content": content.decode(),
            }
            inserted = connection.execute(
                dialect.insert(self._sessions)
                .values(row)
                .on_conflict_do_nothing()
                .returning(self._sessions.c.name)
            ).all()
            if not inserted:
                columns = self._sessions.c
                kept = connection.scalar(sqlalchemy.select(columns.content).where(columns.name == name))
                if kept != row["content"]:
                    raise different(self.location, name)
                return False
            rows = list(measurement_rows(name, session))
            if rows:
                connection.execute(sqlalchemy.insert(self._measurements), rows)
        return True

    def check_writable(self) -> None:
        """Create the tables if they are missing."""
        with self._connected() as connection:
            self._create(connection)

    def series(self, runs: Sequence[str]) -> list[CaseSeries]:
        """Return the series of runs in a row from the rows of their cases, without what was accepted."""
        import sqlalchemy

        if not runs:
            return []
        columns, sessions = self._measurements.c, self._sessions.c
        project = sqlalchemy.select(sessions.project).where(sessions.name == runs[0]).scalar_subquery()
        query = (
            sqlalchemy.select(
                columns.case_json, columns.hardware, columns.created, columns.p50, columns.speed,
                columns.failed, columns.commit_hash, columns.release,
            )
            .where(
                columns.project == project, columns.session.between(runs[0], runs[-1]),
                columns.p50.is_not(None),
            )
        )  # fmt: skip
        found: dict[tuple[str, str], dict[str, SeriesPoint]] = {}
        with self._connected() as connection:
            if self._made(connection):
                for case, hardware, created, *figures in connection.execute(query):
                    points = found.setdefault((case, hardware), {})
                    points[created] = SeriesPoint(created, *figures)
        return [
            CaseSeries(
                msgspec.json.decode(case, type=Case), hardware, tuple(points[key] for key in sorted(points))
            )
            for (case, hardware), points in found.items()
        ]

    @contextmanager
    def driver(self) -> Iterator[Any]:
        """Open a connection of the driver in a transaction; ``None`` if the tables are missing."""
        if self._is_absent():
            yield None
            return
        with self._connected() as connection:
            yield connection.connection.driver_connection if self._made(connection) else None

    def _is_absent(self) -> bool:
        """Return whether there is no file of SQLite, which would create it in order to read it."""
        file = self._engine.url.database
        return self._engine.dialect.name == "sqlite" and bool(file) and not Path(str(file)).exists()

    def _create(self, connection: Connection) -> None:
        """Create the tables under a lock, or check that they are those of this version."""
        import sqlalchemy

        if self._made(connection):
            return
        if self._engine.dialect.name == "postgresql":
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            if self._made(connection):
                return
        self._tables.create_all(connection)
        connection.execute(sqlalchemy.insert(self._version).values(version=SCHEMA))

    def _made(self, connection: Connection) -> bool:
        """Return whether the tables exist. Raises `StorageError` for those of another version."""
        import sqlalchemy

        if self._known:
            return True
        if not sqlalchemy.inspect(connection).has_table(self._version.name):
            return False
        versions = list(connection.scalars(sqlalchemy.select(self._version.c.version)))
        if versions != [SCHEMA]:
            newer = bool(versions) and max(versions) > SCHEMA
            hint = (
                "upgrade pytest-infergate"
                if newer
                else f"restore the table {self._version.name} from a backup"
            )
            raise StorageError(
                f"{self.location}: the version of its tables must be {SCHEMA}, got "
                f"{', '.join(map(str, versions)) or 'none'}. Hint: {hint}"
            )
        self._known = True
        return True

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            yield
        except DBAPIError as error:
            # Without the statement and its parameters, which are the whole session.
            raise unreachable(self.location, error.orig or error, self._password) from None
        except SQLAlchemyError as error:
            raise unreachable(self.location, error, self._password) from None
