"""Questions in SQL: the table of measurements, queried where it is, by DuckDB or by SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.history.measurements import MEASUREMENT_COLUMNS, MEASUREMENTS
from pytest_infergate.history.parquet_parts import (
    document_rows,
    existing_runs,
    first_sentence,
    opened_measurements,
    parquet_folder,
    usable_parts,
    without_runs,
)
from pytest_infergate.history.session_store import SessionStore
from pytest_infergate.history.session_tables import TableSessions

_ALLOWED: Final = frozenset(
    (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)
"""What a query may do in SQLite; not, for example, attach another file."""
_FETCHED: Final = 1000
"""Number of rows that are fetched at once."""


class QueryAnswer(NamedTuple):
    """The answer to a query."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


def asked(store: SessionStore, sql: str) -> AbstractContextManager[QueryAnswer]:
    """Answer a query, which can only read, and only the history.

    The table is `MEASUREMENTS`. Databases answer themselves; other places are read by DuckDB if it is
    installed, and by SQLite otherwise. Raises `ConfigurationError` for an invalid query, and for a place
    without sessions, also while rows are read.
    """
    if isinstance(store, TableSessions):
        return _from_tables(store, sql)
    try:
        import duckdb  # noqa: F401
    except ImportError:
        return _from_sqlite(store, sql)
    return _from_duckdb(store, sql)


@contextmanager
def _from_tables(store: TableSessions, sql: str) -> Iterator[QueryAnswer]:
    with store.driver() as connection:
        if connection is None:
            raise without_runs(store)
        answer = _sqlite_answer if isinstance(connection, sqlite3.Connection) else _postgres_answer
        with answer(connection, sql) as found:
            yield found


@contextmanager
def _postgres_answer(connection: Any, sql: str) -> Iterator[QueryAnswer]:
    import psycopg

    fetch = f"FETCH {_FETCHED} FROM answer"
    cursor = connection.cursor()
    cursor.execute("SET TRANSACTION READ ONLY")
    try:
        # A cursor is of one query that only reads, and what is prepared is a single statement.
        cursor.execute(f"DECLARE answer NO SCROLL CURSOR FOR {sql}", prepare=True)
        cursor.execute(fetch)
    except psycopg.Error as error:
        raise _invalid(error) from error

    def rows() -> Iterator[Sequence[Any]]:
        while found := cursor.fetchall():
            yield from found
            cursor.execute(fetch)

    yield QueryAnswer(tuple(column.name for column in cursor.description), _checked(rows(), psycopg.Error))


@contextmanager
def _from_sqlite(store: SessionStore, sql: str) -> Iterator[QueryAnswer]:
    names = existing_runs(store)
    # A temporary file, which SQLite keeps in memory as long as it fits.
    connection = sqlite3.connect("")
    try:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in MEASUREMENT_COLUMNS.items())
        places = ", ".join(f":{name}" for name in MEASUREMENT_COLUMNS)
        connection.execute(f"CREATE TABLE {MEASUREMENTS} ({columns})")
        connection.executemany(
            f"INSERT INTO {MEASUREMENTS} VALUES ({places})",  # noqa: S608 - constants
            document_rows(store, names),
        )
        connection.commit()
        with _sqlite_answer(connection, sql) as found:
            yield found
    finally:
        connection.close()


@contextmanager
def _sqlite_answer(connection: sqlite3.Connection, sql: str) -> Iterator[QueryAnswer]:
    # As in the other engines.
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
    )
    try:
        try:
            cursor = connection.execute(sql)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _invalid(error) from error
        if cursor.description is None:
            raise _not_one_query()
        columns = tuple(column[0] for column in cursor.description)
        yield QueryAnswer(columns, _checked(cursor, sqlite3.Error))
    finally:
        # The transaction ends after the query.
        connection.set_authorizer(lambda *_: sqlite3.SQLITE_OK)


@contextmanager
def _from_duckdb(store: SessionStore, sql: str) -> Iterator[QueryAnswer]:
    import duckdb

    for attempt in range(2):
        names = existing_runs(store)
        parts = usable_parts(parquet_folder(store), names)
        with opened_measurements(store, names, parts) as connection:
            try:
                statements = connection.extract_statements(sql)
                if [each.type for each in statements] != [duckdb.StatementType.SELECT]:
                    raise _not_one_query()
                connection.execute(statements[0])
            except duckdb.IOException as error:
                if attempt == 0:  # another process may have compacted the history, and replaced a file
                    continue
                raise _invalid(error) from error
            except duckdb.Error as error:
                raise _invalid(error) from error
            columns = tuple(column[0] for column in connection.description or ())
            yield QueryAnswer(columns, _checked(iter(connection.fetchone, None), duckdb.Error))
            return


def _checked(rows: Iterator[Any], kind: type[Exception]) -> Iterator[Sequence[Any]]:
    """Yield rows; an error in one of them is one of the query."""
    try:
        yield from rows
    except kind as error:
        raise _invalid(error) from error


def _not_one_query() -> ConfigurationError:
    return ConfigurationError(
        f"the query must be one SELECT. Hint: it reads {MEASUREMENTS}, and cannot change anything"
    )


def _invalid(error: BaseException) -> ConfigurationError:
    return ConfigurationError(
        f"the query cannot be answered: {first_sentence(error)}. Hint: it is one SELECT from {MEASUREMENTS}, "
        f"which has the columns {', '.join(MEASUREMENT_COLUMNS)}"
    )
