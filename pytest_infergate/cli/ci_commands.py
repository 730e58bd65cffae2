"""Commands for continuous integration: ci, comment and init."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pytest_infergate.cli.exit_codes import ExitCode


@click.command("ci")
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


@click.command("comment")
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
    return ExitCode.DONE if done.usable else ExitCode.USAGE


@click.command("init")
@click.option("--yes", is_flag=True, help="Write without asking.")
def init_command(*, yes: bool) -> None:
    """Set the gate up in a repository: workflows for GitHub and a first test. Overwrites nothing."""
    from pytest_infergate.cli.starter import plan_starter, preview, write_files

    plan = plan_starter(Path.cwd())
    click.echo(preview(plan))
    if plan.files and (yes or click.confirm("Write these files?", default=True)):
        for path in write_files(plan):
            click.echo(f"wrote {path}")
