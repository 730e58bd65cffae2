"""The cases of a test: the axes that the command line requests, narrowed by the marker."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from pytest_infergate.config.marker import Marker
from pytest_infergate.config.parse import OfferedRuntime, is_remote
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.domain.dtypes import DTYPES, dtype_parts, unsupported_dtype
from pytest_infergate.core.domain.values import REMOTE_DEVICE

_T = TypeVar("_T")


class Axes(NamedTuple):
    """One value of every axis and the id that pytest shows, or the reason why a test has no case."""

    id: str
    device: str = ""
    runtime: str = "eager"
    dtype: str | None = None
    batch_size: int = 1
    threads: int | None = None
    deselected: str | None = None
    """Reason why the test has no case in this run; ``None`` for a case."""


def axes(marker: Marker, settings: Settings, devices: tuple[str, ...]) -> list[Axes]:
    """Return the product of all axes. `devices` are the requested ones, with ``auto`` resolved.

    A run that does not measure has one case: the CPU and the first value of every other axis. Its model is
    executed by eager PyTorch, and neither quantised nor run under autocast.
    """
    # A plain test run needs one case of each test, as fast as possible.
    if not settings.measuring:
        remote, local = _split(marker.runtimes, settings.offered)
        if remote and not local:
            return list(_cross((REMOTE_DEVICE,), remote[:1], None, _first(marker.batch_sizes), None))
        crossed = _cross(
            ("cpu",),
            _first(local),
            _first(marker.dtypes),
            _first(marker.batch_sizes),
            _first(marker.threads),
        )
        return [one._replace(runtime="eager", dtype=dtype_parts(one.dtype).cast) for one in crossed]
    runtimes = _narrowed(settings.runtimes, marker.runtimes)
    remote, local = _split(runtimes, settings.offered)
    if not remote:
        return _local_axes(marker, settings, devices, runtimes)
    served = list(_cross((REMOTE_DEVICE,), remote, None, marker.batch_sizes, None))
    if settings.paired:
        reason = "a paired run has no other version of a server to compare with"
        served = [one._replace(deselected=reason) for one in served]
    return [*(_local_axes(marker, settings, devices, local) if local else ()), *served]


def _local_axes(
    marker: Marker, settings: Settings, devices: tuple[str, ...], runtimes: tuple[str, ...] | None
) -> list[Axes]:
    """Return the product of the axes of what this machine executes."""
    both_devices = _narrowed(devices, marker.devices) or ()
    dtypes = _narrowed(settings.dtypes, marker.dtypes)
    threads = _narrowed(settings.threads, marker.threads)
    for name, both, requested, allowed in (
        ("devices", both_devices, devices, marker.devices),
        ("runtimes", runtimes, settings.runtimes, marker.runtimes),
        ("dtypes", dtypes, settings.dtypes, marker.dtypes),
        ("threads", threads, settings.threads, marker.threads),
    ):
        # An empty axis means that the request and the marker exclude each other.
        if both == ():
            reason = f"{name}: {_listed(requested)} requested, the marker allows {_listed(allowed)}"
            return [Axes("deselected", deselected=reason)]
    crossed = _cross(both_devices, runtimes, dtypes, marker.batch_sizes, threads)
    return [one._replace(deselected=_unsupported(one, settings)) for one in crossed]


def _split(
    runtimes: tuple[str, ...] | None, offered: Mapping[str, OfferedRuntime]
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return the runtimes that are servers, and the others; ``None`` means any local one."""
    if runtimes is None:
        return (), None
    remote = tuple(name for name in runtimes if is_remote(offered[name.partition(":")[0]]))
    return remote, tuple(name for name in runtimes if name not in remote)


def _unsupported(case: Axes, settings: Settings) -> str | None:
    """Return why a case has nothing to compare, or a runtime cannot be combined with its device and dtype."""
    base = settings.against_runtime
    if case.runtime == base:
        hint = "" if settings.runtimes else ". Hint: name others with --infer-runtimes"
        return f"{base} is what other runtimes are compared with{hint}"
    found = unsupported_dtype(case.device, case.dtype)
    if found is not None:
        return found
    for runtime in (case.runtime, base or "eager"):
        if runtime != "eager":
            offered = settings.offered[runtime.partition(":")[0]]
            if is_remote(offered):
                return f"{runtime} is a server, with which no runtime is compared call by call"
            found = offered.unsupported(case.device, case.dtype)
            if found is not None:
                return found
    return None


_ID = (
    r"(?P<device>[a-z]\w*(?::\d+)?)(?:-(?P<runtime>{}))?(?:-(?P<dtype>{}))?(?:-b(?P<batch>\d+))?"
    r"(?:-t(?P<threads>\d+))?(?:-|$)"
)


def axes_of_id(text: str, marker: Marker, offered: Mapping[str, OfferedRuntime]) -> Axes | None:
    """Return the axes of a case from the id that a run on any device printed, to run it on the CPU.

    `text` is what the brackets of a node id contain; the user's own parameters follow the axes. ``None`` if
    it is not the id of a case of a test with this marker.
    """
    names = [*offered, *(f"{name}:{mode}" for name, one in offered.items() for mode in one.modes)]
    longest_first = [sorted(map(re.escape, known), key=len, reverse=True) for known in (names, DTYPES)]
    found = re.match(_ID.format(*map("|".join, longest_first)), text)
    batch = None if found is None else found["batch"]
    # Without batch sizes, what looks like one is a parameter of the user.
    if found is None or (batch is None) is not (marker.batch_sizes is None):
        return None
    if batch is not None and int(batch) not in (marker.batch_sizes or ()):
        return None
    threads = None if found["threads"] is None else int(found["threads"])
    if found["runtime"] and is_remote(offered[found["runtime"].partition(":")[0]]):
        return Axes(found[0].removesuffix("-"), REMOTE_DEVICE, found["runtime"], None, int(batch or 1))
    dtype = dtype_parts(found["dtype"]).cast
    return Axes(found[0].removesuffix("-"), "cpu", "eager", dtype, int(batch or 1), threads)


def _cross(
    devices: tuple[str, ...],
    runtimes: tuple[str, ...] | None,
    dtypes: tuple[str, ...] | None,
    batch_sizes: tuple[int, ...] | None,
    threads: tuple[int, ...] | None,
) -> Iterator[Axes]:
    for device, runtime, dtype, batch_size, count in itertools.product(
        devices, runtimes or (None,), dtypes or (None,), batch_sizes or (1,), threads or (None,)
    ):
        # Axes that neither the marker nor an option sets are left out of the id.
        parts = [device]
        if runtime is not None:
            parts.append(runtime)
        if dtype is not None:
            parts.append(dtype)
        if batch_sizes is not None:
            parts.append(f"b{batch_size}")
        if count is not None:
            parts.append(f"t{count}")
        yield Axes("-".join(parts), device, runtime or "eager", dtype, batch_size, count)


def _first(values: tuple[_T, ...] | None) -> tuple[_T, ...] | None:
    return None if values is None else values[:1]


def _narrowed(requested: tuple[_T, ...] | None, allowed: tuple[_T, ...] | None) -> tuple[_T, ...] | None:
    """Return the values that are both requested and allowed; ``None`` means any value."""
    if requested is None or allowed is None:
        return requested if allowed is None else allowed
    return tuple(value for value in requested if value in allowed)


def _listed(values: tuple[object, ...] | None) -> str:
    return ", ".join(map(str, values or ()))
