"""A history in a branch of git that has no commit in common with others: one file a session."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from filelock import FileLock

from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.git import GitResult, repository_top, run_git
from pytest_infergate.history.session_folder import checked_name, different

ATTEMPTS: Final = 10
"""Number of times that a document is added, if others push to the branch at the same time."""
_AUTHOR: Final = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "infergate"), ("EMAIL", "infergate@localhost"))
}


class BranchSessions:
    """A `SessionStore` in a branch: ``branch://NAME``, or ``branch://NAME?remote=origin`` to push it as well.

    The working tree, its index and other branches are not touched.
    """

    def __init__(self, url: str, folder: Path) -> None:
        """Take the address, and a folder of the repository. Raises `ConfigurationError` outside of one."""
        self.location = url
        name, _, query = url.removeprefix("branch://").partition("?")
        self._remote = parse_qs(query).get("remote", [""])[0]
        top = repository_top(folder)
        if top is None:
            raise ConfigurationError(f"{url}: {folder} is not inside a git repository. Hint: run there")
        self.top = top
        """Top folder of the repository."""
        if not run_git(top, "check-ref-format", "--branch", name).succeeded:
            raise ConfigurationError(f"{url} must name a branch. Hint: write for example branch://history")
        if self._remote and not run_git(top, "remote", "get-url", "--", self._remote).succeeded:
            raise ConfigurationError(f"{url}: there is no remote {self._remote!r}. Hint: see git remote")
        self._ref = f"refs/heads/{name}"
        self._lock = FileLock(
            self.top / self._git("rev-parse", "--git-common-dir").output / "infergate-history.lock",
            timeout=60,
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of the files at the top of the branch."""
        self._fetch()
        if self._head() is None:
            return ()
        return tuple(self._git("ls-tree", "--name-only", self._ref).output.splitlines())

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the content of files; git packs them into one archive."""
        if not names:
            return
        wanted = [checked_name(name, self.location) for name in names]
        with tempfile.TemporaryDirectory(prefix="infergate-") as folder:
            archive = Path(folder) / "history.tar"
            # A command line has room for some names only.
            chosen = wanted if len(wanted) <= 100 else []  # noqa: PLR2004
            self._git("archive", "--format=tar", f"--output={archive}", self._ref, "--", *chosen)
            with tarfile.open(archive) as packed:
                for name in wanted:
                    file = packed.extractfile(name)
                    if file is None:
                        raise StorageError(f"{self.location}: {name} is not a file. Hint: remove it")
                    yield name, file.read()

    def add(self, name: str, content: bytes) -> bool:
        """Commit a file on top of the branch, and push it; what others push meanwhile is kept."""
        checked_name(name, self.location)
        with self._lock:
            for _ in range(ATTEMPTS):
                self._fetch()
                head = self._head()
                kept = run_git(self.top, "cat-file", "blob", f"{self._ref}:{name}") if head else None
                if kept is not None and kept.succeeded:
                    if kept.output.encode() != content.strip(b"\n"):
                        raise different(self.location, name)
                    return False
                commit = self._commit(name, content, head)
                update = run_git(self.top, "update-ref", self._ref, commit, head or "0" * 40)
                if update.succeeded and self._pushed(commit):
                    return True
                if self._remote and head:
                    run_git(self.top, "update-ref", self._ref, head, commit)
                elif self._remote:
                    run_git(self.top, "update-ref", "-d", self._ref, commit)
        raise StorageError(
            f"{self.location}: the branch could not be pushed in {ATTEMPTS} attempts. Hint: check the "
            "permission to push, or try again"
        )

    def check_writable(self) -> None:
        """Fetch the branch; whether a push is allowed cannot be known beforehand."""
        self._fetch()

    def _commit(self, name: str, content: bytes, head: str | None) -> str:
        with tempfile.TemporaryDirectory(prefix="infergate-") as folder:
            file, index = Path(folder) / "document", str(Path(folder) / "index")
            file.write_bytes(content)
            blob = self._git("hash-object", "-w", "--no-filters", "--", str(file)).output
            if head:
                self._git("read-tree", head, GIT_INDEX_FILE=index)
            entry = f"100644,{blob},{name}"
            self._git("update-index", "--add", "--cacheinfo", entry, GIT_INDEX_FILE=index)
            tree = self._git("write-tree", GIT_INDEX_FILE=index).output
        parent = ("-p", head) if head else ()
        message = f"infergate: {name.partition('.')[0]}"
        return self._git("commit-tree", tree, *parent, "-m", message, **_AUTHOR).output

    def _fetch(self) -> None:
        """Take over what others pushed; a branch that the remote does not have yet is fine."""
        if not self._remote:
            return
        found = self._git("ls-remote", "--", self._remote, self._ref)
        if found.output:
            self._git("fetch", "--quiet", self._remote, f"+{self._ref}:{self._ref}")

    def _pushed(self, commit: str) -> bool:
        if not self._remote:
            return True
        return run_git(self.top, "push", "--quiet", self._remote, f"{commit}:{self._ref}").succeeded

    def _head(self) -> str | None:
        found = run_git(self.top, "rev-parse", "--verify", "--quiet", self._ref)
        return found.output if found.succeeded else None

    def _git(self, *arguments: str, **variables: str) -> GitResult:
        result = run_git(self.top, *arguments, **variables)
        if not result.succeeded:
            raise StorageError(
                f"{self.location}: git {arguments[0]} failed{result.reason}. Hint: try that command there"
            )
        return result
