"""The ``infergate`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_infergate import __version__
from pytest_infergate.errors import InfergateError

if TYPE_CHECKING:
    from pytest_infergate.core.domain.instance_types import Instance
    from pytest_infergate.core.domain.model import Note
    from pytest_infergate.core.domain.outcome import Session

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
        from pytest_infergate.report.sanitize import plain

        click.echo(f"Error: {plain(str(error))}", err=True)
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


@infergate.group(no_args_is_help=False)
def prices_command() -> None:
    """List prices of machines, or make a table of them."""


_REGIONS = click.option(
    "--region", "regions", multiple=True, metavar="NAME", help="Only this region; may be repeated."
)
_TABLE = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Table to write, as CSV.",
)


@prices_command.command("list")
@click.option("--accelerator", metavar="NAME", help="Only machines with this accelerator: L4, A100-80GB.")
@_REGIONS
@click.option(
    "--prices",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of own prices, over those that come with infergate; may be repeated.",
)
def list_prices(accelerator: str | None, regions: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """List the prices that are known, in US dollars an hour."""
    from pytest_infergate.core.domain import instance_types
    from pytest_infergate.report import price_table as rendered
    from pytest_infergate.storage.prices import load_prices, today

    known, notes = load_prices(files)
    found = _chosen(known, accelerator, regions)
    ordered = sorted(found, key=lambda one: (one.accelerator or "", one.accelerator_count, one.usd_per_hour))
    click.echo(rendered.price_table(ordered))
    _tell((*notes, *filter(None, [instance_types.stale_price_note(found, today())])))


@prices_command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", metavar="NAME", help="Whose prices these are, where the rows do not say.")
@click.option("--as-of", metavar="DAY", help="Of when they are, where the rows do not say: 2026-07-20.")
@_REGIONS
@_TABLE
def import_prices(
    file: Path, provider: str | None, as_of: str | None, regions: tuple[str, ...], output: Path
) -> None:
    """Make a table of prices from a catalogue of somebody else: one row an offer, as CSV."""
    from pytest_infergate.storage.catalogues import import_catalog

    _write_prices(import_catalog(file, provider, as_of or ""), regions, output)


@prices_command.command("refresh")
@click.option(
    "--provider", "providers", multiple=True, metavar="NAME", help="Only this provider; may be repeated."
)
@_REGIONS
@_TABLE
def refresh_prices(providers: tuple[str, ...], regions: tuple[str, ...], output: Path) -> None:
    """Make a table of today's prices, over the network. Needs pip install 'pytest-infergate[prices]'."""
    from pytest_infergate.storage.catalogues import PROVIDERS, refresh

    _write_prices(refresh(providers or PROVIDERS), regions, output)


def _write_prices(
    found: tuple[tuple[Instance, ...], tuple[Note, ...]], regions: Sequence[str], output: Path
) -> None:
    from pytest_infergate.core.domain.units import plural
    from pytest_infergate.storage.prices import write_prices

    instances, notes = found
    kept = _chosen(instances, None, regions)
    write_prices(output, kept)
    _tell(notes)
    click.echo(f"wrote {output}: {plural(len(kept), 'instance')}", err=True)


def _chosen(
    instances: Iterable[Instance], accelerator: str | None, regions: Sequence[str]
) -> tuple[Instance, ...]:
    from pytest_infergate.core.domain import instance_types
    from pytest_infergate.errors import ConfigurationError

    try:
        return instance_types.select_instances(instances, accelerator, regions)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _tell(notes: Iterable[Note]) -> None:
    from pytest_infergate.report.sanitize import plain

    for note in notes:
        click.echo(f"note: {plain(str(note))}", err=True)


@infergate.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay_command(file: Path) -> int:
    """Decide a paired run again, from the turns that --infer-paired-data wrote. Measures nothing."""
    from pytest_infergate.cli.replay import decide_again
    from pytest_infergate.report import text
    from pytest_infergate.storage.paired_data import read_paired_data

    session = decide_again(read_paired_data(file))
    click.echo(text.terminal_summary(session))
    return 0 if session.gate.passed else 1


@infergate.command()
@click.option(
    "--against",
    default="",
    metavar="REV",
    help="Revision to compare with call by call: auto for that of the "
    "event (default), none for the baseline on record, latest-tag for the last release.",
)
@click.option("--devices", default="", metavar="NAMES", help="As --infer-devices of pytest.")
@click.option("--baseline", default="", metavar="FOLDER", help="As --infer-baseline of pytest.")
@click.option(
    "--save", is_flag=True, help="Record this session into the baseline; compares with no revision."
)
@click.option("--report", default="", metavar="FILE", help="HTML report to write.")
@click.option("--json", default="results.json", show_default=True, metavar="FILE", help="Results to write.")
@click.option(
    "--markdown", default="", metavar="FILE", help="Summary to write, beside that of the CI service."
)
@click.option("--arguments", default="", help="Arguments for pytest in one text, split as a shell does.")
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[-- PYTEST ARGUMENTS]")
def ci_command(**asked: Any) -> int:
    """Run the gate in CI: find the base, fetch its history, run pytest, tell the service. Exits as pytest."""
    from pytest_infergate.cli.ci import GateRequest, run_gate

    return run_gate(GateRequest(**asked), os.environ, Path.cwd(), click.echo)


@infergate.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Repository of the pull request.")
@click.option(
    "--run-id", required=True, type=click.IntRange(min=1), help="Id of the run that left the results."
)
@click.option(
    "--author", default="github-actions[bot]", show_default=True, help="Login that the token writes as."
)
def comment_command(files: tuple[Path, ...], repo: str, run_id: int, author: str) -> int:
    """Write results of a run as the one comment at its pull request. Takes its token from GITHUB_TOKEN."""
    from pytest_infergate.cli.github_comment import api_of, publish

    done = publish(files, run_id, api_of(repo, os.environ), author=author)
    click.echo(done.text)
    return 0 if done.usable else USAGE


@infergate.command()
@click.option("--yes", is_flag=True, help="Write without asking.")
def init_command(*, yes: bool) -> int:
    """Set the gate up in a repository: workflows for GitHub and a first test. Overwrites nothing."""
    from pytest_infergate.cli.starter import plan_starter, preview, write_files

    plan = plan_starter(Path.cwd())
    click.echo(preview(plan))
    if plan.files and (yes or click.confirm("Write these files?", default=True)):
        for path in write_files(plan):
            click.echo(f"wrote {path}")
    return 0


_FILES = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, in place of the terminal.",
)


@infergate.command()
@_FILES
@_OUTPUT
def merge_command(files: tuple[Path, ...], output: Path | None) -> None:
    """Put results of several machines into one file. Order and repetition change nothing."""
    from pytest_infergate.report import results

    _write(results.render_merged(_merged(files)), output)


@infergate.command()
@_FILES
def run_gate(files: tuple[Path, ...]) -> int:
    """Decide once over results of several machines: exit code 1 where any of them failed."""
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.report import text

    session = flat_session(_merged(files))
    _write(text.terminal_summary(session), None)
    failed = any(verdict.failed for verdict in session.gate.verdicts)
    return 0 if session.gate.passed and not failed else 1


@infergate.command()
@_FILES
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File to write.",
)
def report_command(files: tuple[Path, ...], output: Path) -> None:
    """Write the HTML page of results of one machine or several."""
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.report import html

    _keep_inputs(files, output)
    _write(html.render_html(flat_session(_merged(files))), output)


@infergate.command()
@_FILES
@click.option("--demand", metavar="RATE", help="Requests that arrive: 50/s, 3/min, 30/s:periodic.")
@click.option("--streams", type=click.IntRange(min=1), help="Streams of a periodic demand, such as cameras.")
@click.option("--items", metavar="COUNT", help="Items of a backlog, in place of a demand: 1e6.")
@click.option("--deadline", metavar="TIME", help="When the backlog must be done: 2h.")
@click.option(
    "--p95-ms", "limit_ms", type=float, metavar="MS", help="95 % of requests are to be answered within."
)
@click.option(
    "--utilisation",
    type=float,
    default=None,
    help="Share of its capacity that a machine may use. [default: 0.6]",
)
@click.option(
    "--min-instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Instances that run whatever the demand is.",
)
@click.option(
    "--day",
    metavar="24 NUMBERS",
    help="Demand of each hour of a day, of which --demand is the peak: 2,1,...,9.",
)
@click.option(
    "--scale-up", metavar="TIME", help="From the order of a machine until it serves. [default: 5min]"
)
@click.option(
    "--grid", default="world", show_default=True, help="Whose electricity CO2e is told of: DEU, FRA, USA."
)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="DEVICE=NAME",
    help="What a measured machine is: cpu=c7i.xlarge. Device, or the beginning of a hardware class.",
)
@click.option(
    "--price", "usd_per_hour", multiple=True, metavar="DEVICE=USD", help="What an own machine costs an hour."
)
@click.option(
    "--prices", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Table of own prices."
)
@click.option("--region", default=None, help="Region of prices that are looked up by class.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "html"]),
    default="text",
    show_default=True,
)
@_OUTPUT
def advise_command(files: tuple[Path, ...], form: str, output: Path | None, **asked: Any) -> None:
    """Say where each model should run for a demand, and what that costs."""
    from pytest_infergate.advising.advise import answered
    from pytest_infergate.report.sanitize import without_commands

    _keep_inputs(files, output)
    content = answered(_merged(files), form, **asked)
    _write(without_commands(content) if form in ("text", "markdown") else content, output)


def _merged(files: Iterable[Path]) -> tuple[Session, ...]:
    """Read results files, as untrusted as they are, and put them together."""
    from pytest_infergate.core.gate.merge import merge_sessions as merged
    from pytest_infergate.errors import StorageError
    from pytest_infergate.report.results import parse_all

    named = [(str(file), session) for file in files for session in parse_all(file.read_bytes(), str(file))]
    try:
        return merged(named)
    except ValueError as error:
        raise StorageError(str(error)) from None


def _keep_inputs(files: Iterable[Path], output: Path | None) -> None:
    """Refuse to write a report over the results that it is of."""
    if output is not None and output.exists() and any(output.samefile(file) for file in files):
        raise click.UsageError(f"-o {output} is one of the results: choose another file")


def _write(content: str, output: Path | None) -> None:
    if output is None:
        from pytest_infergate.report.sanitize import without_commands

        click.echo(without_commands(content), nl=not content.endswith("\n"))
        return
    from pytest_infergate.storage.atomic import atomic_write

    atomic_write(output, content)
    click.echo(f"wrote {output}", err=True)


@infergate.command()
@click.argument("what", type=click.Choice(["results", "baseline"]), default="results")
def schema_command(what: str) -> None:
    """Print the JSON Schema of results files (default) or baseline files."""
    if what == "results":
        from pytest_infergate.report.results import results_schema as described
    else:
        from pytest_infergate.storage.baseline_document import baseline_schema as described
    click.echo(described(), nl=False)
