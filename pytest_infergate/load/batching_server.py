"""A batching server in the calling thread: it serves what a source of requests sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """A request that has arrived."""

    number: int
    """By which its source knows it."""
    item: int
    """Place of its item in the input of the test."""
    arrived: int
    """Nanoseconds."""


class Traffic(Protocol):
    """Sends requests, and takes answers."""

    def receive(self, seconds: float) -> Sequence[Request] | None:
        """Return the requests that have arrived, after waiting up to `seconds` seconds for the first one.

        ``None`` if no more will come.
        """

    def answer(self, requests: Sequence[Request]) -> None:
        """Take the answers to requests."""

    def own_percentile(self, percentile: int) -> float | None:
        """Return a percentile of latency in seconds as the source has seen it; ``None`` if it is unknown."""


class Batch(NamedTuple):
    """Requests that were served in one call."""

    requests: tuple[Request, ...]
    waiting: int
    """Number of requests that waited when it was taken, its own included."""
    started: int
    """Nanoseconds."""
    finished: int


class Served(NamedTuple):
    """What a server did."""

    batches: list[Batch]
    unanswered: tuple[Request, ...]
    """Requests that arrived and were still waiting at the end."""
    ended: int
    """Nanoseconds, when the server stopped."""


class Limits(NamedTuple):
    """How a server forms batches, and when it stops."""

    max_batch: int
    seconds: float
    """From the first request on; a server that is still behind then stops."""
    patience: float = 30.0
    """Seconds to wait for the first request."""


def serve_requests(
    traffic: Traffic,
    call: Callable[[Sequence[int]], object],
    clock: Callable[[], int],
    limits: Limits,
    batches: list[Batch],
) -> Served:
    """Serve requests until no more come or the time is over.

    A batch is taken as soon as the last one is done: all waiting requests, up to `max_batch`. It is appended
    to `batches`, which the caller keeps if an exception ends the server. `call` is given the items of a batch
    and returns when the answers are complete. Exceptions of the call are passed on.
    """
    waiting: deque[Request] = deque()
    coming = True
    end = clock() + round(1e9 * limits.patience)
    begun = False
    while coming or waiting:
        left = (end - clock()) / 1e9
        if left <= 0:
            waiting.extend((traffic.receive(0.0) if coming else None) or ())  # during the last call
            break
        if coming:
            arrived = traffic.receive(0.0 if waiting else left)
            coming = arrived is not None
            waiting.extend(arrived or ())
        if not waiting:
            continue
        if not begun:
            begun, end = True, waiting[0].arrived + round(1e9 * limits.seconds)
        depth = len(waiting)
        taken = tuple(waiting.popleft() for _ in range(min(depth, limits.max_batch)))
        started = clock()
        call([request.item for request in taken])
        batches.append(Batch(taken, depth, started, clock()))
        traffic.answer(taken)
    return Served(batches, tuple(waiting), clock())
