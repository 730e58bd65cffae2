"""Figures of a case as JUnit properties, for CI systems that draw charts of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_infergate.core.domain import metrics, units
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict
from pytest_infergate.core.domain.values import Case
from pytest_infergate.report.sanitize import plain

PROPERTY_PREFIX = "infergate."
PROPERTY_METRICS = (
    "p50_ms", "p90_ms", "p95_ms", "p99_ms", "cold_start_ms", "throughput_per_s", "peak_memory_mb",
)  # fmt: skip
# The same number of digits as in results files.
_DIGITS = 5


def properties(result: CaseResult, verdict: CaseVerdict | None = None) -> list[tuple[str, str]]:
    """Return the properties of a case, in the units of their names. Unknown figures are left out."""
    known = [*_axes(result.case), ("outcome", result.outcome.value)]
    if result.hardware is not None:
        known.append(("hardware", result.hardware.id))
    if result.measurement is not None:
        known += _figures(result.measurement)
    if verdict is not None:
        known += [("verdict", verdict.verdict.value), ("failed", "true" if verdict.failed else "false")]
        known += [
            (f"{row.metric}_change_percent", units.trimmed(100 * row.effect, _DIGITS))
            for row in verdict.comparisons
            if row.effect is not None and math.isfinite(row.effect)
        ]
        known += [
            ("outputs", note.text) for note in verdict.notes if note.code == NoteCode.OUTPUTS_NOT_COMPARED
        ]
    return [(PROPERTY_PREFIX + name, plain(value)) for name, value in known]


def _axes(case: Case) -> Iterable[tuple[str, str]]:
    yield "device", case.device
    yield "runtime", case.runtime
    if case.dtype is not None:
        yield "dtype", case.dtype
    yield "batch_size", str(case.batch_size)
    if case.threads is not None:
        yield "threads", str(case.threads)


def _figures(measurement: Measurement) -> Iterable[tuple[str, str]]:
    if measurement.latency is not None:
        yield "calls", str(measurement.latency.count)
    for name in PROPERTY_METRICS:
        metric = metrics.METRICS[name]
        estimate = None if metric.read is None else metric.read(measurement)
        if estimate is not None and math.isfinite(estimate.value):
            yield name, units.trimmed(metric.in_unit(estimate.value), _DIGITS)
    if measurement.parity is not None:
        for name in ("error", "cosine", "same_top"):
            value = getattr(measurement.parity, name)
            if value is not None and math.isfinite(value):
                yield name, units.trimmed(value, _DIGITS)
    if measurement.accuracy is not None:
        yield "accuracy", units.trimmed(measurement.accuracy.value, _DIGITS)
    made = measurement.conversion
    if made is not None and math.isfinite(made.export + made.build + made.load):
        yield "conversion_s", units.trimmed(made.export + made.build + made.load, _DIGITS)
