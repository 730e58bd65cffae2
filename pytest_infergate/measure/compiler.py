"""What torch.compile made of a case: counted by itself, from an empty memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode

REASONS_SHOWN = 3


class Compilation:
    """Counts what torch.compile does from now on, after it forgot all it had compiled before.

    Without that the figures would depend on which cases ran earlier in this process. Nothing is loaded:
    where torch.compile was never used, it can only be used for the first time.
    """

    def __init__(self) -> None:
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is not None:
            dynamo.reset()
        self._graphs = graphs_made()
        self._breaks = _breaks()

    def counted(self) -> dict[str, int]:
        """Graphs, graph breaks and recompiles since; empty where nothing was compiled."""
        graphs = graphs_made() - self._graphs
        breaks = sum(self.reasons().values())
        if graphs <= 0 and not breaks:
            return {}
        return {"graphs": graphs, "graph_breaks": breaks, "recompiles": _recompiles()}

    def reasons(self) -> dict[str, int]:
        """Why graphs broke since, and how often."""
        return {
            reason: number - self._breaks.get(reason, 0)
            for reason, number in _breaks().items()
            if number > self._breaks.get(reason, 0)
        }

    def note(self) -> Note | None:
        """Say why graphs broke."""
        reasons = sorted(self.reasons().items(), key=lambda pair: -pair[1])
        if not reasons:
            return None
        shown = [
            f"{' '.join(reason.split())[:80]} ({number})"
            for reason, number in reasons[:REASONS_SHOWN]
            if reason
        ]
        if len(reasons) > REASONS_SHOWN:
            shown.append(f"and {len(reasons) - REASONS_SHOWN} more reasons")
        return Note(
            code=NoteCode.GRAPH_BREAKS,
            text=f"torch.compile broke the graph: {'; '.join(shown)}",
            hint="TORCH_LOGS=graph_breaks shows the lines",
        )


def graphs_made() -> int:
    """Graphs that torch.compile made in this process so far; 0 where it was never loaded."""
    utils = sys.modules.get("torch._dynamo.utils")
    return 0 if utils is None else int(utils.counters["stats"]["unique_graphs"])


def _breaks() -> Mapping[str, int]:
    utils = sys.modules.get("torch._dynamo.utils")
    return {} if utils is None else dict(utils.counters["graph_break"])


def _recompiles() -> int:
    """Compilations of a frame beyond its first, since the reset."""
    frames = getattr(sys.modules.get("torch._dynamo.convert_frame"), "FRAME_COMPILE_COUNTER", {})
    return sum(max(0, number - 1) for number in frames.values())
