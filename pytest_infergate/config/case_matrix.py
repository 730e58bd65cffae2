"""Which cases a test has: what the command line asks for, narrowed by the marker. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from pytest_infergate.config.marker import Marker
from pytest_infergate.config.settings import Settings

_T = TypeVar("_T")


class Axes(NamedTuple):
    """One value on every axis, and how pytest's id shows it; or why a test has no case in this run."""

    id: str
    device: str = ""
    dtype: str | None = None
    batch_size: int = 1
    threads: int | None = None
    deselected: str | None = None
    """The reason; ``None`` for a case."""


def axes(marker: Marker, settings: Settings, devices: tuple[str, ...]) -> list[Axes]:
    """Cross the axes. `devices` is what the command line asks for with ``auto`` resolved.

    Without measuring there is one case: the CPU and the first value on every other axis.
    """
    if not settings.measuring:
        return list(
            _cross(("cpu",), _first(marker.dtypes), _first(marker.batch_sizes), _first(marker.threads))
        )
    on = _narrowed(devices, marker.devices) or ()
    dtypes = _narrowed(settings.dtypes, marker.dtypes)
    threads = _narrowed(settings.threads, marker.threads)
    for name, both, asked, allowed in (
        ("devices", on, devices, marker.devices),
        ("dtypes", dtypes, settings.dtypes, marker.dtypes),
        ("threads", threads, settings.threads, marker.threads),
    ):
        if both == ():
            reason = f"{name}: {_listed(asked)} asked for, the marker allows {_listed(allowed)}"
            return [Axes("deselected", deselected=reason)]
    return list(_cross(on, dtypes, marker.batch_sizes, threads))


def _cross(
    devices: tuple[str, ...],
    dtypes: tuple[str, ...] | None,
    batch_sizes: tuple[int, ...] | None,
    threads: tuple[int, ...] | None,
) -> Iterator[Axes]:
    for device, dtype, batch_size, count in itertools.product(
        devices, dtypes or (None,), batch_sizes or (1,), threads or (None,)
    ):
        words = [device]
        if dtype is not None:
            words.append(dtype)
        if batch_sizes is not None:
            words.append(f"b{batch_size}")
        if count is not None:
            words.append(f"t{count}")
        yield Axes("-".join(words), device, dtype, batch_size, count)


def _first(values: tuple[_T, ...] | None) -> tuple[_T, ...] | None:
    return None if values is None else values[:1]


def _narrowed(asked: tuple[_T, ...] | None, allowed: tuple[_T, ...] | None) -> tuple[_T, ...] | None:
    if asked is None or allowed is None:
        return asked if allowed is None else allowed
    return tuple(value for value in asked if value in allowed)


def _listed(values: tuple[object, ...] | None) -> str:
    return ", ".join(map(str, values or ()))
