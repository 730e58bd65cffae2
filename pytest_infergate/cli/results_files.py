"""Results files of the commands: arguments, reading, and writing the outcome."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import Session

FILES: Final = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
OUTPUT: Final = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, in place of the terminal.",
)


def read_sessions(files: Iterable[Path]) -> tuple[Session, ...]:
    """Read results files of several machines and put them together.

    Raises `StorageError` for a file that cannot be used, and for files that contradict each other.
    """
    from pytest_infergate.core.gate.merge import merge_sessions
    from pytest_infergate.errors import StorageError
    from pytest_infergate.report.results import parse_all

    # Every file is untrusted: parse_all refuses what it cannot use, and names file and field.
    named = [(str(file), session) for file in files for session in parse_all(file.read_bytes(), str(file))]
    try:
        return merge_sessions(named)
    except ValueError as error:
        raise StorageError(str(error)) from None


def keep_inputs(files: Iterable[Path], output: Path | None) -> None:
    """Refuse to write a report over one of the results that it shows."""
    if output is not None and output.exists() and any(output.samefile(file) for file in files):
        raise click.UsageError(f"-o {output} is one of the results: choose another file")


def write_output(content: str, output: Path | None) -> None:
    """Write a file, or print what a CI runner must not take for its own commands."""
    if output is None:
        from pytest_infergate.report.sanitize import without_commands

        click.echo(without_commands(content), nl=not content.endswith("\n"))
        return
    from pytest_infergate.storage.atomic import atomic_write

    atomic_write(output, content)
    click.echo(f"wrote {output}", err=True)
