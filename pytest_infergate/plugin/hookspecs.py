"""Hooks by which plugins and conftest files add to infergate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import Session
    from pytest_infergate.instruments.device import DeviceKind
    from pytest_infergate.runtimes.runtime import Runtime
    from pytest_infergate.storage.baseline_store import Store


@pytest.hookspec
def pytest_infergate_devices(config: pytest.Config) -> Sequence[DeviceKind]:  # type: ignore[empty-body]
    """Return the kinds of device to offer under ``--infer-devices``.

    Called in every session before collection: name the kinds here and touch the hardware in
    `DeviceKind.open`. Implemented by plugins and by the initial ``conftest.py`` files.
    """


@pytest.hookspec
def pytest_infergate_runtimes(config: pytest.Config) -> Sequence[Runtime]:  # type: ignore[empty-body]
    """Return the runtimes to offer under ``--infer-runtimes``.

    Called in every session with inference tests, before collection: import what executes models in the
    methods of `Runtime`. Implemented by plugins and by the initial ``conftest.py`` files.
    """


@pytest.hookspec(firstresult=True)
def pytest_infergate_store(config: pytest.Config, location: str) -> Store | None:
    """Return the store of baselines for the value of ``--infer-baseline``, or `None` to leave it to others.

    `location` is an absolute folder, or an address with ``scheme://`` as the user wrote it.
    """


@pytest.hookspec
def pytest_infergate_results(config: pytest.Config, results: Session) -> None:
    """Receive the finished results of a run: measurements, verdicts and everything else of a results file.

    Called once, in the only process or in pytest-xdist's controller, after reports and baselines are written,
    and only in runs that measure. Implemented by plugins and ``conftest.py`` files. An exception does not
    end the run; it is shown with the results, and the exit code is 1.
    """
