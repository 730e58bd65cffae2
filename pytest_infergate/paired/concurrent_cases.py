"""Several workers at once as pytest sees them: measured before the first test, joined to its case."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_infergate.core.domain.measurement import ConcurrentRun
from pytest_infergate.core.domain.model import Note
from pytest_infergate.instruments.environment import host_hardware
from pytest_infergate.paired.base_setup import BaseSetup
from pytest_infergate.paired.concurrency import concurrent_runs
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.trial import TrialSpec
from pytest_infergate.paired.worker_process import WorkerProcess, temporary_folder

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun


def measure_concurrently(
    run: InferenceRun,
    config: pytest.Config,
    entries: Sequence[SelectedCase],
    tell: Callable[[int, int], None],
) -> dict[str, tuple[ConcurrentRun | Note, ...]]:
    """Measure every case with each number of workers that was asked for, by node id.

    `tell` hears the number of workers and of cases that are done. Raises `ConfigurationError` where workers
    cannot be started.
    """
    cases = [TrialSpec(entry.nodeid) for entry in entries]
    cores = host_hardware().cores
    found: dict[str, tuple[ConcurrentRun | Note, ...]] = {}
    place = temporary_folder()
    try:
        with BaseSetup(run, config).ready([], place) as plans:
            for count in run.settings.workers:
                # Each has its share of the cores, unless the user, or the case, says otherwise.
                variables = {"OMP_NUM_THREADS": str(max(1, cores // count))}
                plan = plans["candidate"]._replace(side="worker", variables=variables)
                each = concurrent_runs(partial(WorkerProcess, plan), cases, count, partial(tell, count))
                found = {nodeid: (*found.get(nodeid, ()), runs) for nodeid, runs in each.items()}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found
