"""Commands for continuous integration: ci, comment and init."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pytest_infergate.cli.command_line import PytestCommand
from pytest_infergate.cli.console import echo
from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.exit_codes import ExitCode


@click.command(
    "ci",
    cls=PytestCommand,
    epilog=examples(
        "infergate ci --devices=cpu -- tests",
        "infergate ci --counters-only -- tests",
        "infergate ci --against=latest-tag --report=report.html -- tests -k embedder",
    ),
)
@click.option(
    "--against",
    default="",
    metavar="REV",
    help="Revision to compare with call by call: auto for the base of the event, or outside CI the merge "
    "base with the default branch (default), none for the stored baseline, latest-tag for the last tag.",
)
@click.option("--devices", default="", metavar="NAMES", help="Passed to pytest as --infer-devices.")
@click.option("--baseline", default="", metavar="FOLDER", help="Passed to pytest as --infer-baseline.")
@click.option(
    "--save",
    is_flag=True,
    help="Record this session in the baseline; compares with no revision unless --against is given.",
)
@click.option(
    "--counters-only",
    is_flag=True,
    help="Compare exact counters and outputs, and no times: a second or two per case.",
)
@click.option("--report", default="", metavar="FILE", help="HTML report to write.")
@click.option("--json", default="results.json", show_default=True, metavar="FILE", help="Results to write.")
@click.option(
    "--markdown",
    default="",
    metavar="FILE",
    help="Markdown summary to write, in addition to that of the CI service.",
)
@click.option("--arguments", default="", help="Arguments for pytest as a single text, split like in a shell.")
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[-- PYTEST ARGUMENTS]")
def ci_command(**options: Any) -> int:
    """Run the gate in CI or locally, and publish the outcome.

    Finds the base of the event or of the branch, fetches missing history, and runs pytest. The exit code is
    that of pytest.
    """
    from pytest_infergate.cli.ci import GateRequest, run_gate

    return run_gate(GateRequest(**options), os.environ, Path.cwd(), click.echo)


@click.command(
    "comment",
    epilog=examples(
        'infergate comment results.json --repo="$GITHUB_REPOSITORY" --run-id="$RUN"',
        "infergate comment cpu.json gpu.json --repo=owner/name --run-id=1234567890",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Repository of the pull request.")
@click.option(
    "--run-id", required=True, type=click.IntRange(min=1), help="Id of the workflow run that measured."
)
@click.option("--author", default="github-actions[bot]", show_default=True, help="Login of the token.")
def comment_command(files: tuple[Path, ...], repo: str, run_id: int, author: str) -> int:
    """Comment on the pull request of a workflow run.

    Writes the results as a single comment, which later runs update. The token is read from GITHUB_TOKEN.
    """
    from pytest_infergate.cli.github_comment import api_of, publish

    published = publish(files, run_id, api_of(repo, os.environ), author=author)
    echo(published.text)
    return ExitCode.DONE if published.usable else ExitCode.USAGE


@click.command(
    "init",
    epilog=examples(
        "infergate init",
        "infergate init --counters-only --yes",
        "infergate init --install='pytest-infergate @ git+https://HOST/OWNER/pytest-infergate@COMMIT'",
    ),
)
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option(
    "--counters-only",
    is_flag=True,
    help="Set up the gate without a clock, which is the easiest to begin with.",
)
@click.option(
    "--install",
    default="",
    metavar="REQUIREMENT",
    help="What the workflows install as infergate, for pip. [default: the requirement of the repository, or "
    "the package or git commit from which this infergate was installed]",
)
def init_command(*, yes: bool, counters_only: bool, install: str) -> None:
    """Set up the gate in a repository.

    Writes workflows for GitHub, and a first test if there is no inference test. Existing files are not
    changed.
    """
    from pytest_infergate.cli.init_command import plan_starter, preview, write_files

    plan = plan_starter(Path.cwd(), counters_only=counters_only, install=install)
    echo(preview(plan))
    # The preview comes first, so that the user knows what the question is about.
    if plan.files and (yes or click.confirm("Write these files?", default=True)):
        for path in write_files(plan):
            echo(f"wrote {path}")
