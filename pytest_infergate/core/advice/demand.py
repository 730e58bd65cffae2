"""The demand on a service: `(text) -> Demand`, and the moments at which its requests arrive.

A request is one item of a batch.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import PATTERNS, Demand
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.core.domain.values import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HOURS_PER_DAY: Final = 24
RATE_UNITS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
"""Units of time of a rate, in seconds."""
# Between one request in thirty years and far more than any service gets, all figures of a plan stay finite.
MIN_RATE: Final = 1e-9
"""Smallest rate in requests per second."""
MAX_RATE: Final = 1e12
"""Largest rate in requests per second."""
# The frames of more streams arrive like random requests, and their moments would fill the memory.
MAX_STREAMS: Final = 10_000
MIN_HOUR_SHARE: Final = 1e-9
"""Smallest demand of an hour as a share of that of the busiest hour, unless it is 0."""
MAX_ITEMS: Final = 1e18
"""Largest number of items of a backlog."""

_SPELLINGS: Final = {
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "d": "day",
    "daily": "day",
    **{unit: unit for unit in RATE_UNITS},
}
"""Likely spellings of a unit, with the unit to suggest."""
_EXAMPLES: Final = ". Hint: write for example 50/s, 3/min, 2.5/h, 1e6/day or 30/s:periodic"
# Separates the random numbers of arrivals from those of service times with the same seed.
_ARRIVALS: Final = 1


class Backlog(Struct, frozen=True, kw_only=True):
    """Offline work with a deadline. Raises `ValueError` for figures that are not finite and above 0."""

    items: float
    deadline: float
    """Seconds."""

    def __post_init__(self) -> None:
        for name, value in (("items", self.items), ("deadline", self.deadline)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} of a backlog must be greater than 0 and finite, got {value}")


def parse_demand(text: str, streams: int | None = None) -> Demand:
    """Parse ``50/s``, ``3/min``, ``1e6/day``, or ``30/s:periodic``, which is the rate of each stream.

    ``8x30/s:periodic`` states the number of streams as well, unless `streams` does. Raises `ValueError` with
    what is allowed.
    """
    # In lower case, so that 50/S and 30/s:Periodic are understood.
    rate, colon, pattern = (part.strip() for part in text.lower().partition(":"))
    stated = re.fullmatch(r"(\d{1,9})\s*x\s*(.+)", rate)
    if stated is not None:
        if streams is not None:
            raise ValueError(f"streams must be given once, got {text!r} and {streams!r}")
        streams, rate = int(stated[1]), stated[2]
    each = _requests_per_second(rate, pattern, text)
    kind: Literal["poisson", "periodic"] = "periodic" if pattern == "periodic" else "poisson"
    if colon and pattern != kind:
        raise ValueError(f"{text!r}: {not_one_of('the pattern of a demand', pattern, PATTERNS)}")
    if streams is None:
        return Demand(rate=each, pattern=kind)
    # JSON and TOML have booleans, which are integers in Python.
    if isinstance(streams, bool) or not isinstance(streams, int) or streams < 1:
        raise ValueError(f"streams must be a whole number of 1 or more, got {streams!r}")
    if kind != "periodic":
        several = units.plural(streams, "stream")
        raise ValueError(f"a demand of {several} must be periodic, got {text!r}. Hint: write {rate}:periodic")
    if streams > MAX_STREAMS:
        raise ValueError(
            f"streams must be at most {MAX_STREAMS:,}, got {streams:,}. Hint: more streams arrive like "
            f"random requests, write {each * streams:g}/s"
        )
    return Demand(rate=each * streams, pattern=kind, streams=streams)


def parse_backlog(items: str | float, deadline: str) -> Backlog:
    """Parse a number of items, ``1e6``, and a deadline, ``30min``, ``2h`` or ``1d``.

    Raises `ValueError` with what is allowed.
    """
    value = None if isinstance(items, bool) else _number(items)
    if value is None or not (math.isfinite(value) and value > 0):
        raise ValueError(f"items must be a number greater than 0, got {items!r}. Hint: write for example 1e6")
    if value > MAX_ITEMS:
        raise ValueError(f"items must be at most {MAX_ITEMS:g}, got {items!r}")
    return Backlog(items=value, deadline=units.parse_duration(deadline))


def parse_day(text: str) -> tuple[float, ...]:
    """Parse 24 numbers, the demand of each hour of a day on any scale: ``0.2, 0.1, ..., 1, 0.6``.

    Returns shares of the busiest hour. Raises `ValueError` with what is wrong.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != HOURS_PER_DAY:
        got = units.plural(len(parts), "number")
        raise ValueError(
            f"the demand of a day must have {HOURS_PER_DAY} numbers, one for each hour, got {got}"
        )
    hours = []
    for part in parts:
        value = _number(part)
        if value is None or not math.isfinite(value) or value < 0:
            raise ValueError(f"the demand of an hour must be a number of 0 or more, got {part!r}")
        hours.append(value)
    peak = max(hours)
    if peak == 0:
        raise ValueError("the demand of at least one hour must be greater than 0")
    # Shares of the peak, because the demand itself states the peak.
    shares = tuple(value / peak for value in hours)
    if any(0 < share < MIN_HOUR_SHARE for share in shares):
        raise ValueError(
            f"the demand of an hour must be 0 or at least {MIN_HOUR_SHARE:g} of the busiest, {peak:g}. "
            "Hint: write 0 for an hour with almost no demand"
        )
    return shares


def demand_text(demand: Demand) -> str:
    """Return ``50 requests/s, Poisson`` or ``8 streams of 30 frames/s``."""
    if demand.pattern == "periodic":
        streams = units.plural(demand.streams, "stream")
        return f"{streams} of {_rate(demand.rate / demand.streams, 'frame')}"
    return f"{_rate(demand.rate, 'request')}, Poisson"


def arrivals(demand: Demand, count: int, seed: int) -> NDArray[np.float64]:
    """Draw the moments at which the first `count` requests arrive: seconds, ascending, from near 0 on.

    Raises `ValueError` for no requests.
    """
    import numpy as np

    if count < 1:
        raise ValueError(f"arrivals must be at least 1, got {count}")
    if demand.period is None:
        # One sequence for each seed that the rate only scales, so that demands are compared under equal luck.
        return _random_arrivals(count, seed) / demand.rate
    generator = np.random.default_rng((seed, _ARRIVALS))
    # Each stream starts at a random moment of the first period.
    phases = generator.random(demand.streams)
    frames = np.arange(math.ceil(count / demand.streams))
    return np.sort(np.add.outer(frames, phases), axis=None)[:count] * demand.period


@lru_cache(maxsize=4)
def _random_arrivals(count: int, seed: int) -> NDArray[np.float64]:
    """Draw the arrivals at one request per second, once for all simulations."""
    import numpy as np

    return np.cumsum(np.random.default_rng((seed, _ARRIVALS)).standard_exponential(count))


def _requests_per_second(rate: str, pattern: str, text: str) -> float:
    """Parse the rate of a demand; `text` is the whole demand for errors."""
    number, _, unit = (part.strip() for part in rate.partition("/"))
    value = _number(number)
    if value is None:
        raise ValueError(f"a demand must be a number of requests per unit of time, got {text!r}{_EXAMPLES}")
    allowed = ", ".join(RATE_UNITS)
    if not unit:
        wanted = f"{number}/s:{pattern}" if pattern else f"{number}/s"
        raise ValueError(f"a demand must have a unit of time ({allowed}), got {text!r}. Hint: write {wanted}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"a demand must be greater than 0 and finite, got {text!r}{_EXAMPLES}")
    if unit not in RATE_UNITS:
        similar = get_close_matches(unit, _SPELLINGS, n=1)
        hint = f". Hint: did you mean {_SPELLINGS[similar[0]]!r}?" if similar else ""
        raise ValueError(f"the unit of a demand must be one of {allowed}, got {unit!r} in {text!r}{hint}")
    # A rate per second from here on; other units are for reading and writing only.
    each = value / RATE_UNITS[unit]
    if not MIN_RATE <= each <= MAX_RATE:
        raise ValueError(f"a demand must be between {MIN_RATE:g}/s and {MAX_RATE:g}/s, got {text!r}")
    return each


def _number(text: str | float) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rate(rate: float, noun: str) -> str:
    """Format a rate in the shortest unit of time that has one request or more."""
    enough = 1 - 1e-9  # a rate of 1/day has been divided, and multiplied again it is slightly less
    unit = next((unit for unit, seconds in RATE_UNITS.items() if rate * seconds >= enough), "day")
    shown = units.tick(rate * RATE_UNITS[unit], 4)
    return f"{shown} {noun}{'' if shown == '1' else 's'}/{unit}"
