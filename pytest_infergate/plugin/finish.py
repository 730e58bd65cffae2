"""The end of a run: reports become one result, which is written, recorded and shown."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from pytest_infergate import __version__
from pytest_infergate.advising.advise import advise_run
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.advice.load_prediction import with_predictions
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import Against, Session
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate import baseline, counter_changes, decide
from pytest_infergate.errors import StorageError
from pytest_infergate.plugin.collection import CollectedItems, located
from pytest_infergate.plugin.terminal import write_summary
from pytest_infergate.report import text
from pytest_infergate.runner.case_report import ReportedCases
from pytest_infergate.runner.run import InferenceRun
from pytest_infergate.storage.atomic import atomic_write, open_descriptor


class KnownCases(NamedTuple):
    """What the cases of a run are compared with, as far as the end of the run needs it."""

    known: Collection[Case]
    """Cases of the baseline, or of the base of a paired run."""
    expected: Collection[Case] = frozenset()
    """Those of `known` that this run would have met had no test gone."""
    against: Against | None = None
    written: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class FinishHooks:
    """Conclude the run where its reports arrive: in the only process, or in pytest-xdist's controller."""

    def __init__(
        self,
        run: InferenceRun,
        reported: ReportedCases,
        known: Callable[[Sequence[str]], KnownCases],
        collected: CollectedItems | None = None,
    ) -> None:
        """Take the run, its reports, what it is compared with, and what this process collects, if it does.

        `known` gets the node ids or folders that the run was given, relative to the rootdir; empty is all.
        """
        self._run = run
        self._reported = reported
        self._known = known
        self._collected = collected
        self._session: Session | None = None
        self._written: list[str] = []
        self._problems: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the case that a report carries."""
        data = getattr(report, "infergate", None)
        if data is not None:
            self._reported.add(data)
        elif getattr(report, "infergate_skipped", False):
            self._reported.skipped += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Decide once, write the reports, record the baseline, set the exit code."""
        if session.exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            return  # no test ran: pytest has reported why, and an empty result would hide it
        if self._collected is not None:
            self._reported.collected = self._collected.found()
        collected = self._reported.collected
        reference = self._known(_scope(session))
        self._session = conclude(
            self._run,
            self._reported,
            reference,
            interrupted=session.exitstatus == pytest.ExitCode.INTERRUPTED,
        )
        # With --last-failed, tests are left out while collecting: no module is known to be whole.
        whole = frozenset() if session.config.getoption("lf", False) else frozenset(collected.modules)
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        settings = self._run.settings
        outputs = filter(None, (settings.json, settings.report, settings.markdown))
        if reporter is not None and any(open_descriptor(path) is not None for path in outputs):
            reporter.write_line("")  # an output on the terminal begins a line
        written, problems = write_outputs(self._run, self._session, whole)
        self._written = [*written, *reference.written]
        self._problems = [*problems, *reference.problems, *_passed_on(session.config, self._session)]
        failed = self._problems or not self._session.gate.passed
        if session.exitstatus == pytest.ExitCode.OK and failed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the outcome."""
        if self._session is not None:
            path = _results_argument(self._run.settings)
            command = text.next_command(self._session, path)
            lines = [*self._written, *filter(None, [command])]
            write_summary(terminalreporter, self._session, self._problems, lines, path)


def _passed_on(config: pytest.Config, results: Session) -> list[str]:
    """Give the results to the hooks of others; return why one of them failed."""
    try:
        config.hook.pytest_infergate_results(config=config, results=results)
    except Exception as error:  # noqa: BLE001 - the code of others, which must not hide the results
        return [f"a hook pytest_infergate_results failed: {type(error).__name__}: {error}"]
    return []


def conclude(
    run: InferenceRun, reported: ReportedCases, reference: KnownCases, *, interrupted: bool
) -> Session:
    """Join everything into the value that every report renders.

    `interrupted` says that the run did not reach its end, in which case it cannot pass.
    """
    # Cases that the user's own marks skip need not report, but another run of their test may have reported.
    selected = max(len(reported.results), reported.collected.selected - reported.skipped)
    session = Session(
        tool_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        environment=run.environment,
        cases=reported.results,
        gate=decide.gate_session(
            reported.verdicts,
            run.policy,
            known=reference.known,
            expected=reference.expected,
            deselected=reported.collected.deselected,
            selected=selected,
            interrupted=interrupted,
        ),
        against=reference.against,
    )
    # Simulated once, here, so that every report of the run shows the same figures.
    session = with_predictions(session)
    demand = run.settings.command.get("demand")
    return msgspec.structs.replace(session, advice=advise_run(session, run.prices, demand))


def cases_on_record(run: InferenceRun, reported: ReportedCases, scope: Sequence[str]) -> KnownCases:
    """Cases that baseline or counters know, and those that collection would have found had no test gone.

    Not expected are times of other hardware, tests outside the scope, and values of axes that no test of
    this run has and the command line did not ask for.
    """
    devices = run.devices
    available = [name for name in devices.names if devices.absence_reason(name) is None]
    classes = {devices.open(name).hardware().id for name in available}
    found = frozenset(reported.collected.cases)
    asked = run.settings
    combinations = {_axes(case) for case in found} | set(
        itertools.product(devices.names, ("eager",), asked.dtypes or (None,), asked.threads or (None,))
    )
    timed = {name: frozenset(entry.case for entry in kept.cases) for name, kept in run.baselines.items()}
    comparable = run.records.keys() | {case for name in classes & timed.keys() for case in timed[name]}
    return KnownCases(
        known=frozenset(run.records).union(*timed.values()),
        expected=frozenset(
            case
            for case in comparable
            if case not in found and _axes(case) in combinations and _within(case.test, scope)
        ),
    )


def _axes(case: Case) -> tuple[str, str, str | None, int | None]:
    return case.device, case.runtime, case.dtype, case.threads


def _within(test: str, scope: Sequence[str]) -> bool:
    return not scope or any(
        part in ("", ".") or test == part or test.startswith((f"{part}/", f"{part}::")) for part in scope
    )


def _scope(session: pytest.Session) -> list[str]:
    """Arguments of the run relative to the rootdir, as node ids begin; empty where one lies outside.

    The id of a case is that of no test: pytest refuses it if it does not exist, so that nothing is missing.
    """
    places = [located(session.config, argument) for argument in session.config.args]
    scope = ["::".join(filter(None, place)) for place in places if place]
    return scope if all(places) else []


def write_outputs(
    run: InferenceRun, session: Session, modules: Collection[str]
) -> tuple[list[str], list[str]]:
    """Write the reports and record the baseline; return what was done and what could not be, a line each.

    `modules` are the test modules that were collected whole: cases that they miss are gone.
    """
    done: list[str] = []
    problems: list[str] = []
    for path, content in rendered_reports(run.settings, session):
        try:
            atomic_write(path, content)
            done.append(f"wrote {path}")
        except StorageError as error:  # noqa: PERF203 - one that fails does not prevent the others
            problems.append(str(error))
    if run.settings.save:
        try:
            recorded, refused = record_baseline(run, session, modules)
            done += recorded
            problems += refused
        except StorageError as error:
            problems.append(str(error))
    try:
        if run.settings.history is not None:
            from pytest_infergate.plugin.added_history import add_to_history

            done += add_to_history(run, session)
    except StorageError as error:
        problems.append(str(error))
    return done, problems


def _results_argument(settings: Settings) -> str | None:
    """Return the results file as an argument of a shell; ``None`` if none is written."""
    return None if settings.json is None else shlex.quote(os.path.relpath(settings.json))


def rendered_reports(settings: Settings, session: Session) -> Iterator[tuple[Path, str]]:
    """Render each report that the options request, with the path of its file."""
    results = _results_argument(settings) or "results.json"
    # Imported here, because most runs write no report.
    if settings.json is not None:
        from pytest_infergate.report.results_json import render_results

        yield settings.json, render_results(session)
    if settings.report is not None:
        from pytest_infergate.report.html import render_html

        yield settings.report, render_html(session, settings=settings.given, results=results)
    if settings.markdown is not None:
        from pytest_infergate.report.github import markdown_summary

        yield settings.markdown, markdown_summary(session, results=results)


def record_baseline(
    run: InferenceRun, session: Session, modules: Collection[str]
) -> tuple[list[str], list[str]]:
    """Record times and counters of the cases that did not fail; return what was done and what was refused.

    Times that other processes disturbed are refused unless the options allow them; counters are exact anyway.
    A run that takes counters only leaves the times as they are.
    """
    failed = {verdict.case: verdict.verdict.value for verdict in session.gate.verdicts if verdict.failed}
    sound = [result for result in session.cases if result.case not in failed]
    disturbed = [] if run.settings.save_contended else baseline.disturbed_results(sound)
    refused = {result.case for result in disturbed}
    recorded: set[Case] = set()
    for history in baseline.baselines_from_results(
        (result for result in sound if result.case not in refused),
        session.created,
        session.environment.packages,
    ).values():
        run.store.record(history)
        recorded |= {entry.case for entry in history.cases}
    torch = session.environment.packages.get("torch")
    counted = [
        record
        for result in sound
        if (record := counter_changes.counter_record(result, torch)) is not None
        # A part would replace what is on record.
        and result.measurement is not None
        and result.measurement.counters.counted
    ]
    gone = [
        case
        for case in session.gate.missing
        if case.module in modules or not (run.settings.rootdir / case.module).exists()
    ]
    changed = run.counter_files.record(counted, gone)
    what, target = "", run.settings.baseline
    if run.settings.counters_only:
        what, target = "the counters of ", str(run.settings.counters)
        recorded = {record.case for record in counted}
    done = [f"recorded {what}{units.plural(len(recorded), 'case')} into {target}"] if recorded else []
    left_out = [result for result in session.cases if result.case not in recorded | refused]
    done += text.unrecorded_lines(left_out, failed)
    if changed:
        done.append(f"rewrote {units.plural(changed, 'file')} of counters in {run.settings.counters}")
    return done, [text.refused_times(disturbed)] if disturbed else []
