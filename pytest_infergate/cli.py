"""The ``infergate`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pytest_infergate import __version__
from pytest_infergate.errors import InfergateError

USAGE = 4
"""Exit code of bad arguments and of input that cannot be used."""
PIPE_CLOSED = 141
"""Exit code where the reader of the output went away (``| head``), as of any command: 128 + SIGPIPE."""
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 pass, 1 gate failed, 2 not decided, 4 usage."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = _invoke(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return USAGE
    except InfergateError as error:
        click.echo(f"Error: {error}", err=True)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
        return USAGE
    return code


def _invoke(arguments: list[str]) -> int:
    """Run the command without click's own handling of errors, whose exit codes are not ours."""
    try:
        with infergate.make_context("infergate", arguments) as context:
            code = infergate.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return int(code or 0)


def _discard_output() -> None:
    """Keep Python from reporting once more, as it flushes at exit, that the output cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(no_args_is_help=False)
@click.version_option(__version__, message="%(prog)s %(version)s")
def infergate() -> None:
    """Work with results and baselines of pytest-infergate."""


@infergate.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(file: Path) -> int:
    """Decide a paired run again, from the turns that --infer-turns wrote. Measures nothing."""
    from pytest_infergate.replay import replayed
    from pytest_infergate.report import text
    from pytest_infergate.storage.turns import read

    session = replayed(read(file))
    click.echo(text.terminal(session))
    return 0 if session.gate.passed else 1


@infergate.command()
@click.argument("what", type=click.Choice(["results", "baseline"]), default="results")
def schema(what: str) -> None:
    """Print the JSON Schema of results files (default) or baseline files."""
    if what == "results":
        from pytest_infergate.report.results import schema as described
    else:
        from pytest_infergate.storage.document import schema as described
    click.echo(described(), nl=False)
