"""A paired run: the base is made, both sides are launched, and every case is judged."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import pytest

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import Against, Judged
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate import decide, paired_times
from pytest_infergate.errors import InfergateError
from pytest_infergate.outputs.reference_parity import computed_in
from pytest_infergate.outputs.value_differences import PAIRED, Sides
from pytest_infergate.paired.base_setup import BaseSetup, case_modules, overlay_files
from pytest_infergate.paired.expected_time import ExpectedTime
from pytest_infergate.paired.interim_analysis import Progress
from pytest_infergate.paired.launches import LaunchesResult, LaunchTerms, run_launches
from pytest_infergate.paired.run_folder import run_folder
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.trial import TrialSpec
from pytest_infergate.paired.verdicts import Judge
from pytest_infergate.paired.worker_process import ANSWER_TIMEOUT_SECONDS, MALLOC, THREADS, WorkerProcess
from pytest_infergate.paired.worktree import accepted_trailers
from pytest_infergate.report import wording
from pytest_infergate.runtimes.conversion import MAX_SECONDS
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.paired_data import PairedCaseData, PairedData, encode_paired_data

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun


OPENMP_RUNTIMES: Final = ("eager", "compile", "aoti")
"""Runtimes whose threads are those of OpenMP, which workers bind to cores."""


class PairedOutcomes(NamedTuple):
    """What a paired run decided, by node id, and the reports to be replayed."""

    judged: Mapping[str, Judged]
    reports: Mapping[str, Sequence[str]]
    """Of the candidate's tests, as pytest serialises them, in JSON."""
    against: Against
    on_base: frozenset[Case]
    """Cases that the base has as well."""
    interrupted: bool
    written: tuple[str, ...] = ()
    """Messages about files that were written."""
    problems: tuple[str, ...] = ()
    """Why a file could not be written."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, unless the user's code handles them."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    # Only the main thread may set handlers. Without them the workers of a cancelled job would be left behind.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def forecast(nodeids: Sequence[str], base_setup: BaseSetup, expected: ExpectedTime) -> str:
    """``24 cases against main (merge base 1a2b3c4), about 5 launches, 5 min``."""
    launches, seconds = expected.of(nodeids)
    about = f"about {units.plural(launches, 'launch')}, {units.duration(seconds)}"
    base = wording.described_base(base_setup.against())
    return f"{units.plural(len(nodeids), 'case')} against {base}, {about}"


def run_paired(
    run: InferenceRun,
    config: pytest.Config,
    base_setup: BaseSetup,
    cases: Sequence[SelectedCase],
    report: Callable[[Progress], None],
    *,
    expected: ExpectedTime,
) -> PairedOutcomes:
    """Make all launches and judge every case.

    `report` is called after each launch, and `expected` remembers how long all of them took. Raises
    `ConfigurationError` if both sides run the same code, or a side cannot be started.
    """
    begin = time.monotonic()
    overlaid = overlay_files(cases, config, base_setup)
    accepted = {} if base_setup.revision is None else accepted_trailers(base_setup.revision)
    modules = case_modules(cases, config, base_setup)
    runtimes = {base_setup.runtime or "eager", *(case.case.runtime for case in cases)}
    variables, timeout = worker_variables(runtimes), answer_timeout(runtimes)
    with run_folder() as folder, interruptible(), base_setup.ready(overlaid, folder, modules) as specs:
        found = run_launches(
            lambda role, seed, *, plain=False: WorkerProcess(
                specs[role]._replace(variables={} if plain else variables, answer_timeout=timeout), seed
            ),
            [trial_spec(case, run.settings.against_runtime) for case in cases],
            LaunchTerms(
                folder,
                run.settings.max_total,
                control_worker=base_setup.other_python,
                counters_only=run.settings.counters_only,
            ),
            check=lambda base, candidate: base_setup.check(base, candidate, overlaid),
            report=report,
        )
    seconds = time.monotonic() - begin
    expected.remember(found, seconds)
    against = msgspec.structs.replace(
        base_setup.against(),
        launches=found.launches,
        seconds=seconds,
        accepted=accepted,
        counters_only=run.settings.counters_only,
    )
    return paired_outcomes(run, cases, found, against)


def worker_variables(runtimes: AbstractSet[str]) -> Mapping[str, str]:
    """Return the environment variables of workers in which these runtimes execute models."""
    # Threads that an engine starts itself would all stay on the core to which OpenMP binds the main thread.
    own_threads = any(name.partition(":")[0] not in OPENMP_RUNTIMES for name in runtimes)
    return MALLOC if own_threads else {**THREADS, **MALLOC}


def answer_timeout(runtimes: AbstractSet[str]) -> float:
    """Return how long a worker in which these runtimes execute models may take to answer, in seconds."""
    # A worker that makes what no earlier run has kept does not answer meanwhile.
    return ANSWER_TIMEOUT_SECONDS + (MAX_SECONDS if runtimes - {"eager"} else 0.0)


def paired_outcomes(
    run: InferenceRun, cases: Sequence[SelectedCase], found: LaunchesResult, against: Against
) -> PairedOutcomes:
    """Judge the cases of all launches, and write their times if a file is asked for."""
    judge = Judge(run, found.confirming, paired_times.control_moved(found.control))
    judged = [
        judge.judge(case, trial, decide.accepted_note(case.case, case.nodeid, against.accepted))
        for case, trial in zip(cases, found.trials, strict=True)
    ]
    written, problems = write_paired_data(run.settings.paired_data, cases, found, against)
    return PairedOutcomes(
        judged={case.result.nodeid: case for case in judged},
        reports={
            trial.spec.nodeid: [report.serialised for report in trial.reports] for trial in found.trials
        },
        against=against,
        on_base=frozenset(
            case.case for case, trial in zip(cases, found.trials, strict=True) if trial.no_base is None
        ),
        interrupted=found.interrupted,
        written=written,
        problems=problems,
    )


def write_paired_data(
    path: Path | None, cases: Sequence[SelectedCase], found: LaunchesResult, against: Against
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the times of all blocks to a file, if one is asked for; messages of success and of failure."""
    if path is None:
        return (), ()
    data = PairedData(
        against=against,
        confirming=found.confirming,
        control=tuple(found.control),
        cases=tuple(
            PairedCaseData(
                case=case.case,
                nodeid=case.nodeid,
                plan=trial.spec.terms,
                screen=tuple(trial.screen),
                confirm=tuple(trial.confirm),
                plain=trial.plain,
                others=trial.other_spreads,
            )
            for case, trial in zip(cases, found.trials, strict=True)
        ),
    )
    try:
        atomic_write(path, encode_paired_data(data))
    except InfergateError as error:
        return (), (str(error),)
    return (f"wrote {path}",), ()


def trial_spec(case: SelectedCase, base_runtime: str | None = None) -> TrialSpec:
    """What is decided about a case, and by which terms; with the runtime of the base, if it has another."""
    tolerance = case.terms.tolerance.get("p50")
    sides = PAIRED
    if base_runtime is not None:
        precision = computed_in(case.case.dtype, on_cpu=case.case.device == "cpu")
        sides = Sides(f"in {base_runtime}", f"in {case.case.runtime}", precision)
    return TrialSpec(
        nodeid=case.nodeid,
        terms=paired_times.PairedTerms()
        if tolerance is None
        else paired_times.PairedTerms(tolerance=tolerance),
        max_seconds=case.terms.max_time,
        output_tolerance=case.terms.parity,
        compare_outputs=case.terms.compare_outputs,
        sides=sides,
    )
