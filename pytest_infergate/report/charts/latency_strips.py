"""Latency pictures as geometry: where each mark of each case stands. The template draws them.

Horizontal places are percentages, so that text keeps its size at any width; outlines live in a box
`BOX` units wide that is stretched to the same width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.model import Struct

BOX = 1000
"""Width of the stretched box in which outlines are drawn."""
STRIP = 58
"""Height of one case, pixels."""
TOP = 0
AXIS = 26
OUTLINE = 20
"""Greatest height of an outline."""
BASE = 48
"""Distance of a strip's base line from its top."""
_BIN = 5
_STEPS = 25
"""Every fourth percentile draws the same outline to the eye."""
_KERNEL = (1, 4, 6, 4, 1)
_MARGIN = 0.02
"""Share of the width that stays empty on either side."""
_REACH = {"p50": 3.0, "p95": 3.0, "limit": 3.0, "expected": 30.0}
"""Marks farther from the data than this factor would squeeze it, and are left out. How far a regression is
from what was expected is what its picture is for."""
_SHORTEST = 1e-15
_LONGEST = 1e15
"""Times beyond, which a file from elsewhere may hold, have no place on a scale."""
_TICKS = 6
_DECADES = 6.0
"""Spans below this factor get evenly spaced ticks."""


class Mark(Struct, frozen=True, kw_only=True):
    """A symbol on a strip: ``p50``, ``p95``, ``limit`` or ``expected``."""

    symbol: str
    seconds: float


class Series(Struct, frozen=True, kw_only=True):
    """What is to be drawn of one case."""

    label: str
    figures: str
    percentiles: tuple[float, ...]
    """Seconds, ascending."""
    marks: tuple[Mark, ...] = ()
    failed: bool = False


class Strip(Struct, frozen=True, kw_only=True):
    """One case, placed. Vertical places in pixels, `marks` as symbol and percentage."""

    label: str
    figures: str
    top: int
    whisker: str
    outline: str
    marks: tuple[tuple[str, str], ...]
    failed: bool


class Picture(Struct, frozen=True, kw_only=True):
    """The latencies of a few cases on one logarithmic scale."""

    height: int
    strips: tuple[Strip, ...]
    ticks: tuple[tuple[str, str], ...]
    """Percentage and words."""
    omitted: bool = False
    """Whether a limit or an expectation lies too far off to be drawn."""


class Scale(Struct, frozen=True, kw_only=True):
    """A logarithmic scale from seconds to a share of the width, 0 to 1."""

    low: float
    high: float

    def shares(self, seconds: Iterable[float]) -> list[float]:
        """Where times of the scale stand."""
        origin = math.log(self.low)
        factor = (1 - 2 * _MARGIN) / (math.log(self.high) - origin)
        return [_MARGIN + (math.log(value) - origin) * factor for value in seconds]


def picture(series: Iterable[Series]) -> Picture | None:
    """Place the cases that have a distribution below one another; ``None`` where none has."""
    drawable = [item for item in series if is_drawable(item.percentiles)]
    if not drawable:
        return None
    low = min(item.percentiles[0] for item in drawable)
    high = max(item.percentiles[-1] for item in drawable)
    marks = [(mark.seconds, _REACH[mark.symbol]) for item in drawable for mark in item.marks]
    near = [seconds for seconds, reach in marks if low / reach <= seconds <= high * reach]
    scale = _scale(min([low, *near]), max([high, *near]))
    round_ = ticks(scale)
    return Picture(
        height=TOP + STRIP * len(drawable) + AXIS,
        strips=tuple(_strip(item, TOP + STRIP * index, scale) for index, item in enumerate(drawable)),
        ticks=tuple(zip(_percentages(round_, scale), map(units.seconds, round_), strict=True)),
        omitted=len(near) < len(marks),
    )


def is_drawable(percentiles: Sequence[float]) -> bool:
    """Whether these are times in ascending order, two at least, that have a place on a scale."""
    return (
        len(percentiles) > 1
        and all(_SHORTEST <= seconds <= _LONGEST for seconds in percentiles)
        and list(percentiles) == sorted(percentiles)
    )


def ticks(scale: Scale) -> tuple[float, ...]:
    """Round times within a scale, six at most: 1-2-5 steps over wide spans, even steps over narrow ones."""
    if scale.high / scale.low >= _DECADES:
        first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        for steps in ((1, 2, 5), (1, 3), (1,)):
            places = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            inside = [place for place in places if scale.low <= place <= scale.high]
            if len(inside) <= _TICKS:
                return tuple(inside)
        return tuple(inside[:: math.ceil(len(inside) / _TICKS)])
    step = _round_step((scale.high - scale.low) / (_TICKS - 1))
    start, stop = math.ceil(scale.low / step), math.floor(scale.high / step)
    return tuple(index * step for index in range(start, stop + 1))


def outline(percentiles: Sequence[float], scale: Scale) -> str:
    """The density that equally likely steps between percentiles imply, as path data above a base line.

    Its highest place is `OUTLINE` high whatever the spread, so that every case can be seen.
    """
    places = [BOX * share / _BIN for share in scale.shares(_thinned(percentiles))]
    first = math.floor(places[0]) - len(_KERNEL) // 2
    heights = _smooth(_bins(places))
    factor = OUTLINE / max(heights)
    return _path(first, [round(factor * height) for height in heights])


def _thinned(percentiles: Sequence[float]) -> Sequence[float]:
    """Evenly chosen percentiles with both ends among them; all where the number does not divide."""
    steps = len(percentiles) - 1
    return percentiles[:: steps // _STEPS] if steps % _STEPS == 0 else percentiles


def _path(first: int, levels: Sequence[int]) -> str:
    """Join the tops of bins, each at a whole height; a bin that changes nothing is left out."""
    path, at, level = [f"M{(first - 1) * _BIN} {OUTLINE}"], first - 1, 0
    for index, (wanted, following) in enumerate(zip(levels, [*levels[1:], 0], strict=True), first):
        if wanted == level == following:
            continue
        path.append(f"l{(index - at) * _BIN} {level - wanted}")
        at, level = index, wanted
    return "".join([*path, f"l{_BIN} {level}z"])


def _scale(low: float, high: float) -> Scale:
    """A scale with some room; a single value gets a tenth on either side."""
    room = 1.1 if high / low < 1.01 else 1.0  # noqa: PLR2004 - below a per cent nothing can be told apart
    return Scale(low=low / room, high=high * room)


def _strip(item: Series, top: int, scale: Scale) -> Strip:
    start, stop = scale.shares([item.percentiles[0], item.percentiles[-1]])
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


def _percentages(seconds: Iterable[float], scale: Scale) -> list[str]:
    """Where times of the scale stand, as SVG lengths."""
    return [f"{100 * share:.1f}%" for share in scale.shares(seconds)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(nice * power for nice in (1, 2, 2.5, 5, 10) if nice * power >= step)


def _bins(places: Sequence[float]) -> list[float]:
    """Spread one unit of weight evenly between each two neighbours; the first bin holds the first place."""
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
