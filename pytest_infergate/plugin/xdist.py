"""Runs that pytest-xdist spreads over processes: workers measure, the controller concludes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_infergate.config.settings import Settings
    from pytest_infergate.plugin.collection import CollectedItems
    from pytest_infergate.runner.case_report import ReportedCases


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this process hands its tests to workers of pytest-xdist."""
    distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", None)
    return bool(distributed) and not is_worker(config)


def refuse_distributed(settings: Settings) -> None:
    """Refuse in the controller, which can show why, what its workers cannot do."""
    if settings.list:
        raise pytest.UsageError("--infer-list must run in one process. Hint: leave out -n")
    if settings.paired:
        raise pytest.UsageError("--infer-against must run in one process. Hint: leave out -n, or use -n0")
    if settings.workers:
        raise pytest.UsageError("--infer-workers must run in one process. Hint: leave out -n, or use -n0")
    if settings.xdist == "refuse":
        raise pytest.UsageError(
            "--infer-xdist=refuse does not allow timing beside other workers. Hint: leave out -n, "
            "or use --infer-xdist=lock, which gives each case the machine to itself"
        )


class WorkerHooks:
    """The end of a worker: cases travel on reports, what was collected travels here."""

    def __init__(self, collected: CollectedItems) -> None:
        self._collected = collected

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what was collected to the controller."""
        from pytest_infergate.runner.case_report import portable_text

        output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
        output["infergate"] = portable_text(self._collected.found())


class ControllerHooks:
    """The controller, which collects nothing itself."""

    def __init__(self, cases: ReportedCases) -> None:
        self._cases = cases

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker collected."""
        data = getattr(node, "workeroutput", {}).get("infergate")
        if data is not None:
            self._cases.add_collection(data)
