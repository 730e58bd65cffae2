"""How the input of a test becomes requests, and waiting requests become the input of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.nested import Graph, is_array, is_tensor, loaded
from pytest_infergate.measure import memory
from pytest_infergate.measure.invocation import Invocation


class Items:
    """The items of a batch: slices of each tensor and array whose first dimension is the batch size."""

    def __init__(self, invocation: Invocation, size: int) -> None:
        self._invocation = invocation
        self._graph = Graph((invocation.args, invocation.kwargs))
        self._slices: dict[int, list[Any]] = {}
        for leaf in self._graph.leaves:
            if (is_tensor(leaf) or is_array(leaf)) and leaf.ndim and leaf.shape[0] == size:
                self._slices[id(leaf)] = [leaf[item : item + 1] for item in range(size)]

    def call(self, items: Sequence[int]) -> Any:
        """Call the model on some items, which may repeat, as one batch."""

        def joined(leaf: Any) -> Any:
            slices = self._slices.get(id(leaf))
            if slices is None:
                return leaf
            parts = [slices[item] for item in items]
            return loaded("torch").cat(parts) if is_tensor(leaf) else loaded("numpy").concatenate(parts)

        args, kwargs = self._graph.rebuilt(joined)
        return self._invocation.target(*args, **kwargs)

    def whole(self, sizes: Sequence[int]) -> str:
        """Return why the input is one request as a whole; empty if each item can be a request.

        The model is called with each number of items, and must return as many. Memory that runs out is an
        error of the caller.
        """
        if not self._slices:
            return "its input has no tensor whose first dimension is the batch size"
        for size in sizes:
            try:
                output = self.call(range(size))
            except Exception as error:
                if memory.is_out_of_memory(error):
                    raise
                return f"a call with a batch of {size} raised {type(error).__name__}"
            if not any(shape[:1] == (size,) for shape, _ in tensors.signature(output)):
                return f"its output of a batch of {size} has no tensor of {size} items"
        return ""


def batch_sizes_below(most: int) -> list[int]:
    """Return the powers of two below a batch size, and the size itself."""
    return [*(1 << power for power in range(most.bit_length()) if 1 << power < most), most]
