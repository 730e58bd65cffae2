"""How the input of a test becomes requests, and waiting requests become the input of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_infergate.core.domain.units import plural
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.nested import Graph, is_array, is_tensor, loaded
from pytest_infergate.measure import memory
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.outputs.value_differences import array_difference

BATCH_TOLERANCE = 0.05
"""Share of the largest value by which the size of a batch may change floating values, in any dtype."""


class Items:
    """The items of a batch: slices of each tensor and array whose first dimension is the batch size."""

    def __init__(self, invocation: Invocation, size: int) -> None:
        self._target = invocation.target
        self._args = [Sliced(value, size) for value in invocation.args]
        self._kwargs = {name: Sliced(value, size) for name, value in invocation.kwargs.items()}

    def call(self, items: Sequence[int]) -> Any:
        """Call the model on some items, which may repeat, as one batch."""
        return self._target(
            *[value.joined(items) for value in self._args],
            **{name: value.joined(items) for name, value in self._kwargs.items()},
        )

    def whole(self, sizes: Sequence[int]) -> str:
        """Return why the input is one request as a whole; empty if each item can be a request.

        The model is called with each number of items, and must return as many, which must be those that it
        returns of the whole input. Memory that runs out is an error of the caller.
        """
        if not any(value.slices for value in (*self._args, *self._kwargs.values())):
            return "its input has no tensor whose first dimension is the batch size"
        size = max(sizes)
        whole: Any = None
        for each in sorted(sizes, reverse=True):
            try:
                output = self.call(range(each))
            except Exception as error:
                if memory.is_out_of_memory(error):
                    raise
                return f"a call with a batch of {each} raised {type(error).__name__}"
            if not any(shape[:1] == (each,) for shape, _ in tensors.signature(output)):
                return f"its output of a batch of {each} has no tensor of {each} items"
            whole = output if each == size else whole
            # A model that draws random numbers returns other values each time.
            if _items_differ(whole, size, output, each) and not _items_differ(
                output, each, self.call(range(each)), each
            ):
                return f"its output of {plural(each, 'item')} alone differs from that in a batch of {size}"
        return ""


def _items_differ(whole: Any, size: int, output: Any, count: int) -> bool:
    """Return whether the first items of a batch of `size` differ from an output of `count` items.

    They differ if items depend on each other, or if an argument that looks like a batch is something else,
    such as a list of prompts for all.
    """
    for before, now in zip(Graph(whole).leaves, Graph(output).leaves, strict=False):
        if divisible(before) and before.shape[:1] == (size,):
            if not divisible(now) or now.shape[:1] != (count,):
                return True
            if array_difference(before[:count], now, BATCH_TOLERANCE) is not None:
                return True
    return False


def divisible(leaf: Any) -> bool:
    """Return whether a value is an array or a dense tensor, which has a first dimension to be sliced."""
    if is_tensor(leaf):
        return not leaf.is_nested and leaf.layout is loaded("torch").strided
    return is_array(leaf)


class Sliced:
    """An argument, and the slices of the tensors and arrays in it."""

    def __init__(self, value: Any, size: int) -> None:
        self._value = value
        self._graph = Graph(value)
        self.slices = {
            id(leaf): [leaf[item : item + 1] for item in range(size)]
            for leaf in self._graph.leaves
            if divisible(leaf) and leaf.shape[:1] == (size,)
        }

    def joined(self, items: Sequence[int]) -> Any:
        """Return the argument with some items."""
        if not self.slices:
            return self._value
        # Walking through a container takes longer than a small model.
        if id(self._value) in self.slices:
            return self._join(self._value, items)
        return self._graph.rebuilt(lambda leaf: self._join(leaf, items) if id(leaf) in self.slices else leaf)

    def _join(self, leaf: Any, items: Sequence[int]) -> Any:
        slices = self.slices[id(leaf)]
        parts = [slices[item] for item in items]
        return loaded("torch").cat(parts) if is_tensor(leaf) else loaded("numpy").concatenate(parts)


def batch_sizes_below(most: int) -> list[int]:
    """Return the powers of two below a batch size, and the size itself."""
    return [*(1 << power for power in range(most.bit_length()) if 1 << power < most), most]
