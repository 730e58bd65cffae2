"""The pytest plugin of a worker process: it runs the cases that the parent asks for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Verdict
from pytest_infergate.measure import memory
from pytest_infergate.measure.case import Run, Subject
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.paired import source_tree
from pytest_infergate.paired.channel import ClosedError, WorkerChannel
from pytest_infergate.paired.protocol import (
    CasesCollected,
    Done,
    Leave,
    ListModules,
    MessageError,
    ModulesListed,
    OutOfMemory,
    PhaseReported,
    RunCase,
    RunControl,
)
from pytest_infergate.plugin.hooks import LIFECYCLE
from pytest_infergate.plugin.lifecycle import INFER, NEVER_CALLED, Lifecycle, parameter_of
from pytest_infergate.runner.prepare import exhausted, prepared, threads
from pytest_infergate.runner.run import InferenceRun, Measured
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.worker.serving import Serving

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pytest_infergate.config.case_terms import CaseTerms
    from pytest_infergate.config.settings import Settings
    from pytest_infergate.instruments.device import Device, DeviceKind


_QUIET = {
    "xmlpath": None,
    "htmlpath": None,
    "report_log": None,
    "json_report": False,
    "allure_report_dir": None,
    "pastebin": None,
    "durations": None,
    "usepdb": False,
    "trace": False,
    "maxfail": 0,
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "stepwise": False,
}
"""Options of pytest and its plugins that write files, ask people, or end a run early."""
_ABSENT = (
    *("rerunfailures", "pytest_rerunfailures", "flaky", "flaky.flaky_pytest_plugin"),
    *("randomly", "pytest_randomly"),
)
"""Plugins that run a failed test again, for which nobody waits here, or draw a seed in each process."""
KEPT_CHARACTERS = 1_000_000
"""Of what a test printed, in each section of its report."""


class WorkerPlugin:
    """The plugin that makes a run of pytest one side."""

    def __init__(self, channel: WorkerChannel, source: Path, target: Path, modules: Sequence[str]) -> None:
        self.channel = channel
        self.served = False
        self._source = source
        self._target = target
        self._modules = modules
        self._errors: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> None:
        """Switch off what belongs to the run, before any plugin looks, and collect what has cases alone.

        Other files may be missing on the base, fail there, or be what a test was called before it moved.
        """
        for name, value in _QUIET.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        files = [config.rootpath / module for module in self._modules]
        if files and not any("[" in module for module in self._modules):  # pytest takes that for an id
            config.args = [
                os.path.relpath(file, config.invocation_params.dir) for file in files if file.exists()
            ]

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the place of the plugin's own shell."""
        config.stash[LIFECYCLE] = WorkerLifecycle(config, self)
        for name in _ABSENT:
            plugin = config.pluginmanager.get_plugin(name)
            if plugin is not None:
                config.pluginmanager.unregister(plugin)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember why a module could not be collected."""
        if report.failed:
            self._errors[report.nodeid.partition("::")[0]] = last_line(report)

    def collected(self, items: Sequence[pytest.Item]) -> None:
        """Report which tests there are."""
        nodeids = tuple(self._nodeid(item) for item in items if parameter_of(item) is not None)
        self.channel.send(CasesCollected(nodeids, self._errors))

    def serve(self, items: Sequence[pytest.Item], control: Callable[[], None]) -> None:
        """Run the cases that the run asks for, until it asks to leave or has ended."""
        self.served = True
        by_id: dict[str | None, pytest.Item] = {self._nodeid(item): item for item in items}
        while True:
            try:
                command = self.channel.receive()
            except ClosedError:
                return
            match command:
                case RunCase():
                    item = by_id[command.nodeid]
                    next_item = by_id.get(command.next_nodeid)
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
                    self.channel.send(Done())
                case RunControl():
                    control()
                    self.channel.send(Done())
                case ListModules():
                    modules = source_tree.loaded_modules(self._source, self._target)
                    leaked = source_tree.leaked_module(modules, self._target)
                    self.channel.send(ModulesListed(modules, leaked))
                case Leave():
                    return
                case _:
                    raise MessageError(f"{type(command).__name__} cannot be executed outside of infer")

    def _nodeid(self, item: pytest.Item) -> str:
        """As it is in the run, also where a parameter is a path of the tree."""
        return item.nodeid.replace(str(self._target), str(self._source))

    def send(self, config: pytest.Config, report: pytest.TestReport) -> None:
        """Pass a report on, with the end of what the test printed."""
        report.sections = [(name, text[-KEPT_CHARACTERS:]) for name, text in report.sections]
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        self.channel.send(
            PhaseReported(
                when=report.when or "",
                outcome=report.outcome,
                reason="" if report.passed else last_line(report),
                serialised=json.dumps(data, default=str),  # plugins of the user may add objects of any type
            )
        )


def last_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The line of a failure that says what went wrong."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message).strip().partition("\n")[0][:500]
    lines = [line.strip() for line in str(report.longrepr).splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    return (errors or lines or ["no reason was given"])[-1][:500]


class WorkerLifecycle(Lifecycle):
    """The shell of a side: it runs what it is told to, judges nothing and writes nothing."""

    def __init__(self, config: pytest.Config, side: WorkerPlugin) -> None:
        super().__init__(config)
        self._side = side

    @cached_property
    def run(self) -> WorkerRun:
        """The run of this process, which measures what the other end asks for."""
        return WorkerRun(self.settings, list(self._kinds.values()), self._side.channel)

    @property
    def is_worker(self) -> bool:
        """Not one of pytest-xdist's."""
        return False

    def ready(self, items: Sequence[pytest.Item]) -> bool:  # noqa: ARG002
        """Nothing is checked here that the run did not check."""
        return True

    def loop(self, session: pytest.Session) -> object:
        """Stand in for pytest's own loop, which is not reached where collection breaks off."""
        self._side.collected(session.items)
        self._side.serve(session.items, self.run.control)
        return True

    def forecast(self) -> list[str]:
        """The run says it."""
        return []

    def machine(self, item: pytest.Item) -> AbstractContextManager[None]:  # noqa: ARG002
        """The run holds the machine."""
        return nullcontext()

    def show_progress(self, nodeid: str) -> None:
        """The run shows it."""

    def enter(self, report: pytest.TestReport) -> None:
        """Pass every report on."""
        self._side.send(self.config, report)

    def attach(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """A side's report carries nothing."""

    def finish(self, session: pytest.Session) -> None:
        """Nothing to conclude."""

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Nothing to show."""

    def apply_verdict(self, item: pytest.Item) -> None:
        """There is none yet; a test that never measured fails all the same."""
        infer = item.stash.get(INFER, None)
        if infer is None or not infer.called:
            pytest.fail(NEVER_CALLED, pytrace=False)


class WorkerRun(InferenceRun):
    """Measures a case as the other end of the channel commands."""

    def __init__(self, settings: Settings, kinds: Sequence[DeviceKind], channel: WorkerChannel) -> None:
        super().__init__(settings, kinds, FileStore(settings.baseline))
        self._serving = Serving(channel)

    def control(self) -> None:
        """Take turns with fixed work on the first device that is there."""
        name = next(name for name in self.devices if self.absence(name) is None)
        self._serving.control(self.device(name))

    def measure(self, case: Case, nodeid: str, terms: CaseTerms, invocation: Invocation) -> Measured:  # noqa: ARG002
        """Serve one case. Exceptions of the model pass through, but for running out of memory."""
        device = self.device(case.device)
        reason = None
        run = Run(None, None)
        try:
            with threads(case.threads):
                run = self._served(case, device, invocation)
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            reason = exhausted(error, case)
            self._serving.channel.send(OutOfMemory(reason))
        result = CaseResult(
            case=case,
            nodeid=nodeid,
            outcome=Outcome.MEASURED if reason is None else Outcome.INFEASIBLE,
            measurement=run.measurement,
            reason=reason,
        )
        verdict = CaseVerdict(case=case, nodeid=nodeid, verdict=Verdict.NOT_MEASURED, failed=False)
        return Measured(run.output, run.samples, result, verdict)

    def _served(self, case: Case, device: Device, invocation: Invocation) -> Run:
        if "torch" not in sys.modules:
            return self._serving.serve(Subject(invocation.bound(), batch_size=case.batch_size), device)
        from pytest_infergate.instruments import tensors

        with prepared(case, device, invocation) as (subject, _):
            run = self._serving.serve(subject, device)
        return run._replace(output=tensors.brought_home(run.output))
