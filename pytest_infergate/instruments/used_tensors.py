"""The memory that the operators of a call use, and that none of them made. Imports torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import torch
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type

from pytest_infergate.instruments.device import UsedMemory
from pytest_infergate.instruments.tensors import sparse_parts

_OF_TORCH: Final = frozenset(
    ("aten", "prims", "quantized", "_quantized", "mkldnn", "mkl", "onednn", "sparse", "c10d", "inductor")
)
"""Namespaces of operators that use what they are given. Those of others may keep weights of their own."""
_KEYS: Final = {"cpu": "CPU", "cuda": "CUDA"}
"""Of the dispatcher, by kind of device."""


@functools.cache
def wraps_others(kind: type) -> bool:
    """Return whether tensors of a class wrap others, to which their operators are passed on."""
    return is_traceable_wrapper_subclass_type(kind)


class UsedTensors:
    """The memory of the tensors that operators are given, and of those that they make."""

    def __init__(self) -> None:
        self.used: dict[tuple[torch.device, int], UsedMemory] = {}
        self._made: set[tuple[torch.device, int]] = set()

    def use(self, tensors: Iterator[torch.Tensor]) -> None:
        """Record tensors that an operator is given."""
        for place, storage in _storages(tensors):
            if place not in self._made and place not in self.used:
                device, start = place
                self.used[place] = UsedMemory(str(device), start, storage.nbytes(), storage)

    def made(self, tensors: Iterator[torch.Tensor]) -> None:
        """Record tensors that an operator returned."""
        self._made.update(place for place, _ in _storages(tensors) if place not in self.used)


def tensors_in(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors among arguments, and in lists among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def observed_inside(operator: Any, args: Any, kwargs: Any, found: UsedTensors) -> Any:
    """Call an operator and return its result; of one that is not torch's own, observe the kernel as well."""
    if operator.namespace in _OF_TORCH:
        return operator(*args, **kwargs)
    device = next((tensor.device.type for tensor in tensors_in(args)), "cpu")
    for name in filter(None, (_KEYS.get(device), "CompositeExplicitAutograd")):
        if torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), name):  # noqa: SLF001
            # Through the dispatcher, the operator would be observed again instead of what it calls.
            with _InKernel(found):
                return operator._op_dk(torch._C._parse_dispatch_key(name), *args, **kwargs)  # noqa: SLF001
    return operator(*args, **kwargs)


class _InKernel(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Observes the operators that the kernel of another one calls."""

    def __init__(self, found: UsedTensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise every operator would load torch's compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(map(wraps_others, types)):
            return NotImplemented  # the wrapper calls the operator again on its inner tensors
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._found.use(tensors_in((*args, *kwargs.values())))
        self._found.made(tensors_in((result,)))
        return result


def _storages(tensors: Iterator[torch.Tensor]) -> Iterator[tuple[tuple[torch.device, int], Any]]:
    for tensor in tensors:
        # Others have no storage, or no address.
        if not isinstance(tensor, FakeTensor):
            with suppress(NotImplementedError, RuntimeError):
                storage = (*sparse_parts(tensor)[-1:], tensor)[0].untyped_storage()
                if start := storage.data_ptr():
                    yield (tensor.device, start), storage
