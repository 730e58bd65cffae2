"""The ``infergate`` command: its entry point, and the exit codes of errors."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click

from pytest_infergate import __version__
from pytest_infergate.cli.advise_command import advise_command
from pytest_infergate.cli.baseline_commands import baseline_command
from pytest_infergate.cli.ci_commands import ci_command, comment_command, init_command
from pytest_infergate.cli.command_line import CommandGroup
from pytest_infergate.cli.doctor_command import doctor_command
from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.exit_codes import ExitCode
from pytest_infergate.cli.file_commands import (
    compare_command,
    export_command,
    import_results_command,
    show_command,
)
from pytest_infergate.cli.fleet_commands import fleet_command
from pytest_infergate.cli.history_commands import history_command
from pytest_infergate.cli.price_commands import prices_command
from pytest_infergate.cli.results_commands import (
    gate_command,
    merge_command,
    replay_command,
    report_command,
    schema_command,
)
from pytest_infergate.errors import InfergateError

_COMPLETE = "_INFERGATE_COMPLETE"
"""Variable by which a shell asks for completions; click derives the name from that of the command."""


@click.group(
    cls=CommandGroup,
    # Without this, click ends with 2 after the help, which means undecided here.
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "infergate init",
        "infergate ci --devices=cpu -- tests",
        "infergate advise results.json --demand 50/s --p95-ms 100",
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def infergate(context: click.Context) -> None:
    """Work with results and baselines of pytest-infergate.

    Inference tests are run by pytest; see pytest --help for the options --infer-*.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    advise_command,
    baseline_command,
    ci_command,
    comment_command,
    compare_command,
    doctor_command,
    export_command,
    fleet_command,
    gate_command,
    history_command,
    import_results_command,
    init_command,
    merge_command,
    prices_command,
    replay_command,
    report_command,
    schema_command,
    show_command,
):
    infergate.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with an `ExitCode`; ``ci`` exits with the code of pytest."""
    try:
        code = _invoke(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except click.ClickException as error:
        from pytest_infergate.report.sanitize import plain_lines

        # The message may repeat names of files, which a pattern of the shell may have found.
        shown = io.StringIO()
        error.show(shown)
        click.echo(plain_lines(shown.getvalue()), err=True, nl=False)
        code = ExitCode.USAGE
    except InfergateError as error:
        from pytest_infergate.report.sanitize import plain

        click.echo(f"Error: {plain(str(error))}", err=True)
        code = ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except OSError as error:
        # Python flushes the output again when it exits, and would report the same error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.PIPE_CLOSED
        if not isinstance(error, BrokenPipeError):
            click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
            code = ExitCode.USAGE
    sys.exit(code)


def _invoke(arguments: list[str]) -> int:
    """Run the command without click's standalone mode, whose exit code 2 means bad usage."""
    asked = os.environ.get(_COMPLETE)
    if asked:
        from click.shell_completion import shell_complete

        return shell_complete(infergate, {}, "infergate", _COMPLETE, asked)
    try:
        with infergate.make_context("infergate", arguments) as context:
            code = infergate.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return int(code or ExitCode.DONE)
