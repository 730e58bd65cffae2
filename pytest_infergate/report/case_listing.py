"""A selection of the cases of a session as a table; of a single one, every figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from pytest_infergate.core.domain import metrics, units
from pytest_infergate.core.domain.outcome import CaseResult, Session
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.core.gate.decide import SEVERITY
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.report.columns import case_columns, legend
from pytest_infergate.report.rows import CaseParts, paired_with_verdicts, row
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.text import failure_message
from pytest_infergate.report.text_table import text_table

_METRICS: Final = {
    "p50": "p50_ms",
    "p90": "p90_ms",
    "p95": "p95_ms",
    "p99": "p99_ms",
    "cold_start": "cold_start_ms",
    "throughput": "throughput_per_s",
    "peak_memory": "peak_memory_mb",
    "weights": "weights_mb",
    "energy": "joules_per_item",
    "operators": "operators",
    "flops": "flops",
    "bytecodes": "bytecodes",
}
"""Metrics by the names of `--sort`; those of figures in the table are the keys of its columns."""
SORTS: Final = ("case", "verdict", *_METRICS)


def listing(session: Session, pattern: str = "", sort: str | None = None) -> str:
    """Render the cases whose name contains or matches `pattern`, sorted by one of `SORTS`, the worst first.

    Raises `ConfigurationError` for an unknown order, and if no case has such a name.
    """
    if sort is not None and sort not in SORTS:
        raise ConfigurationError(not_one_of("--sort", sort, SORTS))
    every = paired_with_verdicts(session)
    chosen = [parts for parts in every if name_matches(parts.subject.nodeid, pattern)]
    if not chosen:
        names = ", ".join(plain(parts.subject.nodeid) for parts in every[:5])
        raise ConfigurationError(
            f"-k must select at least one case, got {plain(pattern)!r}. Hint: the results have "
            f"{units.plural(len(every), 'case')}{f': {names}' if names else ''}"
            f"{', ...' if len(every) > 5 else ''}"  # noqa: PLR2004 - as many as are named
        )
    if sort is not None:
        chosen.sort(key=_order(sort))
    shown = [row(parts) for parts in chosen]
    columns = case_columns(shown, paired=session.against is not None)
    blocks = [text_table(columns, shown)]
    if mark := legend(columns, shown):
        blocks[0] += f"\n{mark}"
    if len(chosen) == 1:
        blocks += _details(chosen[0])
    return "\n\n".join(blocks)


def name_matches(name: str, pattern: str) -> bool:
    """Return whether a name contains a text, or matches it if it contains ``*`` or ``?``.

    Brackets match themselves, because ids of cases contain them. Upper and lower case are the same.
    """
    name, pattern = name.lower(), pattern.lower()
    if "*" in pattern or "?" in pattern:
        return fnmatchcase(name, f"*{pattern.replace('[', '[[]')}*")
    return pattern in name


def _order(sort: str) -> Callable[[CaseParts], tuple[float, str]]:
    def key(parts: CaseParts) -> tuple[float, str]:
        if sort == "case":
            return 0.0, parts.subject.nodeid
        if sort == "verdict":
            rank = len(SEVERITY) if parts.verdict is None else SEVERITY[parts.verdict.verdict]
            return rank, parts.subject.nodeid
        metric = metrics.metric(_METRICS[sort])
        value = _value(parts.result, metric)
        if value is None:
            return float("inf"), parts.subject.nodeid
        return value if metric.better == "higher" else -value, parts.subject.nodeid

    return key


def _value(result: CaseResult | None, metric: metrics.Metric) -> float | None:
    """Return a figure in SI units."""
    if result is None or result.measurement is None or metric.read is None:
        return None
    estimate = metric.read(result.measurement)
    return None if estimate is None else estimate.value


def _details(parts: CaseParts) -> Sequence[str]:
    """Return every metric and counter of a case with its bounds, and the evidence for its verdict."""
    lines = []
    result = parts.result
    for metric in {**metrics.METRICS, **metrics.COUNTERS}.values():
        measured = None if result is None else result.measurement
        estimate = None if measured is None or metric.read is None else metric.read(measured)
        # The same figure in another unit.
        if estimate is None or metric.name == "gflops":
            continue
        bounds = ""
        if estimate.low is not None and estimate.high is not None and estimate.low != estimate.high:
            bounds = f"  ({metric.show(estimate.low)} to {metric.show(estimate.high)})"
        lines.append((metric.text, f"{metric.show(estimate.value)}{bounds}"))
    pad = max((len(text) for text, _ in lines), default=0)
    blocks = ["\n".join(f"{text:<{pad}}  {value}" for text, value in lines)] if lines else []
    if parts.verdict is not None:
        blocks.append(failure_message(parts.verdict, result))
    return blocks
