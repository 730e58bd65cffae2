"""Compare a real batching server under random load with the simulation of `core/advice/queueing.py`.

    python benchmarks/load_test.py measure embedder|video|voice SECONDS SESSIONS
    python benchmarks/load_test.py score

In the server, one thread runs a model of the examples on batches from a queue. Another thread sends requests
at random moments, whether or not the earlier ones are answered. A session measures the service times by batch
size, in their order, and calls with rests in between. It then applies loads of 30, 50 and 70 % of what full
batches would serve, for SECONDS each. Every arrival and every batch is appended to
benchmarks/results/load_test.jsonl. Two results are scored:

- the replay applies the rules of the simulation to the arrivals and service times of the test itself; its p95
  should be within 5 %
- the prediction uses the service times from before the test and newly drawn arrivals. It is printed with the
  interval in which another test of that length would measure the percentile, from a bootstrap over blocks of
  requests, and with p95 for calls as slow as another launch may make them. Tests before December 2026 have no
  order of calls, so that their service times are drawn independently
"""

from __future__ import annotations

import gc
import json
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pytest_infergate.core.advice.demand import arrivals
from pytest_infergate.core.advice.queueing import Server, replay_queue, simulate
from pytest_infergate.core.advice.service_times import PERCENTILES, ServiceTimes
from pytest_infergate.core.domain.advice_values import Demand, QueueLoad
from pytest_infergate.core.domain.launch_spread import launch_band
from pytest_infergate.instruments.sampler import Samples
from pytest_infergate.measure.passes import PACED_LOAD, PACED_SECONDS, PACED_TURNS, call_order

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "load_test.jsonl"
sys.path.insert(0, str(HERE.parent / "examples"))

LOADS = (0.3, 0.5, 0.7)
"""Load as a share of what full batches would serve."""
POOL = 256
"""Number of different requests, which are sent repeatedly."""
DRAWN = 100_000
"""Number of requests in a prediction."""
RESAMPLES = 400
BLOCKS = 40
"""Blocks of a test for the bootstrap; neighbours share one, because their latencies are related."""
QUANTILES = (0.5, 0.95, 0.99)
SWITCH = 0.0002
"""Switch interval of Python threads in seconds; the default of 5 ms is longer than a batch."""

clock = time.perf_counter


class Model(NamedTuple):
    """A model, its requests, and how a server batches them."""

    serve: Callable[[Sequence[Tensor]], object]
    requests: list[Tensor]
    batch_sizes: tuple[int, ...]
    """Sizes that are measured before the test; the server uses the largest."""
    max_wait: float
    """In seconds."""


def embedder() -> Model:
    """Return the embedder with short queries."""
    from infergate_examples.embedder import QUERY, load_embedder, random_tokens

    model = load_embedder()

    @torch.inference_mode()
    def serve(batch: Sequence[Tensor]) -> object:
        token_ids = torch.stack(tuple(batch))
        return model(token_ids, torch.ones_like(token_ids))

    return Model(serve, list(random_tokens(POOL, QUERY)[0]), (1, 2, 4, 8), max_wait=0.010)


def voice() -> Model:
    """Return the voice activity detector with single frames."""
    from infergate_examples.voice import frames, load_voice_activity

    model = load_voice_activity()

    @torch.inference_mode()
    def serve(batch: Sequence[Tensor]) -> object:
        return model(torch.stack(tuple(batch)))

    return Model(serve, list(frames(POOL)), (1, 4, 16), max_wait=0.002)


def video() -> Model:
    """Return the classifier of frames of video."""
    from infergate_examples.video import frames, load_frame_classifier

    model = load_frame_classifier()

    @torch.inference_mode()
    def serve(batch: Sequence[Tensor]) -> object:
        return model(torch.stack(tuple(batch)))

    return Model(serve, list(frames(POOL)), (1, 2, 4), max_wait=0.020)


MODELS = {"embedder": embedder, "video": video, "voice": voice}


class BatchingServer:
    """One thread that takes batches from a queue: a full one, or the waiting requests after `max_wait`."""

    def __init__(self, serve: Callable[[Sequence[Tensor]], object], max_batch: int, max_wait: float) -> None:
        self.serve = serve
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.arrivals: list[float] = []
        self.batches: list[tuple[int, float, float]] = []
        """Size, start and end of each batch."""
        self.waiting: deque[tuple[float, Tensor]] = deque()
        self.changed = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self.work)

    def __enter__(self) -> BatchingServer:  # noqa: PYI034 - Self is newer than Python 3.10
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join()

    def submit(self, request: Tensor) -> None:
        """Add a request to the queue."""
        with self.changed:
            now = clock()
            self.arrivals.append(now)
            self.waiting.append((now, request))
            if len(self.waiting) in (1, self.max_batch):  # a batch starts to fill, or is full
                self.changed.notify()

    def take(self) -> list[Tensor]:
        """Wait for a batch, and return it; an empty batch means that no more requests will come."""
        with self.changed:
            while self.waiting or not self.closed:
                left = self.waiting[0][0] + self.max_wait - clock() if self.waiting else None
                if len(self.waiting) >= self.max_batch or (left is not None and left <= 0):
                    size = min(len(self.waiting), self.max_batch)
                    return [self.waiting.popleft()[1] for _ in range(size)]
                self.changed.wait(left)
        return []

    def work(self) -> None:
        """Serve batches until no more requests come."""
        while batch := self.take():
            start = clock()
            self.serve(batch)
            self.batches.append((len(batch), start, clock()))


def send(server: BatchingServer, moments: Sequence[float], requests: Sequence[Tensor]) -> float:
    """Submit requests at their moments, regardless of the queue; return the 99th percentile of the delay."""
    begin = clock()
    for number, moment in enumerate(moments):
        ahead = begin + moment - clock()
        if ahead > 0:
            time.sleep(ahead)
        server.submit(requests[number % len(requests)])
    return float(np.percentile(np.array(server.arrivals) - begin - np.array(moments), 99))


def timed(model: Model, size: int, rest: float = 0.0) -> float:
    """Return the seconds of one call after a rest."""
    if rest:
        time.sleep(rest)
    begin = clock()
    model.serve(model.requests[:size])
    return clock() - begin


def service_times(model: Model, seconds: float) -> tuple[list[list[float]], float]:
    """Return calls by batch size, each size for a second in turn, and the ratio of paced calls to these.

    A fifth of the time is warm-up.
    """
    times: list[list[float]] = []
    for share in (0.2, 0.8):
        times = [[] for _ in model.batch_sizes]
        until = clock() + share * seconds
        while clock() < until:
            for taken, size in zip(times, model.batch_sizes, strict=True):
                end = clock() + 1.0
                while clock() < end:
                    taken.append(timed(model, size))
    ratios = []
    for size, taken in zip(model.batch_sizes, times, strict=True):
        usual = float(np.median(taken))
        paced, successive = [], []
        for _ in range(PACED_TURNS):
            count = max(1, round(PACED_SECONDS / PACED_TURNS / usual / (1 / PACED_LOAD + 1)))
            paced += [timed(model, size, usual * (1 / PACED_LOAD - 1)) for _ in range(count)]
            successive += [timed(model, size) for _ in range(count)]
        ratios.append(float(np.median(paced) / np.median(successive)))
    return times, max(ratios)


def session(name: str, seconds: float, seed: int) -> list[dict[str, Any]]:
    """Measure service times and run the load tests; return one record per test."""
    model = MODELS[name]()
    max_batch = model.batch_sizes[-1]
    calls, paced = service_times(model, seconds)
    means = [float(np.mean(taken)) for taken in calls]
    records = []
    for load in LOADS:
        rate = load * max_batch / means[-1]
        moments = arrivals(Demand(rate=rate), max(1, round(rate * seconds)), seed).tolist()
        gc.collect()
        gc.disable()
        try:
            with BatchingServer(model.serve, max_batch, model.max_wait) as server:
                late = send(server, moments, model.requests)
        finally:
            gc.enable()
        begin = server.arrivals[0]
        records.append(
            {
                "when": round(time.time()),
                "model": name,
                "load": load,
                "rate": rate,
                "seed": seed,
                "max_batch": max_batch,
                "max_wait": model.max_wait,
                "threads": torch.get_num_threads(),
                "late_p99_us": round(1e6 * late),
                "batch_sizes": model.batch_sizes,
                "percentiles": [
                    [float(f"{value:.5g}") for value in np.percentile(taken, range(PERCENTILES))]
                    for taken in calls
                ],
                "calls": [call_order(Samples(tuple(taken), len(taken), {}), None).seconds for taken in calls],
                "paced": float(f"{paced:.4g}"),
                "means": [float(f"{value:.5g}") for value in means],
                "arrivals_us": [round(1e6 * (moment - begin)) for moment in server.arrivals],
                "batches_us": [
                    [size, round(1e6 * (start - begin)), round(1e6 * (finish - start))]
                    for size, start, finish in server.batches
                ],
            }
        )
    return records


def measure(name: str, seconds: float, sessions: int) -> None:
    """Append sessions to the results file."""
    torch.set_num_threads(1)  # the other core sends the requests
    sys.setswitchinterval(SWITCH)
    for index in range(sessions):
        records = session(name, seconds, seed=round(time.time()))
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        print(f"session {index + 1} of {sessions}", flush=True)
        score(records)


def as_recorded(batches: Sequence[Sequence[int]], service: ServiceTimes) -> Callable[[int, int], float]:
    """Return service times as recorded: those of the batch that the first request was in, scaled to the size.

    Times are assigned by request and not by number of the batch, because one batch more or less would move a
    slow moment of the machine to other requests.
    """
    of_request = [batch for batch in batches for _ in range(batch[0])]
    served = 0

    def seconds(_number: int, size: int) -> float:
        nonlocal served
        then, _, took = of_request[served]
        served += size
        return 1e-6 * took * service.mean(size) / service.mean(then)

    return seconds


def bootstrap(latencies: np.ndarray[Any, Any], seed: int = 0) -> np.ndarray[Any, Any]:
    """Return 95 % intervals of the quantiles, as (2, quantiles), by resampling blocks of requests."""
    generator = np.random.default_rng(seed)
    length = max(1, len(latencies) // BLOCKS)
    blocks = -(-len(latencies) // length)
    drawn = []
    for _ in range(RESAMPLES):
        starts = generator.integers(0, len(latencies) - length + 1, blocks)
        places = np.add.outer(starts, np.arange(length)).ravel()[: len(latencies)]
        drawn.append(np.quantile(latencies[places], QUANTILES))
    return np.percentile(drawn, (2.5, 97.5), axis=0)


def measured(record: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the latency of each request of a test, in seconds."""
    sizes, starts, took = np.array(record["batches_us"]).T
    return 1e-6 * (np.repeat(starts + took, sizes) - np.array(record["arrivals_us"]))


def figures(load: QueueLoad) -> np.ndarray[Any, Any]:
    return np.array((load.p50, load.p95, load.p99))


def score(records: Iterable[dict[str, Any]]) -> None:
    """Print the replay and the prediction of each test next to its measurement, and how many were right."""
    print(
        f"{'':20}{'requests':>9}{'batch':>7} |{'measured, ms':^23}|{'replay':^19}|{'prediction':^19}|"
        f" {'interval of p95, ms':>20}\n{'':36} |{'p50':>7}{'p95':>8}{'p99':>8}|"
        + 2
        * f"{'p50':>6}{'p95':>6}{'p99':>6} |"
    )
    replayed, predicted, within = [], [], []
    for record in records:
        server = Server(max_batch=record["max_batch"], max_wait=record["max_wait"])
        moments = 1e-6 * np.array(record["arrivals_us"])
        service = ServiceTimes(
            batch_sizes=tuple(record["batch_sizes"]),
            percentiles=tuple(map(tuple, record["percentiles"])),
            means=tuple(record["means"]),
            calls=tuple(map(tuple, record.get("calls", ()))),
        )
        latencies = measured(record)
        real = np.quantile(latencies, QUANTILES)
        again = figures(replay_queue(moments, as_recorded(record["batches_us"], service), server)) / real
        drawn = arrivals(Demand(rate=record["rate"]), DRAWN, record["seed"] + 1)
        expected = figures(simulate(drawn, service, server, seed=record["seed"]))
        slowdown = math.exp(launch_band((), virtual=True)) * max(1.0, record.get("paced", 1.0))
        slow = simulate(drawn, service, server, seed=record["seed"], slowdown=slowdown).p95 / real[1]
        low, high = bootstrap(latencies)
        replayed.append(again[1])
        predicted.append(expected[1] / real[1])
        within.append(low[1] <= expected[1] <= high[1])
        print(
            f"{record['model']:12}{record['load']:>7.0%} {len(latencies):>9}"
            f"{len(latencies) / len(record['batches_us']):>7.2f} |"
            f"{1e3 * real[0]:>7.2f}{1e3 * real[1]:>8.2f}{1e3 * real[2]:>8.2f}|"
            + "".join(f"{ratio:>6.2f}" for ratio in again)
            + " |"
            + "".join(f"{ratio:>6.2f}" for ratio in expected / real)
            + f" | {1e3 * low[1]:>8.2f} to {1e3 * high[1]:.2f}, paced {record.get('paced', '?')}, "
            f"slow {slow:.2f}, late {record['late_p99_us']} µs"
        )
    if replayed:
        right = sum(abs(ratio - 1) <= 0.05 for ratio in replayed)
        print(f"replay: p95 within 5 % in {right} of {len(replayed)} tests")
        print(f"prediction: p95 within the interval in {sum(within)} of {len(within)} tests,", end=" ")
        print(f"ratio {min(predicted):.2f} to {max(predicted):.2f}, median {np.median(predicted):.2f}")


def main() -> None:
    """Measure, or score."""
    match sys.argv[1:]:
        case ["measure", ("embedder" | "video" | "voice") as name, seconds, sessions]:
            measure(name, float(seconds), int(sessions))
        case ["score"]:
            score(json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines())
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
