"""What there is to choose from: the ways to run a model that were measured, and machines to rent for them.

A way is no offer before somebody can say what its machine costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pytest_infergate.core import budget, cost, energy, units
from pytest_infergate.core.capacity import ServiceTimes
from pytest_infergate.core.cost import Instance
from pytest_infergate.core.model import (
    Case,
    CaseResult,
    Crew,
    Energy,
    Hardware,
    Measurement,
    Note,
    Outcome,
    Session,
    Struct,
    Verdict,
)

MEMORY_ROOM: Final = 1.1
"""Memory that a process needs, over what was measured."""
FASTEST: Final = 1e-9
"""Seconds below which no call was measured."""
SLOWEST: Final = 1e7
"""Seconds above which none was."""
MOST_WATTS: Final = 1e9
"""Power above which nothing was metered."""


class Way(Struct, frozen=True, kw_only=True):
    """One way to run one model that was measured: on a device, with a dtype, at some batch sizes."""

    model: str
    """The test, and the user's own parameters."""
    device: str
    runtime: str = "eager"
    dtype: str | None = None
    threads: int | None = None
    workers: int = 1
    """Processes on one machine, as many as were measured at once."""
    hardware: Hardware
    service: ServiceTimes
    uncertain: float
    """Half-width, on the log scale, within which another launch may be faster or slower as a whole."""
    host_bytes: int | None = None
    """Peak of the host's memory, over all workers."""
    weights_bytes: int | None = None
    cold_start: float = 0.0
    """Seconds of the first call."""
    energies: tuple[tuple[int, Energy], ...] = ()
    """Batch sizes and the energy of a call of one worker; empty where nobody knows."""

    @property
    def words(self) -> str:
        """``cuda, float16, 2 workers``."""
        return way_words(self.device, self.runtime, self.dtype, self.threads, self.workers)


class Offer(Struct, frozen=True, kw_only=True):
    """A way to run a model, and a machine to rent for it."""

    way: Way
    instance: Instance
    told: bool
    """Whether the user said that this machine is that instance; else it was found by its class."""

    @property
    def words(self) -> str:
        """``g6.xlarge (cuda)``."""
        return f"{self.instance.name} ({self.way.words})"


def way_words(device: str, runtime: str, dtype: str | None, threads: int | None, workers: int) -> str:
    """Say what is not as always: ``cuda, float16, 2 workers``."""
    parts = (
        device,
        None if runtime == "eager" else runtime,
        dtype,
        None if threads is None else units.plural(threads, "thread"),
        None if workers == 1 else units.plural(workers, "worker"),
    )
    return ", ".join(filter(None, parts))


def model(case: Case) -> str:
    """What a case is one way to run: its test, and the user's own parameters."""
    return f"{case.test}[{case.params}]" if case.params else case.test


def ways(sessions: Iterable[Session]) -> tuple[Way, ...]:
    """Collect every way that was measured, with its batch sizes.

    Paired runs are left out, whose times hold for their workers alone; so are cases whose test failed, whose
    outputs are wrong, or whose measurement is invalid.
    """
    found: dict[tuple[object, ...], list[tuple[CaseResult, Measurement, Session]]] = {}
    for session in sessions:
        wrong = {
            (verdict.nodeid, verdict.case)
            for verdict in session.gate.verdicts
            if verdict.verdict in (Verdict.MISMATCH, Verdict.INVALID, Verdict.NOT_MEASURED)
        }
        for result in session.cases if session.against is None else ():
            measurement, hardware, case = result.measurement, result.hardware, result.case
            usable = result.outcome is Outcome.MEASURED and (result.nodeid, case) not in wrong
            if not usable or measurement is None or hardware is None:
                continue
            if not _readable(case.batch_size, measurement):
                continue
            key = (
                case.test,
                case.params,
                case.device,
                case.runtime,
                case.dtype or "",
                case.threads or 0,
                hardware.id,
            )
            found.setdefault(key, []).append((result, measurement, session))
    return tuple(way for key in sorted(found, key=str) for way in _ways(found[key]))


def _readable(batch_size: int, measurement: Measurement) -> bool:
    """Whether the times of a measurement, which may come from elsewhere, are times of a batch."""
    latency = measurement.latency
    try:
        service = _service({batch_size: measurement})
    except ValueError:
        return False
    return _measurable(service) and latency.percentiles[0] <= latency.mean <= latency.percentiles[-1]


def _measurable(service: ServiceTimes) -> bool:
    """Whether a clock can have told such times, so that figures made of them stay finite."""
    return all(times[0] >= FASTEST and times[-1] <= SLOWEST for times in service.percentiles)


def _ways(measured: Sequence[tuple[CaseResult, Measurement, Session]]) -> Iterator[Way]:
    """The way of one worker, and those of several at once, at the batch sizes where these were measured."""
    alone = _way(measured)
    yield alone
    crews: dict[int, dict[int, Crew]] = {}
    for result, measurement, _ in measured:
        for crew in measurement.crews:
            if crew.workers < 2:  # noqa: PLR2004 - one alone is measured without a crew
                continue
            crews.setdefault(crew.workers, {})[result.case.batch_size] = crew
    for workers, by_size in sorted(crews.items()):
        try:
            service = ServiceTimes(
                batch_sizes=tuple(sorted(by_size)),
                percentiles=tuple(by_size[size].percentiles for size in sorted(by_size)),
                means=tuple(by_size[size].mean for size in sorted(by_size)),
            )
        except ValueError:  # a file from elsewhere may hold anything
            continue
        if not _measurable(service):
            continue
        host = None if alone.host_bytes is None else workers * alone.host_bytes
        yield msgspec.structs.replace(alone, workers=workers, service=service, host_bytes=host, energies=())


def _way(measured: Sequence[tuple[CaseResult, Measurement, Session]]) -> Way:
    by_size = {result.case.batch_size: (result, measurement) for result, measurement, _ in measured}
    sizes = tuple(sorted(by_size))
    result, largest = by_size[sizes[-1]]
    case = result.case
    if result.hardware is None:
        raise ValueError("a way needs the hardware that it was measured on")
    return Way(
        model=model(case),
        device=case.device,
        runtime=case.runtime,
        dtype=case.dtype,
        threads=case.threads,
        hardware=result.hardware,
        service=_service({size: measurement for size, (_, measurement) in by_size.items()}),
        uncertain=budget.launch_band(
            (), virtual=any(session.environment.virtual for *_, session in measured)
        ),
        host_bytes=largest.memory.host_peak,
        weights_bytes=largest.memory.weights,
        cold_start=max(measurement.cold_start for _, measurement, _ in measured),
        energies=tuple(
            (size, measurement.energy)
            for size, (_, measurement) in sorted(by_size.items())
            if measurement.energy is not None and _metered(measurement.energy)
        ),
    )


def _metered(taken: Energy) -> bool:
    """Whether a meter can have told such an energy."""
    if not (taken.seconds > 0 and taken.batch_size > 0):
        return False
    return 0 < energy.watts(taken) <= MOST_WATTS and 0 <= (taken.idle_watts or 0.0) <= MOST_WATTS


def _service(by_size: Mapping[int, Measurement]) -> ServiceTimes:
    """Seconds of a call as a service pays them: inputs copied in and outputs out, where that was measured."""
    sizes = tuple(sorted(by_size))
    found = [by_size[size] for size in sizes]
    return ServiceTimes(
        batch_sizes=sizes,
        percentiles=tuple(tuple(_copies(one) + time for time in one.latency.percentiles) for one in found),
        means=tuple(_copies(one) + one.latency.mean for one in found),
    )


def _copies(measurement: Measurement) -> float:
    """Seconds that copying inputs to the device and outputs back adds to a call."""
    if measurement.host_to_host is None:
        return 0.0
    return max(0.0, measurement.host_to_host - measurement.latency.p50.value)


def offers(
    found: Iterable[Way], table: Iterable[Instance], told: Mapping[str, Instance]
) -> tuple[tuple[Offer, ...], tuple[Note, ...]]:
    """Find a machine to rent for each way, and say for which there is none.

    What the user told counts, where it is of the measured class or has no class, as own machines have none;
    else the cheapest instance of that class. A way without either is no offer: its note asks what the
    machine is, or says in what it is another.
    """
    table = tuple(table)
    made: list[Offer] = []
    notes: list[Note] = []
    for way in found:
        instance = _standing(way, told)
        known = instance is not None
        if instance is None:
            instance = next(iter(cost.proposals(way.hardware, table)), None)
        other = "" if instance is None or not instance.vcpus else cost.difference(instance, way.hardware)
        if instance is None:
            notes.append(_unknown(way, table))
        elif other:
            notes.append(_another(way, instance, other))
        elif not _fits(way, instance):
            notes.append(_too_small(way, instance))
        else:
            made.append(Offer(way=way, instance=instance, told=known))
    return _told_apart(made), tuple(dict.fromkeys(notes))


def _told_apart(made: Sequence[Offer]) -> tuple[Offer, ...]:
    """Name own machines by their hardware too, where one name was given to several of them."""
    machines: dict[str, dict[str, str]] = {}
    for offer in made:
        if not offer.instance.vcpus:
            hardware = offer.way.hardware
            machines.setdefault(offer.instance.name, {})[hardware.id] = hardware.words
    return tuple(_placed(offer, machines.get(offer.instance.name, {})) for offer in made)


def _placed(offer: Offer, machines: Mapping[str, str]) -> Offer:
    """`machines` are all that have the name of this one: words by class of hardware."""
    if len(machines) < 2:  # noqa: PLR2004 - nothing to tell it from
        return offer
    hardware = offer.way.hardware
    words = hardware.words if len(set(machines.values())) == len(machines) else hardware.id
    instance = msgspec.structs.replace(offer.instance, name=f"{offer.instance.name}, {words}")
    return msgspec.structs.replace(offer, instance=instance)


def _standing(way: Way, told: Mapping[str, Instance]) -> Instance | None:
    """What a machine is said to be, by device or by the beginning of its class; the longest word counts."""
    names = (way.hardware.id, way.device, way.device.partition(":")[0])
    fitting = [name for name in told if any(own.startswith(name) for own in names)]
    return told[max(fitting, key=len)] if fitting else None


def _unknown(way: Way, table: Sequence[Instance]) -> Note:
    kind = way.device.partition(":")[0]
    close = [
        one.name for one in table if (one.accelerator_count > 0) == (way.hardware.accelerator is not None)
    ]
    example = close[0] if close else "NAME"
    return Note(
        code="unknown-machine",
        text=f"what is this machine, and what does it cost: {way.hardware.words}?",
        cure=f"say --instance {kind}=NAME, such as {example}, or --price {kind}=USD_PER_HOUR",
    )


def _another(way: Way, instance: Instance, difference: str) -> Note:
    return Note(
        code="other-machine",
        text=f"{instance.name}, which {way.device} is said to be, is another machine: {difference}",
        cure=f"measure on {instance.name}, or say --price {way.device}=USD_PER_HOUR for the machine at hand",
    )


def _fits(way: Way, instance: Instance) -> bool:
    """Whether the process fits into the instance's memory, as far as both are known."""
    if way.host_bytes is None or instance.memory_gib is None:
        return True
    return way.host_bytes * MEMORY_ROOM <= instance.memory_gib * 2**30


def _too_small(way: Way, instance: Instance) -> Note:
    return Note(
        code="memory",
        text=f"{instance.name} has {instance.memory_gib:g} GiB, and {way.words} takes "
        f"{units.bytes_(way.host_bytes)} of the host",
        cure="choose an instance with more memory",
    )
