"""What starts the jobs of a fleet: the protocol of a launcher, and the hook by which packages add one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pluggy

from pytest_infergate.fleet.attempts import AttemptFolder
from pytest_infergate.fleet.fleet_file import MachineClass

_PROJECT = "infergate"
hookspec = pluggy.HookspecMarker(_PROJECT)


class JobState(NamedTuple):
    """What a launcher knows about a job."""

    state: str
    """``queued``, ``running`` or ``gone``."""
    reason: str = ""
    """Why a job waits or is gone, in the words of the launcher; empty if unknown."""


class FleetLauncher(Protocol):
    """Starts jobs, looks after them and ends them. A job calls `job_runner.run_attempt`."""

    name: str
    capacity: int | None
    """Number of jobs that it runs at the same time; ``None`` if it queues jobs itself."""
    poll_seconds: float
    """Time between two calls of `states`."""

    def check(self, machine: MachineClass) -> None:
        """Check the terms of a class before anything is started. Raises `ConfigurationError`."""

    def start(self, machine: MachineClass, attempts: Sequence[AttemptFolder], batch: str) -> list[str]:
        """Start jobs of one class under a name that no other batch has, and return their handles.

        Raises `InfergateError` if they are refused; then none of them has been started.
        """

    def states(self, started: Mapping[str, AttemptFolder]) -> Mapping[str, JobState]:
        """Return the state of each job by its handle. Raises `InfergateError` if it is unknown for now."""

    def find(self, batch: str) -> Mapping[int, str]:
        """Return the handles of a batch by the index of the job, also if `start` was interrupted."""

    def cancel(self, started: Mapping[str, AttemptFolder]) -> None:
        """End jobs, and return when they have ended. Jobs that have ended already are left alone."""


class LauncherHooks:
    """Hooks of the fleet. A package adds launchers by an entry point of the group ``infergate``."""

    @hookspec
    def infergate_launchers(self, folder: Path) -> Sequence[FleetLauncher]:  # type: ignore[empty-body]
        """Return launchers; `folder` is a place for their own files, which they create if they need it."""


def load_launchers(folder: Path) -> dict[str, FleetLauncher]:
    """Return all launchers by name; those of other packages come after our own."""
    from pytest_infergate.fleet import own_launchers

    manager = pluggy.PluginManager(_PROJECT)
    manager.add_hookspecs(LauncherHooks)
    manager.load_setuptools_entrypoints(_PROJECT)
    # The last one that is registered is called first.
    manager.register(own_launchers)
    offered = [one for several in manager.hook.infergate_launchers(folder=folder) for one in several]
    return {launcher.name: launcher for launcher in offered}
