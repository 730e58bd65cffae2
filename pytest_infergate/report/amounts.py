"""Amounts of money in tables and sentences."""

from __future__ import annotations

from pytest_infergate.core.domain import units


def usd(value: float) -> str:
    """Format an amount: ``1,234 USD``, ``12.3 USD``."""
    return f"{units.dollars(value)} USD"


def labelled(text: str, label: str) -> str:
    """Add to an amount what is uncertain about the price behind it: ``74.9 (assumed price)``."""
    return f"{text} ({label})" if label else text


def interval(low: float | None, high: float | None) -> str:
    """Format the ends of a projected amount: ``384 to 768``; one that is unknown leaves it open."""
    if low is None:
        return units.UNKNOWN
    if high is None:
        return f"{units.dollars(low)} or more"
    ends = dict.fromkeys((units.dollars(low), units.dollars(high)))
    return " to ".join(ends)
