"""The base: a git worktree of an earlier revision, over which the candidate's tests are laid."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pytest_infergate.errors import ConfigurationError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_SUBMODULE = "160000"
"""Mode of a submodule's entry in a tree."""
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
"""Variables that a git hook sets, and that would lead git away from the folder it is called in."""


class Revision(NamedTuple):
    """A commit to compare with."""

    asked: str
    """As the user wrote it."""
    commit: str
    """Full hash of the merge base with what is checked out."""
    top: Path
    """Top folder of the repository."""


def resolve(asked: str, folder: Path) -> Revision:
    """Find the merge base of a revision and HEAD; ``auto`` is the branch's upstream.

    Raises `ConfigurationError`: no git, no repository, no commits, no such revision, a shallow clone.
    """
    outside = f"{folder} is not inside a git repository; run there, or leave the option out"
    top = Path(_git(folder, "rev-parse", "--show-toplevel", hint=outside))
    _git(top, "rev-parse", "--verify", "--quiet", "HEAD", hint="the repository has no commit yet; make one")
    shallow = _git(top, "rev-parse", "--is-shallow-repository") == "true"
    deepen = (
        "this clone is shallow: fetch the history with `git fetch --unshallow`, "
        "in GitHub Actions with fetch-depth: 0 of actions/checkout"
        if shallow
        else "look at `git branch --all`, or fetch it"
    )
    revision = asked
    if asked == "auto":
        hint = "auto needs an upstream: `git branch --set-upstream-to=origin/main`, or name a revision"
        revision = _git(top, "rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}", hint=hint)
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    found = _git(top, *verify, hint=f"there is no revision {revision!r} here; {deepen}").splitlines()[-1]
    unrelated = f"{revision!r} and HEAD have no common commit here; {deepen}"
    return Revision(asked, _git(top, "merge-base", found, "HEAD", hint=unrelated), top)


@contextmanager
def worktree(revision: Revision, holder: Path) -> Iterator[Path]:
    """Check a revision out below `holder`, removed on exit; the user's tree and index are not touched.

    Its path is as long as the repository's where that can be done: paths of equal length give processes
    equal heaps. Raises `ConfigurationError` where it cannot be made, or is no use: large files that git-lfs
    did not fetch, submodules whose commit is not here.
    """
    folder = holder / "base".ljust(min(100, len(str(revision.top)) - len(str(holder)) - 1), "-")
    hint = f"the worktree of {revision.asked!r} could not be made; look at `git worktree list`"
    add = ("-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", "--quiet")
    try:
        _git(revision.top, *add, str(folder), revision.commit, hint=hint)
        _check_large_files(revision, folder)
        _add_submodules(revision.top, revision.commit, folder)
        yield folder
    finally:
        remove(revision.top, folder)


def remove(repository: Path, folder: Path) -> None:
    """Remove a worktree, and what git knows of it; those of the user are left alone."""
    _run(repository, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def overlay(source: Path, target: Path, files: Iterable[Path]) -> None:
    """Copy files and folders, given relative to `source`, to the same places below `target`.

    What does not exist at the source is left as the target has it. Raises `ConfigurationError` for a path
    that leaves `source` or cannot be copied.
    """
    for relative in files:
        there, here = source / relative, target / relative
        if relative.is_absolute() or ".." in relative.parts:
            raise ConfigurationError(f"overlay: {relative} leaves the repository; give a path inside of it")
        if not os.path.lexists(there):
            continue
        try:
            _made(target, relative.parent)
            _copied(there, here)
        except (OSError, shutil.Error) as error:
            text = f"cannot lay {relative} over the base: {error}; look at its permissions"
            raise ConfigurationError(text) from error


def _made(target: Path, inside: Path) -> None:
    """Make a folder below `target` out of folders alone: a link of the base could lead anywhere."""
    folder = target
    for part in inside.parts:
        folder /= part
        _folder(folder)


def _copied(there: Path, here: Path) -> None:
    """Copy a file, a link as a link, or a folder over what the base has in it."""
    if there.is_dir() and not there.is_symlink():
        _folder(here)
        for child in there.iterdir():
            _copied(child, here / child.name)
        return
    if here.is_dir() and not here.is_symlink():
        shutil.rmtree(here)
    here.unlink(missing_ok=True)
    shutil.copy2(there, here, follow_symlinks=False)


def _folder(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    path.mkdir(exist_ok=True)


def exists(revision: Revision, inside: Path) -> bool:
    """Whether a revision has a file, given relative to the top."""
    return not _run(revision.top, "cat-file", "-e", f"{revision.commit}:{inside.as_posix()}").returncode


def accepted_trailers(revision: Revision) -> dict[str, str]:
    """Reasons by pattern, of the trailers ``Infergate-Accept: PATTERN REASON`` between base and HEAD."""
    trailers = "--format=%(trailers:key=Infergate-Accept,valueonly,unfold)"
    log = _git(revision.top, "log", trailers, f"{revision.commit}..HEAD")
    found = {}
    for line in reversed(log.split("\n")):
        pattern, _, reason = line.strip().partition(" ")
        if pattern:
            found[pattern] = reason.strip()
    return found


def _check_large_files(revision: Revision, folder: Path) -> None:
    """Refuse a checkout that has git-lfs pointers where the candidate has files."""
    found = _run(
        revision.top, "grep", "--no-color", "-lzI", "-e", f"^{LFS_POINTER.decode()}", revision.commit
    ).stdout
    names = [os.fsdecode(name.partition(b":")[2]) for name in found.split(b"\0") if name]
    lost = [name for name in names if _pointer(folder / name) and not _pointer(revision.top / name)]
    if lost:
        raise ConfigurationError(
            f"--infer-against: {lost[0]} of the base is a git-lfs pointer whose file is not here"
            f"{f', and so are {len(lost) - 1} more' if lost[1:] else ''}: "
            f"`git lfs install && git lfs fetch origin {revision.commit[:12]}`, or list it under overlay in "
            "[tool.infergate] of pyproject.toml if it did not change"
        )


def _pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def _add_submodules(top: Path, commit: str, folder: Path) -> None:
    """Fill in the submodules that are checked out in the user's tree, at the commits of the base."""
    for line in _git(top, "ls-tree", "-rz", "--full-tree", commit).split("\0"):
        entry, _, name = line.partition("\t")
        if not entry.startswith(_SUBMODULE) or not (top / name / ".git").exists():
            continue
        wanted = entry.split()[2]
        with tempfile.TemporaryDirectory(dir=folder.parent) as index:
            into = (f"--work-tree={folder / name}", "checkout", "--force", wanted, "--", ".")
            done = _run(top / name, *into, GIT_INDEX_FILE=f"{index}/index")
        if done.returncode:
            raise ConfigurationError(
                f"--infer-against: submodule {name} has no commit {wanted[:12]} of the base here: "
                f"`git -C {name} fetch origin {wanted[:12]}`"
            )
        _add_submodules(top / name, wanted, folder / name)


def _run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE} | variables
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=False, env=environment)  # noqa: S603
    except OSError as error:
        text = f"--infer-against: git cannot be run: {error.strerror or error}; install git"
        raise ConfigurationError(text) from error


def _git(folder: Path, *arguments: str, hint: str = "look at `git status`") -> str:
    """What git says. Raises `ConfigurationError` with a cure where it fails."""
    done = _run(folder, *arguments)
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().splitlines()
        if b"safe.directory" in done.stderr:
            hint = f"{folder} belongs to another user, so that git does not trust it; if you do, run this"
        words = f" (git: {said[-1]})" if said else ""
        raise ConfigurationError(f"--infer-against: {hint}{words}")
    return os.fsdecode(done.stdout).strip("\n")
