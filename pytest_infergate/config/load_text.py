"""The load under which a model is served, as the user writes it."""

from __future__ import annotations

import re
from typing import Final

from pytest_infergate.core.advice.demand import RATE_UNITS
from pytest_infergate.core.domain.load_values import Load

# A request takes the harness up to a tenth of a millisecond, and all moments are drawn before the first.
MAX_LOAD_RATE: Final = 10_000.0
"""Requests per second that one process can generate and answer."""
MAX_LOAD_STREAMS: Final = 1_000
_STREAMS: Final = re.compile(r"(\d{1,9})-stream")
_EXAMPLES: Final = "Hint: write 50/s, single-stream, 8-stream or offline"


def parse_load(text: str) -> Load:
    """Parse ``50/s``, ``3/min``, ``single-stream``, ``8-stream`` or ``offline``.

    Raises `ValueError` with what is allowed.
    """
    word = text.strip().lower()
    if word == "single-stream":
        return Load(scenario="single-stream")
    if word == "offline":
        return Load(scenario="offline")
    found = _STREAMS.fullmatch(word)
    if found is not None:
        streams = int(found[1])
        if not 1 <= streams <= MAX_LOAD_STREAMS:
            raise ValueError(
                f"the streams of a load must be between 1 and {MAX_LOAD_STREAMS:,}, got {text!r}. {_EXAMPLES}"
            )
        return Load(scenario="multi-stream", streams=streams)
    number, _, unit = (part.strip() for part in word.partition("/"))
    try:
        rate = float(number) / RATE_UNITS[unit]
    except (ValueError, KeyError):
        raise ValueError(
            f"a load must be a rate, single-stream, N-stream or offline, got {text!r}. {_EXAMPLES}"
        ) from None
    if not 0 < rate <= MAX_LOAD_RATE:
        raise ValueError(
            f"the rate of a load must be greater than 0/s and at most {MAX_LOAD_RATE:,.0f}/s, got {text!r}. "
            f"{_EXAMPLES}"
        )
    return Load(scenario="server", rate=rate)
