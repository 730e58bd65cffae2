"""The folder of this user for files that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_infergate.errors import StorageError


def user_cache(name: str) -> Path:
    """Return a folder in ``INFERGATE_CACHE``, or below the cache folder of the user. It may not exist yet.

    Raises `StorageError` for a user without a home folder.
    """
    own = os.environ.get("INFERGATE_CACHE")
    if own:
        return Path(own).absolute() / name
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        raise StorageError("this user has no home folder. Hint: set INFERGATE_CACHE to a folder") from None
    return caches / "infergate" / name
