"""The state of one case during a paired run."""

from __future__ import annotations

from typing import NamedTuple

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import paired_times
from pytest_infergate.core.gate.launch_location import Spread
from pytest_infergate.core.gate.paired_times import PairedTerms, Stage
from pytest_infergate.outputs.value_differences import PAIRED, Sides
from pytest_infergate.paired.alternation import SamplingPlan
from pytest_infergate.paired.protocol import CasesCollected, PhaseReported
from pytest_infergate.paired.worker_handle import Side


class TrialSpec(NamedTuple):
    """A case to be decided."""

    nodeid: str
    terms: PairedTerms = PairedTerms()
    max_seconds: float = 60.0
    """That its blocks may take, over all launches."""
    output_tolerance: float | None = None
    """Share by which its output may differ from the base's; ``None`` is that of the dtype."""
    compare_outputs: bool = True
    sides: Sides = PAIRED
    """How both sides are called where their outputs differ, and in which precision they may."""


class Trial:
    """What is known of one case so far."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self.screen: list[Launch] = []
        self.confirm: list[Launch] = []
        self.plain: Launch | None = None
        """Of plain processes: made before a case is called regressed."""
        self.stage = Stage.SCREEN
        self.other_spreads: dict[int, Spread] = {}
        """By interim analysis of the screen, the spread between launches of the other cases."""
        self.reports: list[PhaseReported] = []
        """Of the candidate's test: those of the last launch, or of the one in which it failed."""
        self.incoming_reports: list[PhaseReported] = []
        """Those of a test that has not ended yet."""
        self.measurements: dict[Side, Measurement | None] = {}
        self.no_base: Note | None = None
        """Why there is nothing to compare with."""
        self.output_difference: str | None = None
        self.uncompared_outputs: tuple[str, ...] = ()
        """Places of the output that could not be compared, each with the reason."""
        self.invalid: Note | None = None
        self.stopped: Note | None = None
        """Why there are no more launches although nothing is decided."""
        self.infeasible: Note | None = None
        """The candidate ran out of memory, or its model cannot be converted."""
        self.lost: Note | None = None
        """The candidate's process ended during this case."""
        self.separate = False
        """Whether its sides run one after the other, because both models do not fit into memory."""
        self.memory_conflict = False
        """Whether this launch showed that; its reports are discarded."""
        self.seconds = 0.0
        """That its blocks and warm-ups have taken."""
        self.warm_up_calls: int | None = None
        """Fixed by the first launch."""
        self.sampling_plans: dict[Stage, SamplingPlan] = {}
        """Fixed by the first launch."""

    @property
    def launches(self) -> int:
        """Launches with blocks of both sides."""
        return len(self.screen) + len(self.confirm) + (self.plain is not None)

    @property
    def waiting(self) -> bool:
        """Whether it needs another launch."""
        # A difference of outputs does not end a case: its change of speed is still of interest.
        ended = (self.no_base, self.invalid, self.stopped, self.infeasible, self.lost)
        return self.stage is not Stage.DONE and not any(ended) and not self.failed

    @property
    def failed(self) -> bool:
        """Whether the candidate's own test failed, or was skipped by the user."""
        return any(report.outcome != "passed" for report in self.reports)

    def add(self, launch: Launch) -> None:
        """Add the blocks of a launch to the current stage."""
        if self.stage is Stage.PLAIN:
            self.plain = launch
        else:
            (self.screen if self.stage is Stage.SCREEN else self.confirm).append(launch)


def decision(trial: Trial, confirming: int) -> paired_times.Decision:
    """Decide a case from its launches so far; `confirming` cases share the level of the confirmation.

    Raises `ValueError` for times that are not above 0.
    """
    # Launches of the screen were chosen for looking slow: they cannot confirm what made them be chosen.
    return paired_times.decide(
        [launch.difference for launch in trial.screen],
        [launch.difference for launch in trial.confirm],
        trial.spec.terms,
        confirming=confirming,
        others=trial.other_spreads,
    )


def log_ratios(trial: Trial, analysis: int) -> list[float]:
    """Log ratios of the first launches of the screen; empty if a time is not above 0."""
    try:
        return [launch.difference for launch in trial.screen[:analysis]]
    except ValueError:
        return []


def unstable_id_note(nodeid: str, collected: CasesCollected) -> Note:
    """Why a process of the candidate lacks a case that the run has collected."""
    error = collected.errors.get(nodeid.partition("::")[0])
    return Note(
        code=NoteCode.UNSTABLE_ID,
        text="another process of the same code collects no test of this id" + (f": {error}" if error else ""),
        hint="give its parameters ids that are the same in every process",
    )


def not_collected_note(nodeid: str, collected: CasesCollected) -> Note:
    """Why the base lacks a case."""
    module = nodeid.partition("::")[0]
    error = collected.errors.get(module)
    if error is None:
        return Note(code=NoteCode.NEW_CASE, text="the base has no such case")
    return Note(
        code=NoteCode.BASE_COLLECTION,
        text=f"{module} cannot be collected on the base: {error}",
        hint="if a file that the test needs is missing there, list it under overlay in [tool.infergate]",
    )
