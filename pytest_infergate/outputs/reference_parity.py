"""How an output differs from that of the reference: the same call, eager on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.measurement import Parity
from pytest_infergate.instruments.nested import is_tensor, loaded
from pytest_infergate.outputs.comparison import Comparer, difference_text, uncompared_places
from pytest_infergate.outputs.output_description import Description
from pytest_infergate.outputs.value_differences import Sides, is_floating, mask_limit

# Convolutions of cuDNN round float32 to the ten bits of TF32 unless they are forbidden to, and products of
# matrices do on request: as many as float16 has.
_ACCELERATED: Final = {None: "float16", "float32": "float16"}


def reference_parity(
    reference: Any, output: Any, dtype: str | None, *, on_cpu: bool, tolerance: float | None = None
) -> Parity:
    """Compare an output with that of the reference.

    `dtype` is that of the case. `tolerance` replaces the share of the largest value by which floating values
    may differ in the coarsest dtype of both sides. All other values must be equal.
    """
    sides = Sides("in the reference", "here", computed_in(dtype, on_cpu=on_cpu))
    compared = Comparer(Description.of(reference), Description.of(output), tolerance, sides)
    pairs = [(old, new) for old, new in compared.compared if is_floating(old) and old.shape == new.shape]
    distances = [_distance(old, new) for old, new in pairs]
    return Parity(
        error=max((each.error for each in distances), default=None),
        cosine=_cosine(distances),
        same_top=next((_same_top(old, new) for old, new in pairs if _has_classes(old)), None),
        difference=difference_text(compared.found),
        uncompared=uncompared_places(compared.uncompared),
    )


def computed_in(dtype: str | None, *, on_cpu: bool) -> str | None:
    """Return the coarsest dtype in which any runtime computes a case of this dtype."""
    computed = dtype_parts(dtype).computed
    return computed or "float64" if on_cpu else _ACCELERATED.get(computed, computed)


def _wide(values: Any) -> Any:
    """Return values as an array in double precision; of complex ones, the real and imaginary parts."""
    numpy = loaded("numpy")
    if is_tensor(values):
        torch = loaded("torch")
        parts = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
        return parts.detach().to(torch.float64).cpu().numpy()
    found = values.astype(numpy.promote_types(values.dtype, numpy.float64))
    return numpy.stack([found.real, found.imag], axis=-1) if found.dtype.kind == "c" else found


class _Distance(NamedTuple):
    """How far two tensors or arrays are apart in their finite values."""

    error: float
    """Largest difference as a share of the largest value of the reference."""
    product: float
    """Sum of the products of both sides; the other sums are those of the squares of each."""
    reference: float
    here: float


def _distance(old: Any, new: Any) -> _Distance:
    numpy = loaded("numpy")
    before, now = _wide(old), _wide(new)
    compared = numpy.isfinite(before) & numpy.isfinite(now)
    before, now = before[compared], now[compared]
    # Constants of masks, which no model computes, are left out.
    computed = (abs(before) <= mask_limit(abs(before))) | (abs(now) <= mask_limit(abs(now)))
    before, now = before[computed], now[computed]
    if not before.size:
        return _Distance(0.0, 0.0, 0.0, 0.0)
    with numpy.errstate(all="ignore"):
        apart, scale = abs(before - now).max(), abs(before).max()
        error = float(apart / scale) if scale else float(apart > 0)
        sums = (before * now).sum(), (before**2).sum(), (now**2).sum()
    return _Distance(error, *map(float, sums))


def _cosine(distances: Sequence[_Distance]) -> float | None:
    """Return the cosine between all finite values of both sides; ``None`` if one side has zeros only."""
    size = (sum(each.reference for each in distances) * sum(each.here for each in distances)) ** 0.5
    return sum(each.product for each in distances) / size if 0 < size < float("inf") else None


def _has_classes(values: Any) -> bool:
    return len(values.shape) > 1 and values.shape[-1] > 1


def _same_top(old: Any, new: Any) -> float:
    """Return the share of rows whose largest value is in the same column."""
    return float((_wide(old).argmax(-1) == _wide(new).argmax(-1)).mean())
