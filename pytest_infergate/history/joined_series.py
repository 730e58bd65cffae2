"""Series of many runs by DuckDB, which joins runs in a row into one point faster than Python."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pytest_infergate.core.domain.history_values import CaseSeries, SeriesPoint
from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import StorageError
from pytest_infergate.history.measurements import MEASUREMENTS
from pytest_infergate.history.parquet_parts import (
    first_sentence,
    opened_measurements,
    parquet_folder,
    usable_parts,
)
from pytest_infergate.history.session_store import SessionStore

_QUERY = f"""
SELECT case_json, hardware, part, min(created), median(p50), median(speed), bool_or(failed),
    arg_max(commit_hash, created), arg_max(release, created)
FROM {MEASUREMENTS} JOIN parts USING (session)
WHERE p50 IS NOT NULL GROUP BY case_json, hardware, part ORDER BY part
"""  # noqa: S608 - a constant


def joined_series(store: SessionStore, runs: Sequence[str], size: int) -> list[CaseSeries]:
    """Return series of which each point is that of `joined_point` for so many runs in a row.

    Raises `ImportError` without DuckDB, and `StorageError` if it fails.
    """
    import duckdb

    parts = usable_parts(parquet_folder(store), runs)
    found: dict[tuple[str, str], list[SeriesPoint]] = {}
    try:
        with opened_measurements(store, runs, parts) as connection:
            connection.execute(
                "CREATE TABLE parts AS SELECT unnest(?) AS session, unnest(range(?)) // ? AS part",
                [list(runs), len(runs), size],
            )
            for case, hardware, _, *point in connection.execute(_QUERY).fetchall():
                found.setdefault((case, hardware), []).append(SeriesPoint(*point))
    except duckdb.Error as error:
        raise StorageError(
            f"{store.location} cannot be read by DuckDB: {first_sentence(error)}. Hint: try again; another "
            "process may have compacted the history meanwhile"
        ) from error
    return [
        CaseSeries(msgspec.json.decode(case, type=Case), hardware, tuple(points))
        for (case, hardware), points in found.items()
    ]
