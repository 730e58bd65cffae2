"""Floating point operations of one operator call. Needs a loaded torch.

The formulas are those of `torch.utils.flop_counter`, and for what it lacks, most of it fused operators of
the CPU, ours below. One multiplication and addition are two operations. By the custom of published
figures only products count: matrices, convolutions, recurrent layers, attention.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_HEAVY = re.compile(
    r"(?:^|_)(?:[a-z]*mm|matmul|linear|conv\w*|[a-z]*convolution|rnn|lstm|gru|attention|cdist|fft|trilinear|dist"
    r"|linalg|cholesky|inverse|svd)(?:_|\d|$)"
)
"""Words in the names of torch's own operators that multiply much."""
_LIGHT = re.compile(
    r"gamma|cumm|upsample|fused_\w+_cell|flatten|pack|freq|shift|helper|norm|cross|diagonal|_mode$"
)
_OWN = ("aten", "prim", "prims")
"""Namespaces of torch itself, whose other operators multiply nothing that is counted."""


def formula(operator: Any) -> Callable[..., int] | None:
    """The formula of an operator packet such as ``torch.ops.aten.addmm``; `None` where there is none.

    To be called with the operator's arguments, and its result as `out_val`.
    """
    name = str(operator).rstrip("_")  # what works in place multiplies as much
    return _UPSTREAM.get(name) or _FORMULAS.get(name)


def uncovered(name: str) -> bool:
    """Whether an operator without a formula, as ``aten::cdist``, multiplies so much that it is missed.

    Nobody knows what operators of other libraries do.
    """
    namespace, _, rest = name.partition("::")
    if namespace not in _OWN:
        return True
    return _HEAVY.search(rest) is not None and _LIGHT.search(rest) is None


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return sdpa_flop_count(query.shape, key.shape, value.shape)  # type: ignore[no-untyped-call]


def _rnn_layer(x: Any, w_ih: Any, w_hh: Any, *_: Any, **__: Any) -> Any:
    """One direction of one oneDNN layer: ``x`` is (steps, batch, features)."""
    steps, batch = x.shape[0], x.shape[1]
    return 2 * steps * batch * (w_ih.numel() + w_hh.numel())


def _cudnn_rnn(x: Any, weights: Any, *_: Any, **__: Any) -> Any:
    """Every step multiplies every weight matrix once, whatever the layout of the batch."""
    rows = math.prod(x.shape[:-1])
    return sum(2 * rows * weight.numel() for weight in weights if weight.dim() > 1)


def _multi_head(query: Any, key: Any, value: Any, embedding: int, *_: Any, **__: Any) -> Any:
    """Projections into query, key and value, attention, projection out; (batch, steps, features)."""
    if query.is_nested:
        lengths = [part.shape[0] for part in query.unbind()]
        return sum(_self_attention(1, length, embedding) for length in lengths)
    batch, steps = query.shape[0], query.shape[1]
    if query is key and key is value:
        return _self_attention(batch, steps, embedding)
    read = key.shape[1]
    return 4 * batch * embedding * (embedding * (steps + read) + steps * read)


def _self_attention(batch: int, steps: int, embedding: int) -> int:
    """Four projections, the scores, and their product with the values."""
    return 8 * batch * steps * embedding**2 + 4 * batch * steps**2 * embedding


def _encoder_layer(src: Any, embedding: int, *args: Any, **__: Any) -> Any:
    """Self-attention and the two products of the feed-forward part, whose first weight is 2-d and wide."""
    # After src and embed_dim: heads, weight and bias of qkv and of the projection, use_gelu, norm_first, eps,
    # weights and biases of two norms, of the first product, of the second.
    first, second = args[12], args[14]
    parts = src.unbind() if src.is_nested else [src]
    total = 0
    for part in parts:
        steps, batch = part.shape[-2], math.prod(part.shape[:-2])
        total += _self_attention(batch, steps, embedding)
        total += 2 * batch * steps * (first.numel() + second.numel())
    return total


def _product(x: Any, *_: Any, out_val: Any, **__: Any) -> Any:
    """A product with packed weights: every element of the result sums over the last axis of the input."""
    return 2 * out_val.numel() * x.size(-1)  # nested tensors have no shape


def _grouped(one: Any, other: Any, *_: Any, out_val: Any, **__: Any) -> Any:
    """Products of groups of rows, as a mixture of experts has; two plain matrices share the summed axis."""
    if one.dim() == other.dim() == 2:  # noqa: PLR2004 - matrices
        return 2 * out_val[0].numel() * one.shape[-1]
    return 2 * out_val.numel() * one.shape[-1]


def _matrix_vector(matrix: Any, *_: Any, **__: Any) -> Any:
    return 2 * matrix.numel()


def _add_matrix_vector(_: Any, matrix: Any, *__: Any, **___: Any) -> Any:
    return 2 * matrix.numel()


def _added_product(_: Any, one: Any, other: Any, *__: Any, **___: Any) -> Any:
    return 2 * one.numel() * other.shape[-1]


_FORMULAS: dict[str, Callable[..., int]] = {
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_fused_attention_overrideable": _attention,
    "aten._scaled_dot_product_attention_math_for_mps": _attention,
    "aten.mkldnn_rnn_layer": _rnn_layer,
    "aten._cudnn_rnn": _cudnn_rnn,
    "aten._native_multi_head_attention": _multi_head,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
    "aten._int_mm": _product,
    "aten._weight_int8pack_mm": _product,
    "aten._weight_int4pack_mm": _product,
    "aten._weight_int4pack_mm_for_cpu": _product,
    "aten._dyn_quant_matmul_4bit": _product,
    "aten._grouped_mm": _grouped,
    "aten._addmm_activation": _added_product,
    "aten.linear": _product,
    "aten.mkldnn_linear": _product,
    "aten.mv": _matrix_vector,
    "aten.dot": _matrix_vector,
    "aten.vdot": _matrix_vector,
    "aten.addmv": _add_matrix_vector,
    "aten.addbmm": _added_product,
    "quantized.linear": _product,
    "quantized.linear_relu": _product,
    "quantized.linear_dynamic": _product,
    "quantized.linear_relu_dynamic": _product,
    "quantized.linear_dynamic_fp16": _product,
    "mkldnn._linear_pointwise": _product,
}
"""By the name of the packet: some are there in a part of the builds only."""


_UPSTREAM: dict[str, Callable[..., int]] = {str(packet): known for packet, known in flop_registry.items()}
