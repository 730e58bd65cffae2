"""Compares two outputs value by value."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.instruments.nested import loaded
from pytest_infergate.outputs.output_description import CLASS, FACTORY, FIELDS, OPAQUE, Described, Description
from pytest_infergate.outputs.value_differences import (
    MIN_ROWS,
    PAIRED,
    Sides,
    array_difference,
    list_difference,
    text_difference,
)

_CACHE: Final = re.compile(r"\._\w*(cache|memo)\w*(\.data)?$", re.IGNORECASE)
"""The place of a mapping that a class keeps for itself; that of a weak one holds it in ``data``."""
MAX_PLACES: Final = 3
"""Places of an output that a message names; the others are counted."""


class Difference(NamedTuple):
    """How one value of an output differs."""

    text: str
    step: str = ""
    """To the item, if the value is a list of numbers or text."""


class Comparer:
    """Compares all values of two outputs that are in the same place."""

    def __init__(
        self, before: Description, now: Description, tolerance: float | None = None, sides: Sides = PAIRED
    ) -> None:
        self._before = before
        self._now = now
        self._tolerance = tolerance
        self._sides = sides
        self.compared: list[tuple[Any, Any]] = []
        """Pairs of tensors and arrays in the same place."""
        self.found: dict[str, Difference] = {}
        """By place, in the order of the output."""
        self.uncompared: dict[str, str] = {}
        """By place, why it is not compared."""
        # Values that refer to each other are compared once.
        seen: set[tuple[int, int]] = set()
        pending = [(0, 0, "output")]
        while pending:
            first, second, place = pending.pop()
            if (first, second) not in seen:
                seen.add((first, second))
                pending += reversed(self._compare(before.nodes[first], now.nodes[second], place))

    def _compare(self, old: Described, new: Described, place: str) -> list[tuple[int, int, str]]:
        """Compare two values; return the places of those that both hold."""
        sides = self._sides
        if old.kind == new.kind == OPAQUE:
            self.uncompared[place] = str(new.value)
            return []
        if old.kind != new.kind:
            known = new if old.kind == OPAQUE else old
            if OPAQUE in (old.kind, new.kind) and known.computed and len(known.computed) == len(known.steps):
                # Without what it computed, an object holds nothing that can be compared.
                self.uncompared[place] = _label(known)
                return []
            self.found[place] = Difference(f"{_label(old)} {sides.old}, {_label(new)} {sides.new}")
            return []
        first, second = table_of_rows(self._before, old), table_of_rows(self._now, new)
        table = first is not None and second is not None
        difference = self._table_difference(first, second) if table else self._difference(old, new)
        if difference is not None:
            self.found[place] = difference
        elif old.kind == "mapping" and old.value[1] and new.value[1]:
            before, now = ([step for step in node.steps if step.startswith("[")] for node in (old, new))
            if before != now and sorted(before) == sorted(now):
                self.found[place] = Difference("the keys have another order")
        earlier, later = ({}, {}) if table else matching_steps(old, new)
        computed = computed_on_one_side(old, new)
        for step in {**earlier, **later}:
            if step in computed:
                side = sides.new if step in later else sides.old
                self.uncompared[f"{place}{step}"] = f"only computed {side}"
            elif step not in earlier or step not in later:
                self.compare_missing(old, place, step, earlier.get(step))
        return [(earlier[step], later[step], f"{place}{step}") for step in earlier if step in later]

    def _table_difference(self, old: Any, new: Any) -> Difference | None:
        text = array_difference(old, new, self._tolerance, sides=self._sides)
        return None if text is None else Difference(text)

    def compare_missing(self, old: Described, place: str, step: str, index: int | None) -> None:
        """Compare what only one side has; `index` is that of the value on the base, if it is there."""
        sides = self._sides
        reason = f"only exists {sides.new if index is None else sides.old}"
        if step in (CLASS, FIELDS):
            # A class that extends a container can be used as the plain one that it replaces.
            if step == CLASS and index is not None:
                reason = f"{_label(self._before.nodes[index])} {sides.old}, a plain {old.kind} {sides.new}"
                self.found[f"{place}{step}"] = Difference(reason)
        elif step.startswith("._") or step == FACTORY or (old.kind == "mapping" and _CACHE.search(place)):
            # How a class is written, which a change may alter, and what its objects happen to keep.
            self.uncompared[f"{place}{step}"] = reason
        elif old.kind == "mapping" or step.startswith("."):  # other containers differ in their length
            self.found[f"{place}{step}"] = Difference(reason)

    def _difference(self, old: Described, new: Described) -> Difference | None:
        """Compare two values of one kind, without what they hold."""
        before, now, sides = old.value, new.value, self._sides
        text, step = None, ""
        if old.kind == "tensor":
            first, second = self._before.tensors[before], self._now.tensors[now]
            self.compared.append((first, second))
            text = array_difference(first, second, self._tolerance, sides=sides)
        elif old.kind == "array":
            first, second = (_loaded_array(data) for _, data in (before, now))
            self.compared.append((first, second))
            text = array_difference(first, second, self._tolerance, (before[0], now[0]), sides)
        elif old.kind in ("text", "path", "bytes"):
            text = text_difference(before, now, sides, binary=old.kind == "bytes")
        elif old.kind in ("float", "complex"):
            found = list_difference([_number(before)], [_number(now)], self._tolerance, sides)
            text = None if found is None else found[0]
        elif old.kind.startswith("list of"):
            found = list_difference(before, now, self._tolerance, sides)
            text, step = found or (None, "")
        elif before != now and old.kind != "mapping":  # the keys of a mapping are compared
            text = f"{_label(old)} {sides.old}, {_label(new)} {sides.new}"
        return None if text is None else Difference(text, step)


def table_of_rows(side: Description, node: Described) -> Any:
    """Return a sequence of lists of numbers as an array, whose columns may have scales of their own.

    ``None`` for anything else, and for too few rows to know their scales.
    """
    rows = [side.nodes[index] for index in node.children] if node.kind == "sequence" else []
    numbers = [row.value for row in rows if row.kind == "list of float" and not row.steps]
    if len(numbers) < max(MIN_ROWS, len(node.children)) or len({len(row) for row in numbers}) > 1:
        return None
    import numpy as np

    with np.errstate(all="ignore"):
        table = np.array(numbers)
        single = table.astype(np.float32)
        # Numbers that single precision holds exactly were computed in it.
        return single if np.array_equal(single, table, equal_nan=True) else table


def matching_steps(old: Described, new: Described) -> tuple[dict[str, int], dict[str, int]]:
    """Return the children of two values by step.

    A field of a mapping that is an item on one side, and an attribute on the other, is an item on both: some
    classes leave fields that are ``None`` out of their items.
    """
    sides = [dict(zip(node.steps, node.children, strict=True)) for node in (old, new)]
    for here, there in (sides, sides[::-1]) if old.kind == "mapping" else ():
        for step in here:
            attribute = f".{step[2:-2]}"
            if step.startswith("['") and step not in there and attribute in there and attribute not in here:
                there[step] = there.pop(attribute)
    return sides[0], sides[1]


def computed_on_one_side(old: Described, new: Described) -> set[str]:
    """Return the steps to what a class computed from the other attributes on one side, and not on the other.

    A value that may be given instead is one of them unless each side has such a value that the other has not.
    """
    before, now = (
        {step: always for step, always in here.computed.items() if step not in there.steps}
        for here, there in ((old, new), (new, old))
    )
    return {
        step
        for here, there in ((before, now), (now, before))
        for step, always in here.items()
        if always or False not in there.values()
    }


def difference_text(found: Mapping[str, Difference]) -> str | None:
    """Return the first difference with its place, and how many more there are; ``None`` without any."""
    if not found:
        return None
    place, first = next(iter(found.items()))
    # The name of a whole output would not add anything.
    named = f"{place}{first.step}" if first.step or place != "output" else "the output"
    more = f" (and {units.plural(len(found) - 1, 'more difference')})" if len(found) > 1 else ""
    return f"{named}: {first.text}{more}"


def uncompared_places(uncompared: Mapping[str, str]) -> tuple[str, ...]:
    """Return the places that are not compared, with the reason; of many, how many more there are."""
    places = [f"{place} ({why})" for place, why in uncompared.items()]
    if len(places) > MAX_PLACES:
        places[MAX_PLACES:] = [units.plural(len(places) - MAX_PLACES, "more place")]
    return tuple(places)


def _loaded_array(data: bytes) -> Any:
    return loaded("numpy").load(io.BytesIO(data), allow_pickle=False)


def _number(value: Any) -> complex:
    return complex(*value) if isinstance(value, list) else float(value)


def _label(node: Described) -> str:
    """Describe a value in a few words."""
    if node.kind in ("bool", "int", "float"):
        return f"{node.kind} {node.value}"
    if node.kind in ("sequence", "mapping", "set", "packed sequence"):
        size = node.value[0] if node.kind == "mapping" else node.value
        return f"{node.kind} of {units.plural(size, 'item')}"
    if node.kind.startswith("list of"):
        return f"{node.kind} with {units.plural(len(node.value), 'item')}"
    if node.kind in (OPAQUE, "object", "enum", "class"):
        return str(node.value)
    if isinstance(node.value, str):  # dates and names
        return node.value
    return node.kind.removesuffix("Type")
