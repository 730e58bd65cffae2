"""Line pictures as geometry: the place of each point on logarithmic axes. The template draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.bottleneck import Bottleneck
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Advice
from pytest_infergate.core.domain.model import Struct
from pytest_infergate.report.charts.scale import BOX, LogScale, spanning

HEIGHT: Final = 220
"""Of the plot, pixels."""
FOOT: Final = 26
"""Below the plot, for the words of the ticks."""
STYLES: Final = 6
"""Ways to draw a line, by colour, dashes and shape; further lines begin again."""
MOST_POINTS: Final = 400
"""Points of a picture; the table has no more either."""
_LEAST: Final = 1e-100
_MOST: Final = 1e100
"""Figures beyond these, which only a foreign file can hold, are not drawn."""
_ROOM: Final = 0.04
"""Share of an axis that stays empty at its end, and of the upright one at its beginning."""
_LABELS: Final = 0.12
"""Share of the axis across that is left to the words of the other."""


class Line(Struct, frozen=True, kw_only=True):
    """What is to be drawn of one offer: points in the units of the axes, all above 0."""

    label: str
    points: tuple[tuple[float, float], ...]
    joined: bool = True
    bare: bool = False
    """Whether its points have no shape."""


class Drawn(Struct, frozen=True, kw_only=True):
    """One line, placed."""

    label: str
    style: int
    path: str
    """In the stretched box; empty where points are not joined."""
    points: tuple[tuple[str, str], ...]
    """Percentage across, and pixels from the top."""


class Chart(Struct, frozen=True, kw_only=True):
    """Lines on two logarithmic axes."""

    title: str
    across: str
    """What the axes show."""
    up: str
    lines: tuple[Drawn, ...]
    columns: tuple[tuple[str, str], ...]
    """Ticks across: percentage and words."""
    rows: tuple[tuple[str, str], ...]
    """Ticks up: pixels from the top and words."""
    rule: tuple[str, str] | None = None
    """Percentage and words of an upright line."""
    rule_left: bool = False
    """Whether its words stand to its left, as there is no room to its right."""
    headers: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    """The table beside it."""
    left_out: int = 0
    """Rows that neither picture nor table has."""
    foot: int = HEIGHT
    height: int = HEIGHT + FOOT


def charts(answer: Advice) -> tuple[Chart, ...]:
    """The pictures of one answer: cost against demand, cost against latency, what batches give."""
    made = (_demand(answer), _pareto(answer), _batches(answer))
    return tuple(chart for chart in made if chart is not None)


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
        title="Cost against demand",
        across="requests a second",
        up="USD a month",
        words=(_rate, units.tick),
        rule=(answer.demand.rate, "asked"),
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
    by_offer: dict[str, list[tuple[float, float]]] = {}
    for plan in answer.considered:
        by_offer.setdefault(plan.deployment, []).append((plan.load.p95, plan.usd_per_month))
    lines = [
        Line(label=label, points=tuple(sorted(set(by_offer.get(label, ())))), joined=False)
        for label in answer.deployments
    ]
    return _chart(
        lines,
        title="Cost against latency",
        across="p95, waiting included",
        up="USD a month",
        words=(units.seconds, units.tick),
        rule=None if answer.limit is None else (answer.limit, "limit"),
        headers=("Plan", "Batch", "Wait", "p95", "USD a month"),
        cells=[
            (
                plan.text,
                str(plan.max_batch),
                units.seconds(plan.max_wait),
                units.seconds(plan.load.p95),
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
    if all(len(line.points) < 2 for line in lines):  # noqa: PLR2004 - one size shows nothing
        return None
    return _chart(
        lines,
        title="What batches give",
        across="batch size",
        up="items a second of one machine",
        words=(lambda value: f"{value:g}", _rate),
        places=sorted({float(size) for sweep in answer.sweeps for size in sweep.batch_sizes})[-8:],
        headers=("Where", "Batch", "p50 of a call", "Items a second"),
        cells=[
            (sweep.deployment, str(size), units.seconds(p50), units.rate(rate))
            for sweep in answer.sweeps
            for size, p50, rate in zip(sweep.batch_sizes, sweep.p50, sweep.throughput, strict=True)
        ],
    )


class Held(Struct, frozen=True, kw_only=True):
    """What holds one case back, and the roof above it."""

    label: str
    machine: str
    found: Bottleneck
    bandwidth: float
    """Bytes a second that the machine was seen to reach."""


def roofline(cases: Iterable[Held]) -> Chart | None:
    """Work a second against work a byte, below the roofs that the machines were seen to reach."""
    drawable = [
        (one, one.found.intensity, one.found.attained_flops, one.found.ridge)
        for one in cases
        if one.found.intensity
        and one.found.attained_flops
        and one.found.ridge
        and _placeable(one.found.intensity, one.found.attained_flops, one.found.ridge, one.bandwidth)
    ]
    roofs: dict[str, tuple[float, float]] = {}
    points: dict[str, list[tuple[float, float]]] = {}
    for one, intensity, flops, ridge in drawable:
        roofs[one.machine] = one.bandwidth, ridge
        points.setdefault(one.machine, []).append((intensity, flops))
    if not drawable:
        return None
    every = [intensity for _, intensity, _, ridge in drawable] + [ridge for *_, ridge in drawable]
    low, high = min(every) / 2, max(every) * 2
    lines = [
        Line(
            label=f"most that {machine} reaches",
            points=tuple((x, min(x, ridge) * bandwidth) for x in (low, ridge, high)),
            bare=True,
        )
        for machine, (bandwidth, ridge) in roofs.items()
    ]  # fmt: skip
    lines += [
        Line(label=f"cases on {machine}", points=tuple(sorted(found)), joined=False)
        for machine, found in points.items()
    ]
    return _chart(
        lines,
        title="Roofline",
        across="FLOP a byte that operators read or write",
        up="FLOP a second",
        words=(lambda value: units.significant(value, 2), lambda value: f"{units.flops(value)}/s"),
        headers=("Case", "FLOP a byte", "Reached", "Most above it"),
        cells=[
            (
                one.label,
                units.significant(intensity),
                f"{units.flops(flops)}/s",
                f"{units.flops(min(intensity, ridge) * one.bandwidth)}/s",
            )
            for one, intensity, flops, ridge in drawable
        ],
    )


def _chart(  # noqa: PLR0913 - a picture has so many parts
    lines: Sequence[Line],
    *,
    title: str,
    across: str,
    up: str,
    words: tuple[Callable[[float], str], Callable[[float], str]],
    headers: Sequence[str],
    cells: Sequence[tuple[str, ...]],
    rule: tuple[float, str] | None = None,
    places: Sequence[float] = (),
) -> Chart | None:
    """Place lines on axes that hold all of them; ``None`` where there is no point.

    `places` are ticks across, in place of round ones.
    """
    lines = [
        msgspec.structs.replace(line, points=tuple(point for point in line.points if _placeable(*point)))
        for line in lines
    ]
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    if rule is not None and not _placeable(rule[0]):
        rule = None
    places = tuple(filter(_placeable, places))
    marked = [] if rule is None else [rule[0]]
    x = _axis([point[0] for point in points] + marked, _LABELS)
    y = _axis([point[1] for point in points])
    return Chart(
        title=title,
        across=across,
        up=up,
        lines=tuple(_drawn(line, index, x, y) for index, line in enumerate(lines) if line.points),
        columns=tuple((_percentage(x, tick), words[0](tick)) for tick in places or x.ticks),
        rows=tuple((_pixels(y, tick), words[1](tick)) for tick in y.ticks),
        rule=None if rule is None else (_percentage(x, rule[0]), f"{rule[1]} {words[0](rule[0])}"),
        rule_left=rule is not None and x.share(rule[0]) > 0.5,  # noqa: PLR2004 - the middle
        headers=tuple(headers),
        cells=tuple(cells[:MOST_POINTS]),
        left_out=max(0, len(cells) - MOST_POINTS),
    )


def _placeable(*figures: float) -> bool:
    return all(_LEAST <= figure <= _MOST for figure in figures)


def _axis(values: Iterable[float], begin: float = _ROOM) -> LogScale:
    values = list(values)
    return spanning(min(values), max(values), begin=begin, end=_ROOM, closest=1.1, room=2.0)


def _drawn(line: Line, index: int, x: LogScale, y: LogScale) -> Drawn:
    points = line.points[:MOST_POINTS]
    path = " ".join(f"{BOX * x.share(a):.0f},{_pixels(y, b)}" for a, b in points) if line.joined else ""
    return Drawn(
        label=line.label,
        style=index % STYLES,
        path=path,
        points=() if line.bare else tuple((_percentage(x, a), _pixels(y, b)) for a, b in points),
    )


def _percentage(axis: LogScale, value: float) -> str:
    return f"{100 * axis.share(value):.2f}%"


def _pixels(axis: LogScale, value: float) -> str:
    return f"{HEIGHT * (1 - axis.share(value)):.1f}"


def _rate(value: float) -> str:
    return units.rate(value) if value >= 1000 else f"{units.trimmed(value)}/s"  # noqa: PLR2004 - scaled from here on
