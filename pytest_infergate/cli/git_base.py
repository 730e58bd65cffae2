"""Find the base of a run in CI from its event, and fetch the history up to the merge base."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.git import repository_top, run_git

LATEST_TAG: Final = "latest-tag"
"""Value of ``--against`` for the last tag before HEAD."""
# Each fetch costs a round trip, and the whole history of a large repository costs minutes.
STEPS: Final = (50, 200, 800)
"""Numbers of commits by which a shallow clone is deepened, one after another, before all of it is fetched."""
EVENT_BYTES: Final = 32 * 10**6
"""Bytes of an event file that are read; GitHub's events are at most 25 MB."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_INVALID_REFERENCE = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|^-|^$")
"""What git does not allow in the name of a branch or tag."""
_NAME_A_BASE = "name the base with --against=REV, or use the stored baseline with --against=none"


class Point(NamedTuple):
    """A commit that the candidate may be compared with, by name."""

    name: str
    """A branch, a tag, a hash, or any other revision of git."""
    branch: bool = False
    """Whether it is a branch of the remote, which may have moved since the last fetch."""


class BaseRequest(NamedTuple):
    """The bases that an event asks for."""

    event: str = ""
    """Name of the event, as users know it; empty without an event."""
    points: tuple[Point, ...] = ()
    """Candidates for the base, in order of preference."""
    must: bool = False
    """Whether the run must fail if no point is available, because a stored baseline would check less."""


class Base(NamedTuple):
    """The base of a run in CI."""

    revision: str
    """Value for ``--infer-against``."""
    commit: str
    """Full hash of the merge base with HEAD."""


def base_request(environment: Mapping[str, str]) -> BaseRequest:
    """Read the possible bases from the variables of GitHub Actions or GitLab CI.

    Raises `ConfigurationError` for an event whose checkout is the base itself.
    """
    if environment.get("GITHUB_EVENT_NAME"):
        return _github_request(environment["GITHUB_EVENT_NAME"], environment)
    if environment.get("GITLAB_CI"):
        return _gitlab_request(environment)
    return BaseRequest()


def _github_request(event: str, environment: Mapping[str, str]) -> BaseRequest:
    payload: Any = {}
    try:
        with Path(environment.get("GITHUB_EVENT_PATH", "")).open("rb") as file:
            payload = json.loads(file.read(EVENT_BYTES))
    except (OSError, ValueError, RecursionError):
        pass  # The variables may be sufficient.
    # Refused even with a base: the checkout is the base, unless the workflow checks out untrusted code.
    if event == "pull_request_target":
        raise ConfigurationError(
            "the event must not be pull_request_target, which checks out the base and has access to its "
            "secrets: the gate would compare the base with itself, or run the code of a fork with your "
            "permissions. Hint: run this workflow on pull_request"
        )
    if event == "pull_request":
        branch = environment.get("GITHUB_BASE_REF") or _text(payload, "pull_request", "base", "ref")
        points = [Point(branch, branch=True)] if branch else []
        commit = _text(payload, "pull_request", "base", "sha")
    elif event == "merge_group":
        points, commit = [], _text(payload, "merge_group", "base_sha")
    elif event == "push" and not environment.get("GITHUB_REF", "").startswith("refs/tags/"):
        default = _text(payload, "repository", "default_branch")
        return _push_request(_text(payload, "before"), environment.get("GITHUB_REF_NAME", ""), default)
    else:
        return BaseRequest(event)
    if _HASH.fullmatch(commit):
        points.append(Point(commit))
    return BaseRequest(event, tuple(points), must=True)


def _gitlab_request(environment: Mapping[str, str]) -> BaseRequest:
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
        return _push_request(before, branch, environment.get("CI_DEFAULT_BRANCH", ""))
    return BaseRequest(event)


def _push_request(before: str, branch: str, default: str) -> BaseRequest:
    """Compare a push with the branch before the push, or a new branch with the default branch."""
    new = set(before) == {"0"}
    points = [Point(before)] if _HASH.fullmatch(before) and not new else []
    # The default branch cannot be compared with itself.
    if default not in ("", branch):
        points.append(Point(default, branch=True))
    return BaseRequest("push", tuple(points), must=bool(points) or not new)


def _text(payload: Any, *keys: str) -> str:
    """Return a string of the payload of an event; empty if it is missing. The payload is untrusted."""
    for key in keys:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) else ""


def event_base(request: BaseRequest, folder: Path, report: Callable[[str], None]) -> Base | None:
    """Find the merge base of HEAD and the first point that is available, and fetch the necessary history.

    `report` is called before each fetch of history. Returns ``None`` if the event has no base or pushed
    nothing new. Raises `ConfigurationError` if a required base is not available: a comparison with less
    would be a green build of unchecked code.
    """
    if not request.points:
        if request.must:
            raise ConfigurationError(f"this {request.event} has no base. Hint: {_NAME_A_BASE}")
        return None
    clone = Clone(folder)
    failures, nothing_new = [], False
    for point in request.points:
        found = _merge_base(clone, point, report)
        if isinstance(found, Base) and found.commit != clone.head:
            return found
        nothing_new |= isinstance(found, Base)
        failures.append(found if isinstance(found, str) else f"{point.name!r} already contains HEAD")
    # A push of commits that the base has already, for example of a merged branch, has nothing to check.
    if nothing_new and request.event == "push":
        return None
    raise ConfigurationError(
        f"the base of this {request.event} is not available: {'; '.join(failures)}. Hint: fetch the history "
        f"(fetch-depth: 0 of actions/checkout, GIT_DEPTH: 0 in GitLab), or {_NAME_A_BASE}"
    )


def local_base(folder: Path, report: Callable[[str], None]) -> Base | None:
    """Find the merge base of HEAD and the default branch, as the clone knows it, for a run outside of CI.

    If HEAD has no commits of its own, the base is HEAD. Returns ``None`` without uncommitted changes then,
    outside of a repository, and if no default branch is known.
    """
    top = repository_top(folder)
    if top is None or run_git(top, "rev-parse", "--verify", "--quiet", "HEAD").failure is not None:
        return None
    clone = Clone(top)
    branch = clone.default_branch()
    if branch is not None:
        found = _merge_base(clone, Point(branch), report)
        if isinstance(found, Base) and found.commit != clone.head:
            return found
    return Base("HEAD", clone.head) if clone.changed else None


def named_base(revision: str, folder: Path, report: Callable[[str], None]) -> Base:
    """Find the merge base of HEAD and a revision of the user, or the last tag before HEAD.

    Raises `ConfigurationError` if the revision is neither in the clone nor in its remote.
    """
    clone = Clone(folder)
    found = _merge_base(clone, Point(clone.latest_tag() if revision == LATEST_TAG else revision), report)
    if isinstance(found, str):
        raise ConfigurationError(f"--against: {found}. Hint: fetch it, or name another revision")
    return found


def _merge_base(clone: Clone, point: Point, report: Callable[[str], None]) -> Base | str:
    """Return the merge base of HEAD and a point, or the reason why it is unknown."""
    tip = clone.tip(point)
    if tip is None:
        return f"{point.name!r} is neither in this clone nor in its remote{clone.reason}"
    commit = clone.merge_base(tip)
    for step in (*STEPS, None) if clone.shallow else ():
        if commit is not None and not clone.cut_before(commit):
            break
        more = "the rest of the history" if step is None else f"{step} more commits of history"
        report(f"fetching {more}")
        clone.deepen(step, point, tip)
        commit = clone.merge_base(tip)
    if commit is None:
        return f"{point.name!r} and HEAD have no common commit{clone.reason}"
    return Base(clone.readable_name(point, tip), commit)


class Clone:
    """The clone of the user and its remote. Only fetches: branches, index and files stay unchanged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reason = ""
        """The error of the last command that failed, in parentheses."""
        if self._output("rev-parse", "--is-inside-work-tree") != "true":
            raise ConfigurationError(
                f"{folder} is not inside a git clone{self.reason}. Hint: run the command in one, install git "
                f"before the checkout, or {_NAME_A_BASE}"
            )
        head = self.commit("HEAD")
        if head is None:
            raise ConfigurationError("the repository has no commit. Hint: make a first commit")
        self.head = head
        # Clones of CI services have origin; other clones may have any name.
        remotes = (self._output("remote") or "").split()
        self.remote = "origin" if "origin" in remotes or not remotes else remotes[0]

    @property
    def shallow(self) -> bool:
        """Whether a part of the history is missing in the clone."""
        return self._output("rev-parse", "--is-shallow-repository") == "true"

    @property
    def changed(self) -> bool:
        """Whether there are uncommitted changes, or new modules of Python."""
        new = ("ls-files", "--others", "--exclude-standard", "--", "*.py")
        return bool(self._output("status", "--porcelain", "--untracked-files=no") or self._output(*new))

    def default_branch(self) -> str | None:
        """Return the default branch of the remote, or of a clone without a remote, without fetching it."""
        remote = self._output("symbolic-ref", "--quiet", "--short", f"refs/remotes/{self.remote}/HEAD")
        usual = (f"{self.remote}/main", f"{self.remote}/master", "main", "master")
        return next((name for name in (remote, *usual) if name and self.commit(name)), None)

    def tip(self, point: Point) -> str | None:
        """Return the commit of a point, and fetch it if it is missing or may have moved."""
        self.reason = ""
        if point.branch:
            reference = f"refs/heads/{point.name}"
            return self._fetched(reference) or self.commit(f"refs/remotes/{self.remote}/{point.name}")
        found = self.commit(point.name)
        name = point.name.removeprefix(f"{self.remote}/")
        for reference in [name] if _HASH.fullmatch(name) else [f"refs/tags/{name}", f"refs/heads/{name}"]:
            found = found or self._fetched(reference)
        if found is None and self.shallow:  # HEAD~3 may be older than what was fetched
            self.deepen(None, point, self.head)
            found = self.commit(point.name)
        return found

    def commit(self, revision: str) -> str | None:
        """Return the hash of a commit in the clone; ``None`` if it is missing."""
        wanted = f"{revision}^{{commit}}"
        found = self._output("rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
        return found.splitlines()[-1] if found else None

    def merge_base(self, tip: str) -> str | None:
        """Return the merge base of a commit and HEAD in the history that the clone has."""
        return self._output("merge-base", tip, self.head)

    def cut_before(self, commit: str) -> bool:
        """Whether history between a commit and HEAD is missing, so that a later merge base may exist."""
        place = self._output("rev-parse", "--git-path", "shallow")
        try:
            edges = frozenset(Path(self.folder, place or "shallow").read_text().split())
        except OSError:
            return False
        return not edges.isdisjoint((self._output("rev-list", f"{commit}..{self.head}") or "").split())

    def deepen(self, step: int | None, point: Point, tip: str) -> None:
        """Fetch `step` more commits before HEAD and a tip, or all of them for ``None``."""
        depth = "--unshallow" if step is None else f"--deepen={step}"
        other = f"refs/heads/{point.name}" if point.branch else tip
        # The remote refuses the whole request if it does not know one of the commits.
        for references in ((self.head, other), (self.head,), (other,), ()):
            if self._fetch((depth,), references):
                return

    def latest_tag(self) -> str:
        """Return the last tag before HEAD, without tags of HEAD itself. Raises `ConfigurationError`."""
        describe = ("describe", "--tags", "--abbrev=0", "HEAD~1")
        found = self._output(*describe)
        if found is None:
            if self.shallow:
                self.deepen(None, Point(self.head), self.head)
            self._output("fetch", "--quiet", "--tags", self.remote)
            found = self._output(*describe)
        if found is None:
            raise ConfigurationError(
                f"--against={LATEST_TAG}: there is no tag before HEAD{self.reason}. "
                "Hint: create a tag, or name a revision"
            )
        return found

    def readable_name(self, point: Point, tip: str) -> str:
        """Return a revision that is the tip: the name of the point if possible, otherwise the hash."""
        name = f"{self.remote}/{point.name}" if point.branch else point.name
        return name if self.commit(name) == tip else tip

    def _fetched(self, reference: str) -> str | None:
        """Fetch a reference or hash of the remote, and return its commit. Shallow clones stay shallow."""
        depth = ("--depth=1",) if self.shallow else ()
        # An invalid name could be read as an option or a refspec.
        if _INVALID_REFERENCE.search(reference) or not self._fetch(depth, (reference,)):
            return None
        return self.commit("FETCH_HEAD")

    def _fetch(self, options: tuple[str, ...], references: tuple[str, ...]) -> bool:
        quiet = ("--quiet", "--no-tags", "--no-recurse-submodules")
        return self._output("fetch", *quiet, *options, self.remote, *references) is not None

    def _output(self, *arguments: str) -> str | None:
        """Return the output of a git command; ``None`` if it fails, with the error in `reason`."""
        result = run_git(self.folder, *arguments)
        if result.succeeded:
            return result.output
        self.reason = result.reason or self.reason
        return None
