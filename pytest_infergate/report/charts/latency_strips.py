"""Coordinates of the charts of latency, which the template draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report.charts.scale import BOX, LogScale, spanning

STRIP = 58
"""Height of one case in pixels: a line of text above, the outline and its marks below."""
AXIS = 26
"""Height of the labels below the strips, in pixels."""
OUTLINE = 20
"""Maximum height of an outline, in pixels."""
BASE = 48
"""Distance of a strip's base line from its top, in pixels."""
_BIN = 5
"""Width of a bin of an outline, in units of the box."""
_STEPS = 25
"""Percentiles behind an outline. With all hundred, paths are longer, and no difference is visible."""
# Bins of few percentiles are ragged, which looks like several modes.
_KERNEL = (1, 4, 6, 4, 1)
"""Binomial weights that smooth the bins."""
# Marks at the ends must not be cut off.
_MARGIN = 0.02
"""Share of the width that stays empty on either side."""
_REACH = {"p50": 3.0, "p95": 3.0, "limit": 3.0, "expected": 30.0}
"""Maximum factor between a mark and the data. A mark beyond it would compress the data, and is left out.
The expected median may be farther away, because its distance shows a regression."""
_MIN_SECONDS = 1e-15
_MAX_SECONDS = 1e15
"""Times beyond these limits, which only a foreign file can contain, are not drawn."""


class Mark(Struct, frozen=True, kw_only=True):
    """A symbol on a strip: ``p50``, ``p95``, ``limit`` or ``expected``."""

    symbol: str
    seconds: float


class Series(Struct, frozen=True, kw_only=True):
    """The data of one case to be drawn."""

    label: str
    figures: tuple[str, ...]
    """The most important one first; a narrow page shows only that one."""
    percentiles: tuple[float, ...]
    """Seconds, ascending."""
    marks: tuple[Mark, ...] = ()
    failed: bool = False


class Strip(Struct, frozen=True, kw_only=True):
    """One case with coordinates: vertical ones in pixels, `marks` as symbol and percentage."""

    label: str
    figures: tuple[str, ...]
    top: int
    whisker: str
    outline: str
    marks: tuple[tuple[str, str], ...]
    failed: bool


class Picture(Struct, frozen=True, kw_only=True):
    """The latencies of several cases on one logarithmic scale."""

    height: int
    strips: tuple[Strip, ...]
    ticks: tuple[tuple[str, str], ...]
    """Percentage and label."""
    omitted: bool = False
    """Whether a limit or an expected median is too far away to be drawn."""


def picture(series: Iterable[Series]) -> Picture | None:
    """Place the cases that have a distribution below each other; ``None`` if no case has one."""
    drawable = [item for item in series if is_drawable(item.percentiles)]
    if not drawable:
        return None
    low = min(item.percentiles[0] for item in drawable)
    high = max(item.percentiles[-1] for item in drawable)
    marks = [(mark.seconds, _REACH[mark.symbol]) for item in drawable for mark in item.marks]
    near = [seconds for seconds, reach in marks if low / reach <= seconds <= high * reach]
    scale = spanning(
        min([low, *near]), max([high, *near]), begin=_MARGIN, end=_MARGIN, closest=1.01, room=1.1
    )
    return Picture(
        height=STRIP * len(drawable) + AXIS,
        strips=tuple(_strip(item, STRIP * index, scale) for index, item in enumerate(drawable)),
        ticks=tuple(zip(_percentages(scale.ticks, scale), map(units.seconds, scale.ticks), strict=True)),
        omitted=len(near) < len(marks),
    )


def is_drawable(percentiles: Sequence[float]) -> bool:
    """Whether there are at least two times in ascending order that a scale can show."""
    return (
        len(percentiles) > 1
        and all(_MIN_SECONDS <= seconds <= _MAX_SECONDS for seconds in percentiles)
        and list(percentiles) == sorted(percentiles)
    )


def outline(percentiles: Sequence[float], scale: LogScale) -> str:
    """Return the density between percentiles as path data above a base line.

    Its maximum is `OUTLINE` high whatever the spread is, so that every case is visible.
    """
    steps = len(percentiles) - 1
    thinned = percentiles[:: steps // _STEPS] if steps % _STEPS == 0 else percentiles
    places = [BOX * share / _BIN for share in scale.shares(thinned)]
    first = math.floor(places[0]) - len(_KERNEL) // 2
    heights = _smooth(_bins(places))
    factor = OUTLINE / max(heights)
    return _path(first, [round(factor * height) for height in heights])


def _path(first: int, levels: Sequence[int]) -> str:
    """Join the tops of bins, each at an integer height; a bin that changes nothing is left out."""
    path, at, level = [f"M{(first - 1) * _BIN} {OUTLINE}"], first - 1, 0
    for index, (wanted, following) in enumerate(zip(levels, [*levels[1:], 0], strict=True), first):
        if wanted == level == following:
            continue
        path.append(f"l{(index - at) * _BIN} {level - wanted}")
        at, level = index, wanted
    return "".join([*path, f"l{_BIN} {level}z"])


def _strip(item: Series, top: int, scale: LogScale) -> Strip:
    start, stop = scale.shares([item.percentiles[0], item.percentiles[-1]])
    # A mark of this case may be near enough to the data of another, and not to its own.
    marks = [mark for mark in item.marks if scale.low <= mark.seconds <= scale.high]
    places = _percentages([mark.seconds for mark in marks], scale)
    return Strip(
        label=item.label,
        figures=item.figures,
        top=top,
        whisker=f"M{BOX * start:.0f} {top + BASE}H{BOX * stop:.0f}",
        outline=outline(item.percentiles, scale),
        marks=tuple(zip((mark.symbol for mark in marks), places, strict=True)),
        failed=item.failed,
    )


def _percentages(seconds: Iterable[float], scale: LogScale) -> list[str]:
    """Positions of times on the scale, as SVG lengths."""
    return [f"{100 * share:.1f}%" for share in scale.shares(seconds)]


def _bins(places: Sequence[float]) -> list[float]:
    """Spread one unit of weight evenly between each two neighbours; the first bin holds the first place."""
    # Steps between percentiles are equally likely, so that a short step means a high density.
    origin = math.floor(places[0])
    weights = [0.0] * (math.floor(places[-1]) - origin + 1)
    for start, stop in itertools.pairwise(places):
        first, last = math.floor(start), math.floor(stop)
        if first == last:
            weights[first - origin] += 1
            continue
        density = 1 / (stop - start)
        weights[first - origin] += (first + 1 - start) * density
        weights[last - origin] += (stop - last) * density
        for index in range(first + 1, last):
            weights[index - origin] += density
    return weights


def _smooth(weights: Sequence[float]) -> list[float]:
    """Convolve with the kernel; the result is longer by the kernel's reach at either end."""
    smoothed = [0.0] * (len(weights) + len(_KERNEL) - 1)
    for shift, part in enumerate(_KERNEL):
        for index, weight in enumerate(weights):
            smoothed[index + shift] += part * weight
    return smoothed
