"""Entry point of pytest: options, markers, the fixture, and the mode of the session.

Only what a session without inference tests needs is imported here; the mode registers all other hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_infergate.config.options import OPTIONS
from pytest_infergate.errors import InfergateError
from pytest_infergate.plugin import hookspecs
from pytest_infergate.plugin.collection import CollectedItems
from pytest_infergate.plugin.modes import CHOOSE_MODE, Mode, chosen_mode

if TYPE_CHECKING:
    from pytest_infergate.instruments.device import DeviceKind
    from pytest_infergate.plugin.fixture import Infer
    from pytest_infergate.runtimes.runtime import Runtime
    from pytest_infergate.storage.baseline_store import Store

MODE = pytest.StashKey[Mode]()
COLLECTED = pytest.StashKey[CollectedItems]()
MARKER = "measure the model that the test gives to the infer fixture; see --help for --infer-devices"


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others implement."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add each option and its ini twin."""
    group = parser.getgroup("infergate", "inference regressions (infergate)")
    for option in OPTIONS:
        words = option.help.replace("%", "%%")
        if option.metavar is None:
            group.addoption(option.flag, action="store_true", default=None, help=words, dest=option.ini)
        else:
            group.addoption(option.flag, metavar=option.metavar, default=None, help=words, dest=option.ini)
        parser.addini(option.ini, f"as {option.flag}", type="string", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the mode; invalid options end the run with exit code 4."""
    config.addinivalue_line("markers", f"inference({_marker_arguments(config)}): {MARKER}")
    with _usage_errors():
        mode = config.stash.get(CHOOSE_MODE, chosen_mode)(config)
    collected = CollectedItems(mode.parameters)
    config.stash[MODE], config.stash[COLLECTED] = mode, collected
    config.pluginmanager.register(collected, "infergate-collected")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Register what the mode needs from the start."""
    with _usage_errors():
        _register(session.config, session.config.stash[MODE].start())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Register what the mode needs for the items that were collected.

    First of all plugins, since the terminal collects the lines of `pytest_report_collectionfinish` here.
    """
    collected = session.config.stash[COLLECTED]
    with _usage_errors():
        collected.note_selected(session.items)
        _register(session.config, session.config.stash[MODE].collected(collected))


def _marker_arguments(config: pytest.Config) -> str:
    """Name the arguments of the marker for ``pytest --markers``; other runs do not show them."""
    if not config.getoption("markers", False):
        return "..."
    from dataclasses import fields

    from pytest_infergate.config.marker import Marker

    return ", ".join(field.name for field in fields(Marker))


def _register(config: pytest.Config, plugins: Iterable[object]) -> None:
    for plugin in plugins:
        config.pluginmanager.register(plugin, f"infergate-{type(plugin).__name__}")


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn an error before the first test into a usage error: no traceback, exit code 4."""
    try:
        yield
    except InfergateError as error:
        from pytest_infergate.report.sanitize import plain_lines

        raise pytest.UsageError(plain_lines(str(error))) from None


@pytest.fixture
def infer(request: pytest.FixtureRequest) -> Infer:
    """Run a model on this case's device, measure it, and return its output and figures."""
    from pytest_infergate.plugin.items import infer_for

    return infer_for(request, request.config.stash[MODE].cases)


def pytest_infergate_devices() -> list[DeviceKind]:
    """Offer the devices that torch knows."""
    from pytest_infergate.devices.accelerator import AcceleratorKind
    from pytest_infergate.devices.cpu import CpuKind

    return [CpuKind(), AcceleratorKind("cuda"), AcceleratorKind("xpu"), AcceleratorKind("mps")]


def pytest_infergate_runtimes() -> list[Runtime]:
    """Offer eager PyTorch, its compilers, ONNX Runtime and OpenVINO."""
    from pytest_infergate.runtimes.inductor import AotInductorRuntime, CompileRuntime
    from pytest_infergate.runtimes.onnx_runtime import OnnxRuntime
    from pytest_infergate.runtimes.openvino_cpu import OpenVinoRuntime
    from pytest_infergate.runtimes.runtime import EagerRuntime

    return [EagerRuntime(), CompileRuntime(), AotInductorRuntime(), OnnxRuntime(), OpenVinoRuntime()]


@pytest.hookimpl(trylast=True)
def pytest_infergate_store(config: pytest.Config, location: str) -> Store | None:
    """Keep baselines in files, or in a history; any other address belongs to another plugin."""
    from pytest_infergate.history.locations import is_history

    if is_history(location):
        from pytest_infergate.config.toml import project_name
        from pytest_infergate.history.history_baselines import opened_baselines

        return opened_baselines(location, config.rootpath, project_name(config.rootpath))
    from pytest_infergate.storage.baseline_files import FileStore

    return None if "://" in location else FileStore(location)
