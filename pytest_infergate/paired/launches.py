"""Process launches, one after another, until every case is decided or its time is up.

A launch is one fresh process a side. The undecided cases run in it one after another: both sides build the model,
their calls alternate, then both finish their test.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.model import Note, Struct
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.gate import paired
from pytest_infergate.core.gate.paired import Launch, Stage
from pytest_infergate.paired.alternation import alternate, sampling_plan
from pytest_infergate.paired.trial import (
    PairedWorker,
    Trial,
    TrialSpec,
    decision,
    log_ratios,
    not_collected_note,
    unstable_id_note,
)
from pytest_infergate.paired.worker_process import UnexpectedMessageError, WorkerLostError

CONTROL_SECONDS = 6.0
ALONE_SECONDS = 3.0
"""Of turns without another side, which only show how long a call takes."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is."""

    launches: int
    decided: int
    cases: int
    confirming: int
    """Cases that look slower, in launches that confirm or refute it."""
    seconds_left: float


class LaunchesResult(NamedTuple):
    """What a run leaves behind."""

    trials: Sequence[Trial]
    control: Sequence[Launch]
    launches: int
    interrupted: bool
    confirming: int


class _Pair(NamedTuple):
    base: PairedWorker | None
    candidate: PairedWorker
    collected: dict[str, dict[str, Any]]


Start = Callable[[str, int], PairedWorker]
"""Starts the worker of a side, ``base``, ``candidate`` or ``twin``, with the seed of its launch."""


class LaunchTerms(NamedTuple):
    """What a run is held to."""

    folder: Path
    """For what the sides exchange; removed after the run."""
    max_seconds: float | None = None
    control_worker: bool = False
    """Whether a second process of the base stands in for the candidate in the control."""
    seed: int | None = None


class PairedLaunches:
    """The run of all cases.

    `check` is told, after the first launch, what files both sides loaded, and raises where these are the
    same; `tell` hears of each launch.
    """

    def __init__(
        self,
        start: Start,
        cases: Iterable[TrialSpec],
        terms: LaunchTerms,
        *,
        check: Callable[[dict[str, Any], dict[str, Any]], None] = lambda _base, _candidate: None,
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._start = start
        self._trials = [Trial(wanted) for wanted in cases]
        self._terms = terms
        self._check = check
        self._tell = tell
        self._chance = random.Random(terms.seed)  # noqa: S311 - orders turns, keeps no secret
        self._control: list[Launch] = []
        self._launches = 0
        self._checked = False
        self._confirming = 0
        self._begin = 0.0
        self._overhead = 0.0

    def run(self) -> LaunchesResult:
        """Make launches until nothing waits. An interrupt ends it; what is decided by then counts."""
        self._begin = time.monotonic()
        interrupted = False
        try:
            while waiting := [trial for trial in self._trials if trial.waiting]:
                self._launched(waiting)
                self._decide(waiting)
                self._report()
        except KeyboardInterrupt:
            interrupted = True
        return LaunchesResult(self._trials, self._control, self._launches, interrupted, self._confirming)

    # One launch

    def _launched(self, waiting: Sequence[Trial]) -> None:
        """Make a launch. A process lost outside of any case ends the run, but not what is decided."""
        try:
            self._launch(waiting)
        except WorkerLostError as error:
            if self._launches == 1:
                raise
            for trial in waiting:
                trial.stopped = trial.stopped or Note(code=NoteCode.PROCESS_LOST, text=str(error))

    def _launch(self, waiting: Sequence[Trial]) -> None:
        self._launches += 1
        begin, measuring = time.monotonic(), sum(trial.seconds for trial in self._trials)
        apart = [trial for trial in waiting if trial.apart]
        left = self._shuffled([trial for trial in waiting if not trial.apart])
        before = {id(trial): trial.launches for trial in waiting}
        while left:
            left = self._together(left)
        for trial in apart:
            self._one_after_the_other(trial)
        for trial in waiting:
            idle = trial.waiting and trial.launches == before[id(trial)]
            if idle and (trial in apart or not trial.apart):
                trial.invalid = Note(
                    code=NoteCode.NO_TIMINGS, text="a launch ended without a time of both sides"
                )
        measured = sum(trial.seconds for trial in self._trials) - measuring
        self._overhead = max(0.0, time.monotonic() - begin - measured)

    def _shuffled(self, trials: Sequence[Trial]) -> list[Trial]:
        """Modules in another order each launch, and cases within them, whose fixtures are built once."""
        modules: dict[str, list[Trial]] = {}
        for trial in trials:
            modules.setdefault(trial.wanted.nodeid.partition("::")[0], []).append(trial)
        groups = list(modules.values())
        self._chance.shuffle(groups)
        for group in groups:
            self._chance.shuffle(group)
        return [trial for group in groups for trial in group]

    def _together(self, trials: list[Trial]) -> list[Trial]:
        """Run cases in one pair of processes; those that a lost process left over."""
        seed = self._chance.randrange(1, 2**32)
        workers: list[PairedWorker] = []
        try:
            pair = self._pair(seed, workers, trials)
            if pair.base is not None:
                self._take_control(pair.base, pair.candidate, seed, workers)
            for index, trial in enumerate(trials):
                after = trials[index + 1].wanted.nodeid if trials[index + 1 :] else None
                try:
                    self._case(pair, trial, after)
                except WorkerLostError as error:
                    self._on_worker_lost(trial, error)
                    unheard = trial.no_base is not None and trial.lost is None and not trial.reports
                    return trials[index if unheard else index + 1 :]
            self._look_at_files(pair)
        finally:
            end_workers(workers)
        return []

    def _look_at_files(self, pair: _Pair) -> None:
        """Once all cases of a launch have loaded what they load, compare the files of both sides."""
        if self._checked or pair.base is None or all(trial.no_base for trial in self._trials):
            return
        base, candidate = (worker.ask({"do": "loaded"}, "loaded") for worker in (pair.base, pair.candidate))
        self._check(base, candidate)
        self._checked = True

    def _pair(self, seed: int, workers: list[PairedWorker], trials: Sequence[Trial]) -> _Pair:
        """Start both sides at once. A base that cannot even collect leaves every case without one."""
        started: dict[str, PairedWorker] = {}
        for side in self._chance.sample(("base", "candidate"), 2):
            started[side] = self._start(side, seed)
            workers.append(started[side])
        base, candidate = started["base"], started["candidate"]
        collected: dict[str, dict[str, Any]] = {"candidate": {}, "base": {}}
        alive: PairedWorker | None = base
        try:
            collected["base"] = base.handshake()
        except WorkerLostError as error:
            alive = None
            note = Note(
                code=NoteCode.BASE_UNUSABLE,
                text=str(error),
                hint="look whether its tests run at that revision",
            )
            for trial in trials:
                trial.no_base = note
        collected["candidate"] = candidate.handshake()
        return _Pair(alive, candidate, collected)

    def _take_control(
        self, base: PairedWorker, candidate: PairedWorker, seed: int, workers: list[PairedWorker]
    ) -> None:
        """Let work that is the same on both sides take turns: what differs there is the instrument.

        Where the interpreters differ so does that work: then a second process of the base stands in.
        """
        other = candidate
        if self._terms.control_worker:
            other = self._start("twin", seed)
            workers.append(other)
            other.handshake()
        sides = self._in_random_order((base, other))
        for worker in sides:
            worker.send({"do": "control"})
        for worker in sides:
            worker.receive()
            worker.suspend()
        seconds, warmed = _warmed(sides[0], None)
        _warmed(sides[1], warmed)
        self._control.append(alternate(base, other, sampling_plan(seconds, CONTROL_SECONDS), self._chance))
        for worker in sides:
            worker.resume()
            worker.ask({"do": "finish"}, "finished")
            worker.receive()

    def _in_random_order(self, sides: Sequence[PairedWorker]) -> list[PairedWorker]:
        """Who begins matters: the process that was warmed last found its memory and cores last."""
        return self._chance.sample(list(sides), len(sides))

    def _case(self, pair: _Pair, trial: Trial, after: str | None) -> None:
        """Bring one case through a launch."""
        sides = self._sides(pair, trial)
        if not sides:
            return
        for worker in self._in_random_order(list(sides.values())):
            worker.send({"do": "case", "nodeid": trial.wanted.nodeid, "next": after})
        ready = {name: self._ready(name, worker, trial) for name, worker in sides.items()}
        begin = time.monotonic()
        try:
            if "base" in sides and all(ready.values()):
                self._measured(sides, trial)
            elif ready["candidate"] and trial.no_base is not None:
                _timed_alone(pair.candidate)
        except UnexpectedMessageError as error:
            self._on_unexpected_message(error, sides, trial)
            ready = {name: ready[name] and worker is not error.worker for name, worker in sides.items()}
        trial.seconds += time.monotonic() - begin
        for name, worker in sides.items():
            worker.resume()
            if ready[name]:
                self._finished(name, worker, trial)
        if trial.crowded:  # what was heard of it tells of the memory that both took
            trial.reports = []

    def _sides(self, pair: _Pair, trial: Trial) -> dict[str, PairedWorker]:
        """Who takes part in a case: the candidate, and the base where it has it."""
        nodeid = trial.wanted.nodeid
        if nodeid not in pair.collected["candidate"]["nodeids"]:
            trial.lost = unstable_id_note(nodeid, pair.collected["candidate"])
            return {}
        sides = {"candidate": pair.candidate}
        if pair.base is not None and trial.no_base is None:
            if nodeid in pair.collected["base"]["nodeids"]:
                sides["base"] = pair.base
            else:
                trial.no_base = not_collected_note(nodeid, pair.collected["base"])
        return sides

    def _ready(self, name: str, worker: PairedWorker, trial: Trial) -> bool:
        """Wait until a side stands inside `infer`; false where its test ended without."""
        while (message := worker.receive())["is"] != "ready":
            if self._received(name, message, trial):
                if name == "base" and trial.no_base is None and not trial.crowded:
                    trial.no_base = Note(
                        code=NoteCode.BASE_ENDED, text="the test did not reach infer on the base"
                    )
                return False
        return True

    def _finished(self, name: str, worker: PairedWorker, trial: Trial) -> None:
        """Let a side go on with its test until its end."""
        worker.send({"do": "finish"})
        while not self._received(name, worker.receive(), trial):
            pass

    def _received(self, name: str, message: dict[str, Any], trial: Trial) -> bool:
        """Take what a side says of its test; whether it is over."""
        kind = message["is"]
        candidate = name == "candidate"
        if kind == "finished" and trial.figures.get(name) is None:
            trial.figures[name] = message["measurement"]
        elif kind == "invalid":
            note = Note(**message["note"])
            if candidate:
                trial.invalid = note
            else:
                trial.no_base = trial.no_base or note
        elif kind == "exhausted":
            self._ran_out(name, Note(**message["note"]), trial)
        elif kind == "report":
            self._reported(message, trial, candidate=candidate)
        elif kind == "done" and candidate:
            trial.reports, trial.arriving = trial.reports if trial.failed else trial.arriving, []
        return bool(kind == "done")

    def _reported(self, message: dict[str, Any], trial: Trial, *, candidate: bool) -> None:
        """Keep what the candidate's test reports; a base whose test does not pass is none."""
        if candidate:
            trial.arriving.append({"outcome": message["outcome"], "data": message["data"]})
        elif message["outcome"] != "passed" and trial.no_base is None and not trial.crowded:
            text = f"the test {message['outcome']} on the base: {message['words']}"
            trial.no_base = Note(code=NoteCode.BASE_FAILED, text=text)

    def _ran_out(self, name: str, note: Note, trial: Trial) -> None:
        """Two models at once may be one too many: try them one after the other before saying so."""
        if not trial.apart and trial.no_base is None:
            trial.apart = trial.crowded = True
        elif name == "candidate":
            trial.exhausted = note
        else:
            trial.no_base = trial.no_base or note

    def _on_unexpected_message(
        self, error: UnexpectedMessageError, sides: dict[str, PairedWorker], trial: Trial
    ) -> None:
        """Follow a side whose model failed in the middle of its turns to the end of its test."""
        name = next(name for name, worker in sides.items() if worker is error.worker)
        error.worker.resume()
        if not self._received(name, error.message, trial):
            while not self._received(name, error.worker.receive(), trial):
                pass
        if name == "base" and trial.no_base is None and not trial.crowded:
            trial.no_base = Note(
                code=NoteCode.BASE_ENDED, text="the call failed on the base while it was timed"
            )

    def _on_worker_lost(self, trial: Trial, error: WorkerLostError) -> None:
        """Say what a lost process means for the case that it was at."""
        trial.arriving = []
        if error.killed and not trial.apart and trial.no_base is None:
            trial.apart = trial.crowded = True
        elif error.side == "base":
            trial.no_base = Note(code=NoteCode.BASE_LOST, text=str(error))
        else:
            trial.lost = Note(
                code=NoteCode.PROCESS_LOST, text=str(error), hint="run this test alone, without the gate"
            )

    # Turns

    def _measured(self, sides: dict[str, PairedWorker], trial: Trial) -> None:
        base, candidate = sides["base"], sides["candidate"]
        if trial.launches == 0:
            self._exactly((base, candidate), trial)
        first, second = self._in_random_order((base, candidate))
        for worker in (base, candidate):
            worker.suspend()
        seconds, warmed = _warmed(first, trial.warm_calls)
        if self._planned(trial, seconds, warmed):
            _warmed(second, warmed)
            trial.add(alternate(base, candidate, trial.sampling_plans[trial.stage], self._chance))

    def _planned(self, trial: Trial, seconds: float, warmed: int) -> bool:
        """Fix, once for all launches, how the turns go; whether there is time for any."""
        if trial.warm_calls is not None:
            return True
        trial.warm_calls = warmed
        least = paired.MIN_LAUNCHES_UNPOOLED
        warming = 2 * warmed * seconds
        allowed = trial.wanted.max_seconds / least - warming
        trial.sampling_plans = {
            Stage.SCREEN: sampling_plan(seconds, allowed),
            Stage.CONFIRM: sampling_plan(seconds, allowed, careful=True),
        }
        if trial.sampling_plans[Stage.SCREEN].least > 0:
            return True
        needed = units.duration(least * (warming + 2 * seconds))
        text = f"one call takes {units.seconds(seconds)}: {least} launches take {needed}"
        trial.stopped = Note(
            code=NoteCode.TIME_LIMIT, text=text, hint=f"allow that with --infer-max-time={needed}"
        )
        return False

    def _exactly(self, workers: Sequence[PairedWorker], trial: Trial) -> None:
        """Count on both sides at once, and compare what they computed."""
        for worker in workers:
            worker.send({"do": "count"})
        for worker in workers:
            _expected(worker, worker.receive(), "counted")
        for worker, name in zip(workers, ("base", "candidate"), strict=False):
            self._parity(worker, name, trial)

    def _parity(self, worker: PairedWorker, name: str, trial: Trial) -> None:
        """Keep the output of the base; hold that of the candidate against it."""
        if not trial.wanted.compared or trial.no_base is not None:
            return
        path = str(self._terms.folder / "output")
        if name == "base":
            worker.ask({"do": "keep", "path": path}, "kept")
            return
        message = {"do": "compare", "path": path, "tolerance": trial.wanted.parity}
        trial.mismatch = worker.ask(message, "compared")["difference"]

    def _one_after_the_other(self, trial: Trial) -> None:
        """A launch of a case whose models do not fit into memory together: one side, then the other."""
        trial.crowded = False
        seed = self._chance.randrange(1, 2**32)
        times: dict[str, tuple[float, ...]] = {}
        loaded: dict[str, dict[str, Any]] = {}
        for name in ("base", "candidate"):
            worker = self._start(name, seed)
            try:
                worker.handshake()
                worker.send({"do": "case", "nodeid": trial.wanted.nodeid, "next": None})
                if self._ready(name, worker, trial):
                    times[name] = self._timed(name, worker, trial)
                    worker.resume()
                    self._finished(name, worker, trial)
                if not self._checked:
                    loaded[name] = worker.ask({"do": "loaded"}, "loaded")
            except UnexpectedMessageError as error:
                self._on_unexpected_message(error, {name: worker}, trial)
            except WorkerLostError as error:
                self._on_worker_lost(trial, error)
            finally:
                end_workers([worker])
        if len(loaded) == 2:  # noqa: PLR2004 - the sides
            self._check(loaded["base"], loaded["candidate"])
            self._checked = True
        if len(times) == 2 and all(times.values()):  # noqa: PLR2004 - the sides
            trial.add(Launch(base=times["base"], candidate=times["candidate"]))

    def _timed(self, name: str, worker: PairedWorker, trial: Trial) -> tuple[float, ...]:
        begin = time.monotonic()
        if trial.launches == 0:
            worker.ask({"do": "count"}, "counted")
            self._parity(worker, name, trial)
        seconds, warmed = _warmed(worker, trial.warm_calls)
        planned = self._planned(trial, seconds, warmed)
        blocks = trial.sampling_plans[trial.stage]
        times = [worker.timed_block(blocks.calls) for _ in range(blocks.least)] if planned else []
        trial.seconds += time.monotonic() - begin
        return tuple(times)

    # Between launches

    def _decide(self, trials: Sequence[Trial]) -> None:
        self._compare_spreads([trial for trial in trials if trial.stage is Stage.SCREEN])
        self._confirming += sum(
            trial.waiting and trial.stage is Stage.SCREEN and self._stage(trial) is Stage.CONFIRM
            for trial in trials
        )
        waiting = [trial for trial in trials if trial.waiting]
        for trial in waiting:
            trial.stage = self._stage(trial)
        left, spent = self._left(), time.monotonic() - self._begin
        for trial in waiting:
            if trial.stage is not Stage.DONE:
                trial.stopped = self._out_of_time(trial, spent, left)

    def _compare_spreads(self, screened: Sequence[Trial]) -> None:
        """Keep, for the cases that are looked at now, by how much launches of the others differ."""
        for analysis in {len(trial.screen) for trial in screened}.intersection(paired.SCREEN_ANALYSES):
            spreads = paired.spreads_of_others([log_ratios(trial, analysis) for trial in self._trials])
            for trial, others in zip(self._trials, spreads, strict=True):
                if trial in screened and len(trial.screen) == analysis:
                    trial.others[analysis] = others

    def _stage(self, trial: Trial) -> Stage:
        """Where a case stands; unreadable times make it invalid."""
        try:
            return decision(trial, self._confirming).stage
        except ValueError:
            text = "a call takes no time that the clock could tell"
            trial.invalid = Note(code=NoteCode.LATENCY_UNREADABLE, text=text, hint="give one call more work")
            return trial.stage

    def _out_of_time(self, trial: Trial, spent: float, left: float) -> Note | None:
        """Say that the launches to the next look would not fit any more."""
        more = paired.launches_to_next_analysis(trial.stage, len(trial.screen), len(trial.confirm))
        next_analysis = more * trial.seconds / max(1, trial.launches)
        if trial.launches and trial.seconds + next_analysis > trial.wanted.max_seconds:
            needed = units.duration(trial.seconds + next_analysis)
            text = f"{units.plural(trial.launches, 'launch')} took the time of this case"
            return Note(
                code=NoteCode.TIME_LIMIT,
                text=text,
                hint=f"--infer-max-time={needed} would reach the next look",
            )
        if self._terms.max_seconds is not None and spent >= self._terms.max_seconds:
            limit = units.duration(self._terms.max_seconds)
            text = f"--infer-max-total of {limit} was spent before it was decided"
            hint = f"about {units.duration(left)} more would reach the next look"
            return Note(code=NoteCode.TIME_LIMIT, text=text, hint=hint)
        return None

    def _left(self) -> float:
        """Seconds until each case has had its next look."""
        launches = 0
        seconds = 0.0
        for trial in self._trials:
            if trial.waiting:
                more = paired.launches_to_next_analysis(trial.stage, len(trial.screen), len(trial.confirm))
                launches = max(launches, more)
                seconds += more * trial.seconds / max(1, trial.launches)
        return seconds + launches * self._overhead

    def _report(self) -> None:
        done = sum(not trial.waiting for trial in self._trials)
        self._tell(
            Progress(
                launches=self._launches,
                decided=done,
                cases=len(self._trials),
                confirming=sum(trial.waiting and trial.stage is Stage.CONFIRM for trial in self._trials),
                seconds_left=self._left(),
            )
        )


def end_workers(workers: Sequence[PairedWorker]) -> None:
    """Let processes leave, all at once; an interrupt meanwhile spares none."""
    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.end)
        for worker in workers:
            worker.leave()


def _timed_alone(candidate: PairedWorker) -> None:
    """Measure a case without a base, for its own figures."""
    candidate.ask({"do": "count"}, "counted")
    seconds, _ = _warmed(candidate, None)
    blocks = sampling_plan(seconds, ALONE_SECONDS)
    for _ in range(max(1, blocks.least)):
        candidate.timed_block(blocks.calls)


def _warmed(worker: PairedWorker, calls: int | None) -> tuple[float, int]:
    """Warm a side up and stop it: seconds of a call, and how many calls it took."""
    worker.resume()
    answer = worker.ask({"do": "warm", "calls": calls}, "warm")
    worker.suspend()
    return float(answer["seconds"]), int(answer["calls"])


def _expected(worker: PairedWorker, message: dict[str, Any], kind: str) -> None:
    if message["is"] != kind:
        raise UnexpectedMessageError(worker, message)
