"""How two numbers, texts, tensors or arrays differ, with a tolerance for their precision."""

from __future__ import annotations

import array
import cmath
import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.instruments.nested import is_tensor, loaded

TOLERANCES: Final = {
    "float64": 1e-7, "complex128": 1e-7, "float32": 1e-3, "complex64": 1e-3, "float16": 1e-2,
    "complex32": 1e-2, "bfloat16": 5e-2, "int8": 2e-1, "float96": 1e-7, "float128": 1e-7, "complex192": 1e-7,
    "complex256": 1e-7,
}  # fmt: skip
"""By dtype, the largest difference as a share of a value; see `Tolerance`. Of int8, it is that of cases whose
linear layers are quantised."""
_SINGLE: Final = ("float32", "complex64")
_HALF: Final = ("float16", "complex32", "bfloat16")
DEFAULT_TOLERANCE: Final = 0.1
"""Of the other floating dtypes, which have eight bits or fewer."""
# A last axis of a few columns, such as x, y and a score, may hold quantities of several scales: a column of
# far smaller values than the largest has a tolerance of its own.
MAX_COLUMNS: Final = 32
MIN_ROWS: Final = 4
SMALL_COLUMN: Final = 0.01
# Above, every number of the dtype is a whole one.
_FRACTIONS_BELOW: Final = {"float64": 2.0**51, "float32": 2.0**22, "float16": 2.0**10, "bfloat16": 2.0**7}
# Masks replace values by a constant, or add it to them: -1e9, -1e4, or the lowest value of a dtype. As the
# largest value, it would tolerate any difference of the others.
LEAST_CONSTANT: Final = 1e4
CONSTANT_FACTOR: Final = 1000
_LOWEST: Final = (65504.0, 3.3895313892515355e38, 3.4028234663852886e38, 1.7976931348623157e308)
SHOWN_CHARACTERS: Final = 40
"""Of a text, from shortly before the first difference."""
# Objects that are printed without a text of their own have another address in each process, and the tests of
# both sides have folders of their own for temporary files.
_OF_PROCESS: Final = re.compile(
    rb"(?<=\bat )0x[0-9a-fA-F]+(?=>|, file |; to | state=)|/own-(base|candidate)(?=/tests/)"
)


class Sides(NamedTuple):
    """How the two sides of a comparison are called in texts."""

    old: str
    new: str
    precision: str | None = None
    """The dtype in which one side computes, if floating values of both may have unequal dtypes."""


PAIRED: Final = Sides("on the base", "now")


class Tolerance(NamedTuple):
    """How far values may differ from those of the base."""

    of_value: float
    """Share of each value."""
    of_largest: float
    """Share of the largest value of the tensor, array, list or column, which is added. Masks are left out."""
    dtype: str
    rounding: float | None = None
    """What a column of small values has of the tolerance of the largest one; ``None``: columns are alike."""
    identifiers: bool = False
    """Whether whole numbers must be equal."""

    @classmethod
    def of(cls, dtype: str, share: float | None = None) -> Tolerance:
        """Return the tolerance of a dtype, or a share of the largest value that the user has set instead.

        A small value may be the difference of large ones, whose rounding another order of summation changes.
        In half precision, only the largest value shows how much. In single precision, a hundredth of the
        share is enough for that, and in double precision far less; a tensor may hold values of several
        scales, as boxes with scores, or a time in seconds since 1970 with a forecast.
        """
        if share is not None:
            return cls(0.0, share, dtype)
        share = TOLERANCES.get(dtype, DEFAULT_TOLERANCE)
        if dtype in _HALF or dtype not in TOLERANCES:
            return cls(0.0, share, dtype, 0.001, identifiers=True)
        return cls(share, share / 100 if dtype in _SINGLE else share / 10_000, dtype, 0.1, identifiers=True)

    @classmethod
    def across(cls, dtypes: Iterable[str], share: float | None = None) -> Tolerance:
        """Return the tolerance between the coarsest of some dtypes and a finer one.

        Other kernels order sums otherwise in each layer, of which only the largest value shows the size.
        """
        coarsest = max(dtypes, key=lambda dtype: TOLERANCES.get(dtype, DEFAULT_TOLERANCE))
        if share is not None:
            return cls(0.0, share, coarsest)
        return cls(0.0, TOLERANCES.get(coarsest, DEFAULT_TOLERANCE), coarsest, 0.001)

    def __str__(self) -> str:
        if not self.of_value:
            return f"{self.of_largest:g} of the largest value in {self.dtype}"
        return f"{self.of_value:g} of a value and {self.of_largest:g} of the largest one in {self.dtype}"


def array_difference(
    old: Any,
    new: Any,
    tolerance: float | None,
    dtypes: tuple[str, str] | None = None,
    sides: Sides = PAIRED,
) -> str | None:
    """Describe how two tensors, or two arrays of numpy, differ; ``None`` if they do not.

    `tolerance` replaces that of the dtype, as a share of the largest value. `dtypes` are those of the output,
    if its values were converted.
    """
    before, now = dtypes or (str(old.dtype).removeprefix("torch."), str(new.dtype).removeprefix("torch."))
    if old.shape != new.shape:
        return f"shape {tuple(old.shape)} {sides.old}, {tuple(new.shape)} {sides.new}"
    floating = is_floating(old)
    if before != now and not (sides.precision and floating and is_floating(new)):
        return f"{before} {sides.old}, {now} {sides.new}"
    count = math.prod(old.shape)
    if not count:
        return None
    if floating:
        if sides.precision:
            return floating_difference(old, new, Tolerance.across((before, now, sides.precision), tolerance))
        return floating_difference(old, new, Tolerance.of(before, tolerance))
    kind = getattr(old.dtype, "kind", "")
    if kind in ("m", "M"):  # a date that is missing is unequal to itself
        old, new = old.view("int64"), new.view("int64")
    unequal = int(old.tobytes() != new.tobytes()) if kind == "V" else int((old != new).sum())
    return f"{unequal:,} of {count:,} values differ" if unequal else None


def is_floating(values: Any) -> bool:
    """Return whether a tensor or an array has floating or complex values."""
    if is_tensor(values):
        return bool(values.is_floating_point() or values.is_complex())
    return getattr(values.dtype, "kind", "") in ("f", "c")


def floating_difference(old: Any, new: Any, tolerance: Tolerance) -> str | None:
    """Describe how two tensors or arrays of floating or complex values differ."""
    library, numpy = loaded("torch") if is_tensor(old) else loaded("numpy"), loaded("numpy")
    wide = library.complex128 if tolerance.dtype.startswith("c") else library.float64
    if is_tensor(old):
        before, now = old.to(wide), new.to(wide)
    else:
        wide = library.promote_types(wide, old.dtype)
        before, now = old.astype(wide), new.astype(wide)
    finite = library.isfinite(before) & library.isfinite(now)
    # Infinities and NaN may be part of a result, for example of a mask, if both sides have them.
    same = (before == now) | (library.isnan(before) & library.isnan(now))
    unequal, count = int((~finite & ~same).sum()), math.prod(old.shape)
    if unequal:
        return f"{unequal:,} of {count:,} values are not finite on one side"
    if not bool(finite.any()):
        return None
    # The difference of the largest numbers may be infinite, which is what it is compared as.
    with contextlib.nullcontext() if numpy is None else numpy.errstate(all="ignore"):
        sizes, apart = abs(before[finite]), abs(before[finite] - now[finite])
        scale, scales = value_scales(abs(before), finite, tolerance.rounding)
        # An output of zeros must stay one: its scale tolerates nothing.
        beyond = apart > tolerance.of_value * sizes + tolerance.of_largest * scales
        if not bool(beyond.any()):
            old, new = library.where(finite, before, 0), library.where(finite, now, 0)
            differ = unequal_whole_numbers(old, new, tolerance.dtype) if tolerance.identifiers else 0
            return f"{differ:,} of {count:,} whole numbers differ" if differ else None
        largest, place = float(apart[beyond].max()), int(apart[beyond].argmax())
        size = float(sizes[beyond][place]) if tolerance.of_value else scale
        columns = " in its column" if not isinstance(scales, float) and scales[beyond][place] < scale else ""
    of = "the value there" if tolerance.of_value else "the largest value"
    share = f", {largest / size:.1%} of {of}" if size else ", where the base is 0"
    return f"values differ by up to {largest:.3g}{share}; allowed is {tolerance}{columns}"


def value_scales(sizes: Any, finite: Any, rounding: float | None) -> tuple[float, Any]:
    """Return the largest absolute value, and for each finite one the size of which a share is tolerated.

    Constants of masks have a size of their own, and are not the largest value.
    """
    limit = mask_limit(sizes[finite])
    if limit == math.inf:
        scale = float(sizes[finite].max())
        return scale, column_scales(sizes, finite, scale, rounding)
    masked = sizes > limit
    library = loaded("torch") if is_tensor(sizes) else loaded("numpy")
    others = library.where(masked, 0.0, sizes)
    scale = float(others[finite].max())
    scales = column_scales(others, finite, scale, rounding)
    return scale, library.where(masked[finite], sizes[finite], scales)


def mask_limit(sizes: Any) -> float:
    """Return the size above which finite absolute values are constants of a mask; infinity without any.

    They are round, or the largest of a dtype, and far above all others, to which they may be added.
    """
    limit = math.inf
    while True:
        scale = _extreme(max, sizes, 0.0, limit)
        below = _extreme(max, sizes, 0.0, scale / 2)
        if not below or scale < max(LEAST_CONSTANT, CONSTANT_FACTOR * below):
            return limit
        unit = 10.0 ** math.floor(math.log10(scale))
        constant = min((*_LOWEST, round(scale / unit) * unit), key=lambda value: abs(value - scale))
        lowest = _extreme(min, sizes, scale / 2, limit)
        if max(abs(scale - constant), abs(lowest - constant)) > 2 * below + 1e-6 * scale:
            return limit
        limit = scale / 2


def _extreme(extreme: Callable[..., Any], sizes: Any, above: float, limit: float) -> float:
    """Return the largest or smallest size in a range; 0 if it is empty."""
    if isinstance(sizes, list):
        return float(extreme((size for size in sizes if above < size <= limit), default=0.0))
    kept = sizes[(above < sizes) & (sizes <= limit)]
    return float(getattr(kept, extreme.__name__)()) if math.prod(kept.shape) else 0.0


def unequal_whole_numbers(before: Any, now: Any, dtype: str) -> int:
    """Return how many whole numbers differ, where all values of both sides are whole, or all of a column."""
    parts = [(before, now)]
    if not whole_numbers(before, now, dtype):
        parts = [(before[..., column], now[..., column]) for column in range(column_count(before.shape))]
    return sum(int((old != new).sum()) for old, new in parts if whole_numbers(old, new, dtype))


def column_count(shape: Sequence[int]) -> int:
    """Return the size of the last axis of an array; 0 if its columns are many, or have few rows."""
    columns = shape[-1] if len(shape) > 1 else 0
    return columns if 1 < columns <= MAX_COLUMNS and math.prod(shape[:-1]) >= MIN_ROWS else 0


def whole_numbers(before: Any, now: Any, dtype: str) -> bool:
    """Return whether floating values are numbers of things, such as identifiers, which are equal or not."""
    below = _FRACTIONS_BELOW.get(dtype)
    # In half precision, a few large values are whole by chance.
    if below is None or (dtype in _HALF and math.prod(before.shape) < MIN_ROWS):
        return False
    return all(
        bool((values == values.round()).all()) and 1 < float(abs(values).max()) < below
        for values in (before, now)
    )


def column_scales(sizes: Any, finite: Any, scale: float, rounding: float | None) -> Any:
    """Return the size of which a share is tolerated, for each finite value of an array with absolute values.

    It is the largest value, and in a column of far smaller ones the largest of these, with the share
    `rounding` of the largest of all.
    """
    columns = column_count(sizes.shape)
    if rounding is None or not columns:
        return scale
    rows = sizes.reshape(-1, columns)
    known = finite.reshape(-1, columns)
    own = [float(rows[:, column][known[:, column]].max()) if bool(known[:, column].any()) else 0.0
           for column in range(columns)]  # fmt: skip
    small = [each < SMALL_COLUMN * scale for each in own]
    if not any(small):
        return scale
    scales = sizes * 0 + scale
    for column, each in enumerate(own):
        if small[column]:
            scales[..., column] = each + rounding * scale
    return scales[finite]


def number_difference(
    old: Sequence[complex], new: Sequence[complex], tolerance: float | None, sides: Sides = PAIRED
) -> tuple[int, str] | None:
    """Describe how numbers of Python differ by the rule for arrays, and the index of the first that does."""
    size = math.hypot if any(isinstance(value, complex) for value in old) else None
    sizes = [abs(value) if size is None else size(value.real, value.imag) for value in old]
    finite = [each for each in sizes if math.isfinite(each)]
    masked = mask_limit(finite)
    scale = max((each for each in finite if each <= masked), default=0.0)
    dtype = "float64"
    if tolerance is None:
        # Numbers that single precision holds exactly were computed in it, as those of Tensor.tolist() are.
        parts = [part for value in (*old, *new) for part in (value.real, value.imag) if math.isfinite(part)]
        single = array.array("f", parts).tolist() == parts
        dtype = "float32" if single else "float64"
    allowed = Tolerance.of(dtype, tolerance)
    if sides.precision:
        allowed = Tolerance.across((dtype, sides.precision), tolerance)
    below = _FRACTIONS_BELOW[dtype]
    identifiers = allowed.identifiers and _whole(old, below) and _whole(new, below)
    for index, (before, now) in enumerate(zip(old, new, strict=True)):
        if before == now or (cmath.isnan(before) and cmath.isnan(now)):
            continue
        apart = complex(before) - complex(now)
        own = sizes[index]
        largest = own if own > masked else scale
        limit = allowed.of_largest * largest + (allowed.of_value * own if allowed.of_value else 0.0)
        # NaN and infinities are not within a limit.
        if identifiers or not math.hypot(apart.real, apart.imag) <= limit or not cmath.isfinite(before):
            return index, f"{before} {sides.old}, {now} {sides.new}"
    return None


def _whole(values: Sequence[complex], below: float) -> bool:
    """Return whether numbers of Python are whole ones, such as identifiers or counts."""
    real = [value for value in values if isinstance(value, float)]
    return len(real) == len(values) and all(map(float.is_integer, real)) and 1 < max(map(abs, real)) < below


def list_difference(
    old: Sequence[Any], new: Sequence[Any], tolerance: float | None, sides: Sides = PAIRED
) -> tuple[str, str] | None:
    """Describe how two lists of numbers or text differ, with the step to the first item that does."""
    if len(old) != len(new):
        return f"{units.plural(len(old), 'item')} {sides.old}, {len(new):,} {sides.new}", ""
    if isinstance(old[0], (float, complex)):
        found = number_difference(old, new, tolerance, sides)
        return None if found is None else (found[1], f"[{found[0]}]")
    for index, (before, now) in enumerate(zip(old, new, strict=True)):
        if isinstance(before, bytes):
            text = text_difference(before, now, sides)
        else:
            text = None if before == now else f"{before} {sides.old}, {now} {sides.new}"
        if text is not None:
            return text, f"[{index}]"
    return None


def text_difference(old: bytes, new: bytes, sides: Sides = PAIRED, *, binary: bool = False) -> str | None:
    """Describe how two encoded texts differ.

    Addresses of objects in them, and folders of temporary files, are not compared.
    """
    if old == new or _OF_PROCESS.sub(b"", old) == _OF_PROCESS.sub(b"", new):
        return None
    if binary:
        return f"{len(old):,} bytes {sides.old}, {len(new):,} {sides.new}, which are not equal"
    before, now = (text.decode(errors="surrogatepass") for text in (old, new))
    pairs = enumerate(zip(before, now, strict=False))
    first = next((index for index, (a, b) in pairs if a != b), min(len(before), len(now)))
    begin = 0 if max(len(before), len(now)) <= SHOWN_CHARACTERS else max(0, first - SHOWN_CHARACTERS // 4)
    shown = [ascii(text[begin : begin + SHOWN_CHARACTERS]) for text in (before, now)]
    place = f"from character {first} on: " if begin else ""
    return f"{place}{shown[0]} {sides.old}, {shown[1]} {sides.new}"
