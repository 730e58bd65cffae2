"""The end of a run: reports become one result, which is written and recorded.

Runs where reports arrive: in the only process, or in the controller of pytest-xdist.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable
from datetime import datetime, timezone

from pytest_infergate import __version__
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.outcome import Against, Session
from pytest_infergate.core.gate import baseline, counter_changes, decide
from pytest_infergate.errors import StorageError
from pytest_infergate.runner.case_report import ReportedCases
from pytest_infergate.runner.run import InferenceRun
from pytest_infergate.storage.atomic import atomic_write


def known_cases(
    run: InferenceRun, ledger: ReportedCases, scope: Iterable[str]
) -> tuple[frozenset[Case], frozenset[Case]]:
    """Cases that baseline or counters know, and those of them that this run would have met.

    `scope` are the node ids or folders that the run was given, relative to the rootdir; empty is all.
    """
    known = {*run.records, *(entry.case for known in run.baselines.values() for entry in known.cases)}
    return frozenset(known), frozenset(expected(run, ledger, tuple(scope)))


def conclude(
    run: InferenceRun,
    ledger: ReportedCases,
    *,
    known: Collection[Case],
    expected: Collection[Case],
    selected: int,
    interrupted: bool = False,
    against: Against | None = None,
) -> Session:
    """Join everything into the value that every report renders.

    `known` and `expected` are cases of the baseline or the base, as in `gate.gate`. `selected` is how many
    cases were to report, `interrupted` whether the run ended before its end.
    """
    result = decide.gate_session(
        ledger.verdicts,
        run.policy,
        known=known,
        expected=expected,
        deselected=ledger.collected.deselected,
        selected=selected,
        interrupted=interrupted,
    )
    return Session(
        tool_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        environment=run.environment,
        cases=ledger.results,
        gate=result,
        against=against,
    )


def expected(run: InferenceRun, ledger: ReportedCases, scope: tuple[str, ...]) -> list[Case]:
    """Cases on record that collection would have found again had no test gone.

    Left out: times of other hardware, tests outside the scope, and values of axes that no test of this run
    has, which the command line did not ask for.
    """
    classes = {run.device(name).hardware().id for name in run.devices if run.absence(name) is None}
    found = frozenset(ledger.collected.cases)
    asked = run.settings
    combinations = {_axes(case) for case in found} | set(
        itertools.product(run.devices, ("eager",), asked.dtypes or (None,), asked.threads or (None,))
    )
    known = {entry.case for name in classes & run.baselines.keys() for entry in run.baselines[name].cases}
    known |= run.records.keys()
    return [
        case
        for case in known
        if case not in found and _axes(case) in combinations and _within(case.test, scope)
    ]


def _axes(case: Case) -> tuple[str, str, str | None, int | None]:
    return case.device, case.runtime, case.dtype, case.threads


def _within(test: str, scope: tuple[str, ...]) -> bool:
    return not scope or any(
        part in ("", ".") or test == part or test.startswith((f"{part}/", f"{part}::")) for part in scope
    )


def write_outputs(
    run: InferenceRun, session: Session, modules: Collection[str]
) -> tuple[list[str], list[str]]:
    """Write the reports and record the baseline; return what was done and what could not be, a line each.

    `modules` are the test modules that were collected whole: cases that they miss are gone.
    """
    done: list[str] = []
    problems: list[str] = []
    for attempt in (_write_json, _write_html, _write_markdown, functools.partial(_record, modules=modules)):
        try:
            done += attempt(run, session)
        except StorageError as error:  # noqa: PERF203 - each attempt fails for itself
            problems.append(str(error))
    return done, problems


def _write_json(run: InferenceRun, session: Session) -> list[str]:
    if run.settings.json is None:
        return []
    from pytest_infergate.report import results

    atomic_write(run.settings.json, results.render_results(session))
    return [f"wrote {run.settings.json}"]


def _write_html(run: InferenceRun, session: Session) -> list[str]:
    if run.settings.report is None:
        return []
    from pytest_infergate.advising.advise import advised
    from pytest_infergate.report import html

    given, unanswered = advised(session, run.prices, run.settings.command.get("demand"))
    page = html.render_html(session, settings=run.settings.given, advice=given, unanswered=unanswered)
    atomic_write(run.settings.report, page)
    return [f"wrote {run.settings.report}"]


def _write_markdown(run: InferenceRun, session: Session) -> list[str]:
    if run.settings.markdown is None:
        return []
    from pytest_infergate.report import github

    atomic_write(run.settings.markdown, github.markdown_summary(session))
    return [f"wrote {run.settings.markdown}"]


def _record(run: InferenceRun, session: Session, modules: Collection[str]) -> list[str]:
    if not run.settings.save:
        return []
    failed = {verdict.case for verdict in session.gate.verdicts if verdict.failed}
    sound = [result for result in session.cases if result.case not in failed]
    recorded = 0
    for history in baseline.baselines_from_results(
        sound, session.created, session.environment.packages
    ).values():
        run.store.record(history)
        recorded += len(history.cases)
    torch = session.environment.packages.get("torch")
    counted = [record for result in sound if (record := counter_changes.record(result, torch)) is not None]
    gone = [
        case
        for case in session.gate.missing
        if case.module in modules or not (run.settings.rootdir / case.module).exists()
    ]
    changed = run.counter_files.record(counted, gone)
    left_out = len(session.cases) - recorded
    rest = f"; {units.plural(left_out, 'case')} left out, failed or not measured" if left_out else ""
    done = [f"recorded {units.plural(recorded, 'case')} into {run.settings.baseline}{rest}"]
    if changed:
        done.append(f"rewrote {units.plural(changed, 'file')} of counters in {run.settings.counters}")
    return done
