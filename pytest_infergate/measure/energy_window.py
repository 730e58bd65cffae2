"""Energy of a call, from a window of calls that is long compared with the updates of an energy counter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.domain.energy import estimated
from pytest_infergate.core.domain.measurement import Energy, Latency
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.units import longer_limit
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import Device, DeviceState, Meter
from pytest_infergate.instruments.timed_calls import RepeatedCall

# Energy counters are updated every 20 to 100 ms: two seconds are known to 5 % or better.
WINDOW_SECONDS: Final = 2.0
# Calls before the window, so that it does not begin at the power of an idle device.
LEAD_SECONDS: Final = 0.3
# Interval of the readings within the window. The device is synchronised before each, so that its queue stays
# short.
READING_INTERVAL_SECONDS: Final = 0.1
# Rest after the window: the power falls while the device settles, and is read as idle power after that.
SETTLING_SECONDS: Final = 0.3
IDLE_SECONDS: Final = 0.7
# Share of the time limit of a case that window and rest may take. They displace the sampling of no call, but
# the limit is what users expect a case to take.
WINDOW_TIME_SHARE: Final = 0.35
# A call that takes no measurable time would otherwise be repeated forever.
MAX_WINDOW_CALLS: Final = 1_000_000

_READ_RAPL = "let the process read /sys/class/powercap/intel-rapl:*/energy_uj, which only root can read"
_READ_NVML = "NVIDIA boards are read through nvidia-ml-py: pip install 'pytest-infergate[nvidia]'"


class EnergyWorkload(NamedTuple):
    """A call, and what is known about it."""

    call: RepeatedCall
    latency: Latency
    batch_size: int = 1
    threads: int | None = None


class EnergyReading(NamedTuple):
    """The energy of a call, if it is known, and notes on it."""

    energy: Energy | None = None
    notes: tuple[Note, ...] = ()


def measured_energy(load: EnergyWorkload, device: Device, cap: float, *, requested: bool) -> EnergyReading:
    """Measure the energy of a call if `requested`, within a share of `cap` seconds; otherwise estimate it.

    Estimates exist for the CPUs in the table of `core.domain.energy`, and take no time.
    """
    if not requested:
        return EnergyReading(_estimate(load, device))
    meter = device.meter()
    if meter is None:
        return _without_meter(load, device)
    needed = seconds_needed(load.latency.mean)
    if needed > WINDOW_TIME_SHARE * cap:
        limit = math.ceil(needed / WINDOW_TIME_SHARE)
        note = Note(
            code=NoteCode.ENERGY_SKIPPED,
            text=f"energy was not measured: it takes {needed:.1f} s, more than {WINDOW_TIME_SHARE:.0%} of "
            f"the time limit of {cap:.3g} s for a case",
            hint=longer_limit(limit),
            max_time=limit,
        )
        return EnergyReading(_estimate(load, device), (note,))
    energy, states = _window(load, device, meter)
    if energy is None:
        note = Note(
            code=NoteCode.ENERGY_UNREAD,
            text=f"energy was not measured: the {meter.source} counter could not be read, or did not change",
            hint="measure again",
        )
        return EnergyReading(_estimate(load, device), (note,))
    return EnergyReading(energy, tuple(_notes(states, meter)))


def seconds_needed(call_seconds: float) -> float:
    """Return the seconds that lead, window and rest take together for calls of `call_seconds` seconds."""
    calls = math.ceil(WINDOW_SECONDS / call_seconds - 1e-9) if call_seconds > 0 else 0
    window = max(WINDOW_SECONDS, calls * call_seconds)
    return _lead_calls(call_seconds) * call_seconds + window + SETTLING_SECONDS + IDLE_SECONDS


def _lead_calls(call_seconds: float) -> int:
    """Return the number of calls of the lead: none if a single one takes much longer than the lead."""
    return min(MAX_WINDOW_CALLS, round(LEAD_SECONDS / max(call_seconds, 1e-9)))


def _estimate(load: EnergyWorkload, device: Device) -> Energy | None:
    """Estimate the energy on a CPU by the table; it has no power of accelerators."""
    if device.asynchronous:
        return None
    return estimated(device.hardware(), load.latency, batch_size=load.batch_size, threads=load.threads)


def _without_meter(load: EnergyWorkload, device: Device) -> EnergyReading:
    energy = _estimate(load, device)
    if energy is not None:
        text = "energy is an estimate from the power of this class of processor: no meter can be read here"
        return EnergyReading(energy, (Note(code=NoteCode.ENERGY_ESTIMATED, text=text, hint=_READ_RAPL),))
    text = f"energy is unknown: no meter of {device.name} can be read"
    if not device.asynchronous:
        text += f", and the power of {device.hardware().cpu_model} is not in the table"
    hint = _READ_NVML if device.asynchronous else _READ_RAPL
    return EnergyReading(None, (Note(code=NoteCode.ENERGY_UNKNOWN, text=text, hint=hint),))


def _window(
    load: EnergyWorkload, device: Device, meter: Meter
) -> tuple[Energy | None, Sequence[DeviceState]]:
    """Issue calls for the length of the window, then rest; ``None`` if the counter fails or is constant."""
    block = max(1, min(MAX_WINDOW_CALLS, round(READING_INTERVAL_SECONDS / max(load.latency.mean, 1e-9))))
    states: list[DeviceState] = []
    load.call.issue(_lead_calls(load.latency.mean))
    device.synchronize()
    before, begin = _reading(meter), device.clock()
    after, calls, seconds = before, 0, 0.0
    while seconds < WINDOW_SECONDS and calls < MAX_WINDOW_CALLS:
        load.call.issue(block)
        # Before the synchronisation, while an accelerator still works through its queue.
        state = meter.state()
        if state is not None:
            states.append(state)
        device.synchronize()
        after, seconds = _reading(meter), (device.clock() - begin) / 1e9
        calls += block
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


def _idle_watts(device: Device, meter: Meter) -> float | None:
    """Return the power in watts right after the window, as of a service that waits for requests."""
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
    """Yield notes on what makes the figure doubtful: a throttled clock, and other processes on the board."""
    reasons = list(dict.fromkeys(reason for state in states for reason in state.throttled))
    if reasons:
        text = f"the clock of the {meter.scope} was throttled while energy was measured: {', '.join(reasons)}"
        yield Note(code=NoteCode.THROTTLED, text=text, hint="check its cooling and its power limit")
    others = max((state.others or 0 for state in states), default=0)
    if others:
        noun = "process" if others == 1 else "processes"
        text = f"{others} other {noun} used the {meter.scope} while energy was measured: theirs is included"
        yield Note(
            code=NoteCode.ENERGY_SHARED, text=text, hint="measure on a board that no other process uses"
        )
