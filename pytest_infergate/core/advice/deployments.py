"""What there is to choose from: the ways to run a model that were measured, and machines to rent for them.

A way is no offer before somebody can say what its machine costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain import energy, instance_types, launch_spread, units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.measurement import ConcurrentRun, Energy, Measurement
from pytest_infergate.core.domain.model import Case, Hardware, Note, Struct
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Session, Verdict

MEMORY_ROOM: Final = 1.1
"""Memory that a process needs, over what was measured."""
FASTEST: Final = 1e-9
"""Seconds below which no call was measured."""
SLOWEST: Final = 1e7
"""Seconds above which none was."""
MOST_WATTS: Final = 1e9
"""Power above which nothing was metered."""
WRONG: Final = {
    Verdict.MISMATCH: "it does not compute what its base does",
    Verdict.INVALID: "its measurement is invalid",
    Verdict.NOT_MEASURED: "it was not measured",
}
"""Verdicts of cases that are no way to run a model, and why."""
DOUBTFUL: Final = (Verdict.REGRESSED, Verdict.OVER_BUDGET, Verdict.SUSPECTED)
"""Verdicts that somebody who takes the advice should know of."""
DOUBTS: Final = (NoteCode.CPU_CONTENTION, NoteCode.NOT_STEADY, NoteCode.PAGE_FAULTS)
"""Notes of measurements that make their times doubtful."""


class MeasuredCase(NamedTuple):
    """A case whose times can be used."""

    result: CaseResult
    measurement: Measurement
    session: Session
    verdict: CaseVerdict | None


class Deployment(Struct, frozen=True, kw_only=True):
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
    cold_starts: tuple[tuple[int, float], ...] = ()
    """Batch sizes and the seconds of the first call in a process."""
    energies: tuple[tuple[int, Energy], ...] = ()
    """Batch sizes and the energy of a call of one worker; empty where nobody knows."""
    doubts: tuple[Note, ...] = ()
    """What the runs that measured it said of these times."""

    @property
    def text(self) -> str:
        """``cuda, float16, 2 workers``."""
        return deployment_text(self.device, self.runtime, self.dtype, self.threads, self.workers)


class PricedDeployment(Struct, frozen=True, kw_only=True):
    """A way to run a model, and a machine to rent for it."""

    deployment: Deployment
    instance: Instance
    user_specified: bool
    """Whether the user said that this machine is that instance; else it was found by its class."""
    place: str = ""
    """Its hardware, where several machines that were measured stand for that instance."""

    @property
    def name(self) -> str:
        """``g6.xlarge``."""
        return f"{self.instance.name}, {self.place}" if self.place else self.instance.name

    @property
    def text(self) -> str:
        """``g6.xlarge (cuda)``."""
        return f"{self.name} ({self.deployment.text})"


def deployment_text(device: str, runtime: str, dtype: str | None, threads: int | None, workers: int) -> str:
    """Say what is not as always: ``cuda, float16, 2 workers``."""
    parts = (
        device,
        None if runtime == "eager" else runtime,
        dtype,
        None if threads is None else units.plural(threads, "thread"),
        None if workers == 1 else units.plural(workers, "worker"),
    )
    return ", ".join(filter(None, parts))


def model_name(case: Case) -> str:
    """What a case is one way to run: its test, and the user's own parameters."""
    return f"{case.test}[{case.params}]" if case.params else case.test


def deployments(sessions: Iterable[Session]) -> tuple[Deployment, ...]:
    """Collect every way that was measured, with its batch sizes.

    Paired runs are left out, whose times hold for their workers alone; so are cases whose test failed, whose
    outputs are wrong, or whose measurement is invalid.
    """
    found: dict[tuple[object, ...], list[MeasuredCase]] = {}
    for result, verdict, session in _judged(sessions):
        measurement, hardware, case = result.measurement, result.hardware, result.case
        if _unusable(result, verdict) or measurement is None or hardware is None:
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
        found.setdefault(key, []).append(MeasuredCase(result, measurement, session, verdict))
    return tuple(deployment for key in sorted(found, key=str) for deployment in _deployments(found[key]))


def left_out(sessions: Iterable[Session]) -> dict[str, tuple[Note, ...]]:
    """Say, by model, which cases `ways` leaves out and why; not of those that were skipped on purpose."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for result, verdict, _ in _judged(sessions):
        reason = _unusable(result, verdict)
        if reason and result.outcome is not Outcome.SKIPPED:
            reasons.setdefault(model_name(result.case), {}).setdefault(reason, []).append(result.nodeid)
    return {
        name: tuple(
            Note(code=NoteCode.LEFT_OUT, text=f"{nodeids[0]} is left out: {reason}{_more(len(nodeids) - 1)}")
            for reason, nodeids in found.items()
        )
        for name, found in reasons.items()
    }


def _more(count: int) -> str:
    """Say that so many other cases of the model share what is said of one."""
    return f"; so for {units.plural(count, 'more case')}" if count else ""


def _judged(sessions: Iterable[Session]) -> Iterator[tuple[CaseResult, CaseVerdict | None, Session]]:
    """Cases and their verdicts, without those of paired runs."""
    for session in sessions:
        by_severity = reversed(session.gate.verdicts)
        verdicts = {(verdict.nodeid, verdict.case): verdict for verdict in by_severity}
        for result in session.cases if session.against is None else ():
            yield result, verdicts.get((result.nodeid, result.case)), session


def _unusable(result: CaseResult, verdict: CaseVerdict | None) -> str:
    """Why the times of a case, which may come from elsewhere, are none to plan with; empty where they are."""
    if result.outcome is not Outcome.MEASURED:
        return f"its outcome is {result.outcome.value}"
    if verdict is not None and verdict.verdict in WRONG:
        return WRONG[verdict.verdict]
    if result.measurement is None or result.hardware is None:
        return "its results hold no times, or no hardware"
    if not _readable(result.case.batch_size, result.measurement):
        return "its times are none that a clock can have told"
    return ""


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


def _deployments(measured: Sequence[MeasuredCase]) -> Iterator[Deployment]:
    """The way of one worker, and those of several at once, at the batch sizes where these were measured."""
    alone = _deployment(measured)
    yield alone
    crews: dict[int, dict[int, ConcurrentRun]] = {}
    for one in measured:
        for runs in one.measurement.concurrent_runs:
            if runs.workers < 2:  # noqa: PLR2004 - one alone is measured without a crew
                continue
            crews.setdefault(runs.workers, {})[one.result.case.batch_size] = runs
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


def _deployment(measured: Sequence[MeasuredCase]) -> Deployment:
    by_size = {one.result.case.batch_size: one for one in measured}
    found = [by_size[size] for size in sorted(by_size)]
    result, largest = found[-1].result, found[-1].measurement
    case = result.case
    if result.hardware is None:
        raise ValueError("a way needs the hardware that it was measured on")
    return Deployment(
        model=model_name(case),
        device=case.device,
        runtime=case.runtime,
        dtype=case.dtype,
        threads=case.threads,
        hardware=result.hardware,
        service=_service({size: one.measurement for size, one in by_size.items()}),
        uncertain=launch_spread.launch_band(
            (), virtual=any(one.session.environment.virtual for one in measured)
        ),
        host_bytes=largest.memory.host_peak,
        weights_bytes=largest.memory.weights,
        cold_starts=tuple((one.result.case.batch_size, one.measurement.cold_start) for one in found),
        energies=tuple(
            (one.result.case.batch_size, one.measurement.energy)
            for one in found
            if one.measurement.energy is not None and _metered(one.measurement.energy)
        ),
        doubts=tuple(_doubts(found)),
    )


def _doubts(found: Sequence[MeasuredCase]) -> Iterator[Note]:
    """What was said of the cases of a way that touches advice: each thing once, by its first case."""
    said: dict[str, list[Note]] = {}
    for one in found:
        for note in one.measurement.notes:
            if note.code in DOUBTS:
                text = f"{one.result.nodeid}: {note.text}"
                said.setdefault(note.code, []).append(Note(code=note.code, text=text, hint=note.hint))
        if one.verdict is not None and one.verdict.verdict in DOUBTFUL:
            code = one.verdict.verdict.value
            text = f"{one.result.nodeid} is {code.replace('-', ' ')} in the run that measured it"
            said.setdefault(code, []).append(Note(code=code, text=text))
    for notes in said.values():
        yield msgspec.structs.replace(notes[0], text=f"{notes[0].text}{_more(len(notes) - 1)}")


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


def priced_deployments(
    found: Iterable[Deployment], table: Iterable[Instance], told: Mapping[str, Instance]
) -> tuple[tuple[PricedDeployment, ...], tuple[Note, ...]]:
    """Find a machine to rent for each way, and say for which there is none.

    What the user told counts, where it is of the measured class or has no class, as own machines have none;
    else the cheapest instance of that class. A way without either is no offer: its note asks what the
    machine is, or says in what it is another.
    """
    table = tuple(table)
    found = tuple(found)
    made: list[PricedDeployment] = []
    notes: list[Note] = []
    for deployment in found:
        instance = _standing(deployment, told)
        known = instance is not None
        if instance is None:
            instance = next(iter(instance_types.proposals(deployment.hardware, table)), None)
        other = (
            ""
            if instance is None or not instance.vcpus
            else instance_types.hardware_difference(instance, deployment.hardware)
        )
        if instance is None:
            notes.append(_unknown(deployment, found, table))
        elif other:
            notes.append(_another(deployment, instance, other))
        elif not _fits(deployment, instance):
            notes.append(_too_small(deployment, instance))
        else:
            made.append(PricedDeployment(deployment=deployment, instance=instance, user_specified=known))
    machines: dict[Instance, dict[str, str]] = {}
    for priced in made:
        hardware = priced.deployment.hardware
        machines.setdefault(priced.instance, {})[hardware.id] = hardware.text
    placed = tuple(_placed(priced, machines[priced.instance]) for priced in made)
    return placed, (*dict.fromkeys(notes), *_one_price(machines))


def _one_price(machines: Mapping[Instance, Mapping[str, str]]) -> Iterator[Note]:
    """Say that one price of an own machine stands for several."""
    for instance, classes in machines.items():
        if not instance.vcpus and len(classes) > 1:
            yield Note(
                code=NoteCode.ONE_PRICE,
                text=f"{instance.name} is one price for {' and '.join(classes.values())}",
                hint=f"say --price CLASS=USD_PER_HOUR of each: {', '.join(classes)}",
            )


def _placed(priced: PricedDeployment, machines: Mapping[str, str]) -> PricedDeployment:
    """Name a machine by its hardware too, where its instance stands for several: `machines`, words by class."""
    if len(machines) < 2:  # noqa: PLR2004 - nothing to tell it from
        return priced
    hardware = priced.deployment.hardware
    words = hardware.text if len(set(machines.values())) == len(machines) else hardware.id
    return msgspec.structs.replace(priced, place=words)


def machine_names(deployment: Deployment) -> tuple[str, ...]:
    """What its machine may be called by: its class, its device, the kind of that."""
    return deployment.hardware.id, deployment.device, deployment.device.partition(":")[0]


def _standing(deployment: Deployment, told: Mapping[str, Instance]) -> Instance | None:
    """What a machine is said to be, by device or by the beginning of its class; the longest word counts."""
    fitting = [name for name in told if any(own.startswith(name) for own in machine_names(deployment))]
    return told[max(fitting, key=len)] if fitting else None


def _unknown(deployment: Deployment, found: Sequence[Deployment], table: Sequence[Instance]) -> Note:
    """Ask for a machine, by its class where several were measured with such a device."""
    kind = deployment.device.partition(":")[0]
    if any(
        machine_names(other)[2] == kind and other.hardware.id != deployment.hardware.id for other in found
    ):
        kind = deployment.hardware.id
    close = [
        one.name
        for one in table
        if (one.accelerator_count > 0) == (deployment.hardware.accelerator is not None)
    ]
    example = close[0] if close else "NAME"
    return Note(
        code=NoteCode.UNKNOWN_MACHINE,
        text=f"what is this machine, and what does it cost: {deployment.hardware.text}?",
        hint=f"say --instance {kind}=NAME, such as {example}, or --price {kind}=USD_PER_HOUR, or what "
        "[tool.infergate.instances] says of every run",
    )


def _another(deployment: Deployment, instance: Instance, difference: str) -> Note:
    return Note(
        code=NoteCode.OTHER_MACHINE,
        text=f"{instance.name}, which {deployment.device} is said to be, is another machine: {difference}",
        hint=f"measure on {instance.name}, or say --price {deployment.device}=USD_PER_HOUR for the machine at hand",
    )


def _fits(deployment: Deployment, instance: Instance) -> bool:
    """Whether the process fits into the instance's memory, as far as both are known."""
    if deployment.host_bytes is None or instance.memory_gib is None:
        return True
    return deployment.host_bytes * MEMORY_ROOM <= instance.memory_gib * 2**30


def _too_small(deployment: Deployment, instance: Instance) -> Note:
    return Note(
        code=NoteCode.INSTANCE_MEMORY,
        text=f"{instance.name} has {instance.memory_gib:g} GiB, and {deployment.text} takes "
        f"{units.bytes_(deployment.host_bytes)} of the host",
        hint="choose an instance with more memory",
    )
