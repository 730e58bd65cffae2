"""A paired run: the base is prepared, both sides are launched, and every case is judged."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.outcome import (
    Against,
    CaseResult,
    CaseVerdict,
)
from pytest_infergate.core.gate import decide, paired
from pytest_infergate.errors import InfergateError
from pytest_infergate.paired.launches import LaunchesResult, LaunchTerms, PairedLaunches, Progress
from pytest_infergate.paired.trial import TrialSpec
from pytest_infergate.paired.worker_process import WorkerProcess, temporary_folder
from pytest_infergate.paired.worktree import accepted_trailers
from pytest_infergate.report import wording
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.paired_data import PairedCaseData, PairedData, encode_paired_data

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun
from pytest_infergate.paired.base_setup import BaseSetup, modules, overlay_files
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.verdicts import Judge

PAIRED_MAX_TIME = 180.0
"""Seconds that the turns of one case may take, over all launches."""
TYPICAL_LAUNCHES = 5
TYPICAL_SECONDS = 2.0
"""Of one case in one launch."""
TYPICAL_OVERHEAD = 8.0
"""Of one launch: two processes, their imports."""


class PairedOutcomes(NamedTuple):
    """What a paired run decided, by node id, and what there is to replay."""

    results: Mapping[str, CaseResult]
    verdicts: Mapping[str, CaseVerdict]
    reports: Mapping[str, Sequence[dict[str, Any]]]
    against: Against
    on_base: frozenset[Case]
    """Cases that the base has as well."""
    interrupted: bool
    written: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Why the turns could not be written."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, where nobody else handles them."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def forecast(cases: int, base_setup: BaseSetup) -> str:
    """``24 cases against main (merge base 1a2b3c4), about 5 launches, 5 min``."""
    seconds = TYPICAL_LAUNCHES * (cases * TYPICAL_SECONDS + TYPICAL_OVERHEAD)
    about = f"about {TYPICAL_LAUNCHES} launches, {units.duration(seconds)}"
    return f"{units.plural(cases, 'case')} against {wording.described_base(base_setup.described())}, {about}"


def run_paired(
    run: InferenceRun,
    config: pytest.Config,
    base_setup: BaseSetup,
    entries: Sequence[SelectedCase],
    tell: Callable[[Progress], None],
) -> PairedOutcomes:
    """Make all launches and judge every case.

    Raises `ConfigurationError` where the sides cannot be told apart or a side cannot be started.
    """
    begin = time.monotonic()
    laid = overlay_files(entries, config, base_setup)
    trust = {} if base_setup.revision is None else accepted_trailers(base_setup.revision)
    place = temporary_folder()
    try:
        with interruptible(), base_setup.ready(laid, place, modules(entries, config, base_setup)) as plans:
            session = PairedLaunches(
                lambda side, seed: WorkerProcess(plans[side], seed),
                [_wanted(run, entry) for entry in entries],
                LaunchTerms(
                    folder=place, max_seconds=run.settings.max_total, control_worker=base_setup.other_python
                ),
                check=lambda base, candidate: base_setup.check(base, candidate, laid),
                tell=tell,
            )
            found = session.run()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    judge = Judge(run, found.confirming, paired.control_moved(found.control))
    judged = [
        judge.judged(entry, trial, decide.accepted_note(entry.case, entry.nodeid, trust))
        for entry, trial in zip(entries, found.trials, strict=True)
        if not (found.interrupted and trial.waiting)
    ]
    against = msgspec.structs.replace(
        base_setup.described(),
        launches=found.launches,
        seconds=time.monotonic() - begin,
        accepted=trust,
    )
    kept, problems = _keep(run.settings.paired_data, entries, found, against)
    return PairedOutcomes(
        results={result.nodeid: result for result, _ in judged},
        verdicts={verdict.nodeid: verdict for _, verdict in judged},
        reports={trial.wanted.nodeid: [r["data"] for r in trial.reports] for trial in found.trials},
        against=against,
        on_base=frozenset(
            entry.case for entry, trial in zip(entries, found.trials, strict=True) if trial.no_base is None
        ),
        interrupted=found.interrupted,
        written=kept,
        problems=problems,
    )


def _keep(
    path: Path | None, entries: Sequence[SelectedCase], found: LaunchesResult, against: Against
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write every turn to a file, where that is asked for; lines that say so, and what kept it from that."""
    if path is None:
        return (), ()
    blocks = PairedData(
        against=against,
        confirming=found.confirming,
        control=tuple(found.control),
        cases=tuple(
            PairedCaseData(
                case=entry.case,
                nodeid=entry.nodeid,
                plan=trial.wanted.plan,
                screen=tuple(trial.screen),
                confirm=tuple(trial.confirm),
                others=trial.others,
            )
            for entry, trial in zip(entries, found.trials, strict=True)
        ),
    )
    try:
        atomic_write(path, encode_paired_data(blocks))
    except InfergateError as error:
        return (), (str(error),)
    return (f"wrote {path}",), ()


def _wanted(run: InferenceRun, entry: SelectedCase) -> TrialSpec:
    tolerance = run.settings.tolerances_for(entry.case.test, entry.marker.tolerance).get("p50")
    return TrialSpec(
        nodeid=entry.nodeid,
        plan=paired.PairedTerms() if tolerance is None else paired.PairedTerms(tolerance=tolerance),
        max_seconds=run.settings.layered("max_time", entry.marker.max_time, PAIRED_MAX_TIME),
        parity=None if entry.marker.parity is False else entry.marker.parity,
        compared=entry.marker.parity is not False,
    )
