"""The bottleneck of a case: launches, copies, memory or arithmetic, if measured figures show it.

The roofline is that of the machine itself: its peaks are measured, not taken from data sheets. Bytes are
those of the inputs and results of operators, not the traffic to memory. If caches serve a part of them, more
than the peak bandwidth is reached.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.stats import positive
from pytest_infergate.core.domain.values import Struct

# A device that waits for the host computes for a part of the call only, while the host is busy for most of
# it. Both are required: a call that waits for its own work keeps the host busy too.
HOST_SHARE: Final = 0.7
"""Share of a call during which the host issues work, above which the device may be waiting for it."""
DEVICE_SHARE: Final = 0.8
"""Share of a call during which the device computes, below which it is waiting."""
TRANSFER_SHARE: Final = 0.3
"""Share of a call from host to host that copies take, above which they are the bottleneck."""
FAR_SHARE: Final = 0.1
"""Share of a peak below which the case is far from it."""
# Calling an operator takes microseconds by itself, a large part of operators that are shorter than this.
TINY_OPERATOR: Final = 20e-6
"""Time of an operator in seconds below which the overhead of calling it matters."""

DEFAULT_DTYPE: Final = "float32"
"""Dtype of a case whose weights are unknown."""

Kind = Literal["launch", "memory", "compute", "transfer"]


class Bottleneck(Struct, frozen=True, kw_only=True):
    """The bottleneck of a case with the evidence for it."""

    kind: Kind
    evidence: str
    """One sentence with the figures."""
    intensity: float | None = None
    """Arithmetic intensity: floating point operations per byte that operators read or write."""
    attained_flops: float | None = None
    """Floating point operations per second."""
    attained_bandwidth: float | None = None
    """Bytes per second."""
    ridge: float | None = None
    """Intensity from which on arithmetic is the limit of the machine instead of its memory."""


class _Roofline(NamedTuple):
    """The position of a case below the peaks of its machine; ``None`` if a figure is missing."""

    intensity: float | None = None
    flops: float | None = None
    bandwidth: float | None = None
    ridge: float | None = None
    flops_share: float = 0.0
    bandwidth_share: float = 0.0
    assumed_dtype: str = ""
    """Dtype of the peak, if that of the case is unknown."""

    @property
    def far(self) -> bool:
        """Whether the case is far below both peaks."""
        return max(self.flops_share, self.bandwidth_share) < FAR_SHARE


def bottleneck(result: CaseResult) -> Bottleneck | None:
    """Return the bottleneck of a case; ``None`` if the evidence is missing."""
    measured = result.measurement
    if result.outcome is not Outcome.MEASURED or measured is None or measured.latency is None:
        return None
    # A file from elsewhere may contain a time of zero.
    if not positive(measured.latency.p50.value):
        return None
    roofline = _roofline(result, measured)
    # Launches and copies come first: a roofline means nothing for a device that waits.
    conclusion = _waiting(measured)
    if conclusion is None:
        host = 0.0 if measured.enqueue is None else measured.enqueue / measured.latency.p50.value
        if host > HOST_SHARE and measured.device_time is None:
            return None  # the host is busy all along, and the work of the device cannot be seen
        conclusion = _overhead(measured, roofline) or _limit(roofline)
    if conclusion is None:
        return None
    kind, evidence = conclusion
    return Bottleneck(
        kind=kind,
        evidence=evidence,
        intensity=roofline.intensity,
        attained_flops=roofline.flops,
        attained_bandwidth=roofline.bandwidth,
        ridge=roofline.ridge,
    )


def _waiting(measured: Measurement) -> tuple[Kind, str] | None:
    """Detect an accelerator that waits, for launches of kernels or for copies."""
    call = measured.call_times.p50.value
    if measured.enqueue is not None and measured.device_time is not None:
        host, device = measured.enqueue / call, measured.device_time / call
        if host > HOST_SHARE and device < DEVICE_SHARE:
            return "launch", (
                f"the host issues work for {_percent(host)} of the call and the device computes for "
                f"{_percent(device)}: kernels wait for launches"
            )
    whole = measured.host_to_host
    if whole is not None and positive(whole) and (share := (whole - call) / whole) > TRANSFER_SHARE:
        text = f"copies between host and device take {_percent(share)} of a call from host to host"
        return "transfer", text
    return None


def _overhead(measured: Measurement, roofline: _Roofline) -> tuple[Kind, str] | None:
    """Detect a CPU that calls many tiny operators, far below both peaks."""
    operators = measured.counters.totals.get("operators", 0)
    # Only accelerators have an enqueue time; there, launches have been ruled out already.
    if measured.enqueue is not None or not operators or roofline.ridge is None:
        return None
    each = measured.call_times.p50.value / operators
    if each >= TINY_OPERATOR or not roofline.far:
        return None
    return "launch", (
        f"overhead: {units.plural(operators, 'operator')} of {units.seconds(each)} each, "
        f"{_percent(roofline.flops_share)} of the peak arithmetic, {_percent(roofline.bandwidth_share)} of "
        "the peak bandwidth"
    )


def _limit(roofline: _Roofline) -> tuple[Kind, str] | None:
    """Return the side of the ridge on which the case lies; ``None`` if it is far below both peaks."""
    # Far below both peaks, neither of them is the limit.
    if roofline.ridge is None or roofline.intensity is None or roofline.far:
        return None
    computing = roofline.intensity >= roofline.ridge
    share = roofline.flops_share if computing else roofline.bandwidth_share
    text = (
        f"{units.significant(roofline.intensity)} FLOP per byte, {'above' if computing else 'below'} the "
        f"ridge of {units.significant(roofline.ridge)}: {_percent(share)} of the peak "
        f"{'arithmetic' if computing else 'bandwidth'} is reached"
    )
    if not computing and share > 1:
        text += ", because caches serve a part"
    if roofline.assumed_dtype:
        text += f"; the peak is that of {roofline.assumed_dtype}, because the dtype is unknown"
    return ("compute" if computing else "memory"), text


def _roofline(result: CaseResult, measured: Measurement) -> _Roofline:
    totals = measured.counters.totals
    if not {"flops", "bytes_read", "bytes_written"} <= totals.keys():
        return _Roofline()
    moved = totals["bytes_read"] + totals["bytes_written"]
    # A model that moves no bytes has no intensity.
    if not moved:
        return _Roofline()
    seconds = measured.call_times.p50.value
    flops, bandwidth = totals["flops"] / seconds, moved / seconds
    reached = _Roofline(intensity=totals["flops"] / moved, flops=flops, bandwidth=bandwidth)
    weights, peaks = measured.counters.weights, result.peaks
    # The dtype of most of the weights, if the case has none of its own. A model without weights, or one whose
    # weights are hidden in a function, computes in the default dtype of torch.
    dtype = _computed_dtype(result.case.dtype) or max(weights, key=weights.__getitem__, default="")
    assumed = "" if dtype else DEFAULT_DTYPE
    dtype = dtype or assumed
    peak = None if peaks is None else peaks.flops.get(dtype)
    if peaks is None or peak is None or not (positive(peak) and positive(peaks.bandwidth)):
        return reached
    return reached._replace(
        ridge=peak / peaks.bandwidth,
        flops_share=flops / peak,
        bandwidth_share=bandwidth / peaks.bandwidth,
        assumed_dtype=assumed,
    )


def _computed_dtype(dtype: str | None) -> str | None:
    """Return the dtype of the products of a case; ``None``: that of the model."""
    return "tf32" if dtype_parts(dtype).tf32 else dtype_parts(dtype).computed


def _percent(ratio: float) -> str:
    return units.percent(ratio, signed=False, decimals=0)
