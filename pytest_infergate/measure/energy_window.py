"""Energy of a call: a window of calls issued back to back, long against the ticks of an energy counter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.domain.energy import estimated
from pytest_infergate.core.domain.measurement import Energy, Latency
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.instruments.device import Device, DeviceState, Meter

WINDOW_SECONDS: Final = 2.0
"""A counter moves every 20 to 100 ms."""
LEAD_SECONDS: Final = 0.3
"""Calls before the window, so that it does not begin with the power of a rest."""
READING_INTERVAL_SECONDS: Final = 0.1
"""Between two readings, before which the device is synchronised."""
SETTLING_SECONDS: Final = 0.3
IDLE_SECONDS: Final = 0.7
"""Rest after the window: as much of it is read, after the device has settled."""
WINDOW_TIME_SHARE: Final = 0.35
"""Of the time cap that all of this may take."""
MAX_WINDOW_CALLS: Final = 1_000_000
"""A call that takes no time at all would else be repeated for ever."""

_READ_RAPL = "let the process read /sys/class/powercap/intel-rapl:*/energy_uj, which is root's"
_READ_NVML = "boards of NVIDIA are read by nvidia-ml-py: pip install 'pytest-infergate[nvidia]'"


class EnergyWorkload(NamedTuple):
    """What is called, and what is known of a call."""

    call: Callable[[], object]
    latency: Latency
    batch_size: int = 1
    threads: int | None = None


class EnergyReading(NamedTuple):
    """What is known of the energy, and what to know about it."""

    energy: Energy | None = None
    notes: tuple[Note, ...] = ()


def measured_energy(load: EnergyWorkload, device: Device, cap: float, *, asked: bool) -> EnergyReading:
    """Measure the energy of a call where that was asked for, within a share of `cap` seconds; else estimate.

    An estimate costs nothing, and is there for the CPUs that the table of `core.energy` knows.
    """
    if not asked:
        return EnergyReading(_estimate(load, device))
    meter = device.meter()
    if meter is None:
        return _without_meter(load, device)
    needed = seconds_needed(load.latency.mean)
    if needed > WINDOW_TIME_SHARE * cap:
        share = f"{WINDOW_TIME_SHARE:.0%} of the {cap:.3g} s for a case"
        text = f"energy was not measured: it takes {needed:.1f} s, more than {share}"
        hint = f"give it {math.ceil(needed / WINDOW_TIME_SHARE)} s with --infer-max-time or max_time in the marker"
        note = Note(code=NoteCode.ENERGY_SKIPPED, text=text, hint=hint)
        return EnergyReading(_estimate(load, device), (note,))
    energy, states = _window(load, device, meter)
    if energy is None:
        note = Note(
            code=NoteCode.ENERGY_UNREAD,
            text=f"energy was not measured: the {meter.source} counter could not be read, or did not move",
            hint="measure it again",
        )
        return EnergyReading(_estimate(load, device), (note,))
    return EnergyReading(energy, tuple(_notes(states, meter)))


def seconds_needed(each: float) -> float:
    """How long it takes to measure calls of so many seconds each."""
    calls = math.ceil(WINDOW_SECONDS / each - 1e-9) if each > 0 else 0
    return _lead(each) * each + max(WINDOW_SECONDS, calls * each) + SETTLING_SECONDS + IDLE_SECONDS


def _lead(each: float) -> int:
    """Calls of the lead: none where a single one would take most of it or more."""
    return min(MAX_WINDOW_CALLS, round(LEAD_SECONDS / max(each, 1e-9)))


def _estimate(load: EnergyWorkload, device: Device) -> Energy | None:
    """What the table says of a CPU; power beside an accelerator is not in it."""
    if device.asynchronous:
        return None
    return estimated(device.hardware(), load.latency, batch_size=load.batch_size, threads=load.threads)


def _without_meter(load: EnergyWorkload, device: Device) -> EnergyReading:
    energy = _estimate(load, device)
    if energy is not None:
        text = "energy is an estimate from the power of the processor's class: no meter can be read here"
        return EnergyReading(energy, (Note(code=NoteCode.ENERGY_ESTIMATED, text=text, hint=_READ_RAPL),))
    text = f"energy is unknown here: no meter of {device.name} can be read"
    if not device.asynchronous:
        text += f", and the power of {device.hardware().cpu_model} is not in the table"
    hint = _READ_NVML if device.asynchronous else _READ_RAPL
    return EnergyReading(None, (Note(code=NoteCode.ENERGY_UNKNOWN, text=text, hint=hint),))


def _window(
    load: EnergyWorkload, device: Device, meter: Meter
) -> tuple[Energy | None, Sequence[DeviceState]]:
    """Issue calls for the length of the window, then rest; ``None`` where the counter tells nothing."""
    turn = max(1, min(MAX_WINDOW_CALLS, round(READING_INTERVAL_SECONDS / max(load.latency.mean, 1e-9))))
    states: list[DeviceState] = []
    _issue(load.call, _lead(load.latency.mean))
    device.synchronize()
    before, begin = _reading(meter), device.clock()
    after, calls, seconds = before, 0, 0.0
    while seconds < WINDOW_SECONDS and calls < MAX_WINDOW_CALLS:
        _issue(load.call, turn)
        # Asked while an accelerator still works through its queue.
        state = meter.state()
        if state is not None:
            states.append(state)
        device.synchronize()
        after, seconds = _reading(meter), (device.clock() - begin) / 1e9
        calls += turn
    if before is None or after is None or seconds <= 0 or after <= before:
        return None, states
    energy = Energy(
        joules=(after - before) / calls,
        source=meter.source,
        scope=meter.scope,
        seconds=seconds,
        calls=calls,
        batch_size=load.batch_size,
        idle_watts=_idle_watts(device, meter),
    )
    return energy, states


def _issue(call: Callable[[], object], count: int) -> None:
    for _ in range(count):
        call()


def _idle_watts(device: Device, meter: Meter) -> float | None:
    """Power between calls, as a service has it that waits for requests."""
    meter.rest(SETTLING_SECONDS)
    before, begin = _reading(meter), device.clock()
    meter.rest(IDLE_SECONDS)
    after, seconds = _reading(meter), (device.clock() - begin) / 1e9
    if before is None or after is None or seconds <= 0 or after < before:
        return None
    return (after - before) / seconds


def _reading(meter: Meter) -> float | None:
    joules = meter.joules()
    return joules if joules is not None and math.isfinite(joules) else None


def _notes(states: Sequence[DeviceState], meter: Meter) -> Iterator[Note]:
    """What spoils the figure: a clock that was held down, and others on the same board."""
    reasons = list(dict.fromkeys(reason for state in states for reason in state.throttled))
    if reasons:
        text = f"the {meter.scope} held its clock down while energy was measured: {', '.join(reasons)}"
        yield Note(code=NoteCode.THROTTLED, text=text, hint="see to its cooling and its power limit")
    others = max((state.others or 0 for state in states), default=0)
    if others:
        noun = "process" if others == 1 else "processes"
        text = f"{others} other {noun} used the {meter.scope} while energy was measured: theirs is in it"
        yield Note(code=NoteCode.ENERGY_SHARED, text=text, hint="measure on a board that nobody else uses")
