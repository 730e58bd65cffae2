"""The process launches of a paired run, one after another, until every case is decided or its time is up.

A launch is one fresh process a side. The undecided cases run in it one after another: both sides build the
model, their calls alternate, then both finish their test.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.paired_times import Stage
from pytest_infergate.paired.case_events import (
    finish_test,
    on_unexpected_event,
    on_worker_lost,
    reaches_infer,
)
from pytest_infergate.paired.case_timing import CaseTimer
from pytest_infergate.paired.interim_analysis import InterimAnalysis, Progress
from pytest_infergate.paired.protocol import ListModules, ModulesListed, RunCase
from pytest_infergate.paired.trial import Trial, TrialSpec
from pytest_infergate.paired.worker_handle import (
    Side,
    Start,
    UnexpectedEventError,
    WorkerLostError,
    ask,
    end_workers,
)
from pytest_infergate.paired.worker_pair import WorkerPair


class LaunchTerms(NamedTuple):
    """What holds for all launches of a run."""

    folder: Path
    """For files that the sides exchange; removed after the run."""
    max_seconds: float | None = None
    """After which no launch begins."""
    control_worker: bool = False
    """Whether the control takes a second process of the base in place of the candidate."""
    seed: int | None = None
    counters_only: bool = False


class LaunchesResult(NamedTuple):
    """What all launches brought."""

    trials: Sequence[Trial]
    control: Sequence[Launch]
    launches: int
    interrupted: bool
    confirming: int


CheckModules = Callable[[ModulesListed, ModulesListed], None]
"""Given the modules of base and candidate, raises `ConfigurationError` if both sides run the same code."""


def run_launches(
    start: Start,
    specs: Sequence[TrialSpec],
    terms: LaunchTerms,
    *,
    check: CheckModules = lambda _base, _candidate: None,
    report: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> LaunchesResult:
    """Launch until no case waits. An interrupt ends the run, and stops the cases that still wait.

    `check` is called once, after the first launch, `report` after every launch. Raises `WorkerLostError` if
    the first launch cannot be made, and whatever `start` and `check` raise.
    """
    trials = [Trial(spec) for spec in specs]
    rng = random.Random(terms.seed)  # noqa: S311 - it shuffles, and keeps no secret
    timer = CaseTimer(terms.folder, rng, clock, counters_only=terms.counters_only)
    launcher = Launcher(start, trials, timer, check, control_worker=terms.control_worker)
    analysis = InterimAnalysis(trials, terms.max_seconds, clock)
    interrupted = False
    try:
        while waiting := [trial for trial in trials if trial.waiting]:
            begin, timed = clock(), sum(trial.seconds for trial in trials)
            launcher.launch(waiting)
            timed = sum(trial.seconds for trial in trials) - timed
            # What remains is start-up, imports and fixtures, which each further launch takes again.
            analysis.after_launch(waiting, max(0.0, clock() - begin - timed))
            report(analysis.progress(launcher.launches))
    except KeyboardInterrupt:
        interrupted = True
        analysis.interrupt()
    return LaunchesResult(trials, launcher.control, launcher.launches, interrupted, analysis.confirming)


class Launcher:
    """Makes one launch after another."""

    def __init__(
        self,
        start: Start,
        trials: Sequence[Trial],
        timer: CaseTimer,
        check: CheckModules,
        *,
        control_worker: bool,
    ) -> None:
        self._start = start
        self._trials = trials
        self._timer = timer
        self._rng = timer.rng
        self._check = check
        self._checked = False
        self._control_worker = control_worker
        self.launches = 0
        self.control: list[Launch] = []
        """Blocks of work that is the same on both sides."""

    def launch(self, trials: Sequence[Trial]) -> None:
        """Make one launch for the cases that wait. Raises `WorkerLostError` only in the first one."""
        self.launches += 1
        before = [trial.launches for trial in trials]
        separate = [trial for trial in trials if trial.separate]
        together = [trial for trial in trials if not trial.separate]
        try:
            for plain in (False, True):
                alike = [trial for trial in together if (trial.stage is Stage.PLAIN) is plain]
                remaining = shuffled_modules(alike, self._rng)
                while remaining:
                    remaining = self._launch_pair(remaining, plain=plain)
            for trial in separate:
                self._launch_separately(trial)
        except WorkerLostError as error:
            # A process that is lost outside of any case ends the run, but not what is decided already.
            if self.launches == 1:
                raise
            for trial in trials:
                trial.stopped = trial.stopped or Note(code=NoteCode.PROCESS_LOST, text=str(error))
            return
        for trial, launches in zip(trials, before, strict=True):
            # A case that turned out to need separate sides only now has its turn in the next launch.
            if trial.waiting and trial.launches == launches and (trial in separate or not trial.separate):
                trial.invalid = Note(
                    code=NoteCode.NO_TIMINGS, text="a launch ended without a time of both sides"
                )

    def _launch_pair(self, trials: list[Trial], *, plain: bool) -> list[Trial]:
        """Run cases in one pair of processes; returns those that remain after a process was lost."""
        pair = WorkerPair(functools.partial(self._start, plain=plain), self._new_seed(), self._timer)
        with pair.running(trials):
            control = None if plain else pair.control(control_worker=self._control_worker)
            if control is not None:
                self.control.append(control)
            for index, trial in enumerate(trials):
                remaining = trials[index + 1 :]
                try:
                    # pytest keeps the fixtures that the next case needs.
                    pair.run_case(trial, remaining[0].spec.nodeid if remaining else None)
                except WorkerLostError as error:
                    on_worker_lost(error, trial)
                    # The candidate's reports are missing if the base was lost before its test ended.
                    unreported = trial.no_base is not None and trial.lost is None and not trial.reports
                    return trials[index:] if unreported else remaining
            # Only now has every case loaded what it loads.
            if not self._checked and not all(trial.no_base for trial in self._trials):
                modules = pair.modules()
                if modules is not None:
                    self._check(*modules)
                    self._checked = True
        return []

    def _launch_separately(self, trial: Trial) -> None:
        """Run a case whose models do not fit into memory together: one side, then the other."""
        trial.memory_conflict = False
        seed = self._new_seed()
        times: dict[Side, tuple[float, ...]] = {}
        modules: dict[Side, ModulesListed] = {}
        sides: tuple[Side, ...] = ("base", "candidate")
        for side in sides:
            worker = self._start(side, seed, plain=trial.stage is Stage.PLAIN)
            try:
                worker.handshake()
                worker.send(RunCase(trial.spec.nodeid, None))  # its process ends with this case
                if reaches_infer(side, worker, trial):
                    times[side] = self._timer.one_side(side, worker, trial)
                    worker.resume()
                    finish_test(side, worker, trial)
                if not self._checked:
                    modules[side] = ask(worker, ListModules(), ModulesListed)
            except UnexpectedEventError as error:
                on_unexpected_event(error, {side: worker}, trial)
            except WorkerLostError as error:
                on_worker_lost(error, trial)
            finally:
                end_workers([worker])
        if len(modules) == len(sides):
            self._check(modules["base"], modules["candidate"])
            self._checked = True
        # Nothing alternates here: more of the machine's drift remains than with both sides at once.
        if len(times) == len(sides) and all(times.values()):
            trial.add(Launch(base=times["base"], candidate=times["candidate"]))

    def _new_seed(self) -> int:
        # Both sides of a launch have the same hashes and place of the stack, the next launch has others: what
        # these do to the speed becomes a part of the spread between launches, and not a bias of one side.
        return self._rng.randrange(1, 2**32)


def shuffled_modules(trials: Sequence[Trial], rng: random.Random) -> list[Trial]:
    """Shuffle test files, and the cases of each; the cases of a file stay together."""
    # The first case of a process finds other caches than the last. The fixtures of a file are built once.
    modules: dict[str, list[Trial]] = {}
    for trial in trials:
        modules.setdefault(trial.spec.nodeid.partition("::")[0], []).append(trial)
    groups = list(modules.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    return [trial for group in groups for trial in group]
