"""The part of a case's measurement in which the model is served under load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, NamedTuple

import msgspec

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import Contention, Estimate, LoadFigures, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.contention import IDLE, heavy
from pytest_infergate.instruments import cpu_contention
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.sampler import quiet_collector
from pytest_infergate.instruments.timed_calls import Inputs, RepeatedCall
from pytest_infergate.load import loadgen
from pytest_infergate.load.batching_server import Batch, Limits, Served, Traffic, serve_requests
from pytest_infergate.load.load_statistics import answers, load_figures
from pytest_infergate.load.loadgen import LoadGenError, loadgen_settings
from pytest_infergate.load.request_items import Items, batch_sizes_below
from pytest_infergate.measure.case import Watched
from pytest_infergate.measure.invocation import Invocation

INSTALL: Final = "pip install 'pytest-infergate[loadgen]'"
DRAIN: Final = 1.25
"""Time after which a server that is behind stops, over that for which requests arrive."""
SATURATED: Final = 0.95
"""Share of the time in calls from which on a queue is said to grow without bound."""
LATE: Final = 0.1
"""Share by which LoadGen's own p95 may be longer than that of the server, beside `LATE_SECONDS`."""
LATE_SECONDS: Final = 1e-3


def loadgen_absence() -> Note | None:
    """Return why no load can be generated here, if none can."""
    if sys.platform == "win32":
        return not_measured(
            "LoadGen is connected by pipes, which Windows cannot wait for", "use Linux or macOS"
        )
    if not loadgen.installed():
        return not_measured("mlcommons-loadgen is not installed", INSTALL)
    return None


def not_measured(why: str, hint: str) -> Note:
    """Return a note on a load test that was left out."""
    return Note(code=NoteCode.LOAD_NOT_MEASURED, text=f"not measured under load: {why}", hint=hint)


class LoadPlan(NamedTuple):
    """What a load test consists of."""

    load: Load
    seconds: float
    """Time for which requests arrive."""
    batch_size: int
    """Items of the input, and requests of a batch at most."""
    device: Device
    limit: float | None = None
    """Latency in seconds that a good answer keeps."""
    watched: Watched = lambda _: nullcontext()
    """Ends a call that never returns."""
    clock: Callable[[], int] = time.monotonic_ns
    traffic: Callable[[dict[str, Any]], AbstractContextManager[Traffic]] = loadgen.running
    absence: Callable[[], Note | None] = loadgen_absence
    """Returns why no load can be generated, if none can."""


def measured_under_load(
    plan: LoadPlan, invocation: Invocation, arguments: Inputs | None, measurement: Measurement
) -> Measurement:
    """Serve a model that was measured under load; return its measurement with the figures and notes.

    `invocation` is the call with its input on the host, and `arguments` what restores the input. Exceptions
    of the model are passed on.
    """
    figures: LoadFigures | None = None
    if measurement.latency is None:
        notes = [not_measured("the run takes counters only", "leave out --infer-counters-only")]
    elif measurement.stream is not None:
        why = "the model returns a stream, and its items have no single moment of an answer"
        notes = [not_measured(why, "leave out the load, or return the whole result")]
    elif plan.seconds <= 0:
        notes = [not_measured("--infer-max-total left no time", "raise it, or select fewer cases")]
    elif (absent := plan.absence()) is not None:
        notes = [absent]
    else:
        try:
            figures, notes = served_figures(plan, invocation, arguments, measurement)
        except LoadGenError as error:
            # What was served until then, see `described`.
            why = "; ".join([f"LoadGen failed: {error}", *getattr(error, "__notes__", ())])
            notes = [not_measured(why, "run it again, or see its documentation")]
    return msgspec.structs.replace(measurement, load=figures, notes=(*measurement.notes, *notes))


def served_figures(
    plan: LoadPlan, invocation: Invocation, arguments: Inputs | None, measurement: Measurement
) -> tuple[LoadFigures | None, list[Note]]:
    """Serve the model, and return its figures with notes on them."""
    load, size = plan.load, plan.batch_size
    items, repeated = Items(invocation, size), RepeatedCall(invocation.bound(), arguments)
    whole = items.whole(batch_sizes_below(size)) if size > 1 else ""
    one = size == 1 or bool(whole)

    def call(batch: Sequence[int]) -> None:
        if one:
            repeated.issue(1)
        else:
            items.call(batch)
        plan.device.synchronize()

    call(range(size))
    settings = loadgen_settings(
        load,
        plan.seconds,
        items=1 if one else size,
        call_seconds=measurement.call_times.p50.value,
        rate=(measurement.throughput or 1.0) / (size if whole else 1),
        limit=plan.limit,
    )
    limits = Limits(1 if one else size, plan.seconds * (1 if load.scenario == "offline" else DRAIN))
    batches: list[Batch] = []
    clocks = plan.device.cpu_times()
    with (
        quiet_collector(),
        described(load, plan.seconds, batches),
        plan.watched(lambda: len(batches)),
        plan.traffic(settings) as traffic,
    ):
        served = serve_requests(traffic, call, plan.clock, limits, batches)
        own = {name: traffic.own_percentile(int(name[1:])) for name in ("p95", "p99")}
    taken = cpu_contention.during(clocks, plan.device.cpu_times(), measurement.threads or 1)
    figures = load_figures(
        load, served, plan.seconds, max_batch=limits.max_batch, limit=plan.limit, contention=taken
    )
    if figures is None:
        why = f"no request arrived within {units.duration(plan.seconds)} at {load.text}"
        return None, [not_measured(why, "raise the load, or --infer-max-time")]
    notes = (
        whole_note(whole, size),
        saturated_note(figures),
        late_note(figures, own["p95"]),
        busy_note(taken),
    )
    return with_own(figures, own), [*filter(None, notes)]


def with_own(figures: LoadFigures, own: Mapping[str, float | None]) -> LoadFigures:
    """Raise upper bounds to the percentiles that LoadGen has seen, which counts from the planned moments."""
    raised = {}
    for name, seconds in own.items():
        known: Estimate | None = getattr(figures, name)
        if seconds is not None and known is not None and known.high is not None:
            raised[name] = msgspec.structs.replace(known, high=max(known.high, seconds))
    return msgspec.structs.replace(figures, **raised)


@contextmanager
def described(load: Load, seconds: float, batches: Sequence[Batch]) -> Iterator[None]:
    """Say how far a load test was when it was interrupted, or when the model raised."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{so_far(load, seconds, batches)}; these figures are partial") from None
    except Exception as error:
        # Python 3.10 has no add_note, but pytest shows these notes there too.
        text = so_far(load, seconds, batches)
        error.__notes__ = [*getattr(error, "__notes__", ()), text]  # type: ignore[attr-defined]
        raise


def so_far(load: Load, seconds: float, batches: Sequence[Batch]) -> str:
    """Describe a load test that has not ended, by its batches."""
    found = answers(load, Served(list(batches), (), 0)).latencies
    text = f"infergate served the model under a load of {load.text} for {units.duration(seconds)}"
    if not found:
        return f"{text}: it ended before the first answer"
    passed = (batches[-1].finished - min(batch.requests[0].arrived for batch in batches)) / 1e9
    p95 = units.seconds(stats.quantile(sorted(found), 0.95))
    return f"{text}: it ended after {units.seconds(passed)} and {len(found):,} answers, p95 {p95} so far"


def whole_note(whole: str, size: int) -> Note | None:
    """Return a note if the whole input is one request, for the reason `whole`."""
    if not whole:
        return None
    return Note(
        code=NoteCode.LOAD_NOT_BATCHED,
        text=f"under load, each request is the whole input of {size} items, and is served alone: {whole}",
        hint="pass infer the batch as tensors whose first dimension is infer.batch_size",
    )


def saturated_note(figures: LoadFigures) -> Note | None:
    """Return a note if requests arrived faster than they were answered."""
    left = figures.queries - figures.answered
    if not figures.load.open or (not left and figures.busy < SATURATED):
        return None
    unanswered = f", and {left:,} of {figures.queries:,} requests were not answered" if left else ""
    return Note(
        code=NoteCode.LOAD_SATURATED,
        text=f"a load of {figures.load.text} is more than the model serves in time: {figures.rate:.3g}/s "
        f"were answered{unanswered}. Latencies grow with the length of such a test",
        hint="lower the load, or raise the largest of the batch sizes",
    )


def busy_note(taken: Contention) -> Note | None:
    """Return a note if other processes took too much of the time for a budget to be decided."""
    if not heavy(taken.share):
        return None
    share = units.percent(taken.share, signed=False, decimals=0)
    text = f"other processes took {share} of the case's processor time under load"
    return Note(code=NoteCode.CPU_CONTENTION, text=text, hint=IDLE)


def late_note(figures: LoadFigures, own_p95: float | None) -> Note | None:
    """Return a note if LoadGen, which counts from the planned moments, has seen much longer latencies."""
    if own_p95 is None or figures.p95 is None:
        return None
    if own_p95 <= figures.p95.value * (1 + LATE) + LATE_SECONDS:
        return None
    seen, true = units.seconds(figures.p95.value), units.seconds(own_p95)
    return Note(
        code=NoteCode.LOAD_LATE,
        text=f"LoadGen's own p95 is {true}, that of the server {seen}: requests were sent late, or answers "
        "were noticed late",
        hint="leave a core for LoadGen: set threads to fewer than there are cores",
    )
