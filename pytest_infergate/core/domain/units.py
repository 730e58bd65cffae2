"""Scale and format figures: SI values in, text out. No other module formats a figure."""

from __future__ import annotations

import functools
import math
import re

UNKNOWN = "-"

# Values from 999.5 on round to four digits or more; below, three significant digits say enough.
_THOUSAND = 999.5
# Bytes are decimal, MB is 10^6 bytes, like the budgets whose names end in `_mb`.
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_JOULES = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
_LARGEST_FACTOR = 1_000_000
_GRAMS = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"))


def significant(value: float, digits: int = 3) -> str:
    """Format with `digits` significant digits, never in scientific notation: ``12.3``, ``0.0457``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else UNKNOWN
    # The exponent is taken after rounding: 9.996 has the exponent of 10.0, and not one digit too many.
    exponent = int(f"{abs(value):.{digits - 1}e}".split("e")[1])
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def trimmed(value: float, digits: int = 3) -> str:
    """Format like `significant`, without trailing zeros of the fraction: ``12.5``, ``10``."""
    text = significant(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def power(value: float | None) -> str:
    """Format a small ratio with two digits and its power of ten: ``3.7e-07``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:.1e}" if value else "0"


def dollars(value: float | None) -> str:
    """Format an amount without its unit: three significant digits, ``12.0``, or whole dollars, ``1,234``."""
    if value is None or abs(value) < _THOUSAND:
        return UNKNOWN if value is None else significant(value)
    return count(value)


def tick(value: float, digits: int = 3) -> str:
    """Format a label of a chart as short as possible: ``1,234``, ``12.5``, ``10``."""
    return trimmed(value, digits) if abs(value) < _THOUSAND else count(value)


def round_significant(value: float, digits: int = 5) -> float:
    """Round to `digits` significant digits, the precision of figures in files."""
    rounded = float(f"{value:.{digits - 1}e}")
    return rounded if math.isfinite(rounded) else value  # rounding the largest floats up gives infinity


def seconds(value: float | None) -> str:
    """Format a time: ``12.3 ms``."""
    return _scaled(value, _SECONDS)


def bytes_(value: float | None) -> str:
    """Format a size: ``12.3 MB``, where MB is 10^6 bytes."""
    if value is not None and abs(value) < _THOUSAND:
        return f"{value:.0f} B"
    return _scaled(value, _BYTES)


def flops(value: float | None) -> str:
    """Format a number of floating point operations: ``12.3 GFLOP``."""
    if value is not None and abs(value) < _THOUSAND:
        return f"{value:.0f} FLOP"
    return _scaled(value, tuple((scale, f"{unit}FLOP") for scale, unit in _COUNTS))


def joules(value: float | None) -> str:
    """Format an energy: ``12.3 mJ``."""
    return _scaled(value, _JOULES)


def grams(value: float | None) -> str:
    """Format a mass: ``12.3 g``."""
    return _scaled(value, _GRAMS)


def count(value: float | None) -> str:
    """Format an exact count with every digit: ``1,234``."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:,.0f}"


def rate(value: float | None, unit: str = "") -> str:
    """Format a rate: ``1.23k/s``, or ``1.23k images/s`` with a `unit`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    scaled = _scaled(value, _COUNTS).replace(" ", "") if abs(value) >= 1 else significant(value)
    return f"{scaled} {unit}/s" if unit else f"{scaled}/s"


def percent(ratio: float | None, *, signed: bool = True, decimals: int = 1) -> str:
    """Format 0.046 as ``+4.6 %``, and growth of 100 % or more as a factor: ``x3.1``."""
    if ratio is None or not math.isfinite(100 * ratio):
        return UNKNOWN
    if signed and ratio >= _LARGEST_FACTOR:  # an end of the interval of too few launches
        return f"over x{_LARGEST_FACTOR:,}"
    if signed and ratio >= 1:
        return f"x{significant(1 + ratio, 2)}"
    return f"{100 * ratio:{'+' if signed else ''}.{decimals}f} %"


def duration(value: float) -> str:
    """Format a waiting time roughly: ``8 s``, ``6 min``, ``1 h 20 min``."""
    whole = round(value)
    if whole < 90:  # noqa: PLR2004 - "75 s" reads better than "1 min"
        return f"{whole} s"
    minutes = round(value / 60)
    if minutes < 90:  # noqa: PLR2004 - likewise "75 min"
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def time_option(value: float) -> str:
    """Format a time as the options that take one do, rounded up: ``8s``, ``80min``."""
    return f"{math.ceil(value)}s" if value < 90 else f"{math.ceil(value / 60)}min"  # noqa: PLR2004 - as above


def longer_limit(value: float) -> str:
    """Return the hint to raise the time limit of a case to so many seconds."""
    return f"raise --infer-max-time or max_time in the marker to {time_option(value)} or more"


def parse_duration(text: str) -> float:
    """Parse ``10``, ``10s``, ``2min``, ``1h`` or ``1d`` into seconds.

    Raises `ValueError` for any other text and for times that are not greater than 0.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*(s|min|h|d|)\s*", text)
    scales = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
    try:
        value = float(match[1]) * scales[match[2]] if match else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"a time must be greater than 0, got {text!r}. Hint: write for example 10s or 2min")
    return value


def plural(count: int, noun: str) -> str:
    """Join a count with its noun: ``1 case``, ``3 cases``, ``7 launches``."""
    ending = "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"


# A report shows most figures several times.
@functools.lru_cache(maxsize=8192)
def _scaled(value: float | None, units: tuple[tuple[float, str], ...]) -> str:
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return f"0 {next(unit for scale, unit in units if scale == 1)}".rstrip()
    # Compare after rounding, so that 999.96 ms is shown as 1.00 s and not as 1000 ms.
    rounded = abs(round_significant(value, 3))
    scale, unit = next((pair for pair in units if rounded >= pair[0]), units[-1])
    return f"{significant(value / scale)} {unit}".rstrip()
