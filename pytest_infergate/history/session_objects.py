"""A history in an object store, or whatever else fsspec knows: one object a session."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pytest_infergate.core.domain.addresses import without_secrets
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.history.session_folder import checked_name, different

DRIVERS: Final = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
}
"""Driver and extra of each scheme that needs one."""
LOCAL: Final = ("memory",)
"""Schemes without a driver."""
# A run must not wait for minutes at its end, nor a command: a server that is silent is given up after 30 s.
_S3: Final = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 10, "retries": {"max_attempts": 2}}}
_REFUSED: Final = re.compile(r"(?i)credentials|permission denied|authentication failed|privilege|readonly")
"""What drivers say if they may not read or write."""
_OPTIONS: Final[dict[str, dict[str, Any]]] = {"s3": _S3, "s3a": _S3}


class ObjectSessions:
    """A `SessionStore` in an object store. Its objects appear as a whole, so no lock is needed."""

    def __init__(self, url: str, location: str) -> None:
        """Take the address, also without credentials. Raises `ConfigurationError` without a driver."""
        import fsspec

        self.location = location
        scheme = url.partition("://")[0]
        driver, extra = DRIVERS.get(scheme, ("", ""))
        try:
            with self._errors():
                self._files, self._root = fsspec.core.url_to_fs(
                    url, **_OPTIONS.get(scheme, {}), **({"use_listings_cache": False} if driver else {})
                )
        except ImportError:
            raise ConfigurationError(
                f"{location}: {scheme}:// needs {driver or scheme}. Hint: pip install "
                f"'pytest-infergate[{extra or scheme}]'"
            ) from None
        if scheme in _OPTIONS:
            self._files.retries = 1  # botocore tries again itself, and s3fs would try that five times
        self._root = self._root.rstrip("/")

    def names(self) -> tuple[str, ...]:
        """Return the names of the objects directly below the address."""
        with self._errors():
            try:
                found = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return ()
            return tuple(path.rstrip("/").rpartition("/")[2] for path in found)

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the content of objects; several are fetched at once."""
        batch = 64
        for start in range(0, len(names), batch):
            chosen = names[start : start + batch]
            paths = {self._path(name): name for name in chosen}
            with self._errors():
                found = self._files.cat(list(paths))
                found = found if isinstance(found, dict) else {next(iter(paths)): found}
            # Some file systems return paths with a slash or the scheme in front.
            by_name = {str(path).rpartition("/")[2]: content for path, content in found.items()}
            for name in chosen:
                yield name, by_name[name]

    def add(self, name: str, content: bytes) -> bool:
        """Write an object; object stores show it only when it is complete."""
        path = self._path(name)
        with self._errors():
            try:
                if self._files.cat_file(path) != content:
                    raise different(self.location, name)
            except FileNotFoundError:
                self._files.pipe_file(path, content)
                return True
            return False

    def check_writable(self) -> None:
        """List the place, which fails without a bucket or a permission; nothing is written."""
        with self._errors():
            bucket = self._root.partition("/")[0]
            if (
                bucket
                and self._files.protocol not in (("memory",), "memory")
                and not self._files.exists(bucket)
            ):
                raise FileNotFoundError(bucket)
        self.names()

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name, self.location)}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, ConfigurationError, ImportError):
            raise
        # Each file system has exceptions of its own, which derive from nothing in common.
        except Exception as error:
            raise unreachable(self.location, error) from error


def unreachable(location: str, error: BaseException, password: str = "") -> StorageError:
    """Return the error for a place that does not answer or refuses; the text has no credentials."""
    # Drivers may repeat what they were given.
    text = " ".join(str(error).split())
    text = text.replace(password, "***") if password else text
    reason = without_secrets(text[:300]) or type(error).__name__
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{location} does not exist: {reason}. Hint: create it, or correct the address")
    if isinstance(error, PermissionError) or _REFUSED.search(f"{kind} {text}"):
        return StorageError(
            f"{location} refuses access: {reason}. Hint: check the credentials and rights of this machine"
        )
    return StorageError(
        f"{location} cannot be reached: {kind}: {reason}. Hint: check the address, the network and the server"
    )
