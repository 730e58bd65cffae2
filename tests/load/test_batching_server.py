"""The batching server on a fake clock, against the simulation of `core.advice.queueing`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import Traffic

from pytest_infergate.core.advice.queueing import Server, schedule
from pytest_infergate.load.batching_server import Limits, serve_requests


def served(moments, seconds, *, max_batch=4, limit=1e6):
    """Serve arrivals at moments in seconds; `seconds` is the time of a call by its size."""
    traffic = Traffic([round(1e9 * moment) for moment in moments])
    batches = []

    def call(items):
        traffic.clock.advance(seconds(len(items)))

    return serve_requests(traffic, call, traffic.clock, Limits(max_batch, limit), batches), traffic


def test_a_batch_is_what_waits_when_the_last_one_is_done():
    done, traffic = served([0, 0.1, 0.2, 0.3, 0.4, 0.5, 3], lambda _: 1.0)
    assert [[request.item for request in batch.requests] for batch in done.batches] == [
        [0],
        [1, 2, 3, 4],
        [5],
        [6],
    ]
    assert [batch.started for batch in done.batches] == [0, 10**9, 2 * 10**9, 3 * 10**9]
    assert [batch.waiting for batch in done.batches] == [1, 5, 1, 1]
    assert traffic.answered == list(range(7))
    assert done.unanswered == ()


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 3_000), min_size=1, max_size=60),
    fixed=st.integers(1, 2_000),
    each=st.integers(0, 500),
    max_batch=st.integers(1, 9),
)
def test_the_server_follows_the_rules_of_the_simulation(gaps, fixed, each, max_batch):
    moments = np.cumsum(gaps) * 1e-3
    done, _ = served(moments, lambda size: (fixed + each * size) * 1e-3, max_batch=max_batch)
    expected = schedule(moments, lambda _, size: (fixed + each * size) * 1e-3, Server(max_batch=max_batch))
    assert [len(batch.requests) for batch in done.batches] == expected.sizes.tolist()
    finishes = [batch.finished / 1e9 for batch in done.batches]
    assert finishes == pytest.approx(expected.finishes, abs=1e-6)


def test_a_server_that_is_behind_stops():
    done, traffic = served(np.arange(100) * 0.12, lambda _: 1.0, max_batch=1, limit=12.0)
    assert len(done.batches) == 12
    assert [request.item for request in done.unanswered] == list(range(12, 100))
    assert traffic.answered == list(range(12))


def test_a_server_without_requests_stops():
    traffic = Traffic([10**15])
    done = serve_requests(traffic, lambda _: None, traffic.clock, Limits(1, 5.0, patience=7.0), [])
    assert (done.batches, done.ended) == ([], 7 * 10**9)


def test_batches_before_an_exception_are_kept():
    traffic, batches = Traffic([0, 10, 20]), []

    def call(items):
        if items == [2]:
            raise ValueError

    with pytest.raises(ValueError):
        serve_requests(traffic, call, traffic.clock, Limits(1, 5.0), batches)
    assert [batch.requests[0].item for batch in batches] == [0, 1]
