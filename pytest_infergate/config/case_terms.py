"""The terms of one test: command line, marker, `[tool.infergate]`, ini file and defaults, resolved once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_infergate.config.marker import Marker
from pytest_infergate.config.options import DEFAULT_MAX_TIME, DEFAULT_PAIRED_MAX_TIME
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.domain.load_values import LOAD_BUDGETS, LOAD_LIMITS, LOAD_SECONDS

if TYPE_CHECKING:
    from pytest_infergate.core.domain.advice_values import Demand
    from pytest_infergate.core.domain.load_values import Load

_T = TypeVar("_T")
ACCURACY_TOLERANCE = 0.01
"""A point of a share, as most measures of accuracy are."""
REQUESTS_FOR_A_BOUND = 2.0
"""Requests that a bound of a percentile takes, over as many independent ones."""


@dataclasses.dataclass(frozen=True)
class CaseTerms:
    """The terms of every case of one test."""

    budgets: Mapping[str, float]
    """Limits by metric, in the unit of the metric's name."""
    tolerance: Mapping[str, float | None]
    """Tolerated growth as a ratio by metric; ``None`` does not gate the metric."""
    gate: str | None
    """``fail``, ``warn`` or ``off`` if the marker sets it; ``None`` leaves it to the run."""
    max_time: float
    """Seconds that one case may take; in a paired run over all process launches."""
    demand: Demand | None
    unit: str | None
    """Name of one element of a batch."""
    parity: float | None
    """Tolerance of the outputs in a paired run, a share of the largest value; ``None``: that of the dtype."""
    compare_outputs: bool
    """Whether a paired run compares outputs at all."""
    accuracy: Callable[..., Any] | None = None
    """Function of the user that is called with the model of the case and returns a number."""
    accuracy_tolerance: float = ACCURACY_TOLERANCE
    """How much less than that of eager PyTorch on the CPU its figure may be."""
    grad_mode: str = "inference_mode"
    """Function of torch under which a module runs."""
    load: Load | None = None
    """Load under which the model is served besides, in the case of the largest batch size."""
    load_seconds: float = LOAD_SECONDS
    """Time for which requests arrive."""
    served: bool = True
    """Whether it is this case that is served under load."""

    def unserved(self) -> CaseTerms:
        """Return the terms of a case of another batch size than the one that is served under load."""
        if self.load is None:
            return self
        budgets = {name: limit for name, limit in self.budgets.items() if name not in LOAD_BUDGETS}
        return dataclasses.replace(self, served=False, budgets=budgets)

    def of_server(self) -> CaseTerms:
        """Return the terms of the case of a server: limits of memory, work, energy and cost are of others."""
        from pytest_infergate.core.domain.metrics import ANSWER_TIMES

        budgets = {name: limit for name, limit in self.budgets.items() if name in ANSWER_TIMES}
        return dataclasses.replace(self, budgets=budgets)

    def of_converted(self) -> CaseTerms:
        """Return the terms of a converted model, inside of which neither memory nor work can be counted."""
        from pytest_infergate.core.domain.metrics import COUNTERS

        uncounted = {"peak_memory_mb", *COUNTERS} - {"weight_bytes"}
        budgets = {name: limit for name, limit in self.budgets.items() if name not in uncounted}
        return dataclasses.replace(self, budgets=budgets)

    @property
    def seconds_served(self) -> float:
        """Time for which the case is served under load; 0 if it is not."""
        return 0.0 if self.load is None or not self.served else self.load_seconds


def case_terms(settings: Settings, marker: Marker, test: str) -> CaseTerms:
    """Resolve the terms of a test, named by its node id without parameters.

    The command line overrides the marker, the marker overrides `[tool.infergate]`, the table overrides the
    ini file. Budgets and tolerances are combined metric by metric.
    """

    def resolved(name: str, marked: _T | None, default: _T) -> _T:
        if name in settings.command:
            return settings.command[name]  # type: ignore[no-any-return]
        return marked if marked is not None else settings.ini.get(name, default)

    load = resolved("load", marker.load, None)
    budgets = {**matching(settings.budgets, test), **(marker.budget or {})}
    # From the lowest to the highest precedence: later entries override earlier ones metric by metric.
    tolerances = (
        settings.ini.get("tolerance"),
        matching(settings.tolerances, test),
        marker.tolerance,
        settings.command.get("tolerance"),
    )
    return CaseTerms(
        budgets=budgets,
        tolerance={metric: allowed for layer in tolerances for metric, allowed in (layer or {}).items()},
        # A gate on the command line applies to the run; only a marker sets one for a test.
        gate=None if marker.gate is None else resolved("gate", marker.gate, None),
        max_time=resolved(
            "max_time", marker.max_time, DEFAULT_PAIRED_MAX_TIME if settings.paired else DEFAULT_MAX_TIME
        ),
        demand=resolved("demand", marker.demand, None),
        unit=marker.unit,
        parity=None if marker.parity is False else marker.parity,
        compare_outputs=marker.parity is not False,
        accuracy=marker.accuracy,
        accuracy_tolerance=(
            ACCURACY_TOLERANCE if marker.accuracy_tolerance is None else marker.accuracy_tolerance
        ),
        grad_mode=marker.grad_mode or "inference_mode",
        load=load,
        load_seconds=min(
            LOAD_SECONDS if load is None else seconds_under_load(load, budgets),
            resolved("max_time", marker.max_time, LOAD_SECONDS),
        ),
    )


def seconds_under_load(load: Load, budgets: Mapping[str, float]) -> float:
    """Return for how long requests should arrive: longer than usual if a budget needs more of them.

    Infinite for a scenario whose rate is not known before, if a budget on a percentile has to be decided.
    """
    limits = [name for name in LOAD_LIMITS if name in budgets]
    if not limits:
        return LOAD_SECONDS
    if load.rate is None:
        return LOAD_SECONDS if load.scenario == "offline" else math.inf
    from pytest_infergate.core.domain.metrics import METRICS
    from pytest_infergate.core.domain.stats import samples_needed

    needed = max(samples_needed(METRICS[name].percentile or 0.5) for name in limits)
    return max(LOAD_SECONDS, REQUESTS_FOR_A_BOUND * needed / load.rate)


def matching(table: Mapping[str, Mapping[str, Any]], test: str) -> dict[str, Any]:
    """Combine the entries of all patterns that match a test; the last matching pattern takes precedence."""
    return {
        metric: value
        for pattern, values in table.items()
        if fnmatchcase(test, pattern)
        for metric, value in values.items()
    }
