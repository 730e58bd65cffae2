import math

import msgspec
import numpy as np
import pytest
from core_values import refusal, refusals
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice.demand import (
    Backlog,
    Demand,
    arrivals,
    demand_text,
    parse_backlog,
    parse_day,
    parse_demand,
)


def test_random_arrivals():
    for text, rate in [
        ("50/s", 50),
        ("3/min", 3 / 60),
        ("2.5/h", 2.5 / 3600),
        ("1e6/day", 1e6 / 86400),
        ("  50 / s ", 50),
        ("50/S", 50),
        ("50/s:poisson", 50),
        ("0.001/day", 0.001 / 86400),
    ]:
        demand = parse_demand(text)
        assert demand.rate == pytest.approx(rate), (text, rate)
        assert (demand.pattern, demand.streams, demand.period) == ("poisson", 1, None), (text, rate)


def test_the_rate_of_periodic_demands_is_that_of_a_stream():
    for text, streams, rate, period in [
        ("30/s:periodic", None, 30, 1 / 30),
        ("30/s:periodic", 1, 30, 1 / 30),
        ("30/s:periodic", 8, 240, 1 / 30),
        (" 6 / min : Periodic ", 10, 1, 10),
    ]:
        demand = parse_demand(text, streams)
        assert demand.pattern == "periodic", (text, streams, rate, period)
        assert demand.streams == streams or (streams is None and demand.streams == 1), (
            text,
            streams,
            rate,
            period,
        )
        assert demand.rate == pytest.approx(rate), (text, streams, rate, period)
        assert demand.period == pytest.approx(period), (text, streams, rate, period)


def test_streams_may_be_stated_in_the_demand():
    for text in ("8x30/s:periodic", "8 x 30/s:periodic", "8X1800/min:periodic"):
        assert parse_demand(text) == parse_demand("30/s:periodic", 8), text
    for text, streams in (
        ("0x30/s:periodic", None),
        ("8x30/s", None),
        ("8x30/s:periodic", 8),
        ("x30/s", None),
    ):
        with pytest.raises(ValueError, match=r"streams|number|periodic"):
            parse_demand(text, streams)


def test_what_is_no_demand_is_refused(snapshot):
    no_demand = ("", "fast", "/s", "1,000/s", "50", "50/", "30:periodic")
    no_rate = ("0/s", "-1/s", "nan/s", "inf/s", "1e999/s", "1e-10/s", "1e-300/s", "1e15/min")
    no_unit = ("50/sec", "50/minutes", "50/hours", "50/days", "50/fortnight", "50/s/s")
    no_pattern = ("30/s:", "30/s:periodical", "30/s:bursty")
    assert refusals(parse_demand, *no_demand, *no_rate, *no_unit, *no_pattern) == snapshot


def test_streams_are_periodic_and_whole(snapshot):
    random = [("50/s", 8), ("50/s:poisson", 1)]
    counts = [("30/s:periodic", streams) for streams in (0, -2, 2.5, True, 10_001)]
    assert refusals(parse_demand, *random, *counts) == snapshot
    assert parse_demand("30/s:periodic", 10_000).streams == 10_000


def test_a_demand_checks_itself(snapshot):
    rates = [{"rate": rate} for rate in (0.0, -1.0, math.nan, math.inf)]
    others = [
        {"rate": 5e-324, "pattern": "periodic"},
        {"rate": 1.0, "pattern": "bursty"},
        {"rate": 1.0, "streams": 0},
        {"rate": 1.0, "streams": 2},
    ]
    assert refusals(Demand, *rates, *others) == snapshot


def test_a_demand_of_a_file_is_checked_too():
    with pytest.raises(msgspec.ValidationError, match="greater than 0"):
        msgspec.json.decode(b'{"rate": -1}', type=Demand)


def test_backlogs():
    for items, deadline, expected in [
        ("1e6", "2h", (1e6, 7200)),
        (5000, "30min", (5000, 1800)),
        (" 12.5 ", "1d", (12.5, 86400)),
        ("1", "10", (1, 10)),
        ("1", "0.5s", (1, 0.5)),
    ]:
        backlog = parse_backlog(items, deadline)
        assert (backlog.items, backlog.deadline) == expected, (items, deadline, expected)


def test_what_is_no_backlog_is_refused(snapshot):
    items = [(items, "2h") for items in ("many", 0, -3.0, "nan", "inf", "1e19", True)]
    deadlines = [("1e6", deadline) for deadline in ("soon", "0h", "2 weeks")]
    assert refusals(parse_backlog, *items, *deadlines) == snapshot


def test_a_backlog_checks_itself(snapshot):
    fields = [
        {"items": 1.0, "deadline": 1.0, name: value}
        for name in ("items", "deadline")
        for value in (0.0, -1.0, math.nan, math.inf)
    ]
    assert refusals(Backlog, *fields) == snapshot


def test_words():
    for text, streams, shown in [
        ("50/s", None, "50 requests/s, Poisson"),
        ("0.5/s", None, "30 requests/min, Poisson"),
        ("1/s", None, "1 request/s, Poisson"),
        ("1/min", None, "1 request/min, Poisson"),
        ("3/h", None, "3 requests/h, Poisson"),
        ("1/day", None, "1 request/day, Poisson"),
        ("0.25/day", None, "0.25 requests/day, Poisson"),
        ("1e6/day", None, "11.57 requests/s, Poisson"),
        ("999.4/s", None, "999.4 requests/s, Poisson"),
        ("1000/s", None, "1,000 requests/s, Poisson"),
        ("12345.6/s", None, "12,346 requests/s, Poisson"),
        ("30/s:periodic", 8, "8 streams of 30 frames/s"),
        ("29.97/s:periodic", None, "1 stream of 29.97 frames/s"),
        ("2/min:periodic", 3, "3 streams of 2 frames/min"),
    ]:
        assert demand_text(parse_demand(text, streams)) == shown, (text, streams, shown)


@given(st.floats(1e-6, 1e6), st.integers(1, 100))
def test_words_name_the_same_demand(rate, streams):
    for demand in (Demand(rate=rate), Demand(rate=rate, pattern="periodic", streams=streams)):
        each = demand_text(demand).removesuffix(", Poisson").rpartition(" of ")[2].replace(",", "")
        number, unit = each.split()
        read = parse_demand(f"{number}/{unit.partition('/')[2]}")
        assert read.rate * demand.streams == pytest.approx(rate, rel=1e-3)


def test_random_arrivals_are_a_poisson_process():
    moments = arrivals(Demand(rate=20.0), 100_000, seed=3)
    gaps = np.diff(moments)
    assert moments.dtype == np.float64
    assert 0 < moments[0] < 1
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 20, rel=0.02)
    in_a_second = np.bincount(moments.astype(int))[:-1]
    assert in_a_second.var() == pytest.approx(20, rel=0.1)


@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4), st.integers(1, 50), st.integers(0, 2**32))
def test_random_arrivals_of_a_seed_are_one_sequence_scaled(rate, other, count, seed):
    here, there = (arrivals(Demand(rate=each), count, seed) for each in (rate, other))
    assert here * rate == pytest.approx(there * other)
    assert arrivals(Demand(rate=rate), 2 * count, seed)[:count] == pytest.approx(here)


def test_seeds_differ():
    assert not np.allclose(arrivals(Demand(rate=1.0), 10, 1), arrivals(Demand(rate=1.0), 10, 2))


@given(st.integers(1, 12), st.integers(1, 60), st.floats(0.01, 1000), st.integers(0, 1000))
def test_periodic_streams_alternate(streams, count, rate, seed):
    demand = Demand(rate=rate, pattern="periodic", streams=streams)
    moments = arrivals(demand, count, seed)
    assert len(moments) == count
    assert (np.diff(moments) >= 0).all()
    assert 0 <= moments[0] < demand.period
    # In every period each stream has one frame, at the phase it began with.
    assert moments[streams:] == pytest.approx(moments[:-streams] + demand.period)


def test_phases_are_drawn_by_seed():
    demand = Demand(rate=8.0, pattern="periodic", streams=8)
    phases = [arrivals(demand, 8, seed) for seed in range(200)]
    assert np.array_equal(phases[3], arrivals(demand, 8, 3))
    assert np.mean(phases) == pytest.approx(0.5, abs=0.03)
    assert len({tuple(row) for row in phases}) == 200


# The hours of a day


def test_a_day_is_given_in_shares_of_its_busiest_hour():
    assert parse_day(", ".join(["0", "10", "50"] * 8)) == (0.0, 0.2, 1.0) * 8


def test_what_is_no_day_is_refused(snapshot):
    hours = ["noon", "-1", "nan", "inf", ""]
    days = ["1,2", "", ",".join(["0"] * 24), ",".join(["7"] * 23 + ["1e-300"])]
    assert refusals(parse_day, *days, *(",".join(["1"] * 23 + [hour]) for hour in hours)) == snapshot


def test_there_is_at_least_one_arrival():
    for count in (0, -5):
        assert str(count) in refusal(arrivals, Demand(rate=1.0), count, 0)
