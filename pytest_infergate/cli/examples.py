"""Examples in the help of commands."""

from __future__ import annotations


def examples(*commands: str) -> str:
    """Return an epilog of ``--help``: one command per line, which click does not wrap."""
    return "\b\nExamples:\n" + "\n".join(f"  $ {command}" for command in commands)
