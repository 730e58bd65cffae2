"""Publish results of a workflow run as a single comment on its pull request.

The run may be that of a fork, so its artifact is untrusted: it is read within limits, and does not influence
where the comment is written. Run, commit and pull request are read from the API of the service.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from pytest_infergate.core.domain.outcome import Session
from pytest_infergate.core.gate.merge import flat_session, merge_sessions
from pytest_infergate.errors import ConfigurationError, InfergateError, StorageError
from pytest_infergate.report import github, results_json
from pytest_infergate.report.sanitize import plain

_T = TypeVar("_T")

BOT: Final = "github-actions[bot]"
"""Login of the token that a workflow has."""
MAX_ARTIFACT: Final = 32 * 10**6
"""Maximum number of bytes of results; five thousand cases have about 15 MB."""
MAX_RESPONSE: Final = 16 * 10**6
"""Maximum number of bytes of a response of the API that are read."""
TIMEOUT_SECONDS: Final = 30
PAGE: Final = 100
PAGES: Final = 50
"""Maximum number of pages of comments that are searched."""
# A run that was replaced by a newer one must not overwrite its comment.
_QUIET = ("cancelled", "skipped", "stale")
"""Conclusions of a run that do not depend on the change."""
_GRANT = "grant the job the permissions `actions: read` and `pull-requests: write`"


class ApiError(InfergateError):
    """The API of the service refused a request, or could not be reached."""


class Login(msgspec.Struct):
    """Login of an owner or author."""

    login: str


class Repository(msgspec.Struct):
    """Repository of a branch."""

    full_name: str
    owner: Login


class Number(msgspec.Struct):
    """A reference of a run to a pull request."""

    number: int


class WorkflowRun(msgspec.Struct):
    """A run of the workflow that measured."""

    id: int
    event: str
    head_sha: str
    html_url: str
    run_attempt: int = 1
    conclusion: str | None = None
    head_branch: str | None = None
    head_repository: Repository | None = None
    """``None`` if the fork was deleted."""
    pull_requests: list[Number] = []
    """Empty for a fork."""


class Head(msgspec.Struct):
    """Newest commit of a pull request."""

    sha: str


class Pull(msgspec.Struct):
    """An open pull request."""

    number: int
    head: Head


class Comment(msgspec.Struct):
    """A comment on a pull request."""

    id: int
    body: str | None = None
    user: Login | None = None


class PublishedComment(NamedTuple):
    """The outcome of publishing."""

    text: str
    usable: bool = True
    """``False`` if there were results that could not be read."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Handler without redirects, which would send the token to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse every redirect."""


class Api:
    """The REST API of one repository. The token is sent to its address only and never printed."""

    def __init__(self, address: str, repository: str, token: str) -> None:
        if not token:
            raise ConfigurationError(
                "GITHUB_TOKEN must be set. Hint: in a workflow, write env: GITHUB_TOKEN: ${{ github.token }}"
                f", and {_GRANT}"
            )
        if urlsplit(address).scheme not in ("http", "https"):
            raise ConfigurationError(f"GITHUB_API_URL must be an http or https address, got {address!r}")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
            raise ConfigurationError(f"--repo must be OWNER/NAME, got {repository!r}")
        self._base = f"{address.rstrip('/')}/repos/{repository}"
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def read(self, path: str, kind: type[_T]) -> _T:
        """Get a value. Raises `ApiError`."""
        try:
            return msgspec.json.decode(self._sent("GET", path, None), type=kind)
        except msgspec.DecodeError as error:
            raise ApiError(f"the API returned an invalid response to {path}: {error}") from None

    def write(self, method: str, path: str, body: str | None = None) -> None:
        """Send a request that changes a comment, with the body of the comment if given. Raises `ApiError`."""
        self._sent(method, path, None if body is None else json.dumps({"body": body}).encode())

    def _sent(self, method: str, path: str, data: bytes | None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._base + path,
            data=data,
            method=method,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
                "User-Agent": "infergate",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                content: bytes = response.read(MAX_RESPONSE)
        except urllib.error.HTTPError as error:
            raise ApiError(_refusal(method, error)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ApiError(f"the API cannot be reached: {plain(str(reason))}") from None
        return content


def _refusal(method: str, error: urllib.error.HTTPError) -> str:
    """Explain an HTTP error, with the message of the service and a hint."""
    try:
        message = msgspec.json.decode(error.read(MAX_RESPONSE), type=dict[str, Any]).get("message", "")
    except (OSError, msgspec.DecodeError, http.client.HTTPException):
        message = ""
    text = f" ({plain(str(message))[:200]})" if message else ""
    if error.code == http.HTTPStatus.UNAUTHORIZED:
        return f"the API rejected the token{text}. Hint: set GITHUB_TOKEN to the token of this workflow"
    # GitHub answers 404 for what a token must not see.
    if error.code in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND):
        what = "read" if method == "GET" else "write"
        hint = f"{_GRANT}; for a fork, in a workflow on workflow_run"
        return f"the token has no permission to {what}{text}. Hint: {hint}"
    if 300 <= error.code < 400:  # noqa: PLR2004 - redirects
        return (
            "the API redirects to another address, where the token is not sent. Hint: use the current name "
            "of the repository"
        )
    return f"the API returned status {error.code}{text}. Hint: try again"


def publish(files: Sequence[Path], run_id: int, api: Api, *, author: str = BOT) -> PublishedComment:
    """Write or update the comment on the pull request of a run.

    There is no comment for runs of other events, for cancelled runs, and if the pull request has newer
    commits. A comment of a newer run is not changed. Raises `ApiError` if the API refuses a request or cannot
    be reached.
    """
    run = api.read(f"/actions/runs/{run_id}", WorkflowRun)
    # A workflow on workflow_run also starts after runs of other events.
    if run.event != "pull_request":
        return PublishedComment(
            f"run {run_id} was started by {plain(run.event)}, not by a pull request, so no comment is written"
        )
    if run.conclusion in _QUIET:
        return PublishedComment(f"run {run_id} was {run.conclusion}, so no comment is written")
    number = _pull_request(api, run)
    if isinstance(number, str):
        return PublishedComment(f"{number}, so no comment is written")
    body, problem = _body(files, run)
    action = _settled(api, number, (run.id, run.run_attempt), body, author)
    # A run that failed before it measured has no files, which is not an error of this command.
    present = any(path.exists() for path in files)
    return PublishedComment(f"{action}; {problem}" if problem else action, usable=not (problem and present))


def _pull_request(api: Api, run: WorkflowRun) -> int | str:
    """Return the number of the open pull request whose head was measured, or the reason why there is none."""
    if run.head_repository is None or not run.head_branch:
        return "the repository or branch of the run was deleted"
    # The API leaves `pull_requests` of a run empty for a fork: the branch identifies the pull request.
    head = quote(f"{run.head_repository.owner.login}:{run.head_branch}", safe="")
    pulls = api.read(f"/pulls?state=open&head={head}&per_page={PAGE}", list[Pull])
    numbers = {pull.number for pull in run.pull_requests}
    matching = [pull for pull in pulls if not numbers or pull.number in numbers]
    if not matching:
        return f"there is no open pull request for branch {plain(run.head_branch)}"
    # Results of an earlier commit describe code that is no longer under review.
    current = [pull.number for pull in matching if pull.head.sha == run.head_sha]
    if not current:
        return f"the pull request has newer commits than {run.head_sha[:7]}"
    if len(current) > 1:
        listed = ", ".join(f"#{number}" for number in sorted(current))
        return f"{listed} have the same head, and the run does not name one of them"
    return current[0]


def _body(files: Sequence[Path], run: WorkflowRun) -> tuple[str, str]:
    """Return the comment, and why the artifact could not be used; empty if it could."""
    order = (run.id, run.run_attempt)
    conclusion = run.conclusion or "no conclusion yet"
    try:
        session = merged_results(files)
    except StorageError as error:
        reason = f"the run ended with {conclusion} and has no usable results"
        return github.without_results(reason, artifact_url=run.html_url, order=order), plain(str(error))
    lead = ""
    if run.conclusion != "success" and session.gate.passed:
        lead = f"The run ended with {conclusion}, although its results passed"
    return github.comment(session, order, artifact_url=run.html_url, lead=lead), ""


def merged_results(files: Iterable[Path]) -> Session:
    """Read untrusted results. Raises `StorageError` without any of their content."""
    named = []
    # The limit applies to all files together: an artifact may have any number of them.
    room = MAX_ARTIFACT
    for path in files:
        content = _content(path, room)
        room -= len(content)
        named += [(path.name, session) for session in results_json.parse_all(content, path.name)]
    if not named:
        raise StorageError("there are no results files")
    try:
        return flat_session(merge_sessions(named))
    except (ValueError, RecursionError):
        raise StorageError(
            "the results files cannot be merged. Hint: run infergate merge on them, which gives the reason"
        ) from None


def _content(path: Path, room: int) -> bytes:
    # A link in an artifact could point to any file of the runner.
    if path.is_symlink() or not path.is_file():
        raise StorageError(
            f"{path.name}: the artifact does not contain this file. Hint: check the upload step"
        )
    try:
        with path.open("rb") as file:
            content = file.read(room + 1)
    except OSError as error:
        raise StorageError(f"{path.name}: {error.strerror or error}") from None
    if len(content) > room:
        raise StorageError(
            f"{path.name}: results must have at most {MAX_ARTIFACT / 1e6:.0f} MB in total. "
            "Hint: measure fewer cases"
        )
    return content


def _settled(api: Api, number: int, order: tuple[int, int], body: str, author: str) -> str:
    """Keep a single comment, that of the newest run, on the pull request; return a description."""
    # Two runs may comment at the same time: each posts first, then removes all but the newest comment.
    ours = _ours(api, number, author)
    posted = not ours
    if posted:
        api.write("POST", f"/issues/{number}/comments", body)
        ours = _ours(api, number, author)
    if not ours:
        return f"commented on #{number}"
    if max(found for found, _ in ours) > order:
        mine = [comment for found, comment in ours if posted and found == order]
        _delete(api, mine)
        return f"#{number} has a comment of a newer run, which is not changed"
    found, first = ours[0]
    _delete(api, [comment for _, comment in ours[1:]])
    if not posted or found != order:
        api.write("PATCH", f"/issues/comments/{first.id}", body)
    return f"{'commented on' if posted else 'updated the comment on'} #{number}"


def _ours(api: Api, number: int, author: str) -> list[tuple[tuple[int, int], Comment]]:
    """Return comments of `author` with the marker, which others may copy; oldest first, each with its run."""
    comments: list[Comment] = []
    for page in range(1, PAGES + 1):
        found = api.read(f"/issues/{number}/comments?per_page={PAGE}&page={page}", list[Comment])
        comments += found
        if len(found) < PAGE:
            break
    return [
        (order, comment)
        for comment in sorted(comments, key=lambda comment: comment.id)
        if comment.user is not None
        and comment.user.login == author
        and (order := github.order_of(comment.body or "")) is not None
    ]


def _delete(api: Api, comments: Iterable[Comment]) -> None:
    for comment in comments:
        api.write("DELETE", f"/issues/comments/{comment.id}")


def api_of(repository: str, environment: Mapping[str, str]) -> Api:
    """Return the API that the variables of a workflow name. Raises `ConfigurationError` without a token."""
    # GitHub Enterprise has an address of its own.
    address = environment.get("GITHUB_API_URL") or "https://api.github.com"
    return Api(address, repository, environment.get("GITHUB_TOKEN", ""))
