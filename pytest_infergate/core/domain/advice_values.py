"""Advice as values, which `core.advice` computes and a session carries to every report."""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from pytest_infergate.core.domain.hardware_names import with_article
from pytest_infergate.core.domain.sampled import Sampled
from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.core.domain.values import Note, Struct

PATTERNS: Final = ("poisson", "periodic")
"""How requests arrive: at random moments, or at equal intervals within each stream."""
# An instance takes minutes to boot, pull an image and load the weights of a model. Users know theirs better:
# `infergate advise --scale-up`.
SCALE_UP: Final = 300.0
"""Default time in seconds from the order of a machine until it serves."""


class Demand(Struct, frozen=True, kw_only=True):
    """Requests that a service must answer as they come.

    Raises `ValueError` for a rate that is not greater than 0 and finite, and for several random streams.
    """

    rate: float
    """Requests per second of all streams together."""
    pattern: Literal["poisson", "periodic"] = "poisson"
    streams: int = 1

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(not_one_of("pattern", self.pattern, PATTERNS))
        if self.streams < 1:
            raise ValueError(f"streams must be at least 1, got {self.streams}")
        # The period of a stream, `streams / rate`, must be finite as well.
        if not (math.isfinite(self.rate) and self.rate > 0 and math.isfinite(self.streams / self.rate)):
            raise ValueError(f"rate must be greater than 0 and finite, got {self.rate}")
        if self.streams > 1 and self.pattern != "periodic":
            raise ValueError(f"streams must be 1 unless the pattern is periodic, got {self.streams}")

    @property
    def period(self) -> float | None:
        """Seconds between two requests of one stream; ``None`` if requests arrive at random."""
        return self.streams / self.rate if self.pattern == "periodic" else None


class QueueLoad(Struct, frozen=True, kw_only=True):
    """Load and latency of a server under a demand. Latencies are waiting plus service, in seconds."""

    requests: int
    """Number of requests behind the latencies, without those of the warm-up."""
    mean: float
    p50: float
    p95: float
    p95_error: float | None = None
    """Relative standard error of p95, by the simulation alone; ``None`` for few requests."""
    p99: float
    missed: float | None = None
    """Share of requests answered after the deadline; ``None`` without a deadline."""
    utilisation: float
    """Share of their time that the workers are busy. With small batches it exceeds the offered load."""
    offered: float | None = None
    """Offered load: demand over the capacity of the workers in full batches; ``None`` in a replay."""
    mean_batch: float
    interpolated: bool = False
    """Whether some batches had a size between two measured sizes."""
    stable: bool = True
    """Whether the queue stays bounded while requests arrive."""


class Scaled(Struct, frozen=True, kw_only=True):
    """A plan whose number of machines follows the hour of the day.

    Raises `ValueError` for a day without hours.
    """

    instances: tuple[int, ...]
    """Machines needed in each hour of the day."""
    usd_per_month: float
    """Cost including the time that machines take to start."""

    def __post_init__(self) -> None:
        if not self.instances:
            raise ValueError("a scaled plan needs the instances of at least one hour")


class Electricity(Struct, frozen=True, kw_only=True):
    """Energy that the instances of a plan use at the demand, idle time included."""

    joules_per_item: float
    kwh_per_month: float
    grams_co2e_per_month: float
    basis: str
    """Factors behind CO2e: ``475 g/kWh (world, 2019)``."""
    source: str
    """As in `Energy`: ``nvml``, ``rapl`` or ``estimate``."""
    scope: str


class Plan(Struct, frozen=True, kw_only=True):
    """One deployment with a batching server and a number of instances, simulated and priced."""

    deployment: str
    """Text of the deployment: ``c7i.xlarge (cpu)``."""
    instance: str
    price: str
    """Source of the price: provider, region, way of paying, day."""
    usd_per_hour: float
    user_specified: bool
    """Whether the user specified the instance type of the measured machine."""
    assumed: str = ""
    """How the price was assumed, if the machine is not in the price table; empty for a known price."""
    unverified: bool = False
    """Whether the price table does not know the day of the price."""
    device: str
    runtime: str
    dtype: str | None = None
    threads: int | None = None
    """Threads of each process; ``None`` for one process with the number that torch chooses."""
    workers: int = 1
    """Processes on each instance."""
    hardware: str
    max_batch: int
    max_wait: float
    """Seconds."""
    instances: int
    usd_per_month: float
    """Cost of all instances around the clock, as many as the peak needs."""
    usd_per_month_with_spare: float
    """Cost with one instance more than the demand needs."""
    usd_per_million: float
    """Cost of a million items at this demand, idle time included."""
    streams_per_instance: int | None = None
    """Largest number of streams that one instance serves; ``None`` for a demand without streams."""
    scaled: Scaled | None = None
    """``None`` if the demand of each hour is unknown."""
    electricity: Electricity | None = None
    """``None`` if the energy of a call or the idle power is unknown."""
    load: QueueLoad
    slow_load: QueueLoad | None = None
    """Load with calls as slow as another launch may make them; the limit is held against it."""
    slowdown: float = 1.0
    """Factor of the time of these calls: the launch band, multiplied by the ratio of paced calls above 1."""
    sampled: Sampled | None = None
    cold_start: float | None = None
    """Seconds of the measured first call with the smallest batch; the first call in a new process takes at
    least as long, because other cases may have run in the same process before."""
    weights_bytes: int | None = None

    @property
    def text(self) -> str:
        """``2 x g6.xlarge``."""
        return f"{self.instances} x {self.instance}"


class Sweep(Struct, frozen=True, kw_only=True):
    """Measured call time and throughput of one deployment by batch size.

    Raises `ValueError` if the three sequences differ in length.
    """

    deployment: str
    batch_sizes: tuple[int, ...]
    p50: tuple[float, ...]
    """Seconds of a call."""
    throughput: tuple[float, ...]
    """Items per second of one machine with all its workers."""

    def __post_init__(self) -> None:
        # Reports zip the sequences; a file from elsewhere must not make them cut a longer one.
        if not len(self.batch_sizes) == len(self.p50) == len(self.throughput):
            raise ValueError("a sweep needs one p50 and one throughput for each batch size")


class Crossing(Struct, frozen=True, kw_only=True):
    """A demand at which the cheapest deployment changes."""

    rate: float
    """Requests per second."""
    below: str
    """Cheapest deployment below the rate."""
    above: str


class CostPoint(Struct, frozen=True, kw_only=True):
    """Cost of serving a demand on each deployment, in the order of `Advice.deployments`."""

    rate: float
    usd_per_month: tuple[float | None, ...]
    """``None`` if no number of instances meets the limit."""


class Sensitivity(Struct, frozen=True, kw_only=True):
    """The best deployment under a changed assumption."""

    assumption: str
    winner: str | None
    """``None`` if no deployment meets the limit under the assumption."""


class PriceLimits(Struct, frozen=True, kw_only=True):
    """What prices alone decide between CPU and GPU, without any measurement of a GPU."""

    gpu: str
    """Cheapest machine with a GPU in the price table, and its GPU: ``aws/g4dn.xlarge with a T4``."""
    gpu_usd_per_hour: float
    gpu_unverified: bool = False
    """As in `Plan`."""
    cpu: str
    """Measured machine without a GPU on which the most requests are served before a GPU can cost less."""
    cpu_usd_per_hour: float
    assumed: bool = False
    """Whether the price of the machine without a GPU is assumed."""
    machines: int
    """Largest number of these machines that costs no more than the GPU machine."""
    rate: float | None = None
    """Requests per second up to which so many machines suffice; ``None`` if they meet no demand in time."""
    gpus: int | None = None
    """Largest number of GPU machines that costs less than the CPU plan for the demand, if there is one."""
    gpu_rate: float | None = None
    """Requests per second that each of these must serve at the demand; ``None`` if no GPU can cost less."""
    faster: float | None = None
    """Least factor by which the fastest call must become faster to meet the limit; ``None`` if it does."""
    faster_machines: int | None = None
    """Least number of machines that then serve the demand, by their load alone."""


ProjectedDecision = Literal["recommended", "ruled out", "undecided"]


class ProjectedPlan(Struct, frozen=True, kw_only=True):
    """A machine with an accelerator that was not measured, compared with measured plans by a projection.

    The low costs belong to the optimistic end of the projection and the high ones to the pessimistic end.
    It is never compared with other accelerators.
    """

    instance: str
    """``aws/g4dn.xlarge``."""
    accelerator: str
    price: str
    """As in `Plan`."""
    usd_per_hour: float
    unverified: bool = False
    """As in `Plan`."""
    dtype: str
    runtime: str = "eager"
    evidence: str
    """What supports the projection, and what of the data sheet is unverified, see `AcceleratorSheet`."""
    decision: ProjectedDecision
    """Compared with the cheapest measured plan at the demand."""
    instances_low: int | None = None
    """``None`` if no number of instances meets the limit; the same holds for the other figures."""
    instances_high: int | None = None
    usd_per_month_low: float | None = None
    usd_per_month_high: float | None = None
    usd_per_million_low: float | None = None
    usd_per_million_high: float | None = None
    rate_low: float = 0.0
    """Requests per second that one machine serves within the limit, at the pessimistic end."""
    rate_high: float = 0.0
    ruled_out_to: float | None = None
    """Requests per second up to which even the optimistic end costs more; ``None`` if it always does."""
    recommended_above: float | None = None
    """Requests per second above which even the pessimistic end costs less; ``None`` if it never does."""

    @property
    def machine(self) -> str:
        """``aws/g4dn.xlarge with a T4``."""
        return f"{self.instance} with {with_article(self.accelerator)}"


class ProjectionCheck(Struct, frozen=True, kw_only=True):
    """A measured call time on an accelerator beside the one that would have been projected, in seconds."""

    accelerator: str
    dtype: str
    runtime: str = "eager"
    evidence: str = ""
    """As in `ProjectedPlan`."""
    batch_size: int
    measured: float
    low: float
    point: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the measured time is within the projected interval."""
        return self.low <= self.measured <= self.high


class Projections(Struct, frozen=True, kw_only=True):
    """What is known of accelerators that were not measured; empty if there is nothing to project."""

    plans: tuple[ProjectedPlan, ...] = ()
    """By the price of the machine, because a projection does not rank accelerators."""
    refusals: tuple[Note, ...] = ()
    """Why the model, or an accelerator, is not projected."""
    checks: tuple[ProjectionCheck, ...] = ()
    """Measured accelerators, for which a projection would have been possible."""

    @property
    def recommended(self) -> tuple[ProjectedPlan, ...]:
        """The machines that cost less than the measured ones even at the pessimistic end."""
        return tuple(plan for plan in self.plans if plan.decision == "recommended")

    @property
    def undecided(self) -> tuple[ProjectedPlan, ...]:
        """The machines of which only a measurement decides whether they cost less."""
        return tuple(plan for plan in self.plans if plan.decision == "undecided")

    @property
    def bound(self) -> ProjectedPlan | None:
        """The recommended machine whose pessimistic end costs least, an upper bound of the cost.

        A price of a known day takes precedence. ``None`` if no machine is recommended. This is not a ranking:
        another one may cost less.
        """
        return min(
            self.recommended,
            key=lambda plan: (plan.unverified, _unknown(plan.usd_per_month_high)),
            default=None,
        )

    @property
    def lowest(self) -> ProjectedPlan | None:
        """The machine whose optimistic end costs least, unless it is ruled out."""
        possible = (*self.recommended, *self.undecided)
        return min(possible, key=lambda plan: _unknown(plan.usd_per_month_low), default=None)

    @property
    def candidates(self) -> tuple[ProjectedPlan, ...]:
        """The machines that may cost least: the upper bound, the possibly cheapest one, then the others."""
        ends = [plan for plan in (self.bound, self.lowest) if plan is not None]
        others = (plan for plan in self.plans if plan.decision != "ruled out" and not self.dearer(plan))
        return tuple(dict.fromkeys((*ends, *others)))

    def dearer(self, plan: ProjectedPlan) -> bool:
        """Return whether even the optimistic end of a machine costs more than the upper bound."""
        return self.bound is not None and _unknown(plan.usd_per_month_low) > _unknown(
            self.bound.usd_per_month_high
        )

    @property
    def none_up_to(self) -> float | None:
        """Requests per second up to which every one is ruled out; ``None`` without a limit."""
        return min((plan.ruled_out_to for plan in self.plans if plan.ruled_out_to is not None), default=None)

    @property
    def some_above(self) -> float | None:
        """Requests per second above which one is recommended; ``None`` if none is."""
        known = (plan.recommended_above for plan in self.plans if plan.recommended_above is not None)
        return min(known, default=None)


def _unknown(usd: float | None) -> float:
    """Return a cost that can be compared: an unknown one is above all others."""
    return math.inf if usd is None else usd


class PriceRange(Struct, frozen=True, kw_only=True):
    """Which deployment costs least at both ends of a price that is assumed from a wide range."""

    machine: str
    low: float
    """USD per hour."""
    high: float
    cheapest_at_low: str
    cheapest_at_high: str

    @property
    def decides(self) -> bool:
        """Whether the answer depends on the price."""
        return self.cheapest_at_low != self.cheapest_at_high


class DemandStep(Struct, frozen=True, kw_only=True):
    """The best plan for one of several demands."""

    rate: float
    """Requests per second."""
    plan: Plan | None = None
    """``None`` if no number of instances meets the limit."""
    projections: Projections = Projections()
    """Machines that were not measured, without the reasons for which others are not projected."""


class DemandTable(Struct, frozen=True, kw_only=True):
    """The best plans of one model for several demands."""

    model: str
    limit: float | None = None
    """Seconds within which 95 % of requests must be answered; ``None`` without a limit."""
    utilisation: float
    """Share of its capacity that a machine may use."""
    steps: tuple[DemandStep, ...]
    price_limits: PriceLimits | None = None
    projections: Projections = Projections()
    """Refusals and checks; the plans are those of each step."""
    notes: tuple[Note, ...] = ()


class Advice(Struct, frozen=True, kw_only=True):
    """The advice for one model.

    Raises `ValueError` if a cost point does not have one cost for each deployment.
    """

    model: str
    weights_bytes: int | None = None
    """Bytes of the weights in the dtype that the model already has; ``None`` if unknown."""
    demand: Demand
    limit: float | None = None
    """Seconds within which 95 % of requests must be answered; ``None`` without a limit."""
    utilisation: float
    """Share of its capacity that a machine may use."""
    scale_up: float = SCALE_UP
    """Seconds from the order of a machine until it serves."""
    deployments: tuple[str, ...]
    plans: tuple[Plan, ...]
    """The best plan of each deployment that meets the limit, the cheapest first."""
    considered: tuple[Plan, ...] = ()
    """Every plan that meets the limit."""
    sweeps: tuple[Sweep, ...] = ()
    enough: float | None = None
    """Requests per second up to which the machines of the best plan suffice; ``None`` without a plan."""
    price_limits: PriceLimits | None = None
    """What prices alone decide; ``None`` if no CPU was measured or the price table has no GPU."""
    projections: Projections = Projections()
    """Accelerators that were not measured."""
    price_range: PriceRange | None = None
    """``None`` unless a price is assumed from a wide range, as that of an accelerator without any price."""
    nearest: Plan | None = None
    """The fastest plan if no plan meets the limit."""
    binding: Note | None = None
    """Why no plan meets the limit."""
    crossings: tuple[Crossing, ...] = ()
    """Every change of the cheapest deployment, from no demand to the last of `costs`, in ascending order."""
    costs: tuple[CostPoint, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()
    actions: tuple[Note, ...] = ()
    """Measurements to try next."""
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if any(len(point.usd_per_month) != len(self.deployments) for point in self.costs):
            raise ValueError("a cost point needs one cost for each deployment")

    @property
    def winner(self) -> Plan | None:
        """The recommended plan."""
        return self.plans[0] if self.plans else None

    @property
    def cheapest_from(self) -> float:
        """Requests per second from which on the deployment of the winner costs least."""
        below = (crossing.rate for crossing in self.crossings if crossing.rate < self.demand.rate)
        return max(below, default=0.0)

    @property
    def cheapest_up_to(self) -> float | None:
        """Requests per second up to which it costs least; ``None`` if beyond the last of `costs`."""
        above = (crossing.rate for crossing in self.crossings if crossing.rate >= self.demand.rate)
        return min(above, default=None)

    @property
    def runner_up(self) -> Plan | None:
        """The best plan of another deployment."""
        return self.plans[1] if self.plans[1:] else None

    @property
    def scaled_winner(self) -> Plan | None:
        """The cheapest plan that follows the hour; ``None`` if the demand of each hour is unknown."""
        # It may be another plan than the winner: many small instances follow the hour more closely than a few
        # large ones.
        scaled = [(plan.scaled.usd_per_month, plan) for plan in self.plans if plan.scaled is not None]
        return min(scaled, key=lambda pair: pair[0])[1] if scaled else None

    @property
    def saving(self) -> float | None:
        """USD per month that the winner saves compared with the runner-up."""
        if self.winner is None or self.runner_up is None:
            return None
        return self.runner_up.usd_per_month - self.winner.usd_per_month


class Recommendations(Struct, frozen=True, kw_only=True):
    """Advice for each model that has a demand."""

    answers: tuple[Advice, ...] = ()
    unanswered: dict[str, tuple[Note, ...]] = msgspec.field(default_factory=dict)
    """What is missing to advise on the other models, by model."""
    tables: tuple[DemandTable, ...] = ()
    """Plans for several demands, where no demand was given."""
