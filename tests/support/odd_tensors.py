"""Tensors that torch or their class refuses to copy."""

import torch
from torch.utils._pytree import tree_map


class RefusesClone(torch.Tensor):
    """A class without one operator."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.clone, torch.Tensor.clone):
            raise RuntimeError("clone is not supported")
        return super().__torch_function__(func, types, args, kwargs)


class RefusesAll(torch.Tensor):
    """A class without operators and attributes."""

    @classmethod
    def of(cls, tensor):
        return torch.Tensor._make_subclass(cls, tensor)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise TypeError(f"{func} is not implemented")


class Wraps(torch.Tensor):
    """A class that keeps its values in another tensor, and has no operators that copy."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_, torch.ops.aten._to_copy):
            raise NotImplementedError(str(func))
        args, kwargs = tree_map(
            lambda value: value.inner if isinstance(value, cls) else value, (args, kwargs or {})
        )
        return tree_map(
            lambda value: cls(value) if isinstance(value, torch.Tensor) else value, func(*args, **kwargs)
        )


def quantised(dtype=torch.quint8):
    return torch.quantize_per_channel(
        torch.ones(2, 4), torch.full((2,), 0.5), torch.full((2,), 3.0), 0, dtype
    )


UNCOPYABLE = {
    "floating zero points": quantised,
    "of four bits": lambda: quantised(torch.quint4x2),
    "without kernels": lambda: torch.ones(4, dtype=torch.uint8).view(torch.uint4),
    "refuses clone": lambda: torch.ones(2).as_subclass(RefusesClone),
    "refuses all": lambda: RefusesAll.of(torch.ones(2)),
    "wraps": lambda: Wraps(torch.ones(2)),
}
"""By name, functions that make them."""
