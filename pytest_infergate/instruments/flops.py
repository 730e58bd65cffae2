"""Floating point operations of one operator call. Imports torch.

The formulas are those of `torch.utils.flop_counter`, and our own for operators that it lacks, most of them
fused operators of the CPU. A multiplication and an addition are two operations. As in published figures, only
products count: matrices, convolutions, recurrent layers, attention. Checked against published figures in
float32 and bfloat16: ResNet-50 8.174 GFLOP (8.18), ViT-B/16 35.126 (35.1; 33.7 without the formulas below),
BERT-base with 128 tokens 22.348 (22.35).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import flop_registry, sdpa_flop_count

# Words in the names of torch's own operators that multiply, by the convention of torch's names. A formula
# that is missing for one of them makes the figure too low without any sign, so a note must name it.
_HEAVY = re.compile(
    r"(?:^|_)(?:[a-z]*mm|matmul|linear|conv\w*|[a-z]*convolution|rnn|lstm|gru|attention|cdist|fft|trilinear|dist"
    r"|linalg|cholesky|inverse|svd)(?:_|\d|$)"
)
# Operators that a heavy word matches by accident.
_LIGHT = re.compile(
    r"gamma|cumm|upsample|fused_\w+_cell|flatten|pack|freq|shift|helper|norm|cross|diagonal|_mode$"
)
_COMPOSITE = ("linear", "matmul", "scaled_dot_product_attention")
# Namespaces of torch itself. Their remaining operators do nothing that counts; those of other libraries may
# do anything.
_OWN = ("aten", "prim", "prims")


def formula(operator: Any) -> Callable[..., int] | None:
    """Return the formula of an operator packet such as ``torch.ops.aten.addmm``; `None` if it has none.

    The formula is called with the arguments of the operator, and with its result as `out_val`.
    """
    name = str(operator).rstrip("_")  # an operator in place multiplies as much
    return _UPSTREAM.get(name) or _FORMULAS.get(name)


def uncovered(name: str) -> bool:
    """Return whether FLOPs may be missing for an operator without a formula, such as ``aten::cdist``."""
    namespace, _, rest = name.partition("::")
    return namespace not in _OWN or _is_heavy(rest)


def is_product(name: str) -> bool:
    """Return whether an operator such as ``aten::addmm`` multiplies, by its formula or its name.

    Of a composite operator and the one that it calls, only one does.
    """
    namespace, found, rest = name.partition("::")
    if not found:
        return False
    if namespace == "aten" and (rest in _COMPOSITE or ("conv" in rest and rest != "convolution")):
        return False
    packet = f"{namespace}.{rest.rstrip('_')}"
    return packet in _UPSTREAM or packet in _FORMULAS or _is_heavy(rest)


def _is_heavy(name: str) -> bool:
    return _HEAVY.search(name) is not None and _LIGHT.search(name) is None


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return sdpa_flop_count(query.shape, key.shape, value.shape)  # type: ignore[no-untyped-call]


def _rnn_layer(x: Any, w_ih: Any, w_hh: Any, *_: Any, **__: Any) -> Any:
    """One direction of one oneDNN layer; the shape of ``x`` is (steps, batch, features)."""
    steps, batch = x.shape[0], x.shape[1]
    return 2 * steps * batch * (w_ih.numel() + w_hh.numel())


def _cudnn_rnn(x: Any, weights: Any, *_: Any, **__: Any) -> Any:
    """All layers of cuDNN: each step multiplies by each weight matrix once, in any layout of the batch."""
    rows = math.prod(x.shape[:-1])
    return sum(2 * rows * weight.numel() for weight in weights if weight.dim() > 1)


def _multi_head(query: Any, key: Any, value: Any, embedding: int, *_: Any, **__: Any) -> Any:
    """Projections of query, key and value, attention, output projection; (batch, steps, features)."""
    if query.is_nested:
        lengths = [part.shape[0] for part in query.unbind()]
        return sum(_self_attention(1, length, embedding) for length in lengths)
    batch, steps = query.shape[0], query.shape[1]
    if query is key and key is value:
        return _self_attention(batch, steps, embedding)
    keys = key.shape[1]
    return 4 * batch * embedding * (embedding * (steps + keys) + steps * keys)


def _self_attention(batch: int, steps: int, embedding: int) -> int:
    """Four projections, the scores, and the product of the scores with the values."""
    return 8 * batch * steps * embedding**2 + 4 * batch * steps**2 * embedding


def _encoder_layer(src: Any, embedding: int, *args: Any, **__: Any) -> Any:
    """Self-attention and the two products of the feed-forward part of one encoder layer."""
    # The arguments after src and embed_dim: heads, weight and bias of qkv and of the projection, use_gelu,
    # norm_first, eps, weights and biases of two norms, of the first product, of the second product.
    first, second = args[12], args[14]
    parts = src.unbind() if src.is_nested else [src]
    total = 0
    for part in parts:
        steps, batch = part.shape[-2], math.prod(part.shape[:-2])
        total += _self_attention(batch, steps, embedding)
        total += 2 * batch * steps * (first.numel() + second.numel())
    return total


def _product(x: Any, *_: Any, out_val: Any, **__: Any) -> Any:
    """A product with packed weights: each element of the result is a sum over the last axis of the input."""
    return 2 * out_val.numel() * x.size(-1)  # size works for nested tensors, shape does not


def _grouped(first: Any, second: Any, *_: Any, out_val: Any, **__: Any) -> Any:
    """Products of groups of rows, as in a mixture of experts; matrices are grouped along the summed axis."""
    if first.dim() == second.dim() == 2:  # noqa: PLR2004 - matrices
        return 2 * out_val[0].numel() * first.shape[-1]
    return 2 * out_val.numel() * first.shape[-1]


def _matrix_vector(matrix: Any, *_: Any, **__: Any) -> Any:
    return 2 * matrix.numel()


def _add_matrix_vector(_: Any, matrix: Any, *__: Any, **___: Any) -> Any:
    return 2 * matrix.numel()


def _added_product(_: Any, first: Any, second: Any, *__: Any, **___: Any) -> Any:
    return 2 * first.numel() * second.shape[-1]


# By the name of the packet, because some operators exist in a part of torch's builds only.
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
_UPSTREAM: dict[str, Callable[..., int]] = {str(packet): known for packet, known in flop_registry.items()}
