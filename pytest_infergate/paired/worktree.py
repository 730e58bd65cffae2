"""The base of a paired run as files: a git worktree of its revision, overlaid with the candidate's tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.git import run_git

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""First bytes of the file that git-lfs puts in the place of a large file."""
_WRITTEN_BY_RUNS: Final = frozenset(("__pycache__", ".infergate", ".pytest_cache"))
"""Folders that say nothing of the code."""
_SUBMODULE_MODE: Final = "160000"


class Revision(NamedTuple):
    """A commit to compare with."""

    name: str
    """As the user wrote it."""
    commit: str
    """Full hash of its merge base with HEAD."""
    top: Path
    """Top folder of the repository."""


def resolve(name: str, folder: Path) -> Revision:
    """Find the merge base of a revision and HEAD; ``auto`` is the upstream of the current branch.

    Raises `ConfigurationError` outside of a repository, without git, commits or that revision, in a shallow
    clone that has no common commit, and for a revision that descends from HEAD if nothing is changed.
    """
    outside = f"{folder} is not inside a git repository; run there, or leave the option out"
    top = Path(_output(folder, "rev-parse", "--show-toplevel", hint=outside))
    empty = "the repository has no commit yet; make one"
    head = _output(top, "rev-parse", "--verify", "--quiet", "HEAD", hint=empty)
    shallow = _output(top, "rev-parse", "--is-shallow-repository") == "true"
    deepen = (
        "this clone is shallow: fetch the history with `git fetch --unshallow`, "
        "in GitHub Actions with fetch-depth: 0 of actions/checkout"
        if shallow
        else "look at `git branch --all`, or fetch it"
    )
    revision = name
    if name == "auto":
        hint = "auto needs an upstream: `git branch --set-upstream-to=origin/main`, or name a revision"
        revision = _output(top, "rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}", hint=hint)
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    absent = f"there is no revision {revision!r} here; {deepen}"
    # git may warn of an ambiguous name before it prints the hash.
    commit = _output(top, *verify, hint=absent).splitlines()[-1]
    unrelated = f"{revision!r} and HEAD have no common commit here; {deepen}"
    base = _output(top, "merge-base", commit, "HEAD", hint=unrelated)
    # HEAD itself may be named: identical code on both sides shows what the machine can tell.
    if base == head != commit and not _changed_paths(top):
        raise ConfigurationError(
            f"--infer-against must name a revision before HEAD or beside it, got {revision!r}, which "
            f"descends from HEAD: both sides would be HEAD. Hint: check out {revision}, and use "
            f"--infer-against={head[:12]}"
        )
    return Revision(name, base, top)


def _changed_paths(top: Path) -> list[str]:
    """Return the paths that differ from HEAD, untracked ones included, without those that a run writes."""
    lines = _output(top, "status", "--porcelain", "--untracked-files=all").splitlines()
    paths = (line[3:].strip('"') for line in lines)
    return [path for path in paths if _WRITTEN_BY_RUNS.isdisjoint(path.split("/"))]


@contextmanager
def worktree(revision: Revision, holder: Path) -> Iterator[Path]:
    """Check a revision out below `holder`; removed on exit. The user's tree and index are not touched.

    Raises `ConfigurationError` if it cannot be made or is incomplete: large files that git-lfs did not
    fetch, submodules whose commit is missing.
    """
    # Paths of equal length on both sides give their processes equal heaps, as far as that is possible.
    folder = holder / "base".ljust(min(100, len(str(revision.top)) - len(str(holder)) - 1), "-")
    hint = f"{revision.name!r} could not be checked out into a worktree"
    # The user's hooks belong to the user's checkouts.
    add = ("-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", "--quiet")
    try:
        _output(revision.top, *add, str(folder), revision.commit, hint=hint)
        _check_large_files(revision, folder)
        _add_submodules(revision.top, revision.commit, folder)
        yield folder
    finally:
        remove(revision.top, folder)


def remove(repository: Path, folder: Path) -> None:
    """Remove a worktree and its entry in the repository; other worktrees are left alone."""
    # --force twice removes a locked worktree as well.
    run_git(repository, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def overlay(source: Path, target: Path, files: Iterable[Path]) -> None:
    """Copy files and folders, given relative to `source`, to the same places below `target`.

    A path that `source` does not have is skipped. Raises `ConfigurationError` for a path that leaves
    `source` or cannot be copied.
    """
    for relative in files:
        origin = source / relative
        if relative.is_absolute() or ".." in relative.parts:
            raise ConfigurationError(f"overlay: {relative} leaves the repository; give a path inside of it")
        if not os.path.lexists(origin):  # deleted or ignored: the base keeps its own, if it has one
            continue
        try:
            folder = target
            for part in relative.parent.parts:
                folder /= part
                _make_folder(folder)
            _copy(origin, target / relative)
        except (OSError, shutil.Error) as error:
            text = f"cannot copy {relative} over the base: {error}; look at its permissions"
            raise ConfigurationError(text) from error


def _copy(origin: Path, destination: Path) -> None:
    """Copy a file, a link as a link, or a folder into the folder that the base has in its place."""
    if origin.is_dir() and not origin.is_symlink():
        _make_folder(destination)
        for child in origin.iterdir():
            _copy(child, destination / child.name)
        return
    if destination.is_dir() and not destination.is_symlink():
        shutil.rmtree(destination)
    destination.unlink(missing_ok=True)
    shutil.copy2(origin, destination, follow_symlinks=False)


def _make_folder(path: Path) -> None:
    """Make a folder in the place of whatever the base has there: a link of the base could lead anywhere."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    path.mkdir(exist_ok=True)


def exists(revision: Revision, path: Path) -> bool:
    """Whether a revision contains a file, given relative to the top folder."""
    return run_git(revision.top, "cat-file", "-e", f"{revision.commit}:{path.as_posix()}").succeeded


def accepted_trailers(revision: Revision) -> dict[str, str]:
    """Reasons by pattern, from the trailers ``Infergate-Accept: PATTERN REASON`` between base and HEAD."""
    trailers = "--format=%(trailers:key=Infergate-Accept,valueonly,unfold)"
    log = _output(revision.top, "log", trailers, f"{revision.commit}..HEAD")
    found = {}
    for line in reversed(log.split("\n")):  # the newest commit decides
        pattern, _, reason = line.strip().partition(" ")
        if pattern:
            found[pattern] = reason.strip()
    return found


def _check_large_files(revision: Revision, folder: Path) -> None:
    """Refuse a checkout that has git-lfs pointers in the place of files that the candidate has."""
    pattern = f"^{LFS_POINTER.decode()}"
    found = run_git(revision.top, "grep", "--no-color", "-lzI", "-e", pattern, revision.commit).output
    names = [name.partition(":")[2] for name in found.split("\0") if name]
    # A pointer that the candidate has too is the same on both sides, and no difference.
    missing = [name for name in names if _is_pointer(folder / name) and not _is_pointer(revision.top / name)]
    if missing:
        raise ConfigurationError(
            f"--infer-against: {missing[0]} of the base is a git-lfs pointer whose file is not here"
            f"{f', and so are {len(missing) - 1} more' if missing[1:] else ''}: "
            f"`git lfs install && git lfs fetch origin {revision.commit[:12]}`, or list it under overlay in "
            "[tool.infergate] of pyproject.toml if it did not change"
        )


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def _add_submodules(top: Path, commit: str, folder: Path) -> None:
    """Fill in the submodules that are checked out in the user's tree, at the commits of the base."""
    # `git submodule update` would write to the user's configuration and may need the network.
    for line in _output(top, "ls-tree", "-rz", "--full-tree", commit).split("\0"):
        entry, _, name = line.partition("\t")
        if not entry.startswith(_SUBMODULE_MODE) or not (top / name / ".git").exists():
            continue
        wanted = entry.split()[2]
        with tempfile.TemporaryDirectory(dir=folder.parent) as index:  # in place of the user's own index
            checkout = (f"--work-tree={folder / name}", "checkout", "--force", wanted, "--", ".")
            done = run_git(top / name, *checkout, GIT_INDEX_FILE=f"{index}/index")
        if not done.succeeded:
            raise ConfigurationError(
                f"--infer-against: submodule {name} has no commit {wanted[:12]} of the base here: "
                f"`git -C {name} fetch origin {wanted[:12]}`"
            )
        _add_submodules(top / name, wanted, folder / name)


def _output(folder: Path, *arguments: str, hint: str = "look at `git status`") -> str:
    """The output of a git command. Raises `ConfigurationError` with the hint if it fails."""
    done = run_git(folder, *arguments)
    if not done.succeeded:
        if done.distrusts_owner:
            hint = f"{folder} belongs to another user, so that git does not trust it; if you do, run this"
        raise ConfigurationError(f"--infer-against: {hint}{done.reason}")
    return done.output
