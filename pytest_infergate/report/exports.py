"""Results in the formats of github-action-benchmark, Bencher, pytest-benchmark, CSV and OpenMetrics."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

from pytest_infergate.core.domain import metrics, stats, units
from pytest_infergate.core.domain.measurement import Estimate, Latency
from pytest_infergate.core.domain.metrics import Metric
from pytest_infergate.core.domain.outcome import CaseResult, Session
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.report.results_json import formatted_json
from pytest_infergate.report.sanitize import plain, shorten

ACCURACY: Final = Metric(
    "accuracy",
    "accuracy",
    lambda measured: None if measured.accuracy is None else Estimate(value=measured.accuracy.value),
    1,
    lambda value: units.UNKNOWN if value is None else units.significant(value, 4),
    better="higher",
)
"""What the user's function of accuracy returned, which no budget limits."""
_BESIDE_TIMES: Final = ("ttft_ms", "itl_p95_ms", "items_per_s", "tokens_per_s", ACCURACY.name)
DEFAULT_METRICS: Final = ("p50_ms", "p95_ms", "peak_memory_mb", *_BESIDE_TIMES)
"""Metrics of an export that names none, as far as its format can hold them and a case has them."""
MAX_NAME: Final = 1024
"""Number of characters that Bencher allows in the name of a benchmark."""
PERCENTILES: Final = 101
"""Number of percentiles that a measured latency has."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters with which a spreadsheet takes a text for a formula."""
_UNITS: Final[Mapping[str, tuple[str, str, float]]] = {
    "ms": ("ms", "seconds", 1e-3),
    "mb": ("MB", "bytes", 1e6),
    "per_s": ("1/s", "per_second", 1.0),
    "bytes": ("bytes", "bytes", 1.0),
}
"""By the end of a metric's name: its unit, and the base unit of OpenMetrics with the factor to it."""


class ExportedFigure(NamedTuple):
    """One figure of one case, in the unit of the metric's name."""

    session: Session
    result: CaseResult
    metric: Metric
    estimate: Estimate
    name: str
    """Node id of the case, with its machine if several machines measured it."""

    @property
    def scaled(self) -> tuple[float, float | None, float | None]:
        """Value, lower and upper bound in the unit of the metric's name."""
        bounds = self.estimate.low, self.estimate.high
        low, high = (None if bound is None else self.metric.in_unit(bound) for bound in bounds)
        return self.metric.in_unit(self.estimate.value), low, high


def rendered_export(
    sessions: Sequence[Session], form: str, names: Sequence[str] = (), *, timestamps: bool = False
) -> str:
    """Render sessions as one of `EXPORT_FORMATS`, with the metrics of these names; none: `DEFAULT_METRICS`.

    With `timestamps`, the samples of OpenMetrics have the time of their session. Raises `ConfigurationError`
    for an unknown metric, one that the format cannot hold, and results without any such figure.
    """
    known = (ACCURACY.name, *metrics.metric_names())
    for name in names:
        if name not in known:
            raise ConfigurationError(not_one_of("--metric", name, known))
    chosen = [_metric(name) for name in dict.fromkeys(names or DEFAULT_METRICS)]
    wrong = [metric.name for metric in chosen if _DIRECTIONS.get(form, metric.better) != metric.better]
    if not names:
        chosen = [metric for metric in chosen if metric.name not in wrong]
    elif wrong and form == "customBiggerIsBetter":
        raise ConfigurationError(
            f"--format {form} cannot hold {', '.join(wrong)}, of which less is better. "
            "Hint: leave it out, or choose customSmallerIsBetter"
        )
    elif wrong:
        raise ConfigurationError(
            f"--format {form} cannot hold {', '.join(wrong)}, of which more is better. "
            "Hint: leave it out, or choose customBiggerIsBetter"
        )
    if form == "openmetrics":
        return _open_metrics(list(_figures(sessions, chosen)), sessions, timestamps=timestamps)
    if form == "pytest-benchmark":
        return _pytest_benchmark(sessions)
    figures = list(_figures(sessions, chosen))
    if not figures:
        raise ConfigurationError(
            f"the results have no figure of {', '.join(metric.name for metric in chosen)}. "
            "Hint: choose others with --metric"
        )
    return FORMATS[form](figures)


def _figures(sessions: Iterable[Session], chosen: Sequence[Metric]) -> Iterator[ExportedFigure]:
    sessions = tuple(sessions)
    for session, result, name in _named_results(sessions):
        for metric in chosen:
            estimate = _estimate(metric, result)
            if estimate is not None:
                yield ExportedFigure(session, result, metric, estimate, name)


def _metric(name: str) -> Metric:
    return ACCURACY if name == ACCURACY.name else metrics.metric(name)


def _estimate(metric: Metric, result: CaseResult) -> Estimate | None:
    """Return a finite figure of a case; ``None`` if it has none."""
    measured, estimate = result.measurement, None
    if measured is not None and metric.read is not None:
        estimate = metric.read(measured)
    elif measured is not None and metric.dollars is not None and result.price is not None:
        value = metric.dollars(result.price, measured.throughput or 0.0, result.demand)
        estimate = None if value is None else Estimate(value=value)
    return estimate if estimate is not None and math.isfinite(estimate.value) else None


def _named_results(sessions: Sequence[Session]) -> Iterator[tuple[Session, CaseResult, str]]:
    """Yield the results with a measurement, each with a name of its own."""
    results = [(session, result) for session in sessions for result in session.cases if result.measurement]
    classes: dict[str, set[str]] = {}
    for _, result in results:
        classes.setdefault(result.nodeid, set()).add(result.hardware.id if result.hardware else "")
    for session, result in results:
        several = len(classes[result.nodeid]) > 1 and result.hardware is not None
        machine = f" on {result.hardware.id}" if several and result.hardware is not None else ""
        yield session, result, plain(result.nodeid) + machine


def _unit(metric: Metric) -> tuple[str, str, float]:
    for ending, unit in _UNITS.items():
        if metric.name.endswith(f"_{ending}"):
            return unit
    return metric.name, "", 1.0


def _custom(figures: Iterable[ExportedFigure]) -> str:
    """Entries of github-action-benchmark's ``customSmallerIsBetter`` and ``customBiggerIsBetter``."""
    entries = []
    for figure in figures:
        value, low, high = figure.scaled
        entry: dict[str, Any] = {
            "name": f"{figure.name} {figure.metric.text}",
            "unit": _unit(figure.metric)[0],
            "value": units.round_significant(value),
        }
        if low is not None and high is not None and low != high:
            entry["range"] = f"{units.significant(low, 4)} to {units.significant(high, 4)}"
        entries.append(entry)
    return formatted_json(entries)


def _bencher(figures: Iterable[ExportedFigure]) -> str:
    """Bencher Metric Format: its measures ``latency`` are nanoseconds, ``throughput`` operations a second."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for figure in figures:
        measure, factor = _MEASURES.get(figure.metric.name, (figure.metric.name.replace("_", "-"), 1.0))
        keys = ("value", "lower_value", "upper_value")
        benchmarks.setdefault(shorten(figure.name, MAX_NAME), {})[measure] = {
            key: units.round_significant(factor * value)
            for key, value in zip(keys, figure.scaled, strict=True)
            if value is not None
        }
    return formatted_json(benchmarks)


_MEASURES: Final[Mapping[str, tuple[str, float]]] = {
    "p50_ms": ("latency", 1e6),
    "throughput_per_s": ("throughput", 1.0),
}
"""Measures that every project of Bencher has, with the factor to their unit."""


class CsvLines(list[str]):
    """What the writer of the standard library writes to."""

    write = list.append


def _csv(figures: Iterable[ExportedFigure]) -> str:
    """One row for each figure of each case."""
    lines = CsvLines()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow((
        "created", "nodeid", "test", "params", "device", "runtime", "dtype", "batch_size", "threads",
        "machine", "metric", "value", "low", "high",
    ))  # fmt: skip
    for figure in figures:
        case, hardware = figure.result.case, figure.result.hardware
        cells = (
            figure.session.created, figure.result.nodeid, case.test, case.params, case.device, case.runtime,
            case.dtype or "", case.batch_size, "" if case.threads is None else case.threads,
            "" if hardware is None else hardware.id, figure.metric.name,
        )  # fmt: skip
        numbers = ("" if value is None else f"{value:.6g}" for value in figure.scaled)
        writer.writerow((*map(spreadsheet_cell, cells), *numbers))
    return "".join(lines)


def spreadsheet_cell(value: str | int) -> str | int:
    """Return a cell that no spreadsheet takes for a formula; names come from files of others."""
    if isinstance(value, str):
        value = plain(value)
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value


def _open_metrics(figures: Sequence[ExportedFigure], sessions: Sequence[Session], *, timestamps: bool) -> str:
    """Gauges of the OpenMetrics text format, in base units, one family for each metric."""
    lines: list[str] = []
    for metric in dict.fromkeys(figure.metric for figure in figures):
        _, unit, factor = _unit(metric)
        stem = metric.name
        for ending in _UNITS if unit else ():
            stem = stem.removesuffix(f"_{ending}")
        family = f"infergate_{stem}_{unit}" if unit else f"infergate_{stem}"
        lines.append(f"# TYPE {family} gauge")
        lines += [f"# UNIT {family} {unit}"] if unit else []
        lines.append(f"# HELP {family} {metric.text}")
        for figure in figures:
            if figure.metric is metric:
                value = units.round_significant(factor * figure.scaled[0])
                lines.append(_sample(family, figure.session, figure.result, value, timestamps=timestamps))
    family = "infergate_case_failed"
    lines += [f"# TYPE {family} gauge", f"# HELP {family} Whether the case failed its gate"]
    for session in sessions:
        results = {(result.case, result.nodeid): result for result in session.cases}
        for verdict in session.gate.verdicts:
            found = results.get((verdict.case, verdict.nodeid))
            if found is not None:
                lines.append(_sample(family, session, found, int(verdict.failed), timestamps=timestamps))
    return "\n".join([*lines, "# EOF", ""])


def _sample(family: str, session: Session, result: CaseResult, value: float, *, timestamps: bool) -> str:
    case = result.case
    labels = {
        "case": result.nodeid,
        "device": case.device,
        "runtime": case.runtime,
        "dtype": case.dtype or "",
        "batch_size": str(case.batch_size),
        "machine": "" if result.hardware is None else result.hardware.id,
    }
    inner = ",".join(f'{name}="{_label(text)}"' for name, text in labels.items())
    time = f" {created_seconds(session.created)}" if timestamps else ""
    return f"{family}{{{inner}}} {value!r}{time}"


def _label(text: str) -> str:
    """Escape the value of a label as OpenMetrics does."""
    return plain(text).replace("\\", "\\\\").replace('"', '\\"')


def created_seconds(created: str) -> float:
    """Return the seconds since 1970 of the time at which a session began.

    Raises `ConfigurationError` if the text is not a time.
    """
    try:
        return datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise ConfigurationError(
            f"$.created must be a time like 2026-01-31T12:00:00Z, got {plain(created)!r}. "
            "Hint: leave out --timestamps"
        ) from None


def _pytest_benchmark(sessions: Sequence[Session]) -> str:
    """The JSON of pytest-benchmark, which its ``pytest-benchmark compare`` reads.

    Statistics are those of the recorded percentiles; a case without them is left out.
    """
    benchmarks = [
        _benchmark(result, result.measurement.latency, name)
        for _, result, name in _named_results(sessions)
        if result.measurement is not None
        and result.measurement.latency is not None
        and len(result.measurement.latency.percentiles) == PERCENTILES
    ]
    if not benchmarks:
        raise ConfigurationError(
            "the results have no case with percentiles of its call times. Hint: measure without "
            "--infer-counters-only"
        )
    first = sessions[0]
    hardware = next((result.hardware for result in first.cases if result.hardware is not None), None)
    return formatted_json(
        {
            "machine_info": {
                "node": "" if hardware is None else hardware.id,
                "python_version": first.environment.python,
                "system": first.environment.os,
                "cpu": {} if hardware is None else {"brand_raw": hardware.cpu_model, "count": hardware.cores},
            },
            "commit_info": {},
            "benchmarks": benchmarks,
            "datetime": first.created,
            "version": f"infergate {first.tool_version}",
        }
    )


def _benchmark(result: CaseResult, latency: Latency, name: str) -> dict[str, Any]:
    case = result.case
    axes = {
        "device": case.device,
        "runtime": case.runtime,
        "dtype": case.dtype,
        "batch_size": case.batch_size,
        "threads": case.threads,
    }
    params = {axis: value for axis, value in axes.items() if value is not None}
    return {
        "group": None,
        "name": name.rpartition("::")[2] or name,
        "fullname": name,
        "params": {**params, **({"params": case.params} if case.params else {})},
        "param": name.partition("[")[2].removesuffix("]") or None,
        "extra_info": {
            "machine": "" if result.hardware is None else result.hardware.id,
            "statistics": "of 101 percentiles of the calls; stddev is estimated, outliers were not counted",
            **{
                metric.name: units.round_significant(metric.in_unit(estimate.value))
                for metric in map(_metric, _BESIDE_TIMES)
                if (estimate := _estimate(metric, result)) is not None
            },
        },
        "options": {},
        "stats": _statistics(latency),
    }


def _statistics(latency: Latency) -> dict[str, Any]:
    """Return the statistics of pytest-benchmark that 101 percentiles determine; others are ``None``."""
    ordered = latency.percentiles
    q1, q3 = ordered[25], ordered[75]
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": latency.mean,
        "stddev": _spread(latency),
        "rounds": latency.count,
        "median": latency.p50.value,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": None,
        "stddev_outliers": None,
        "outliers": "-",
        "ld15iqr": next(value for value in ordered if value >= q1 - 1.5 * (q3 - q1)),
        "hd15iqr": next(value for value in reversed(ordered) if value <= q3 + 1.5 * (q3 - q1)),
        "ops": 1 / latency.mean if latency.mean else 0.0,
        "total": latency.mean * latency.count,
        "iterations": 1,
    }


def _spread(latency: Latency) -> float:
    """Estimate the standard deviation of call times from their percentiles, mean and maximum.

    It rests on the slowest hundredth, of which only the maximum and, by the mean of all, the mean are known.
    """
    ordered, count = latency.percentiles, latency.count
    if count <= PERCENTILES:
        # The percentiles of few calls are these calls, or lie between two of them.
        calls = [stats.quantile(ordered, rank / max(1, count - 1)) for rank in range(count)]
        return math.sqrt(stats.variance(calls))
    body = list(pairwise(ordered[:-1]))
    first = math.fsum((low + high) / 2 for low, high in body) / 100
    second = math.fsum((low * low + low * high + high * high) / 3 for low, high in body) / 100
    threshold, slowest = ordered[-2:]
    share, alone = 0.01, min(0.01, 1 / count)
    # What exceeds p99 on average, apart from the slowest call: taken to be exponential, as tails often are.
    rest = share - alone
    excess = (latency.mean - first - alone * slowest) / rest - threshold if rest > 0 else 0.0
    excess = min(max(0.0, excess), slowest - threshold)
    second += alone * slowest**2 + rest * (threshold**2 + 2 * threshold * excess + 2 * excess**2)
    return math.sqrt(max(0.0, second - latency.mean**2))


_DIRECTIONS: Final = {"customSmallerIsBetter": "lower", "customBiggerIsBetter": "higher"}
FORMATS: Final[Mapping[str, Callable[[Sequence[ExportedFigure]], str]]] = {
    "customSmallerIsBetter": _custom,
    "customBiggerIsBetter": _custom,
    "bmf": _bencher,
    "csv": _csv,
}
"""Renderers of figures by format; ``pytest-benchmark`` and ``openmetrics`` also need whole results."""
EXPORT_FORMATS: Final = (*FORMATS, "pytest-benchmark", "openmetrics")
"""Every format, as the command line names it."""
