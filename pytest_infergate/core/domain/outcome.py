"""Results and decisions: cases, comparisons, budget checks, verdicts and sessions."""

from __future__ import annotations

import enum

import msgspec

from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.measurement import Estimate, Measurement, Peaks
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import SCHEMA_VERSION, Case, Environment, Hardware, Note, Struct


class Outcome(str, enum.Enum):
    """How the measurement of a case ended, before anything is judged."""

    MEASURED = "measured"
    INVALID = "invalid"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    SKIPPED = "skipped"


class Price(Struct, frozen=True, kw_only=True):
    """Price of the machine that serves the model."""

    usd_per_hour: float
    """The on-demand price less the discount of a commitment."""
    utilisation: float
    """Planned share of the capacity, greater than 0 and at most 1."""
    source: str
    """Instance, region, way of paying, and day of the price."""
    notes: tuple[Note, ...] = ()
    """Reasons to doubt the price."""


class CaseResult(Struct, frozen=True, kw_only=True):
    """One case of a session: its measurement, or the reason why there is none."""

    case: Case
    nodeid: str
    outcome: Outcome
    hardware: Hardware | None = None
    """``None`` if the device is absent."""
    measurement: Measurement | None = None
    reason: Note | None = None
    """Reason why there is no valid measurement."""
    budgets: tuple[Budget, ...] = ()
    tolerance: dict[str, float | None] = msgspec.field(default_factory=dict)
    """Tolerated growth as a ratio by metric; ``None`` does not gate the metric."""
    gate: GateMode | None = None
    """Gate of the marker, which overrides that of the policy."""
    unit: str | None = None
    """Name of one element of a batch."""
    line: int | None = None
    """Line of the test in its file, from 1; ``None`` if its body is in another file."""
    peaks: Peaks | None = None
    """Measured only if a report or a results file is written."""
    # Attached to the result, so that a merged report needs no price table.
    price: Price | None = None
    """``None`` if no instance type or price is configured for the machine, or if it is another machine."""
    unpriced: Note | None = None
    """Reason why a price that a budget needs is missing."""
    demand: float | None = None
    """Items per second that the service must handle, from the marker or the command line."""
    streams: int | None = None
    """Number of periodic streams that make the demand; ``None`` if requests arrive at random."""


class GateMode(str, enum.Enum):
    """Effect of a failing verdict on the run."""

    FAIL = "fail"
    WARN = "warn"
    OFF = "off"


class Budget(Struct, frozen=True, kw_only=True):
    """A limit from the marker or `[tool.infergate.budgets]`, in the unit of the metric's name."""

    metric: str
    limit: float


class Verdict(str, enum.Enum):
    """Conclusion about a case, the most severe first."""

    # The order decides which of several verdicts a case has, and the order of every report. It starts with
    # what fails by default.
    REGRESSED = "regressed"
    OVER_BUDGET = "over-budget"
    MISMATCH = "mismatch"
    INVALID = "invalid"
    INFEASIBLE = "infeasible"
    SUSPECTED = "suspected"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"
    NO_BASELINE = "no-baseline"
    SLOWER_WITHIN_TOLERANCE = "slower-within-tolerance"
    IMPROVED = "improved"
    EQUIVALENT = "equivalent"
    NOT_MEASURED = "not-measured"


class Cause(Struct, frozen=True, kw_only=True):
    """One operator in one place that changed a counter."""

    operator: str
    place: str = ""
    """As in `OperatorWork`."""
    change: int
    """Change in the unit of the counter, summed over all places of the row."""
    share: float
    """Share of all changes in the same direction, 0 to 1."""
    calls: int = 0
    """Change of the number of calls; 0 if it is not known."""


class Comparison(Struct, frozen=True, kw_only=True):
    """One metric of a case compared with its baseline. Effects are relative: +0.05 is 5 % more."""

    metric: str
    verdict: Verdict
    evidence: str
    """``stored`` or ``paired`` for times, ``exact`` for counters, ``parity`` for outputs beside those of the
    base, ``reference`` for outputs beside those of eager PyTorch on the CPU, ``accuracy`` for the figure of
    the user's function beside that of the same."""
    baseline: float | None = None
    """The value that is expected; for a stored time, the recorded one corrected for the machine's speed."""
    recorded: float | None = None
    """The recorded time of a stored comparison before its correction: the geometric mean over sessions."""
    candidate: float | None = None
    effect: float | None = None
    """Relative change, corrected for the speed of the machine if reference workloads allow it."""
    low: float | None = None
    high: float | None = None
    tolerance: float | None = None
    smallest_detectable: float | None = None
    sessions: int = 0
    note: Note | None = None
    base_runtime: str | None = None
    """Runtime of the base in a paired run that compares runtimes."""
    causes: tuple[Cause, ...] = ()
    """Operators that changed an exact counter, the largest share first."""


class BudgetCheck(Struct, frozen=True, kw_only=True):
    """One budget of a case: within its limit (``verdict`` is ``None``), exceeded, or not decided."""

    budget: Budget
    verdict: Verdict | None
    value: Estimate | None = None
    """Value in the unit of the budget."""
    note: Note | None = None
    missing: str = ""
    """What was missing to decide the budget, without the name of the budget; empty if it was decided."""


class CaseVerdict(Struct, frozen=True, kw_only=True):
    """The verdict of a case and the evidence for it."""

    case: Case
    nodeid: str
    verdict: Verdict
    failed: bool
    """Whether the case fails the run under its policy."""
    comparisons: tuple[Comparison, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()
    notes: tuple[Note, ...] = ()
    unchecked: int = 0
    """Number of budgets that were not checked, because the run takes no times."""
    machine: str = ""
    """Id of the hardware class in merged results of several machines; else empty."""
    against_base: bool = False
    """Whether counters were compared with those of a base, without times, and not with a record."""

    @property
    def accepted(self) -> bool:
        """Whether the case would fail the run if a commit did not accept its change."""
        # By its code: the text contains the reason of the user.
        return any(note.code == NoteCode.ACCEPTED for note in self.notes)


class Judged(Struct, frozen=True, kw_only=True):
    """A case with its verdict."""

    result: CaseResult
    verdict: CaseVerdict


class Policy(Struct, frozen=True, kw_only=True):
    """The rules that turn evidence into pass or fail."""

    gate: GateMode = GateMode.FAIL
    strict: bool = False
    saving: bool = False
    min_decided: float | None = None
    """Smallest share of the cases that must be decided, 0 to 1."""
    # Stored timing detects slowdowns of 19 to 133 % on a shared machine (docs/method.md): a smaller tolerance
    # would not make it finer.
    time_tolerance: float = 0.25
    """Slowdown that stored timing tolerates unless the case has its own tolerance."""
    memory_tolerance: float = 0.01
    """Growth of the memory peak that is tolerated unless the case has its own tolerance."""
    gate_estimates: bool = False
    """Whether an estimate of the energy decides a budget."""


class GateResult(Struct, frozen=True, kw_only=True):
    """The result of a run, computed once, before anything is rendered."""

    passed: bool
    headline: str
    reasons: tuple[str, ...] = ()
    """Reasons why the run fails, one sentence each; empty if it passes."""
    verdicts: tuple[CaseVerdict, ...] = ()
    decided: int = 0
    new: tuple[Case, ...] = ()
    """Cases that the baseline does not contain."""
    missing: tuple[Case, ...] = ()
    """Cases of the baseline that were not collected."""
    renamed: tuple[tuple[Case, Case], ...] = ()
    """Pairs of a missing and a new case that are probably the same: old, new."""
    deselected: tuple[Note, ...] = ()
    """Tests without a case on the axes that the run requests."""
    blind: tuple[Case, ...] = ()
    """Undecided cases that could not have shown a slowdown of their tolerance, or an exceeded budget."""
    recording: bool = False
    """Whether the run records a baseline, so that it accepts regressions."""

    @property
    def nothing_decided(self) -> bool:
        """Whether the run has cases and passes, but none of the cases was decided."""
        # A run without cases is another matter: its headline says so.
        return self.passed and bool(self.verdicts) and self.decided == 0


class Against(Struct, frozen=True, kw_only=True):
    """The base of a paired run."""

    revision: str | None = None
    """Revision as the user named it; ``None`` if only the interpreters differ."""
    commit: str | None = None
    """Merge base of the revision and the checked out commit."""
    python: str | None = None
    """Interpreter of the base, if it is not that of the candidate."""
    runtime: str | None = None
    """Runtime that executes the cases on the base, if they are compared with those of another one."""
    launches: int = 0
    seconds: float = 0.0
    counters_only: bool = False
    """Whether counters and outputs were compared, and no times."""
    accepted: dict[str, str] = msgspec.field(default_factory=dict)
    """Reasons by pattern over cases, from ``Infergate-Accept`` trailers of commits since the base."""


class Session(Struct, frozen=True, kw_only=True):
    """One run on one machine: the content of a results file."""

    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created: str
    """UTC, ISO 8601."""
    environment: Environment
    cases: tuple[CaseResult, ...]
    gate: GateResult
    against: Against | None = None
    """``None`` if the run was compared with a stored baseline."""
    advice: Recommendations | None = None
    """``None`` if no test of the run has a demand, and in a paired run."""


class Merged(Struct, frozen=True, kw_only=True):
    """Sessions of several machines: the content of a merged results file."""

    schema_version: int = SCHEMA_VERSION
    sessions: tuple[Session, ...]
