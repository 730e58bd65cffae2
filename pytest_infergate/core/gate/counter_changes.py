"""Changes of exact counters: `(recorded, counted now) -> Comparisons`. Without a clock, noise or statistics.

Counters are compared under a key. FLOPs, weights, transfers and counters of the compiler compare everywhere;
operators and bytes only for the same version of torch on the same instruction set or GPU architecture;
allocations also need the same number of threads. Python's own work needs the same torch and Python.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Counters, OperatorWork
from pytest_infergate.core.domain.metrics import COUNTERS
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, Cause, Comparison, Outcome, Verdict
from pytest_infergate.core.domain.places import collapse_places, count_places, expand_places
from pytest_infergate.core.domain.records import COUNTERS_VERSION, CounterKey, CounterRecord, Tally
from pytest_infergate.core.domain.values import Note

ALL_COUNTERS: Final = "counters"
"""Name of a tolerance for every counter, and metric of a comparison that concerns several."""
PEAK: Final = "peak_memory_bytes"
PYTHON_TOLERANCE: Final = 0.1
"""Growth of Python's own work that is tolerated by default, because small edits of Python code change it."""
# The peak may grow by 1 % or 1 MiB, whichever is more. An accidental quadratic loop exceeds these by far.
_MIN_CHANGES = {PEAK: 1024**2, "python_calls": 100, "bytecodes": 1000}
MAX_CAUSES = 12
"""Number of causes that a comparison keeps."""

_EVERYWHERE = frozenset(
    ("flops", "weight_bytes", "host_device_copies", "graphs", "graph_breaks", "recompiles")
)
_BY_THREADS = frozenset(("allocations", PEAK))
_BY_PYTHON = frozenset(("python_calls", "bytecodes"))
# Views move no data: they are counted and shown, but more of them are no regression.
_UNGATED = frozenset(("views",))
# Counters that mean something else than in version 1 of their files.
_REDEFINED = frozenset(("flops", "operators", "bytes_read", "bytes_written", "weight_bytes", PEAK))
# What a call does, and what it costs besides.
_WORK = frozenset(("flops", "bytes_read", "bytes_written"))
_OVERHEAD = frozenset(("operators", "allocations", "python_calls", "bytecodes"))
_RANK = {name: rank for rank, name in enumerate(COUNTERS)}


def _is_copy(row: OperatorWork) -> bool:
    return row.operator in ("aten::_to_copy", "aten::copy_")


_FIGURE: Mapping[str, Callable[[OperatorWork], int]] = {
    "flops": lambda row: row.flops,
    "bytes_read": lambda row: row.bytes,
    "bytes_written": lambda row: row.bytes,
    "operators": lambda row: row.calls if "::" in row.operator else 0,
    "dtype_casts": lambda row: row.calls if _is_copy(row) else 0,
    # On the CPU, a transfer is recorded under the name of the method that asks for it: ".cpu()".
    "host_device_copies": lambda row: (
        row.calls
        if _is_copy(row) or row.operator == "aten::_local_scalar_dense" or "::" not in row.operator
        else 0
    ),
    "allocations": lambda row: row.calls if "::" in row.operator else 0,
    PEAK: lambda row: row.bytes,
}
"""The part of an operator's work that a counter sums up, exactly enough to name the causes of a change."""


def counter_record(result: CaseResult, torch: str | None) -> CounterRecord | None:
    """Return the counters of a valid result under their keys; ``None`` for any other, and if none were taken.

    `torch` is the version. Every key of the machine is present, even if nothing could be counted under it.
    """
    if result.outcome is not Outcome.MEASURED or result.measurement is None:
        return None
    counters = result.measurement.counters
    if not counters.counted and not counters.operators:
        return None
    # A plus and what follows name the build; builds of one version run the same operators on the CPU.
    version = None if torch is None else torch.partition("+")[0]
    software = CounterKey(torch=version, architecture=counters.architecture or None)
    # Threads divide the work of an operator on the CPU only.
    accelerated = result.hardware is not None and result.hardware.accelerator is not None
    threads = None if accelerated else result.measurement.threads
    # An instruction set does not change which Python code runs.
    python = CounterKey(torch=version, python=counters.python)
    groups = [
        (CounterKey(), _EVERYWHERE, ()),
        (software, counters.totals.keys() - _EVERYWHERE - _BY_THREADS - _BY_PYTHON, counters.operators),
        (msgspec.structs.replace(software, threads=threads), _BY_THREADS, ()),
        *([(python, _BY_PYTHON, ())] if counters.python else []),
    ]
    tallies: dict[CounterKey, Tally] = {}
    for key, names, operators in groups:
        earlier = tallies.get(key, Tally(key=key, counters={}))  # two keys are equal on an accelerator
        tallies[key] = Tally(
            key=key,
            counters=earlier.counters | _values(counters, names),
            operators=earlier.operators or operators,
            at_least=counters.at_least if key == python else {},
        )
    return CounterRecord(case=result.case, tallies=tuple(tallies.values()))


def _values(counters: Counters, names: Iterable[str]) -> dict[str, int | None]:
    # Counters that differed between repetitions are recorded as varying instead of one of their values.
    values: dict[str, int | None] = {
        name: None if name in counters.varying else counters.totals[name]
        for name in names
        if name in counters.totals
    }
    if "weight_bytes" in values:
        values |= {f"weight_bytes {dtype}": size for dtype, size in counters.weights.items()}
    return values


def merge_records(old: CounterRecord | None, new: CounterRecord) -> CounterRecord:
    """Replace old counters of the same machine by new ones; those of other machines stay.

    One version of torch is kept for each machine, the one that was recorded last. Counters that could not be
    counted any more are dropped.
    """

    def machine(key: CounterKey) -> tuple[object, ...]:
        return key == CounterKey(), key.architecture, key.threads, key.python

    replaced = {machine(tally.key) for tally in new.tallies}
    kept = [tally for tally in (old.tallies if old else ()) if machine(tally.key) not in replaced]
    counted = [tally for tally in new.tallies if tally.counters or tally.operators]
    tallies = sorted(
        (*kept, *counted),
        key=lambda tally: (
            tally.key.architecture or "",
            tally.key.torch or "",
            tally.key.threads or 0,
            tally.key.python or "",
        ),
    )
    return CounterRecord(case=new.case, tallies=tuple(tallies))


def compare_counters(
    before: CounterRecord | None,
    now: CounterRecord | None,
    tolerance: Mapping[str, float | None],
    memory_tolerance: float,
) -> tuple[Comparison, ...]:
    """Compare every gated counter: an increase beyond its tolerance is a regression.

    `tolerance` contains the tolerances of the test by counter, under ``counters`` that of all counters, and
    under ``memory`` that of the allocator's peak; ``None`` does not gate. A counter under another key is
    incomparable; counters that vary or are not gated are left out.
    """
    old, new = (record.tallies if record else () for record in (before, now))
    gated = {}
    for name in {name for tally in (*old, *new) for name in tally.counters}:
        allowed = tolerance.get(name, tolerance.get(ALL_COUNTERS, 0.0))
        if name == PEAK:
            allowed = tolerance.get("memory", memory_tolerance)
        elif name in _UNGATED:
            allowed = tolerance.get(name)
        elif name in _BY_PYTHON and name not in tolerance and allowed is not None:
            allowed = max(allowed, PYTHON_TOLERANCE)
        # A name of two words is a part of a counter, whose sum is gated.
        if allowed is not None and " " not in name:
            gated[name] = allowed
    new = tuple(_with_exceeding(tally, old, gated) for tally in new)
    rows = less_work_excuses(list(_compare(old, new, gated)))
    older = {tally.key for tally in old if tally.version < COUNTERS_VERSION}
    unclear = {name for tally in new if tally.key in older for name in tally.counters} & _REDEFINED
    changed = {row.metric for row in rows if row.metric in unclear and row.verdict is not Verdict.EQUIVALENT}
    if changed:
        text = f"{_listed(changed)} recorded by an older version, in which they mean something else"
        rows = [row for row in rows if row.metric not in changed]
        rows.append(_incomparable(text, "record them again with --infer-save"))
    return tuple(sorted(rows, key=lambda row: _RANK.get(row.metric, len(_RANK))))


def less_work_excuses(rows: Sequence[Comparison], faster: float = 0.0) -> list[Comparison]:
    """Return rows in which a small increase of overhead is no regression, because work fell by more.

    Overhead is what a call costs besides its work: operators, allocations, and Python's own work. An increase
    is excused if FLOPs or bytes fell by a larger share, or the time by the share `faster`.
    """
    falls = [(-(row.effect or 0.0), COUNTERS[row.metric].text) for row in rows if row.metric in _WORK]
    share, what = max([*falls, (faster, "the time")])
    excused = []
    for row in rows:
        if row.verdict is Verdict.REGRESSED and row.metric in _OVERHEAD and 0 < (row.effect or 0.0) < share:
            rise, fall = (units.percent(ratio, signed=False) for ratio in (row.effect, share))
            text = f"{COUNTERS[row.metric].text} rose by {rise}, while {what} fell by {fall}"
            note = Note(code=NoteCode.LESS_WORK_OVERALL, text=text)
            excused.append(msgspec.structs.replace(row, verdict=Verdict.EQUIVALENT, note=note))
        else:
            excused.append(row)
    return excused


def _with_exceeding(tally: Tally, before: Iterable[Tally], gated: Mapping[str, float]) -> Tally:
    """Add lower bounds that exceed what is recorded: they decide that a counter grew, and nothing else."""
    recorded = next((old.counters for old in before if old.key == tally.key), {})
    exceeding = {
        name: bound
        for name, bound in tally.at_least.items()
        if (known := recorded.get(name)) is not None
        and name in gated
        and bound - known > _tolerated(name, known, gated[name])
    }
    return msgspec.structs.replace(tally, counters=tally.counters | exceeding)


def _compare(
    before: Iterable[Tally], now: Iterable[Tally], gated: Mapping[str, float]
) -> Iterator[Comparison]:
    work = _comparable_work(before, now)
    old = {tally.key: tally.counters for tally in before}
    # Counters that vary are not missed: they are not gated.
    uncounted = {name for counters in old.values() for name, value in counters.items() if value is not None}
    new: list[str] = []
    other_key: dict[str, list[str]] = defaultdict(list)
    for tally in now:
        for name, value in tally.counters.items():
            uncounted.discard(name)
            if name not in gated or value is None:
                continue
            recorded = {key: counters[name] for key, counters in old.items() if name in counters}
            exact = [key for key, figure in recorded.items() if figure is not None]
            known = recorded.get(tally.key)
            if known is not None:
                yield _compare_counter(name, known, value, gated[name], work)
            elif not recorded:
                new.append(name)
            elif tally.key not in recorded and exact:
                # A counter that varied under this very key cannot be compared, and has no row.
                other_key[_difference(exact[-1], tally.key)].append(name)
    if new:
        yield not_recorded(Note(code=NoteCode.NO_COUNTERS, text=f"{_listed(new)} not recorded yet"))
    for difference, names in other_key.items():
        yield _incomparable(
            f"{_listed(names)} recorded with {difference}", "record them again with --infer-save"
        )
    lost = uncounted & gated.keys()
    if lost:
        hint = "see the notes for the reason, or record the case again with --infer-save"
        yield _incomparable(f"{_listed(lost)} recorded, but not counted by this run", hint)


def not_recorded(note: Note) -> Comparison:
    """Return the comparison of counters for which there is no record, for the reason in a note."""
    return Comparison(metric=ALL_COUNTERS, verdict=Verdict.NO_BASELINE, evidence="exact", note=note)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(COUNTERS[name].text if name in COUNTERS else name for name in names))


def _incomparable(text: str, hint: str) -> Comparison:
    note = Note(code=NoteCode.INCOMPARABLE, text=text, hint=hint)
    return Comparison(metric=ALL_COUNTERS, verdict=Verdict.INCOMPARABLE, evidence="exact", note=note)


def _difference(old: CounterKey, new: CounterKey) -> str:
    """Return the first property in which two keys differ: ``torch 2.12.0, this is 2.13.0``."""
    if old.torch != new.torch:
        return f"torch {old.torch or 'unknown'}, this is {new.torch or 'unknown'}"
    if old.python != new.python:
        return f"Python {old.python or 'unknown'}, this is Python {new.python or 'unknown'}"
    if old.architecture != new.architecture:
        return f"{old.architecture or 'an unknown architecture'}, this is {new.architecture or 'unknown'}"
    return f"{old.threads or 'unknown'} threads, these are {new.threads or 'unknown'}"


class _Work(NamedTuple):
    """The operators and weights of two records, as far as they can be compared: before, now."""

    operators: tuple[tuple[OperatorWork, ...], tuple[OperatorWork, ...]] = ((), ())
    weights: tuple[dict[str, int | None], dict[str, int | None]] = ({}, {})


def _comparable_work(before: Iterable[Tally], now: Iterable[Tally]) -> _Work:
    work = _Work()
    for new in now:
        for old in before:
            if old.key != new.key:
                continue
            if old.operators and new.operators:
                work = work._replace(operators=(old.operators, new.operators))
            # Weights compare everywhere, also without operators that compare.
            if "weight_bytes" in new.counters:
                work = work._replace(weights=(old.counters, new.counters))
    return work


def _tolerated(name: str, old: int, allowed: float) -> float:
    # Rounded, so that 5 % of 100 is 5 although 0.05 is not exact in binary.
    return max(round(allowed * old, 6), tolerated_change(name, allowed))


def tolerated_change(name: str, allowed: float | None) -> int:
    """Return the change of a counter that is tolerated whatever its size, given its tolerance.

    A tolerance of 0 for Python's own work leaves no room.
    """
    return _MIN_CHANGES.get(name, 0) if allowed or name == PEAK else 0


def _compare_counter(name: str, old: int, new: int, allowed: float, work: _Work) -> Comparison:
    # An increase is a regression without any statistics, because counts have no noise.
    change = new - old
    tolerated = _tolerated(name, old, allowed)
    verdict, note = Verdict.EQUIVALENT, None
    if change > tolerated:
        verdict = Verdict.REGRESSED
    elif change < -tolerated:
        verdict = Verdict.IMPROVED
        hint = "record it with --infer-save, so that the gate notices if it grows back"
        note = Note(code=NoteCode.LESS_WORK, text="less work than recorded", hint=hint)
    return Comparison(
        metric=name,
        verdict=verdict,
        evidence="exact",
        baseline=float(old),
        candidate=float(new),
        effect=change / old if old else None,
        tolerance=allowed,
        sessions=1,
        note=note,
        causes=() if verdict is Verdict.EQUIVALENT else _causes(name, change, work),
    )


def _causes(name: str, change: int, work: _Work) -> tuple[Cause, ...]:
    """Return the operators and places that changed a counter as it changed, the largest share first."""
    changes: dict[tuple[str, str], int] = defaultdict(int)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    if name == "weight_bytes":
        for sign, counters in zip((-1, 1), work.weights, strict=True):
            for part, size in counters.items():
                changes[part.partition(" ")[2], ""] += sign * (size or 0)
        del changes["", ""]  # the sum itself
    elif name in _FIGURE:
        for sign, rows in zip((-1, 1), work.operators, strict=True):
            for row in rows:
                for place in expand_places(row.place):
                    changes[row.operator, place] += sign * _FIGURE[name](row)
                    calls[row.operator, place] += sign * row.calls
    # Changes in the other direction are no causes: they hide a part of the change.
    changed = collapse_places(
        OperatorWork(operator=operator, place=place, calls=each)
        for (operator, place), each in changes.items()
        if each * change > 0
    )
    amounts = [row.calls * count_places(row.place) for row in changed]
    causes = []
    for row, amount in zip(changed, amounts, strict=True):
        places = expand_places(row.place)  # very many places stay together
        each = sum(calls[row.operator, place] for place in places)
        causes.append(
            Cause(
                operator=row.operator,
                place=row.place,
                change=amount,
                share=amount / sum(amounts),
                calls=each * count_places(row.place) // max(1, len(places)),
            )
        )
    return tuple(sorted(causes, key=lambda cause: -cause.share)[:MAX_CAUSES])
