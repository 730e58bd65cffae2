"""The ``ci`` command: run the gate, and publish its outcome to the CI service if there is one."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pytest_infergate.cli import git_base
from pytest_infergate.cli.exit_codes import ExitCode
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import Session
from pytest_infergate.core.domain.pytest_endings import pytest_ending
from pytest_infergate.errors import ConfigurationError, InfergateError, StorageError
from pytest_infergate.git import repository_top
from pytest_infergate.report import github, results_json
from pytest_infergate.report.sanitize import plain

# GitHub rejects the whole summary of a step that is larger.
SUMMARY_LIMIT: Final = 2**20
"""Bytes that GitHub accepts for the summary of a step, including those of other programs."""
MIN_SUMMARY: Final = 8_192
"""Minimum number of free bytes; with fewer, no summary is written."""
_RESERVED: Final = {
    "--infer-json": "--json",
    "--infer-report": "--report",
    "--infer-markdown": "--markdown",
    "--infer-against": "--against",
}
"""Options of pytest that this command sets, with the option of this command that replaces them."""

Echo = Callable[[str], None]
"""Function that prints a line."""


class GateRequest(NamedTuple):
    """The options of the command; empty if not given."""

    devices: str = ""
    against: str = ""
    """A revision, ``none`` for the stored baseline; ``auto`` or empty for the base of the event or branch."""
    baseline: str = ""
    report: str = ""
    json: str = "results.json"
    markdown: str = ""
    save: bool = False
    counters_only: bool = False
    """Whether counters are compared and no times."""
    arguments: str = ""
    """Arguments for pytest, as a single text that is split like in a shell."""
    rest: tuple[str, ...] = ()
    """Arguments for pytest."""


class GateRun(NamedTuple):
    """The outcome of a run."""

    code: int
    session: Session | None = None
    lead: str = ""
    """A problem of the run that is not one of a case; empty without a problem."""

    @property
    def verdict(self) -> str:
        """``passed``, ``failed``, ``none`` if nothing was measured, or ``error`` if there are no results."""
        if self.session is None:
            return "error"
        if self.code:
            return "failed"
        return "passed" if self.session.gate.verdicts else "none"


def run_gate(request: GateRequest, environment: Mapping[str, str], folder: Path, echo: Echo) -> int:
    """Run pytest in a folder, publish the outcome to the CI service, and return the exit code.

    The code is that of pytest, or 1 if pytest returned 0 without results that passed. Raises `InfergateError`
    if nothing could be run, after this was published.
    """
    try:
        arguments = _arguments(request)
        command = [*_command(request, _against(request, environment, folder, echo)), *arguments]
        results_file = folder / request.json
        before = _signature(results_file)
        outcome = _outcome(launched(command, folder), results_file, before)
    except InfergateError as error:
        _publish(GateRun(ExitCode.USAGE, lead=str(error)), environment, folder, (), echo)
        raise
    _publish(outcome, environment, folder, arguments, echo)
    if outcome.lead:
        echo(f"infergate: {plain(outcome.lead)}")
    return outcome.code


def _arguments(request: GateRequest) -> list[str]:
    """Return the arguments for pytest. Raises `ConfigurationError` for options that this command sets."""
    try:
        arguments = [*shlex.split(request.arguments), *request.rest]
    except ValueError as error:
        raise ConfigurationError(
            f"--arguments cannot be split: {str(error)[:1].lower()}{str(error)[1:]} in {request.arguments!r}"
        ) from None
    # pytest uses the last value of an option, so this command would not find the files that it asked for.
    for argument in arguments:
        name = argument.partition("=")[0]
        if name in _RESERVED:
            raise ConfigurationError(f"{name} is set by this command. Hint: use {_RESERVED[name]} instead")
    return arguments


def _against(request: GateRequest, environment: Mapping[str, str], folder: Path, echo: Echo) -> str | None:
    """Return the revision to compare with, and fetch its history; ``None`` for the stored baseline."""

    def note(text: str) -> None:
        echo(f"infergate: {plain(text)}")

    if request.against == "none" or (request.save and not request.against):
        note("comparing with the stored baseline")
        return None
    if request.against in ("", "auto"):
        asked = git_base.base_request(environment)
        base = git_base.event_base(asked, folder, note) if asked.event else git_base.local_base(folder, note)
        if base is None:
            source = f"this {asked.event} has" if asked.event else "there is"
            note(f"{source} no base to compare with: comparing with the stored baseline")
            return None
    else:
        base = git_base.named_base(request.against, folder, note)
    place = f"merge base {base.commit[:7]}"
    note(f"comparing with {place if base.revision == base.commit else f'{base.revision} ({place})'}")
    return base.revision


def _command(request: GateRequest, against: str | None) -> list[str]:
    given = {
        "devices": request.devices,
        "baseline": request.baseline,
        "report": request.report,
        "json": request.json,
        "markdown": request.markdown,
        "against": against,
    }
    options = [f"--infer-{name}={value}" for name, value in given.items() if value]
    options += ["--infer-save"] if request.save else []
    options += ["--infer-counters-only"] if request.counters_only else []
    return [sys.executable, "-m", "pytest", *options]


def launched(command: Sequence[str], folder: Path) -> int:
    """Run a command without capturing its output, and return its exit code as a shell would."""
    # A process ended by a signal has a negative code here, and 128 plus the signal in a shell.
    code = subprocess.run(command, cwd=folder, check=False).returncode  # noqa: S603 - pytest, and the user's arguments
    return code if code >= 0 else 128 - code


def _signature(path: Path) -> tuple[int, int] | None:
    """Return a value that changes if a file is replaced; ``None`` without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _outcome(code: int, path: Path, before: tuple[int, int] | None) -> GateRun:
    """Combine the exit code of pytest with the results that pytest wrote."""
    ending = pytest_ending(code)
    # Results of an earlier run, which remain if this run failed, must not count as those of this run.
    if _signature(path) in (None, before):
        return GateRun(code or 1, lead=f"{ending} and wrote no results to {path.name}")
    try:
        session = results_json.parse_results(path.read_bytes(), path.name)
    except (OSError, StorageError) as error:
        return GateRun(code or 1, lead=f"{ending}, and its results cannot be read: {error}")
    if code and session.gate.passed:
        return GateRun(code, session, f"{ending}, for another reason than an inference case")
    # Another plugin may reset the exit status, but a failed gate must fail the job.
    if not code and not session.gate.passed:
        return GateRun(1, session, f"{ending} although the gate failed")
    return GateRun(code, session)


def _publish(
    outcome: GateRun, environment: Mapping[str, str], folder: Path, arguments: Sequence[str], echo: Echo
) -> None:
    """Write annotations, summary and outputs for the CI service; a failure to write them is a warning."""
    on_github = environment.get("GITHUB_ACTIONS") == "true"
    problems = [
        *_summarised(outcome, environment),
        *_output(outcome, environment.get("GITHUB_OUTPUT", "")),
    ]
    # A job without inference tests passes, but its author may have expected some.
    if outcome.verdict == "none":
        problems.append("no inference test was selected, so nothing was measured")
    if on_github:
        for line in _commands(outcome, folder, arguments):
            echo(line)
    for problem in problems:
        warning = github.command("warning", problem, title="infergate")
        echo(warning if on_github else f"infergate: warning: {plain(problem)}")


def _commands(outcome: GateRun, folder: Path, arguments: Sequence[str]) -> Iterator[str]:
    if outcome.lead:
        yield github.command("error", outcome.lead, title="infergate")
    if outcome.session is not None:
        annotations = github.annotate(outcome.session, source_lines(outcome.session, folder, arguments))
        yield from filter(None, [annotations])


def _summarised(outcome: GateRun, environment: Mapping[str, str]) -> Iterator[str]:
    """Append to the job summary; yield a message if that fails."""
    path = environment.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        return
    room = SUMMARY_LIMIT - _size(path)
    if room < MIN_SUMMARY:
        yield f"the job summary already has {units.bytes_(_size(path))}: there is no room for more"
        return
    address = artifacts_address(environment)
    if outcome.session is None:
        page = github.without_results(outcome.lead, artifact_url=address)
    else:
        limit = min(room, github.SUMMARY_BYTES)
        page = github.markdown_summary(outcome.session, artifact_url=address, lead=outcome.lead, limit=limit)
    yield from _appended(path, page, "the job summary")


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _output(outcome: GateRun, path: str) -> Iterator[str]:
    """Set the outputs of the step; yield a message if that fails."""
    if not path:
        return
    session = outcome.session
    counts: tuple[object, ...] = ("", "", "")
    if session is not None:
        verdicts = session.gate.verdicts
        counts = (sum(verdict.failed for verdict in verdicts), session.gate.decided, len(verdicts))
    failed, decided, cases = counts
    text = f"verdict={outcome.verdict}\nfailed={failed}\ndecided={decided}\ncases={cases}\n"
    yield from _appended(path, text, "the outputs of the step")


def _appended(path: str, text: str, what: str) -> Iterator[str]:
    try:
        with Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        yield f"{what} cannot be written: {error.strerror or error}"


def artifacts_address(environment: Mapping[str, str]) -> str:
    """Return the address of the artifacts of this run; empty outside of a CI service."""
    # GitHub Enterprise has an address of its own.
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (environment.get(name, "") for name in names)
    if server and repository and run:
        return f"{server}/{repository}/actions/runs/{run}#artifacts"
    job = environment.get("CI_JOB_URL", "")
    return f"{job}/artifacts/browse" if job else ""


def source_lines(
    session: Session, folder: Path, arguments: Sequence[str] = ()
) -> dict[str, tuple[str, int | None]]:
    """Return file and line of each case by node id, relative to the repository; unknown files are left out.

    Node ids are relative to the rootdir of pytest, which is above an argument of the run or above the folder.
    """
    here = folder.resolve()
    root = (repository_top(here) or here).resolve()
    # Only existing files among the arguments are paths: the others are values of options.
    given = [here / argument.partition("::")[0] for argument in arguments if not argument.startswith("-")]
    starts = [*(path.resolve() for path in given if path.exists()), here]
    folders = dict.fromkeys(above for start in starts for above in (start, *start.parents))
    inside = [above for above in folders if above == root or root in above.parents]
    lines = {}
    for result in session.cases:
        files = ((above / result.case.module).resolve() for above in inside)
        file = next((path for path in files if path.is_file() and root in path.parents), None)
        if file is not None:
            lines[result.nodeid] = (file.relative_to(root).as_posix(), result.line)
    return lines
