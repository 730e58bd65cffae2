"""The git command: how it is run, and how it ended."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from pytest_infergate.errors import ConfigurationError

# A git hook sets these. They would direct git away from the folder in which it is run.
_LOCATION_VARIABLES: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
)
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")
"""User and password in an address, ``https://user:password@example.org``."""


class GitResult(NamedTuple):
    """How a git command ended."""

    output: str
    """Standard output, without newlines at its ends."""
    failure: str | None
    """``None`` if the command succeeded, otherwise the last line of its own errors, without credentials."""

    @property
    def succeeded(self) -> bool:
        """Whether the exit code was 0."""
        return self.failure is None

    @property
    def reason(self) -> str:
        """The failure in brackets, to be appended to a message; empty if git gave no reason."""
        return f" (git: {self.failure})" if self.failure else ""

    @property
    def distrusts_owner(self) -> bool:
        """Whether git refused a repository because another user owns it."""
        return "safe.directory" in (self.failure or "")


def run_git(folder: Path, *arguments: str, **variables: str) -> GitResult:
    """Run git in a folder, without ever asking for a password; `variables` extend its environment.

    Raises `ConfigurationError` if git cannot be run.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _LOCATION_VARIABLES}
    # In CI a prompt would block the job, and a translated message could not be recognised.
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **variables}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607 - the git on the path
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment,
        )
    except OSError as error:
        raise ConfigurationError(
            f"git cannot be run: {error.strerror or error}. Hint: install git"
        ) from error
    output = os.fsdecode(done.stdout).strip("\n")
    if done.returncode == 0:
        return GitResult(output, None)
    lines = os.fsdecode(done.stderr).strip().splitlines()
    # What went wrong is in a line of git's own, which the words of filters may follow. The command that makes
    # git trust a repository comes last, and is what a user needs.
    own = [line for line in lines if line.startswith(("fatal:", "error:")) or "safe.directory" in line]
    return GitResult(output, without_credentials((own or lines)[-1]) if lines else "")


def without_credentials(text: str) -> str:
    """The text without user and password in its addresses."""
    return _CREDENTIALS.sub("", text)


def repository_top(folder: Path) -> Path | None:
    """The top folder of the repository that contains a folder; ``None`` outside of one or without git."""
    try:
        found = run_git(folder, "rev-parse", "--show-toplevel")
    except ConfigurationError:
        return None
    return Path(found.output) if found.succeeded else None
