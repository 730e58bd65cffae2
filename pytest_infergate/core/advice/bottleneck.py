"""What holds a case back: launches, copies, memory or arithmetic, told from figures and never guessed.

The roofline is that of the machine itself, of peaks that were measured. Bytes are those of the inputs and
results of operators, not traffic to memory: where caches serve them, more is reached than the peak.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.model import Struct
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.stats import positive

HOST_SHARE: Final = 0.7
"""Share of a call during which the host issues work, from which on the device may be waiting for it."""
DEVICE_SHARE: Final = 0.8
"""Share of a call during which the device computes, up to which it is waiting."""
TRANSFER_SHARE: Final = 0.3
"""Share of a call from host to host, from which on copies are what holds it back."""
FAR_SHARE: Final = 0.1
"""Share of a peak below which it is not what holds a case back."""
TINY_OPERATOR: Final = 20e-6
"""Seconds of an operator, of which a large part is spent on calling it."""

Kind = Literal["launch", "memory", "compute", "transfer"]


class Bottleneck(Struct, frozen=True, kw_only=True):
    """What holds one case back, and what says so."""

    kind: Kind
    evidence: str
    """One sentence with the figures."""
    intensity: float | None = None
    """Floating point operations a byte that operators read or write."""
    attained_flops: float | None = None
    """A second."""
    attained_bandwidth: float | None = None
    """Bytes a second."""
    ridge: float | None = None
    """Intensity from which on the machine's arithmetic is the limit, and not its memory."""


class _Roofline(NamedTuple):
    """Where a case stands below the peaks; `None` where a figure is missing."""

    intensity: float | None = None
    flops: float | None = None
    bandwidth: float | None = None
    ridge: float | None = None
    flops_share: float = 0.0
    bandwidth_share: float = 0.0


def bottleneck(result: CaseResult) -> Bottleneck | None:
    """Name what holds a case back; ``None`` where the evidence is missing.

    Launches first, then copies, since a roofline means nothing for a device that waits.
    """
    measured = result.measurement
    if result.outcome is not Outcome.MEASURED or measured is None:
        return None
    if not positive(measured.latency.p50.value):
        return None
    roofline = _roofline(result, measured)
    found = _launches(measured) or _transfers(measured)
    if found is None and not _blind(measured):
        found = _overhead(measured, roofline) or _limit(roofline)
    if found is None:
        return None
    kind, evidence = found
    return Bottleneck(
        kind=kind,
        evidence=evidence,
        intensity=roofline.intensity,
        attained_flops=roofline.flops,
        attained_bandwidth=roofline.bandwidth,
        ridge=roofline.ridge,
    )


def _host_share(measured: Measurement) -> float | None:
    return None if measured.enqueue is None else measured.enqueue / measured.latency.p50.value


def _blind(measured: Measurement) -> bool:
    """Whether the host is busy all along, and nobody saw what the device does meanwhile."""
    return (_host_share(measured) or 0.0) > HOST_SHARE and measured.device_time is None


def _launches(measured: Measurement) -> tuple[Kind, str] | None:
    """An accelerator whose kernels wait for the host: a call that waits for its own work keeps it busy."""
    host = _host_share(measured)
    if host is None or measured.device_time is None:
        return None
    device = measured.device_time / measured.latency.p50.value
    if not (host > HOST_SHARE and device < DEVICE_SHARE):
        return None
    return "launch", (
        f"the host issues work for {_share(host)} of the call, the device computes for {_share(device)}: "
        "kernels wait for launches"
    )


def _transfers(measured: Measurement) -> tuple[Kind, str] | None:
    whole = measured.host_to_host
    if whole is None or not positive(whole):
        return None
    share = (whole - measured.latency.p50.value) / whole
    if not share > TRANSFER_SHARE:
        return None
    return "transfer", f"copies between host and device take {_share(share)} of a call from host to host"


def _overhead(measured: Measurement, roofline: _Roofline) -> tuple[Kind, str] | None:
    """A CPU that calls many operators which do little, far from either peak."""
    operators = measured.counters.totals.get("operators", 0)
    if measured.enqueue is not None or not operators or roofline.ridge is None:
        return None
    each = measured.latency.p50.value / operators
    if each >= TINY_OPERATOR or not _far(roofline):
        return None
    return "launch", (
        f"overhead: {units.plural(operators, 'operator')} of {units.seconds(each)} each, "
        f"{_share(roofline.flops_share)} of the peak arithmetic, {_share(roofline.bandwidth_share)} of the "
        "peak bandwidth"
    )


def _limit(roofline: _Roofline) -> tuple[Kind, str] | None:
    if roofline.ridge is None or roofline.intensity is None:
        return None
    computing = roofline.intensity >= roofline.ridge
    share = roofline.flops_share if computing else roofline.bandwidth_share
    words = (
        f"{units.significant(roofline.intensity)} FLOP a byte, {'above' if computing else 'below'} the ridge "
        f"of {units.significant(roofline.ridge)}: {_share(share)} of the peak "
        f"{'arithmetic' if computing else 'bandwidth'} is reached"
    )
    if _far(roofline):
        words += ", and neither peak is near"
    elif not computing and share > 1:
        words += ", since caches serve a part"
    return ("compute" if computing else "memory"), words


def _far(roofline: _Roofline) -> bool:
    return max(roofline.flops_share, roofline.bandwidth_share) < FAR_SHARE


def _roofline(result: CaseResult, measured: Measurement) -> _Roofline:
    totals = measured.counters.totals
    if not {"flops", "bytes_read", "bytes_written"} <= totals.keys():
        return _Roofline()
    moved = totals["bytes_read"] + totals["bytes_written"]
    if not moved:
        return _Roofline()
    seconds = measured.latency.p50.value
    flops, bandwidth = totals["flops"] / seconds, moved / seconds
    reached = _Roofline(intensity=totals["flops"] / moved, flops=flops, bandwidth=bandwidth)
    peaks = result.peaks
    peak = None if peaks is None else peaks.flops.get(_dtype(result, measured))
    if peaks is None or peak is None or not (positive(peak) and positive(peaks.bandwidth)):
        return reached
    return reached._replace(
        ridge=peak / peaks.bandwidth,
        flops_share=flops / peak,
        bandwidth_share=bandwidth / peaks.bandwidth,
    )


def _dtype(result: CaseResult, measured: Measurement) -> str:
    """The dtype of the case, or that of most of its weights; empty where nobody knows it."""
    weights = measured.counters.weights
    return result.case.dtype or max(weights, key=weights.__getitem__, default="")


def _share(ratio: float) -> str:
    return units.percent(ratio, signed=False, decimals=0)
