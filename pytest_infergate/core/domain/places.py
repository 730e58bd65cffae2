"""Places of operators in a model: paths of modules, of which those with equal work share one path.

``encoder.layer.{0-5,7}.attention`` means seven paths.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from pytest_infergate.core.domain.measurement import OperatorWork

# A label in a file from elsewhere could mean millions of places: {0-999999}.{0-999999}.
MAX_PLACES = 10_000
"""Number of places of one path up to which they are listed one by one."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_LABEL = re.compile(r"\{[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*\}")


def collapse_places(rows: Iterable[OperatorWork]) -> tuple[OperatorWork, ...]:
    """Join places that differ in one number only and do the same work: ``encoder.layer.{0-5}``; sorted."""
    parts = [(row, row.place.split(".")) for row in rows]
    # One position after the other: layers of blocks collapse in both numbers, one pass for each.
    for position in range(max((len(path) for _, path in parts), default=0)):
        groups: dict[object, list[tuple[OperatorWork, list[str]]]] = defaultdict(list)
        rest = []
        for row, path in parts:
            if position < len(path) and _NUMBER.fullmatch(path[position]):
                # Only rows with equal work share a path, and only if the rest of the path is equal.
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
    """Return ``{0-2,4}`` for 0, 1, 2 and 4."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"{{{','.join(texts)}}}"


def count_places(place: str) -> int:
    """Return the number of places of a path."""
    return math.prod(sum(map(len, runs)) for runs in map(_runs, place.split(".")) if runs)


def expand_places(place: str) -> tuple[str, ...]:
    """Return the places of a path; the path itself if there are more than `MAX_PLACES`."""
    if count_places(place) > MAX_PLACES:
        return (place,)
    options = [
        [str(number) for run in runs for number in run] if runs else [part]
        for part in place.split(".")
        for runs in (_runs(part),)
    ]
    return tuple(".".join(path) for path in itertools.product(*options))


def _runs(part: str) -> tuple[range, ...]:
    """Return the ranges of ``{0-2,4}``; empty for any other part of a path."""
    if not _LABEL.fullmatch(part):
        return ()
    # A descending range, 5-3, is a name with braces and not a label.
    ends = [run.split("-") for run in part[1:-1].split(",")]
    runs = tuple(range(int(end[0]), int(end[-1]) + 1) for end in ends)
    return runs if all(runs) else ()
