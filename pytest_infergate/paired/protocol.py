"""Messages between a run and its worker processes: commands to a worker, events from it.

A worker sends `Hello` and collects its tests. Then it runs the cases that it is asked for. Inside of `infer`
a case is `Ready`, and answers each command with one event, until `Finish` lets its test go on to `Done`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from pytest_infergate import __version__
from pytest_infergate.core.domain.launch_times import GpuState
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.values import Note, Struct
from pytest_infergate.errors import InfergateError
from pytest_infergate.outputs.value_differences import PAIRED, Sides
from pytest_infergate.paired.source_tree import LoadedModules

PROTOCOL_VERSION: Final = 5
"""Incremented when a message changes its form or meaning; both processes must have the same."""


class MessageError(InfergateError):
    """The other process sent a message that is unknown, malformed or not allowed at this point."""


# Unknown fields are refused, except in Hello: a message that is half understood could time something else
# than the run asked for.
class _Command(Struct, frozen=True, tag_field="do", tag=str.lower):
    pass


class _Event(Struct, frozen=True, tag_field="is", tag=str.lower):
    pass


class CollectCases(_Command, frozen=True, kw_only=True):
    """Start pytest and collect; answered by `CasesCollected`."""

    arguments: tuple[str, ...]
    """Of pytest, with paths of the worker's own tree."""
    source: str
    """Top folder of the candidate."""
    target: str
    """Top folder of the base; the same as `source` if only the interpreters differ."""
    remap: bool
    """Whether paths below `source` become paths below `target`."""
    own_folder: str
    """For temporary files of tests and for pytest's cache."""
    cache: bool
    """Whether pytest's cache is in use."""
    sys_path: tuple[str, ...] | None
    """Of the run; ``None`` if the worker has another interpreter, which keeps its own."""
    project_path: tuple[str, ...]
    """Entries of the run's ``sys.path`` inside of the project."""
    modules: tuple[str, ...] = ()
    """Test files to collect, relative to the rootdir; empty collects what the arguments name."""
    runtime: str | None = None
    """What executes every case in place of its own runtime, without a change of its id."""


class RunCase(_Command, frozen=True):
    """Run one test, which leads to `Ready` if it calls `infer`, and to `Done` in any case."""

    nodeid: str
    next_nodeid: str | None
    """The test after it, for which pytest keeps fixtures."""


class RunControl(_Command, frozen=True):
    """Be `Ready` to time reference work in place of a case, then `Done`."""


class CountWork(_Command, frozen=True):
    """Count operators, memory and the like in calls of their own; answered by `WorkCounted`."""


class KeepOutput(_Command, frozen=True):
    """Write the output of the first call to a file; answered by `OutputKept`."""

    path: str


class CompareOutput(_Command, frozen=True):
    """Compare the output of the first call with one that was kept; answered by `OutputCompared`."""

    path: str
    tolerance: float | None
    """Share of the largest value; ``None`` is that of the dtype."""
    sides: Sides = PAIRED


class RunWarmUp(_Command, frozen=True):
    """Call the model without keeping the times; answered by `WarmedUp`."""

    calls: int | None
    """``None`` calls for a fixed time."""


class TimeBlock(_Command, frozen=True):
    """Time one interleaved block; answered by `BlockTimed`."""

    calls: int


class CallConcurrently(_Command, frozen=True):
    """Call the model back to back while other workers do the same; answered by `CalledConcurrently`."""

    seconds: float


class Finish(_Command, frozen=True):
    """Return from `infer` and let the test go on; leads to `SideMeasured` and `Done`."""


class ListModules(_Command, frozen=True):
    """Report which modules are loaded; answered by `ModulesListed`."""


class Leave(_Command, frozen=True):
    """End the process after its fixtures are torn down."""


# "hello" with these fields is what version 0.1 sends, with protocol 1.
class Hello(_Event, frozen=True, forbid_unknown_fields=False):
    """The first event. It is read from any version, so that a mismatch can name both."""

    protocol: int | None = None
    version: str | None = None


class CasesCollected(_Event, frozen=True):
    """The inference tests of a worker."""

    nodeids: tuple[str, ...]
    errors: dict[str, str] = msgspec.field(default_factory=dict)
    """By test file that could not be collected, the reason."""


class Ready(_Event, frozen=True):
    """The test is inside of `infer`, and its first call is made."""


class WorkCounted(_Event, frozen=True):
    """The work is counted; `SideMeasured` will contain it."""


class OutputKept(_Event, frozen=True):
    """The output is in the file."""


class OutputCompared(_Event, frozen=True):
    """The outputs are compared."""

    difference: str | None
    """``None`` if they are equal within the tolerance."""
    uncompared: tuple[str, ...] = ()
    """Places of the output that cannot be compared, each with the reason."""


class WarmedUp(_Event, frozen=True):
    """The model is warm."""

    calls: int
    seconds: float
    """Median of the later half of the calls."""


class BlockTimed(_Event, frozen=True):
    """One interleaved block is timed."""

    seconds: float
    """Mean of a call."""
    gpu_state: GpuState | None = None
    """After the block, if the device has a meter that reports it."""


class CalledConcurrently(_Event, frozen=True, kw_only=True):
    """The calls are made that ran beside those of other workers."""

    calls: int
    seconds: float
    """Of all calls together."""
    mean: float
    """Seconds of a call."""
    percentiles: tuple[float, ...]
    """The 0th to the 100th percentile of the seconds of a call: 101 values."""
    batch_size: int
    threads: int | None


class SideMeasured(_Event, frozen=True):
    """What a worker measured of a case; ``None`` if nothing was timed or counted."""

    measurement: Measurement | None


class CaseInvalid(_Event, frozen=True):
    """The case cannot be timed."""

    note: Note


class OutOfMemory(_Event, frozen=True):
    """The device has too little memory for the case."""

    note: Note


class NotConverted(_Event, frozen=True):
    """The model of this side cannot be converted for its runtime."""

    note: Note


class PhaseReported(_Event, frozen=True, kw_only=True):
    """pytest's report of one phase of a test."""

    when: str
    """``setup``, ``call`` or ``teardown``."""
    outcome: str
    """``passed``, ``failed`` or ``skipped``."""
    reason: str = ""
    """Why it did not pass: one line."""
    serialised: str
    """The whole report as pytest serialises it, in JSON. Plugins of the user may add anything to it."""


class Done(_Event, frozen=True):
    """The test has ended, or the control."""


class ModulesListed(_Event, frozen=True):
    """The modules that a worker has loaded."""

    modules: LoadedModules
    leaked: str | None = None
    """A module of the candidate that was loaded although the base has its own."""


Command = (
    CollectCases
    | RunCase
    | RunControl
    | CountWork
    | KeepOutput
    | CompareOutput
    | RunWarmUp
    | TimeBlock
    | CallConcurrently
    | Finish
    | ListModules
    | Leave
)
"""What a run sends to a worker."""
Event = (
    Hello
    | CasesCollected
    | Ready
    | WorkCounted
    | OutputKept
    | OutputCompared
    | WarmedUp
    | BlockTimed
    | CalledConcurrently
    | SideMeasured
    | CaseInvalid
    | OutOfMemory
    | NotConverted
    | PhaseReported
    | Done
    | ModulesListed
)
"""What a worker sends to its run."""


def encode(message: Command | Event) -> bytes:
    """One line of JSON, without the newline."""
    # Not msgspec.json: it refuses lone surrogates, which file names and test ids may contain.
    return json.dumps(msgspec.to_builtins(message)).encode()


def decode_command(line: bytes) -> Command:
    """Read a command. Raises `MessageError` if it is unknown or malformed."""
    command: Command = _decode(line, Command, "the run")
    return command


def decode_event(line: bytes) -> Event:
    """Read an event. Raises `MessageError` if it is unknown or malformed."""
    event: Event = _decode(line, Event, "the worker")
    return event


def _decode(line: bytes, kinds: Any, sender: str) -> Any:
    try:
        return msgspec.convert(json.loads(line), type=kinds)
    except (ValueError, RecursionError) as error:
        text = f"{sender} sent a message that pytest-infergate {__version__} cannot read: {error}"
        raise MessageError(text) from None
