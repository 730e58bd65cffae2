"""The dtypes of a case that are more than a cast: int8, autocast, TF32, channels last. Imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from pytest_infergate.core.domain.dtypes import WEIGHT_ONLY, DtypeParts
from pytest_infergate.errors import ConversionError
from pytest_infergate.measure.item_streams import is_stream
from pytest_infergate.measure.module_search import module_of

_IMAGES = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory formats by the number of axes."""


def adapt(module: torch.nn.Module, parts: DtypeParts) -> None:
    """Quantise the linear layers of a module, or store its convolutions with the channels last, in place.

    Raises `ConversionError` for a module that has none of them.
    """
    if parts.channels_last:
        images = [weight for weight in module.parameters() if weight.dim() in _IMAGES]
        if not images:
            raise ConversionError("the model has no convolution of images, whose channels could be last")
        for weight in images:
            weight.data = weight.data.contiguous(memory_format=_IMAGES[weight.dim()])
    if parts.int8:
        if not any(isinstance(part, torch.nn.Linear) for part in module.modules()):
            raise ConversionError("the model has no linear layer (torch.nn.Linear) that could be quantised")
        quantise(module, parts.int8)


def quantise(module: torch.nn.Module, how: str) -> None:
    """Quantise the linear layers of a module with torchao, in place."""
    with warnings.catch_warnings():  # of packages about themselves, which may be errors of the user's suite
        warnings.simplefilter("ignore")
        from torchao.quantization import (
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )

        config = Int8WeightOnlyConfig if how == WEIGHT_ONLY else Int8DynamicActivationInt8WeightConfig
        quantize_(module, config())


def unwrap_weights(target: Any, parts: DtypeParts) -> None:
    """Replace quantised weights of a module by the plain tensors they consist of, which can be saved."""
    module = module_of(target)
    if parts.int8 and module is not None:
        from torchao.utils import unwrap_tensor_subclass

        unwrap_tensor_subclass(module)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Return a floating tensor of images or volumes with its channels last in memory; others as they are."""
    memory_format = _IMAGES.get(tensor.dim()) if tensor.is_floating_point() else None
    return tensor if memory_format is None else tensor.contiguous(memory_format=memory_format)


def autocast(parts: DtypeParts, device: str) -> AbstractContextManager[Any]:
    """Return the autocast of a dtype; one that does nothing for dtypes without it."""
    if parts.autocast is None:
        return nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, parts.autocast))


def autocasting(function: Callable[..., Any], parts: DtypeParts, device: str) -> Callable[..., Any]:
    """Return a function that enters autocast in each call, as a service does: weights are cast each time."""
    if parts.autocast is None:
        return function

    def called(*args: Any, **kwargs: Any) -> Any:
        with autocast(parts, device):
            output = function(*args, **kwargs)
        return items(output) if is_stream(output) else output

    def items(stream: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while True:
            with autocast(parts, device):  # not around the yield: the caller is not part of the model
                item = next(stream, end)
            if item is end:
                return
            yield item

    return called


@contextmanager
def products_rounded(parts: DtypeParts) -> Iterator[None]:
    """Let CUDA round products of float32 to TF32 until exit, if the dtype says so."""
    if not parts.tf32:
        yield
        return
    backends: Any = torch.backends  # whose types do not show these attributes
    cuda = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    before = [(part, part.fp32_precision) for part in cuda]
    try:
        for part in cuda:
            part.fp32_precision = "tf32"
        yield
    finally:
        for part, precision in before:
            part.fp32_precision = precision
