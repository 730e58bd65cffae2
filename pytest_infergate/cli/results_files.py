"""Arguments for results files and output, and functions that read and write them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_infergate.cli.console import echo

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import Session

FILES: Final = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
OUTPUT: Final = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write instead of the terminal.",
)


def read_sessions(files: Iterable[Path]) -> tuple[Session, ...]:
    """Read and merge results files of one or more machines.

    Raises `StorageError` for an invalid file, and for files that contradict each other.
    """
    from pytest_infergate.core.gate.merge import merge_sessions
    from pytest_infergate.errors import StorageError
    from pytest_infergate.report.results_json import parse_all

    # Files are untrusted: `parse_all` refuses invalid ones, and names file and field.
    named = [(str(file), session) for file in files for session in parse_all(file.read_bytes(), str(file))]
    try:
        return merge_sessions(named)
    except ValueError as error:
        raise StorageError(str(error)) from None


def keep_inputs(files: Iterable[Path], output: Path | None) -> None:
    """Raise a usage error if the output would overwrite one of the results files."""
    # Links and relative paths may name the same file in other ways.
    if output is not None and output.exists() and any(output.samefile(file) for file in files):
        raise click.UsageError(
            f"-o must not be one of the results files, got {output}. Hint: choose another file"
        )


def write_output(content: str, output: Path | None) -> None:
    """Write a file, or print the content without anything that a CI runner would take for a command."""
    if output is None:
        echo(content)
        return
    from pytest_infergate.report.sanitize import plain
    from pytest_infergate.storage.atomic import atomic_write

    atomic_write(output, content)
    echo(f"wrote {plain(str(output))}", err=True)
