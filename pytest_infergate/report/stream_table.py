"""Times of streams as text: until the first item, between items, and the rate of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Latency, Stream
from pytest_infergate.core.domain.outcome import CaseResult
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report.load_table import shown_bounds
from pytest_infergate.report.table import Column


class StreamRow(Struct, frozen=True, kw_only=True):
    """One case whose result arrives item by item, as text."""

    case: str
    ttft: str
    ttft_p95: str
    itl: str
    itl_p95: str
    tpot: str
    prompt: str
    """Tokens of the prompts of a call."""
    output: str
    """Tokens that a call yields."""
    items: str
    rate: str
    """Tokens a second, or items if the tokens are unknown."""
    growth: str
    bounds: dict[str, str]
    """Of the percentiles, by column."""


def _known(key: str, header: str, *, title: str = "") -> Column[StreamRow]:
    """Column that a table has if any of its cells is known."""

    def cell(row: StreamRow) -> str:
        return str(getattr(row, key))

    return Column(
        key, header, cell, title=title, shown=lambda rows: any(cell(row) != units.UNKNOWN for row in rows)
    )


def _several(rows: Sequence[StreamRow]) -> bool:
    """Return whether an item is not always one token."""
    return any(row.items != row.output for row in rows)


STREAM_COLUMNS: Final[tuple[Column[StreamRow], ...]] = (
    Column("case", "case", lambda row: row.case, left=True),
    Column("ttft", "TTFT p50", lambda row: row.ttft),
    _known("ttft_p95", "TTFT p95"),
    _known("itl", "ITL p50"),
    _known("itl_p95", "ITL p95"),
    _known("tpot", "TPOT"),
    Column("rate", "rate", lambda row: row.rate),
    _known("prompt", "prompt", title="Prompt tokens"),
    _known("output", "output", title="Output tokens"),
    Column("items", "items", lambda row: row.items, shown=_several),
    _known("growth", "growth", title="Growth of ITL"),
)
STREAM_TITLE: Final = "streams, with the time to the first item (TTFT) and between items (ITL)"


def stream_rows(cases: Iterable[tuple[str, CaseResult | None]]) -> list[StreamRow]:
    """Format the cases that are streams; each comes with its name."""
    return [
        stream_row(name, result.measurement.stream, result.measurement.latency)
        for name, result in cases
        if result is not None and result.measurement is not None and result.measurement.stream is not None
    ]


def stream_row(name: str, stream: Stream, latency: Latency | None) -> StreamRow:
    """Format the figures of one case, whose calls take `latency` until the end of the stream."""
    first, between = stream.first_item, stream.between_items
    count, what = stream.items, "items"
    if stream.output_tokens is not None:
        count, what = stream.output_tokens, "tokens"
    return StreamRow(
        case=name,
        ttft=units.seconds(first.p50.value),
        ttft_p95=units.seconds(first.seen(95)),
        itl=units.seconds(None if between is None else between.p50.value),
        itl_p95=units.seconds(None if between is None else between.seen(95)),
        tpot=units.seconds(stream.per_token),
        prompt=_count(stream.prompt_tokens),
        output=_count(stream.output_tokens),
        items=_count(stream.items),
        rate=units.rate(None if latency is None else count / max(latency.mean, 1e-9), what),
        growth=units.UNKNOWN if stream.growth is None else f"x{units.significant(stream.growth, 3)}",
        bounds={
            "ttft": shown_bounds(first.p50),
            "ttft_p95": shown_bounds(first.p95) if first.seen(95) is not None else "",
            "itl": shown_bounds(None if between is None else between.p50),
            "itl_p95": shown_bounds(None if between is None or between.seen(95) is None else between.p95),
        },
    )


def _count(value: float | None) -> str:
    return units.UNKNOWN if value is None else units.trimmed(value)
