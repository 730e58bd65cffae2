"""The examination of a machine: small models in several launches, and what happened meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from statistics import median
from typing import Final, NamedTuple

from pytest_infergate import __version__
from pytest_infergate.core.domain.machine_values import (
    DOCTOR_VERSION,
    Diagnosis,
    Examination,
    MachineReading,
    ModelLaunches,
)
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.gate.decidable import LAUNCHES_AT_MOST, decidable
from pytest_infergate.core.gate.machine_findings import machine_findings
from pytest_infergate.doctor.trial_project import MODELS, PairedTrial, TrialError, Trials
from pytest_infergate.instruments.device import CpuTimes

SIMULATED_RUNS: Final = 400
"""Paired runs that are simulated at each size of a slowdown: 9 of 10 are then known to 1.5 %."""


class Length(NamedTuple):
    """How long a machine is examined."""

    alone: int
    """Launches of the models on their own."""
    paired_seconds: float
    """After which no paired launch begins."""
    expected: float
    """Seconds of all of it on an idle machine with two cores."""


FULL: Final = Length(3, 27.0, 60.0)
QUICK: Final = Length(2, 8.0, 30.0)


class Instruments(NamedTuple):
    """What reads the machine while it is examined."""

    cpu_times: Callable[[], CpuTimes | None]
    throttled_seconds: Callable[[], float | None]
    clock: Callable[[], float] = time.monotonic


def examine(
    trials: Trials, instruments: Instruments, length: Length, report: Callable[[str], None]
) -> Examination:
    """Measure the small models; what fails is missing in the result, with the reason."""
    begin, before = instruments.clock(), instruments.cpu_times()
    throttled = instruments.throttled_seconds()
    missing: list[str] = []
    launches: list[dict[str, Measurement]] = []
    paired = PairedTrial({}, 0.0, 0.0)
    try:
        for number in range(1, length.alone + 1):
            report(f"launch {number} of {length.alone}")
            launches.append(trials.alone())
    except TrialError as error:
        missing.append(f"stored times and counters: {error}")
    try:
        report("paired launches of identical code")
        paired = trials.paired(length.paired_seconds)
    except TrialError as error:
        missing.append(f"paired runs: {error}")
    else:
        if max(map(len, paired.differences.values()), default=0) < 2:  # noqa: PLR2004 - a spread needs two
            missing.append("paired runs: there was time for one launch, which has no spread")
    after, stopped = instruments.cpu_times(), instruments.throttled_seconds()
    shares = [one.contention for launch in launches for one in launch.values() if one.contention is not None]
    return Examination(
        models=tuple(
            ModelLaunches(
                name=name,
                measurements=tuple(launch[name] for launch in launches if name in launch),
                differences=paired.differences.get(name, ()),
            )
            for name in MODELS
            if launches or paired.differences
        ),
        paired_overhead=paired.overhead if paired.differences else None,
        paired_case=paired.case if paired.differences else None,
        contention=median(shares) if shares else None,
        stolen=_stolen(before, after),
        throttled_seconds=None if throttled is None or stopped is None else max(0.0, stopped - throttled),
        seconds=instruments.clock() - begin,
        missing=tuple(missing),
    )


def _stolen(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Return the share of the time of the usable cores that the hypervisor took."""
    if before is None or after is None or after.wall <= before.wall:
        return None
    return max(0.0, (after.stolen - before.stolen) / (after.wall - before.wall) / max(1, after.cores))


def diagnose(reading: MachineReading, found: Examination) -> Diagnosis:
    """Return what the machine can decide and why not more, from what was read and measured."""
    # The same seed each time: two examinations differ by what they measured.
    chance = random.Random(0)  # noqa: S311 - it simulates, and keeps no secret
    draws = [[chance.gauss(0, 1) for _ in range(LAUNCHES_AT_MOST)] for _ in range(SIMULATED_RUNS)]
    return Diagnosis(
        schema_version=DOCTOR_VERSION,
        tool_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        reading=reading,
        models=tuple(model.name for model in found.models),
        launches=max((len(model.measurements) for model in found.models), default=0),
        paired_launches=max((len(model.differences) for model in found.models), default=0),
        seconds=found.seconds,
        decidable=decidable(found, draws, virtual=reading.virtual is not False),
        findings=machine_findings(reading, found),
        missing=found.missing,
    )
