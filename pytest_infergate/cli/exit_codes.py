"""Exit codes of the ``infergate`` command."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import GateResult


class ExitCode(enum.IntEnum):
    """The exit code of a command."""

    DONE = 0
    FAILED = 1
    """The gate failed."""
    UNDECIDED = 2
    """There are cases, but none of them was decided."""
    # As for pytest, which uses 2 for an interruption.
    USAGE = 4
    """Invalid arguments or invalid input."""
    # 128 + SIGINT, as for any command.
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    """The reader of the output was closed (``| head``): 128 + SIGPIPE, as for any command."""


def gate_exit_code(gate: GateResult) -> ExitCode:
    """Return the exit code of a command that decides about cases."""
    if not gate.passed or any(verdict.failed for verdict in gate.verdicts):
        return ExitCode.FAILED
    return ExitCode.UNDECIDED if gate.nothing_decided else ExitCode.DONE
