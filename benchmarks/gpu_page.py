"""The figures of a GPU as Markdown, and the constants of a projection that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from tabulate import tabulate

from pytest_infergate.core.advice.projectable_work import ItemWork, item_work
from pytest_infergate.core.advice.projection import (
    EFFICIENCY,
    AcceleratorSheet,
    ProjectedRuntime,
    project_batch,
)
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.energy import watts
from pytest_infergate.core.domain.measurement import Measurement, Peaks
from pytest_infergate.core.domain.outcome import CaseResult, Session
from pytest_infergate.core.domain.values import Note
from pytest_infergate.storage.hardware_tables import accelerator_sheet

ANY_MEMORY: Final = 1e18
"""Bytes of the device memory in a row of measured peaks, in which nothing is refused for its size."""


class StepDone(NamedTuple):
    """What became of a step of the check."""

    name: str
    outcome: str
    """``done``, ``cut short``, ``failed`` or ``dropped``."""
    seconds: float
    note: str = ""
    reasons: tuple[str, ...] = ()
    """Why tests of it failed or were skipped."""


class GpuTest(NamedTuple):
    """Outcome of one of the tests with the marker `gpu`."""

    name: str
    outcome: str
    """``passed``, ``failure``, ``error`` or ``skipped``."""
    reason: str = ""


class Figures(NamedTuple):
    """All that a page shows."""

    device: str
    steps: Sequence[StepDone]
    sessions: Mapping[str, Session]
    """By the name of the step; those that measured nothing are absent."""
    tests: Sequence[GpuTest] = ()


class Constant(NamedTuple):
    """What one model says of the constants of a projection."""

    model: str
    launch: float | None
    """`o`: seconds of the host for an operator; ``None`` if the smallest batch is not host-bound."""
    factor: float | None
    """`k`: time of the largest batch over the projected one; ``None`` if it is host-bound."""
    note: str = ""


def cases_of(session: Session | None) -> dict[str, dict[int, CaseResult]]:
    """Return the cases of a session by model and batch size."""
    found: dict[str, dict[int, CaseResult]] = {}
    for case in session.cases if session else ():
        model = case.case.params or case.nodeid
        found.setdefault(model, {})[case.case.batch_size] = case
    return found


def sheet_of(session: Session, dtype: str) -> tuple[AcceleratorSheet, str] | None:
    """Return the row of the data sheet, or else the measured peaks as a row, and which of both it is."""
    peaks = next((case.peaks for case in session.cases if case.peaks), None)
    hardware = next((case.hardware for case in session.cases if case.hardware), None)
    name = (hardware and hardware.accelerator) or ""
    sheet = accelerator_sheet(name) if name else None
    if sheet is not None and dtype in sheet.peak:
        return sheet, "data sheet"
    if peaks is None or dtype not in peaks.flops:
        return None
    measured = AcceleratorSheet(
        name=name or "device",
        memory=ANY_MEMORY,
        peak=dict(peaks.flops),
        bandwidth=peaks.bandwidth,
        evidence="measured",
    )
    return measured, "measured peaks"


def constants(
    work: ItemWork, times: Mapping[int, float], sheet: AcceleratorSheet, dtype: str, runtime: ProjectedRuntime
) -> tuple[float | None, float | None]:
    """Return `o` by the smallest batch and `k` by the largest one, of `call = cbrt((o N)^3 + (k g)^3)`.

    `times` are seconds of a call by batch size; the formulas are those of docs/projection.md.
    """
    bare = EFFICIENCY[runtime]._replace(launch=(0.0, 0.0, 0.0))

    def busy(batch: int) -> float:
        return project_batch(work, sheet, batch, dtype, bare).call_time.point / sheet.time_factor

    small, large = min(times), max(times)
    host = times[small] ** 3 - busy(small) ** 3
    launch = host ** (1 / 3) / work.operators if host > 0 and work.operators else None
    rest = times[large] ** 3 - ((launch or 0.0) * work.operators) ** 3
    # Where launching takes most of the time, the rest says nothing about the device.
    factor = rest ** (1 / 3) / busy(large) if rest > times[large] ** 3 / 2 else None
    return launch, factor


def all_constants(eager: Session, timed: Session, runtime: ProjectedRuntime) -> tuple[list[Constant], str]:
    """Return the constants by model, and what they refer to. `timed` has the times, `eager` the counters."""
    rows: list[Constant] = []
    basis = ""
    by_model = cases_of(eager)
    for model, cases in cases_of(timed).items():
        counted = {
            size: case.measurement for size, case in by_model.get(model, {}).items() if case.measurement
        }
        times = {
            size: case.measurement.latency.p50.value
            for size, case in cases.items()
            if case.measurement and case.measurement.latency
        }
        if not counted or not times:
            rows.append(Constant(model, None, None, "not measured"))
            continue
        work = item_work(counted)
        if isinstance(work, Note):
            rows.append(Constant(model, None, None, work.text))
            continue
        dtype = next(iter(cases.values())).case.dtype or "float32"
        found = sheet_of(eager, dtype)
        if found is None:
            rows.append(Constant(model, None, None, f"no peak in {dtype}"))
            continue
        sheet, basis = found
        rows.append(Constant(model, *constants(work, times, sheet, dtype, runtime)))
    return rows, basis


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    cells = [["" if cell is None else str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, headers=headers, tablefmt="github", disable_numparse=True)


def page(figures: Figures) -> str:
    """Render all figures; what is missing is named."""
    sessions = figures.sessions
    parts = [
        f"# {title(figures)}",
        "Written by `make gpu-check`; results of the models are in the file of the same name beside it.",
        environment(figures),
        "## Steps",
        table(
            ("step", "outcome", "seconds", "note"),
            ((one.name, one.outcome, f"{one.seconds:.0f}", one.note) for one in figures.steps),
        ),
        *bullets(f"{one.name}: {reason[:300]}" for one in figures.steps for reason in one.reasons),
        *section("Peak rates", peak_rows(sessions.get("eager"))),
        *section("Models, eager", model_rows(sessions.get("eager"))),
        *section("Models, compiled", model_rows(sessions.get("compiled"))),
        *constant_sections(sessions),
        *section("Energy", energy_rows(sessions.get("energy"))),
        *section("Paired run: equal code, and 5 % more of it", paired_rows(sessions.get("paired"))),
        *section("Two contexts at once", context_rows(sessions.get("contexts"))),
        *section("Tests with the marker gpu", test_rows(figures.tests)),
        *note_lines(sessions),
    ]
    return "\n\n".join(parts) + "\n"


def title(figures: Figures) -> str:
    """Return the name of the accelerator, or that of the device."""
    cases = (case for one in figures.sessions.values() for case in one.cases)
    hardware = next((case.hardware for case in cases if case.hardware), None)
    return (hardware and hardware.accelerator) or figures.device


def environment(figures: Figures) -> str:
    """Return what was measured where, in one paragraph."""
    one = next(iter(figures.sessions.values()), None)
    if one is None:
        return "Nothing was measured."
    hardware = next((case.hardware for case in one.cases if case.hardware), None)
    software = ", ".join(f"{name} {version}" for name, version in _software(one))
    host = f"{hardware.cpu_model}, {units.plural(hardware.cores, 'core')}" if hardware else "unknown host"
    driver = f", driver {hardware.driver}" if hardware and hardware.driver else ""
    return f"Device `{figures.device}`{driver}; {host}; {software}; {one.created}."


def _software(session: Session) -> list[tuple[str, str]]:
    packages = session.environment.packages
    names = ("torch", "transformers", "pytest-infergate")
    python = [("Python", session.environment.python)] if session.environment.python else []
    return [*python, *((name, packages[name]) for name in names if name in packages)]


def bullets(lines: Iterable[str]) -> list[str]:
    """Return a list in Markdown; nothing without lines."""
    text = "\n".join(f"- {line}" for line in lines)
    return [text] if text else []


Section = tuple[Sequence[str], list[Sequence[object]]]
"""Headers and rows of a table."""


def section(name: str, content: Section | None) -> list[str]:
    """Return a heading and a table; that there is nothing, if there are no rows."""
    if content is None or not content[1]:
        return [f"## {name}", "Not measured."]
    return [f"## {name}", table(*content)]


def measured(session: Session | None) -> list[tuple[CaseResult, Measurement]]:
    """Return the cases that have times."""
    cases = session.cases if session else ()
    return [(case, case.measurement) for case in cases if case.measurement and case.measurement.latency]


def name_of(case: CaseResult) -> str:
    """Return the model of a case."""
    return case.case.params or case.nodeid.partition("::")[2]


def peak_rows(session: Session | None) -> Section | None:
    """Return measured peak rates beside those of the data sheet."""
    peaks: Peaks | None = (
        next((case.peaks for case in session.cases if case.peaks), None) if session else None
    )
    if session is None or peaks is None:
        return None
    hardware = next((case.hardware for case in session.cases if case.hardware), None)
    sheet = accelerator_sheet(hardware.accelerator) if hardware and hardware.accelerator else None
    rows: list[Sequence[object]] = [
        (dtype, units.flops(rate) + "/s", _of_sheet(rate, sheet.peak.get(dtype) if sheet else None))
        for dtype, rate in peaks.flops.items()
    ]
    rows.append(
        (
            "copy",
            units.bytes_(peaks.bandwidth) + "/s",
            _of_sheet(peaks.bandwidth, sheet.bandwidth if sheet else None),
        )
    )
    return ("peak", "measured", "share of the data sheet"), rows


def _of_sheet(rate: float, sheet: float | None) -> str:
    return "-" if sheet is None else units.percent(rate / sheet, signed=False)


def model_rows(session: Session | None) -> Section | None:
    """Return times, memory and the share of the peak arithmetic of each case."""
    rows: list[Sequence[object]] = []
    for case in sorted(session.cases if session else (), key=lambda case: case.case.order):
        one = case.measurement
        if one is None or one.latency is None:
            reason = case.reason.text if case.reason else "not measured"
            rows.append((name_of(case), case.case.batch_size, case.outcome.value, reason))
            continue
        seconds, flops = one.latency.p50.value, one.counters.totals.get("flops")
        peak = max(case.peaks.flops.values(), default=0.0) if case.peaks else 0.0
        rows.append(
            (
                name_of(case),
                case.case.batch_size,
                case.outcome.value,
                units.seconds(seconds),
                units.seconds(one.enqueue),
                units.seconds(one.device_time),
                units.rate(one.throughput),
                units.bytes_(one.memory.activations),
                units.percent(flops / seconds / peak, signed=False) if flops and peak else "-",
                units.seconds(one.cold_start),
            )
        )
    headers = (
        "model",
        "batch",
        "outcome",
        "p50",
        "enqueue",
        "device",
        "items/s",
        "activations",
        "of peak",
        "first call",
    )
    return headers, [(*row, *[""] * (len(headers) - len(row))) for row in rows]


def constant_sections(sessions: Mapping[str, Session]) -> list[str]:
    """Return the constants `o` and `k` of both runtimes."""
    parts = ["## Constants of docs/projection.md"]
    eager = sessions.get("eager")
    runtimes: tuple[tuple[str, ProjectedRuntime], ...] = (("eager", "eager"), ("compiled", "compiled"))
    for name, runtime in runtimes:
        timed = sessions.get(name)
        if eager is None or timed is None:
            parts.append(f"{runtime}: not measured.")
            continue
        rows, basis = all_constants(eager, timed, runtime)
        launches = [row.launch for row in rows if row.launch is not None]
        factors = [row.factor for row in rows if row.factor is not None]
        shown = [
            (row.model, micro(row.launch), "-" if row.factor is None else f"{row.factor:.2f}", row.note)
            for row in rows
        ]
        middle = (
            "median",
            micro(median(launches)) if launches else "-",
            f"{median(factors):.2f}" if factors else "-",
        )
        parts += [
            f"{runtime}, relative to the {basis or 'measured peaks'}:",
            table(("model", "o, µs an operator", "k", "note"), [*shown, (*middle, "")]),
        ]
    return parts


def micro(seconds: float | None) -> str:
    """Return microseconds with three digits."""
    return "-" if seconds is None else units.significant(seconds * 1e6)


def energy_rows(session: Session | None) -> Section:
    """Return the energy of an item, and the power at work and at rest."""
    rows: list[Sequence[object]] = []
    for case, one in measured(session):
        energy = one.energy
        if energy is None:
            rows.append((name_of(case), case.case.batch_size, "no meter", "", "", ""))
            continue
        idle = "-" if energy.idle_watts is None else f"{energy.idle_watts:.0f} W"
        rows.append(
            (
                name_of(case),
                case.case.batch_size,
                f"{energy.source}, {energy.scope}",
                units.joules(energy.joules / energy.batch_size),
                f"{watts(energy):.0f} W",
                idle,
            )
        )
    return ("model", "batch", "meter", "an item", "power", "idle"), rows


def paired_rows(session: Session | None) -> Section:
    """Return the verdicts of the paired run, and those that are expected."""
    rows: list[Sequence[object]] = []
    for verdict in session.gate.verdicts if session else ():
        times = next((row for row in verdict.comparisons if row.evidence == "paired"), None)
        if times is None:
            rows.append((verdict.case.params, "-", "-", "-", verdict.verdict.value))
            continue
        ends = "-" if times.low is None else f"{units.percent(times.low)} to {units.percent(times.high)}"
        rows.append(
            (
                verdict.case.params,
                units.seconds(times.candidate),
                units.percent(times.effect),
                ends,
                times.verdict.value,
            )
        )
    return ("code", "p50", "change", "99 % interval", "verdict of the times"), rows


def context_rows(session: Session | None) -> Section:
    """Return the throughput of one process and of several at once."""
    rows: list[Sequence[object]] = []
    for case, one in measured(session):
        for run in one.concurrent_runs:
            gain = "-" if not one.throughput else f"{run.throughput / one.throughput:.2f}"
            rows.append(
                (
                    name_of(case),
                    case.case.batch_size,
                    units.rate(one.throughput),
                    f"{units.rate(run.throughput)} of {run.workers}",
                    gain,
                )
            )
    return ("model", "batch", "one process", "several processes", "gain"), rows


def test_rows(tests: Sequence[GpuTest]) -> Section:
    """Return the outcomes of the gpu-marked tests, what failed first."""
    order = {"failure": 0, "error": 1, "skipped": 2, "passed": 3}
    ordered = sorted(tests, key=lambda one: (order.get(one.outcome, 0), one.name))
    return ("test", "outcome", "reason"), [(one.name, one.outcome, one.reason[:200]) for one in ordered]


def note_lines(sessions: Mapping[str, Session]) -> list[str]:
    """Return the notes on cases by their code: the number of cases, and the text of the first."""
    texts: dict[str, list[str]] = {}
    for one in sessions.values():
        for case in one.cases:
            notes = case.measurement.notes if case.measurement else ()
            for note in (*notes, *filter(None, (case.reason,))):
                texts.setdefault(note.code, []).append(f"{name_of(case)}: {note.text}")
    ordered = sorted(texts.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = bullets(
        f"`{code}`, {units.plural(len(found), 'case')}, such as {found[0][:300]}" for code, found in ordered
    )
    return ["## Notes", *lines] if lines else []
