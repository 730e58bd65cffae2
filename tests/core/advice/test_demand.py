import math

import msgspec
import numpy as np
import pytest
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

EXAMPLES = "50/s, 3/min, 2.5/h, 1e6/day or 30/s:periodic"
NO_DEMAND = f"is not a demand; write requests for a time, such as {EXAMPLES}"
NO_RATE = f"is not a rate above zero, such as {EXAMPLES}"
UNITS = "allowed are s, min, h, day"
PATTERNS = "allowed are poisson, periodic"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50/s", 50),
        ("3/min", 3 / 60),
        ("2.5/h", 2.5 / 3600),
        ("1e6/day", 1e6 / 86400),
        ("  50 / s ", 50),
        ("50/S", 50),
        ("50/s:poisson", 50),
        ("0.001/day", 0.001 / 86400),
    ],
)
def test_random_arrivals(text, rate):
    demand = parse_demand(text)
    assert demand.rate == pytest.approx(rate)
    assert (demand.pattern, demand.streams, demand.period) == ("poisson", 1, None)


@pytest.mark.parametrize(
    ("text", "streams", "rate", "period"),
    [
        ("30/s:periodic", None, 30, 1 / 30),
        ("30/s:periodic", 1, 30, 1 / 30),
        ("30/s:periodic", 8, 240, 1 / 30),
        (" 6 / min : Periodic ", 10, 1, 10),
    ],
)
def test_the_rate_of_periodic_demands_is_that_of_a_stream(text, streams, rate, period):
    demand = parse_demand(text, streams)
    assert demand.pattern == "periodic"
    assert demand.streams == streams or (streams is None and demand.streams == 1)
    assert demand.rate == pytest.approx(rate)
    assert demand.period == pytest.approx(period)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'' {NO_DEMAND}"),
        ("fast", f"'fast' {NO_DEMAND}"),
        ("/s", f"'/s' {NO_DEMAND}"),
        ("1,000/s", f"'1,000/s' {NO_DEMAND}"),
        ("50", f"'50' has no unit of time; write 50/s ({UNITS})"),
        ("50/", f"'50/' has no unit of time; write 50/s ({UNITS})"),
        ("30:periodic", f"'30:periodic' has no unit of time; write 30/s:periodic ({UNITS})"),
        ("0/s", f"'0/s' {NO_RATE}"),
        ("-1/s", f"'-1/s' {NO_RATE}"),
        ("nan/s", f"'nan/s' {NO_RATE}"),
        ("inf/s", f"'inf/s' {NO_RATE}"),
        ("1e999/s", f"'1e999/s' {NO_RATE}"),
        ("1e-10/s", "'1e-10/s' is not a rate between 1e-09/s and 1e+12/s"),
        ("1e-300/s", "'1e-300/s' is not a rate between 1e-09/s and 1e+12/s"),
        ("1e15/min", "'1e15/min' is not a rate between 1e-09/s and 1e+12/s"),
        ("50/sec", f"'50/sec' has the unknown unit 'sec': {UNITS}; did you mean 's'?"),
        ("50/minutes", f"'50/minutes' has the unknown unit 'minutes': {UNITS}; did you mean 'min'?"),
        ("50/hours", f"'50/hours' has the unknown unit 'hours': {UNITS}; did you mean 'h'?"),
        ("50/days", f"'50/days' has the unknown unit 'days': {UNITS}; did you mean 'day'?"),
        ("50/fortnight", f"'50/fortnight' has the unknown unit 'fortnight': {UNITS}"),
        ("50/s/s", f"'50/s/s' has the unknown unit 's/s': {UNITS}"),
        ("30/s:", f"'30/s:' has the unknown pattern '': {PATTERNS}"),
        (
            "30/s:periodical",
            f"'30/s:periodical' has the unknown pattern 'periodical': {PATTERNS}; did you mean 'periodic'?",
        ),
        ("30/s:bursty", f"'30/s:bursty' has the unknown pattern 'bursty': {PATTERNS}"),
    ],
)
def test_what_is_no_demand_is_told_what_is_one(text, message):
    with pytest.raises(ValueError) as raised:
        parse_demand(text)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "streams", "message"),
    [
        ("50/s", 8, "8 streams of '50/s': streams are periodic; write 50/s:periodic"),
        ("50/s:poisson", 1, "1 stream of '50/s:poisson': streams are periodic; write 50/s:periodic"),
        ("30/s:periodic", 0, "0 is not a whole number of 1 or more streams"),
        ("30/s:periodic", -2, "-2 is not a whole number of 1 or more streams"),
        ("30/s:periodic", 2.5, "2.5 is not a whole number of 1 or more streams"),
        ("30/s:periodic", True, "True is not a whole number of 1 or more streams"),
        (
            "30/s:periodic",
            10_001,
            "10,001 streams are more than 10,000: so many come as if at random; write 300030/s",
        ),
    ],
)
def test_streams_are_periodic_and_whole(text, streams, message):
    with pytest.raises(ValueError) as raised:
        parse_demand(text, streams)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, "0.0 requests a second is not above zero and finite"),
        ({"rate": -1.0}, "-1.0 requests a second"),
        ({"rate": math.nan}, "nan requests a second"),
        ({"rate": math.inf}, "inf requests a second"),
        ({"rate": 5e-324, "pattern": "periodic"}, "5e-324 requests a second"),
        ({"rate": 1.0, "pattern": "bursty"}, "unknown pattern 'bursty': allowed are poisson, periodic"),
        ({"rate": 1.0, "streams": 0}, "a demand of 0 streams: there must be at least 1"),
        ({"rate": 1.0, "streams": 2}, "2 streams at random moments: only a periodic demand has streams"),
    ],
)
def test_a_demand_checks_itself(fields, message):
    with pytest.raises(ValueError, match=message):
        Demand(**fields)


def test_a_demand_of_a_file_is_checked_too():
    with pytest.raises(msgspec.ValidationError, match="not above zero"):
        msgspec.json.decode(b'{"rate": -1}', type=Demand)


@pytest.mark.parametrize(
    ("items", "deadline", "expected"),
    [
        ("1e6", "2h", (1e6, 7200)),
        (5000, "30min", (5000, 1800)),
        (" 12.5 ", "1d", (12.5, 86400)),
        ("1", "10", (1, 10)),
        ("1", "0.5s", (1, 0.5)),
    ],
)
def test_backlogs(items, deadline, expected):
    backlog = parse_backlog(items, deadline)
    assert (backlog.items, backlog.deadline) == expected


@pytest.mark.parametrize(
    ("items", "deadline", "message"),
    [
        ("many", "2h", "'many' is not a number of items above zero, such as 5000 or 1e6"),
        (0, "2h", "0 is not a number of items above zero"),
        (-3.0, "2h", "-3.0 is not a number of items"),
        ("nan", "2h", "'nan' is not a number of items"),
        ("inf", "2h", "'inf' is not a number of items"),
        ("1e19", "2h", "'1e19' is more than the 1e+18 items that a backlog may have"),
        (True, "2h", "True is not a number of items"),
        ("1e6", "soon", "'soon' is not a time above zero, such as 10, 10s, 2min"),
        ("1e6", "0h", "'0h' is not a time above zero"),
        ("1e6", "2 weeks", "'2 weeks' is not a time above zero"),
    ],
)
def test_what_is_no_backlog(items, deadline, message):
    with pytest.raises(ValueError) as raised:
        parse_backlog(items, deadline)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["items", "deadline"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_backlog_checks_itself(name, value):
    with pytest.raises(ValueError, match=f"a backlog's {name} of"):
        Backlog(**{"items": 1.0, "deadline": 1.0, name: value})


@pytest.mark.parametrize(
    ("text", "streams", "shown"),
    [
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
    ],
)
def test_words(text, streams, shown):
    assert demand_text(parse_demand(text, streams)) == shown


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
def test_periodic_streams_come_in_turn(streams, count, rate, seed):
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


def test_a_day_is_told_in_shares_of_its_busiest_hour():
    assert parse_day(", ".join(["0", "10", "50"] * 8)) == (0.0, 0.2, 1.0) * 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2", "a day has 24 hours, and here are 2 numbers"),
        ("", "a day has 24 hours, and here are 1 number"),
        (",".join(["1"] * 23 + ["noon"]), "'noon' is not the demand of an hour"),
        (",".join(["1"] * 23 + ["-1"]), "'-1' is not the demand of an hour"),
        (",".join(["1"] * 23 + ["nan"]), "'nan' is not the demand of an hour"),
        (",".join(["1"] * 23 + ["inf"]), "'inf' is not the demand of an hour"),
        (",".join(["1"] * 23 + [""]), "'' is not the demand of an hour"),
        (",".join(["0"] * 24), "a day without any demand needs no machine"),
        (",".join(["7"] * 23 + ["1e-300"]), "an hour has next to no demand beside the busiest, 7: write 0"),
    ],
)
def test_what_is_no_day(text, words):
    with pytest.raises(ValueError, match=words):
        parse_day(text)


@pytest.mark.parametrize("count", [0, -5])
def test_no_arrivals(count):
    with pytest.raises(ValueError, match=f"{count} arrivals: there must be at least 1"):
        arrivals(Demand(rate=1.0), count, 0)
