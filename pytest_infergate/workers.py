"""Several workers at once as pytest sees them: measured before the first test, joined to its case."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_infergate.against import Entry, Opponent
from pytest_infergate.core.model import Crew, Note
from pytest_infergate.measure.environment import host_hardware
from pytest_infergate.paired.crew import crews
from pytest_infergate.paired.session import Wanted
from pytest_infergate.paired.worker import Worker, holder

if TYPE_CHECKING:
    from pytest_infergate.session import InferenceRun


def measured(
    run: InferenceRun,
    config: pytest.Config,
    entries: Sequence[Entry],
    tell: Callable[[int, int], None],
) -> dict[str, tuple[Crew | Note, ...]]:
    """Measure every case with each number of workers that was asked for, by node id.

    `tell` hears the number of workers and of cases that are done. Raises `ConfigurationError` where workers
    cannot be started.
    """
    cases = [Wanted(entry.nodeid) for entry in entries]
    cores = host_hardware().cores
    found: dict[str, tuple[Crew | Note, ...]] = {}
    place = holder()
    try:
        with Opponent(run, config).ready([], place) as plans:
            for count in run.settings.workers:
                # Each has its share of the cores, unless the user, or the case, says otherwise.
                variables = {"OMP_NUM_THREADS": str(max(1, cores // count))}
                plan = plans["candidate"]._replace(side="worker", variables=variables)
                each = crews(partial(Worker, plan), cases, count, partial(tell, count))
                found = {nodeid: (*found.get(nodeid, ()), crew) for nodeid, crew in each.items()}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found
