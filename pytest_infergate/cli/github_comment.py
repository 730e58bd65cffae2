"""Results of a run, which may come from a fork, become one comment at its pull request.

The content of the artifact is untrusted: it is read within limits, and does not influence where the comment
goes. Run, commit and pull request come from the API of the service.
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
from pytest_infergate.report import github, results
from pytest_infergate.report.sanitize import plain

_T = TypeVar("_T")

BOT: Final = "github-actions[bot]"
"""Login of the token that a workflow has."""
LARGEST_ARTIFACT: Final = 32 * 10**6
"""Bytes of results that are read; five thousand cases have about 15 MB."""
LARGEST_ANSWER: Final = 16 * 10**6
SECONDS: Final = 30
"""Until an answer of the API counts as missing."""
PAGE: Final = 100
PAGES: Final = 50
"""Pages of comments that are looked through."""
_QUIET = ("cancelled", "skipped", "stale")
"""Ends of a run that say nothing of the change."""
_GRANT = "give the job permissions: `actions: read` and `pull-requests: write`"


class ApiError(InfergateError):
    """The service's API refused, or could not be reached."""


class Login(msgspec.Struct):
    """Login of an owner or author."""

    login: str


class Repository(msgspec.Struct):
    """Repository of a branch."""

    full_name: str
    owner: Login


class Number(msgspec.Struct):
    """A pull request as a run names it."""

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
    """``None`` where the fork is gone."""
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
    """A comment at a pull request."""

    id: int
    body: str | None = None
    user: Login | None = None


class PublishedComment(NamedTuple):
    """What was done."""

    text: str
    usable: bool = True
    """Whether results that were there could be read."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Handler without redirects, which would send the token to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse every redirect."""


class Api:
    """The REST API of one repository. The token is sent to its address only and never printed."""

    def __init__(self, address: str, repository: str, token: str) -> None:
        if not token:
            raise ConfigurationError(
                "there is no token: set GITHUB_TOKEN (in a workflow env: GITHUB_TOKEN: ${{ github.token }}), "
                f"and {_GRANT}"
            )
        if urlsplit(address).scheme not in ("http", "https"):
            raise ConfigurationError(f"GITHUB_API_URL: {address!r} is no address of the web")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
            raise ConfigurationError(f"--repo: {repository!r} is not such as owner/name")
        self._base = f"{address.rstrip('/')}/repos/{repository}"
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def read(self, path: str, kind: type[_T]) -> _T:
        """Get a value. Raises `ApiError`."""
        try:
            return msgspec.json.decode(self._sent("GET", path, None), type=kind)
        except msgspec.DecodeError as error:
            raise ApiError(f"the API answered {path} with what cannot be read: {error}") from None

    def write(self, method: str, path: str, body: str | None = None) -> None:
        """Send a comment's body, or delete it. Raises `ApiError`."""
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
            with self._opener.open(request, timeout=SECONDS) as answer:
                content: bytes = answer.read(LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            raise ApiError(_refusal(method, error)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ApiError(f"the API cannot be reached: {plain(str(reason))}") from None
        return content


def _refusal(method: str, error: urllib.error.HTTPError) -> str:
    """What a status means here, with the message of the service."""
    try:
        said = msgspec.json.decode(error.read(LARGEST_ANSWER), type=dict[str, Any]).get("message", "")
    except (OSError, msgspec.DecodeError, http.client.HTTPException):
        said = ""
    words = f" ({plain(str(said))[:200]})" if said else ""
    if error.code == http.HTTPStatus.UNAUTHORIZED:
        return f"the API does not know the token{words}: set GITHUB_TOKEN to the one of this workflow"
    if error.code in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND):
        what = "read" if method == "GET" else "write"
        return f"the token may not {what} this{words}: {_GRANT}; for a fork, in a workflow on workflow_run"
    if 300 <= error.code < 400:  # noqa: PLR2004 - redirects
        return (
            "the API has moved, and a redirect is not followed with a token: name the repository as it is now"
        )
    return f"the API answered {error.code}{words}; try again"


def publish(files: Sequence[Path], run_id: int, api: Api, *, author: str = BOT) -> PublishedComment:
    """Write or renew the one comment at the pull request of a run.

    Left alone are runs of other events, runs that were cancelled, pull requests that have moved on, and what
    a newer run has written. Raises `ApiError` where the token may not, or nothing can be reached.
    """
    run = api.read(f"/actions/runs/{run_id}", WorkflowRun)
    if run.event != "pull_request":
        return PublishedComment(
            f"run {run_id} was started by {plain(run.event)}, not by a pull request: nothing to comment"
        )
    if run.conclusion in _QUIET:
        return PublishedComment(f"run {run_id} was {run.conclusion}: nothing to comment")
    number = _pull_request(api, run)
    if isinstance(number, str):
        return PublishedComment(f"{number}: nothing to comment")
    body, problem = _body(files, run)
    done = _settled(api, number, (run.id, run.run_attempt), body, author)
    # A run that failed before it measured leaves no files, which is not the fault of the results.
    left = any(path.exists() for path in files)
    return PublishedComment(f"{done}; {problem}" if problem else done, usable=not (problem and left))


def _pull_request(api: Api, run: WorkflowRun) -> int | str:
    """The number of the open pull request whose head this run is of, or why there is none."""
    if run.head_repository is None or not run.head_branch:
        return "the repository or branch of the run is gone"
    # The API leaves `pull_requests` of a run empty for a fork: the branch identifies the pull request.
    head = quote(f"{run.head_repository.owner.login}:{run.head_branch}", safe="")
    pulls = api.read(f"/pulls?state=open&head={head}&per_page={PAGE}", list[Pull])
    named = {pull.number for pull in run.pull_requests}
    ours = [pull for pull in pulls if not named or pull.number in named]
    if not ours:
        return f"there is no open pull request of {plain(run.head_branch)}"
    # Results of an earlier commit would describe code that is not under review any more.
    current = [pull.number for pull in ours if pull.head.sha == run.head_sha]
    if not current:
        return f"the pull request has moved on from {run.head_sha[:7]}"
    if len(current) > 1:
        listed = ", ".join(f"#{number}" for number in sorted(current))
        return f"{listed} have the same head, and the run does not say which of them it is of"
    return current[0]


def _body(files: Sequence[Path], run: WorkflowRun) -> tuple[str, str]:
    """The comment, and why the artifact could not be used."""
    order = (run.id, run.run_attempt)
    ended = run.conclusion or "no conclusion yet"
    try:
        session = merged_results(files)
    except StorageError as error:
        reason = f"the run ended with {ended}, and left no results that can be used"
        return github.without_results(reason, artifact_url=run.html_url, order=order), plain(str(error))
    lead = ""
    if run.conclusion != "success" and session.gate.passed:
        lead = f"The run ended with {ended}, whatever its results say"
    return github.comment(session, order, artifact_url=run.html_url, lead=lead), ""


def merged_results(files: Iterable[Path]) -> Session:
    """Read untrusted results. Raises `StorageError`, which repeats nothing of their content."""
    named = []
    room = LARGEST_ARTIFACT
    for path in files:
        content = _content(path, room)
        room -= len(content)
        named += [(path.name, session) for session in results.parse_all(content, path.name)]
    if not named:
        raise StorageError("there are no results files")
    try:
        return flat_session(merge_sessions(named))
    except (ValueError, RecursionError) as error:
        raise StorageError(f"the results cannot be put together: {error}") from None


def _content(path: Path, room: int) -> bytes:
    # A link in an artifact could name any file of the runner.
    if path.is_symlink() or not path.is_file():
        raise StorageError(f"{path.name}: there is no such file in the artifact")
    try:
        with path.open("rb") as file:
            content = file.read(room + 1)
    except OSError as error:
        raise StorageError(f"{path.name}: {error.strerror or error}") from None
    if len(content) > room:
        raise StorageError(
            f"{path.name}: larger than {LARGEST_ARTIFACT / 1e6:.0f} MB, which no honest run writes"
        )
    return content


def _settled(api: Api, number: int, order: tuple[int, int], body: str, author: str) -> str:
    """Leave one comment at the pull request, that of the newest run; return what was done."""
    # Two runs may comment at the same time: each posts first, and then removes what is not the newest.
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
        return f"a newer run has commented on #{number}: left alone"
    found, first = ours[0]
    _delete(api, [comment for _, comment in ours[1:]])
    if not posted or found != order:
        api.write("PATCH", f"/issues/comments/{first.id}", body)
    return f"{'commented on' if posted else 'renewed the comment on'} #{number}"


def _ours(api: Api, number: int, author: str) -> list[tuple[tuple[int, int], Comment]]:
    """Comments with the marker, oldest first, each with its run; not those of others, who may copy it."""
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
    """The API that a workflow's variables name. Raises `ConfigurationError` without a token."""
    address = environment.get("GITHUB_API_URL") or "https://api.github.com"
    return Api(address, repository, environment.get("GITHUB_TOKEN", ""))
