"""A pair of fresh processes, one a side: how it is started, controlled, and led through cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.paired.case_events import finish_test, on_unexpected_event, reaches_infer
from pytest_infergate.paired.case_timing import CaseTimer, time_alone
from pytest_infergate.paired.protocol import CasesCollected, ListModules, ModulesListed, RunCase
from pytest_infergate.paired.trial import Trial, not_collected_note, unstable_id_note
from pytest_infergate.paired.worker_handle import (
    PairedWorker,
    Role,
    Side,
    Start,
    UnexpectedEventError,
    WorkerLostError,
    ask,
    end_workers,
)


class WorkerPair:
    """The processes of one launch. Both live until all its cases are through."""

    def __init__(self, start: Start, seed: int, timer: CaseTimer) -> None:
        self._start = start
        self._seed = seed
        self._timer = timer
        self._workers: list[PairedWorker] = []
        self._sides: dict[Side, PairedWorker] = {}
        self._collected: dict[Side, CasesCollected] = {}

    @contextmanager
    def running(self, trials: Sequence[Trial]) -> Iterator[None]:
        """Start both sides at once; all processes are ended on exit.

        A base that cannot collect leaves all cases without one. Raises `WorkerLostError` for the candidate,
        `ConfigurationError` if an interpreter cannot be used.
        """
        sides: tuple[Side, ...] = ("base", "candidate")
        try:
            # The side that is started second finds the memory that is left.
            for side in self._timer.rng.sample(sides, 2):
                self._sides[side] = self._started(side)
            try:
                self._collected["base"] = self._sides["base"].handshake()
            except WorkerLostError as error:
                del self._sides["base"]
                note = Note(
                    code=NoteCode.BASE_UNUSABLE,
                    text=str(error),
                    hint="look whether its tests run at that revision",
                )
                for trial in trials:
                    trial.no_base = note
            # Only now, so that both import at the same time.
            self._collected["candidate"] = self._sides["candidate"].handshake()
            yield
        finally:
            end_workers(self._workers)

    def _started(self, role: Role) -> PairedWorker:
        worker = self._start(role, self._seed)
        self._workers.append(worker)
        return worker

    def control(self, *, control_worker: bool) -> Launch | None:
        """Time identical work on both sides; ``None`` without a base, times or such work.

        Interpreters that differ do different work: with `control_worker` the base is compared with a second
        process of its own.
        """
        base, other = self._sides.get("base"), self._sides["candidate"]
        if base is None or self._timer.counters_only:
            return None
        if control_worker:
            other = self._started("control")
            other.handshake()
        return self._timer.control(base, other)

    def run_case(self, trial: Trial, next_nodeid: str | None) -> None:
        """Lead one case through this launch. Raises `WorkerLostError`."""
        sides = self._sides_of(trial)
        if not sides:
            return
        # Both build their model at the same time; the second one finds the memory that is left.
        for worker in self._timer.in_random_order(list(sides.values())):
            worker.send(RunCase(trial.spec.nodeid, next_nodeid))
        inside = {side: worker for side, worker in sides.items() if reaches_infer(side, worker, trial)}
        # Building a model is not a part of the time of a case, which the user limits.
        begin = self._timer.clock()
        try:
            if len(inside) == 2:  # noqa: PLR2004 - both sides
                self._timer.both_sides(inside["base"], inside["candidate"], trial)
            elif "candidate" in inside and trial.no_base is not None:
                time_alone(inside["candidate"], counters_only=self._timer.counters_only)
            elif "base" in inside and trial.infeasible is not None:
                time_alone(inside["base"], counters_only=self._timer.counters_only)
        except UnexpectedEventError as error:
            on_unexpected_event(error, sides, trial)
            inside = {side: worker for side, worker in inside.items() if worker is not error.worker}
        trial.seconds += self._timer.clock() - begin
        # One after the other: what the tests do after infer may need the memory and cores of both.
        for side, worker in sides.items():
            worker.resume()
            if side in inside:
                finish_test(side, worker, trial)
        if trial.memory_conflict:  # the reports are those of a shortage that separate sides do not have
            trial.reports = []

    def _sides_of(self, trial: Trial) -> dict[Side, PairedWorker]:
        """The sides that have a case; why another one does not is noted."""
        nodeid, collected = trial.spec.nodeid, self._collected["candidate"]
        if nodeid not in collected.nodeids:
            trial.lost = unstable_id_note(nodeid, collected)
            return {}
        if trial.no_base is None and nodeid not in self._collected["base"].nodeids:
            trial.no_base = not_collected_note(nodeid, self._collected["base"])
        # The candidate comes first: its reports are complete even if the base is lost while it ends its test.
        sides: tuple[Side, ...] = ("candidate",) if trial.no_base is not None else ("candidate", "base")
        return {side: self._sides[side] for side in sides}

    def modules(self) -> tuple[ModulesListed, ModulesListed] | None:
        """The loaded modules of base and candidate; ``None`` without a base."""
        if "base" not in self._sides:
            return None
        base, candidate = (
            ask(self._sides[side], ListModules(), ModulesListed) for side in ("base", "candidate")
        )
        return base, candidate
