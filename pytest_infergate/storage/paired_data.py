"""Files of paired data: the times of a paired run, from which it can be decided again without measuring."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.core.domain.stats import MAX_SECONDS, MAX_SHARE, MIN_SECONDS
from pytest_infergate.core.domain.upgrade_0_1 import upgraded
from pytest_infergate.core.domain.values import Case, Struct
from pytest_infergate.core.gate.launch_location import Spread
from pytest_infergate.core.gate.paired_times import PairedTerms
from pytest_infergate.errors import StorageError

PAIRED_DATA_VERSION = 2
MAX_DATA_BYTES = 256 * 1024**2
_NEWER = "upgrade pytest-infergate"
_AGAIN = "write the file again with --infer-paired-data"


class PairedCaseData(Struct, frozen=True, kw_only=True):
    """The process launches of one case in the order in which they were made."""

    case: Case
    nodeid: str
    plan: PairedTerms
    screen: tuple[Launch, ...] = ()
    confirm: tuple[Launch, ...] = ()
    plain: Launch | None = None
    """Of plain processes, for a case that regressed in the confirmation."""
    others: dict[int, Spread] = msgspec.field(default_factory=dict)
    """Spread of the other cases by interim analysis of the screen, as it was at that time."""


class PairedData(Struct, frozen=True, kw_only=True):
    """All times of a paired run, in seconds per call."""

    schema_version: int = PAIRED_DATA_VERSION
    against: Against
    confirming: int = 0
    """Number of cases that went into confirmation, which share its level."""
    control: tuple[Launch, ...] = ()
    cases: tuple[PairedCaseData, ...]


def encode_paired_data(data: PairedData) -> str:
    """Return the JSON text, with times rounded to ten decimal places and one line for each launch."""
    # Ten decimal places keep tenths of a nanosecond, finer than any clock.
    rounded = msgspec.convert(_rounded(msgspec.to_builtins(data)), PairedData)
    document = {"schema_version": PAIRED_DATA_VERSION, **msgspec.to_builtins(rounded)}
    # One launch per line, so that an interrupted file or a diff can be read.
    return msgspec.json.encode(document).decode().replace('{"base"', '\n{"base"') + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 10)
    if isinstance(value, str):
        # Ids may contain bytes of file names that are not text, which UTF-8 cannot encode.
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_rounded(key): _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, (list, tuple)) else value


class _Versioned(msgspec.Struct):
    schema_version: int = 1
    """Files of version 0.1 do not contain it."""


def read_paired_data(path: Path) -> PairedData:
    """Read a file of paired data. Raises `StorageError` with file, field and a hint for any other file."""
    try:
        if path.stat().st_size > MAX_DATA_BYTES:
            raise StorageError(
                f"{path}: a file of paired data must have at most {MAX_DATA_BYTES:,} bytes. "
                "Hint: name another file"
            )
        text = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}. Hint: name another file"
        ) from error
    try:
        version = msgspec.json.decode(text, type=_Versioned).schema_version
        if not 1 <= version <= PAIRED_DATA_VERSION:
            raise StorageError(
                f"{path}: `$.schema_version` must be at least 1 and at most {PAIRED_DATA_VERSION}, got "
                f"{version}. Hint: {_NEWER if version > 1 else _AGAIN}"
            )
        data = (
            msgspec.convert(upgraded(msgspec.json.decode(text)), PairedData, str_keys=True)
            if version == 1
            else msgspec.json.decode(text, type=PairedData)
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(
            f"{path} is not a file of paired data: {error}. Hint: write one with --infer-paired-data"
        ) from error
    for case in data.cases:
        if not (0 <= case.plan.tolerance < MAX_SHARE and 0 <= case.plan.floor < MAX_SHARE):
            raise _wrong(
                path, case.nodeid, f"tolerance and floor must be at least 0 and less than {MAX_SHARE:g}"
            )
        if not all(
            0 <= spread.squares <= MAX_SHARE and spread.degrees >= 0 for spread in case.others.values()
        ):
            raise _wrong(
                path, case.nodeid, f"the spread of other cases must be at least 0 and at most {MAX_SHARE:g}"
            )
        plain = () if case.plain is None else (case.plain,)
        _check(path, case.nodeid, (*case.screen, *case.confirm, *plain))
    _check(path, "the control", data.control)
    return data


def _check(path: Path, name: str, launches: tuple[Launch, ...]) -> None:
    for launch in launches:
        base, candidate = len(launch.base), len(launch.candidate)
        if base != candidate or not base:
            raise _wrong(
                path,
                name,
                f"times must come in pairs, got {base} of the base and {candidate} of the candidate",
            )
        if not all(MIN_SECONDS <= seconds <= MAX_SECONDS for seconds in (*launch.base, *launch.candidate)):
            raise _wrong(path, name, f"times must be {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds")


def _wrong(path: Path, name: str, what: str) -> StorageError:
    return StorageError(f"{path}: {name}: {what}. Hint: {_AGAIN}")
