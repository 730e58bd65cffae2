"""Exact counters as text, laid out for review: a file for each test module, one counter on a line, sorted.

A case starts at the margin, so that git shows it in the header of each part of a diff. It ends with the
number of its lines, so that lines lost in a merge or a truncated file are noticed. Layers have short names,
so that one more layer changes few lines.

Files of version 1 have no version of Python in their keys and no short names, and some of their counters mean
something else; until they are recorded again, they keep a mark of their version.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.places import abbreviated_places, count_places, full_place, is_label
from pytest_infergate.core.domain.records import COUNTERS_VERSION, CounterKey, CounterRecord, Tally
from pytest_infergate.core.domain.upgrade_0_1 import without_idle_operators
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate.counter_changes import merge_records
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import atomic_write, unwritable
from pytest_infergate.storage.baseline_format import RESTORE_HINT, text_of
from pytest_infergate.storage.shared_folder import check_writable, locked, unreadable

_T = TypeVar("_T")

SUFFIX = ".txt"
_HEAD = "infergate counters"
_CASE, _EVERYWHERE, _WITH = "case ", "  everywhere", "  with "
_END = re.compile(r"  end of ([0-9]{1,9}) lines")
_LAST = "end"
_VARIES = "varies"
# Keeping both sides would leave two values of a counter, and a wrong number of lines.
_KEEP_ONE_SIDE = "keep one side with `git checkout --ours {source}`, then run again with --infer-save"
_PART = re.compile(r"[\w-][\w. +=@-]*")
_COUNTER = re.compile(r"    ([a-z_]+(?: \w+)?) ([0-9]{1,24}|varies)")
# The calls of an operator in all places are written for readers only: they follow from the other lines.
_SUM = re.compile(r"    \S*[.:]\S* [0-9]+")
_OPERATOR = re.compile(
    r"    (\S+): ([0-9]{1,15}) calls?, ([0-9]{1,24}) flops, ([0-9]{1,24}) bytes(?: in (.+))?"
)
_PLACES = re.compile(r"    places (.+) = ([0-9,-]+)")
_OLDER = re.compile(r"    counted by version ([1-9][0-9]{0,8})")
_PREAMBLE = """\
# Exact counters of {module}: the work of one call of each case.
# Written by pytest --infer-save. Review a change here like a change of code.
# Sizes are in bytes; a multiplication and an addition are two flops. The figures of an operator "in" several
# places are those of each place: "in layer.*" means each number in the line "places layer.*".
"""


class CounterFiles:
    """The recorded counters below a folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> dict[Case, CounterRecord]:
        """Read all records. Raises `StorageError` with file and line if a file cannot be read."""
        records: dict[Case, CounterRecord] = {}
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise StorageError(
                    f"{self.folder} must be a folder. Hint: choose another one for the counters"
                )
            paths = sorted(path for path in self.folder.rglob(f"*{SUFFIX}") if path.is_file())
        except OSError as error:
            raise unreadable(self.folder, error) from error
        for path in paths:
            records |= _read(path)
        return records

    def record(self, records: Iterable[CounterRecord], removed: Iterable[Case] = ()) -> int:
        """Merge records in and remove cases; return how many files changed.

        A file whose content does not change is not written, and a file without cases is deleted. Raises
        `StorageError`.
        """
        removed_cases = frozenset(removed)
        by_module: dict[str, list[CounterRecord]] = {case.module: [] for case in removed_cases}
        for record in records:
            by_module.setdefault(record.case.module, []).append(record)
        changed = 0
        if not by_module:
            return changed  # a folder without a file would say that something was recorded
        with locked(self.folder):
            for module, new in sorted(by_module.items()):
                path = self.folder / file_name(module)
                before = _read(path) if path.exists() else {}
                after = {case: record for case, record in before.items() if case not in removed_cases}
                for record in new:
                    merged = merge_records(after.pop(record.case, None), record)
                    if merged.tallies:
                        after[record.case] = merged
                # Records are compared and not texts, so that a new preamble changes no file by itself.
                if after != before:
                    _write(path, module, after)
                    changed += 1
        return changed

    def check_writable(self) -> None:
        """Raise `StorageError` if `record` would fail."""
        check_writable(self.folder)


def file_name(module: str) -> str:
    """Return the file of a test module below the folder: ``tests/test_model.py.txt``.

    A module whose path is too long or might lead out of the folder has its hash in the name.
    """
    data = module.encode("utf-8", "backslashreplace")
    if all(map(_PART.fullmatch, module.split("/"))) and len(data) < 200:  # noqa: PLR2004 - file systems allow 255
        return f"{module}{SUFFIX}"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", module)[-60:].strip("-") or "module"
    return f"{readable}-{hashlib.sha256(data).hexdigest()[:8]}{SUFFIX}"


def encode_counters(module: str, records: Mapping[Case, CounterRecord]) -> str:
    """Return the text of the records of a test module."""
    lines = [_PREAMBLE.format(module=_json(module)), f"{_HEAD} {COUNTERS_VERSION}\n"]
    # In a fixed order, so that a diff shows changes only.
    for case in sorted(records, key=lambda case: case.order):
        body = []
        for tally in records[case].tallies:
            body.append(f"{_EVERYWHERE if tally.key == CounterKey() else _WITH + _json(tally.key)}\n")
            if tally.version < COUNTERS_VERSION:
                body.append(f"    counted by version {tally.version}\n")
            body += [f"    {name} {figure}\n" for name, figure in sorted(_figures(tally).items())]
            short, meanings = abbreviated_places(row.place for row in tally.operators)
            body += [f"    places {_escaped(place)} = {label}\n" for place, label in sorted(meanings.items())]
            # By short names, whose order does not depend on the number of layers.
            for row in sorted(tally.operators, key=lambda row: (row.operator, short[row.place])):
                calls = f"{row.calls} call{'' if row.calls == 1 else 's'}"
                place = f" in {_escaped(short[row.place])}" if row.place else ""
                body.append(f"    {row.operator}: {calls}, {row.flops} flops, {row.bytes} bytes{place}\n")
        lines += [f"\n{_CASE}{_json(case)}\n", *body, f"  end of {len(body)} lines\n"]
    return "".join((*lines, f"\n{_LAST}\n"))


def _figures(tally: Tally) -> dict[str, int | str]:
    """Return the counters of a tally, and the calls of each operator in all places."""
    figures: dict[str, int | str] = {
        name: _VARIES if value is None else value for name, value in tally.counters.items()
    }
    sums: Counter[str] = Counter()
    for row in tally.operators:
        sums[row.operator] += row.calls * count_places(row.place)
    return figures | sums


def _escaped(place: str) -> str:
    return json.dumps(place, ensure_ascii=False)[1:-1]


def _json(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


def decode_counters(data: bytes, source: str) -> dict[Case, CounterRecord]:
    """Read the text of `encode_counters`.

    `source` names the file in errors. Raises `StorageError` with the line and a hint.
    """
    reader = _Reader(source)
    for number, line in enumerate(text_of(data, source, _KEEP_ONE_SIDE).split("\n"), 1):
        line = line.rstrip("\r")  # noqa: PLW2901 - editors on Windows add it
        if line.strip() and not line.startswith("#"):
            reader.read(number, line)
    return reader.records(number)


class _Lines(NamedTuple):
    """The lines of a case under one key."""

    counters: dict[str, int | None]
    operators: dict[tuple[str, str], OperatorWork]
    """By their name and the short form of their place."""
    places: dict[str, str]
    """Numbers by the short form of a path that ends with them."""
    versions: list[int]
    """The version that counted, if it is not that of the file."""

    def tally(self, key: CounterKey, version: int) -> Tally:
        """Return what the lines say; `version` is that of the file."""
        rows = self.operators.values()
        operators = sorted(
            msgspec.structs.replace(row, place=full_place(row.place, self.places)) for row in rows
        )
        version = min((version, *self.versions))
        tally = Tally(key=key, version=version, counters=self.counters, operators=tuple(operators))
        return without_idle_operators(tally) if version == 1 else tally


class _Reader:
    """Reads one file line by line."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._version = 0
        self._ended = False
        self._case: Case | None = None
        self._key: CounterKey | None = None
        self._lines = 0
        """Lines of the case so far."""
        self._found: dict[Case, dict[CounterKey, _Lines]] = {}

    def read(self, number: int, line: str) -> None:
        """Read a line that is neither blank nor a comment."""
        if not self._version:
            self._read_version(number, line)
        elif self._ended:
            raise self._wrong(number, f"nothing may follow {_LAST!r}")
        elif line == _LAST or line.startswith(_CASE):
            if self._case is not None:
                raise self._wrong(number, "the case before this line has no end")
            if line == _LAST:
                self._ended = True
                return
            case = self._parsed(line.removeprefix(_CASE), Case, number)
            if case in self._found:
                raise self._wrong(number, "the file contains this case twice")
            self._case, self._key, self._lines = case, None, 0
            self._found[case] = {}
        elif self._case is None:
            raise self._wrong(number, "this line belongs to no case")
        else:
            self._read_line(self._case, number, line)

    def records(self, number: int) -> dict[Case, CounterRecord]:
        """Return the records of all lines; `number` is that of the last line."""
        if not self._version:
            raise self._wrong(number, f"the file must start with {_HEAD!r} and a version")
        if not self._ended:
            raise self._wrong(number, f"the file must close with {_LAST!r}")
        return {
            case: CounterRecord(
                case=case,
                tallies=tuple(lines.tally(key, self._version) for key, lines in tallies.items()),
            )
            for case, tallies in self._found.items()
        }

    def _read_version(self, number: int, line: str) -> None:
        version = re.fullmatch(rf"{_HEAD} ([1-9][0-9]{{0,8}})", line)
        if version is None:
            raise self._wrong(number, f"the file must start with {_HEAD!r} and a version")
        if int(version[1]) > COUNTERS_VERSION:
            raise StorageError(
                f"{self._source}: the version must be at most {COUNTERS_VERSION}, got {version[1]}, which a "
                "newer infergate wrote. Hint: upgrade pytest-infergate"
            )
        self._version = int(version[1])

    def _read_line(self, case: Case, number: int, line: str) -> None:
        """Read a line of a case."""
        end = _END.fullmatch(line)
        if end is not None:
            if int(end[1]) != self._lines:
                raise self._wrong(number, f"the case must have {end[1]} lines, got {self._lines}")
            self._case = None
            return
        self._lines += 1
        if line == _EVERYWHERE or line.startswith(_WITH):
            text = "{}" if line == _EVERYWHERE else line.removeprefix(_WITH)
            self._key = self._parsed(text, CounterKey, number)
        elif self._key is None:
            raise self._wrong(number, f"a line {_EVERYWHERE!r} or {_WITH!r} must come first in a case")
        elif not _SUM.fullmatch(line):
            self._read_counter(self._found[case].setdefault(self._key, _Lines({}, {}, {}, [])), number, line)

    def _read_counter(self, lines: _Lines, number: int, line: str) -> None:
        counter, operator = _COUNTER.fullmatch(line), _OPERATOR.fullmatch(line)
        places, older = _PLACES.fullmatch(line), _OLDER.fullmatch(line)
        if older is not None:
            lines.versions.append(int(older[1]))
        elif places is not None and is_label(places[2]):
            path = self._parsed(f'"{places[1]}"', str, number)
            if lines.places.setdefault(path, places[2]) != places[2]:
                raise self._wrong(number, f"the case has two meanings of {path}")
        elif counter is not None:
            name, value = counter.groups()
            figure = None if value == _VARIES else int(value)
            # The same line twice may remain of a resolved conflict, and does no harm.
            if lines.counters.setdefault(name, figure) != figure:
                raise self._wrong(number, f"the case has two values of {name}")
        elif operator is not None:
            name, calls, flops, bytes_, place = operator.groups()
            row = OperatorWork(
                operator=name,
                place="" if place is None else self._parsed(f'"{place}"', str, number),
                calls=int(calls),
                flops=int(flops),
                bytes=int(bytes_),
            )
            if lines.operators.setdefault((name, row.place), row) != row:
                raise self._wrong(number, f"the case has two values of {name} in one place")
        else:
            raise self._wrong(number, "the line is neither a counter nor an operator")

    def _parsed(self, text: str, kind: type[_T], number: int) -> _T:
        try:
            # The standard library reads escapes of bytes that are not text, which names of files may contain.
            return msgspec.convert(json.loads(text), kind)
        except json.JSONDecodeError as error:
            raise self._wrong(number, error.msg) from error
        except (ValueError, RecursionError) as error:
            raise self._wrong(number, str(error)) from error

    def _wrong(self, number: int, what: str) -> StorageError:
        return StorageError(f"{self._source}, line {number}: {what}. Hint: {RESTORE_HINT}")


def _read(path: Path) -> dict[Case, CounterRecord]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return decode_counters(data, str(path))


def _write(path: Path, module: str, records: Mapping[Case, CounterRecord]) -> None:
    try:
        if records:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, encode_counters(module, records))
        else:
            path.unlink()
    except OSError as error:
        raise unwritable(path, error) from error
