"""What is decided about cases: results, comparisons, budget checks, verdicts and sessions."""

from __future__ import annotations

import enum

import msgspec

from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.measurement import Estimate, Measurement, Peaks
from pytest_infergate.core.domain.model import SCHEMA_VERSION, Case, Environment, Hardware, Note, Struct
from pytest_infergate.core.domain.notes import NoteCode


class Outcome(str, enum.Enum):
    """What became of a case before anything was judged."""

    MEASURED = "measured"
    INVALID = "invalid"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    SKIPPED = "skipped"


class Price(Struct, frozen=True, kw_only=True):
    """What an hour of the machine costs that a case stands for."""

    usd_per_hour: float
    """As it is paid: on demand, without the discount of a commitment."""
    utilisation: float
    """Share of its capacity that is planned to be used, above 0 and at most 1."""
    source: str
    """Where it comes from: instance, region, way of paying, day."""
    notes: tuple[Note, ...] = ()
    """What makes it doubtful."""


class CaseResult(Struct, frozen=True, kw_only=True):
    """One case of a session: what was measured, or why not."""

    case: Case
    nodeid: str
    outcome: Outcome
    hardware: Hardware | None = None
    """``None`` where the device is absent."""
    measurement: Measurement | None = None
    reason: Note | None = None
    """Why there is no valid measurement."""
    budgets: tuple[Budget, ...] = ()
    tolerance: dict[str, float | None] = msgspec.field(default_factory=dict)
    """By metric; ``None`` does not gate it."""
    gate: GateMode | None = None
    """The marker's own say; ``None``: as the session says."""
    unit: str | None = None
    """What one element of a batch is called, where the author has a word for it."""
    line: int | None = None
    """Of the test in its file, from 1; ``None`` where its body stands in another file."""
    peaks: Peaks | None = None
    """Taken where a report or a results file is written."""
    price: Price | None = None
    """``None`` where nobody said what the machine stands for, or it is another machine."""
    unpriced: Note | None = None
    """Why there is no price, where a budget needs one."""
    demand: float | None = None
    """Items a second that are to be served, where the author or the user says so."""
    streams: int | None = None
    """That the demand comes from at equal distances; ``None`` where requests come at random."""


class GateMode(str, enum.Enum):
    """What a failing verdict does to the run."""

    FAIL = "fail"
    WARN = "warn"
    OFF = "off"


class Budget(Struct, frozen=True, kw_only=True):
    """A limit that the author of a test set, in the unit that the metric's name says."""

    metric: str
    limit: float


class Verdict(str, enum.Enum):
    """What the evidence says of a case, gravest first."""

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
    """One operator in one place that moved a counter."""

    operator: str
    place: str = ""
    """As in `OperatorWork`."""
    change: int
    """In the unit of the counter, over all the places that stand together."""
    share: float
    """Of all that moved the same way, 0 to 1."""


class Comparison(Struct, frozen=True, kw_only=True):
    """One metric of a case against its baseline. Effects are ratios: +0.05 is five per cent more."""

    metric: str
    verdict: Verdict
    evidence: str
    """``stored``, ``exact``, ``paired``, or ``parity`` for what was computed."""
    baseline: float | None = None
    candidate: float | None = None
    effect: float | None = None
    """Corrected for the speed of the machine where the evidence allows it."""
    low: float | None = None
    high: float | None = None
    tolerance: float | None = None
    smallest_detectable: float | None = None
    sessions: int = 0
    note: Note | None = None
    causes: tuple[Cause, ...] = ()
    """What moved an exact counter, the largest share first."""


class BudgetCheck(Struct, frozen=True, kw_only=True):
    """One budget of a case: kept (``verdict`` is ``None``), over, or not decided."""

    budget: Budget
    verdict: Verdict | None
    value: Estimate | None = None
    """In the unit of the budget."""
    note: Note | None = None
    missing: str = ""
    """What a budget needs that was not decided, without the name of the budget; else empty."""


class CaseVerdict(Struct, frozen=True, kw_only=True):
    """The one judgement of a case, and what it rests on."""

    case: Case
    nodeid: str
    verdict: Verdict
    failed: bool
    """Whether it turns the build red under the policy of the run."""
    comparisons: tuple[Comparison, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()
    notes: tuple[Note, ...] = ()
    machine: str = ""
    """Id of the hardware class, where results of several machines stand together."""

    @property
    def accepted(self) -> bool:
        """Whether it would turn the build red, had a commit not accepted it."""
        return any(note.code == NoteCode.ACCEPTED for note in self.notes)


class Policy(Struct, frozen=True, kw_only=True):
    """How evidence is turned into pass or fail; parsed once from the command line, markers and ini."""

    gate: GateMode = GateMode.FAIL
    strict: bool = False
    saving: bool = False
    min_decided: float | None = None
    """Least share of cases that must be decided, 0 to 1."""
    time_tolerance: float = 0.25
    """Slowdown that stored timing tolerates."""
    memory_tolerance: float = 0.01
    gate_estimates: bool = False
    """Whether a budget may be held against an estimate of the energy."""


class GateResult(Struct, frozen=True, kw_only=True):
    """The outcome of a run, computed once, before anything is rendered."""

    passed: bool
    headline: str
    reasons: tuple[str, ...] = ()
    """Why the run fails, one sentence each; empty where it passes."""
    verdicts: tuple[CaseVerdict, ...] = ()
    decided: int = 0
    new: tuple[Case, ...] = ()
    """Measured now, unknown to the baseline."""
    missing: tuple[Case, ...] = ()
    """In the baseline, and gone from what was collected."""
    renamed: tuple[tuple[Case, Case], ...] = ()
    """Missing and new cases that look like one: old, new."""
    deselected: tuple[Note, ...] = ()
    """Tests without a case on the axes that this run asked for."""

    @property
    def nothing_decided(self) -> bool:
        """Whether there are cases, none of them was decided, and none of them is a reason to fail."""
        return self.passed and bool(self.verdicts) and self.decided == 0


class Against(Struct, frozen=True, kw_only=True):
    """What a paired run was compared with."""

    revision: str | None = None
    """As the user named it; ``None`` where only the interpreters differ."""
    commit: str | None = None
    """The merge base with what was checked out."""
    python: str | None = None
    """The base's own interpreter, where it has one."""
    launches: int = 0
    seconds: float = 0.0
    accepted: dict[str, str] = msgspec.field(default_factory=dict)
    """Reasons by pattern, of the trailers ``Infergate-Accept`` since the base."""


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
    """``None`` where the run was compared with a stored baseline."""
    advice: Recommendations | None = None
    """``None`` where no test of the run has a demand, and in a paired run."""


class Merged(Struct, frozen=True, kw_only=True):
    """Sessions of several machines: the content of a merged results file."""

    schema_version: int = SCHEMA_VERSION
    sessions: tuple[Session, ...]
