"""What a machine says about itself, what was measured on it, and what that allows to decide. SI units."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.values import Struct

DOCTOR_VERSION: Final = 1
"""Version of the JSON document of ``infergate doctor``."""


class GpuReading(Struct, frozen=True, kw_only=True):
    """One board as its driver describes it; ``None`` for what the driver does not report."""

    name: str
    clock_hz: float | None = None
    """Present clock frequency of the arithmetic units."""
    max_clock_hz: float | None = None
    application_clock_hz: float | None = None
    """Clock frequency that was set for applications."""
    default_clock_hz: float | None = None
    """The one that applications have unless another one is set."""
    throttled: tuple[str, ...] = ()
    """Reasons why the clock is throttled."""
    tenants: int | None = None
    """Number of processes that compute on the board."""


class MachineReading(Struct, frozen=True, kw_only=True):
    """What files, environment variables and drivers say; ``None`` for what they do not say."""

    system: str
    """``Linux``, ``Darwin`` or ``Windows``."""
    cores: int
    """Cores that this process may use."""
    virtual: bool | None = None
    """Whether there is a hypervisor."""
    quota: float | None = None
    """CPU quota of the container in cores; 0 without a limit."""
    throttled_seconds: float | None = None
    """Time for which the quota has stopped this container since it was started."""
    governors: tuple[str, ...] | None = None
    """Governors of the clock frequency of the usable cores, without repetitions."""
    turbo: bool | None = None
    """Whether cores may exceed their base clock frequency."""
    smt: bool | None = None
    """Whether two of the usable cores are threads of one physical core."""
    preloaded: tuple[str, ...] = ()
    """File names of the libraries that ``LD_PRELOAD`` names."""
    libc: str | None = None
    """Name of the C library: ``glibc``."""
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    """Variables that set threads and memory: ``OMP_*``, ``KMP_*``, ``GOMP_*``, ``MKL_*``, ``MALLOC_*``."""
    gpus: tuple[GpuReading, ...] | None = None


class ModelLaunches(Struct, frozen=True, kw_only=True):
    """Process launches of one small model of infergate's own, all with identical code."""

    name: str
    measurements: tuple[Measurement, ...] = ()
    """One for each launch on its own, as an ordinary run measures it."""
    differences: tuple[float, ...] = ()
    """Log ratio of the two sides in each paired launch."""


class Examination(Struct, frozen=True, kw_only=True):
    """What was measured on a machine."""

    models: tuple[ModelLaunches, ...] = ()
    paired_overhead: float | None = None
    """Seconds of a paired launch beyond those of its cases."""
    paired_case: float | None = None
    """Seconds of one case in a paired launch."""
    contention: float | None = None
    """Share of the processor time that others took, as in `Measurement`; the median of all cases."""
    stolen: float | None = None
    """Share of the time of the cores that the hypervisor took."""
    throttled_seconds: float | None = None
    """Time for which the quota of the container stopped it meanwhile."""
    seconds: float = 0.0
    """Duration of the examination."""
    missing: tuple[str, ...] = ()
    """What could not be measured, each with the reason."""


class Slowdown(Struct, frozen=True, kw_only=True):
    """A slowdown of which 9 of 10 runs would report that the case regressed, as a ratio."""

    value: float
    low: float
    """The same if the spread is as small as the few launches allow."""
    high: float | None = None
    """The same if it is as large as they allow; ``None`` if no slowdown would be detected then."""


class PairedReach(Struct, frozen=True, kw_only=True):
    """What a paired run of one case can detect in a time."""

    minutes: float
    launches: int
    smallest: Slowdown | None = None
    """``None`` if no slowdown is detected in 9 of 10 runs."""


class StoredReach(Struct, frozen=True, kw_only=True):
    """What a comparison with a baseline can detect, by the number of sessions in it."""

    sessions: int
    smallest: Slowdown


class LaunchSpread(Struct, frozen=True, kw_only=True):
    """Standard deviation between launches on the log scale, with its 80 % interval."""

    value: float
    low: float
    high: float
    degrees: int


class Decidable(Struct, frozen=True, kw_only=True):
    """What this machine can decide, by instrument; ``None`` for an instrument that was not measured."""

    counters: bool | None = None
    """Whether all launches counted the same work, so that any change of it is seen."""
    varying: tuple[str, ...] = ()
    """Counters that differed between launches."""
    paired_spread: LaunchSpread | None = None
    paired: tuple[PairedReach, ...] = ()
    stored_spread: LaunchSpread | None = None
    """Of medians that are corrected by the reference workloads."""
    raw_spread: LaunchSpread | None = None
    """Of medians as measured."""
    stored: tuple[StoredReach, ...] = ()
    budget: float | None = None
    """Ratio by which a time must be below its limit to meet the budget without any recorded session."""
    budget_recorded: float | None = None
    """The same with a full baseline of sessions that spread as these launches did."""


class FindingState(str, enum.Enum):
    """What a finding says about the machine."""

    COSTS = "costs"
    GOOD = "good"
    UNKNOWN = "unknown"


class Finding(Struct, frozen=True, kw_only=True):
    """One property of the machine that limits what can be decided, or does not."""

    subject: str
    state: FindingState
    seen: str
    cost: str = ""
    hint: str = ""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """The document of ``infergate doctor``."""

    schema_version: int
    """`DOCTOR_VERSION` of the code that wrote it."""
    tool_version: str
    created: str
    """UTC, ISO 8601."""
    reading: MachineReading
    models: tuple[str, ...] = ()
    launches: int = 0
    """Process launches of each model on its own."""
    paired_launches: int = 0
    seconds: float = 0.0
    decidable: Decidable = Decidable()
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
