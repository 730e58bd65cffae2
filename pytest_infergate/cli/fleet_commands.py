"""The ``fleet`` commands: measure on several machine classes, and compare them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_infergate.cli.command_line import CommandGroup, PytestCommand
from pytest_infergate.cli.console import echo
from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.exit_codes import ExitCode, gate_exit_code
from pytest_infergate.cli.results_files import merged_document, read_sessions, write_output
from pytest_infergate.errors import InfergateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_infergate.fleet.fleet_jobs import FleetJob, FleetPlace
    from pytest_infergate.fleet.job_status import JobStatus
    from pytest_infergate.fleet.launchers import FleetLauncher

_TABLE_WIDTH = 160
_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_FOLDER = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results; jobs on other machines need it as well. [default: NAME.results beside FILE]",
)
_LAUNCHER = click.option("--launcher", metavar="NAME", help="Launcher of all classes, instead of their own.")
_REST = click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[-- PYTEST ARGUMENTS]")


@click.group(
    "fleet",
    cls=CommandGroup,
    invoke_without_command=True,
    epilog=examples(
        "infergate fleet run fleet.toml -- tests",
        "infergate fleet status fleet.toml -- tests",
    ),
)
@click.pass_context
def fleet_command(context: click.Context) -> None:
    """Measure on several machine classes, and compare them.

    FILE names the classes, each with a launcher and its terms.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@fleet_command.command(
    "run",
    cls=PytestCommand,
    epilog=examples(
        "infergate fleet run fleet.toml -- tests",
        "infergate fleet run fleet.toml --only one-core -- tests",
        "infergate fleet run fleet.toml --launcher=local -- tests -k embedder",
    ),
)
@_FILE
@_FOLDER
@_LAUNCHER
@click.option("--only", multiple=True, metavar="CLASS", help="Measure only this class; may be repeated.")
@click.option("--again", is_flag=True, help="Measure also what has results.")
@_REST
def run_command(
    file: Path,
    folder: Path | None,
    launcher: str | None,
    only: tuple[str, ...],
    *,
    again: bool,
    rest: tuple[str, ...],
) -> int:
    """Run pytest on each class, and decide, report and advise over all of them.

    Only what has no results of this revision yet is measured. Ctrl-C ends all jobs; what they have measured
    is kept. The exit code is 1 if a job or a case failed, and 2 if no case was decided.
    """
    from pytest_infergate.fleet.attempts import controlling
    from pytest_infergate.fleet.fleet_jobs import selected_jobs
    from pytest_infergate.fleet.fleet_run import FleetController
    from pytest_infergate.fleet.job_status import job_status

    place, launchers, jobs = _fleet(file, folder, launcher, rest)
    chosen = selected_jobs(jobs, only)
    with controlling(place.folder):
        echo(f"revision {place.revision}, results in {place.results}", err=True)
        for other in place.other_revisions()[-3:]:
            echo(f"results of revision {other} are kept and not used", err=True)
        if again:
            for job in chosen:
                job.folder.forget()
        try:
            FleetController(place, launchers, lambda text: echo(text, err=True)).run(jobs, chosen)
        except KeyboardInterrupt:
            echo("interrupted; the same command measures what is missing", err=True)
            raise
        found = [job_status(job, job.folder.record()) for job in jobs]
        code = _conclude(place, found)
    return _listed_missing(file, rest, found, code)


def _listed_missing(file: Path, rest: Sequence[str], found: Sequence[JobStatus], code: int) -> int:
    """List what is missing, with the command that measures it, and return the exit code."""
    from pytest_infergate.fleet.job_status import Status

    missing = [one for one in found if one.status is not Status.MEASURED]
    for one in missing:
        echo(f"{one.status.value}: {one.line}", err=True)
    if missing:
        names = " ".join(f"--only={name}" for name in dict.fromkeys(one.job.machine.name for one in missing))
        command = f"infergate fleet run {file} {names}{' -- ' if rest else ''}{shlex.join(rest)}"
        echo(f"to measure what is missing: {command}", err=True)
    incomplete = missing or any(one.remark for one in found)
    return ExitCode.FAILED if incomplete and code != ExitCode.FAILED else code


def _conclude(place: FleetPlace, found: Sequence[JobStatus]) -> int:
    """Merge, gate, report and advise over what was measured, and return the exit code of the gate."""
    import msgspec

    from pytest_infergate.cli.advise_command import advice_by_default
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.fleet.class_names import with_class_names
    from pytest_infergate.fleet.job_status import Status
    from pytest_infergate.report import advice_pages, html, text

    files = [one.results for one in found if one.status is Status.MEASURED and one.results is not None]
    if not files:
        return ExitCode.FAILED
    write_output(merged_document(files), place.results / "results.json")
    sessions = read_sessions(files)
    # Advice of each run is about its own machine; here all of them are candidates.
    session = msgspec.structs.replace(flat_session(sessions), advice=None)
    advice = ""
    try:
        given = with_class_names(advice_by_default(sessions), _classes(found))
        session = msgspec.structs.replace(session, advice=given)
        command = f"infergate advise {shlex.quote(str(place.results / 'results.json'))} --demand 5/s"
        advice = advice_pages.advice_text(given).replace(
            advice_pages.NEXT, f"{advice_pages.NEXT_IS}{command}"
        )
    except InfergateError as error:
        advice = f"no advice: {error}"
    machines: dict[str, dict[str, None]] = {}
    for one in found:
        machines.setdefault(one.job.machine.name, {}).update(dict.fromkeys(one.machines))
    named = {name: ", ".join(ids) for name, ids in machines.items() if ids}
    settings = {f"class {name}": ids for name, ids in named.items()}
    write_output(html.render_html(session, settings=settings), place.results / "report.html")
    # Rows of several machines end with the name of the machine.
    echo(text.terminal_summary(msgspec.structs.replace(session, advice=None), _TABLE_WIDTH))
    echo("\nclasses, and the names of their machines, for example for --price:")
    for name, ids in named.items():
        echo(f"  {name}: {ids}")
    echo(f"\n{advice}")
    return gate_exit_code(session.gate)


def _classes(found: Sequence[JobStatus]) -> dict[str, str]:
    """Return the names of the classes by the id of their hardware."""
    names: dict[str, dict[str, None]] = {}
    for one in found:
        for hardware in one.machines:
            names.setdefault(hardware, {})[one.job.machine.name] = None
    return {hardware: " or ".join(classes) for hardware, classes in names.items()}


@fleet_command.command(
    "status",
    cls=PytestCommand,
    epilog=examples(
        "infergate fleet status fleet.toml -- tests",
        "infergate fleet status fleet.toml --folder=/shared/fleet -- tests",
    ),
)
@_FILE
@_FOLDER
@_LAUNCHER
@_REST
def status_command(file: Path, folder: Path | None, launcher: str | None, rest: tuple[str, ...]) -> None:
    """Show what is measured, runs, waits, failed and is missing.

    Give the same arguments for pytest as to the run.
    """
    from pytest_infergate.fleet.job_status import job_status

    place, launchers, jobs = _fleet(file, folder, launcher, rest)
    echo(f"revision {place.revision}, results in {place.results}", err=True)
    width = max(len(job.name) for job in jobs)
    for job in jobs:
        record = job.folder.record()
        found = job_status(job, record)
        text = found.text
        if found.status.active and record is not None and record.handle is not None:
            attempt = job.folder.attempt(record.attempt)
            seen = launchers[record.launcher].states({record.handle: attempt})[record.handle]
            reason = f", {seen.reason}" if seen.reason else ""
            text = f"{record.launcher} job {record.handle}: {seen.state}{reason}"
        echo(f"{job.name:<{width}}  {found.status.value:<8}  {text}".rstrip())


@fleet_command.command(
    "render",
    cls=PytestCommand,
    epilog=examples(
        "infergate fleet render fleet.toml --kubernetes -- tests",
        "infergate fleet render fleet.toml --skypilot -o tasks -- tests",
    ),
)
@_FILE
@click.option("--kubernetes", "form", flag_value="kubernetes", help="Jobs for kubectl apply.")
@click.option("--skypilot", "form", flag_value="skypilot", help="Tasks for sky launch.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for one file a job, instead of the terminal.",
)
@_REST
def render_command(file: Path, form: str | None, output: Path | None, rest: tuple[str, ...]) -> None:
    """Print manifests of the jobs, for machines that something else starts.

    Each job leaves a results file CLASS.PART.REVISION.json. Copy these files to one folder, for the command
    add.
    """
    from pytest_infergate.fleet.manifests import kubernetes_jobs, skypilot_tasks, yaml_text

    if form is None:
        raise click.UsageError("one of --kubernetes and --skypilot is required")
    place, _, jobs = _fleet(file, None, None, rest)
    documents = (kubernetes_jobs if form == "kubernetes" else skypilot_tasks)(jobs, place.revision)
    if output is None:
        echo("---\n".join(yaml_text(document) for document in documents))
        return
    output.mkdir(exist_ok=True)
    for job, document in zip(jobs, documents, strict=True):
        write_output(yaml_text(document), output / f"{job.machine.name}.{job.part}.yaml")


@fleet_command.command(
    "add",
    cls=PytestCommand,
    epilog=examples(
        "infergate fleet add fleet.toml results -- tests",
        "infergate fleet add fleet.toml results --folder=/shared/fleet -- tests",
    ),
)
@_FILE
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_FOLDER
@_REST
def add_command(file: Path, source: Path, folder: Path | None, rest: tuple[str, ...]) -> int:
    """Add results of rendered jobs, from files in the folder SOURCE.

    Decides, reports and advises like a run, and also refuses hardware that is not what the class states.
    """
    from pytest_infergate.fleet.attempts import controlling
    from pytest_infergate.fleet.fleet_jobs import add_results
    from pytest_infergate.fleet.job_status import job_status

    place, _, jobs = _fleet(file, folder, None, rest)
    with controlling(place.folder):
        added, unknown = add_results(jobs, place, source)
        for name in unknown:
            echo(f"{name} is left out: no job of revision {place.revision} has this name", err=True)
        echo(f"added {len(added)} of {len(jobs)} results", err=True)
        found = [job_status(job, job.folder.record()) for job in jobs]
        code = _conclude(place, found)
    return _listed_missing(file, rest, found, code)


@fleet_command.command(
    "cancel",
    epilog=examples(
        "infergate fleet cancel fleet.toml",
        "infergate fleet cancel fleet.toml --folder=/shared/fleet",
    ),
)
@_FILE
@_FOLDER
def cancel_command(file: Path, folder: Path | None) -> None:
    """End the jobs that a run left behind because it was killed.

    What they have measured is kept. Use Ctrl-C for a run that still works.
    """
    from pytest_infergate.fleet.attempts import controlling
    from pytest_infergate.fleet.fleet_run import FleetController

    place, launchers, _ = _fleet(file, folder, None, ())
    with controlling(place.folder):
        # Without the arguments of the run, all jobs count as those of another fleet, and are ended.
        FleetController(place, launchers, lambda text: echo(text, err=True)).adopt(())


def _fleet(
    file: Path, folder: Path | None, launcher: str | None, rest: Sequence[str]
) -> tuple[FleetPlace, dict[str, FleetLauncher], tuple[FleetJob, ...]]:
    from pytest_infergate.fleet.fleet_file import read_fleet
    from pytest_infergate.fleet.fleet_jobs import FleetPlace, fleet_jobs
    from pytest_infergate.fleet.launchers import load_launchers

    place = FleetPlace.of(file, folder, Path.cwd())
    launchers = load_launchers(place.folder)
    return place, launchers, fleet_jobs(read_fleet(file, launchers, launcher), place, rest)
