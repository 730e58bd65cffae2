"""Where baselines are kept: the seam that files, object stores and databases implement."""

from __future__ import annotations

from typing import Protocol

from pytest_infergate.core.domain.records import Baseline


class Store(Protocol):
    """Keeps one `Baseline` a hardware class, found by ``Hardware.id``.

    Every method raises `StorageError`, with what, where and the cure, where the place cannot be read or
    written or holds something else. ``pytest_infergate.testing.StoreContract`` says the rest in tests.
    """

    def classes(self) -> tuple[str, ...]:
        """Ids of the hardware classes on record, sorted; empty where nothing was recorded yet."""
        ...

    def load(self, hardware_class: str) -> Baseline | None:
        """Everything known of one hardware class; ``None`` where nothing is."""
        ...

    def record(self, session: Baseline) -> None:
        """Join one session's cases of one hardware class in, as `core.baseline.merge` does.

        Recording a session twice changes nothing, and sessions recorded at the same time are all kept.
        """
        ...

    def check_writable(self) -> None:
        """Raise `StorageError` where `record` would fail, so that it is known before anything is measured."""
        ...


def load_all(store: Store) -> dict[str, Baseline]:
    """Every hardware class on record, by id."""
    loaded = {hardware_class: store.load(hardware_class) for hardware_class in store.classes()}
    return {hardware_class: baseline for hardware_class, baseline in loaded.items() if baseline is not None}
