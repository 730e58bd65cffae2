"""The interface of stores, which keep baselines in files, object stores or databases."""

from __future__ import annotations

from typing import Protocol

from pytest_infergate.core.domain.records import Baseline


class Store(Protocol):
    """Keeps one `Baseline` for each hardware class, identified by ``Hardware.id``.

    Every method raises `StorageError` with what is wrong, where, and a hint if the place cannot be read or
    written or contains something else. ``pytest_infergate.testing.StoreContract`` tests an implementation.
    """

    def classes(self) -> tuple[str, ...]:
        """Return the ids of the recorded hardware classes, sorted; empty if nothing is recorded."""
        ...

    def load(self, hardware_class: str) -> Baseline | None:
        """Return the baseline of a hardware class; ``None`` if there is none."""
        ...

    def record(self, session: Baseline) -> None:
        """Merge a session of one hardware class into its baseline, like `merge_baselines`.

        Recording a session twice has no further effect. Sessions that are recorded at the same time are all
        kept.
        """
        ...

    def check_writable(self) -> None:
        """Raise `StorageError` if `record` would fail, so that a run stops before it measures anything."""
        ...


def load_all(store: Store) -> dict[str, Baseline]:
    """Return the baselines of all recorded hardware classes by id."""
    # A class may disappear between listing and loading, in a store that others write to.
    loaded = {hardware_class: store.load(hardware_class) for hardware_class in store.classes()}
    return {hardware_class: baseline for hardware_class, baseline in loaded.items() if baseline is not None}
