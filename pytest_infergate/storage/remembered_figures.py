"""Figures of earlier runs, such as how long something took, in pytest's cache. No verdict depends on them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Protocol


class Cache(Protocol):
    """The cache of pytest, as far as it is used here."""

    def get(self, key: str, default: Any) -> Any:
        """Return what is stored, or the default."""

    def set(self, key: str, value: object) -> None:
        """Store a value of JSON."""


class RememberedFigures:
    """Figures by name, under one key of a cache. Without a cache, nothing is remembered."""

    def __init__(self, cache: Cache | None, key: str) -> None:
        self._cache = cache
        self._key = f"infergate/{key}"

    def read(self) -> dict[str, float]:
        """Return what is remembered and makes sense: the file may contain anything."""
        found = None if self._cache is None else self._cache.get(self._key, None)
        return {
            name: float(figure)
            for name, figure in (found.items() if isinstance(found, dict) else ())
            if isinstance(figure, (int, float)) and math.isfinite(figure) and figure >= 0
        }

    def add(self, figures: Mapping[str, float]) -> None:
        """Remember further ones; a cache that cannot be written is no reason to complain."""
        if self._cache is None or not figures:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._cache.set(
                self._key, {**self.read(), **{name: round(value, 3) for name, value in figures.items()}}
            )
