"""The interface of the places that keep a history: documents that are added once and never change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class SessionStore(Protocol):
    """Keeps documents by name. Documents are immutable, so that writers need not know of each other.

    Every method raises `StorageError` with what is wrong, where, and a hint. Neither its text nor `location`
    contains credentials.
    """

    location: str
    """The place, to be shown."""

    def names(self) -> tuple[str, ...]:
        """Return the names of everything that may be a document, in any order; empty if there is nothing."""
        ...

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of these documents. One that is gone is an error."""
        ...

    def add(self, name: str, content: bytes) -> bool:
        """Keep a document as a whole or not at all. Return ``False`` if it was there already.

        The name comes from `documents.encoded`. Raises `StorageError` if it exists with another content.
        """
        ...

    def check_writable(self) -> None:
        """Raise `StorageError` if `add` would fail, as far as that can be known beforehand."""
        ...
