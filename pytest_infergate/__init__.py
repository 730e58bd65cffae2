"""pytest-infergate: a pytest plugin and CI gate for inference regressions of PyTorch models.

The names in `__all__` are the public interface. Each is loaded on first use, so that importing the package
costs nothing in a run without inference tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_infergate.core.domain.measurement import Measurement as Measurement
    from pytest_infergate.core.domain.notes import NoteCode as NoteCode
    from pytest_infergate.core.domain.outcome import Session as Session
    from pytest_infergate.core.domain.records import Baseline as Baseline
    from pytest_infergate.core.domain.values import Case as Case
    from pytest_infergate.core.domain.values import Hardware as Hardware
    from pytest_infergate.core.domain.values import Note as Note
    from pytest_infergate.core.gate.baseline import merge_baselines as merge_baselines
    from pytest_infergate.devices.accelerator import AcceleratorKind as AcceleratorKind
    from pytest_infergate.errors import ConfigurationError as ConfigurationError
    from pytest_infergate.errors import ConversionError as ConversionError
    from pytest_infergate.errors import InfergateError as InfergateError
    from pytest_infergate.errors import NotMeasuredError as NotMeasuredError
    from pytest_infergate.errors import StorageError as StorageError
    from pytest_infergate.instruments.device import Board as Board
    from pytest_infergate.instruments.device import CpuTimes as CpuTimes
    from pytest_infergate.instruments.device import Device as Device
    from pytest_infergate.instruments.device import DeviceAbsentError as DeviceAbsentError
    from pytest_infergate.instruments.device import DeviceCounters as DeviceCounters
    from pytest_infergate.instruments.device import DeviceKind as DeviceKind
    from pytest_infergate.instruments.device import DeviceMemory as DeviceMemory
    from pytest_infergate.instruments.device import DeviceState as DeviceState
    from pytest_infergate.instruments.device import DeviceWork as DeviceWork
    from pytest_infergate.instruments.device import Meter as Meter
    from pytest_infergate.instruments.device import Probe as Probe
    from pytest_infergate.instruments.device import Probes as Probes
    from pytest_infergate.measure.tokens import TokenCounts as TokenCounts
    from pytest_infergate.plugin.fixture import Infer as Infer
    from pytest_infergate.plugin.fixture import LatencyFigures as LatencyFigures
    from pytest_infergate.plugin.fixture import Result as Result
    from pytest_infergate.runtimes.runtime import Engine as Engine
    from pytest_infergate.runtimes.runtime import ExportingRuntime as ExportingRuntime
    from pytest_infergate.runtimes.runtime import Placing as Placing
    from pytest_infergate.runtimes.runtime import RemoteRuntime as RemoteRuntime
    from pytest_infergate.runtimes.runtime import Runtime as Runtime
    from pytest_infergate.runtimes.runtime import WrappingRuntime as WrappingRuntime
    from pytest_infergate.storage.baseline_store import Store as Store

__version__ = "0.1.0"

_HOMES = {
    "core.domain.measurement": ("Measurement",),
    "core.domain.values": ("Case", "Hardware", "Note"),
    "core.domain.notes": ("NoteCode",),
    "core.domain.outcome": ("Session",),
    "core.domain.records": ("Baseline",),
    "core.gate.baseline": ("merge_baselines",),
    "devices.accelerator": ("AcceleratorKind",),
    "errors": (
        "ConfigurationError", "ConversionError", "InfergateError", "NotMeasuredError", "StorageError",
    ),
    "instruments.device": (
        "Board", "CpuTimes", "Device", "DeviceAbsentError", "DeviceCounters", "DeviceKind",
        "DeviceMemory", "DeviceState", "DeviceWork", "Meter", "Probe", "Probes",
    ),
    "measure.tokens": ("TokenCounts",),
    "plugin.fixture": ("Infer", "LatencyFigures", "Result"),
    "runtimes.runtime": (
        "Engine", "ExportingRuntime", "Placing", "RemoteRuntime", "Runtime", "WrappingRuntime",
    ),
    "storage.baseline_store": ("Store",),
}  # fmt: skip
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]  # noqa: PLE0604 - a list of strings, computed once


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
