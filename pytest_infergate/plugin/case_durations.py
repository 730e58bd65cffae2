"""How long cases take: remembered from run to run, for the forecast of the next one."""

from __future__ import annotations

import pytest

from pytest_infergate.config.options import DEFAULT_MAX_TIME
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import Outcome
from pytest_infergate.plugin import xdist
from pytest_infergate.storage.remembered_figures import RememberedFigures


class CaseDurations:
    """Hooks that sum up the seconds of each case from its reports, wherever these arrive."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        # Cases of these runs take equally long.
        max_time = {**settings.ini, **settings.command}.get("max_time", DEFAULT_MAX_TIME)
        kind = "counters" if settings.counters_only else f"times-{max_time:g}s{'-energy' * settings.energy}"
        kind += "-save" * settings.save + "-demand" * ("demand" in settings.command)
        kind += "-load" * ("load" in settings.command)
        self._remembered = RememberedFigures(getattr(config, "cache", None), f"seconds-{kind}")
        self._sums: dict[str, float] = {}
        self._measured: set[str] = set()

    def known(self) -> dict[str, float]:
        """Return seconds by node id, as each case took in its last run of this kind."""
        return self._remembered.read()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the time of one phase, which does not include the wait for the machine."""
        self._sums[report.nodeid] = self._sums.get(report.nodeid, 0.0) + report.duration
        case = getattr(report, "infergate", None)
        if case is not None and case["outcome"] == Outcome.MEASURED.value:
            self._measured.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Remember the cases that were measured; a worker of pytest-xdist leaves that to its controller."""
        if not xdist.is_worker(self._config):
            self._remembered.add({nodeid: self._sums[nodeid] for nodeid in sorted(self._measured)})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what the cases took, to be compared with the forecast."""
        if self._measured:
            total = units.duration(sum(self._sums[nodeid] for nodeid in self._measured))
            terminalreporter.write_line(f"measured {units.plural(len(self._measured), 'case')} in {total}")
