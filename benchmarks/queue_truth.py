"""Compare predicted latencies with those of a server whose service times are known, on a virtual clock.

    python benchmarks/queue_truth.py [SAMPLES]

A server that is written independently of `core/advice/queueing.py` answers 200,000 requests, which arrive at
random moments, for each kind of service time and for 30, 50 and 70 % of what full batches would serve. The
prediction uses only what a measurement would have: calls back to back, 60 s of each batch size, as results
files store them. It is repeated for SAMPLES samples (5 by default), and the median and the range of
predicted p95 / true p95 are printed.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from statistics import fmean, median
from typing import Final, NamedTuple

from pytest_infergate.core.advice.planning import PLAN_REQUESTS
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.advice.sizing import Sizing
from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.instruments.sampler import Samples
from pytest_infergate.measure.passes import call_order

REQUESTS: Final = 200_000
LOADS: Final = (0.3, 0.5, 0.7)
SAMPLED_SECONDS: Final = 60.0
CAPACITY_SECONDS: Final = 2_000.0
"""Seconds of calls back to back behind the true mean time of a full batch."""

Slowness = Callable[[float], float]
"""Factor of the service time of a batch that starts at a moment; called once for each batch, in order."""


def constant(_: random.Random) -> Slowness:
    """No noise."""
    return lambda _: 1.0


def noisy(draw: random.Random) -> Slowness:
    """Independent noise of 30 %."""
    return lambda _: math.exp(draw.gauss(0.0, 0.3))


def bimodal(draw: random.Random) -> Slowness:
    """One input of five takes three times as long."""
    return lambda _: 3.0 if draw.random() < 0.2 else 1.0


def correlated(draw: random.Random) -> Slowness:
    """Noise of 30 % with a correlation of 0.9 between successive calls."""
    level = draw.gauss(0.0, 0.3)

    def factor(_: float) -> float:
        nonlocal level
        level = 0.9 * level + math.sqrt(1 - 0.9**2) * draw.gauss(0.0, 0.3)
        return math.exp(level)

    return factor


def phases(draw: random.Random) -> Slowness:
    """Calls take 2.2 times as long in one second of four."""
    begin = draw.uniform(0.0, 4.0)
    return lambda now: 2.2 if (now + begin) % 4.0 < 1.0 else 1.0


def rare(draw: random.Random) -> Slowness:
    """One call of a hundred takes twelve times as long."""
    return lambda _: 12.0 if draw.random() < 0.01 else 1.0


SERVICES: Final = {each.__name__: each for each in (constant, noisy, bimodal, correlated, phases, rare)}


class Kind(NamedTuple):
    """A server: the measured batch sizes, and the seconds that a batch waits to fill."""

    batch_sizes: tuple[int, ...]
    max_wait: float

    def seconds(self, size: int) -> float:
        """Return the usual service time of a batch."""
        return 0.006 + 0.004 * size


SERVERS: Final = {"single": Kind((1,), 0.0), "batching": Kind((1, 2, 4, 8), 0.005)}


def back_to_back(kind: Kind, size: int, slowness: Slowness, seconds: float, most: int = 10**9) -> list[float]:
    """Return the times of calls without a rest in between."""
    calls: list[float] = []
    now = 0.0
    while now < seconds and len(calls) < most:
        calls.append(kind.seconds(size) * slowness(now))
        now += calls[-1]
    return calls


def true_latencies(
    kind: Kind, slowness: Slowness, rate: float, requests: int, draw: random.Random
) -> list[float]:
    """Serve random requests; return the latency of each.

    A batch starts when the server is free and the batch is full or its first request has waited long enough.
    """
    largest = kind.batch_sizes[-1]
    moments, now = [], 0.0
    for _ in range(requests):
        now += draw.expovariate(rate)
        moments.append(now)
    latencies: list[float] = []
    free, served = 0.0, 0
    while served < requests:
        filled = moments[served + largest - 1] if served + largest <= requests else math.inf
        start = max(free, min(filled, moments[served] + kind.max_wait))
        size = 1
        while size < largest and served + size < requests and moments[served + size] <= start:
            size += 1
        free = start + kind.seconds(size) * slowness(start)
        latencies += [free - moment for moment in moments[served : served + size]]
        served += size
    return latencies


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def measured(
    kind: Kind, service: Callable[[random.Random], Slowness], seconds: float, calls: int, draw: random.Random
) -> ServiceTimes:
    """Return what a measurement stores of so many seconds or calls of each batch size."""
    taken = {
        size: tuple(back_to_back(kind, size, service(draw), seconds, calls)) for size in kind.batch_sizes
    }
    latencies = [latency_of(each) for each in taken.values()]
    return ServiceTimes(
        batch_sizes=kind.batch_sizes,
        percentiles=tuple(latency.percentiles for latency in latencies),
        means=tuple(latency.mean for latency in latencies),
        calls=tuple(call_order(Samples(each, len(each), {}), None).seconds for each in taken.values()),
    )


class Trial(NamedTuple):
    """How long the true server is simulated, and what of it is measured."""

    requests: int = REQUESTS
    seconds: float = SAMPLED_SECONDS
    calls: int = 10**9
    samples: int = 1


def ratios(name: str, server: str, load: float, seed: int, trial: Trial) -> list[float]:
    """Return predicted p95 over true p95 for several measurements of one service."""
    kind, service = SERVERS[server], SERVICES[name]
    draw = random.Random(f"{seed} {name}")  # noqa: S311 - nothing is secret here
    largest = kind.batch_sizes[-1]
    usual = fmean(back_to_back(kind, largest, service(draw), CAPACITY_SECONDS))
    rate = load * largest / usual
    true = p95(true_latencies(kind, service(draw), rate, trial.requests, draw))
    found = []
    for number in range(trial.samples):
        sized = Sizing(
            service=measured(kind, service, trial.seconds, trial.calls, draw),
            limit=None,
            max_batch=largest,
            max_wait=kind.max_wait,
            requests=PLAN_REQUESTS,
            seed=number,
        )
        found.append(sized.load(Demand(rate=rate), 1).p95 / true)
    return found


def main() -> None:
    """Print a table."""
    trial = Trial(samples=int(sys.argv[1]) if sys.argv[1:] else 5)
    print(f"{'':22}" + "".join(f"{load:>20.0%}" for load in LOADS))
    for server in SERVERS:
        for name in SERVICES:
            cells = []
            for load in LOADS:
                found = ratios(name, server, load, 1, trial)
                cells.append(f"{median(found):.2f} ({min(found):.2f}-{max(found):.2f})")
            print(f"{server:10}{name:12}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
