"""Bytes of the weights of a model. Imports torch."""

from __future__ import annotations

from collections import Counter

import torch

from pytest_infergate.instruments import tensors


def weight_bytes(module: torch.nn.Module) -> dict[str, int] | None:
    """Return the bytes of parameters and buffers by dtype, shared ones once; `None` if a module hides some.

    Quantised modules hide their packed weights, and lazy modules all weights until their first call.
    """
    parts = list(module.modules())
    if any(is_lazy(part) for part in parts):
        return None
    plain = [part for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    if any(isinstance(value, torch.ScriptObject) for part in plain for value in vars(part).values()):
        return None
    distinct = {_identity(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    sizes: Counter[str] = Counter()
    for tensor in distinct.values():
        sizes[str(tensor.dtype).removeprefix("torch.")] += tensors.size_bytes(tensor)
    return dict(sorted(sizes.items()))


def _identity(tensor: torch.Tensor) -> object:
    """Return a key that is equal for tensors of the same memory, whether they are one object or two."""
    try:
        pointer = 0 if tensor.is_nested else tensor.data_ptr()
    except RuntimeError:  # sparse tensors
        pointer = 0
    return (tensor.device, pointer, tensor.shape, tensor.stride()) if pointer else id(tensor)


def is_lazy(module: torch.nn.Module) -> bool:
    """Return whether a module has parameters whose shapes are unknown until its first input."""
    own = (*module._parameters.values(), *module._buffers.values())  # noqa: SLF001 - buffers() would recurse
    return any(tensor is not None and torch.nn.parameter.is_lazy(tensor) for tensor in own)
