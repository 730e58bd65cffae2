"""Entry point of pytest: hooks of a few lines over `shell`.

What a run without inference tests loads stands here; the hooks that run for every test are registered
only once a run turns out to have inference tests.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_infergate.plugin import hookspecs
from pytest_infergate.plugin.lifecycle import Lifecycle, add_options

if TYPE_CHECKING:
    from pytest_infergate.instruments.device import DeviceKind
    from pytest_infergate.plugin.fixture import Infer
    from pytest_infergate.storage.store import Store

LIFECYCLE = pytest.StashKey[Lifecycle]()
MARKER = (
    "inference(devices, dtypes, batch_sizes, threads, budget, tolerance, gate, max_time, unit, parity, "
    "demand): "
    "measure the model that the test gives to the infer fixture; see --help for --infer-devices"
)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others implement."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and their ini twins."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Parse the settings; bad ones end the run with exit code 4."""
    config.addinivalue_line("markers", MARKER)
    config.stash[LIFECYCLE] = Lifecycle(config)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the controller of pytest-xdist, which collects nothing, check what its workers will need."""
    shell = session.config.stash[LIFECYCLE]
    if shell.is_controller:
        shell.check_controller()
        session.config.pluginmanager.register(CaseHooks(shell), "infergate-cases")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give an inference test its cases, before the user's own parameters."""
    metafunc.config.stash[LIFECYCLE].parametrize(metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take away tests that have no case in this run."""
    config.stash[LIFECYCLE].deselect(items)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Check everything that can be checked before the first case is measured."""
    shell = session.config.stash[LIFECYCLE]
    if shell.ready(session.items):
        session.config.pluginmanager.register(CaseHooks(shell), "infergate-cases")
        session.config.pluginmanager.register(ReplayHooks(shell), "infergate-replay")


@pytest.fixture
def infer(request: pytest.FixtureRequest) -> Infer:
    """Run a model on this case's device, measure it, and return its output and figures."""
    return request.config.stash[LIFECYCLE].infer(request)


def pytest_infergate_devices() -> list[DeviceKind]:
    """Offer the devices that torch knows."""
    from pytest_infergate.devices.accelerator import AcceleratorKind
    from pytest_infergate.devices.cpu import CpuKind

    return [CpuKind(), AcceleratorKind("cuda"), AcceleratorKind("xpu"), AcceleratorKind("mps")]


@pytest.hookimpl(trylast=True)
def pytest_infergate_store(location: str) -> Store | None:
    """Keep baselines in files, unless the location is an address of somebody else's."""
    from pytest_infergate.storage.baseline_files import FileStore

    return None if "://" in location else FileStore(location)


class CaseHooks:
    """The hooks that run for every test of a session with inference tests."""

    def __init__(self, shell: Lifecycle) -> None:
        self.shell = shell

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say how many cases there are and how long they will take."""
        return self.shell.forecast()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> object:
        """List the cases instead of running them, or make the launches of a paired run before that."""
        return self.shell.loop(session)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Hold the machine: alone for an inference case, shared for any other test."""
        with self.shell.machine(item):
            return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show progress behind what pytest itself has just shown."""
        self.shell.show_progress(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Seed, before any fixture of the case builds its model."""
        self.shell.set_up(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """Seed each fixture by its name: a model must not hang on which test asked for it first."""
        with self.shell.seeded(fixturedef.argname):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Apply the verdict to the test that earned it."""
        with self.shell.judged(item):
            return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Give the random generators back."""
        self.shell.tear_down(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the measurement on the report, which carries it to wherever the run is concluded."""
        report = yield
        self.shell.attach(item, report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Enter the case in the ledger."""
        self.shell.enter(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker of pytest-xdist collected."""
        self.shell.enter_collection(node)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Decide once, write the reports, record the baseline, set the exit code."""
        self.shell.finish(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the outcome."""
        self.shell.summarise(terminalreporter)


class ReplayHooks:
    """Stand in for the running of items that workers have run already."""

    def __init__(self, shell: Lifecycle) -> None:
        self.shell = shell

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        """Replay, before any plugin runs the item or reruns it."""
        return self.shell.replay(item)
