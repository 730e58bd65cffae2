"""Which revision of the code a folder contains, so that results of two revisions are never mixed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.git import run_git

NO_REVISION = "no-revision"


def code_revision(folder: Path, without: Path | None = None) -> str:
    """Return the commit of a folder, and a hash of what is not committed: ``1a2b3c4d5e6f-9f8e7d6c``.

    The hash covers changes of tracked files and untracked Python files, but not the file `without`: a class
    that is added to the fleet file does not change what is measured on the others. Outside of a repository,
    the result is `NO_REVISION`.
    """
    # Paths below are relative to the top folder.
    try:
        found = run_git(folder, "rev-parse", "--show-toplevel")
        top = Path(found.output)
        commit = run_git(folder, "rev-parse", "HEAD")
    except ConfigurationError:
        return NO_REVISION
    if not (found.succeeded and commit.succeeded):
        return NO_REVISION
    inside = without is not None and top.resolve() in without.resolve().parents
    left_out = (
        [f":(exclude,top,literal){without.resolve().relative_to(top.resolve())}"]
        if inside and without
        else []
    )
    changes = run_git(top, "diff", "HEAD", "--no-ext-diff", "--no-color", "--binary", "--", ".", *left_out)
    untracked = run_git(top, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.py")
    digest = hashlib.sha256(os.fsencode(changes.output))
    new = [name for name in untracked.output.split("\0") if name]
    for name in sorted(new):
        digest.update(os.fsencode(name))
        try:
            digest.update((top / name).read_bytes())
        except OSError:
            continue
    short = commit.output[:12]
    return f"{short}-{digest.hexdigest()[:8]}" if changes.output or new else short
