"""The load under which a model is served: MLPerf's scenarios as one word each."""

from __future__ import annotations

from typing import Final, Literal

from pytest_infergate.core.domain.values import Struct

LOAD_BUDGETS: Final = frozenset({"load_p95_ms", "load_p99_ms", "goodput_per_s"})
"""Budgets of the figures under load."""
LOAD_LIMITS: Final = ("load_p95_ms", "load_p99_ms")
"""Those that set a latency limit; goodput counts the answers within the shorter one."""
LOAD_SECONDS: Final = 20.0
"""Time for which requests arrive, unless a time limit is shorter."""


class Load(Struct, frozen=True, kw_only=True):
    """A scenario of MLPerf LoadGen."""

    scenario: Literal["server", "single-stream", "multi-stream", "offline"]
    rate: float | None = None
    """Requests per second of the server scenario, which arrive at random moments (a Poisson process)."""
    streams: int | None = None
    """Requests of one query of the multi-stream scenario."""

    @property
    def text(self) -> str:
        """As the user writes it: ``50/s``, ``single-stream``, ``8-stream`` or ``offline``."""
        if self.scenario == "multi-stream":
            return f"{self.streams}-stream"
        return self.scenario if self.rate is None else f"{self.rate:g}/s"

    @property
    def open(self) -> bool:
        """Whether requests arrive however long the earlier ones take."""
        return self.scenario == "server"
