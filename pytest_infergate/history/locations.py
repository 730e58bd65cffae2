"""Addresses of histories: which place they name, and how they are shown without credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pytest_infergate.core.domain.addresses import without_secrets
from pytest_infergate.core.domain.spelling import did_you_mean
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.history.session_branch import BranchSessions
from pytest_infergate.history.session_folder import FolderSessions
from pytest_infergate.history.session_objects import DRIVERS, LOCAL, ObjectSessions
from pytest_infergate.history.session_store import SessionStore
from pytest_infergate.history.session_tables import DATABASES, TableSessions

SCHEMES: Final = ("branch", "file", *LOCAL, *DRIVERS, *DATABASES)
"""Schemes of addresses; anything without ``://`` is a folder."""


def is_history(location: str) -> bool:
    """Return whether an address is one of a history; a folder is none of `SCHEMES`."""
    return location.partition("://")[0] in SCHEMES and "://" in location


def open_store(location: str, rootdir: Path) -> SessionStore:
    """Return the place that an address names; relative folders are below `rootdir`.

    Raises `ConfigurationError` for an unknown scheme, a missing driver and an unusable address.
    """
    scheme, separator, rest = location.partition("://")
    shown = without_secrets(location)
    if not location.strip():
        raise ConfigurationError(
            "the place of a history must not be empty, as an unset variable makes it. Hint: name a folder"
        )
    if not separator:
        return FolderSessions(rootdir / location)
    if not rest.strip("/") or (scheme == "sqlite" and rest.strip("/") == ":memory:"):
        raise ConfigurationError(f"{shown} must name a place. Hint: write for example s3://bucket/history")
    if scheme == "file":
        return FolderSessions(Path(f"/{rest.lstrip('/')}"))
    if scheme == "branch":
        return BranchSessions(location, rootdir)
    if scheme in DATABASES:
        return TableSessions(location, shown)
    if scheme in DRIVERS and ":" in rest.rpartition("@")[0].partition("/")[0]:
        # They would be taken for a part of the bucket's name, and be repeated by errors.
        raise ConfigurationError(
            f"{shown} must not contain credentials. Hint: set them in the environment, where the driver "
            "reads them"
        )
    if scheme in (*DRIVERS, *LOCAL):
        return ObjectSessions(location, shown)
    raise ConfigurationError(
        f"the scheme of a history must be one of {', '.join(SCHEMES)}, got {scheme!r}"
        f"{did_you_mean(scheme, SCHEMES)}"
    )
