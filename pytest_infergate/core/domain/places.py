"""Places of operators in a model: paths of modules, of which those with equal work share one path.

``encoder.layer.{0-5,7}.attention`` means seven paths.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from pytest_infergate.core.domain.measurement import OperatorWork

# A label in a file from elsewhere could mean millions of places: {0-999999}.{0-999999}.
MAX_PLACES = 10_000
"""Number of places of one path up to which they are listed one by one."""
_STAR = re.compile(r"\*[0-9]*")
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


def abbreviated_places(places: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a short form of each place, and what the short forms mean: ``layers.*`` and ``0-3``.

    One more layer changes the meaning, and no short form. Several sets of numbers at one position are ``*``,
    ``*2``, ``*3`` in the order of their first numbers. Nothing is abbreviated if a name looks like that.
    """
    given = list(dict.fromkeys(places))
    paths = {place: place.split(".") for place in given}
    if any(_STAR.fullmatch(part) for path in paths.values() for part in path):
        return {place: place for place in given}, {}
    meanings: dict[str, str] = {}
    for position in range(max(map(len, paths.values()), default=0)):
        labels: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for path in paths.values():
            if position < len(path) and _runs(path[position]):
                labels[tuple(path[:position])].add(path[position])
        short: dict[tuple[str, ...], str] = {}
        for before, found in labels.items():
            # The largest set first, so that layers that differ from the others change no name but their own.
            for number, label in enumerate(sorted(found, key=_first_and_size), 1):
                name = f"*{number if number > 1 else ''}"
                key = *before, label
                short[key] = name
                meanings[".".join((*before, name))] = label[1:-1]
        for path in paths.values():
            head = tuple(path[: position + 1])
            if head in short:
                path[position] = short[head]
    return {place: ".".join(path) for place, path in paths.items()}, meanings


def full_place(short: str, meanings: Mapping[str, str]) -> str:
    """Return the place of a short form of `abbreviated_places`."""
    parts = short.split(".")
    ends = itertools.accumulate(parts, lambda before, part: f"{before}.{part}")
    return ".".join(
        f"{{{meanings[end]}}}" if end in meanings else part for end, part in zip(ends, parts, strict=True)
    )


def is_label(text: str) -> bool:
    """Return whether a text lists numbers as in ``0-2,4``."""
    return bool(_runs(f"{{{text}}}"))


def _first_and_size(label: str) -> tuple[int, int, str]:
    runs = _runs(label)
    return runs[0][0], -sum(map(len, runs)), label


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
