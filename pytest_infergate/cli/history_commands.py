"""Commands on histories: show, list, push, copy, compact and query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pytest_infergate.cli.command_line import NAME_PATTERN, CommandGroup
from pytest_infergate.cli.console import echo
from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.exit_codes import ExitCode
from pytest_infergate.cli.results_files import OUTPUT, output_option, write_output
from pytest_infergate.core.domain.units import plural
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.core.gate.trends import Trend
    from pytest_infergate.history.session_history import SessionHistory

DEFAULT_HISTORY: Final = ".infergate/history"
"""Folder of the history if neither an option nor the ini file names a place."""
_PLACE: Final = click.option(
    "--history",
    "place",
    metavar="PLACE",
    envvar="INFERGATE_HISTORY",
    help="Folder or address (default: infer_history of pyproject.toml, or .infergate/history).",
)
_PROJECT: Final = click.option("--project", metavar="NAME", help="Project, if the place holds several.")
_LAST: Final = click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Runs to read; 0 is all.",
)


@click.group(
    "history",
    cls=CommandGroup,
    invoke_without_command=True,
    epilog=examples(
        "infergate history -o history.html",
        "infergate history show -k embedder",
        "infergate history push --history s3://bucket/history",
    ),
)
@_PLACE
@_PROJECT
@NAME_PATTERN
@_LAST
@output_option("Page to write.")
@click.pass_context
def history_command(
    context: click.Context,
    *,
    place: str | None,
    project: str | None,
    pattern: str,
    last: int,
    output: Path | None,
) -> None:
    """Show how cases developed over many sessions, which --infer-history collects."""
    if context.invoked_subcommand is not None:
        return
    if output is None:
        click.echo(context.get_help())
        return
    from pytest_infergate.report.history_page import render_history

    history = _history(place, project)
    trends, notes = _trends(history, pattern, last)
    write_output(render_history(trends, history.location, notes, simulated=history.is_simulated()), output)


@history_command.command(
    "show",
    epilog=examples("infergate history show -k embedder", "infergate history show --history sqlite:///h.db"),
)
@_PLACE
@_PROJECT
@NAME_PATTERN
@_LAST
def show_history_command(place: str | None, project: str | None, pattern: str, last: int) -> None:
    """Show a line for each case and hardware class, the largest drift first.

    Times are medians, corrected for the speed of the machine by the reference workloads of each session.
    """
    from pytest_infergate.report.history_text import history_table

    trends, notes = _trends(_history(place, project), pattern, last)
    echo(history_table(trends, notes))


@history_command.command(
    "list",
    epilog=examples("infergate history list", "infergate history list --history branch://history"),
)
@_PLACE
@_PROJECT
def list_history_command(place: str | None, project: str | None) -> None:
    """List the sessions of a history, the oldest first."""
    history = _history(place, project)
    names = history.documents()
    for name in names:
        time = f"{name.time[:4]}-{name.time[4:6]}-{name.time[6:11]}:{name.time[11:13]}:{name.time[13:15]}Z"
        echo(f"{time}  {name.kind:<8}  {name.project}  {' '.join(name.classes)}  {name.digest}")
    echo(f"{plural(len(names), 'session')} in {history.location}")


@history_command.command(
    "push",
    epilog=examples("infergate history push", "infergate history push --history s3://bucket/history"),
)
@_PLACE
def push_history_command(place: str | None) -> int:
    """Add the sessions that could not be added to the history at the end of their run.

    They are in .infergate/pending below the current folder. The exit code is 1 if some still cannot be.
    """
    from pytest_infergate.history.locations import open_store
    from pytest_infergate.history.pending import PENDING_FOLDER, push
    from pytest_infergate.history.session_history import SessionHistory

    where, folder = located_history(place), Path.cwd()
    pushed = push(lambda: SessionHistory(open_store(where, folder)), folder)
    echo(f"added {plural(len(pushed.added), 'session')} to the history")
    if pushed.problem:
        echo(
            f"Error: {pushed.problem}\n{plural(pushed.pending, 'session')} stay in {PENDING_FOLDER}", err=True
        )
        return ExitCode.FAILED
    return ExitCode.DONE


@history_command.command(
    "copy",
    epilog=examples(
        "infergate history copy s3://bucket/history",
        "infergate history copy sqlite:///history.db --history branch://history",
    ),
)
@click.argument("target")
@_PLACE
@_PROJECT
def copy_history_command(target: str, place: str | None, project: str | None) -> None:
    """Copy every session to another place; sessions that are there already are left as they are."""
    from pytest_infergate.history.locations import open_store
    from pytest_infergate.history.session_history import SessionHistory

    history = _history(place, project)
    other = SessionHistory(open_store(target, Path.cwd()))
    names = [name.name for name in history.documents()]
    new = sum(other.add_document(name, content).new for name, content in history.store.read(names))
    echo(f"copied {new} of {plural(len(names), 'session')} from {history.location} to {other.location}")


@history_command.command(
    "compact",
    epilog=examples("infergate history compact", "infergate history compact --history s3://bucket/history"),
)
@_PLACE
def compact_history_command(place: str | None) -> None:
    """Write the measurements as Parquet, so that queries and long histories are read in seconds.

    The sessions stay as they are. New ones are read beside the Parquet files until the next time.
    """
    from pytest_infergate.history.parquet_parts import compact
    from pytest_infergate.history.session_tables import TableSessions

    store = _history(place, None).store
    if isinstance(store, TableSessions):
        raise ConfigurationError(
            f"{store.location} is a database, which answers queries itself. Hint: infergate history query"
        )
    done = compact(store)
    echo(f"{plural(done.sessions, 'run')} of {store.location}, {done.new} of them new, in {done.folder}")


@history_command.command(
    "query",
    epilog=examples(
        "infergate history query 'SELECT created, p50 FROM infergate_measurements ORDER BY created'",
        "infergate history query --csv -o all.csv 'SELECT * FROM infergate_measurements'",
    ),
)
@click.argument("sql")
@_PLACE
@click.option("--csv", "form", flag_value="csv", help="Write CSV.")
@click.option("--json", "form", flag_value="json", help="Write a list of objects.")
@OUTPUT
def query_history_command(sql: str, place: str | None, form: str | None, output: Path | None) -> None:
    """Answer a question in SQL about the table infergate_measurements.

    It has a row for each case of each run. Databases answer themselves; other places are read by DuckDB if it
    is installed, and by SQLite otherwise.
    """
    from pytest_infergate.history.questions import asked
    from pytest_infergate.report.answers import answer_csv, answer_json, answer_table

    render = {"csv": answer_csv, "json": answer_json}.get(form or "", answer_table)
    with asked(_history(place, None).store, sql) as answer:
        try:
            text = render(answer.columns, answer.rows)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    write_output(text, output)


def located_history(place: str | None) -> str:
    """Return the place that an option, the ini file in pyproject.toml or the default names."""
    if place is not None:
        return place
    from pytest_infergate.config.toml import native_setting

    try:
        found: Any = native_setting(Path("pyproject.toml"), "infer_history")
    except (KeyError, TypeError):
        return DEFAULT_HISTORY
    return str(found) or DEFAULT_HISTORY


def _history(place: str | None, project: str | None) -> SessionHistory:
    from pytest_infergate.history.locations import open_store
    from pytest_infergate.history.session_history import SessionHistory

    return SessionHistory(open_store(located_history(place), Path.cwd()), project)


def _trends(history: SessionHistory, pattern: str, last: int) -> tuple[list[Trend], list[str]]:
    """Return the trends of the cases that match, and what has to be said about them."""
    from pytest_infergate.core.gate.trends import corrected, trends_of
    from pytest_infergate.history.change_points import MISSING, change_points
    from pytest_infergate.report.case_listing import name_matches

    series = [one for one in history.series(last or None) if name_matches(one.case.name, pattern)]
    if not series:
        raise ConfigurationError(
            f"{history.location} has no times of a case{f' that matches {pattern!r}' if pattern else ''}. "
            "Hint: add sessions with --infer-history"
        )
    changes = change_points([corrected(one) for one in series])
    notes = [MISSING] if changes is None else []
    size = series[0].runs_a_point
    if size > 1:
        notes.append(f"each point has the medians of {size} runs in a row. Hint: --last reads fewer runs")
    return trends_of(series, changes), notes
