"""Deployments: the measured ways to run a model, on one device, with one dtype and at some batch sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain import energy, launch_spread, units
from pytest_infergate.core.domain.measurement import ConcurrentRun, Energy, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Session, Verdict
from pytest_infergate.core.domain.sampled import Sampled
from pytest_infergate.core.domain.values import REMOTE_DEVICE, Case, Hardware, Note, Struct

# Results files come from elsewhere and may contain anything. Within these bounds, far beyond what a clock or
# a meter can measure, every figure of a plan stays finite.
MIN_CALL_SECONDS: Final = 1e-9
MAX_CALL_SECONDS: Final = 1e7
MAX_WATTS: Final = 1e9
MAX_PACED: Final = 100.0
UNUSABLE_VERDICTS: Final = {
    Verdict.MISMATCH: "its outputs are not those that are expected",
    Verdict.INVALID: "its measurement is invalid",
    Verdict.NOT_MEASURED: "it was not measured",
}
"""Verdicts of cases that are not deployments, with the reason."""
DOUBTFUL_VERDICTS: Final = (Verdict.REGRESSED, Verdict.OVER_BUDGET, Verdict.SUSPECTED)
"""Verdicts that the advice mentions."""
DOUBTFUL_NOTES: Final = (NoteCode.CPU_CONTENTION, NoteCode.NOT_STEADY, NoteCode.PAGE_FAULTS)
"""Notes of measurements that make their times doubtful."""


class MeasuredCase(NamedTuple):
    """A case whose times can be used."""

    result: CaseResult
    measurement: Measurement
    session: Session
    verdict: CaseVerdict | None


class Deployment(Struct, frozen=True, kw_only=True):
    """One measured way to run one model."""

    model: str
    """The test and the user's own parameters."""
    device: str
    runtime: str = "eager"
    dtype: str | None = None
    threads: int | None = None
    """Threads of each process; ``None`` for one process with the number that torch chooses."""
    workers: int = 1
    """Number of concurrent processes on one machine, as measured."""
    hardware: Hardware
    service: ServiceTimes
    launch_band: float
    """Half-width, on the log scale, by which another process launch may be faster or slower as a whole."""
    sampled: tuple[Sampled, ...] = ()
    """What the service times of each batch size rest on; empty if it is unknown."""
    host_bytes: int | None = None
    """Peak host memory of all workers."""
    weights_bytes: int | None = None
    cold_starts: tuple[tuple[int, float], ...] = ()
    """Batch sizes with the seconds of the first call in a process."""
    energies: tuple[tuple[int, Energy], ...] = ()
    """Batch sizes with the energy of a call of one worker; empty if it is unknown."""
    doubts: tuple[Note, ...] = ()
    """Reasons to doubt the times, from the runs that measured them."""

    @property
    def text(self) -> str:
        """``cuda, float16, 2 workers of 1 thread``."""
        return deployment_text(self.device, self.runtime, self.dtype, self.threads, self.workers)

    @property
    def slowdown(self) -> float:
        """Factor by which calls may be slower in another launch, and in a server that rests between them."""
        return math.exp(self.launch_band) * max([1.0, *(each.paced or 1.0 for each in self.sampled)])

    def sampled_up_to(self, batch: int) -> Sampled | None:
        """Return what the service times of batches up to a size rest on."""
        used = [
            each for size, each in zip(self.service.batch_sizes, self.sampled, strict=False) if size <= batch
        ]
        if not used:
            return None
        seconds = [each.seconds for each in used if each.seconds is not None]
        return Sampled(
            calls=min(each.calls for each in used),
            seconds=min(seconds) if len(seconds) == len(used) else None,
            ordered=self.service.order_of(batch) == batch,
            paced=max((each.paced for each in self.sampled if each.paced is not None), default=None),
        )


def deployment_text(device: str, runtime: str, dtype: str | None, threads: int | None, workers: int) -> str:
    """Return the device and what differs from its default: ``cuda, float16, 2 workers of 1 thread``."""
    each = "" if threads is None else f" of {units.plural(threads, 'thread')}"
    parts = (
        device,
        None if runtime == "eager" else runtime,
        dtype,
        None if threads is None or workers > 1 else units.plural(threads, "thread"),
        None if workers == 1 else units.plural(workers, "worker") + each,
    )
    return ", ".join(filter(None, parts))


def model_name(case: Case) -> str:
    """Return the model of a case: its test and the user's own parameters."""
    return f"{case.test}[{case.params}]" if case.params else case.test


def deployments(sessions: Iterable[Session]) -> tuple[Deployment, ...]:
    """Return every measured deployment with its batch sizes.

    Paired runs are left out, because their times are valid for their workers only. Cases are left out if
    their test failed, their outputs are wrong or their measurement is invalid.
    """
    by_axes: dict[tuple[object, ...], list[MeasuredCase]] = {}
    for result, verdict, session in judged_cases(sessions):
        measurement, hardware, case = result.measurement, result.hardware, result.case
        if _unusable(result, verdict) or measurement is None or hardware is None:
            continue
        axes = case.device, case.runtime, case.dtype or "", case.threads or 0
        by_axes.setdefault((case.test, case.params, *axes, hardware.id), []).append(
            MeasuredCase(result, measurement, session, verdict)
        )
    made = []
    for key in sorted(by_axes, key=str):
        alone = _deployment(by_axes[key])
        made += [alone, *_concurrent_deployments(alone, by_axes[key])]
    return tuple(made)


def left_out(sessions: Iterable[Session]) -> dict[str, tuple[Note, ...]]:
    """Return notes by model on the cases that `deployments` leaves out, except those that were skipped."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for result, verdict, _ in judged_cases(sessions):
        reason = _unusable(result, verdict)
        if reason and result.outcome is not Outcome.SKIPPED:
            reasons.setdefault(model_name(result.case), {}).setdefault(reason, []).append(result.nodeid)
    return {
        name: tuple(
            Note(code=NoteCode.LEFT_OUT, text=f"{nodeids[0]} is left out: {reason}{_more(len(nodeids) - 1)}")
            for reason, nodeids in by_reason.items()
        )
        for name, by_reason in reasons.items()
    }


def _more(count: int) -> str:
    """Return a remark that a note applies to other cases of the model as well."""
    return f"; also {units.plural(count, 'more case')}" if count else ""


def judged_cases(sessions: Iterable[Session]) -> Iterator[tuple[CaseResult, CaseVerdict | None, Session]]:
    """Yield cases with their verdicts and sessions, without those of paired runs."""
    for session in sessions:
        by_severity = reversed(session.gate.verdicts)  # of several verdicts, the most severe is kept
        verdicts = {(verdict.nodeid, verdict.case): verdict for verdict in by_severity}
        # Threads wait differently in paired workers, so that their times are not those of a service.
        for result in session.cases if session.against is None else ():
            yield result, verdicts.get((result.nodeid, result.case)), session


def _unusable(result: CaseResult, verdict: CaseVerdict | None) -> str:
    """Return the reason why the times of a case cannot be planned with; empty if they can."""
    if result.outcome is not Outcome.MEASURED:
        return f"its outcome is {result.outcome.value}"
    if verdict is not None and verdict.verdict in UNUSABLE_VERDICTS:
        return UNUSABLE_VERDICTS[verdict.verdict]
    if result.measurement is None or result.hardware is None:
        return "its results contain no times or no hardware"
    latency = result.measurement.latency
    remote = result.case.device == REMOTE_DEVICE
    if latency is None or remote:
        return "nothing is known of the machine of its server" if remote else "it was counted, and not timed"
    try:
        service = _service_times({result.case.batch_size: result.measurement})
    except ValueError:
        return "its timings are not plausible"
    # The mean of a distribution is between its extremes.
    ordered = latency.percentiles[0] <= latency.mean <= latency.percentiles[-1]
    return "" if ordered and _measurable(service) else "its timings are not plausible"


def _measurable(service: ServiceTimes) -> bool:
    """Return whether a clock can have measured such times."""
    return all(
        times[0] >= MIN_CALL_SECONDS and times[-1] <= MAX_CALL_SECONDS for times in service.percentiles
    ) and all(MIN_CALL_SECONDS <= call <= MAX_CALL_SECONDS for calls in service.calls for call in calls)


def _deployment(measured: Sequence[MeasuredCase]) -> Deployment:
    """Return the deployment of one worker."""
    # Of several measurements of a batch size, the last one counts.
    by_size = {entry.result.case.batch_size: entry for entry in measured}
    ordered = [by_size[size] for size in sorted(by_size)]
    result, largest = ordered[-1].result, ordered[-1].measurement
    case = result.case
    if result.hardware is None:
        raise ValueError("a deployment needs the hardware that it was measured on")

    def plausible(taken: Energy) -> bool:
        if not (taken.seconds > 0 and taken.batch_size > 0):
            return False
        return 0 < energy.watts(taken) <= MAX_WATTS and 0 <= (taken.idle_watts or 0.0) <= MAX_WATTS

    metered = ((entry.result.case.batch_size, entry.measurement.energy) for entry in ordered)
    return Deployment(
        model=model_name(case),
        device=case.device,
        runtime=case.runtime,
        dtype=case.dtype,
        threads=case.threads,
        hardware=result.hardware,
        service=_service_times({size: entry.measurement for size, entry in by_size.items()}),
        # Without a history: a file of results does not contain the baseline.
        launch_band=launch_spread.launch_band(
            (), virtual=any(entry.session.environment.virtual for entry in measured)
        ),
        sampled=tuple(_sampled(entry.measurement) for entry in ordered),
        host_bytes=largest.memory.host_peak,
        weights_bytes=largest.memory.weights,
        cold_starts=tuple(
            (entry.result.case.batch_size, entry.measurement.cold_start)
            for entry in ordered
            if entry.measurement.cold_start is not None
        ),
        energies=tuple((size, taken) for size, taken in metered if taken is not None and plausible(taken)),
        doubts=tuple(_doubts(ordered)),
    )


def _concurrent_deployments(alone: Deployment, measured: Sequence[MeasuredCase]) -> Iterator[Deployment]:
    """Yield the deployments of several concurrent workers, at the batch sizes measured with them."""
    by_workers: dict[int, dict[int, ConcurrentRun]] = {}
    for entry in measured:
        for run in entry.measurement.concurrent_runs:
            if run.workers >= 2:  # noqa: PLR2004 - one worker is not concurrent
                by_workers.setdefault(run.workers, {})[entry.result.case.batch_size] = run
    # Batch sizes that were measured with one worker only are left out: their times with several are unknown.
    for workers, by_size in sorted(by_workers.items()):
        try:
            service = ServiceTimes(
                batch_sizes=tuple(sorted(by_size)),
                percentiles=tuple(by_size[size].percentiles for size in sorted(by_size)),
                means=tuple(by_size[size].mean for size in sorted(by_size)),
            )
        except ValueError:  # a file from elsewhere may contain anything
            continue
        if _measurable(service):
            # The energy of several workers at once was not measured.
            host = None if alone.host_bytes is None else workers * alone.host_bytes
            # Several workers share the cores, so that each has fewer threads than one alone.
            threads = by_size[service.largest].threads or alone.threads
            yield msgspec.structs.replace(
                alone,
                workers=workers,
                threads=threads,
                service=service,
                sampled=tuple(Sampled(calls=by_size[size].calls) for size in service.batch_sizes),
                host_bytes=host,
                energies=(),
            )


def _sampled(measurement: Measurement) -> Sampled:
    order, calls = measurement.call_order, measurement.call_times.count
    if order is None:
        return Sampled(calls=calls)
    paced = order.paced if order.paced is not None and 1 / MAX_PACED <= order.paced <= MAX_PACED else None
    return Sampled(calls=calls, seconds=order.span, ordered=bool(order.seconds), paced=paced)


def _doubts(measured: Sequence[MeasuredCase]) -> Iterator[Note]:
    """Yield the reasons to doubt the times of a deployment, each once and with its first case."""
    notes: dict[str, list[Note]] = {}
    for entry in measured:
        for note in entry.measurement.notes:
            if note.code in DOUBTFUL_NOTES:
                text = f"{entry.result.nodeid}: {note.text}"
                notes.setdefault(note.code, []).append(Note(code=note.code, text=text, hint=note.hint))
        if entry.verdict is not None and entry.verdict.verdict in DOUBTFUL_VERDICTS:
            code = entry.verdict.verdict.value
            text = f"{entry.result.nodeid} is {code.replace('-', ' ')} in the run that measured it"
            notes.setdefault(code, []).append(Note(code=code, text=text))
    for same in notes.values():
        yield msgspec.structs.replace(same[0], text=f"{same[0].text}{_more(len(same) - 1)}")


def _service_times(by_size: Mapping[int, Measurement]) -> ServiceTimes:
    """Return the call times of a service, which copies inputs in and outputs out on devices that need it."""
    sizes = tuple(sorted(by_size))
    copies = []
    for size in sizes:
        whole = by_size[size].host_to_host
        copies.append(0.0 if whole is None else max(0.0, whole - by_size[size].call_times.p50.value))
    latencies = [by_size[size].call_times for size in sizes]
    return ServiceTimes(
        batch_sizes=sizes,
        percentiles=tuple(
            tuple(copy + time for time in latency.percentiles)
            for copy, latency in zip(copies, latencies, strict=True)
        ),
        means=tuple(copy + latency.mean for copy, latency in zip(copies, latencies, strict=True)),
        calls=tuple(
            () if order is None else tuple(copy + time for time in order.seconds)
            for copy, order in zip(copies, (by_size[size].call_order for size in sizes), strict=True)
        ),
    )
