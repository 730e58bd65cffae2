"""Results files: a session as JSON, and its schema."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Merged, Outcome, Session
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.domain.upgrade_0_1 import upgraded
from pytest_infergate.core.domain.values import SCHEMA_VERSION, Note, Struct
from pytest_infergate.errors import StorageError
from pytest_infergate.report.sanitize import without_commands

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Five thousand cases have about 15 to 70 MB. A limit keeps an untrusted file from filling the memory.
MAX_RESULTS_BYTES = 256 * 10**6
"""Maximum size of the results of one session. A merged file may have any number of sessions."""
# msgspec reads integers of any size, but writes at most 64 bits.
MAX_INTEGER = 2**63 - 1
_HINT = "Hint: write the file again with --infer-json"
# Each digit becomes a 0 and any other byte a blank: searching takes a tenth of the time of a pattern.
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() else ord(" ") for byte in range(128)) + b" " * 128
_LONG_NUMBER = b"0" * 19
_NOT_ASCII = re.compile(r"[^\n -~]")
_PLACE = re.compile(r" - at `(\$[\w.\[\]]*)`$")
_CONTENT = re.compile(r"(unknown field|enum value) .*", re.DOTALL)


class _Header(msgspec.Struct):
    schema_version: int | None = None
    sessions: tuple[msgspec.Raw, ...] | msgspec.UnsetType | None = msgspec.UNSET
    """Only a merged file has sessions."""


def render_results(session: Session) -> str:
    """Render a session as JSON with sorted keys, five significant digits, and a newline at the end.

    A figure that is not finite is left out, and a note of its case names it.
    """
    return formatted_json(_builtins(session))


def render_merged(sessions: Iterable[Session]) -> str:
    """Render sessions of several machines as one JSON document, in the given order.

    They are those of results files, whose figures are rounded and finite already: looking at each of them
    would take most of the time of merging.
    """
    return b"".join(merged_json(map(_text, sessions))).decode()


def merged_json(texts: Iterable[bytes]) -> list[bytes]:
    """Return the JSON document of several sessions, whose texts are as `session_texts` yields them.

    It is in pieces: a copy of the whole would take as long as writing it.
    """
    begin = f'{{\n "schema_version": {SCHEMA_VERSION},\n "sessions": [\n'.encode()
    separated = [piece for text in texts for piece in (b",\n", text)]
    return [begin, *separated[1:], b"\n ]\n}\n"]


def session_texts(content: bytes, where: str) -> Iterator[tuple[Session, bytes]]:
    """Yield every session as `parse_all` returns it, each with its text for `merged_json`."""
    written = _as_written(content)
    if written is None:
        yield from ((one, _text(one)) for one in parse_all(content, where))
    else:
        yield written


def _as_written(content: bytes) -> tuple[Session, bytes] | None:
    """Return the session of a file that `render_results` wrote, and its text; ``None`` for any other file.

    Equal bytes prove all that `parse_all` checks one by one, in half the time.
    """
    try:
        session = msgspec.json.decode(content, type=Session)
        text = _text(session)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError):
        return None
    same = content.startswith(text) and content[len(text) :] == b"\n"
    current = session.schema_version == SCHEMA_VERSION and len(content) <= MAX_RESULTS_BYTES
    return (session, text) if same and current else None


def rendered_again(text: bytes) -> bytes:
    """Return the same for all texts of `session_texts` that contain the same session."""
    return _text(parse_results(text, "a merged session"))


def _text(session: Session) -> bytes:
    return _formatted(_versioned(session))


def _builtins(session: Session) -> dict[str, Any]:
    """Convert a session without figures that are not finite; each case has a note on its own figures."""
    gate = session.gate
    rest: Session = _finite(
        msgspec.structs.replace(session, cases=(), gate=msgspec.structs.replace(gate, verdicts=()))
    )
    clean = msgspec.structs.replace(
        rest,
        cases=tuple(map(_result, session.cases)),
        gate=msgspec.structs.replace(rest.gate, verdicts=tuple(map(_verdict, gate.verdicts))),
    )
    return _versioned(clean)


def _versioned(session: Session) -> dict[str, Any]:
    """Return the fields of a session, of which the version is never left out."""
    fields = {field.name: field.default for field in msgspec.structs.fields(Session)}
    values = {name: getattr(session, name) for name in fields}
    kept = {name: value for name, value in values.items() if value != fields[name]}
    return {**kept, "schema_version": session.schema_version}


def formatted_json(value: object) -> str:
    """Encode a value as JSON, with sorted keys and a newline at the end."""
    return _formatted(value).decode() + "\n"


def _formatted(value: object) -> bytes:
    # Sorted keys and lines of their own make two files comparable with diff.
    data = msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1)
    # Other than ASCII ones, JSON leaves control characters and marks of the writing direction as they are.
    if not data.isascii() or b"\x7f" in data:
        data = _NOT_ASCII.sub(
            lambda match: match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1], data.decode()
        ).encode()
    # No line begins with the content of a text, so that commands without a mark within a line cannot occur.
    return without_commands(data.decode()).encode() if b"##" in data else data


def results_schema() -> str:
    """Return the JSON Schema of results files of this version."""
    _, definitions = msgspec.json.schema_components([Session])
    top = definitions["Session"]
    top["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    top["required"] = ["schema_version", *top["required"]]
    document = {
        "$schema": SCHEMA_DIALECT,
        "title": f"infergate results, version {SCHEMA_VERSION}",
        "description": (
            "One run of pytest-infergate on one machine. Times in seconds, sizes in bytes, effects as ratios."
        ),
        "$ref": "#/$defs/Session",
        "$defs": definitions,
    }
    return formatted_json(document).replace("``", "`")


def parse_results(content: str | bytes, where: str) -> Session:
    """Parse a results file that contains a single session.

    `where` names the file in errors. Raises `StorageError` with the file, the field and a hint.
    """
    sessions = parse_all(content, where)
    if len(sessions) != 1:
        raise StorageError(
            f"{where}: must contain one session, got {len(sessions)}. Hint: use the files that were merged"
        )
    return sessions[0]


def parse_all(content: str | bytes, where: str) -> tuple[Session, ...]:
    """Parse every session of a results file or of a file that ``infergate merge`` wrote.

    Raises `StorageError` as `parse_results` does.
    """
    _check_size(content, where)
    text = _decoded(content, where)
    try:
        # The version first: a newer file would fail at some unknown field, which explains nothing.
        header = msgspec.json.decode(text, type=_Header)
        _check_version(header.schema_version, where)
        kind: type[Session | Merged] = Session if header.sessions is msgspec.UNSET else Merged
        if header.schema_version == 1:
            document = msgspec.convert(upgraded(msgspec.json.decode(text)), kind, str_keys=True)
        else:
            document = msgspec.json.decode(text, type=kind)
        sessions = document.sessions if isinstance(document, Merged) else (document,)
    except msgspec.ValidationError as error:
        raise StorageError(_invalid(str(error), where)) from None
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            raise StorageError(
                f"{where}: the JSON is incomplete, probably because writing it was interrupted. {_HINT}"
            ) from None
        raise StorageError(f"{where}: {error}. {_HINT}") from None
    except RecursionError:
        raise StorageError(f"{where}: not a results file: the JSON is nested too deeply. {_HINT}") from None
    if not sessions:
        raise StorageError(f"{where}: $.sessions must not be empty. Hint: merge at least one results file")
    for index, session in enumerate(sessions):
        _check_version(session.schema_version, where, f"$.sessions[{index}].schema_version")
    # Checking every number takes long, and few files contain a number of so many digits.
    data = content if isinstance(content, bytes) else content.encode()
    for session in sessions if _LONG_NUMBER in data.translate(_DIGITS) else ():
        _check_integers(session, where, "$")
    return sessions


def _check_size(content: str | bytes, where: str) -> None:
    """Check the size of the largest session: a merged file has as many as there are machines."""
    if len(content) <= MAX_RESULTS_BYTES:
        return
    sizes = [len(content)]
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        sessions = msgspec.json.decode(content, type=_Header).sessions
        sizes = [len(bytes(session)) for session in sessions or ()] or sizes
    if max(sizes) > MAX_RESULTS_BYTES:
        raise StorageError(
            f"{where}: the results of one run must have at most {MAX_RESULTS_BYTES / 1e6:.0f} MB, got "
            f"{max(sizes) / 1e6:,.0f} MB. Hint: measure fewer cases per run"
        )


def _decoded(content: str | bytes, where: str) -> str:
    try:
        text = content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise StorageError(f"{where}: not UTF-8 at byte {error.start}. {_HINT}") from None
    # PowerShell and some editors write a byte order mark.
    text = text.removeprefix("\ufeff")
    if not text or text.isspace():
        raise StorageError(f"{where}: the file is empty. {_HINT}")
    return text


def _check_version(version: int | None, where: str, field: str = "$.schema_version") -> None:
    if version is None:
        raise StorageError(f"{where}: not a results file: {field} is missing. {_HINT}")
    _check_integers(version, where, field)
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{where}: {field} must be at most {SCHEMA_VERSION}, got {version:.6g}: the file is from a newer "
            "version of pytest-infergate. Hint: pip install -U pytest-infergate"
        )
    if version < 1:
        raise StorageError(f"{where}: {field} must be at least 1, got {version:.6g}. {_HINT}")


def _invalid(error: str, where: str) -> str:
    """Put the field first in a message of msgspec: ``Expected `float`, got `str` - at `$.cases[0]` ``.

    The message is the only place where msgspec names the field.
    """
    place = _PLACE.search(error)
    field = place[1] if place else ""
    # A file of a stranger must not put words into the log of a job, so what it contains is not repeated.
    text = _CONTENT.sub(r"\1", error[: place.start()] if place else error)
    text = text.replace("contains unknown", "contains an unknown")
    problem = f"{field or '$'}: {text[:1].lower()}{text[1:]}"
    return f"{where}: {'' if field else 'not a results file: '}{problem}. {_HINT}"


def _check_integers(value: object, where: str, path: str) -> None:
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise StorageError(f"{where}: {path}: an integer must be at most {MAX_INTEGER}. {_HINT}")
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            _check_integers(getattr(value, name), where, f"{path}.{name}")
    elif isinstance(value, dict):
        for item in value.values():
            _check_integers(item, where, f"{path}[...]")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _check_integers(item, where, f"{path}[{index}]")


def _result(result: CaseResult) -> CaseResult:
    """Clean a result; it is invalid if a required figure of its measurement is not finite."""
    clean: CaseResult = _finite(result)
    if result.measurement is None or not (lost := tuple(_lost(result.measurement))):
        return clean
    if clean.measurement is None:
        reason = Note(
            code=NoteCode.NOT_FINITE, text=f"not finite: {', '.join(lost)}", hint="measure the case again"
        )
        return msgspec.structs.replace(clean, outcome=Outcome.INVALID, reason=reason)
    notes = (*clean.measurement.notes, _left_out(lost))
    measurement = msgspec.structs.replace(clean.measurement, notes=notes)
    return msgspec.structs.replace(clean, measurement=measurement)


def _verdict(verdict: CaseVerdict) -> CaseVerdict:
    clean: CaseVerdict = _finite(verdict)
    lost = tuple(_lost(verdict))
    return msgspec.structs.replace(clean, notes=(*clean.notes, _left_out(lost))) if lost else clean


def _left_out(lost: tuple[str, ...]) -> Note:
    return Note(code=NoteCode.NOT_FINITE, text=f"left out, because not finite: {', '.join(lost)}")


def _lost(value: object, path: str = "") -> Iterator[str]:
    """Yield the paths of figures that are not finite; a sequence of figures has one path."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _lost(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _lost(item, f"{path}[{key}]")
    elif _has_infinite(value):
        yield path
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _lost(item, f"{path}[{index}]")


def _has_infinite(value: object) -> bool:
    return isinstance(value, tuple) and any(
        isinstance(item, float) and not math.isfinite(item) for item in value
    )


def _finite(value: Any) -> Any:
    """Round figures, escape lone surrogates, and remove figures that are not finite.

    An optional field becomes ``None``, an entry of a mapping is removed, and a sequence of figures becomes
    empty. A value with a required figure that is removed is removed too. ``None`` for a removed value.
    """
    # JSON has neither NaN nor infinity, so a file with them could not be read by others.
    if isinstance(value, float):
        return round_significant(value) if math.isfinite(value) else None
    if isinstance(value, Struct):
        return _finite_struct(value)
    if isinstance(value, dict):
        return {_finite(key): kept for key, item in value.items() if (kept := _finite(item)) is not None}
    if isinstance(value, tuple):
        whole = () if _has_infinite(value) else value
        cleaned = ((item, _finite(item)) for item in whole)
        # msgspec omits only the default object itself, and Python 3.10 may make another empty tuple.
        return tuple(kept for item, kept in cleaned if kept is not None or item is None) or ()
    if type(value) is str and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _finite_struct(struct: Struct) -> Struct | None:
    kept = {}
    for name, optional in _optional(type(struct)).items():
        before = getattr(struct, name)
        kept[name] = _finite(before)
        # A value without a required field cannot exist, so it is removed as a whole.
        if kept[name] is None and before is not None and not optional:
            return None
    return type(struct)(**kept)


@functools.cache
def _optional(kind: type[Struct]) -> dict[str, bool]:
    """Return for each field of a struct whether it may be lost: whether its default is ``None``."""
    # A measurement without its times would pass for one that takes counters only.
    times = ("latency", "throughput", "cold_start", "warm_up") if kind is Measurement else ()
    return {
        field.name: field.default is None and field.name not in times
        for field in msgspec.structs.fields(kind)
    }
