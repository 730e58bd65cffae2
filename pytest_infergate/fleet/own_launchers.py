"""The launchers of infergate itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pluggy

from pytest_infergate.fleet.launchers import FleetLauncher
from pytest_infergate.fleet.local_launcher import LocalLauncher
from pytest_infergate.fleet.slurm_launcher import SlurmLauncher

hookimpl = pluggy.HookimplMarker("infergate")


@hookimpl
def infergate_launchers(folder: Path) -> Sequence[FleetLauncher]:
    """Return the launchers for this machine and for Slurm."""
    return (LocalLauncher(), SlurmLauncher(folder))
