"""The nouns. Frozen values that travel between processes, files and reports; SI units throughout.

``None`` always means *absent*: not measured, not known, not applicable.
"""

from __future__ import annotations

import enum
import hashlib
import re

import msgspec

SCHEMA_VERSION = 1
"""Version of the result and baseline files. It grows when a reader of the old form would misread the new."""


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all nouns: frozen, defaults left out of files, unknown fields refused."""


class Note(Struct, frozen=True, kw_only=True):
    """Something the reader should know about a figure, and what to do about it."""

    code: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.cure})" if self.cure else self.text


class Case(Struct, frozen=True, kw_only=True, order=True):
    """The key of one measured case: a test, its own parameters, and one value on every axis."""

    test: str
    """Path and name, ``tests/test_model.py::test_embedder``."""
    params: str = ""
    """Id of the user's own parameters, as pytest prints it."""
    device: str
    runtime: str = "eager"
    dtype: str | None = None
    """``None``: the dtype the model came with."""
    batch_size: int = 1
    threads: int | None = None
    """``None``: as many as torch takes by itself."""

    @property
    def order(self) -> tuple[str | int, ...]:
        """To sort by: by test, axes in their natural order, an absent value before any other."""
        axes = self.device, self.runtime, self.dtype or "", self.batch_size, self.threads or 0
        return self.test, self.params, *axes

    @property
    def module(self) -> str:
        """Path of the test's file."""
        return self.test.partition("::")[0]

    @property
    def name(self) -> str:
        """How people read it: only the axes that differ from their default, the device always."""
        parts = [self.device]
        if self.runtime != "eager":
            parts.append(self.runtime)
        if self.dtype is not None:
            parts.append(self.dtype)
        if self.batch_size != 1:
            parts.append(f"b{self.batch_size}")
        if self.threads is not None:
            parts.append(f"t{self.threads}")
        if self.params:
            parts.append(self.params)
        return f"{self.test}[{'-'.join(parts)}]"


class Hardware(Struct, frozen=True, kw_only=True):
    """What makes times comparable. Two machines of one class may stand in one baseline file."""

    cpu_model: str
    isa: tuple[str, ...] = ()
    """Vector extensions that torch dispatches on, widest last."""
    cores: int
    """Cores this process may use: affinity and container quota, not what the board has."""
    accelerator: str | None = None
    accelerator_count: int = 0
    driver: str | None = None
    """Major version of the accelerator's driver."""

    @property
    def id(self) -> str:
        """A file name: readable words and a hash over every field."""
        words = [self.cpu_model, f"{self.cores}c"]
        if self.accelerator is not None:
            words += [f"{self.accelerator_count}x", self.accelerator]
        slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:60].strip("-")
        digest = hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(self))).hexdigest()[:8]
        return f"{slug}-{digest}"

    @property
    def words(self) -> str:
        """What people call it: the accelerators, or the processor and its cores."""
        if self.accelerator is not None:
            return f"{self.accelerator_count} x {self.accelerator}"
        return f"{self.cores} core{'' if self.cores == 1 else 's'} of {self.cpu_model}"

    def difference(self, other: Hardware) -> str:
        """Name the first property in which two classes differ: ``other CPU model``."""
        properties = {
            "cpu_model": "CPU model",
            "cores": "core count",
            "isa": "instruction set",
            "accelerator": "accelerator",
            "accelerator_count": "accelerator count",
            "driver": "driver version",
        }
        for field, words in properties.items():
            if getattr(self, field) != getattr(other, field):
                return f"other {words}"
        return ""


class Environment(Struct, frozen=True, kw_only=True):
    """What else was there. Recorded and shown, not part of any key: an upgrade that slows is a finding."""

    os: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    """Versions of the packages that inference depends on, by distribution name."""
    virtual: bool = True
    """Under a hypervisor, where the speed of a launch follows the neighbours."""
    memory_bytes: int | None = None
    wait_policy: str | None = None
    """``OMP_WAIT_POLICY`` as the user set it; it changes the time of small models by a factor of three."""


class Estimate(Struct, frozen=True, kw_only=True):
    """A figure with its one-sided 99 % bounds; a bound that the samples cannot give is ``None``."""

    value: float
    low: float | None = None
    high: float | None = None


class Latency(Struct, frozen=True, kw_only=True):
    """Wall time of one call with the device synchronised before and after, in seconds."""

    count: int
    mean: float
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate
    percentiles: tuple[float, ...] = ()
    """The 0th to the 100th percentile, for pictures: 101 values."""


class Memory(Struct, frozen=True, kw_only=True):
    """Memory of one call, in bytes."""

    weights: int | None = None
    """Parameters and buffers; ``None`` for a plain callable, which hides them."""
    activations: int | None = None
    """Allocator peak of one call above where the call began."""
    reserved: int | None = None
    """Peak that an accelerator's allocator reserved from the device."""
    host_peak: int | None = None
    """Peak resident memory of the test's process during the case, libraries included."""

    @property
    def peak(self) -> int | None:
        """Weights, where known, and the peak of one call: what the model needs on the device."""
        return None if self.activations is None else self.activations + (self.weights or 0)


class Stream(Struct, frozen=True, kw_only=True):
    """Timing of a result that arrives item by item, in seconds."""

    items: float
    """Items a call, mean."""
    first_item: Latency
    between_items: Latency | None = None
    """``None`` where a call yields one item."""


class Energy(Struct, frozen=True, kw_only=True):
    """What one call took of everything that a meter saw while calls were issued back to back."""

    joules: float
    """A call: all that the board or package took in the window, idle power included, over its calls."""
    source: str
    """``nvml``, ``rapl`` or ``estimate``."""
    scope: str
    """What is covered: ``board``, ``package``, or ``vcpus`` of an estimate."""
    seconds: float
    """Length of the window; for an estimate, of the calls that were timed."""
    calls: int
    """In the window."""
    batch_size: int = 1
    idle_watts: float | None = None
    """Power of the same board or package between calls, right after the window."""

    @property
    def estimated(self) -> bool:
        """Whether nobody measured it."""
        return self.source == "estimate"


class Peaks(Struct, frozen=True, kw_only=True):
    """What a device was seen to reach on work made for it, with the threads of the case."""

    flops: dict[str, float] = {}
    """Floating point operations a second of a large product, by dtype."""
    bandwidth: float
    """Bytes a second of a large copy, read and written counted both."""


class Crew(Struct, frozen=True, kw_only=True):
    """What several processes with the same model do on one machine at once."""

    workers: int
    throughput: float
    """Items a second of all of them."""
    calls: int
    """Of all of them, that were timed."""
    mean: float
    """Seconds of a call."""
    percentiles: tuple[float, ...]
    """The 0th to the 100th percentile of the seconds of a call, averaged over the workers: 101 values."""
    threads: int | None = None
    """Threads torch used inside an operator, in each."""


class WarmUp(Struct, frozen=True, kw_only=True):
    """What it took to reach the steady state."""

    calls: int
    seconds: float
    steady: bool


class OperatorWork(Struct, frozen=True, kw_only=True, order=True):
    """What one operator does in one place of a model during one call."""

    operator: str
    """As torch's dispatcher names it, ``aten::addmm``, without its overload."""
    place: str = ""
    """Module path, ``encoder.layer.3.attention``; equal places stand together, ``encoder.layer.{0-11}``,
    and the figures are those of each. Empty outside of any module."""
    calls: int
    flops: int = 0
    """Floating point operations, a multiplication and an addition counted as two."""
    bytes: int = 0
    """Read and written."""


class Counters(Struct, frozen=True, kw_only=True):
    """Exact figures of one call, taken in passes of their own: no clock, no noise."""

    totals: dict[str, int] = {}
    """By counter name, see `core.metrics.COUNTERS`."""
    weights: dict[str, int] = {}
    """Bytes of parameters and buffers, by dtype."""
    operators: tuple[OperatorWork, ...] = ()
    architecture: str = ""
    """Instruction set or GPU architecture that torch chooses its operators by."""
    varying: dict[str, tuple[int, int]] = {}
    """Totals that repetitions did not agree on: the least and the most. Empty where nobody repeated."""


class Measurement(Struct, frozen=True, kw_only=True):
    """Everything measured of one case on one machine in one launch. Times in seconds."""

    latency: Latency
    throughput: float
    """Items a second: calls issued back to back with one synchronisation at the end, times the batch size."""
    cold_start: float
    """First call in this process."""
    warm_up: WarmUp
    memory: Memory = Memory()
    enqueue: float | None = None
    """Median time until the call returns, on an accelerator; the device may still be working."""
    device_time: float | None = None
    """Summed kernel durations of one call, on an accelerator."""
    host_to_host: float | None = None
    """Median with inputs copied to the device and outputs back to the host, where that differs."""
    page_faults: float | None = None
    """Minor page faults a call, on the CPU."""
    stream: Stream | None = None
    yardsticks: dict[str, float] = {}
    """Median seconds of each yardstick, interleaved with the case."""
    counters: Counters = Counters()
    threads: int | None = None
    """Threads torch used inside an operator."""
    disturbance: float | None = None
    """Share of the case's processor time that other processes took while it was timed, 0.5 being half a
    core from each thread. ``None`` where the system does not tell."""
    energy: Energy | None = None
    """``None`` where neither a meter nor a table tells it."""
    crews: tuple[Crew, ...] = ()
    """Taken where several workers are asked for."""
    notes: tuple[Note, ...] = ()


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
    tolerance: dict[str, float | None] = {}
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
        return any(note.code == "accepted" for note in self.notes)


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
    accepted: dict[str, str] = {}
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


class Merged(Struct, frozen=True, kw_only=True):
    """Sessions of several machines: the content of a merged results file."""

    schema_version: int = SCHEMA_VERSION
    sessions: tuple[Session, ...]


class BaselinePoint(Struct, frozen=True, kw_only=True):
    """What one session says of one case: a launch median and the machine's speed beside it."""

    created: str
    """The session: UTC, ISO 8601."""
    p50: float
    """Seconds."""
    count: int
    """Calls behind the median."""
    yardsticks: dict[str, float] = {}
    disturbed: bool = False
    """Whether others took so much of its processor time that the yardsticks do not mend it."""


class BaselineCase(Struct, frozen=True, kw_only=True):
    """The history of one case, oldest session first."""

    case: Case
    sessions: tuple[BaselinePoint, ...]


class Baseline(Struct, frozen=True, kw_only=True):
    """What is known of one hardware class: the content of a baseline file."""

    schema_version: int = SCHEMA_VERSION
    hardware: Hardware
    cases: tuple[BaselineCase, ...] = ()
    packages: dict[str, dict[str, str]] = {}
    """Package versions of each session that a case still names, by its ``created``."""

    def history(self, case: Case) -> tuple[BaselinePoint, ...]:
        """Sessions of one case, oldest first; empty where it is unknown."""
        return next((entry.sessions for entry in self.cases if entry.case == case), ())


class CounterKey(Struct, frozen=True, kw_only=True):
    """What counters must share to compare; all absent compares everywhere."""

    torch: str | None = None
    """Version."""
    architecture: str | None = None
    threads: int | None = None


class Tally(Struct, frozen=True, kw_only=True):
    """Counters of one case under one key."""

    key: CounterKey
    counters: dict[str, int | None]
    """``None``: it varies from call to call. A name of two words is a part of its first."""
    operators: tuple[OperatorWork, ...] = ()


class CounterRecord(Struct, frozen=True, kw_only=True):
    """What is on record of one case, or was counted now."""

    case: Case
    tallies: tuple[Tally, ...]
