"""Exact counters in text made for review: a file a test module, a counter a line, sorted.

A case begins at the margin, so that git shows it above each part of a diff, and ends with the number of
its lines, so that a merge or a cut that lost some is seen.
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
from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally
from pytest_infergate.core.gate.counter_changes import count_places, merged
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import atomic_write, unwritable
from pytest_infergate.storage.baseline_document import RESTORE_HINT, text_of
from pytest_infergate.storage.folder import check_writable, locked, unreadable

_T = TypeVar("_T")

COUNTERS_VERSION = 1
SUFFIX = ".txt"
_HEAD = "infergate counters"
_CASE, _EVERYWHERE, _WITH = "case ", "  everywhere", "  with "
_END = re.compile(r"  end of ([0-9]{1,9}) lines")
_ONE_SIDE = "take one side with `git checkout --ours {source}`, then run again with --infer-save"
_VARIES = "varies"
_LAST = "end"
_PART = re.compile(r"[\w-][\w. +=@-]*")
_COUNTER = re.compile(r"    ([a-z_]+(?: \w+)?) ([0-9]{1,24}|varies)")
_SUM = re.compile(r"    \S*[.:]\S* [0-9]+")
"""Calls of an operator in all places: for the eye, it follows from the rest."""
_OPERATOR = re.compile(
    r"    (\S+): ([0-9]{1,15}) calls?, ([0-9]{1,24}) flops, ([0-9]{1,24}) bytes(?: in (.+))?"
)
_PREAMBLE = """\
# Exact counters of {module}: what one call of each case does.
# Written by pytest --infer-save. Review a change here as you review code.
# Bytes in bytes; one multiplication and addition are two flops; figures of an operator "in" several
# places, as layer.{{0-5}}, are those of each.
"""


class CounterFiles:
    """The counters on record below one folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> dict[Case, CounterRecord]:
        """Every record. Raises `StorageError` for a file that cannot be read, naming file and line."""
        records: dict[Case, CounterRecord] = {}
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise StorageError(f"{self.folder} is no folder; choose another place for the counters")
            paths = sorted(path for path in self.folder.rglob(f"*{SUFFIX}") if path.is_file())
        except OSError as error:
            raise unreadable(self.folder, error) from error
        for path in paths:
            records |= _read(path)
        return records

    def record(self, records: Iterable[CounterRecord], gone: Iterable[Case] = ()) -> int:
        """Join records in and take cases out; returns how many files changed.

        A file whose content stays the same is not touched, one without a case left is removed.
        Raises `StorageError`.
        """
        lost = frozenset(gone)
        by_module: dict[str, list[CounterRecord]] = {case.module: [] for case in lost}
        for record in records:
            by_module.setdefault(record.case.module, []).append(record)
        with locked(self.folder):
            return sum(self._rewrite(module, new, lost) for module, new in sorted(by_module.items()))

    def check_writable(self) -> None:
        """Raise `StorageError` where `record` would fail."""
        check_writable(self.folder)

    def _rewrite(self, module: str, new: Iterable[CounterRecord], gone: frozenset[Case]) -> bool:
        path = self.folder / file_name(module)
        before = _read(path) if path.exists() else {}
        after = {case: record for case, record in before.items() if case not in gone}
        for record in new:
            joined = merged(after.pop(record.case, None), record)
            if joined.tallies:
                after[record.case] = joined
        if after == before:
            return False
        if after:
            atomic_write(path, encode_counters(module, after))
            return True
        try:
            path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error
        return True


def file_name(module: str) -> str:
    """Where the counters of a test module stand, ``tests/test_model.py.txt``: never outside the folder."""
    data = module.encode("utf-8", "backslashreplace")
    if all(map(_PART.fullmatch, module.split("/"))) and len(data) < 200:  # noqa: PLR2004 - of 255
        return f"{module}{SUFFIX}"
    words = re.sub(r"[^A-Za-z0-9]+", "-", module)[-60:].strip("-") or "module"
    return f"{words}-{hashlib.sha256(data).hexdigest()[:8]}{SUFFIX}"


def encode_counters(module: str, records: Mapping[Case, CounterRecord]) -> str:
    """Lay records out as text."""
    lines = [_PREAMBLE.format(module=_line(module)), f"{_HEAD} {COUNTERS_VERSION}\n"]
    for case in sorted(records, key=lambda case: case.order):
        body = [line for tally in records[case].tallies for line in _tally_lines(tally)]
        lines += [f"\n{_CASE}{_line(case)}\n", *body, f"  end of {len(body)} lines\n"]
    return "".join((*lines, f"\n{_LAST}\n"))


def _tally_lines(tally: Tally) -> list[str]:
    return [
        f"{_EVERYWHERE if tally.key == CounterKey() else _WITH + _line(tally.key)}\n",
        *(f"    {name} {figure}\n" for name, figure in sorted(_figures(tally).items())),
        *map(_operator_line, tally.operators),
    ]


def _figures(tally: Tally) -> dict[str, int | str]:
    figures: dict[str, int | str] = {
        name: _VARIES if value is None else value for name, value in tally.counters.items()
    }
    sums: Counter[str] = Counter()
    for row in tally.operators:
        sums[row.operator] += row.calls * count_places(row.place)
    return figures | sums


def _operator_line(row: OperatorWork) -> str:
    calls = f"{row.calls} call{'' if row.calls == 1 else 's'}"
    place = f" in {json.dumps(row.place, ensure_ascii=False)[1:-1]}" if row.place else ""
    return f"    {row.operator}: {calls}, {row.flops} flops, {row.bytes} bytes{place}\n"


def _line(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


def decode_counters(data: bytes, source: str) -> dict[Case, CounterRecord]:
    """Read what `encode` wrote. Raises `StorageError` naming `source`, the line and the cure."""
    reader = _Reader(source)
    for number, line in enumerate(text_of(data, source, _ONE_SIDE).split("\n"), 1):
        line = line.rstrip("\r")  # noqa: PLW2901 - of an editor on Windows
        if line.strip() and not line.startswith("#"):
            reader.read(number, line)
    return reader.records(number)


class _Reader:
    """Lines of one file, put together."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._versioned = self._ended = False
        self._case: Case | None = None
        self._key: CounterKey | None = None
        self._lines = 0
        """Of the case so far."""
        self._found: dict[Case, dict[CounterKey, _Lines]] = {}

    def read(self, number: int, line: str) -> None:
        """Take one line that says something."""
        if not self._versioned:
            self._read_version(number, line)
        elif self._ended:
            raise self._wrong(number, "something stands after the end")
        elif line == _LAST:
            self._check_ended(number)
            self._ended = True
        elif line.startswith(_CASE):
            self._check_ended(number)
            self._begin(self._parsed(line.removeprefix(_CASE), Case, number), number)
        elif self._case is None:
            raise self._wrong(number, "this line belongs to no case")
        else:
            self._read_line(self._case, number, line)

    def _read_line(self, case: Case, number: int, line: str) -> None:
        """Take one line of a case."""
        end = _END.fullmatch(line)
        if end is not None:
            if int(end[1]) != self._lines:
                raise self._wrong(number, f"the case has {self._lines} lines, not {end[1]}")
            self._case = None
            return
        self._lines += 1
        if line == _EVERYWHERE or line.startswith(_WITH):
            text = "{}" if line == _EVERYWHERE else line.removeprefix(_WITH)
            self._key = self._parsed(text, CounterKey, number)
        elif self._key is None:
            raise self._wrong(number, "this line stands under no key")
        elif not _SUM.fullmatch(line):
            self._read_counter(self._found[case].setdefault(self._key, _Lines({}, {})), number, line)

    def _begin(self, case: Case, number: int) -> None:
        if case in self._found:
            raise self._wrong(number, "the case stands here twice")
        self._case, self._key, self._lines = case, None, 0
        self._found[case] = {}

    def _check_ended(self, number: int) -> None:
        if self._case is not None:
            raise self._wrong(number, "the case before has no end")

    def records(self, number: int) -> dict[Case, CounterRecord]:
        """What the lines make together; `number` is that of the last."""
        if not self._versioned:
            raise self._wrong(number, f"it does not begin with {_HEAD!r} and a version")
        if not self._ended:
            raise self._wrong(number, f"it does not close with {_LAST!r}")
        return {
            case: CounterRecord(
                case=case,
                tallies=tuple(
                    Tally(key=key, counters=lines.counters, operators=tuple(lines.operators.values()))
                    for key, lines in tallies.items()
                ),
            )
            for case, tallies in self._found.items()
        }

    def _read_version(self, number: int, line: str) -> None:
        version = re.fullmatch(rf"{_HEAD} ([1-9][0-9]{{0,8}})", line)
        if version is None:
            raise self._wrong(number, f"it does not begin with {_HEAD!r} and a version")
        if int(version[1]) > COUNTERS_VERSION:
            known = f"this pytest-infergate reads up to {COUNTERS_VERSION}; upgrade it"
            raise StorageError(f"{self._source} has version {version[1]}, {known}")
        self._versioned = True

    def _read_counter(self, lines: _Lines, number: int, line: str) -> None:
        counter, operator = _COUNTER.fullmatch(line), _OPERATOR.fullmatch(line)
        if counter is not None:
            name, value = counter.groups()
            figure = None if value == _VARIES else int(value)
            if lines.counters.setdefault(name, figure) != figure:
                raise self._wrong(number, f"{name} stands here twice, with two values")
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
                raise self._wrong(number, f"{name} stands here twice in one place, with two values")
        else:
            raise self._wrong(number, "it reads neither as a counter nor as an operator")

    def _parsed(self, text: str, kind: type[_T], number: int) -> _T:
        try:
            # The standard library reads the escapes of names that are no text, as file systems have them.
            return msgspec.convert(json.loads(text), kind)
        except json.JSONDecodeError as error:
            raise self._wrong(number, error.msg) from error
        except (ValueError, RecursionError) as error:
            raise self._wrong(number, str(error)) from error

    def _wrong(self, number: int, what: str) -> StorageError:
        return StorageError(f"{self._source}, line {number}: {what}; {RESTORE_HINT}")


class _Lines(NamedTuple):
    counters: dict[str, int | None]
    operators: dict[tuple[str, str], OperatorWork]


def _read(path: Path) -> dict[Case, CounterRecord]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return decode_counters(data, str(path))
