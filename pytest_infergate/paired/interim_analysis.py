"""What happens between launches: interim analyses, time limits and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.domain.values import Note, Struct
from pytest_infergate.core.gate import launch_location, paired_times
from pytest_infergate.core.gate.paired_times import Stage
from pytest_infergate.paired.trial import Trial, decision, log_ratios


class Progress(Struct, frozen=True, kw_only=True):
    """How far a paired run is."""

    launches: int
    decided: int
    cases: int
    confirming: int
    """Cases that look slower, in launches that confirm or refute it."""
    seconds_left: float
    """Until every case is decided, if the next interim analysis that decides most cases decides it."""


class InterimAnalysis:
    """Decides, after each launch, which cases need another one and have the time for it."""

    def __init__(
        self,
        trials: Sequence[Trial],
        max_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trials = trials
        self._max_seconds = max_seconds
        self._clock = clock
        self._begin = clock()
        self.confirming = 0
        """Cases that have gone into confirmation, which share its level."""
        self._overhead = 0.0

    def after_launch(self, waiting: Sequence[Trial], overhead: float) -> None:
        """Decide the cases of a launch; `overhead` is its seconds beyond those of their blocks."""
        self._overhead = overhead
        self._pool_spreads([trial for trial in waiting if trial.stage is Stage.SCREEN])
        # All cases that enter confirmation after this launch share its level, so they are counted first.
        self.confirming += sum(
            trial.waiting and trial.stage is Stage.SCREEN and self._stage(trial) is Stage.CONFIRM
            for trial in waiting
        )
        # Counting has also found the cases whose times cannot be compared, which no longer wait.
        undecided = [trial for trial in waiting if trial.waiting]
        for trial in undecided:
            trial.stage = self._stage(trial)
        # Before any case stops: all notes name the same time that the run would still need.
        spent, left = self._clock() - self._begin, self._seconds_left(launches_to_analysis)
        for trial in undecided:
            stopped = None if trial.stage is Stage.DONE else self._time_limit_note(trial, spent, left)
            if stopped is not None and trial.stage is Stage.PLAIN:
                trial.stage = Stage.DONE  # it is decided already
            else:
                trial.stopped = stopped

    def interrupt(self) -> None:
        """Stop the cases that still wait, with a note on how far each of them came."""
        for trial in [trial for trial in self._trials if trial.waiting]:
            if trial.stage is Stage.PLAIN:
                trial.stage = Stage.DONE
                continue
            self._stage(trial)  # which finds times that cannot be compared
            launches = units.plural(trial.launches, "launch")
            reached = (
                f"after {launches} of this case" if trial.launches else "before a launch of this case ended"
            )
            trial.stopped = Note(
                code=NoteCode.INTERRUPTED,
                text=f"the run was interrupted {reached}",
                hint="run it again; --infer-max-total limits its time",
            )

    def _pool_spreads(self, screened: Sequence[Trial]) -> None:
        """Keep, for the cases that have an analysis of the screen now, the spread of all other cases."""
        for analysis in {len(trial.screen) for trial in screened}.intersection(paired_times.SCREEN_ANALYSES):
            # As many launches of every case, decided or not: a choice by outcome would bias the spread.
            spreads = launch_location.spreads_of_others(
                [log_ratios(trial, analysis) for trial in self._trials]
            )
            for trial, spread in zip(self._trials, spreads, strict=True):
                if trial in screened and len(trial.screen) == analysis:
                    trial.other_spreads[analysis] = spread

    def _stage(self, trial: Trial) -> Stage:
        """The next stage of a case; times that cannot be compared make it invalid."""
        try:
            decided = decision(trial, self.confirming)
        except ValueError:
            trial.invalid = Note(
                code=NoteCode.LATENCY_UNREADABLE,
                text="a call takes less time than the clock can resolve",
                hint="give one call more work",
            )
            return trial.stage
        unchecked = decided.verdict is Verdict.REGRESSED and trial.plain is None
        return Stage.PLAIN if unchecked else decided.stage

    def _time_limit_note(self, trial: Trial, spent: float, left: float) -> Note | None:
        """Why a case stops, if the launches to its next analysis do not fit its time or the run's."""
        needed = trial.seconds + launches_to_analysis(trial) * seconds_per_launch(trial)
        # A launch between two analyses decides nothing: it is all of them or none.
        if trial.launches and needed > trial.spec.max_seconds:
            return Note(
                code=NoteCode.TIME_LIMIT,
                text=f"{units.plural(trial.launches, 'launch')} took the time of this case",
                hint=f"--infer-max-time={units.time_option(needed)} would reach the next interim analysis",
                max_time=needed,
            )
        if self._max_seconds is not None and spent >= self._max_seconds:
            limit = units.duration(self._max_seconds)
            return Note(
                code=NoteCode.TIME_LIMIT,
                text=f"--infer-max-total of {limit} was spent before it was decided",
                hint=f"about {units.duration(left)} more would reach the next interim analysis",
            )
        return None

    def _seconds_left(self, launches_left: Callable[[Trial], int]) -> float:
        waiting = [trial for trial in self._trials if trial.waiting]
        launches = max(map(launches_left, waiting), default=0)  # cases share launches
        blocks = sum(launches_left(trial) * seconds_per_launch(trial) for trial in waiting)
        return blocks + launches * self._overhead

    def progress(self, launches: int) -> Progress:
        """How far the run is after so many launches."""
        waiting = [trial for trial in self._trials if trial.waiting]
        return Progress(
            launches=launches,
            decided=len(self._trials) - len(waiting),
            cases=len(self._trials),
            confirming=sum(trial.stage is not Stage.SCREEN for trial in waiting),
            seconds_left=self._seconds_left(launches_to_likely_end),
        )


def launches_to_analysis(trial: Trial) -> int:
    """Return the launches that a case needs until its next interim analysis."""
    return paired_times.launches_to_next_analysis(trial.stage, len(trial.screen), len(trial.confirm))


def launches_to_likely_end(trial: Trial) -> int:
    """Return the launches until the analysis that decides most cases, or the next one where it has passed."""
    # The analysis before that decides a case only if there are several others.
    screened = paired_times.MIN_LAUNCHES_UNPOOLED - len(trial.screen)
    likely = screened if trial.stage is Stage.SCREEN else 0
    return max(likely, launches_to_analysis(trial))


def seconds_per_launch(trial: Trial) -> float:
    """Return the seconds of a case in one launch, by those of its launches so far."""
    return trial.seconds / max(1, trial.launches)
