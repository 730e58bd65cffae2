"""A file of raw turns: what a paired run measured, to be decided again without measuring."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_infergate.core.model import Against, Case, Struct
from pytest_infergate.core.paired import Launch, Plan
from pytest_infergate.errors import StorageError

VERSION = 1
MOST_BYTES = 256 * 1024**2


class TurnsOfCase(Struct, frozen=True, kw_only=True):
    """The launches of one case, in the order in which they were made."""

    case: Case
    nodeid: str
    plan: Plan
    screen: tuple[Launch, ...] = ()
    confirm: tuple[Launch, ...] = ()


class Turns(Struct, frozen=True, kw_only=True):
    """Everything that a paired run timed; seconds a call."""

    schema_version: int = VERSION
    against: Against
    confirming: int = 0
    """Cases that went into confirmation, among which its level is shared."""
    control: tuple[Launch, ...] = ()
    cases: tuple[TurnsOfCase, ...]


def written(turns: Turns) -> str:
    """As JSON, times to a nanosecond, a launch a line."""
    rounded = msgspec.convert(_rounded(msgspec.to_builtins(turns)), Turns)
    return msgspec.json.encode(rounded).decode().replace('{"base"', '\n{"base"') + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 10)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, (list, tuple)) else value


def read(path: Path) -> Turns:
    """Read a file of turns. Raises `StorageError` naming file and field for anything else."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StorageError(f"{path} is larger than {MOST_BYTES:,} bytes: no file of turns is")
        turns = msgspec.json.decode(path.read_bytes(), type=Turns)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(f"{path} is no file of turns: {error}; write one with --infer-turns") from error
    if turns.schema_version != VERSION:
        raise StorageError(f"{path} is of version {turns.schema_version}; this infergate reads {VERSION}")
    for case in turns.cases:
        _check(path, case.nodeid, (*case.screen, *case.confirm))
    _check(path, "the control", turns.control)
    return turns


def _check(path: Path, name: str, launches: tuple[Launch, ...]) -> None:
    for launch in launches:
        if len(launch.base) != len(launch.candidate) or not launch.base:
            raise StorageError(f"{path}: {name}: a launch has {len(launch.base)} turns of the base and "
                               f"{len(launch.candidate)} of the candidate; they come in pairs")  # fmt: skip
        if not all(0 < seconds < 1e9 for seconds in (*launch.base, *launch.candidate)):  # noqa: PLR2004
            raise StorageError(f"{path}: {name}: a turn is not a time above zero")
