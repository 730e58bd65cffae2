"""The state of one case of a paired run, and what the run needs of a worker process."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.gate import paired
from pytest_infergate.core.gate.paired import GpuState, Launch, PairedTerms, Spread, Stage
from pytest_infergate.paired.alternation import SamplingPlan


class PairedWorker(Protocol):
    """What the session needs of a process; `paired.worker.Worker` is the real one."""

    def handshake(self) -> dict[str, Any]:
        """Hear what it collected."""

    def send(self, message: dict[str, Any]) -> None:
        """Send."""

    def receive(self) -> dict[str, Any]:
        """Wait for the next message."""

    def ask(self, message: dict[str, Any], kind: str, seconds: float = ...) -> dict[str, Any]:
        """Send and wait for an answer of a kind."""

    def timed_block(self, calls: int) -> float:
        """Wake it, time calls, stop it."""

    def gpu_states(self) -> tuple[GpuState, ...]:
        """What its accelerator told after each turn since this was asked last."""

    def resume(self) -> None:
        """Let it run."""

    def suspend(self) -> None:
        """Stop it."""

    def leave(self) -> None:
        """Ask it to leave."""

    def end(self) -> None:
        """Wait until it has left, and not for long."""


class TrialSpec(NamedTuple):
    """A case to be decided."""

    nodeid: str
    plan: PairedTerms = PairedTerms()
    max_seconds: float = 60.0
    """That its turns may take, over all launches."""
    parity: float | None = None
    """Tolerance of its output; ``None`` is that of the dtype."""
    compared: bool = True
    """Whether its output is compared at all."""


class Trial:
    """What is known of one case so far."""

    def __init__(self, wanted: TrialSpec) -> None:
        self.wanted = wanted
        self.screen: list[Launch] = []
        self.confirm: list[Launch] = []
        self.stage = Stage.SCREEN
        self.others: dict[int, Spread] = {}
        """By look of the screen, the spread of the launches of the other cases."""
        self.reports: list[dict[str, Any]] = []
        """Of the candidate's test, as pytest serialises them: of the last launch, or of one that failed."""
        self.arriving: list[dict[str, Any]] = []
        """Those of a test that has not ended yet."""
        self.figures: dict[str, dict[str, Any] | None] = {}
        """Measurement of each side, in builtins."""
        self.no_base: Note | None = None
        """Why the base has nothing to compare with."""
        self.mismatch: str | None = None
        self.invalid: Note | None = None
        self.stopped: Note | None = None
        """Why no more launches are made although nothing is decided."""
        self.exhausted: Note | None = None
        """The candidate ran out of memory."""
        self.lost: Note | None = None
        """The candidate's process died in this case."""
        self.apart = False
        """Whether its sides run one after another, since both do not fit into memory."""
        self.crowded = False
        """Whether this launch is the one that showed it: what it says of the test counts for nothing."""
        self.seconds = 0.0
        self.warm_calls: int | None = None
        self.sampling_plans = {Stage.SCREEN: SamplingPlan(0, 0, 0), Stage.CONFIRM: SamplingPlan(0, 0, 0)}

    @property
    def launches(self) -> int:
        """Launches with turns of both sides."""
        return len(self.screen) + len(self.confirm)

    @property
    def waiting(self) -> bool:
        """Whether it needs another launch."""
        ended = (self.no_base, self.invalid, self.stopped, self.exhausted, self.lost)
        return self.stage is not Stage.DONE and not any(ended) and not self.failed

    @property
    def failed(self) -> bool:
        """Whether the candidate's own test failed, or was skipped by the user."""
        return any(report["outcome"] != "passed" for report in self.reports)

    def add(self, launch: Launch) -> None:
        """Take the turns of a launch."""
        (self.screen if self.stage is Stage.SCREEN else self.confirm).append(launch)


def decision(trial: Trial, confirming: int) -> paired.Decision:
    """Decide a case from its launches so far."""
    return paired.decide(
        [launch.difference for launch in trial.screen],
        [launch.difference for launch in trial.confirm],
        trial.wanted.plan,
        confirming=confirming,
        others=trial.others,
    )


def log_ratios(trial: Trial, analysis: int) -> list[float]:
    """Of the first launches of the screen; none where their times cannot be read."""
    try:
        return [launch.difference for launch in trial.screen[:analysis]]
    except ValueError:
        return []


def unstable_id_note(nodeid: str, collected: dict[str, Any]) -> Note:
    """Why a process of the candidate does not have a case that the run has collected."""
    error = collected.get("errors", {}).get(nodeid.partition("::")[0])
    return Note(
        code=NoteCode.UNSTABLE_ID,
        text="another process of the same code collects no test of this id" + (f": {error}" if error else ""),
        hint="give its parameters ids that are the same in every process",
    )


def not_collected_note(nodeid: str, collected: dict[str, Any]) -> Note:
    """Why the base has no such case."""
    module = nodeid.partition("::")[0]
    error = collected.get("errors", {}).get(module)
    if error is None:
        return Note(code=NoteCode.NEW_CASE, text="the base has no such case")
    return Note(
        code=NoteCode.BASE_COLLECTION,
        text=f"{module} cannot be collected on the base: {error}",
        hint="if a file beside the test is missing there, list it under overlay in [tool.infergate]",
    )
