"""Arguments for results files and output, and functions that read and write them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pytest_infergate.cli.console import echo

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import Session

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILES: Final = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
STANDARD_OUTPUT: Final = Path("-")


def output_option(text: str, **settings: Any) -> Callable[[_Command], _Command]:
    """Return the option ``-o`` with a help text. It is refused, before any work, if its folder is missing."""

    def check(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
        # A misspelt path would otherwise become a new folder.
        if path is not None and not path.parent.is_dir():
            raise click.UsageError(
                f"-o must be in an existing folder, got {path}. Hint: create {path.parent}"
            )
        return path

    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option("-o", "--output", type=kind, callback=check, help=text, **settings)


OUTPUT: Final = output_option("File to write instead of the terminal.")


def read_sessions(files: Iterable[Path]) -> tuple[Session, ...]:
    """Read and merge results files of one or more machines.

    Raises `StorageError` for an invalid file, and for files that contradict each other.
    """
    from pytest_infergate.core.gate.merge import merge_sessions
    from pytest_infergate.report.results_json import parse_all

    with _reading():
        # Files are untrusted: `parse_all` refuses invalid ones, and names file and field.
        return merge_sessions(
            (str(file), session) for file in files for session in parse_all(file.read_bytes(), str(file))
        )


def merged_document(files: Iterable[Path]) -> list[bytes]:
    """Return the document of merged results files, in pieces. Raises `StorageError` as `read_sessions` does.

    Each file is checked and dropped, and its text is kept: its sessions would need several times as much
    memory, and rendering them most of the time.
    """
    from pytest_infergate.core.gate.merge import merge_order
    from pytest_infergate.report.results_json import merged_json, rendered_again, session_texts

    texts: list[bytes] = []

    def named() -> Iterator[tuple[str, Session]]:
        for file in files:
            for session, text in session_texts(file.read_bytes(), str(file)):
                texts.append(text)
                yield str(file), session

    with _reading():
        order = merge_order(named(), lambda place: rendered_again(texts[place]))
    return merged_json(texts[place] for place in order)


@contextmanager
def _reading() -> Iterator[None]:
    from pytest_infergate.errors import StorageError

    # Values without cycles are all that is created; looking for garbage would take as long as reading.
    gc.disable()
    try:
        yield
    except ValueError as error:
        raise StorageError(str(error)) from None
    finally:
        gc.enable()


def keep_inputs(files: Iterable[Path], output: Path | None) -> None:
    """Raise a usage error if the output would overwrite one of the results files."""
    # Links and relative paths may name the same file in other ways.
    if output is not None and output.exists() and any(output.samefile(file) for file in files):
        raise click.UsageError(
            f"-o must not be one of the results files, got {output}. Hint: choose another file"
        )


def write_output(content: str | list[bytes], output: Path | None) -> None:
    """Write a file, or print the content without anything that a CI runner would take for a command."""
    if output is None or output == STANDARD_OUTPUT:
        echo(content if isinstance(content, str) else b"".join(content).decode())
        return
    from pytest_infergate.report.sanitize import plain
    from pytest_infergate.storage.atomic import atomic_write

    atomic_write(output, content)
    echo(f"wrote {plain(str(output))}", err=True)
