"""The commit that a session measured, as git knows it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pytest_infergate.core.domain.history_values import HistorySession
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.git import run_git


def with_commit(session: HistorySession, folder: Path) -> HistorySession:
    """Return a session with commit, branch and tag of the repository around `folder`, if there is one."""
    try:
        head = run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
        if not head.succeeded:
            return session
        tags = run_git(folder, "tag", "--points-at", "HEAD").output.splitlines()
        branch = run_git(folder, "symbolic-ref", "--quiet", "--short", "HEAD").output
        changes = run_git(folder, "status", "--porcelain", "--untracked-files=no").output
    except ConfigurationError:
        return session
    return msgspec.structs.replace(
        session,
        commit=head.output,
        dirty=bool(changes),
        # CI services check out a commit, and keep the branch in a variable.
        branch=branch or os.environ.get("GITHUB_REF_NAME") or os.environ.get("CI_COMMIT_REF_NAME"),
        release=tags[-1] if tags else None,
    )
