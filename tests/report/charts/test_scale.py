"""The one logarithmic scale: where figures lie on it, and its ticks."""

from __future__ import annotations

import pytest

from pytest_infergate.report.charts.scale import LogScale, spanning


def scale(low, high):
    return LogScale(low=low, high=high, begin=0.1, end=0.2)


def test_figures_lie_between_the_margins():
    found = scale(1.0, 100.0)
    assert found.shares([1.0, 10.0, 100.0]) == pytest.approx([0.1, 0.45, 0.8])
    assert found.share(1000.0) > 1.0


def test_a_scale_spans_its_figures_and_makes_room_for_a_single_one():
    for low, high, expected in ((1.0, 2.0, (1.0, 2.0)), (1.0, 1.0, (0.5, 2.0)), (1.0, 1.2, (0.5, 2.4))):
        found = spanning(low, high, begin=0.1, end=0.2, closest=1.5, room=2.0)
        assert (found.low, found.high) == pytest.approx(expected)
        assert (found.begin, found.end) == (0.1, 0.2)


def test_ticks_are_round():
    for low, high, expected in (
        (0.038, 0.044, (0.038, 0.04, 0.042, 0.044)),
        (0.001, 0.01, (0.001, 0.002, 0.005, 0.01)),
        (0.002, 0.2, (0.003, 0.01, 0.03, 0.1)),
    ):
        assert scale(low, high * 1.0001).ticks == pytest.approx(expected)


def test_ticks_lie_within_their_scale():
    exponents = (-9, -6.3, -3, -1.7, 0, 2.2, 6)
    factors = (1.001, 1.01, 1.15, 1.5, 2, 4.9, 10, 99, 1e4, 1e6, 1e12)
    for low in (10**exponent for exponent in exponents):
        for factor in factors:
            found = scale(low, low * factor)
            ticks = found.ticks
            assert len(ticks) <= 6, (low, factor)
            assert all(found.low * 0.999 <= tick <= found.high * 1.001 for tick in ticks), (low, factor)
            assert factor < 1.5 or len(ticks) >= 2, (low, factor)
