"""Figures under load as text, with the prediction beside the measurement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Estimate, LoadFigures
from pytest_infergate.core.domain.outcome import CaseResult
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report.table import Column


class LoadRow(Struct, frozen=True, kw_only=True):
    """One case that was served under load, as text."""

    case: str
    load: str
    requests: str
    """Answered ones, and those that were not."""
    p50: str
    p95: str
    predicted: str
    """The p95 that is simulated from the times of calls: as measured, and as slow as in another launch."""
    p99: str
    rate: str
    goodput: str
    """Answers within the limit, and their share of the requests."""
    batch: str
    """Mean and largest batch."""
    queue: str
    """Longest queue."""
    busy: str
    bounds: dict[str, str]
    """Of the percentiles, by column."""


LOAD_COLUMNS: Final[tuple[Column[LoadRow], ...]] = (
    Column("case", "case", lambda row: row.case, left=True),
    Column("load", "load", lambda row: row.load),
    Column("requests", "answered", lambda row: row.requests),
    Column("p50", "p50", lambda row: row.p50),
    Column("p95", "p95", lambda row: row.p95),
    Column("predicted", "predicted", lambda row: row.predicted, title="p95 predicted"),
    Column("p99", "p99", lambda row: row.p99),
    Column("rate", "rate", lambda row: row.rate),
    Column(
        "goodput",
        "goodput",
        lambda row: row.goodput,
        shown=lambda rows: any(row.goodput != units.UNKNOWN for row in rows),
    ),
    Column("batch", "batch", lambda row: row.batch, title="Mean batch"),
    Column("queue", "queue", lambda row: row.queue, title="Longest queue"),
    Column("busy", "busy", lambda row: row.busy),
)
FULL: Final = 100
"""Per cent of all queries."""
LOAD_TITLE: Final = "served under load by MLPerf LoadGen, latency from arrival to answer"


def load_rows(cases: Iterable[tuple[str, CaseResult | None]]) -> list[LoadRow]:
    """Format the cases that were served under load; each comes with its name."""
    return [
        load_row(name, result.measurement.load)
        for name, result in cases
        if result is not None and result.measurement is not None and result.measurement.load is not None
    ]


def load_row(name: str, load: LoadFigures) -> LoadRow:
    """Format the figures of one case."""
    good = units.UNKNOWN
    if load.within is not None and load.queries > 0:
        share = units.percent(load.within / load.queries, signed=False)
        good = f"{units.rate(load.goodput)} ({share})"
    left = load.queries - load.answered
    percentiles = {50: load.p50, 95: load.p95, 99: load.p99}
    # Of fewer queries, none exceeds the percentile.
    p50, p95, p99 = (
        units.seconds(None if found is None or load.queries * (100 - p) < FULL else found.value)
        for p, found in percentiles.items()
    )
    return LoadRow(
        case=name,
        load=load.load.text,
        requests=f"{load.answered:,}" + (f" of {load.queries:,}" if left else ""),
        p50=p50,
        p95=p95,
        predicted=units.seconds(load.predicted_p95)
        if load.predicted_p95 is None
        else shown_bounds(
            Estimate(value=load.predicted_p95, low=load.predicted_p95, high=load.predicted_slow_p95)
        ),
        p99=p99,
        rate=units.rate(load.rate),
        goodput=good,
        batch=f"{units.trimmed(load.mean_batch)} of {load.max_batch}",
        queue=f"{load.longest_queue:,}",
        busy=units.percent(load.busy, signed=False, decimals=0),
        bounds=dict(zip(("p50", "p95", "p99"), map(shown_bounds, percentiles.values()), strict=True)),
    )


def shown_bounds(estimate: Estimate | None) -> str:
    """Format the bounds of a time; empty if there are too few calls for them."""
    if estimate is None or (estimate.low is None and estimate.high is None):
        return ""
    low, high = units.seconds(estimate.low), units.seconds(estimate.high)
    if estimate.low is None:
        return f"{high} or less"
    return f"{low} or more" if estimate.high is None else f"{low} to {high}"
