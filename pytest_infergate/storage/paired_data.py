"""A file of raw turns: what a paired run measured, to be decided again without measuring."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_infergate.core.domain.model import Case, Struct
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.core.domain.version_1 import upgraded
from pytest_infergate.core.gate.paired import Launch, PairedTerms, Spread
from pytest_infergate.errors import StorageError

PAIRED_DATA_VERSION = 2
MOST_BYTES = 256 * 1024**2
LEAST_SECONDS, MOST_SECONDS = 1e-10, 86_400.0
MOST_RATIO = 1e6


class PairedCaseData(Struct, frozen=True, kw_only=True):
    """The launches of one case, in the order in which they were made."""

    case: Case
    nodeid: str
    plan: PairedTerms
    screen: tuple[Launch, ...] = ()
    confirm: tuple[Launch, ...] = ()
    others: dict[int, Spread] = msgspec.field(default_factory=dict)
    """By look of the screen, the spread of the other cases when it was taken."""


class PairedData(Struct, frozen=True, kw_only=True):
    """Everything that a paired run timed; seconds a call."""

    schema_version: int = PAIRED_DATA_VERSION
    against: Against
    confirming: int = 0
    """Cases that went into confirmation, among which its level is shared."""
    control: tuple[Launch, ...] = ()
    cases: tuple[PairedCaseData, ...]


def encode_paired_data(turns: PairedData) -> str:
    """As JSON, times to ten digits after the point, a launch a line; what UTF-8 cannot say is spelled out."""
    rounded = msgspec.convert(_sound(msgspec.to_builtins(turns)), PairedData)
    document = {"schema_version": PAIRED_DATA_VERSION, **msgspec.to_builtins(rounded)}
    return msgspec.json.encode(document).decode().replace('{"base"', '\n{"base"') + "\n"


def _sound(value: object) -> object:
    if isinstance(value, float):
        return round(value, 10)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sound(key): _sound(part) for key, part in value.items()}
    return [_sound(part) for part in value] if isinstance(value, (list, tuple)) else value


class _Versioned(msgspec.Struct):
    schema_version: int = 1
    """Files of version 0.1 do not state it."""


def read_paired_data(path: Path) -> PairedData:
    """Read a file of turns. Raises `StorageError` naming file and field for anything else."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StorageError(f"{path} is larger than {MOST_BYTES:,} bytes: no file of turns is")
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        version = msgspec.json.decode(data, type=_Versioned).schema_version
        if not 1 <= version <= PAIRED_DATA_VERSION:
            raise StorageError(f"{path} is of version {version}; this infergate reads {PAIRED_DATA_VERSION}")
        turns = (
            msgspec.convert(upgraded(msgspec.json.decode(data)), PairedData, str_keys=True)
            if version == 1
            else msgspec.json.decode(data, type=PairedData)
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(
            f"{path} is no file of turns: {error}; write one with --infer-paired-data"
        ) from error
    for case in turns.cases:
        if not (0 <= case.plan.tolerance < MOST_RATIO and 0 <= case.plan.floor < MOST_RATIO):
            raise StorageError(f"{path}: {case.nodeid}: tolerance and floor are shares of 0 or more")
        if not all(0 <= one.squares <= MOST_RATIO and one.degrees >= 0 for one in case.others.values()):
            raise StorageError(f"{path}: {case.nodeid}: the spread of others is a sum of 0 or more")
        _check(path, case.nodeid, (*case.screen, *case.confirm))
    _check(path, "the control", turns.control)
    return turns


def _check(path: Path, name: str, launches: tuple[Launch, ...]) -> None:
    for launch in launches:
        if len(launch.base) != len(launch.candidate) or not launch.base:
            raise StorageError(f"{path}: {name}: a launch has {len(launch.base)} turns of the base and "
                               f"{len(launch.candidate)} of the candidate; they come in pairs")  # fmt: skip
        if not all(LEAST_SECONDS <= seconds <= MOST_SECONDS for seconds in (*launch.base, *launch.candidate)):
            raise StorageError(f"{path}: {name}: a turn is not a time above zero")
