"""A session as a results file: JSON text out, JSON text in, and the schema between them."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pytest_infergate.core.domain.model import SCHEMA_VERSION, Note, Struct
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Merged, Outcome, Session
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.domain.version_1 import upgraded
from pytest_infergate.errors import StorageError

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
LARGEST_BYTES = 256 * 10**6
"""A results file of five thousand cases has about 15 MB."""
LARGEST_INTEGER = 2**63 - 1
_AGAIN = "write it again with --infer-json"
_LONG_NUMBER = re.compile(r"\d{19}")


class _Header(msgspec.Struct):
    schema_version: int | None = None
    sessions: msgspec.Raw = msgspec.Raw()
    """What only a merged file has."""


def render_results(session: Session) -> str:
    """Write a session as JSON: keys sorted, figures to five significant digits, a newline at the end.

    A figure that is not a finite number is left out, with a note where the case says it.
    """
    return formatted_json(_builtins(session))


def render_merged(sessions: Iterable[Session]) -> str:
    """Write sessions of several machines as one file, in the order in which they come."""
    return formatted_json(
        {"schema_version": SCHEMA_VERSION, "sessions": [_builtins(session) for session in sessions]}
    )


def _builtins(session: Session) -> dict[str, Any]:
    """Clean a session, its cases and verdicts one by one, so that each says itself what it lost."""
    gate = session.gate
    rest: Session = _finite(
        msgspec.structs.replace(session, cases=(), gate=msgspec.structs.replace(gate, verdicts=()))
    )
    clean = msgspec.structs.replace(
        rest,
        cases=tuple(map(_result, session.cases)),
        gate=msgspec.structs.replace(rest.gate, verdicts=tuple(map(_verdict, gate.verdicts))),
    )
    return {**msgspec.to_builtins(clean), "schema_version": clean.schema_version}


def formatted_json(value: object) -> str:
    """Encode a value as JSON, with sorted keys and a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1).decode() + "\n"


def results_schema() -> str:
    """Write the JSON Schema that every results file of this version meets."""
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
    """Read a results file.

    `where` names the file in errors. Raises `StorageError` with the file, the field and a hint.
    """
    sessions = parse_all(content, where)
    if len(sessions) != 1:
        raise StorageError(f"{where}: holds {len(sessions)} sessions, and one is asked for; give its parts")
    return sessions[0]


def parse_all(content: str | bytes, where: str) -> tuple[Session, ...]:
    """Read a results file, or one that `infergate merge` wrote: every session in it.

    Raises `StorageError` as `parse_results` does.
    """
    text = _decoded(content, where)
    try:
        # The version first: a newer file would fail at some unknown field, which explains nothing.
        header = msgspec.json.decode(text, type=_Header)
        _check_version(header.schema_version, where)
        kind: type[Session | Merged] = Merged if bytes(header.sessions) else Session
        if header.schema_version == 1:
            document = msgspec.convert(upgraded(msgspec.json.decode(text)), kind, str_keys=True)
        else:
            document = msgspec.json.decode(text, type=kind)
        sessions = document.sessions if isinstance(document, Merged) else (document,)
    except msgspec.ValidationError as error:
        raise StorageError(_invalid(str(error), where)) from None
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            why = "the JSON ends too early, as if writing it had been cut off"
            raise StorageError(f"{where}: {why}; {_AGAIN}") from None
        raise StorageError(f"{where}: {error}; {_AGAIN}") from None
    except RecursionError:
        raise StorageError(f"{where}: not a results file: its JSON is nested too deep; {_AGAIN}") from None
    if not sessions:
        raise StorageError(f"{where}: $.sessions: there is none; merge at least one results file")
    for index, session in enumerate(sessions):
        _check_version(session.schema_version, where, f"$.sessions[{index}].schema_version")
    # Walking over every number of a file takes long, and few files have one of so many digits.
    for session in sessions if _LONG_NUMBER.search(text) else ():
        _check_integers(msgspec.to_builtins(session), where, "$")
    return sessions


def _decoded(content: str | bytes, where: str) -> str:
    if len(content) > LARGEST_BYTES:
        raise StorageError(
            f"{where}: {len(content) / 1e6:,.0f} MB is too large for a results file, which may have "
            f"{LARGEST_BYTES / 1e6:.0f} MB; measure fewer cases a run"
        )
    try:
        text = content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise StorageError(f"{where}: not UTF-8 at byte {error.start}; {_AGAIN}") from None
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise StorageError(f"{where}: the file is empty; {_AGAIN}")
    return text


def _check_version(version: int | None, where: str, field: str = "$.schema_version") -> None:
    if version is None:
        raise StorageError(f"{where}: {field}: missing, so this is not a results file; {_AGAIN}")
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{where}: {field}: {version:.6g}, and this infergate reads up to {SCHEMA_VERSION}: "
            "written by a newer infergate: upgrade with pip install -U pytest-infergate"
        )
    if version < 1:
        raise StorageError(f"{where}: {field}: {version:.6g}, and the first is 1; {_AGAIN}")


def _invalid(error: str, where: str) -> str:
    """Put the field first in a message of msgspec: ``Expected `float`, got `str` - at `$.cases[0]` ``.

    The message is the only place where msgspec names the field.
    """
    text, _, path = error.partition(" - at `")
    field = path.rstrip("`")
    if not field:
        return f"{where}: $: {text[:1].lower()}{text[1:]}, so this is not a results file; {_AGAIN}"
    return f"{where}: {field}: {text[:1].lower()}{text[1:]}; {_AGAIN}"


def _check_integers(value: object, where: str, path: str) -> None:
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise StorageError(f"{where}: {path}: the number is absurdly large; {_AGAIN}")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_integers(item, where, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_integers(item, where, f"{path}[{index}]")


def _result(result: CaseResult) -> CaseResult:
    """Clean a result; one whose measurement lacks a number that must be there is invalid."""
    clean: CaseResult = _finite(result)
    if result.measurement is None or not (lost := tuple(_lost(result.measurement))):
        return clean
    if clean.measurement is None:
        reason = Note(
            code=NoteCode.NOT_FINITE, text=f"no finite number: {', '.join(lost)}", hint="measure it again"
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
    return Note(code=NoteCode.NOT_FINITE, text=f"left out, no finite number: {', '.join(lost)}")


def _lost(value: object, path: str = "") -> Iterator[str]:
    """Name the figures below `value` that are not finite numbers, a sequence of figures by its own name."""
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
    """Round figures, spell out lone surrogates, and leave out what is not a finite number.

    An optional field becomes ``None``, an entry of a table goes, a sequence of figures becomes empty;
    where a required figure is lost, what holds it is lost too. ``None`` for what is lost.
    """
    if isinstance(value, float):
        return round_significant(value) if math.isfinite(value) else None
    if isinstance(value, Struct):
        return _finite_struct(value)
    if isinstance(value, dict):
        return {_finite(key): kept for key, item in value.items() if (kept := _finite(item)) is not None}
    if isinstance(value, tuple):
        whole = () if _has_infinite(value) else value
        cleaned = ((item, _finite(item)) for item in whole)
        # Python 3.10 makes empty tuples that are not the default, and so are not left out.
        return tuple(kept for item, kept in cleaned if kept is not None or item is None) or ()
    if type(value) is str and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _finite_struct(struct: Struct) -> Struct | None:
    kept = {}
    for name, optional in _optional(type(struct)).items():
        before = getattr(struct, name)
        kept[name] = _finite(before)
        if kept[name] is None and before is not None and not optional:
            return None
    return type(struct)(**kept)


@functools.cache
def _optional(kind: type[Struct]) -> dict[str, bool]:
    """Which fields of a noun may be ``None`` because that is their default."""
    return {field.name: field.default is None for field in msgspec.structs.fields(kind)}
