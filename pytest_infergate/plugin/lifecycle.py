"""Between pytest and the run of cases: ids, fixtures, skips, failures, reports. Decides nothing itself."""

from __future__ import annotations

import importlib
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_infergate.config.options import OPTIONS
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.errors import ConfigurationError, InfergateError, NotMeasuredError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pytest_infergate.config.case_matrix import Axes
    from pytest_infergate.config.marker import Marker
    from pytest_infergate.config.settings import Settings
    from pytest_infergate.core.domain.model import Case
    from pytest_infergate.core.domain.outcome import CaseResult, Session
    from pytest_infergate.instruments.device import DeviceKind
    from pytest_infergate.measure.lock import MachineLock
    from pytest_infergate.paired.base_setup import BaseSetup
    from pytest_infergate.paired.compare_run import PairedOutcomes
    from pytest_infergate.paired.interim_analysis import Progress
    from pytest_infergate.paired.selected_case import SelectedCase
    from pytest_infergate.plugin.fixture import Infer
    from pytest_infergate.runner.case_report import ReportedCases
    from pytest_infergate.runner.run import InferenceRun

LOG_WIDTH = 120
"""Columns of the table where output goes to a log, which scrolls sideways."""
RESTORE_SEED = pytest.StashKey[Callable[[], None]]()
INFER = pytest.StashKey["Infer"]()
"""The `Infer` of an item, whatever the test itself was given under that name."""
RESULT = pytest.StashKey[Any]()
"""The `CaseResult` of an item that was not measured, until its report takes it."""
NO_TESTCASE = (
    "an inference test cannot be a method of unittest.TestCase, which takes no fixtures: "
    "make it a function, or a method of a plain class"
)
NEVER_CALLED = (
    "infer was never called: a test marked inference must call infer(model, inputs) once; "
    "without the marker it is an ordinary test"
)
NO_ARGUMENT = (
    "infer must be an argument of the test or of a fixture that is one: "
    "asked for by name while the test runs, it has no case"
)
CAUGHT = (
    "infer raised and the test caught it, so that nothing was measured: "
    "test the error apart, in a test without the marker, by calling the model itself"
)


class Parameter(NamedTuple):
    """What the `infer` fixture is parametrised with."""

    axes: Axes
    marker: Marker


def add_options(parser: pytest.Parser) -> None:
    """Add each option and its ini twin."""
    group = parser.getgroup("infergate", "inference regressions (infergate)")
    for option in OPTIONS:
        words = option.help.replace("%", "%%")
        if option.metavar is None:
            group.addoption(option.flag, action="store_true", default=None, help=words, dest=option.ini)
        else:
            group.addoption(option.flag, metavar=option.metavar, default=None, help=words, dest=option.ini)
        parser.addini(option.ini, f"as {option.flag}", type="string", default="")


class Lifecycle:
    """One pytest session as infergate sees it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._command = {option.name: config.getoption(option.ini) for option in OPTIONS}
        self._ini = {option.name: str(config.getini(option.ini)) for option in OPTIONS}
        self.measuring = any((*self._command.values(), *self._ini.values())) and self.settings.measuring
        self._deselected: list[tuple[str, str]] = []
        self._collected: list[Case] = []
        self._modules: list[str] = []
        self._items: dict[str, pytest.Item] = {}
        self._done = 0
        self._spent = 0.0
        self._written: list[str] = []
        self._problems: list[str] = []
        self._outcome: Session | None = None
        self._paired: PairedOutcomes | None = None

    @cached_property
    def settings(self) -> Settings:
        """What was asked for, parsed."""
        from pytest_infergate.config.settings import parse_settings

        try:
            return parse_settings(
                self._command,
                self._ini,
                rootdir=self.config.rootpath,
                invocation_dir=self.config.invocation_params.dir,
                kinds=self._kinds,
            )
        except InfergateError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def _kinds(self) -> dict[str, DeviceKind]:
        offers: list[list[DeviceKind]] = self.config.hook.pytest_infergate_devices(config=self.config)
        return {kind.kind: kind for offer in reversed(offers) for kind in offer}

    @cached_property
    def run(self) -> InferenceRun:
        """The run of this process; only where measuring is on."""
        from pytest_infergate.runner.run import InferenceRun

        location = self.settings.baseline
        store = self.config.hook.pytest_infergate_store(config=self.config, location=location)
        if store is None:
            raise pytest.UsageError(f"--infer-baseline: no plugin offers a store for {location}")
        return InferenceRun(self.settings, list(self._kinds.values()), store)

    @cached_property
    def _base_setup(self) -> BaseSetup | None:
        """What a paired run is compared with."""
        if not self.settings.paired:
            return None
        from pytest_infergate.paired.base_setup import BaseSetup

        try:
            return BaseSetup(self.run, self.config)
        except InfergateError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def ledger(self) -> ReportedCases:
        """What the reports brought."""
        from pytest_infergate.runner.case_report import ReportedCases

        return ReportedCases()

    @cached_property
    def _lock(self) -> MachineLock:
        from pytest_infergate.measure.lock import MachineLock

        return MachineLock()

    @property
    def is_worker(self) -> bool:
        """Whether this process is a worker of pytest-xdist."""
        return hasattr(self.config, "workerinput")

    @property
    def is_controller(self) -> bool:
        """Whether this process hands its tests to workers of pytest-xdist while measuring is on."""
        distributed = self.config.getoption("dist", "no") != "no" and self.config.getoption("tx", None)
        return bool(self.measuring and distributed and not self.is_worker)

    # Collection

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Parametrise `infer` of an inference test; a bad marker is that test's collection error."""
        marks = [(mark.args, mark.kwargs) for mark in metafunc.definition.iter_markers("inference")]
        if not marks and not _takes_infer(metafunc):
            return
        checked, wrong = self._checked(marks)
        if wrong is not None:
            pytest.fail(f"{metafunc.definition.nodeid}: {wrong}", pytrace=False)
        from pytest_infergate.config.case_matrix import axes

        devices = self.run.devices if self.measuring else ("cpu",)
        cases = axes(checked, self.settings, devices)
        if "infer" not in metafunc.fixturenames:
            metafunc.fixturenames.append("infer")
        metafunc.parametrize(
            "infer",
            [Parameter(case, checked) for case in cases],
            indirect=True,
            ids=[case.id for case in cases],
            scope="function",
        )

    def _checked(self, marks: list[tuple[Any, Any]]) -> tuple[Marker, str | None]:
        from pytest_infergate.config.marker import Marker, parse_marker

        try:
            return parse_marker(marks, self._kinds), None
        except ConfigurationError as error:
            return Marker(), str(error)

    def deselect(self, items: list[pytest.Item]) -> None:
        """Remember what was collected, and take away tests without a case."""
        gone = {}
        if self.measuring:
            self._modules = sorted({item.nodeid.partition("::")[0] for item in items})
        for item in items:
            parameter = parameter_of(item)
            if parameter is None:
                continue
            if parameter.axes.deselected is not None:
                self._deselected.append((item.nodeid, parameter.axes.deselected))
                gone[item.nodeid] = item
            elif self.measuring:
                self._collected.append(case_of(item, parameter.axes))
        if gone:
            self.config.hook.pytest_deselected(items=list(gone.values()))
            items[:] = [item for item in items if item.nodeid not in gone]

    def ready(self, items: Sequence[pytest.Item]) -> bool:
        """Check the run; whether it has inference tests at all."""
        found = [item for item in items if is_inference(item)]
        self._items = {item.nodeid: item for item in found}
        if self._items and self._runs:
            counts = Counter(item.nodeid for item in found)
            twice = [nodeid for nodeid, count in counts.items() if count > 1]
            if twice:
                raise pytest.UsageError(
                    f"two inference cases share the id {twice[0]}: give their parameters distinct ids, "
                    "or choose a rootdir above both files"
                )
            self._check(len(self._items))
        return bool(self._items) or self.measuring

    @property
    def _runs(self) -> bool:
        """Whether this session measures, and is not one of those that only show something."""
        shows = ("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test")
        return self.measuring and not any(self.config.getoption(name, False) for name in shows)

    def check_controller(self) -> None:
        """Check what workers of pytest-xdist could only crash on."""
        if self.settings.list:
            raise pytest.UsageError("--infer-list lists in one process: leave out -n")
        if self.settings.paired:
            raise pytest.UsageError("--infer-against has the machine to itself: leave out -n, or give -n0")
        if self.settings.workers:
            raise pytest.UsageError("--infer-workers has the machine to itself: leave out -n, or give -n0")
        if self.settings.xdist == "refuse":
            raise pytest.UsageError(
                "--infer-xdist=refuse: timing beside other workers is refused; run without -n, "
                "or with --infer-xdist=lock to let each case have the machine alone"
            )
        self._check(0)

    def _check(self, cases: int) -> None:
        try:
            self.run.check(cases)
            self._lock.check()
            _ = self._base_setup
        except InfergateError as error:
            raise pytest.UsageError(str(error)) from None

    def forecast(self) -> list[str]:
        """One line before the first case."""
        if not (self.measuring and self._items):
            return []
        if self._base_setup is not None:
            from pytest_infergate.paired import compare_run

            return [f"infergate: {compare_run.forecast(len(self._present()), self._base_setup)}"]
        times = [
            self.run.max_time(found.marker)
            for item in self._items.values()
            if (found := parameter_of(item)) and self.run.absence(found.axes.device) is None
        ]
        return [f"infergate: {self.run.forecast(times)}"]

    def loop(self, session: pytest.Session) -> object:
        """Come before pytest's own loop, which runs the items, or in its place: then not ``None``."""
        if self.settings.list:
            return self._list_cases(session.items)
        if session.testsfailed and not self.config.getoption("continue_on_collection_errors", False):
            return None  # pytest is about to end the run, and nothing would be made of launches
        if self._base_setup is not None and self._runs:
            self._compare(self._base_setup)
        elif self.settings.workers and self._runs:
            self._measure_concurrently()
        return None

    def _measure_concurrently(self) -> None:
        """Measure with several workers at once, before the first test."""
        from pytest_infergate.paired import concurrency

        def tell(count: int, done: int) -> None:
            self._status(f"infergate: {count} workers at once, {done} of {len(entries)} cases")

        entries = self._entries()
        with self._machine_alone():
            self.run.concurrent_runs = concurrency.measure_concurrently(
                self.run, self.config, entries, tell
            )

    @contextmanager
    def _machine_alone(self) -> Iterator[None]:
        """Hold the machine while other processes measure; what they cannot do is usage."""
        try:
            with self._lock.held("alone", self._tell):
                yield
        except InfergateError as error:
            raise pytest.UsageError(str(error)) from None
        finally:
            self._status("")

    def _entries(self) -> list[SelectedCase]:
        """What of the items a run in other processes needs."""
        from pytest_infergate.paired.selected_case import SelectedCase

        return [
            SelectedCase(item.nodeid, item.path, case_of(item, found.axes), found.marker)
            for item, found in self._present()
        ]

    def _present(self) -> list[tuple[pytest.Item, Parameter]]:
        """Items whose device is there, with what they are parametrised with."""
        return [
            (item, found)
            for item in self._items.values()
            if (found := parameter_of(item)) is not None and self.run.absence(found.axes.device) is None
        ]

    def _compare(self, base_setup: BaseSetup) -> None:
        """Make all launches of a paired run, before the first test."""
        from pytest_infergate.paired import compare_run

        entries = self._entries()
        if not entries:
            return
        with self._machine_alone():
            self._paired = compare_run.run_paired(
                self.run, self.config, base_setup, entries, self._show_launches
            )
        if self._paired.interrupted:
            from pytest_infergate.runner.case_report import case_report

            for nodeid, result in self._paired.results.items():
                where = self._items[nodeid].location
                self.ledger.add(case_report(result, self._paired.verdicts[nodeid], where))
            raise KeyboardInterrupt

    def replay(self, item: pytest.Item) -> object:
        """Report what a worker of a paired run saw of an item; ``None`` for any other."""
        if self._paired is None or item.nodeid not in self._paired.results:
            return None
        from pytest_infergate.plugin import paired_replay

        reports = paired_replay.replayed_reports(self._paired, item.nodeid, self.config)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _list_cases(self, items: Sequence[pytest.Item]) -> bool:
        """Print one line a case, and whether its device is there."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        for item in items:
            parameter = parameter_of(item)
            if parameter is None or reporter is None:
                continue
            reason = self.run.absence(parameter.axes.device)
            reporter.write_line(f"{item.nodeid}{'' if reason is None else f'  (skipped: {reason})'}")
        return True

    # One item

    def machine(self, item: pytest.Item) -> AbstractContextManager[None]:
        """The machine-wide lock for as long as the item runs."""
        if not self.measuring:
            return nullcontext()
        if parameter_of(item) is None:
            return self._lock.held("shared", self._tell)
        return self._alone()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock.held("alone", self._tell):
            begin = time.monotonic()
            try:
                yield
            finally:
                self._done += 1
                self._spent += time.monotonic() - begin
                self._status("")

    def show_progress(self, nodeid: str) -> None:
        """Say which case of how many is being measured, and how long the rest will take."""
        if nodeid not in self._items:
            return
        words = f"measuring {self._done + 1} of {len(self._items)}"
        if self._done:
            from pytest_infergate.core.domain import units

            left = self._spent / self._done * (len(self._items) - self._done)
            words += f", about {units.duration(left)} left"
        self._status(words)

    def set_up(self, item: pytest.Item) -> None:
        """Refuse what cannot work, and seed."""
        if not is_inference(item):
            return
        if parameter_of(item) is None:
            pytest.fail(NO_TESTCASE, pytrace=False)
        from pytest_infergate.measure.seed import seed_all

        if self.measuring:  # judging needs it later: loaded now, it is seeded for every case
            importlib.import_module("numpy.random")
        item.stash[RESTORE_SEED] = seed_all()

    @contextmanager
    def seeded(self, name: str) -> Iterator[None]:
        """Around the making of a fixture: the random numbers that are its own in every run that measures."""
        if not self._runs:
            yield
            return
        from pytest_infergate.measure.seed import seed_all

        restore = seed_all(zlib.crc32(name.encode("utf-8", "backslashreplace")))
        try:
            yield
        finally:
            restore()

    def tear_down(self, item: pytest.Item) -> None:
        """Restore the random generators."""
        restore = item.stash.get(RESTORE_SEED, None)
        if restore is not None:
            restore()

    def infer(self, request: pytest.FixtureRequest) -> Infer:
        """Make the fixture of one case; skip where its device is not there or the time is spent."""
        from pytest_infergate.plugin.fixture import Infer

        item: pytest.Item = request.node
        parameter = parameter_of(item)
        if parameter is None:
            pytest.fail(NO_ARGUMENT, pytrace=False)
        case = case_of(item, parameter.axes)
        if not self.measuring:
            return self._handed(item, Infer(case, item.nodeid, parameter.marker, None))
        reason = self._why_not(case, item)
        if reason is not None:
            self._skip(item, case, parameter.marker, *reason)
        return self._handed(item, Infer(case, item.nodeid, parameter.marker, self.run))

    def _handed(self, item: pytest.Item, infer: Infer) -> Infer:
        item.stash[INFER] = infer
        return infer

    def _why_not(self, case: Case, item: pytest.Item) -> tuple[str, str] | None:
        absence = self.run.absence(case.device)
        if absence is not None:
            return NoteCode.DEVICE_ABSENT, absence
        spent = None if item.nodeid in self.run.measured else self.run.out_of_time()
        return None if spent is None else (spent.code, str(spent))

    def _skip(self, item: pytest.Item, case: Case, marked: Marker, code: str, words: str) -> None:
        from pytest_infergate.core.domain.model import Note
        from pytest_infergate.core.domain.outcome import Outcome

        reason = Note(code=code, text=words)
        item.stash[RESULT] = self.run.unmeasured(case, item.nodeid, marked, Outcome.SKIPPED, reason)
        pytest.skip(words)

    @contextmanager
    def judged(self, item: pytest.Item) -> Iterator[None]:
        """Around the body of a test: fail it where its case failed, without a traceback."""
        if parameter_of(item) is None:
            yield
            return
        from pytest_infergate.measure.seed import seed_all
        from pytest_infergate.plugin.fixture import InfeasibleError

        seed_all()  # once more: fixtures drew numbers, or were there already
        infeasible = wrong = None
        try:
            yield
        except InfeasibleError as error:
            infeasible = str(error)
        except NotMeasuredError:
            raise  # the line of the test that asked shows best what to change
        except InfergateError as error:
            wrong = str(error)
        # Out of the handlers, so that pytest does not show one error during the handling of another.
        if wrong is not None:
            pytest.fail(wrong, pytrace=False)
        self.apply_verdict(item)
        if infeasible is not None:
            pytest.skip(infeasible)

    def apply_verdict(self, item: pytest.Item) -> None:
        """Fail the test whose case failed, and one that measured nothing."""
        infer: Infer | None = item.stash.get(INFER, None)
        if infer is None or not infer.called:
            pytest.fail(NEVER_CALLED, pytrace=False)
        if not self.measuring:
            return
        measured = self.run.measured.get(item.nodeid)
        if measured is None:
            pytest.fail(CAUGHT, pytrace=False)
        if measured.verdict.failed:
            from pytest_infergate.report import text

            pytest.fail(text.failure_message(measured.verdict, measured.result), pytrace=False)

    def attach(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Put the case on the report of the phase that settled it."""
        parameter = parameter_of(item)
        if parameter is None or not self.measuring:
            return
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        result = self._result(item, parameter, report)
        if result is None:
            report.infergate_skipped = True  # type: ignore[attr-defined]
            return
        from pytest_infergate.report import junit
        from pytest_infergate.runner.case_report import case_report

        measured = self.run.measured.get(item.nodeid)
        kept = measured is not None and measured.result is result
        verdict = measured.verdict if kept and measured is not None else self.run.judge(result)
        report.infergate = case_report(result, verdict, report.location)  # type: ignore[attr-defined]
        # JUnit takes them from the report of the teardown, which takes them from the item.
        named = dict(item.user_properties) | dict(junit.properties(result, verdict))
        item.user_properties[:] = named.items()

    def _result(
        self, item: pytest.Item, parameter: Parameter, report: pytest.TestReport
    ) -> CaseResult | None:
        """What the report says of the case; ``None`` where the user's own skip kept it from running."""
        from pytest_infergate.core.domain.model import Note
        from pytest_infergate.core.domain.outcome import Outcome

        stashed: CaseResult | None = item.stash.get(RESULT, None)
        measured = self.run.measured.get(item.nodeid)
        if stashed is not None:
            return stashed
        if measured is not None and (report.passed or measured.verdict.failed or measured.exhausted):
            return measured.result
        if not report.failed:
            return None
        case = case_of(item, parameter.axes)
        reason = Note(code=NoteCode.TEST_FAILED, text="the test itself failed", hint="mend the test first")
        return self.run.unmeasured(case, item.nodeid, parameter.marker, Outcome.FAILED, reason)

    # The end

    def enter(self, report: pytest.TestReport) -> None:
        """Take what a report carries; an xdist controller gets it from its workers."""
        data = getattr(report, "infergate", None)
        if data is not None:
            self.ledger.add(data)
        elif getattr(report, "infergate_skipped", False):
            self.ledger.skipped += 1

    def enter_collection(self, node: Any) -> None:
        """Take what a worker of pytest-xdist collected."""
        data = getattr(node, "workeroutput", {}).get("infergate")
        if data is not None:
            self.ledger.note_collection(data)

    def finish(self, session: pytest.Session) -> None:
        """Conclude the run, or hand the worker's part of it to the controller."""
        if not self._runs or self.settings.list:
            return
        from pytest_infergate.plugin import finish
        from pytest_infergate.runner import case_report

        if not self.is_controller:
            self.ledger.note_collection(case_report.packed(self._collection()))
        if self.is_worker:
            output: dict[str, Any] = self.config.workeroutput  # type: ignore[attr-defined]
            output["infergate"] = case_report.packed(self.ledger.collected)
            return
        if not self._concludes(session):
            return
        interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        if self._paired is None:
            known, expected = finish.known_cases(self.run, self.ledger, self._scope(session))
        else:
            known, expected = self._paired.on_base, frozenset()
        self._outcome = finish.conclude(
            self.run,
            self.ledger,
            known=known,
            expected=expected,
            selected=self._selected(),
            interrupted=interrupted,
            against=None if self._paired is None else self._paired.against,
        )
        self._written, self._problems = finish.write_outputs(self.run, self._outcome, self._whole_modules())
        if self._paired is not None:
            self._written += self._paired.written
            self._problems += self._paired.problems
        if session.exitstatus == pytest.ExitCode.OK and (self._problems or not self._outcome.gate.passed):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _whole_modules(self) -> frozenset[str]:
        """Test modules whose tests were all collected: --last-failed leaves some out while collecting."""
        partial = self.config.getoption("lf", False)
        return frozenset() if partial else frozenset(self.ledger.collected.modules)

    def _selected(self) -> int:
        """Cases that were to report: what was selected, but for those that the user's own skips took away."""
        return max(len(self.ledger.results), self.ledger.collected.selected - self.ledger.skipped)

    def _collection(self) -> Any:
        from pytest_infergate.core.domain.model import Note
        from pytest_infergate.runner.case_report import Collected

        notes = [
            Note(code=NoteCode.DESELECTED, text=f"{nodeid}: {reason}") for nodeid, reason in self._deselected
        ]
        selected = sum(parameter_of(item) is not None for item in self._items.values())
        return Collected(
            cases=tuple(self._collected),
            modules=tuple(self._modules),
            deselected=tuple(notes),
            selected=selected,
        )

    def _concludes(self, session: pytest.Session) -> bool:
        """Not where the run ended before it began, with an exit code of its own."""
        usage = (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
        return session.exitstatus not in usage

    def _scope(self, session: pytest.Session) -> list[str]:
        """Arguments of the run relative to the rootdir, as node ids begin."""
        scope = []
        for argument in self.config.args:
            path, _, names = argument.partition("::")
            try:
                place = (
                    (self.config.invocation_params.dir / path).resolve().relative_to(session.path.resolve())
                )
            except ValueError:
                return []
            scope.append("::".join(filter(None, (Path(place).as_posix(), names.partition("[")[0]))))
        return scope

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Write the section of the terminal summary."""
        if self._outcome is None:
            return
        from pytest_infergate.report import text

        reporter.section("infergate", sep="=")
        width = reporter._tw.fullwidth  # noqa: SLF001 - there is no other way to know it
        reporter.write_line(
            text.terminal_summary(self._outcome, width if reporter.isatty else max(width, LOG_WIDTH))
        )
        for problem in self._problems:
            reporter.write_line(f"ERROR: {problem}", red=True)
        for line in self._written:
            reporter.write_line(line)

    # Words to the terminal

    def _tell(self, words: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(words)

    def _show_launches(self, progress: Progress) -> None:
        """Say how far a paired run is: on a terminal in one line that changes, in a log a line a launch."""
        from pytest_infergate.core.domain import units

        words = (
            f"{units.plural(progress.launches, 'launch')}, {progress.decided} of "
            f"{units.plural(progress.cases, 'case')} decided"
        )
        if progress.confirming:
            words += f", {progress.confirming} being confirmed as slower"
        if progress.decided < progress.cases:
            words += f", about {units.duration(progress.seconds_left)} left"
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and reporter.isatty:
            self._status(words)
        elif reporter is not None and reporter.verbosity >= 0:
            self._tell(f"infergate: {words}")

    def _status(self, words: str) -> None:
        """On a terminal, show words behind the cursor, which stays where it is; none wipe what was shown."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or not reporter.isatty or not self.measuring:
            return
        room = reporter._tw.fullwidth - reporter._tw.width_of_current_line - 3  # noqa: SLF001
        shown = f"\0337  {words[:room]}\0338" if words and room > 0 else ""
        reporter._tw._file.write(f"\033[K{shown}")  # noqa: SLF001 - pytest's own line stays as it knows it
        reporter._tw._file.flush()  # noqa: SLF001


def _takes_infer(metafunc: pytest.Metafunc) -> bool:
    """Whether a test takes this fixture, and not one of the user's own that has the same name."""
    if "infer" not in metafunc.fixturenames:
        return False
    chain = metafunc._arg2fixturedefs.get("infer", ())  # noqa: SLF001 - nothing else says whose it is
    for found in reversed(chain):
        if getattr(found.func, "__module__", "").startswith("pytest_infergate."):
            return True
        if "infer" not in found.argnames:  # it replaces ours and does not wrap it
            return False
    return False


def is_inference(item: pytest.Item) -> bool:
    """Whether an item is an inference test, be it one that cannot work."""
    return parameter_of(item) is not None or item.get_closest_marker("inference") is not None


def parameter_of(item: pytest.Item) -> Parameter | None:
    """What `infer` is parametrised with in an item; ``None`` for an ordinary test."""
    callspec = getattr(item, "callspec", None)
    found = None if callspec is None else callspec.params.get("infer")
    return found if isinstance(found, Parameter) else None


def case_of(item: pytest.Item, on: Axes) -> Case:
    """The key of an item. Ids are not parsed: what is known of them is taken away."""
    from pytest_infergate.core.domain.model import Case

    whole: str = item.callspec.id  # type: ignore[attr-defined]
    return Case(
        test=item.nodeid.removesuffix(f"[{whole}]"),
        params=whole.removeprefix(on.id).removeprefix("-"),
        device=on.device,
        dtype=on.dtype,
        batch_size=on.batch_size,
        threads=on.threads,
    )
