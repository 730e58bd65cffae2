"""The pytest plugin of a worker process: it runs the cases that the parent asks for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import ConversionError
from pytest_infergate.measure import memory
from pytest_infergate.measure.case import MeasuredSubject, Subject
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
    NotConverted,
    OutOfMemory,
    PhaseReported,
    RunCase,
    RunControl,
)
from pytest_infergate.plugin.collection import (
    CollectedItems,
    Parameter,
    device_kinds,
    offered_runtimes,
    parameter_of,
    parameters,
)
from pytest_infergate.plugin.fixture import InfeasibleError, Result
from pytest_infergate.plugin.items import ItemHooks, SeededFixtures
from pytest_infergate.plugin.modes import CHOOSE_MODE, Mode, read_settings
from pytest_infergate.plugin.printed_output import PrintedOutput
from pytest_infergate.runner.open_devices import OpenDevices
from pytest_infergate.runtimes.eager import out_of_memory_note, torch_threads
from pytest_infergate.runtimes.prepared_case import check_dtype, prepared
from pytest_infergate.runtimes.runtime import not_converted_note
from pytest_infergate.worker.serving import Serving

if TYPE_CHECKING:
    from pytest_infergate.config.case_terms import CaseTerms
    from pytest_infergate.config.marker import Marker
    from pytest_infergate.measure.guarded_device import GuardedDevice


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
"""Options of pytest and its plugins that write files, wait for input, or end a session early."""
_ABSENT = (
    *("rerunfailures", "pytest_rerunfailures", "flaky", "flaky.flaky_pytest_plugin"),
    *("randomly", "pytest_randomly"),
)
"""Plugins that run a failed test again, which the parent does not expect, or draw a seed in each process."""
KEPT_CHARACTERS = 1_000_000
"""Characters of the end of a test's output, in each section of its report: a message has a limit."""


class WorkerPlugin:
    """The plugin that makes a session of pytest the worker of one side."""

    def __init__(
        self,
        channel: WorkerChannel,
        source: Path,
        target: Path,
        modules: Sequence[str],
        runtime: str | None = None,
    ) -> None:
        self.channel = channel
        self.runtime = runtime
        """What executes every case in place of its own runtime."""
        self.served = False
        self._source = source
        self._target = target
        self._modules = modules
        self._errors: dict[str, str] = {}

    @property
    def renamed(self) -> tuple[str, str] | None:
        """Top folder of the base and of the candidate, if they differ."""
        return (str(self._target), str(self._source)) if self._target != self._source else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> None:
        """Choose the mode, switch off what belongs to the parent, and collect only what has cases.

        Other files may be missing on the base, fail there, or be what a test was called before it moved.
        """
        config.stash[CHOOSE_MODE] = self._mode
        for name, value in _QUIET.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        files = [config.rootpath / module for module in self._modules]
        if files and not any("[" in module for module in self._modules):  # pytest takes that for an id
            config.args = [
                os.path.relpath(file, config.invocation_params.dir) for file in files if file.exists()
            ]

    def _mode(self, config: pytest.Config) -> Mode:
        return WorkerMode(self, config)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Switch off plugins that would run a test in another way than the parent asked for."""
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
        """Run the cases that the parent asks for, until it asks to leave or has ended."""
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
        """The node id as the parent has it, even if a parameter is a path of the tree."""
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


class WorkerMode:
    """The mode of a worker: cases run when the parent asks for them; nothing is judged or written."""

    def __init__(self, plugin: WorkerPlugin, config: pytest.Config) -> None:
        settings = read_settings(config)
        self._plugin = plugin
        self._config = config
        self._settings = settings
        self._devices = OpenDevices(settings.devices, device_kinds(config).values())
        self._runtimes = offered_runtimes(config)
        self._serving = Serving(plugin.channel, plugin.renamed)
        self._printed = PrintedOutput(config)
        self._serving.first_returned = self._printed.first_returned

    @property
    def cases(self) -> WorkerMode:
        """Cases are served by this very object."""
        return self

    def parameters(self, marker: Marker, test: str) -> Sequence[Parameter]:
        """Return the cases that the parent has, with the runtime of this side."""
        found = parameters(marker, test, self._settings, self._devices.names)
        runtime = self._plugin.runtime
        if runtime is None:
            return found
        return [one._replace(axes=one.axes._replace(runtime=runtime)) for one in found]

    def start(self) -> Sequence[object]:
        """Return nothing: the parent has checked everything."""
        return ()

    def collected(self, collected: CollectedItems) -> Sequence[object]:
        """Return the hooks around items, and those of this mode."""
        return ItemHooks(self), SeededFixtures(collected.inference.values()), self

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve the parent in place of pytest's loop, which stops where a module could not be collected."""
        self._plugin.collected(session.items)
        self._plugin.serve(session.items, self._control)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pass every report on."""
        self._plugin.send(self._config, report)

    def _control(self) -> None:
        """Serve the control: fixed work on the first device that is available."""
        present = (name for name in self._devices.names if self._devices.absence_reason(name) is None)
        self._serving.control(self._devices.open(next(present)))

    def why_not(self, case: Case, nodeid: str, terms: CaseTerms) -> str | None:  # noqa: ARG002
        """Return why the device cannot be used."""
        return self._devices.failure(case.device)

    def measure(self, case: Case, nodeid: str, terms: CaseTerms, invocation: Invocation) -> Result:  # noqa: ARG002
        """Serve one case as the parent commands."""
        device = self._devices.open(case.device)
        try:
            with torch_threads(case.threads), self._printed.of_first_call():
                run = self._served(case, device, invocation)
        except ConversionError as error:
            event: NotConverted | OutOfMemory = NotConverted(not_converted_note(error, case))
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            event = OutOfMemory(out_of_memory_note(error, case))
        else:
            return Result(run.output, run.measurement, run.samples)
        # Outside the handler: the error, and what its frames hold, are gone before the next case.
        self._serving.channel.send(event)
        raise InfeasibleError(str(event.note))

    def _served(self, case: Case, device: GuardedDevice, invocation: Invocation) -> MeasuredSubject:
        if "torch" not in sys.modules and case.runtime == "eager":
            check_dtype(case, invocation)
            return self._serving.serve(Subject(invocation.bound(), batch_size=case.batch_size), device)
        from pytest_infergate.instruments import tensors

        runtime = self._runtimes.get(case.runtime.partition(":")[0])
        with prepared(case, device, invocation, runtime) as (subject, _, _):
            run = self._serving.serve(subject, device)
        return run._replace(output=tensors.copy_to_cpu(run.output))

    def failure(self, nodeid: str) -> None:
        """Return ``None``: the parent judges."""
