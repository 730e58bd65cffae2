"""Coordinates of charts with two logarithmic axes, which the template draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.bottleneck import Bottleneck
from pytest_infergate.core.advice.runtime_choice import RuntimeCase, RuntimeChoice
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Advice
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report.charts.scale import BOX, LogScale, spanning
from pytest_infergate.report.latency_promises import p95_text

HEIGHT: Final = 220
"""Height of the plot in pixels."""
FOOT: Final = 26
"""Height of the labels below the plot, in pixels."""
STYLES: Final = 6
"""Number of styles, which differ in colour, dashes and shape; the markers of further lines are outlines."""
# A chart of more points is a solid area, and slow to draw without a script.
MAX_POINTS: Final = 400
"""Maximum number of points of a chart and of rows of its table, so that the page opens quickly."""
_MIN_FIGURE: Final = 1e-100
_MAX_FIGURE: Final = 1e100
"""Figures beyond these limits, which only a foreign file can contain, are not drawn."""
_MAX_DECADES: Final = 6
"""Maximum number of ticks of the axis of errors, without zero."""
_MARKS: Final = {"best": "fastest that agrees", "apart": "output differs"}
"""Meanings of the symbols over points."""
_ROOM: Final = 0.04
"""Share of an axis that stays empty at its end, and for the vertical axis also at its beginning."""
_LABELS: Final = 0.12
"""Share of the horizontal axis that the labels of the vertical axis need."""


class Line(Struct, frozen=True, kw_only=True):
    """The data of one line: points in the units of the axes, all of them greater than 0."""

    label: str
    points: tuple[tuple[float, float], ...]
    joined: bool = True
    """Whether its points are connected."""
    bare: bool = False
    """Whether its points are drawn without a marker."""
    style: int | None = None
    """Number of its style; ``None``: that of its position among the lines."""
    hollow: bool = False
    """Whether its markers are outlines, which distinguishes lines of one style."""
    mark: str = ""
    """Name of a symbol over its points: one of `_MARKS`."""


class DrawnLine(Struct, frozen=True, kw_only=True):
    """One line with coordinates."""

    label: str
    style: int
    path: str
    """Path in the stretched box; empty if points are not connected."""
    points: tuple[tuple[str, str], ...]
    """Percentage of the width, and pixels from the top."""
    hollow: bool = False
    mark: str = ""


class Chart(Struct, frozen=True, kw_only=True):
    """Lines on two logarithmic axes."""

    title: str
    across: str
    """Label of the horizontal axis; `up` is that of the vertical one."""
    up: str
    lines: tuple[DrawnLine, ...]
    columns: tuple[tuple[str, str], ...]
    """Ticks of the horizontal axis: percentage and label."""
    rows: tuple[tuple[str, str], ...]
    """Ticks of the vertical axis: pixels from the top and label."""
    rule: tuple[str, str] | None = None
    """Percentage and label of a vertical line."""
    rule_left: bool = False
    """Whether the label is on the left of the line, because there is no room on its right."""
    headers: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    """The same figures as a table."""
    left_out: int = 0
    """Number of rows that are neither in the chart nor in the table."""
    foot: int = HEIGHT
    height: int = HEIGHT + FOOT

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Names and meanings of the symbols over points."""
        used = {line.mark for line in self.lines}
        return tuple((symbol, text) for symbol, text in _MARKS.items() if symbol in used)


def charts(answer: Advice) -> tuple[Chart, ...]:
    """Draw the charts of one answer: cost by demand, cost by latency, throughput by batch size."""
    drawn = (_demand(answer), _pareto(answer), _batches(answer))
    return tuple(chart for chart in drawn if chart is not None)


def _demand(answer: Advice) -> Chart | None:
    lines = [
        Line(
            label=label,
            points=tuple(
                (point.rate, usd) for point in answer.costs if (usd := point.usd_per_month[index]) is not None
            ),
        )
        for index, label in enumerate(answer.deployments)
    ]
    return _chart(
        lines,
        title="Cost by demand",
        across=f"{'requests' if answer.demand.period is None else 'frames'} per second",
        up="USD per month",
        formats=(_rate, units.tick),
        rule=(answer.demand.rate, "demand"),
        headers=("Demand", *answer.deployments),
        cells=[
            (
                units.rate(point.rate),
                *(units.tick(usd) if usd is not None else "limit not met" for usd in point.usd_per_month),
            )
            for point in answer.costs
        ],
    )


def _pareto(answer: Advice) -> Chart | None:
    # Where all plans cost the same, no latency is bought with money.
    if len({plan.usd_per_month for plan in answer.considered}) < 2:  # noqa: PLR2004
        return None
    by_deployment: dict[str, list[tuple[float, float]]] = {}
    for plan in answer.considered:
        by_deployment.setdefault(plan.deployment, []).append((plan.load.p95, plan.usd_per_month))
    lines = [
        Line(label=label, points=tuple(sorted(set(by_deployment.get(label, ())))), joined=False)
        for label in answer.deployments
    ]
    return _chart(
        lines,
        title="Cost by latency",
        across="p95 including queueing",
        up="USD per month",
        formats=(units.seconds, units.tick),
        rule=None if answer.limit is None else (answer.limit, "limit"),
        headers=("Plan", "Batch", "Wait", "p95", "USD per month"),
        cells=[
            (
                plan.text,
                str(plan.max_batch),
                units.seconds(plan.max_wait),
                p95_text(plan),
                units.tick(plan.usd_per_month),
            )
            for plan in sorted(answer.considered, key=lambda plan: (plan.usd_per_month, plan.load.p95))
        ],
    )  # fmt: skip


def _batches(answer: Advice) -> Chart | None:
    lines = [
        Line(
            label=sweep.deployment,
            points=tuple(zip(map(float, sweep.batch_sizes), sweep.throughput, strict=True)),
        )
        for sweep in answer.sweeps
    ]
    # A single batch size does not show whether larger batches help.
    if all(len(line.points) < 2 for line in lines):  # noqa: PLR2004
        return None
    return _chart(
        lines,
        title="Throughput by batch size",
        across="batch size",
        up="items per second of one machine",
        formats=(lambda value: f"{value:g}", _rate),
        # More than eight labels would overlap on a narrow page.
        places=sorted({float(size) for sweep in answer.sweeps for size in sweep.batch_sizes})[-8:],
        headers=("Deployment", "Batch", "p50 of a call", "Items per second"),
        cells=[
            (sweep.deployment, str(size), units.seconds(p50), units.rate(rate))
            for sweep in answer.sweeps
            for size, p50, rate in zip(sweep.batch_sizes, sweep.p50, sweep.throughput, strict=True)
        ],
    )


class CaseBottleneck(Struct, frozen=True, kw_only=True):
    """The bottleneck of one case, and the peak bandwidth of its machine."""

    label: str
    machine: str
    bottleneck: Bottleneck
    bandwidth: float
    """Measured peak bandwidth of the machine, in bytes per second."""


def roofline(cases: Iterable[CaseBottleneck]) -> Chart | None:
    """Draw arithmetic throughput by arithmetic intensity, below the measured peaks of each machine."""
    drawable = [
        (case, found.intensity, found.attained_flops, found.ridge)
        for case in cases
        if (found := case.bottleneck).intensity
        and found.attained_flops
        and found.ridge
        and _placeable(found.intensity, found.attained_flops, found.ridge, case.bandwidth)
    ]
    roofs: dict[str, tuple[float, float]] = {}
    points: dict[str, list[tuple[float, float]]] = {}
    for case, intensity, flops, ridge in drawable:
        roofs[case.machine] = case.bandwidth, ridge
        points.setdefault(case.machine, []).append((intensity, flops))
    if not drawable:
        return None
    # The roofs cover all cases and their own ridges, with a factor of two on either side.
    intensities = [intensity for _, intensity, _, ridge in drawable] + [ridge for *_, ridge in drawable]
    low, high = min(intensities) / 2, max(intensities) * 2
    lines = [
        Line(
            label=f"peak of {machine}",
            points=tuple((x, min(x, ridge) * bandwidth) for x in (low, ridge, high)),
            bare=True,
        )
        for machine, (bandwidth, ridge) in roofs.items()
    ]  # fmt: skip
    lines += [
        Line(label=f"cases on {machine}", points=tuple(sorted(reached)), joined=False)
        for machine, reached in points.items()
    ]
    return _chart(
        lines,
        title="Roofline",
        across="FLOP per byte that operators read or write",
        up="FLOP per second",
        formats=(lambda value: units.significant(value, 2), _flop_rate),
        headers=("Case", "FLOP per byte", "Reached", "Peak"),
        cells=[
            (case.label, units.significant(x), _flop_rate(flops), _flop_rate(min(x, ridge) * case.bandwidth))
            for case, x, flops, ridge in drawable
        ],
    )


def error_by_time(names: Sequence[str], choice: RuntimeChoice) -> Chart | None:
    """Draw the error of each runtime and dtype by the time of a call; only of times that count.

    `names` are those of the cases. A runtime has one style, and its further dtypes are hollow.
    """
    drawn = [one for one in choice.cases if not one.unranked and one.error is not None]
    errors = [one.error for one in drawn if one.error and _placeable(one.error)]
    # Zero has no place on a logarithmic scale: it is drawn below all others.
    first, last = (
        (math.floor(math.log10(min(errors))), math.ceil(math.log10(max(errors)))) if errors else (-7, -6)
    )
    lowest, step = 10.0 ** (first - 1), max(1, math.ceil((last - first) / _MAX_DECADES))
    runtimes = list(dict.fromkeys(one.case.runtime for one in choice.cases))
    return _chart(
        [
            Line(
                label=names[choice.cases.index(one)],
                points=((one.seconds, one.error or lowest),),
                joined=False,
                style=runtimes.index(one.case.runtime),
                hollow=one.case.dtype != choice.cases[0].case.dtype,
                mark="apart" if one.differs or one.inaccurate else "best" if one is choice.fastest else "",
            )
            for one in drawn
        ],
        title="Error by time",
        across="median time of a call",
        up="error as a share of the largest value",
        formats=(units.seconds, lambda value: "0" if value == lowest else f"{value:.0e}"),
        levels=[
            *([] if len(errors) == len(drawn) else [lowest]),
            *(10.0**power for power in range(first, last + 1, step)),
        ],
        headers=("Case", "p50", "Error", "Agrees and ranked"),
        cells=[
            (
                name,
                units.seconds(one.seconds),
                units.power(one.error),
                _agreement(one),
            )
            for name, one in zip(names, choice.cases, strict=True)
        ],
    )  # fmt: skip


def _agreement(one: RuntimeCase) -> str:
    """State whether a case may be the fastest, or why not."""
    if one.differs or one.inaccurate:
        return "no: the output differs" if one.differs else "no: the accuracy is too low"
    return f"no: {one.unranked}" if one.unranked else "yes"


def _chart(  # noqa: PLR0913 - a chart has this many parts
    lines: Sequence[Line],
    *,
    title: str,
    across: str,
    up: str,
    formats: tuple[Callable[[float], str], Callable[[float], str]],
    headers: Sequence[str],
    cells: Sequence[tuple[str, ...]],
    rule: tuple[float, str] | None = None,
    places: Sequence[float] = (),
    levels: Sequence[float] = (),
) -> Chart | None:
    """Draw lines on axes that contain all of their points; ``None`` with less than two points.

    `formats` format the ticks of both axes. `places` replace the round ticks of the horizontal axis, and
    `levels` those of the vertical one, which contains all of them.
    """
    # Results files may contain any figure: zero, a negative one, or one beyond all axes.
    lines = [
        msgspec.structs.replace(line, points=tuple(point for point in line.points if _placeable(*point)))
        for line in lines
    ]
    points = [point for line in lines for point in line.points]
    # A single point shows nothing that its figures in a table do not.
    if len(set(points)) < 2:  # noqa: PLR2004
        return None
    rule = rule if rule is not None and _placeable(rule[0]) else None
    x = _axis([*(point[0] for point in points), *(() if rule is None else rule[:1])], _LABELS)
    y = _axis([*(point[1] for point in points), *levels])
    return Chart(
        title=title,
        across=across,
        up=up,
        lines=tuple(_drawn(line, index, x, y) for index, line in enumerate(lines) if line.points),
        columns=tuple(
            (_percentage(x, tick), formats[0](tick)) for tick in tuple(filter(_placeable, places)) or x.ticks
        ),
        rows=tuple((_pixels(y, tick), formats[1](tick)) for tick in levels or y.ticks),
        rule=None if rule is None else (_percentage(x, rule[0]), f"{rule[1]} {formats[0](rule[0])}"),
        rule_left=rule is not None and x.share(rule[0]) > 0.5,  # noqa: PLR2004 - the middle
        headers=tuple(headers),
        cells=tuple(cells[:MAX_POINTS]),
        left_out=max(0, len(cells) - MAX_POINTS),
    )


def _placeable(*figures: float) -> bool:
    return all(_MIN_FIGURE <= figure <= _MAX_FIGURE for figure in figures)


def _axis(values: Iterable[float], begin: float = _ROOM) -> LogScale:
    values = list(values)
    return spanning(min(values), max(values), begin=begin, end=_ROOM, closest=1.1, room=2.0)


def _drawn(line: Line, index: int, x: LogScale, y: LogScale) -> DrawnLine:
    points = line.points[:MAX_POINTS]
    path = " ".join(f"{BOX * x.share(a):.0f},{_pixels(y, b)}" for a, b in points) if line.joined else ""
    return DrawnLine(
        label=line.label,
        style=(index if line.style is None else line.style) % STYLES,
        hollow=line.hollow or (line.style is None and index // STYLES % 2 == 1),
        mark=line.mark,
        path=path,
        # Without markers, a line is a limit and not a series of measurements.
        points=() if line.bare else tuple((_percentage(x, a), _pixels(y, b)) for a, b in points),
    )


def _percentage(axis: LogScale, value: float) -> str:
    return f"{100 * axis.share(value):.2f}%"


def _pixels(axis: LogScale, value: float) -> str:
    return f"{HEIGHT * (1 - axis.share(value)):.1f}"


def _flop_rate(value: float) -> str:
    return f"{units.flops(value)}/s"


def _rate(value: float) -> str:
    return units.rate(value) if value >= 1000 else f"{units.trimmed(value)}/s"  # noqa: PLR2004 - scaled from here on
