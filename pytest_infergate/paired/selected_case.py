"""A test item that takes part in a run of worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_infergate.core.domain.model import Case

if TYPE_CHECKING:
    from pytest_infergate.config.marker import Marker


class SelectedCase(NamedTuple):
    """An item that takes part."""

    nodeid: str
    path: Path
    case: Case
    marker: Marker
