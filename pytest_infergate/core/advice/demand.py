"""What is asked of a service: `(text) -> Demand`, and when its requests arrive.

A request is one item of a batch.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import PATTERNS, Demand
from pytest_infergate.core.domain.model import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HOURS_PER_DAY: Final = 24
SECONDS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
"""Units of time that a rate may have."""
LEAST_RATE: Final = 1e-9
"""Least rate that may be asked for, requests a second: one in thirty years."""
MOST_RATE: Final = 1e12
"""And the highest."""
MOST_STREAMS: Final = 10_000
"""Streams that may be asked for. More of them come as if at random, and would fill the memory."""
LEAST_SHARE: Final = 1e-9
"""Least demand of an hour as a share of the busiest, unless it has none."""
MOST_ITEMS: Final = 1e18
"""Items that a backlog may have."""

_SPELLINGS: Final = {
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "d": "day",
    "daily": "day",
    **{unit: unit for unit in SECONDS},
}
"""What people write for a unit, and what is asked of them."""
_EXAMPLES: Final = "50/s, 3/min, 2.5/h, 1e6/day or 30/s:periodic"
_ARRIVALS: Final = 1
"""Keeps the random numbers of arrivals apart from those of service times of the same seed."""


class Backlog(Struct, frozen=True, kw_only=True):
    """Offline work. Raises `ValueError` for figures that are not above 0 and finite."""

    items: float
    deadline: float
    """Seconds."""

    def __post_init__(self) -> None:
        for name, value in (("items", self.items), ("deadline", self.deadline)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"a backlog's {name} of {value} is not above zero and finite")


def parse_demand(text: str, streams: int | None = None) -> Demand:
    """Parse ``50/s``, ``3/min``, ``1e6/day``, or ``30/s:periodic``, which is the rate of each stream.

    Raises `ValueError` naming what is allowed.
    """
    rate, colon, pattern = (part.strip() for part in text.lower().partition(":"))
    number, _, unit = (part.strip() for part in rate.partition("/"))
    value = _number(number)
    if value is None:
        raise ValueError(f"{text!r} is not a demand; write requests for a time, such as {_EXAMPLES}")
    if not unit:
        wanted = f"{number}/s:{pattern}" if pattern else f"{number}/s"
        raise ValueError(f"{text!r} has no unit of time; write {wanted} (allowed are {', '.join(SECONDS)})")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{text!r} is not a rate above zero, such as {_EXAMPLES}")
    each = value / _seconds(unit, text)
    if not LEAST_RATE <= each <= MOST_RATE:
        raise ValueError(f"{text!r} is not a rate between {LEAST_RATE:g}/s and {MOST_RATE:g}/s")
    kind = _pattern(pattern, text) if colon else "poisson"
    if streams is None:
        return Demand(rate=each, pattern=kind)
    if isinstance(streams, bool) or not isinstance(streams, int) or streams < 1:
        raise ValueError(f"{streams!r} is not a whole number of 1 or more streams")
    if kind != "periodic":
        raise ValueError(
            f"{units.plural(streams, 'stream')} of {text!r}: streams are periodic; write {rate}:periodic"
        )
    if streams > MOST_STREAMS:
        raise ValueError(
            f"{units.plural(streams, 'stream')} are more than {MOST_STREAMS:,}: so many come as if at "
            f"random; write {each * streams:g}/s"
        )
    return Demand(rate=each * streams, pattern=kind, streams=streams)


def parse_backlog(items: str | float, deadline: str) -> Backlog:
    """Parse ``1e6`` items and a deadline such as ``30min``, ``2h`` or ``1d``.

    Raises `ValueError` naming what is allowed.
    """
    value = None if isinstance(items, bool) else _number(items)
    if value is None or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{items!r} is not a number of items above zero, such as 5000 or 1e6")
    if value > MOST_ITEMS:
        raise ValueError(f"{items!r} is more than the {MOST_ITEMS:g} items that a backlog may have")
    return Backlog(items=value, deadline=units.parse_duration(deadline))


def parse_day(text: str) -> tuple[float, ...]:
    """Parse 24 numbers, the demand of each hour of a day on any scale: ``0.2, 0.1, ..., 1, 0.6``.

    Returned are shares of the busiest hour. Raises `ValueError` naming what is wrong.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != HOURS_PER_DAY:
        raise ValueError(
            f"a day has {HOURS_PER_DAY} hours, and here are {units.plural(len(parts), 'number')}"
        )
    values = [_number(part) for part in parts]
    hours = [value for value in values if value is not None and math.isfinite(value) and value >= 0]
    if len(hours) < len(parts):
        wrong = next(part for part, value in zip(parts, values, strict=True) if value not in hours)
        raise ValueError(f"{wrong!r} is not the demand of an hour: a number of 0 or more")
    peak = max(hours)
    if peak == 0:
        raise ValueError("a day without any demand needs no machine")
    shares = tuple(value / peak for value in hours)
    if any(0 < share < LEAST_SHARE for share in shares):
        raise ValueError(f"an hour has next to no demand beside the busiest, {peak:g}: write 0 for it")
    return shares


def demand_text(demand: Demand) -> str:
    """``50 requests/s, Poisson``, ``8 streams of 30 frames/s``."""
    if demand.pattern == "periodic":
        streams = units.plural(demand.streams, "stream")
        return f"{streams} of {_rate(demand.rate / demand.streams, 'frame')}"
    return f"{_rate(demand.rate, 'request')}, Poisson"


def arrivals(demand: Demand, count: int, seed: int) -> NDArray[np.float64]:
    """Draw when the first `count` requests arrive: seconds, ascending, from near 0 on.

    Poisson arrivals of one seed are one sequence that the rate only scales, so that two demands differ by
    nothing else. Periodic streams begin anywhere in the first period. Raises `ValueError` for no requests.
    """
    import numpy as np

    if count < 1:
        raise ValueError(f"{count} arrivals: there must be at least 1")
    generator = np.random.default_rng((seed, _ARRIVALS))
    if demand.period is None:
        return np.cumsum(generator.standard_exponential(count)) / demand.rate
    begins = generator.random(demand.streams)
    frames = np.arange(math.ceil(count / demand.streams))
    return np.sort(np.add.outer(frames, begins), axis=None)[:count] * demand.period


def _number(text: str | float) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _seconds(unit: str, text: str) -> float:
    if unit in SECONDS:
        return SECONDS[unit]
    near = get_close_matches(unit, _SPELLINGS, n=1)
    hint = f"; did you mean {_SPELLINGS[near[0]]!r}?" if near else ""
    raise ValueError(f"{text!r} has the unknown unit {unit!r}: allowed are {', '.join(SECONDS)}{hint}")


def _pattern(word: str, text: str) -> Literal["poisson", "periodic"]:
    if word == "poisson":
        return "poisson"
    if word == "periodic":
        return "periodic"
    near = get_close_matches(word, PATTERNS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{text!r} has the unknown pattern {word!r}: allowed are {', '.join(PATTERNS)}{hint}")


def _rate(rate: float, noun: str) -> str:
    """In the shortest unit of time that has one request or more."""
    enough = 1 - 1e-9  # 1/day came here through a division
    unit = next((unit for unit, seconds in SECONDS.items() if rate * seconds >= enough), "day")
    shown = units.tick(rate * SECONDS[unit], 4)
    return f"{shown} {noun}{'' if shown == '1' else 's'}/{unit}"
