"""The work of one item, from the exact counters of measured batches, or the reason why it is unknown.

A projection multiplies this work by data sheets. What the counters do not describe is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pytest_infergate.core.domain.measurement import Counters, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.places import count_places
from pytest_infergate.core.domain.values import Note, Struct

NEEDED: Final = ("flops", "operators", "bytes_read", "bytes_written")
"""Counters that a projection needs."""
WEIGHT_ELEMENT_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of an element of the dtypes whose products have a known peak."""
MAX_OTHER_WEIGHTS: Final = 0.01
"""Share of the weights in other dtypes, such as position ids, from which on the model counts as quantised."""
MAX_NONLINEARITY: Final = 0.05
"""Relative difference of a third batch size from the line through two."""
MAX_READBACKS: Final = 8
"""Values that a call may read back on the host; more of them steer a loop."""
MAX_RESAMPLED: Final = 0.01
"""Share of the bytes in interpolating operators, which took 5 to 15 times the projected time on GPUs."""
_REFUSED: Final = {
    # On the CPU, recurrent layers are taken apart; nothing else splits its gates in this way.
    r"aten::(\w*(rnn|lstm|gru)\w*|unsafe_(split|chunk)\w*)|quantized::\w*lstm\w*": "its recurrent layers "
    "(RNN, LSTM, GRU) run one step after another, which takes longer than the work alone",
    r"(quantized|quantized_decomposed)::.*|aten::\w*(int\d|int_mm|quant)\w*": "its quantised products "
    "run at a speed that is not known",
    r"aten::\w*(sparse|_cslt|grouped_mm)\w*": "sparse products and mixtures of experts do only a part of the "
    "counted work",
    r"aten::(nonzero\w*|masked_select|_?unique\w*|bincount)": "the work depends on the values of the input",
}
_RESAMPLING: Final = re.compile(r"aten::(upsample_\w*(linear|cubic)\w*|grid_sampler\w*)")


class ItemWork(Struct, frozen=True, kw_only=True):
    """The work of one item of a batch, and what a call does once whatever its batch size."""

    flops: float
    bytes: float
    """Read and written by operators for one item, in the element size of the measurement."""
    fixed_bytes: float
    """Read once in a call: the weights."""
    product_bytes: float | None = None
    """The part of `bytes` in operators with FLOPs; ``None`` if it is unknown."""
    operators: int
    """Operators of a call; those that only allocate or make a view are not counted."""
    element_size: int
    """Bytes of an element of the measured dtype."""
    weight_bytes: float
    activation_bytes: float = 0.0
    """Peak of the activations of one item; 0 if it is unknown, so that only the weights must fit."""
    only_batch_size: int | None = None
    """The only batch size for which the bytes are known; ``None`` for any."""

    def memory(self, batch_size: int) -> float:
        """Return the bytes that a batch needs, in the element size of the measurement."""
        return self.weight_bytes + batch_size * self.activation_bytes


REFUSED: Final = "not projected"
"""Beginning of the text of every refusal; a reason follows."""
ONE_SIZE: Final = "a call reads a part of the weights, and one batch size does not show how large a part"
"""Reason for which a batch size is not projected from another one."""
MORE_SIZES: Final = "give the marker batch_sizes=[1, 8]; --infer-counters-only is enough"


def refusal(text: str, hint: str = "") -> Note:
    """Return a note on what is not projected."""
    return Note(code=NoteCode.NOT_PROJECTED, text=f"{REFUSED}: {text}", hint=hint)


def item_work(measured: Mapping[int, Measurement]) -> ItemWork | Note:
    """Return the work of one item from the measurements of one eager case on the CPU by batch size.

    Two batch sizes show what grows with the batch and what does not. With one, the weights are taken as read
    once in a call; where only a part of them is read, as of an embedding table, the work is known for that
    batch size alone. Returns the reason if the counters do not describe the work. Raises `ValueError` without
    a measurement.
    """
    if not measured or min(measured) < 1:
        raise ValueError(f"measurements of batch sizes from 1 are needed, got {sorted(measured)}")
    for one in measured.values():
        if (found := unprojectable(one)) is not None:
            return found
    small, large = min(measured), max(measured)
    first, last = measured[small].counters, measured[large].counters
    weights = sum(last.weights.values())
    # Of an embedding table a call reads a few rows, so that its size is not what a call reads once.
    partly = small == large and any(row.operator == "aten::embedding" for row in last.operators)
    once = 0 if partly else weights
    growing, fixed = _line(small, _moved(first), large, _moved(last), once)
    flops = last.totals["flops"] / large
    for size, one in measured.items():
        expected = (
            (size * flops, one.counters.totals["flops"]),
            (fixed + size * growing, _moved(one.counters)),
        )
        if any(abs(line - counted) > MAX_NONLINEARITY * counted for line, counted in expected):
            return refusal("FLOPs or bytes do not grow in proportion to the batch size")
    if growing <= 0 or fixed < 0 or flops <= 0:
        hint = MORE_SIZES if small == large else ""
        return refusal("the counters of one item cannot be separated from those of the weights", hint)
    products = None
    if (begin := _product_bytes(first)) is not None and (end := _product_bytes(last)) is not None:
        products = min(growing, max(0.0, _line(small, begin, large, end, once)[0]))
    activations = measured[large].memory.activations
    return ItemWork(
        flops=flops,
        bytes=growing,
        fixed_bytes=fixed,
        product_bytes=products,
        operators=max(one.counters.totals["operators"] for one in measured.values()),
        element_size=WEIGHT_ELEMENT_BYTES.get(max(last.weights, key=last.weights.__getitem__, default=""), 4),
        weight_bytes=weights,
        activation_bytes=0.0 if activations is None else activations / large,
        only_batch_size=small if partly else None,
    )


def _line(small: int, first: float, large: int, last: float, once: float) -> tuple[float, float]:
    """Return what grows with each item, and what does not."""
    # One batch size shows no slope: it takes what is read once as given.
    growing = (last - once) / large if small == large else (last - first) / (large - small)
    return growing, last - large * growing


def _moved(counters: Counters) -> int:
    return counters.totals["bytes_read"] + counters.totals["bytes_written"]


def _product_bytes(counters: Counters) -> float | None:
    """Return the bytes of operators with FLOPs; ``None`` if the rows do not add up to the totals."""
    rows = [(row.flops > 0, row.bytes * count_places(row.place)) for row in counters.operators]
    if sum(size for _, size in rows) != _moved(counters):
        return None
    return sum(size for product, size in rows if product)


def unprojectable(measured: Measurement) -> Note | None:
    """Return why a measurement does not describe the work on other hardware; ``None`` if it does."""
    counters, codes = measured.counters, {note.code for note in measured.notes}
    # A file from elsewhere may contain anything.
    missing = ", ".join(name for name in NEEDED if counters.totals.get(name, -1) < 0)
    varying = ", ".join(name for name in NEEDED if name in counters.varying)
    other = sum(size for dtype, size in counters.weights.items() if dtype not in WEIGHT_ELEMENT_BYTES)
    quantised = other > MAX_OTHER_WEIGHTS * sum(counters.weights.values())
    reasons = (
        (measured.stream is not None, "the time of a stream depends on its length",
         "use AIConfigurator for LLM serving"),
        (NoteCode.COMPILED in codes, "a compiled call has no counters of operators",
         "measure the eager model as well"),
        (bool(missing), f"counters are missing: {missing}", ""),
        (not counters.operators, "the operators are not listed, so that none can be refused",
         "measure it again"),
        (NoteCode.FLOPS_UNCOVERED in codes, "the FLOPs of an operator, or a custom one, are unknown", ""),
        (bool(varying), f"the work differs from call to call: {varying}", ""),
        (NoteCode.WEIGHTS_UNSEEN in codes, "the weights are unknown",
         "keep weights in modules or objects of the callable"),
        (quantised, "its weights are in int8 or less, or in float64, whose speed is not known", ""),
    )  # fmt: skip
    for applies, text, hint in reasons:
        if applies:
            return refusal(text, hint)
    return unprojectable_operator(counters)


def unprojectable_operator(counters: Counters) -> Note | None:
    """Return a note on the first operator whose time is not that of its FLOPs and bytes, or ``None``."""
    readbacks, resampled = 0, 0
    for row in counters.operators:
        for pattern, reason in _REFUSED.items():
            if re.fullmatch(pattern, row.operator):
                return refusal(f"{reason} (found by {row.operator})")
        if row.operator == "aten::_local_scalar_dense":
            readbacks += row.calls * count_places(row.place)
        if _RESAMPLING.fullmatch(row.operator):
            resampled += row.bytes * count_places(row.place)
    if readbacks > MAX_READBACKS:
        return refusal(f"the host reads {readbacks} values back in a call, which steers a loop")
    if resampled > MAX_RESAMPLED * _moved(counters):
        return refusal("interpolation took 5 to 15 times the projected time on GPUs")
    return None
