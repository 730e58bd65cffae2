"""Exact counters compared: `(on record, counted now) -> Comparisons`. No clock, no noise, no statistics.

A counter compares under its key: FLOPs, weights, transfers and the compiler's counters everywhere,
operators and bytes for one version of torch on one instruction set or GPU architecture, allocations for
one number of threads too.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain.measurement import Counters, OperatorWork
from pytest_infergate.core.domain.metrics import COUNTERS
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, Cause, Comparison, Outcome, Verdict
from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally

ALL: Final = "counters"
"""Name under which a tolerance goes for every counter."""
PEAK: Final = "peak_memory_bytes"
LEAST_BYTES = 1024**2
"""A peak of bytes may move by this much whatever its size."""
CAUSES_KEPT = 12
MOST_PLACES = 10_000
"""Places that one line may stand for; more are not told apart."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_LABEL = re.compile(r"\{[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*\}")

_EVERYWHERE = frozenset(
    ("flops", "weight_bytes", "host_device_copies", "graphs", "graph_breaks", "recompiles")
)
_BY_THREADS = frozenset(("allocations", PEAK))
_UNGATED = frozenset(("views",))
"""Counted and shown, but no regression in themselves: they move no data."""
_RANK = {name: rank for rank, name in enumerate(COUNTERS)}
_FIGURE: Mapping[str, Callable[[OperatorWork], int]] = {
    "flops": lambda row: row.flops,
    "bytes_read": lambda row: row.bytes,
    "bytes_written": lambda row: row.bytes,
    "operators": lambda row: row.calls if "::" in row.operator else 0,
    "dtype_casts": lambda row: row.calls if _is_copy(row) else 0,
    "host_device_copies": lambda row: row.calls if _crosses(row) else 0,
    "allocations": lambda row: row.calls if "::" in row.operator else 0,
    PEAK: lambda row: row.bytes,
}
"""What of an operator's work a counter adds up, near enough to name who moved it."""


def _is_copy(row: OperatorWork) -> bool:
    return row.operator in ("aten::_to_copy", "aten::copy_")


def _crosses(row: OperatorWork) -> bool:
    """Whether an operator may carry data between host and device; the CPU's are named after the method."""
    return _is_copy(row) or row.operator == "aten::_local_scalar_dense" or "::" not in row.operator


def record(result: CaseResult, torch: str | None) -> CounterRecord | None:
    """Sort the counters of a valid result under their keys; ``None`` for any other result.

    Every key of the machine is there, also where nothing could be counted under it.
    """
    if result.outcome is not Outcome.MEASURED or result.measurement is None:
        return None
    counters = result.measurement.counters
    # What follows a plus names the build; the CPU's operators are the same in all of them.
    version = None if torch is None else torch.partition("+")[0]
    software = CounterKey(torch=version, architecture=counters.architecture or None)
    groups = (
        (CounterKey(), _EVERYWHERE, ()),
        (software, counters.totals.keys() - _EVERYWHERE - _BY_THREADS, counters.operators),
        (msgspec.structs.replace(software, threads=_threads(result)), _BY_THREADS, ()),
    )
    tallies: dict[CounterKey, Tally] = {}
    for key, names, operators in groups:
        earlier = tallies.get(key, Tally(key=key, counters={}))  # keys may be one, as on an accelerator
        tallies[key] = Tally(
            key=key,
            counters=earlier.counters | _values(counters, names),
            operators=earlier.operators or operators,
        )
    return CounterRecord(case=result.case, tallies=tuple(tallies.values()))


def _threads(result: CaseResult) -> int | None:
    """Threads that share an operator, where it is the CPU's."""
    accelerated = result.hardware is not None and result.hardware.accelerator is not None
    return None if accelerated or result.measurement is None else result.measurement.threads


def _values(counters: Counters, names: Iterable[str]) -> dict[str, int | None]:
    values: dict[str, int | None] = {
        name: None if name in counters.varying else counters.totals[name]
        for name in names
        if name in counters.totals
    }
    if "weight_bytes" in values:
        values |= {f"weight_bytes {dtype}": size for dtype, size in counters.weights.items()}
    return values


def merged(old: CounterRecord | None, new: CounterRecord) -> CounterRecord:
    """Put new counters in the place of old ones; those of other machines stay.

    One torch version is kept of each machine: the one that was recorded last. What could not be counted
    any more goes.
    """
    taken = {_machine(tally.key) for tally in new.tallies}
    kept = [tally for tally in (old.tallies if old else ()) if _machine(tally.key) not in taken]
    found = [tally for tally in new.tallies if tally.counters or tally.operators]
    return CounterRecord(case=new.case, tallies=tuple(sorted((*kept, *found), key=_order)))


def _machine(key: CounterKey) -> tuple[bool, str | None, int | None]:
    return key == CounterKey(), key.architecture, key.threads


def _order(tally: Tally) -> tuple[str, str, int]:
    return tally.key.architecture or "", tally.key.torch or "", tally.key.threads or 0


def compare_counters(
    before: CounterRecord | None,
    now: CounterRecord | None,
    tolerance: Mapping[str, float | None],
    memory_tolerance: float,
) -> tuple[Comparison, ...]:
    """Compare every counter that is gated: an increase beyond its tolerance is a regression.

    `tolerance` is what the author of the test allowed by counter name, under ``counters`` for all of them
    and under ``memory`` for the allocator's peak; ``None`` does not gate. A counter whose key differs is
    incomparable, one that varies or that nobody gates is left out.
    """
    old, new = (record_.tallies if record_ else () for record_ in (before, now))
    allowed = {
        name: _allowed(name, tolerance, memory_tolerance) for tally in (*old, *new) for name in tally.counters
    }
    gated = {name: share for name, share in allowed.items() if share is not None}
    compared = _compared(old, new, gated)
    return tuple(sorted(compared, key=lambda row: _RANK.get(row.metric, len(_RANK))))


def _allowed(name: str, tolerance: Mapping[str, float | None], memory_tolerance: float) -> float | None:
    if " " in name:
        return None  # its sum is gated
    if name == PEAK:
        return tolerance.get("memory", memory_tolerance)
    if name in _UNGATED:
        return tolerance.get(name)
    return tolerance.get(name, tolerance.get(ALL, 0.0))


def _unknown(names: list[str]) -> Comparison:
    note = Note(code=NoteCode.NO_COUNTERS, text=f"{_listed(names)} not on record yet")
    return Comparison(metric=ALL, verdict=Verdict.NO_BASELINE, evidence="exact", note=note)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(COUNTERS[name].text if name in COUNTERS else name for name in names))


def _compared(
    before: Iterable[Tally], now: Iterable[Tally], gated: Mapping[str, float]
) -> Iterator[Comparison]:
    work = _work(before, now)
    old = {tally.key: tally.counters for tally in before}
    open_ = {name for counters in old.values() for name, value in counters.items() if value is not None}
    new: list[str] = []
    elsewhere: dict[str, list[str]] = defaultdict(list)
    for tally in now:
        for name, value in tally.counters.items():
            open_.discard(name)
            if name not in gated or value is None:
                continue
            recorded = {key: counters[name] for key, counters in old.items() if name in counters}
            exact = [key for key, figure in recorded.items() if figure is not None]
            known = recorded.get(tally.key)
            if known is not None:
                yield _one(name, known, value, gated[name], work)
            elif not recorded:
                new.append(name)
            elif tally.key not in recorded and exact:
                elsewhere[_difference(exact[-1], tally.key)].append(name)
    if new:
        yield _unknown(new)
    for difference, names in elsewhere.items():
        yield _incomparable(f"{_listed(names)} recorded with {difference}", _ANEW)
    lost = open_ & gated.keys()
    if lost:
        yield _incomparable(f"{_listed(lost)} on record, and not counted by this run", _LOST)


class _Work(NamedTuple):
    """Two records side by side, as far as their operators compare."""

    operators: tuple[tuple[OperatorWork, ...], tuple[OperatorWork, ...]] = ((), ())
    weights: tuple[dict[str, int | None], dict[str, int | None]] = ({}, {})


def _work(before: Iterable[Tally], now: Iterable[Tally]) -> _Work:
    found = _Work()
    for new in now:
        for old in before:
            if old.key != new.key:
                continue
            if old.operators and new.operators:
                found = found._replace(operators=(old.operators, new.operators))
            if "weight_bytes" in new.counters:
                found = found._replace(weights=(old.counters, new.counters))
    return found


_LESS_WORK = Note(
    code=NoteCode.LESS_WORK,
    text="less work than on record",
    hint="record it with --infer-save, so that it cannot grow back unseen",
)
_ANEW = "record them anew with --infer-save"
_LOST = "see the notes for why, or record the case anew with --infer-save"


def _incomparable(text: str, hint: str) -> Comparison:
    note = Note(code=NoteCode.INCOMPARABLE, text=text, hint=hint)
    return Comparison(metric=ALL, verdict=Verdict.INCOMPARABLE, evidence="exact", note=note)


def _difference(old: CounterKey, new: CounterKey) -> str:
    """``torch 2.12.0, this is 2.13.0``: the first property in which two keys differ."""
    if old.torch != new.torch:
        return f"torch {old.torch or 'unknown'}, this is {new.torch or 'unknown'}"
    if old.architecture != new.architecture:
        return f"{old.architecture or 'an unknown architecture'}, this is {new.architecture or 'unknown'}"
    return f"{old.threads or 'unknown'} threads, these are {new.threads or 'unknown'}"


def _one(name: str, old: int, new: int, allowed: float, work: _Work) -> Comparison:
    change = new - old
    beyond = max(round(allowed * old, 6), LEAST_BYTES if name == PEAK else 0)
    verdict = Verdict.EQUIVALENT
    if change > beyond:
        verdict = Verdict.REGRESSED
    elif change < -beyond:
        verdict = Verdict.IMPROVED
    return Comparison(
        metric=name,
        verdict=verdict,
        evidence="exact",
        baseline=float(old),
        candidate=float(new),
        effect=change / old if old else None,
        tolerance=allowed,
        sessions=1,
        note=_LESS_WORK if verdict is Verdict.IMPROVED else None,
        causes=() if verdict is Verdict.EQUIVALENT else _causes(name, change, work),
    )


def _causes(name: str, change: int, work: _Work) -> tuple[Cause, ...]:
    """Who moved a counter the way it moved, by operator and module path, the largest share first."""
    deltas: dict[tuple[str, str], int] = defaultdict(int)
    if name == "weight_bytes":
        for sign, counters in zip((-1, 1), work.weights, strict=True):
            for part, size in counters.items():
                deltas[part.partition(" ")[2], ""] += sign * (size or 0)
        del deltas["", ""]  # the sum itself
    else:
        for sign, rows in zip((-1, 1), work.operators, strict=True):
            for row in rows:
                for place in expanded(row.place):
                    deltas[row.operator, place] += sign * _FIGURE.get(name, _nothing)(row)
    moved = [
        OperatorWork(operator=operator, place=place, calls=delta)
        for (operator, place), delta in deltas.items()
        if delta * change > 0
    ]
    total = sum(row.calls * count_places(row.place) for row in moved)
    found = [
        Cause(
            operator=row.operator,
            place=row.place,
            change=row.calls * count_places(row.place),
            share=row.calls * count_places(row.place) / total,
        )
        for row in collapsed(moved)
    ]
    return tuple(sorted(found, key=lambda cause: -cause.share)[:CAUSES_KEPT])


def _nothing(_: OperatorWork) -> int:
    return 0


def collapsed(rows: Iterable[OperatorWork]) -> tuple[OperatorWork, ...]:
    """Put places together that differ in a number only and do the same: ``encoder.layer.{0-5}``; sorted."""
    parts = [(row, row.place.split(".")) for row in rows]
    for position in range(max((len(path) for _, path in parts), default=0)):
        groups: dict[object, list[tuple[OperatorWork, list[str]]]] = defaultdict(list)
        rest = []
        for row, path in parts:
            if position < len(path) and _NUMBER.fullmatch(path[position]):
                around = (*path[:position], None, *path[position + 1 :])
                groups[row.operator, row.calls, row.flops, row.bytes, around].append((row, path))
            else:
                rest.append((row, path))
        for group in groups.values():
            row, path = group[0]
            if len(group) > 1:
                label = _label(int(other[position]) for _, other in group)
                path = [*path[:position], label, *path[position + 1 :]]
            rest.append((row, path))
        parts = rest
    return tuple(sorted(msgspec.structs.replace(row, place=".".join(path)) for row, path in parts))


def _label(numbers: Iterable[int]) -> str:
    """``{0-2,4}``."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"{{{','.join(words)}}}"


def count_places(place: str) -> int:
    """How many places a path stands for."""
    return math.prod(sum(map(len, runs)) for runs in map(_runs, place.split(".")) if runs)


def expanded(place: str) -> tuple[str, ...]:
    """The places that a path stands for; itself where they would be too many to tell apart."""
    if count_places(place) > MOST_PLACES:
        return (place,)
    options = [
        [str(number) for run in runs for number in run] if runs else [part]
        for part in place.split(".")
        for runs in (_runs(part),)
    ]
    return tuple(".".join(path) for path in itertools.product(*options))


def _runs(part: str) -> tuple[range, ...]:
    """Read ``{0-2,4}``; empty for any other part of a path."""
    if not _LABEL.fullmatch(part):
        return ()
    ends = [word.split("-") for word in part[1:-1].split(",")]
    runs = tuple(range(int(end[0]), int(end[-1]) + 1) for end in ends)
    return runs if all(runs) else ()
