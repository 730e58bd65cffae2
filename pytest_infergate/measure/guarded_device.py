"""A device whose instruments cannot fail a test."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import pytest

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.errors import CaseTimeoutError
from pytest_infergate.instruments.device import (
    Board,
    CpuTimes,
    Device,
    DeviceCounters,
    DeviceMemory,
    DeviceState,
    DeviceWork,
    InstrumentError,
    Meter,
    Probes,
)
from pytest_infergate.measure.known_work import unwaited_note
from pytest_infergate.measure.memory import error_text, is_out_of_memory

PASSED_ON: Final = (CaseTimeoutError, pytest.exit.Exception)
"""Exceptions that end a test or the session, wherever they are raised.

Others of this purpose, such as that of `pytest.skip`, are no subclasses of `Exception`.
"""
_T = TypeVar("_T")


def error_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text."""
    return f"{type(error).__name__}: {error_text(error).splitlines()[0]}"


class Guard:
    """Attempts what may fail, and keeps a note on each kind of figure that is missing for that reason."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}

    def attempt(self, take: Callable[[], _T], missing: _T, what: str) -> _T:
        """Return what `take` returns, or `missing` if it fails; see `run`."""
        try:
            return self.run(take, what)
        except InstrumentError:
            return missing

    def run(self, take: Callable[[], _T], what: str) -> _T:
        """Return what `take` returns. If it fails, keep a note, and raise `InstrumentError`.

        The first reason for each `what` counts. `PASSED_ON` are passed on.
        """
        try:
            return take()
        except PASSED_ON:
            raise
        except Exception as error:
            text = f"{what} failed: {error_line(error)}"
            hint = "the case is measured and gated without its figures"
            self._notes.setdefault(what, Note(code=NoteCode.INSTRUMENT_FAILED, text=text, hint=hint))
            raise InstrumentError(what) from error

    def taken(self) -> tuple[Note, ...]:
        """Return the notes since the last query."""
        notes = tuple(self._notes.values())
        self._notes.clear()
        return notes


class GuardedDevice:
    """A `Device` around another: if an instrument of that fails, its figure is missing, with a note.

    Waiting for the device is no such instrument: without it no time is right, so that `failure` is to be
    queried before each case.
    """

    name: str
    torch_name: str | None
    asynchronous: bool
    clock: Callable[[], int]
    synchronize: Callable[[], None]

    def __init__(self, device: Device) -> None:
        self._device = device
        self._guard = Guard()
        self._hardware: Hardware | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._device, name)

    def failure(self) -> str | None:
        """Return why nothing can be measured on the device now; ``None`` if it works."""
        try:
            self._device.synchronize()
            self._hardware = self._device.hardware()
        except Exception as error:  # noqa: BLE001 - as above
            return f"{self.name} does not work: {error_line(error)}"
        return None

    @functools.cached_property
    def unwaited(self) -> Note | None:
        """A note if `synchronize` returns before work is done, found out once."""
        what = f"checking that {self.name} is waited for"
        return self._guard.attempt(lambda: unwaited_note(self._device), None, what)

    def notes(self) -> tuple[Note, ...]:
        """Return notes on the instruments that failed since the last query."""
        return self._guard.taken()

    def hardware(self) -> Hardware:
        """Return the hardware class, or the last one that was known.

        If there is none, `failure` has the reason, and nothing is compared within the class returned here.
        """
        last = self._hardware or Hardware(cpu_model="unknown", cores=1, accelerator=self.name)
        self._hardware = self._guard.attempt(self._device.hardware, last, f"the hardware of {self.name}")
        return self._hardware

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Return the workloads that run, each after one run. If one fails later, it raises `InstrumentError`.

        Raises what means that memory ran out.
        """
        what = f"the reference work of {self.name}"
        working: dict[str, Callable[[], object]] = {}
        try:
            offered = self._guard.run(self._device.reference_work, what)
        except InstrumentError as error:
            if is_out_of_memory(error):
                raise
            return working
        for name, run in offered.items():
            what = f"the reference work {name} of {self.name}"
            workload = functools.partial(self._guard.run, run, what)
            try:
                workload()
                self._guard.run(self._device.synchronize, what)
            except InstrumentError as error:
                if is_out_of_memory(error):
                    raise
                continue
            working[name] = workload
        return working

    def architecture(self) -> str:
        """Return the architecture; empty if it is unknown."""
        return self._guard.attempt(self._device.architecture, "", f"the architecture of {self.name}")

    def count(self, call: Callable[[], object]) -> DeviceCounters:
        """Count the operators of one call. What it raises becomes a note where the call is counted."""
        return self._device.count(call)

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Return the memory of one call. What it raises becomes a note where the call is counted."""
        return self._device.memory(call)

    def work(self, call: Callable[[], object]) -> DeviceWork | None:
        """Return the kernels of one call."""
        return self._guard.attempt(lambda: self._device.work(call), None, f"the profiler of {self.name}")

    def release(self) -> None:
        """Release cached memory."""
        self._guard.attempt(self._device.release, None, f"releasing the memory of {self.name}")

    def cpu_times(self) -> CpuTimes | None:
        """Return the processor time used so far."""
        return self._guard.attempt(self._device.cpu_times, None, "reading the processor time")

    def meter(self) -> Meter | None:
        """Return the energy meter."""
        what = f"the energy meter of {self.name}"
        meter = self._guard.attempt(self._device.meter, None, what)
        return None if meter is None else GuardedMeter(meter, self._guard, what)

    def board(self) -> Board | None:
        """Return which accelerator of the machine it is; devices of plugins may lack the method."""
        take: Callable[[], Board | None] | None = getattr(self._device, "board", None)
        return None if take is None else self._guard.attempt(take, None, f"finding the board of {self.name}")

    def probes(self) -> Probes:
        """Return the workloads for measuring peak rates."""
        what = f"the probes of {self.name}"
        probes = self._guard.attempt(self._device.probes, Probes(), what)
        products = {
            dtype: probe._replace(run=functools.partial(self._guard.run, probe.run, what))
            for dtype, probe in probes.products.items()
        }
        copy = probes.copy
        if copy is not None:
            copy = copy._replace(run=functools.partial(self._guard.run, copy.run, what))
        return Probes(products, copy)


class GuardedMeter:
    """A `Meter` around another, whose failures are notes."""

    def __init__(self, meter: Meter, guard: Guard, what: str) -> None:
        self._meter, self._guard, self._what = meter, guard, what
        self.source, self.scope = meter.source, meter.scope
        self._rested = True

    def joules(self) -> float | None:
        """Return the energy since a fixed moment."""
        # Without a rest, no power of an idle device can be read.
        return self._guard.attempt(self._meter.joules, None, self._what) if self._rested else None

    def rest(self, seconds: float) -> None:
        """Let time pass without any work."""

        def rest() -> bool:
            self._meter.rest(seconds)
            return True

        self._rested = self._guard.attempt(rest, False, self._what)

    def state(self) -> DeviceState | None:
        """Return the current state of the device."""
        return self._guard.attempt(self._meter.state, None, self._what)
