"""Several processes with the same model at once: the time of a call then, and how many items come out.

A machine with several workers is not several machines: its workers share cores, caches and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.measurement import ConcurrentRun
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.environment import host_hardware
from pytest_infergate.paired.base_setup import BaseSetup
from pytest_infergate.paired.protocol import (
    CallConcurrently,
    CalledConcurrently,
    Command,
    Done,
    Event,
    Finish,
    Ready,
    RunCase,
    RunWarmUp,
    WarmedUp,
)
from pytest_infergate.paired.run_folder import run_folder
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.worker_handle import Answer, PairedWorker, WorkerLostError, end_workers
from pytest_infergate.paired.worker_process import WorkerProcess

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun

SECONDS: Final = 2.0
"""For which all workers call their model back to back."""
START_SECONDS: Final = 8.0
"""Usual time until workers have collected their tests, for the forecast only."""
CASE_SECONDS: Final = 1.5 * SECONDS
"""Usual time of one case with its warm-up, for the forecast only."""


def expected_seconds(cases: int, numbers: int) -> float:
    """Return how long it usually takes to measure cases with so many numbers of workers."""
    return numbers * (START_SECONDS + cases * CASE_SECONDS)


def measure_concurrently(
    run: InferenceRun,
    config: pytest.Config,
    cases: Sequence[SelectedCase],
    report: Callable[[int, int], None],
) -> dict[str, tuple[ConcurrentRun | Note, ...]]:
    """Measure every case with each number of workers of the settings, by node id.

    `report` is called with the number of workers and that of the cases that are measured. Raises
    `ConfigurationError` if a worker cannot be started.
    """
    nodeids = [case.nodeid for case in cases]
    cores = host_hardware().cores
    found: dict[str, tuple[ConcurrentRun | Note, ...]] = {}
    with run_folder() as folder, BaseSetup(run, config).ready([], folder) as specs:
        for workers in run.settings.workers:
            # Each worker has its share of the cores, unless the user or the case sets the threads.
            variables = {"OMP_NUM_THREADS": str(max(1, cores // workers))}
            spec = specs["candidate"]._replace(role="worker", variables=variables)
            start = partial(WorkerProcess, spec)
            for nodeid, one in concurrent_runs(start, nodeids, workers, partial(report, workers)).items():
                found[nodeid] = (*found.get(nodeid, ()), one)
    return found


def concurrent_runs(
    start: Callable[[int], PairedWorker],
    nodeids: Sequence[str],
    workers: int,
    report: Callable[[int], None] = lambda _: None,
) -> dict[str, ConcurrentRun | Note]:
    """Measure every case with one number of workers, by node id.

    A case that does not reach its end in every worker has a note in place of figures. `start` is given the
    seed of a worker, `report` the number of cases that are measured.
    """
    found: dict[str, ConcurrentRun | Note] = {}
    left = list(nodeids)
    while left:
        with _started(start, workers) as processes:
            for nodeid, next_nodeid in zip(left, [*left[1:], None], strict=True):
                try:
                    found[nodeid] = _measured_at_once(processes, RunCase(nodeid, next_nodeid))
                except WorkerLostError as error:  # noqa: PERF203 - it ends the loop
                    found[nodeid] = Note(code=NoteCode.CONCURRENT_RUN_FAILED, text=str(error))
                    break  # the other cases go on in new processes
                finally:
                    report(len(found))
        left = [nodeid for nodeid in left if nodeid not in found]
    return found


@contextmanager
def _started(start: Callable[[int], PairedWorker], workers: int) -> Iterator[list[PairedWorker]]:
    """Processes that have collected their tests; all ended on exit."""
    processes: list[PairedWorker] = []
    try:
        processes.extend(map(start, range(workers)))
        for worker in processes:
            worker.handshake()
        yield processes
    finally:
        end_workers(processes)


def _measured_at_once(workers: Sequence[PairedWorker], case: RunCase) -> ConcurrentRun | Note:
    for worker in workers:
        worker.send(case)
    inside = [worker for worker in workers if isinstance(_stop(worker, worker.receive()), Ready)]
    answers: list[CalledConcurrently] = []
    # One worker fewer would leave the others more of the machine: they are timed together or not at all.
    if len(inside) == len(workers):
        inside = list(_ask_all(inside, RunWarmUp(None), WarmedUp))
    if len(inside) == len(workers):
        called = _ask_all(inside, CallConcurrently(SECONDS), CalledConcurrently)
        inside, answers = list(called), list(called.values())
    for worker in inside:
        worker.send(Finish())
        _stop(worker, worker.receive())
    if len(answers) < len(workers):
        text = f"the test did not reach its end in {len(workers)} workers at once"
        return Note(code=NoteCode.CONCURRENT_RUN_FAILED, text=text)
    return ConcurrentRun(
        workers=len(workers),
        # The workers begin and end at slightly different times, so that their own rates are added up.
        throughput=sum(one.calls / one.seconds for one in answers) * answers[0].batch_size,
        calls=sum(one.calls for one in answers),
        mean=stats.mean([one.mean for one in answers]),
        percentiles=tuple(map(stats.mean, zip(*(one.percentiles for one in answers), strict=True))),
        threads=answers[0].threads,
    )


def _ask_all(
    workers: Sequence[PairedWorker], command: Command, answer: type[Answer]
) -> dict[PairedWorker, Answer]:
    """Send a command to all, then wait for all answers; a worker whose model fails ends its test instead."""
    for worker in workers:
        worker.send(command)
    events = [worker.receive() for worker in workers]
    for worker, event in zip(workers, events, strict=True):
        if not isinstance(event, answer):
            _stop(worker, event)
    return {worker: event for worker, event in zip(workers, events, strict=True) if isinstance(event, answer)}


def _stop(worker: PairedWorker, event: Event) -> Event:
    """Follow a test, from an event on, until it is inside of `infer` or has ended; the last event."""
    while not isinstance(event, (Ready, Done)):
        event = worker.receive()
    return event
