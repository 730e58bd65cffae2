"""What torch.compile does in a case: its graphs, graph breaks and recompilations."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

MAX_REASONS_SHOWN = 3


class Compilation:
    """Counts what torch.compile does from now on, after it discards all that it compiled before.

    Otherwise the counters would depend on the cases that ran earlier in this process.
    """

    def __init__(self) -> None:
        # Nothing is imported: without torch._dynamo, torch.compile was not used yet.
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is not None:
            dynamo.reset()
        self._graphs = graph_count()
        self._breaks = _breaks()

    def counters(self) -> dict[str, int]:
        """Return graphs, graph breaks and recompiles so far; empty if nothing was compiled."""
        graphs = graph_count() - self._graphs
        breaks = sum(self.break_reasons().values())
        if graphs <= 0 and not breaks:
            return {}
        # GraphCounter of each frame beyond its first, since the reset.
        frames = getattr(sys.modules.get("torch._dynamo.convert_frame"), "FRAME_COMPILE_COUNTER", {})
        recompiles = sum(max(0, number - 1) for number in frames.values())
        return {"graphs": graphs, "graph_breaks": breaks, "recompiles": recompiles}

    def break_reasons(self) -> dict[str, int]:
        """Return the reasons of the graph breaks so far, and how often each occurred."""
        return {
            reason: number - self._breaks.get(reason, 0)
            for reason, number in _breaks().items()
            if number > self._breaks.get(reason, 0)
        }

    def note(self) -> Note | None:
        """Return a note on the reasons of graph breaks; ``None`` if there were none."""
        reasons = sorted(self.break_reasons().items(), key=lambda pair: -pair[1])
        if not reasons:
            return None
        # The first words of a reason identify it; dynamo appends explanations of many lines.
        shown = [
            f"{' '.join(reason.split())[:80]} ({number})"
            for reason, number in reasons[:MAX_REASONS_SHOWN]
            if reason
        ]
        if len(reasons) > MAX_REASONS_SHOWN:
            shown.append(f"and {len(reasons) - MAX_REASONS_SHOWN} more")
        return Note(
            code=NoteCode.GRAPH_BREAKS,
            text=f"torch.compile broke the graph: {'; '.join(shown)}",
            hint="set TORCH_LOGS=graph_breaks to see the lines",
        )


def graph_count() -> int:
    """Return the number of graphs that torch.compile made in this process so far."""
    utils = sys.modules.get("torch._dynamo.utils")
    return 0 if utils is None else int(utils.counters["stats"]["unique_graphs"])


def _breaks() -> Mapping[str, int]:
    utils = sys.modules.get("torch._dynamo.utils")
    return {} if utils is None else dict(utils.counters["graph_break"])
