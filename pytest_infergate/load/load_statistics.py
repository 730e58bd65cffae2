"""Figures of a load test: `(what a server did) -> LoadFigures`."""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import Contention, Estimate, LoadFigures
from pytest_infergate.load.batching_server import Served

# Requests that follow each other wait for each other, so that they say less than as many independent ones.
BLOCKS: Final = 20
"""Number of successive parts of a test whose shares of slow requests are compared."""


class Answers(NamedTuple):
    """Queries of a load test, in the order of their arrival."""

    latencies: tuple[float, ...]
    """Seconds from arrival to answer; of an unanswered query, until the server stopped, which is less."""
    complete: tuple[bool, ...]
    """Whether each query was answered."""


def answers(load: Load, served: Served) -> Answers:
    """Return the latency of each query; in the multi-stream scenario, its requests arrive together."""
    ends = [(request, batch.finished, True) for batch in served.batches for request in batch.requests]
    ends += [(request, served.ended, False) for request in served.unanswered]
    last: dict[tuple[int, int], tuple[int, bool]] = {}
    for index, (request, until, answered) in enumerate(ends):
        query = request.arrived, 0 if load.scenario == "multi-stream" else index
        before, complete = last.get(query, (0, True))
        last[query] = max(before, until), complete and answered
    ordered = sorted(last)
    return Answers(
        tuple((last[query][0] - query[0]) / 1e9 for query in ordered),
        tuple(last[query][1] for query in ordered),
    )


def load_percentile(found: Answers, p: float) -> Estimate:
    """Estimate a percentile of latencies with one-sided 99 % bounds.

    The bounds are at least as wide as those of independent queries. If the share of queries beyond the
    percentile differs between successive parts of the test by more than chance, they are wider: the standard
    error of that share is taken from the parts. The longest latency is the upper bound at most; there is none
    if a query was not answered.
    """
    ordered = sorted(found.latencies)
    count = len(ordered)
    alone = stats.quantile_estimate(ordered, p)
    if not all(found.complete):
        alone = Estimate(value=alone.value, low=alone.low)
    if count < 2 * BLOCKS:
        return alone
    ends = [round(count * part / BLOCKS) for part in range(BLOCKS + 1)]
    slow = [latency > alone.value for latency in found.latencies]
    shares = [sum(slow[begin:end]) / (end - begin) for begin, end in itertools.pairwise(ends)]
    error = math.sqrt(stats.variance(shares) / BLOCKS)
    margin = stats.student_quantile(stats.CONFIDENCE, BLOCKS - 1) * error
    low, high = alone.low, alone.high
    if low is not None:
        low = min(low, ordered[max(0, math.floor((p - margin) * count) - 1)]) if p > margin else None
    if high is not None:
        rank = math.ceil((p + margin) * count)
        high = max(high, ordered[min(rank, count - 1)])
    return Estimate(value=alone.value, low=low, high=high)


def load_figures(
    load: Load,
    served: Served,
    seconds: float,
    *,
    max_batch: int,
    limit: float | None = None,
    contention: Contention | None = None,
) -> LoadFigures | None:
    """Summarise a load test of `seconds` seconds; ``None`` if no request arrived.

    `limit` is the latency in seconds that a good answer keeps.
    """
    found, batches = answers(load, served), served.batches
    if not found.latencies:
        return None
    requests = [request for batch in batches for request in batch.requests]
    first = min(request.arrived for request in (*requests, *served.unanswered))
    until = max((batch.finished for batch in batches), default=served.ended)
    # Requests at random moments leave a gap before the end, in which none arrives.
    window = max((until - first) / 1e9, seconds if load.open else 0.0, 1e-9)
    timed = load.scenario != "offline"
    p50, p95, p99 = (load_percentile(found, p) if timed else None for p in (0.50, 0.95, 0.99))
    within = None
    if limit is not None and timed:
        kept = zip(found.latencies, found.complete, strict=True)
        within = sum(complete and latency <= limit for latency, complete in kept)
    return LoadFigures(
        load=load,
        seconds=window,
        queries=len(found.latencies),
        answered=sum(found.complete),
        requests=len(requests),
        p50=p50,
        p95=p95,
        p99=p99,
        limit=limit,
        within=within,
        max_batch=max_batch,
        mean_batch=len(requests) / len(batches) if batches else 0.0,
        busy=sum(batch.finished - batch.started for batch in batches) / 1e9 / window,
        longest_queue=max((batch.waiting for batch in batches), default=len(served.unanswered)),
        contention=contention or Contention(),
    )
