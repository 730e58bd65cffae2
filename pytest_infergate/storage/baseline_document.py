"""A baseline as text: validated when read, laid out for review when written. Any store may use it.

A session is one line, and the comma that parts it from its neighbour stands before it. So one more
session is one more line in a diff, nothing else; and where two branches each recorded a session, the
lines of both sides, kept as they are, are valid JSON again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from pytest_infergate.core.domain.model import SCHEMA_VERSION
from pytest_infergate.core.domain.records import Baseline, BaselinePoint
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.domain.version_1 import upgraded
from pytest_infergate.core.gate.baseline import merge_baselines
from pytest_infergate.errors import StorageError

RESTORE_HINT = "restore it from version control, or delete it and record anew with --infer-save"
_CONFLICT = re.compile(r"^(<{7} |>{7} |\|{7} |={7}\r?$)", re.MULTILINE)
_BOTH_SIDES = (
    "take both sides by deleting the marker lines, or one side with `git checkout --ours {source}`, "
    "then run again with --infer-save"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def decode_baseline(data: bytes, source: str) -> Baseline:
    """Read the text of a baseline, its cases sorted and its sessions oldest first.

    Raises `StorageError` that names `source`, the line or the field, and the cure.
    """
    raw = _parse(text_of(data, source), source)
    _check_version(raw, source)
    if raw.get("schema_version") == 1:
        raw = upgraded(raw)
    try:
        baseline = msgspec.convert(raw, Baseline)
    except (msgspec.ValidationError, OverflowError) as error:
        text = (
            f"{source} does not fit the schema of baselines: {error}; correct that field, or {RESTORE_HINT}"
        )
        raise StorageError(text) from error
    _check(baseline, source, f"correct that field, or {RESTORE_HINT}")
    return merge_baselines(None, baseline)


def check_session(session: Baseline) -> None:
    """Refuse to record values that cannot be: `StorageError` names the first such field."""
    _check(session, "this session", "correct what measured it; nothing of the session was recorded")


def _check(baseline: Baseline, source: str, hint: str) -> None:
    problem = next(_nonsense(baseline), None)
    if problem is not None:
        field, words = problem
        raise StorageError(f"{source}: `{field}` {words}; {hint}")


def encode_baseline(baseline: Baseline) -> str:
    """Lay a baseline out: a session a line, figures with five significant digits, a newline at the end."""
    raw = msgspec.to_builtins(baseline)
    cases = [
        f'{{"case": {_line(entry["case"])}, "sessions": [\n{_rows(map(_point, entry["sessions"]), 6)}    ]}}'
        for entry in raw.get("cases", ())
    ]
    packages = [f"{_line(key)}: {_line(versions)}" for key, versions in raw.get("packages", {}).items()]
    return (
        "{\n"
        f'  "schema_version": {baseline.schema_version},\n'
        f'  "hardware": {_line(raw["hardware"])},\n'
        f'  "cases": [\n{_rows(cases, 4)}  ],\n'
        f'  "packages": {{\n{_rows(packages, 4)}  }}\n'
        "}\n"
    )


def baseline_schema() -> str:
    """Describe what `decode` reads, as the text of a JSON Schema (draft 2020-12)."""
    described: dict[str, Any] = msgspec.json.schema(Baseline)
    point = described["$defs"]["BaselinePoint"]["properties"]
    point["created"]["pattern"] = f"^{_DATE.pattern}"
    point["p50"]["exclusiveMinimum"] = 0
    point["count"]["minimum"] = 1
    point["reference_work"]["additionalProperties"]["exclusiveMinimum"] = 0
    described["$defs"]["Baseline"]["properties"]["schema_version"] |= {
        "minimum": 1,
        "maximum": SCHEMA_VERSION,
    }
    described |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"infergate baseline, version {SCHEMA_VERSION}",
        "description": "What is known of one hardware class. Times in seconds, memory in bytes.",
    }
    return json.dumps(described, indent=1, sort_keys=True) + "\n"


def text_of(data: bytes, source: str, merge: str = _BOTH_SIDES) -> str:
    """Decode a file that people merge. Raises `StorageError` for what is no text, or holds a conflict.

    `merge` says how to mend a conflict.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StorageError(f"{source} is not UTF-8 text (byte {error.start}); {RESTORE_HINT}") from error
    conflict = _CONFLICT.search(text)
    if conflict is None:
        return text
    line = text.count("\n", 0, conflict.start()) + 1
    raise StorageError(f"{source} holds git conflict markers (line {line}); {merge.format(source=source)}")


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        # The standard library names line and column, and reads NaN, which `_check` then refuses by field.
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        ends = ": it ends too early" if cut else ""
        raise StorageError(f"{source} is not JSON{ends} ({error.msg}, {where}); {RESTORE_HINT}") from error
    except (RecursionError, ValueError) as error:
        raise StorageError(f"{source} is not a baseline ({error}); {RESTORE_HINT}") from error
    if isinstance(raw, dict):
        return raw
    raise StorageError(f"{source} holds a JSON {_kind(raw)} where a baseline is an object; {RESTORE_HINT}")


def _kind(raw: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(raw), "number")


def _check_version(raw: dict[str, Any], source: str) -> None:
    version = raw.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or 1 <= version <= SCHEMA_VERSION:
        return
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{source}: `$.schema_version` is {version}, written by a newer infergate than this one, which "
            f"reads up to {SCHEMA_VERSION}; upgrade pytest-infergate"
        )
    raise StorageError(f"{source}: `$.schema_version` is {version}, and versions begin at 1; {RESTORE_HINT}")


def _nonsense(baseline: Baseline) -> Iterator[tuple[str, str]]:
    """Field and what is wrong with it, for each value that cannot be."""
    if baseline.hardware.cores < 1:
        yield "$.hardware.cores", f"is {baseline.hardware.cores}, and a machine has at least 1 core"
    for number, entry in enumerate(baseline.cases):
        if entry.case.batch_size < 1:
            yield f"$.cases[{number}].case.batch_size", f"is {entry.case.batch_size}, and the smallest is 1"
        for index, point in enumerate(entry.sessions):
            for field, words in _nonsense_point(point):
                yield f"$.cases[{number}].sessions[{index}].{field}", words


def _nonsense_point(point: BaselinePoint) -> Iterator[tuple[str, str]]:
    if not _DATE.match(point.created):
        yield "created", f"is {point.created!r}, and must be a UTC time such as 2026-01-31T12:00:00Z"
    times = {
        "p50": point.p50,
        **{f"yardsticks.{name}": value for name, value in point.reference_work.items()},
    }
    for field, value in times.items():
        if not (math.isfinite(value) and value > 0):
            yield field, f"is {value}, and a time must be above 0 seconds and finite"
    if point.count < 1:
        yield "count", f"is {point.count}, and a median needs at least 1 call"


def _point(raw: dict[str, Any]) -> str:
    rounded = {**raw, "p50": round_significant(raw["p50"])}
    if "reference_work" in raw:
        reference_work = sorted(raw["reference_work"].items())
        rounded["reference_work"] = {name: round_significant(value) for name, value in reference_work}
    return _line(rounded)


def _line(raw: object) -> str:
    return json.dumps(raw, ensure_ascii=False, allow_nan=False)


def _rows(rows: Iterator[str] | list[str], indent: int) -> str:
    """One row a line; the comma stands before a row, so that neighbours of a new row stay as they are."""
    first, later = " " * indent, " " * (indent - 1) + ","
    return "".join(f"{later if number else first}{row}\n" for number, row in enumerate(rows))
