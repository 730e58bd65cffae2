"""Where a model should run: `(measured ways to run it, prices, demand, limit) -> ranked plans`.

A plan ranks only on hardware that was measured. Everything rests on the simulation in `core.capacity`: a
throughput alone would forget that requests wait, for each other and for a batch to fill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from pytest_infergate.core import capacity, cost, energy, units
from pytest_infergate.core.capacity import Load
from pytest_infergate.core.cost import Instance
from pytest_infergate.core.demand import Backlog, Demand
from pytest_infergate.core.model import Note, Struct
from pytest_infergate.core.offers import Offer, Way

WAITS: Final = (0.0, 0.1, 0.25)
"""Shares of the limit for which a server may wait for its batch to fill."""
REQUESTS: Final = 5_000
"""Requests of one simulation."""
TIE: Final = 0.01
"""Plans whose cost differs by less than this are worth the same, and the faster one wins."""
DECADES: Final = 2.0
"""How far from the demand, up and down, the cost is followed."""
STEPS: Final = 32
"""Demands on that way."""
CLOSE: Final = 1.02
"""Ratio of two demands between which a crossing is told exactly enough."""
PRICE_STEP: Final = 0.2
"""By how much prices are moved to see whether the winner stays."""
MOST_STREAMS: Final = 1_000
"""Streams of one instance beyond which nobody asks for the number."""
SCALE_UP: Final = 300.0
"""Seconds from the order of a machine until it serves, unless the user says another."""


class Question(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    demand: Demand
    limit: float | None = None
    """Seconds that 95 % of requests may take, waiting included."""
    utilisation: float = cost.UTILISATION
    """Share of its capacity that a machine may use."""
    least: int = 1
    """Instances that run whatever the demand is."""
    day: tuple[float, ...] = ()
    """Demand of each hour of a day as a share of `demand`, which is the peak; empty where nobody said."""
    scale_up: float = SCALE_UP
    """Seconds from the order of a machine until it serves."""
    grid: str = "world"
    """Whose electricity it is, a name of `energy.GRID`."""

    @property
    def mean_share(self) -> float:
        """Share of the peak that is asked for on average."""
        return sum(self.day) / len(self.day) if self.day else 1.0


class Scaled(Struct, frozen=True, kw_only=True):
    """A plan whose machines come and go with the hour."""

    instances: tuple[int, ...]
    """Needed in each hour of the day."""
    usd_per_month: float
    """With the time for which machines are paid before they serve."""


class Electricity(Struct, frozen=True, kw_only=True):
    """Energy that the instances of a plan take at the demand, idle time included."""

    joules_per_item: float
    kwh_per_month: float
    grams_co2e_per_month: float
    basis: str
    """Factors behind CO2e: ``475 g/kWh (world, 2019)``."""
    source: str
    """As in `Energy`: ``nvml``, ``rapl`` or ``estimate``."""
    scope: str


class Plan(Struct, frozen=True, kw_only=True):
    """An offer with everything decided, and what it gives."""

    offer: str
    """In words."""
    instance: str
    price: str
    """Where the price is from: provider, region, way of paying, day."""
    usd_per_hour: float
    told: bool
    """Whether the user said that the measured machine is that instance."""
    device: str
    runtime: str
    dtype: str | None = None
    threads: int | None = None
    workers: int = 1
    """Processes on each instance."""
    hardware: str
    max_batch: int
    max_wait: float
    """Seconds."""
    instances: int
    usd_per_month: float
    """Of all instances around the clock, as many as the peak needs."""
    usd_per_month_with_spare: float
    """With one instance more than the demand needs."""
    usd_per_million: float
    """At this demand, idle time included."""
    streams_per_instance: int | None = None
    """Streams that one instance serves alone, at most; ``None`` where the demand has none."""
    scaled: Scaled | None = None
    """``None`` where the hours of the day are not told."""
    electricity: Electricity | None = None
    """``None`` where the energy of a call, or that between calls, is not known."""
    load: Load
    cold_start: float | None = None
    """Seconds of the first call in a process, with such a batch."""
    weights_bytes: int | None = None

    @property
    def words(self) -> str:
        """``2 x g6.xlarge``."""
        return f"{self.instances} x {self.instance}"


class Crossing(Struct, frozen=True, kw_only=True):
    """A demand at which the cheapest offer changes."""

    rate: float
    """Requests a second."""
    below: str
    above: str


class Sweep(Struct, frozen=True, kw_only=True):
    """How batches pay on one offer, by what was measured."""

    offer: str
    batch_sizes: tuple[int, ...]
    p50: tuple[float, ...]
    """Seconds a call."""
    throughput: tuple[float, ...]
    """Items a second of one machine, with all its workers."""


class CostPoint(Struct, frozen=True, kw_only=True):
    """What serving a demand costs on each offer, in the order of the offers."""

    rate: float
    usd_per_month: tuple[float | None, ...]
    """``None`` where no number of instances meets the limit."""


class Sensitivity(Struct, frozen=True, kw_only=True):
    """Whether the winner stays when an assumption moves."""

    assumption: str
    winner: str | None
    """The offer that wins then; ``None`` where none meets the limit any more."""


class Advice(Struct, frozen=True, kw_only=True):
    """The answer for one model."""

    model: str
    demand: Demand
    limit: float | None = None
    utilisation: float
    scale_up: float = SCALE_UP
    """Seconds, as in `Question`."""
    offers: tuple[str, ...]
    plans: tuple[Plan, ...]
    """The best of each offer that meets the limit, the cheapest first."""
    considered: tuple[Plan, ...] = ()
    """Every plan that meets the limit."""
    sweeps: tuple[Sweep, ...] = ()
    enough: float | None = None
    """Requests a second up to which the machines of the best plan serve; ``None`` where that is far off."""
    nearest: Plan | None = None
    """Where none does: the one that comes closest."""
    binding: Note | None = None
    """Where none does: what keeps them from it."""
    crossings: tuple[Crossing, ...] = ()
    costs: tuple[CostPoint, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()
    actions: tuple[Note, ...] = ()
    """What to try next, measured or not."""
    notes: tuple[Note, ...] = ()

    @property
    def winner(self) -> Plan | None:
        """The plan to take."""
        return self.plans[0] if self.plans else None

    @property
    def runner_up(self) -> Plan | None:
        """The best plan of another offer."""
        return self.plans[1] if self.plans[1:] else None

    @property
    def scaled_winner(self) -> Plan | None:
        """The plan that costs least where machines come and go; ``None`` where the hours are not told."""
        scaled = [(plan.scaled.usd_per_month, plan) for plan in self.plans if plan.scaled is not None]
        return min(scaled, key=lambda pair: pair[0])[1] if scaled else None

    @property
    def saving(self) -> float | None:
        """USD a month that the winner saves over the runner-up."""
        if self.winner is None or self.runner_up is None:
            return None
        return self.runner_up.usd_per_month - self.winner.usd_per_month


def advise(question: Question, found: Sequence[Offer], notes: Sequence[Note] = ()) -> Advice:
    """Answer for one model. `notes` say what was left out of the offers.

    Raises `ValueError` for offers of different models, or none.
    """
    models = {offer.way.model for offer in found}
    if len(models) != 1:
        raise ValueError("advice is for one model, which needs an offer")
    considered = [list(_plans(offer, question)) for offer in found]
    plans = _ties_by_speed(sorted((min(each, key=_rank) for each in considered if each), key=_rank))
    by_words = {offer.words: offer for offer in found}
    if question.day:
        plans = [_scaled(plan, by_words[plan.offer], question) for plan in plans]
    if question.demand.pattern == "periodic":
        plans = [_streaming(plan, by_words[plan.offer], question) for plan in plans]
    nearest = None if plans else _nearest(found, question)
    answer = Advice(
        model=models.pop(),
        demand=question.demand,
        limit=question.limit,
        utilisation=question.utilisation,
        scale_up=question.scale_up,
        offers=tuple(offer.words for offer in found),
        plans=tuple(plans),
        considered=tuple(plan for each in considered for plan in each),
        sweeps=tuple(map(_sweep, found)),
        nearest=nearest,
        binding=None if plans else _binding(nearest, question),
        actions=tuple(_actions(found)),
        notes=tuple(dict.fromkeys((*notes, *_remarks(found)))),
    )
    if not plans:
        return answer
    costs = tuple(_cost_point(rate, found, question) for rate in _rates(question.demand))
    return msgspec.structs.replace(
        answer,
        costs=costs,
        enough=_enough(plans[0], costs, found, question),
        crossings=tuple(_crossings(costs, found, question, plans[0])),
        sensitivities=tuple(_sensitivities(answer, found, question)),
    )


def _rank(plan: Plan) -> tuple[float, float, int]:
    return plan.usd_per_month, plan.load.p95, plan.max_batch


def _ties_by_speed(plans: list[Plan]) -> list[Plan]:
    """Among plans that cost the same as the cheapest, put the fastest first."""
    if not plans:
        return plans
    bound = plans[0].usd_per_month * (1 + TIE)
    tied = [plan for plan in plans if plan.usd_per_month <= bound]
    return sorted(tied, key=lambda plan: plan.load.p95) + plans[len(tied) :]


def best(offer: Offer, question: Question) -> Plan | None:
    """The cheapest plan of an offer that meets the limit, the fastest where several cost the same."""
    found: Plan | None = None
    for max_batch, max_wait in _servers(offer.way, question):
        most = None if found is None else found.instances
        plan = _served(offer, question, max_batch, max_wait, most=most)
        if plan is not None and (found is None or _rank(plan) < _rank(found)):
            found = plan
    return found


def _plans(offer: Offer, question: Question) -> Iterator[Plan]:
    """Every plan of an offer that meets the limit, each with as few instances as it takes."""
    for max_batch, max_wait in _servers(offer.way, question):
        plan = _served(offer, question, max_batch, max_wait)
        if plan is not None:
            yield plan


def _served(
    offer: Offer, question: Question, max_batch: int, max_wait: float, most: int | None = None
) -> Plan | None:
    """The plan of an offer with such a server; ``None`` where `most` instances do not meet the limit."""
    needed = capacity.instances_needed(
        question.demand,
        offer.way.service,
        limit=question.limit,
        max_batch=max_batch,
        max_wait=max_wait,
        workers_per_instance=offer.way.workers,
        utilisation=question.utilisation,
        most=most,
        requests=REQUESTS,
    )
    if needed.instances is None or needed.load is None:
        return None
    return _plan(offer, question, (max_batch, max_wait), needed.instances, needed.load)


def _servers(way: Way, question: Question) -> Iterator[tuple[int, float]]:
    """Largest batches and waits that are worth a try."""
    for size in way.service.batch_sizes:
        for share in WAITS if size > 1 and question.limit is not None else (0.0,):
            yield size, share * (question.limit or 0.0)


def _plan(offer: Offer, question: Question, server: tuple[int, float], needed: int, load: Load) -> Plan:
    """`server` is its largest batch and the time that it waits for one to fill."""
    instances = max(needed, question.least)
    way, instance = offer.way, offer.instance
    month = cost.usd_per_month(instance.price, instances)
    return Plan(
        offer=offer.words,
        instance=offer.name,
        price=_price_words(instance),
        usd_per_hour=instance.price,
        told=offer.told,
        device=way.device,
        runtime=way.runtime,
        dtype=way.dtype,
        threads=way.threads,
        workers=way.workers,
        hardware=way.hardware.id,
        max_batch=server[0],
        max_wait=server[1],
        instances=instances,
        usd_per_month=month,
        usd_per_month_with_spare=cost.usd_per_month(instance.price, max(needed + 1, question.least)),
        usd_per_million=month / _items_per_month(question) * 1e6,
        load=load,
        electricity=_electricity(way, load, question.demand.rate, instances, question.grid),
        cold_start=dict(way.cold_starts).get(server[0]),
        weights_bytes=way.weights_bytes,
    )


def _streaming(plan: Plan, offer: Offer, question: Question) -> Plan:
    """The same plan with the number of streams that one instance serves: doubled, then narrowed by halves."""
    each = question.demand.rate / question.demand.streams

    def fits(streams: int) -> bool:
        asked = _at(question, streams * each)
        return _served(offer, asked, plan.max_batch, plan.max_wait, most=1) is not None

    low, high = 0, 1
    while high <= MOST_STREAMS and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return msgspec.structs.replace(plan, streams_per_instance=low)


def _electricity(way: Way, load: Load, rate: float, instances: int, grid: str) -> Electricity | None:
    """Energy by the batch size that is nearest to the mean one; as busy as the simulation was."""
    if not way.energies:
        return None
    _, taken = min(way.energies, key=lambda pair: abs(pair[0] - load.mean_batch))
    each = rate / instances
    busy = min(1.0, load.utilisation)
    joules = energy.joules_per_item_at(taken, each, each / busy) if busy > 0 else None
    if joules is None or not 0 < joules < math.inf:
        return None
    month = joules * rate * energy.MONTH_SECONDS
    emitted = energy.co2e(month, grid)
    return Electricity(
        joules_per_item=joules,
        kwh_per_month=month / energy.JOULES_PER_KWH,
        grams_co2e_per_month=emitted.grams,
        basis=emitted.basis,
        source=taken.source,
        scope=taken.scope,
    )


def _items_per_month(question: Question) -> float:
    return question.demand.rate * question.mean_share * energy.MONTH_SECONDS


def _scaled(plan: Plan, offer: Offer, question: Question) -> Plan:
    """The same plan with as many instances as each hour of the day takes."""

    def needed(share: float) -> int:
        if share == 0:
            return question.least
        asked = _at(question, question.demand.rate * share)
        waits = (plan.max_wait, 0.0)  # few requests may never fill the batch that they wait for
        each = (_served(offer, asked, plan.max_batch, wait, most=plan.instances) for wait in waits)
        fewest = next((found.instances for found in each if found is not None), plan.instances)
        return min(fewest, plan.instances)

    counts = {share: needed(share) for share in set(question.day)}
    instances = tuple(counts[share] for share in question.day)
    paid = cost.instance_hours(instances, question.scale_up) / len(instances)
    scaled = Scaled(instances=instances, usd_per_month=cost.usd_per_month(offer.instance.price, paid))
    return msgspec.structs.replace(plan, scaled=scaled)


def _price_words(instance: Instance) -> str:
    return instance.words if instance.as_of or instance.region else "own hardware"


def _nearest(found: Iterable[Offer], question: Question) -> Plan | None:
    """The fastest plan when nothing limits it; ``None`` where the demand is beyond any number of machines."""
    plans = (plan for offer in found for plan in _unlimited(offer, question))
    return min(plans, key=lambda plan: plan.load.p95, default=None)


def _unlimited(offer: Offer, question: Question) -> Iterator[Plan]:
    """The plans of an offer when nothing limits its latency."""
    limit = math.inf if question.demand.pattern == "periodic" else None
    free = msgspec.structs.replace(question, limit=limit)
    plans = (_served(offer, free, size, 0.0) for size in offer.way.service.batch_sizes)
    return (plan for plan in plans if plan is not None)


def _binding(nearest: Plan | None, question: Question) -> Note:
    if nearest is None:
        return Note(
            code="demand-unmet",
            text="no number of machines serves this demand",
            cure="ask for less, or measure larger batches or faster machines",
        )
    limit = question.limit if question.limit is not None else question.demand.period
    return Note(
        code="limit-unmet",
        text=f"no plan answers 95 % of requests within {units.seconds(limit)}: the nearest, {nearest.words} "
        f"with batches of at most {nearest.max_batch} for {nearest.usd_per_month:,.0f} USD a month, "
        f"takes {units.seconds(nearest.load.p95)}",
        cure="measure a faster machine, or allow more time"
        if nearest.max_batch == 1
        else "measure smaller batch sizes or a faster machine, or allow more time",
    )


def _sweep(offer: Offer) -> Sweep:
    service = offer.way.service
    return Sweep(
        offer=offer.words,
        batch_sizes=service.batch_sizes,
        p50=tuple(times[len(times) // 2] for times in service.percentiles),
        throughput=tuple(offer.way.workers * size / service.mean(size) for size in service.batch_sizes),
    )


def _rates(demand: Demand) -> list[float]:
    """Demands around the one asked for, evenly on a logarithmic scale; it is among them."""
    half = STEPS // 2
    return [demand.rate * 10 ** (DECADES * step / half) for step in range(-half, half + 1)]


def _at(question: Question, rate: float) -> Question:
    """The same question at another demand; whole streams where they are periodic."""
    demand = question.demand
    if demand.pattern == "periodic":
        each = demand.rate / demand.streams
        streams = max(1, round(rate / each))
        demand = msgspec.structs.replace(demand, streams=streams, rate=streams * each)
    else:
        demand = msgspec.structs.replace(demand, rate=rate)
    return msgspec.structs.replace(question, demand=demand)


def _cost_point(rate: float, found: Sequence[Offer], question: Question) -> CostPoint:
    asked = _at(question, rate)
    return CostPoint(
        rate=asked.demand.rate, usd_per_month=tuple(_least_cost(offer, asked) for offer in found)
    )


def _least_cost(offer: Offer, question: Question) -> float | None:
    """What `best` costs, without looking for the fastest plan of that cost."""
    least: Plan | None = None
    for max_batch, max_wait in reversed(list(_servers(offer.way, question))):
        if least is not None and least.instances <= question.least:
            break
        most = None if least is None else least.instances - 1
        least = _served(offer, question, max_batch, max_wait, most=most) or least
    return None if least is None else least.usd_per_month


def _cheapest(point: CostPoint, favourites: Sequence[int | None]) -> int | None:
    """Which offer costs least; the first favourite that ties with it takes its place."""
    priced = {index: usd for index, usd in enumerate(point.usd_per_month) if usd is not None}
    if not priced:
        return None
    least = min(priced, key=priced.__getitem__)
    tied = (index for index in favourites if index in priced and priced[index] <= priced[least] * (1 + TIE))
    return next(tied, least)


def _crossings(
    costs: Sequence[CostPoint], found: Sequence[Offer], question: Question, winner: Plan
) -> Iterator[Crossing]:
    """Where another offer costs less than the best plan's, and where others change places."""
    best_one = next(index for index, offer in enumerate(found) if offer.words == winner.offer)
    before = _cheapest(costs[0], [best_one])
    for low, high in pairwise(costs):
        after = _cheapest(high, [best_one, before])
        if before is not None and after is not None and after != before:

            def stays(rate: float, leader: int = before) -> bool:
                return _cheapest(_cost_point(rate, found, question), [best_one, leader]) == leader

            rate = _narrowed(low.rate, high.rate, stays, question)
            yield Crossing(rate=rate, below=found[before].words, above=found[after].words)
        before = after


def _enough(
    winner: Plan, costs: Sequence[CostPoint], found: Sequence[Offer], question: Question
) -> float | None:
    """The largest demand that the offer of the best plan serves for the same money."""
    index, offer = next(pair for pair in enumerate(found) if pair[1].words == winner.offer)

    def served(usd: float | None) -> bool:
        return usd is not None and usd <= winner.usd_per_month * (1 + TIE)

    above = [point for point in costs if point.rate > question.demand.rate]
    low = question.demand.rate
    for point in above:
        if not served(point.usd_per_month[index]):
            return _narrowed(
                low, point.rate, lambda rate: served(_least_cost(offer, _at(question, rate))), question
            )
        low = point.rate
    return None


def _narrowed(low: float, high: float, holds: Callable[[float], bool], question: Question) -> float:
    """Halve the way from a demand at which something holds to one at which it does not."""
    while high / low > CLOSE:
        middle = _at(question, math.sqrt(low * high)).demand.rate
        if not low < middle < high:
            break  # whole streams leave nothing between
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _sensitivities(answer: Advice, found: Sequence[Offer], question: Question) -> Iterator[Sensitivity]:
    """Who wins when the winner gets dearer or slower and the others do not, by the worse of both."""
    winner = answer.winner
    if winner is None or len(found) < 2:  # noqa: PLR2004 - nobody else could win
        return
    dearer = f"its price {units.percent(PRICE_STEP, decimals=0)}"
    slower = f"calls {_uncertain(winner, found)} slower, as in another launch, and all others faster"
    for words, moved in (
        (dearer, [_dearer(offer, own=offer.name == winner.instance) for offer in found]),
        (slower, [_slower(offer, own=offer.words == winner.offer) for offer in found]),
    ):
        plans = sorted(filter(None, (best(offer, question) for offer in moved)), key=_rank)
        yield Sensitivity(assumption=words, winner=plans[0].offer if plans else None)


def _uncertain(winner: Plan, found: Sequence[Offer]) -> str:
    """By how much calls of the winner may differ in another launch."""
    way = next(offer.way for offer in found if offer.words == winner.offer)
    return units.percent(math.expm1(way.uncertain), signed=False, decimals=0)


def _dearer(offer: Offer, *, own: bool) -> Offer:
    if not own:
        return offer
    dearer = msgspec.structs.replace(
        offer.instance, usd_per_hour=offer.instance.usd_per_hour * (1 + PRICE_STEP)
    )
    return msgspec.structs.replace(offer, instance=dearer)


def _slower(offer: Offer, *, own: bool) -> Offer:
    factor = math.exp(offer.way.uncertain if own else -offer.way.uncertain)
    service = offer.way.service
    scaled = msgspec.structs.replace(
        service,
        percentiles=tuple(tuple(factor * time for time in times) for times in service.percentiles),
        means=tuple(factor * mean for mean in service.means),
    )
    return msgspec.structs.replace(offer, way=msgspec.structs.replace(offer.way, service=scaled))


def _actions(found: Sequence[Offer]) -> Iterator[Note]:
    """What might serve the model better: measured against each other where it was, else to be measured."""
    for offer in found:
        way = offer.way
        siblings = [
            other.way
            for other in found
            if other.way.hardware == way.hardware and other.way.device == way.device
        ]
        if len(way.service.batch_sizes) == 1:
            yield Note(
                code="one-batch-size",
                text=f"only batches of {way.service.batch_sizes[0]} were measured on {way.device}: whether "
                "larger ones pay is unknown",
                cure="give the marker batch_sizes=[1, 8, 32]",
            )
        if way.device == "cpu" and way.hardware.cores > 1 and all(one.workers == 1 for one in siblings):
            yield Note(
                code="workers",
                text=f"one worker was measured on {units.plural(way.hardware.cores, 'core')}",
                cure=f"see whether several serve more: --infer-workers={way.hardware.cores}",
            )
    if all(offer.way.hardware.accelerator is None for offer in found):
        yield Note(
            code="no-accelerator",
            text="no accelerator was measured, so this says nothing of GPUs",
            cure="run the tests with --infer-devices=cpu,cuda --infer-json=gpu.json on a machine with one, "
            "and give that file too",
        )


def _remarks(found: Sequence[Offer]) -> Iterator[Note]:
    for offer in found:
        yield from offer.way.doubts
        if offer.way.dtype is not None:
            yield Note(
                code="accuracy",
                text=f"{offer.way.dtype} was asked for: whether it is accurate enough, the test must check",
            )
        if not offer.told:
            yield Note(
                code="assumed-instance",
                text=f"{offer.way.hardware.words} is taken for {offer.instance.full_name}, by its class",
                cure=f"say --instance {offer.way.device}={offer.instance.name} if that is right",
            )


class Job(Struct, frozen=True, kw_only=True):
    """What working off a backlog takes on one offer."""

    instance: str
    price: str
    """As in `Plan`."""
    usd_per_hour: float
    device: str
    max_batch: int
    machine_hours: float
    instances: int
    """That work at once, to be done before the deadline."""
    usd: float
    usd_on_spot: float | None = None
    """On machines that may be taken away, if none is; ``None`` where there is no such price."""


def backlog(work: Backlog, found: Iterable[Offer]) -> tuple[Job, ...]:
    """What working off a backlog costs, the cheapest first: machines are paid for while they work.

    Raises `ValueError` where one batch takes longer than the deadline on every offer.
    """
    jobs = []
    problem: ValueError | None = None
    for offer in found:
        service = offer.way.service
        size = max(service.batch_sizes, key=lambda batch: batch / service.mean(batch))
        try:
            hours, instances = capacity.offline(
                work, service, max_batch=size, workers_per_instance=offer.way.workers
            )
        except ValueError as error:
            problem = error
            continue
        spot = offer.instance.spot_usd_per_hour
        jobs.append(
            Job(
                instance=offer.name,
                price=_price_words(offer.instance),
                usd_per_hour=offer.instance.price,
                device=offer.way.device,
                max_batch=size,
                machine_hours=hours,
                instances=instances,
                usd=hours * offer.instance.price,
                usd_on_spot=None if spot is None else hours * spot,
            )
        )
    if problem is not None and not jobs:
        raise problem
    return tuple(sorted(jobs, key=lambda job: (job.usd, job.instances)))
