"""The runtimes and dtypes of a test as text: errors beside times, conversions, the fastest one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.advice.runtime_choice import RuntimeCase, RuntimeChoice, runtime_choices
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Accuracy, Conversion, Measurement, Parity
from pytest_infergate.core.domain.outcome import CaseResult, Session
from pytest_infergate.core.domain.values import Case
from pytest_infergate.report.charts.line_charts import Chart, error_by_time
from pytest_infergate.report.sanitize import plain, within_test
from pytest_infergate.report.table import Column, shown_columns


class RuntimeRow(NamedTuple):
    """One case whose output was compared, or whose model was converted."""

    label: str
    measured: Measurement


class DrawnChoice(NamedTuple):
    """One choice on a page."""

    title: str
    """The axes that its cases share; empty if a test has a single choice."""
    sentences: Sequence[str]
    chart: Chart | None


class TestRuntimes(NamedTuple):
    """The runtimes of one test on a page."""

    choices: Sequence[DrawnChoice]
    columns: Sequence[Column[RuntimeRow]]
    rows: Sequence[RuntimeRow]


def _of_parity(
    key: str, header: str, cell: Callable[[Parity], str], *, title: str = "", left: bool = False
) -> Column[RuntimeRow]:
    """Column of a figure of `Parity`."""

    def shown(row: RuntimeRow) -> str:
        return units.UNKNOWN if row.measured.parity is None else cell(row.measured.parity)

    return Column(key, header, shown, left=left, title=title, shown=lambda rows: _any(rows, shown))


def _of_conversion(key: str, header: str, cell: Callable[[Conversion], str]) -> Column[RuntimeRow]:
    """Column of a figure of `Conversion`."""

    def shown(row: RuntimeRow) -> str:
        return units.UNKNOWN if row.measured.conversion is None else cell(row.measured.conversion)

    return Column(key, header, shown, shown=lambda rows: _any(rows, shown))


def _any(rows: Sequence[RuntimeRow], cell: Callable[[RuntimeRow], str]) -> bool:
    return any(cell(row) != units.UNKNOWN for row in rows)


def _share(value: float | None) -> str:
    return units.percent(value, signed=False)


def accuracy_figure(found: Accuracy | None) -> str:
    """Format what the user's function of accuracy returned."""
    return units.UNKNOWN if found is None else units.significant(found.value, 4)


def _cosine(parity: Parity) -> str:
    return units.UNKNOWN if parity.cosine is None else f"{parity.cosine:.6f}"


RUNTIME_COLUMNS: Final[tuple[Column[RuntimeRow], ...]] = (
    Column("case", "case", lambda row: row.label, left=True),
    Column(
        "p50",
        "p50",
        lambda row: units.seconds(None if row.measured.latency is None else row.measured.latency.p50.value),
        shown=lambda rows: any(row.measured.latency is not None for row in rows),
    ),
    _of_parity("error", "error", lambda parity: units.power(parity.error)),
    _of_parity("cosine", "cosine", _cosine),
    _of_parity("same_top", "same top class", lambda parity: _share(parity.same_top)),
    _of_parity(
        "agrees", "output", lambda parity: "agrees" if parity.difference is None else "differs", left=True
    ),
    _of_parity(
        "first_module",
        "first differs in",
        lambda parity: plain(parity.first_module or units.UNKNOWN),
        left=True,
    ),
    Column(
        "accuracy",
        "accuracy",
        lambda row: (
            accuracy_figure(row.measured.accuracy)
            + (" (too low)" if row.measured.accuracy is not None and row.measured.accuracy.too_low else "")
        ),
        shown=lambda rows: any(row.measured.accuracy is not None for row in rows),
    ),
    _of_conversion("export", "export", lambda made: units.seconds(made.export)),
    _of_conversion(
        "build", "build", lambda made: f"{units.seconds(made.build)}{' (cached)' if made.cached else ''}"
    ),
    _of_conversion("load", "load", lambda made: units.seconds(made.load)),
    _of_conversion("size", "size", lambda made: units.bytes_(made.size)),
)


def runtime_rows(cases: Iterable[tuple[str, CaseResult | None]]) -> list[RuntimeRow]:
    """Return a row for each case with an error or a conversion, and for the eager cases beside them."""
    rows = [
        RuntimeRow(label, result.measurement)
        for label, result in cases
        if result is not None and result.measurement is not None
    ]
    known = any(
        row.measured.parity or row.measured.accuracy or row.measured.conversion is not None for row in rows
    )
    return rows if known else []


def runtimes_by_test(session: Session) -> dict[str, TestRuntimes]:
    """Return what a page shows of runtimes, by test; only tests with an error or a conversion."""
    by_test: dict[str, list[CaseResult]] = defaultdict(list)
    for result in session.cases:
        by_test[result.case.test].append(result)
    place, axes = _places(session), _axes_in_run(session)
    found = {}
    for test, results in by_test.items():
        rows = runtime_rows(
            (
                name_in_run(result) + place("" if result.hardware is None else result.hardware.id),
                result,
            )
            for result in sorted(results, key=lambda result: result.case.order)
        )
        if rows:
            drawn = choices(msgspec.structs.replace(session, cases=tuple(results)))
            found[test] = TestRuntimes(
                choices=[
                    DrawnChoice(
                        title=(axes(one) + place(one.machine)) if drawn[1:] else "",
                        sentences=choice_sentences(one),
                        chart=error_by_time([runtime_name(each.case) for each in one.cases], one),
                    )
                    for one in drawn
                ],
                columns=shown_columns(RUNTIME_COLUMNS, rows),
                rows=rows,
            )
    return found


def runtime_name(case: Case) -> str:
    """Return the axes that a choice is about: ``openvino bfloat16``."""
    return plain(case.runtime if case.dtype is None else f"{case.runtime} {case.dtype}")


def name_in_run(result: CaseResult) -> str:
    """Return the name of a case within its test as its run has it: ``cpu-eager-float32-b1``."""
    test, bracket, name = result.nodeid.partition("[")
    return plain(name[:-1]) if bracket and test == result.case.test else within_test(result.case)


def _axes_in_run(session: Session) -> Callable[[RuntimeChoice], str]:
    """Return a function that names the axes that all cases of a choice share: ``cpu-b8``."""
    names = {result.case: name_in_run(result) for result in session.cases}

    def axes(choice: RuntimeChoice) -> str:
        case = choice.cases[0].case
        name = names[case].replace(f"-{plain(case.runtime)}", "", 1)
        return name if case.dtype is None else name.replace(f"-{plain(case.dtype)}", "", 1)

    return axes


def choices(session: Session) -> tuple[RuntimeChoice, ...]:
    """Return the choices of a session; none in a paired run, whose settings are those of no service."""
    return runtime_choices(session.cases) if session.against is None else ()


def choice_sentences(choice: RuntimeChoice) -> list[str]:
    """State the fastest case that agrees, why others are slower than eager, and what was not ranked."""
    lines = []
    best, eager = choice.fastest, choice.eager
    ranked = [one for one in choice.cases if not one.unranked]
    doubtful = [one for one in choice.cases if one.unranked and not (one.differs or one.inaccurate)]
    if best is not None:
        # A case that is not ranked may be faster than all others on an idle machine.
        among = f", of {len(ranked)} ranked cases" if doubtful else ""
        text = f"fastest that agrees{among}: {runtime_name(best.case)}"
        if choice.speedup is not None and eager is not None:
            factor = units.significant(choice.speedup, 2)
            text += f", {factor} times as fast as {runtime_name(eager.case)}"
        if best.error is not None:
            text += f"; error {units.power(best.error)}"
        if best.accuracy is not None:
            text += f"; accuracy {units.significant(best.accuracy, 4)}"
        if choice.alike:
            text += f"; as fast within the bounds: {_names(choice.alike)}"
        lines.append(text)
    elif choice.quicker:
        lines.append(
            f"no fastest case is named: {_names(choice.quicker)} took less time, without being ranked"
        )
    elif len(ranked) > 1 and not any(one.agrees for one in ranked):
        lines.append("no case whose time counts agrees with eager PyTorch on the CPU")
    lines += [
        f"why {runtime_name(one.case)} is slower than eager: {plain(one.why_slower)}"
        for one in choice.cases
        if one.why_slower
    ]
    return [*lines, *_left_out(choice, doubtful)]


def _left_out(choice: RuntimeChoice, doubtful: Sequence[RuntimeCase]) -> Iterator[str]:
    """State which cases cannot be the fastest, and why."""
    if differing := [one for one in choice.cases if one.differs]:
        yield f"not considered (the output differs): {_names(differing)}"
    if inaccurate := [one for one in choice.cases if one.inaccurate]:
        yield f"not considered (the accuracy is too low): {_names(inaccurate)}"
    unranked: dict[str, list[RuntimeCase]] = defaultdict(list)
    for one in doubtful:
        unranked[one.unranked].append(one)
    for why, cases in unranked.items():
        yield f"not ranked ({why}): {_names(cases)}"


def runtime_lines(session: Session) -> list[str]:
    """State for each test, device and batch size which runtime is the fastest, and why others are not."""
    place, axes = _places(session), _axes_in_run(session)
    return [
        f"{plain(one.cases[0].case.test)}[{axes(one)}]{place(one.machine)}: {sentence}"
        for one in choices(session)
        for sentence in choice_sentences(one)
    ]


def _places(session: Session) -> Callable[[str], str]:
    """Return a function that names a machine by the id of its class; empty in a session of one machine."""
    found = {result.hardware.id: result.hardware for result in session.cases if result.hardware is not None}
    return lambda machine: f" on {plain(found[machine].text)}" if machine in found and len(found) > 1 else ""


def _names(cases: Iterable[RuntimeCase]) -> str:
    return ", ".join(runtime_name(one.case) for one in cases)
