"""Several processes with the same model at once: what a call takes then, and how many items come out.

A machine that serves with several workers is not so many machines: they share cores, caches and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.measurement import ConcurrentRun
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.paired.launches import end_workers
from pytest_infergate.paired.trial import PairedWorker, TrialSpec
from pytest_infergate.paired.worker_process import WorkerLostError

SECONDS: Final = 2.0
"""For which all of them call their model back to back."""


def concurrent_runs(
    start: Callable[[int], PairedWorker],
    cases: Sequence[TrialSpec],
    workers: int,
    tell: Callable[[int], None] = lambda _: None,
) -> dict[str, ConcurrentRun | Note]:
    """Measure every case with so many workers at once, by node id; `tell` hears how many are done.

    A case that does not come to its end in every worker has a note in place of figures. `start` gets the
    seed of a worker.
    """
    found: dict[str, ConcurrentRun | Note] = {}
    left = list(cases)
    while left:
        with _together(start, workers) as runs:
            for index, case in enumerate(left):
                after = left[index + 1].nodeid if left[index + 1 :] else None
                try:
                    found[case.nodeid] = _case(runs, case, after)
                except WorkerLostError as error:
                    found[case.nodeid] = Note(code=NoteCode.CONCURRENT_RUN_FAILED, text=str(error))
                    break
                finally:
                    tell(len(found))
        left = [case for case in left if case.nodeid not in found]
    return found


@contextmanager
def _together(start: Callable[[int], PairedWorker], workers: int) -> Iterator[list[PairedWorker]]:
    """Processes that have collected the tests; all gone on exit."""
    runs: list[PairedWorker] = []
    try:
        runs.extend(map(start, range(workers)))
        for worker in runs:
            worker.handshake()
        yield runs
    finally:
        end_workers(runs)


def _case(runs: Sequence[PairedWorker], case: TrialSpec, after: str | None) -> ConcurrentRun | Note:
    for worker in runs:
        worker.send({"do": "case", "nodeid": case.nodeid, "next": after})
    inside = [worker for worker in runs if _ready(worker)]
    told: list[dict[str, Any]] = []
    for message in ({"do": "warm", "calls": None}, {"do": "together", "seconds": SECONDS}):
        if len(inside) < len(runs):
            break
        told = _asked(runs, message)
        inside = [worker for worker, answer in zip(runs, told, strict=True) if answer["is"] == message["do"]]
    for worker in inside:
        worker.send({"do": "finish"})
        _ended(worker, worker.receive())
    if len(inside) < len(runs):
        return Note(
            code=NoteCode.CONCURRENT_RUN_FAILED,
            text=f"the test did not reach its end in {len(runs)} workers at once",
        )
    return ConcurrentRun(
        workers=len(runs),
        throughput=sum(one["calls"] / one["seconds"] for one in told) * told[0]["batch_size"],
        calls=sum(one["calls"] for one in told),
        mean=stats.mean([one["mean"] for one in told]),
        percentiles=tuple(map(stats.mean, zip(*(one["percentiles"] for one in told), strict=True))),
        threads=told[0]["threads"],
    )


def _asked(runs: Sequence[PairedWorker], message: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell all, then hear all; a worker whose model failed is followed to the end of its test."""
    for worker in runs:
        worker.send(message)
    told = [worker.receive() for worker in runs]
    for worker, answer in zip(runs, told, strict=True):
        if answer["is"] != message["do"]:
            _ended(worker, answer)
    return told


def _ready(worker: PairedWorker) -> bool:
    """Wait until a worker stands inside `infer`; false where its test ended without."""
    while (message := worker.receive())["is"] != "ready":
        if message["is"] == "done":
            return False
    return True


def _ended(worker: PairedWorker, message: dict[str, Any]) -> None:
    """Hear the rest of what a worker says of a test."""
    while message["is"] != "done":
        message = worker.receive()
