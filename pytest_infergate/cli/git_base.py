"""What a run in CI compares with: read off the event, and fetched until git knows where the sides meet."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_infergate.errors import ConfigurationError

LATEST_TAG: Final = "latest-tag"
"""In place of a revision: the last tag before what is checked out."""
STEPS: Final = (50, 200, 800)
"""Commits by which a shallow clone is deepened, one step after another, before all of it is fetched."""
EVENT_BYTES: Final = 32 * 10**6
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_REFERENCE = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|^-|^$")
"""What git allows in no name of a branch or tag."""
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_OR_SAY = "say what to compare with: --against=REV, or --against=none for the baseline on record"
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
"""Variables that a git hook sets, and that would lead git away from the folder it is called in."""


class Point(NamedTuple):
    """A place in history that the candidate may be compared with."""

    name: str
    """A branch, a tag, a hash, or whatever else git reads as a revision."""
    branch: bool = False
    """Whether it is a branch of the remote, which may have moved since anything was fetched."""


class BaseRequest(NamedTuple):
    """What an event asks for."""

    event: str = ""
    """How people call it; empty where no event is known."""
    points: tuple[Point, ...] = ()
    """The first one that can be had counts."""
    must: bool = False
    """Whether a run that compares with none of them would be a weaker gate than people think."""


class Base(NamedTuple):
    """Where the sides meet."""

    revision: str
    """For ``--infer-against``."""
    commit: str


def base_request(environment: Mapping[str, str]) -> BaseRequest:
    """Read what to compare with off the variables of GitHub Actions or GitLab CI.

    Raises `ConfigurationError` for an event whose checkout is the base itself.
    """
    if environment.get("GITHUB_EVENT_NAME"):
        return _on_github(environment["GITHUB_EVENT_NAME"], environment)
    if environment.get("GITLAB_CI"):
        return _on_gitlab(environment)
    return BaseRequest()


def _on_github(event: str, environment: Mapping[str, str]) -> BaseRequest:
    payload = _payload(environment.get("GITHUB_EVENT_PATH", ""))
    if event == "pull_request_target":
        raise ConfigurationError(
            "pull_request_target checks out the base and holds its secrets: it would compare the base with "
            "itself, or run a stranger's code with your rights; start this workflow on pull_request"
        )
    if event == "pull_request":
        branch = environment.get("GITHUB_BASE_REF") or _text(payload, "pull_request", "base", "ref")
        points = [Point(branch, branch=True)] if branch else []
        commit = _text(payload, "pull_request", "base", "sha")
    elif event == "merge_group":
        points, commit = [], _text(payload, "merge_group", "base_sha")
    elif event == "push" and not environment.get("GITHUB_REF", "").startswith("refs/tags/"):
        default = _text(payload, "repository", "default_branch")
        return _pushed(_text(payload, "before"), environment.get("GITHUB_REF_NAME", ""), default)
    else:
        return BaseRequest(event)
    if _HASH.fullmatch(commit):
        points.append(Point(commit))
    return BaseRequest(event, tuple(points), must=True)


def _on_gitlab(environment: Mapping[str, str]) -> BaseRequest:
    event = environment.get("CI_PIPELINE_SOURCE", "")
    target = environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
    if target:
        # The base of a merged result is the target's own commit, that of a detached pipeline the fork point.
        names = ("CI_MERGE_REQUEST_TARGET_BRANCH_SHA", "CI_MERGE_REQUEST_DIFF_BASE_SHA")
        hashes = [found for name in names if _HASH.fullmatch(found := environment.get(name, ""))]
        points = (*map(Point, hashes), Point(target, branch=True))
        return BaseRequest("merge request", points, must=True)
    branch = environment.get("CI_COMMIT_BRANCH")
    if event == "push" and branch:
        before = environment.get("CI_COMMIT_BEFORE_SHA", "")
        return _pushed(before, branch, environment.get("CI_DEFAULT_BRANCH", ""))
    return BaseRequest(event)


def _pushed(before: str, branch: str, default: str) -> BaseRequest:
    """A push compares with what the branch was before; a new branch with where it left the default one."""
    new = set(before) == {"0"}
    points = [Point(before)] if _HASH.fullmatch(before) and not new else []
    if default not in ("", branch):
        points.append(Point(default, branch=True))
    return BaseRequest("push", tuple(points), must=bool(points) or not new)


def _payload(path: str) -> Any:
    """The event as GitHub tells it; nothing where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return json.loads(file.read(EVENT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}


def _text(payload: Any, *keys: str) -> str:
    for key in keys:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) else ""


def event_base(asked: BaseRequest, folder: Path, tell: Callable[[str], None]) -> Base | None:
    """Find where HEAD and the first point that can be had meet; history is fetched as far as that needs.

    ``None`` where the event asks for nothing, or pushed nothing new. Raises `ConfigurationError` where there
    is a base that cannot be had: comparing with less would be a green build that nobody checked.
    """
    if not asked.points:
        if asked.must:
            raise ConfigurationError(f"this {asked.event} names no base; {_OR_SAY}")
        return None
    clone = Clone(folder)
    failures, nothing_new = [], False
    for point in asked.points:
        found = _met(clone, point, tell)
        if isinstance(found, Base) and found.commit != clone.head:
            return found
        nothing_new |= isinstance(found, Base)
        failures.append(found if isinstance(found, str) else f"{point.name} has what is checked out already")
    if nothing_new and asked.event == "push":
        return None
    raise ConfigurationError(
        f"what this {asked.event} compares with cannot be had: {'; '.join(failures)}. Fetch the history "
        f"(fetch-depth: 0 of actions/checkout, GIT_DEPTH: 0 in GitLab), or {_OR_SAY}"
    )


def named_base(revision: str, folder: Path, tell: Callable[[str], None]) -> Base:
    """Find where HEAD meets a revision that the user names, or the last tag before it.

    Raises `ConfigurationError` where there is no such revision, here or at the remote.
    """
    clone = Clone(folder)
    found = _met(clone, Point(clone.latest_tag() if revision == LATEST_TAG else revision), tell)
    if isinstance(found, str):
        raise ConfigurationError(f"--against: {found}; fetch it, or name another revision")
    return found


def _met(clone: Clone, point: Point, tell: Callable[[str], None]) -> Base | str:
    """Where HEAD meets a point, or why that is not known."""
    tip = clone.tip(point)
    if tip is None:
        return f"there is no {point.name} here, nor at the remote{clone.last_words}"
    commit = clone.meet(tip)
    for step in (*STEPS, None) if clone.shallow else ():
        if commit is not None and not clone.lacks(commit):
            break
        tell(
            "fetching the rest of the history" if step is None else f"fetching {step} more commits of history"
        )
        clone.deepen(step, point, tip)
        commit = clone.meet(tip)
    if commit is None:
        return f"{point.name} and what is checked out have no common commit{clone.last_words}"
    return Base(clone.called(point, tip), commit)


class Clone:
    """The user's clone and its remote. Fetches commits and tags; branches, index and files stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last_words = ""
        """What git last said as it failed, in brackets."""
        if self.said("rev-parse", "--is-inside-work-tree") != "true":
            raise ConfigurationError(
                f"{folder} is not inside a git clone{self.last_words}: run there, install git before the "
                f"checkout, or {_OR_SAY}"
            )
        head = self.commit("HEAD")
        if head is None:
            raise ConfigurationError("the repository has no commit yet: make one")
        self.head = head
        remotes = (self.said("remote") or "").split()
        self.remote = "origin" if "origin" in remotes or not remotes else remotes[0]

    @property
    def shallow(self) -> bool:
        """Whether history is cut."""
        return self.said("rev-parse", "--is-shallow-repository") == "true"

    def tip(self, point: Point) -> str | None:
        """The commit of a point, fetched where it is not here or may have moved."""
        self.last_words = ""
        if point.branch:
            reference = f"refs/heads/{point.name}"
            return self.fetched(reference) or self.commit(f"refs/remotes/{self.remote}/{point.name}")
        found = self.commit(point.name)
        name = point.name.removeprefix(f"{self.remote}/")
        for reference in [name] if _HASH.fullmatch(name) else [f"refs/tags/{name}", f"refs/heads/{name}"]:
            found = found or self.fetched(reference)
        if found is None and self.shallow:  # HEAD~3 may lie beyond the cut
            self.deepen(None, point, self.head)
            found = self.commit(point.name)
        return found

    def commit(self, revision: str) -> str | None:
        """The hash of a commit that is here."""
        asked = f"{revision}^{{commit}}"
        found = self.said("rev-parse", "--verify", "--quiet", "--end-of-options", asked)
        return found.splitlines()[-1] if found else None

    def fetched(self, reference: str) -> str | None:
        """The commit of a reference or hash of the remote, fetched; for a shallow clone that commit alone."""
        depth = ("--depth=1",) if self.shallow else ()
        if _NO_REFERENCE.search(reference) or not self.fetch(depth, (reference,)):
            return None
        return self.commit("FETCH_HEAD")

    def fetch(self, options: tuple[str, ...], references: tuple[str, ...]) -> bool:
        """Fetch from the remote; whether that worked."""
        quiet = ("--quiet", "--no-tags", "--no-recurse-submodules")
        return self.said("fetch", *quiet, *options, self.remote, *references) is not None

    def meet(self, tip: str) -> str | None:
        """The merge base of a commit and HEAD."""
        return self.said("merge-base", tip, self.head)

    def lacks(self, commit: str) -> bool:
        """Whether something between a commit and HEAD is cut off, so that they may meet later yet."""
        place = self.said("rev-parse", "--git-path", "shallow")
        try:
            edges = frozenset(Path(self.folder, place or "shallow").read_text().split())
        except OSError:
            return False
        return not edges.isdisjoint((self.said("rev-list", f"{commit}..{self.head}") or "").split())

    def deepen(self, step: int | None, point: Point, tip: str) -> None:
        """Fetch so many more commits behind HEAD and a tip; ``None`` fetches all there are."""
        depth = "--unshallow" if step is None else f"--deepen={step}"
        other = f"refs/heads/{point.name}" if point.branch else tip
        # A commit that was made here is not at the remote, which then refuses all that it is asked for.
        for references in ((self.head, other), (self.head,), (other,), ()):
            if self.fetch((depth,), references):
                return

    def latest_tag(self) -> str:
        """The last tag behind HEAD, not counting tags of HEAD itself. Raises `ConfigurationError`."""
        describe = ("describe", "--tags", "--abbrev=0", "HEAD~1")
        found = self.said(*describe)
        if found is None:
            if self.shallow:
                self.deepen(None, Point(self.head), self.head)
            self.said("fetch", "--quiet", "--tags", self.remote)
            found = self.said(*describe)
        if found is None:
            raise ConfigurationError(
                f"--against={LATEST_TAG}: there is no tag before what is checked out{self.last_words}; "
                "make one, or name a revision"
            )
        return found

    def called(self, point: Point, tip: str) -> str:
        """A name that git reads as the tip, one for people where there is one."""
        name = f"{self.remote}/{point.name}" if point.branch else point.name
        return name if self.commit(name) == tip else tip

    def said(self, *arguments: str) -> str | None:
        """What git says; ``None`` where it fails. Raises `ConfigurationError` where there is no git."""
        done = _git(self.folder, *arguments)
        if done.returncode == 0:
            return os.fsdecode(done.stdout).strip("\n")
        lines = os.fsdecode(done.stderr).strip().splitlines()
        if lines:
            self.last_words = f" (git: {without_credentials(lines[-1])})"
        return None


def without_credentials(text: str) -> str:
    """What git said, without user and password of an address."""
    return _CREDENTIALS.sub("", text)


def repository_top(folder: Path) -> Path | None:
    """The top folder of the repository that holds a folder; ``None`` outside of one, or without git."""
    try:
        done = _git(folder, "rev-parse", "--show-toplevel")
    except ConfigurationError:
        return None
    return Path(os.fsdecode(done.stdout).strip("\n")) if done.returncode == 0 else None


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git, which asks nobody for a password. Raises `ConfigurationError` where there is none."""
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607 - the git on the path
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment,
        )
    except OSError as error:
        text = f"git cannot be run: {error.strerror or error}; install git, or {_OR_SAY}"
        raise ConfigurationError(text) from error
