"""The text of a baseline: validated when it is read, laid out for review when it is written.

Any store may use it. A session is one line, and the comma between two sessions is at the start of the second.
A new session is therefore exactly one new line in a diff. If two branches each recorded a session, keeping
the lines of both sides of the merge conflict gives valid JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pytest_infergate.core.domain.records import Baseline, BaselinePoint
from pytest_infergate.core.domain.stats import MAX_SECONDS, MAX_SHARE, MIN_SECONDS
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.domain.upgrade_0_1 import upgraded
from pytest_infergate.core.domain.values import SCHEMA_VERSION
from pytest_infergate.core.gate.baseline import merge_baselines
from pytest_infergate.errors import StorageError

RESTORE_HINT = "restore it from version control, or delete it and record it again with --infer-save"
_CONFLICT = re.compile(r"^(<{7} |>{7} |\|{7} |={7}\r?$)", re.MULTILINE)
_KEEP_BOTH_SIDES = (
    "keep both sides by deleting the marker lines, or keep one side with `git checkout --ours {source}`, "
    "then run again with --infer-save"
)
MAX_COUNT = 10**15
"""Maximum number of calls, cores, items of a batch or page faults in a baseline."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def decode_baseline(data: bytes, source: str) -> Baseline:
    """Read the text of a baseline, with its cases sorted and the sessions of each from the oldest on.

    `source` names the file in errors. Raises `StorageError` with the line or the field and a hint.
    """
    # A conflict is reported before JSON is parsed, whose error would not name it.
    raw = _parse(text_of(data, source), source)
    if raw.get("schema_version") == 1:
        raw = upgraded(raw)
    try:
        baseline = msgspec.convert(raw, Baseline)
    # A half of a surrogate pair is a `ValueError` in some places; in the id of a test, it is valid.
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        raise StorageError(
            f"{source} does not match the schema of baselines: {error}. "
            f"Hint: correct that field, or {RESTORE_HINT}"
        ) from error
    _check(baseline, source, f"correct that field, or {RESTORE_HINT}")
    # Merging sorts cases and sessions, and joins a case that a resolved conflict left twice.
    return merge_baselines(None, baseline)


def check_session(session: Baseline) -> None:
    """Raise `StorageError` with the first field of a session that has an impossible value."""
    _check(session, "this session", "correct what measured it; nothing of the session was recorded")


def encode_baseline(baseline: Baseline) -> str:
    """Return the text of a baseline: one line for each session, figures with five significant digits."""
    raw = msgspec.to_builtins(baseline)
    for entry in raw.get("cases", ()):
        for point in (*entry["sessions"], *entry.get("anchor", ())):
            # More digits are noise, and would make every line of a diff longer.
            point["p50"] = round_significant(point["p50"])
            if "reference_work" in point:
                times = sorted(point["reference_work"].items())
                point["reference_work"] = {name: round_significant(value) for name, value in times}
    cases = [
        f'{{"case": {_line(entry["case"])}, '
        + ", ".join(
            f'"{key}": [\n{_rows(map(_line, entry[key]), 6)}    ]'
            for key in ("sessions", "accepted", "anchor")
            if key in entry
        )
        + "}"
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
    """Return the text of a JSON Schema (draft 2020-12) for the documents that `decode_baseline` reads."""
    # msgspec describes types; the bounds of values are those of `_impossible_values`.
    described: dict[str, Any] = msgspec.json.schema(Baseline)
    point = described["$defs"]["BaselinePoint"]["properties"]
    point["created"]["pattern"] = f"^{_DATE.pattern}"
    point["count"] |= {"minimum": 1, "maximum": MAX_COUNT}
    point["contention"]["anyOf"][0] |= {"minimum": 0, "maximum": MAX_SHARE}
    point["page_faults"]["anyOf"][0] |= {"minimum": 0, "maximum": MAX_COUNT}
    for time in (point["p50"], point["reference_work"]["additionalProperties"]):
        time |= {"minimum": MIN_SECONDS, "maximum": MAX_SECONDS}
    described["$defs"]["Baseline"]["properties"]["schema_version"] |= {
        "minimum": 1,
        "maximum": SCHEMA_VERSION,
    }
    described |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"infergate baseline, version {SCHEMA_VERSION}",
        "description": "The recorded sessions of one hardware class. Times in seconds, memory in bytes.",
    }
    return json.dumps(described, indent=1, sort_keys=True) + "\n"


def text_of(data: bytes, source: str, conflict_hint: str = _KEEP_BOTH_SIDES) -> str:
    """Decode a file that people merge. Raises `StorageError` if it is not UTF-8 or has conflict markers.

    `conflict_hint` says how to resolve a conflict of such a file.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StorageError(
            f"{source} is not UTF-8 text (byte {error.start}). Hint: {RESTORE_HINT}"
        ) from error
    conflict = _CONFLICT.search(text)
    if conflict is None:
        return text
    line = text.count("\n", 0, conflict.start()) + 1
    raise StorageError(
        f"{source} contains git conflict markers (line {line}). Hint: {conflict_hint.format(source=source)}"
    )


def _parse(text: str, source: str) -> dict[str, Any]:
    """Parse a JSON object of a known schema version."""
    try:
        # The standard library reports line and column, and accepts NaN, which `_check` then refuses by field.
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        # A file that is cut off, by a full disk for example, has its error at the end.
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        ends = ": it ends too early" if cut else ""
        where = f"line {error.lineno} column {error.colno}"
        raise StorageError(
            f"{source} is not JSON{ends} ({error.msg}, {where}). Hint: {RESTORE_HINT}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise StorageError(f"{source} is not a baseline ({error}). Hint: {RESTORE_HINT}") from error
    if not isinstance(raw, dict):
        kinds = {list: "array", str: "string", bool: "boolean", type(None): "null"}
        kind = kinds.get(type(raw), "number")
        raise StorageError(f"{source} must be a JSON object, got a JSON {kind}. Hint: {RESTORE_HINT}")
    # Before the schema is applied: a newer file has fields that are unknown here.
    version = raw.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StorageError(
            f"{source}: `$.schema_version` must be at most {SCHEMA_VERSION}, got {version}, which a newer "
            "infergate wrote. Hint: upgrade pytest-infergate"
        )
    if isinstance(version, int) and version < 1:
        raise StorageError(
            f"{source}: `$.schema_version` must be at least 1, got {version}. Hint: {RESTORE_HINT}"
        )
    return raw


def _check(baseline: Baseline, source: str, hint: str) -> None:
    """Raise `StorageError` with the first field that has an impossible value."""
    problem = next(_impossible_values(baseline), None)
    if problem is not None:
        field, text = problem
        raise StorageError(f"{source}: `{field}` {text}. Hint: {hint}")


def _impossible_values(baseline: Baseline) -> Iterator[tuple[str, str]]:
    """Yield field and text for each value that no measurement can have."""
    hardware = baseline.hardware
    texts = filter(None, (hardware.cpu_model, hardware.accelerator, hardware.driver, *hardware.isa))
    # The id of the class is a hash of these texts.
    if any(map(_SURROGATE.search, texts)):
        yield "$.hardware", "must not contain a half of a surrogate pair"
    outside = "must be at least {:g} and at most {:g}, got {}".format
    if not 1 <= hardware.cores <= MAX_COUNT:
        yield "$.hardware.cores", outside(1, MAX_COUNT, hardware.cores)
    for number, entry in enumerate(baseline.cases):
        if not 1 <= entry.case.batch_size <= MAX_COUNT:
            yield f"$.cases[{number}].case.batch_size", outside(1, MAX_COUNT, entry.case.batch_size)
        for key in ("sessions", "anchor"):
            for index, point in enumerate(getattr(entry, key)):
                # The names of fields are made for an impossible one only: a history has many points.
                for field, text in _impossible_figures(point):
                    yield f"$.cases[{number}].{key}[{index}].{field}", text


def _impossible_figures(point: BaselinePoint) -> Iterator[tuple[str, str]]:
    """Yield field and text for each impossible value of one session."""
    if not _DATE.match(point.created):
        yield "created", f"must be a UTC time like 2026-01-31T12:00:00Z, got {point.created!r}"
    times = [
        ("p50", point.p50),
        *((f"reference_work.{name}", one) for name, one in point.reference_work.items()),
    ]
    bounded = [(field, one, MIN_SECONDS, MAX_SECONDS) for field, one in times]
    bounded += [
        ("count", point.count, 1, MAX_COUNT),
        ("contention", point.contention or 0, 0, MAX_SHARE),
        ("page_faults", point.page_faults or 0, 0, MAX_COUNT),
    ]
    for field, figure, least, most in bounded:
        if not least <= figure <= most:
            yield field, f"must be at least {least:g} and at most {most:g}, got {figure}"


def _line(raw: object) -> str:
    # Readable names in a diff; NaN is refused because JSON does not have it.
    return json.dumps(raw, ensure_ascii=False, allow_nan=False)


def _rows(rows: Iterable[str], indent: int) -> str:
    """Join rows, one per line, with the commas at the start of lines."""
    first, later = " " * indent, " " * (indent - 1) + ","
    return "".join(f"{later if number else first}{row}\n" for number, row in enumerate(rows))
