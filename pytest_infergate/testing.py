"""Fakes and contract tests for authors of plugins. They are part of the public interface.

`FakeClock`, `FakeDevice`, `FakeKind` and `FakeMeter` make the time and the energy of a test exact. A store is
checked by a subclass of `StoreContract`::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_infergate.core.domain.records import Baseline, BaselineCase, BaselinePoint
from pytest_infergate.core.domain.values import Case, Hardware
from pytest_infergate.core.gate.baseline import SESSIONS_KEPT, merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.instruments.device import (
    CpuTimes,
    DeviceAbsentError,
    DeviceCounters,
    DeviceMemory,
    DeviceState,
    DeviceWork,
    Meter,
    Probe,
    Probes,
)
from pytest_infergate.storage import baseline_format
from pytest_infergate.storage.baseline_store import Store, load_all


class FakeClock:
    """A clock that only advances on request, so that times in tests are exact and take no time.

    Call it to read it: it returns nanoseconds since 0, as an int.
    """

    def __init__(self) -> None:
        self.now = 0
        """Current time in nanoseconds."""

    def __call__(self) -> int:
        """Return the current time in nanoseconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let some seconds pass."""
        self.now += round(seconds * 1e9)


class FakeMeter:
    """A `Meter` with constant power on a fake clock.

    `watts` are the power while time passes otherwise, and `idle_watts` while the meter rests. Set `broken` to
    make it unreadable, and `reported_state` to the state that it reports.
    """

    def __init__(
        self,
        clock: FakeClock,
        watts: float = 100.0,
        idle_watts: float = 20.0,
        *,
        source: str = "nvml",
        scope: str = "board",
    ) -> None:
        self.source = source
        self.scope = scope
        self.watts = watts
        self.idle_watts = idle_watts
        self.broken = False
        self.reported_state: DeviceState | None = None
        self._clock = clock
        self._rested = 0.0

    def joules(self) -> float | None:
        """Return the energy since the clock was at 0; ``None`` if the meter is broken."""
        working = self._clock.now / 1e9 - self._rested
        return None if self.broken else self.watts * working + self.idle_watts * self._rested

    def rest(self, seconds: float) -> None:
        """Let some seconds pass at the idle power."""
        self._clock.advance(seconds)
        self._rested += seconds

    def state(self) -> DeviceState | None:
        """Return `reported_state`."""
        return self.reported_state


class FakeDevice:
    """A `Device` on a fake clock. Its models call `spend` instead of computing.

    If it is asynchronous, it behaves like an accelerator: `spend` queues work and returns after `enqueue`
    seconds, and `synchronize` advances the clock to the end of the queue. Its attributes may be changed
    between calls.
    """

    torch_name: str | None = None

    def __init__(
        self, name: str = "fake", *, asynchronous: bool = False, cores: int = 4, enqueue: float = 1e-5
    ) -> None:
        self.name = name
        self.asynchronous = asynchronous
        self.fake_clock = FakeClock()
        self.clock: Callable[[], int] = self.fake_clock
        self.cores = cores
        """Cores of its hardware class: devices with another number belong to another class."""
        self.enqueue = enqueue
        """Seconds until an asynchronous call returns."""
        self.slowness = 1.0
        """Factor of the time of the reference workloads; a busy machine has more than 1."""
        self.activations: int | None = 1_000_000
        """Peak memory of each call in bytes, as `memory` reports it."""
        self.others = 0.0
        """Number of cores that other processes use, as `cpu_times` reports it."""
        self.counters = DeviceCounters()
        """Counters of each call, as `count` reports them."""
        self.allocations: int | None = None
        self.kernels = 0
        """Number of calls of `spend` so far."""
        self.released = 0
        """Number of calls of `release` so far."""
        self.energy_meter: Meter | None = None
        self.peak_flops = {"float32": 1e12}
        """FLOP/s by dtype that its probes reach."""
        self.peak_bandwidth = 1e11
        """Bytes/s that its probe of copies reaches."""
        self._idle_at = 0

    def spend(self, seconds: float) -> None:
        """Do work of some seconds in one kernel."""
        self.kernels += 1
        if not self.asynchronous:
            self.fake_clock.advance(seconds)
            return
        self.fake_clock.advance(self.enqueue)
        self._idle_at = max(self._idle_at, self.fake_clock.now) + round(seconds * 1e9)

    def synchronize(self) -> None:
        """Advance the clock to the end of the queued work."""
        self.fake_clock.now = max(self.fake_clock.now, self._idle_at)

    def hardware(self) -> Hardware:
        """Return a class that no real machine has, with `cores`."""
        accelerator = self.name if self.asynchronous else None
        return Hardware(
            cpu_model="fake",
            cores=self.cores,
            accelerator=accelerator,
            accelerator_count=int(self.asynchronous),
        )

    def reference_work(self) -> Mapping[str, Callable[[], object]]:
        """Return three workloads of a millisecond times `slowness`."""
        return dict.fromkeys(("compute", "copy", "dispatch"), lambda: self.spend(1e-3 * self.slowness))

    def architecture(self) -> str:
        """Return an architecture that no real machine has."""
        return "fake"

    def count(self, call: Callable[[], object]) -> DeviceCounters:  # noqa: ARG002 - part of the interface
        """Return `counters` without a call."""
        return self.counters

    def memory(self, call: Callable[[], object]) -> DeviceMemory:
        """Run the call, and return `activations` and `allocations`."""
        call()
        self.synchronize()
        return DeviceMemory(
            activations=self.activations, reserved=self.activations, allocations=self.allocations
        )

    def work(self, call: Callable[[], object]) -> DeviceWork | None:
        """Run the call, and return its kernels and their time on the clock."""
        self.synchronize()
        before, begin = self.kernels, self.fake_clock.now
        call()
        self.synchronize()
        return DeviceWork(kernels=self.kernels - before, seconds=(self.fake_clock.now - begin) / 1e9)

    def cpu_times(self) -> CpuTimes | None:
        """Return the times of a machine with one core, which is busy with this process, and with `others`."""
        seconds = self.fake_clock.now / 1e9
        return CpuTimes(wall=seconds, machine=seconds * (1 + self.others), own=seconds, cores=1)

    def meter(self) -> Meter | None:
        """Return `energy_meter`."""
        return self.energy_meter

    def probes(self) -> Probes:
        """Return workloads of a millisecond at `peak_flops` and `peak_bandwidth`."""
        products = {dtype: Probe(self._millisecond, rate * 1e-3) for dtype, rate in self.peak_flops.items()}
        return Probes(products, Probe(self._millisecond, self.peak_bandwidth * 1e-3))

    def _millisecond(self) -> None:
        self.spend(max(0.0, 1e-3 - self.enqueue) if self.asynchronous else 1e-3)

    def release(self) -> None:
        """Count the call in `released`."""
        self.released += 1


class FakeKind:
    """A `DeviceKind` of some fake devices. Every other name is absent, with `reason`."""

    def __init__(
        self, *devices: FakeDevice, kind: str = "fake", reason: str = "no fake device found"
    ) -> None:
        self.kind = kind
        self.reason = reason
        self._devices = {device.name: device for device in devices}

    def open(self, name: str) -> FakeDevice:
        """Return the device of this name. Raises `DeviceAbsentError` with `reason` for other names."""
        if name not in self._devices:
            raise DeviceAbsentError(self.reason)
        return self._devices[name]

    def found(self) -> tuple[str, ...]:
        """Return the names of all devices."""
        return tuple(self._devices)


class MemoryStore:
    """A store in memory."""

    def __init__(self) -> None:
        self._baselines: dict[str, Baseline] = {}
        self._lock = threading.Lock()

    def classes(self) -> tuple[str, ...]:
        """Return the ids of the recorded hardware classes, sorted."""
        return tuple(sorted(self._baselines))

    def load(self, hardware_class: str) -> Baseline | None:
        """Return the baseline of a hardware class; ``None`` if it is not recorded."""
        return self._baselines.get(hardware_class)

    def record(self, session: Baseline) -> None:
        """Merge one session. Raises `StorageError` for impossible values."""
        baseline_format.check_session(session)
        with self._lock:
            key = session.hardware.id
            self._baselines[key] = merge_baselines(self._baselines.get(key), session)

    def check_writable(self) -> None:
        """Do nothing: memory is always writable."""


def sample_session(
    created: str = "2026-01-01T00:00:00Z",
    test: str = "tests/test_model.py::test_embedder",
    *,
    cores: int = 4,
    **point: Any,
) -> Baseline:
    """Return a session of one case on one hardware class; `point` overrides fields of its `BaselinePoint`."""
    figures: dict[str, Any] = {
        "p50": 0.0125,
        "count": 120,
        "reference_work": {"gemm": 0.001},
    }
    return Baseline(
        hardware=Hardware(cpu_model="Test CPU", isa=("avx2",), cores=cores),
        cases=(
            BaselineCase(
                case=Case(test=test, device="cpu", batch_size=8),
                sessions=(BaselinePoint(created=created, **{**figures, **point}),),
            ),
        ),
        packages={created: {"torch": "2.13.0"}},
    )


def _sessions(count: int) -> list[Baseline]:
    return [sample_session(f"2026-01-{day:02}T00:00:00Z", p50=day / 100) for day in range(1, count + 1)]


class StoreContract:
    """Tests of what every store must do.

    Subclass it in a test module, as a class whose name begins with ``Test``, with a fixture ``store`` that
    returns an empty, writable store. The figures have at most five significant digits, to which a store may
    round.
    """

    def test_starts_empty(self, store: Store) -> None:
        """An empty store has no class, and loading one returns ``None``."""
        assert store.classes() == ()
        assert store.load(sample_session().hardware.id) is None
        assert load_all(store) == {}

    def test_gives_back_what_was_recorded(self, store: Store) -> None:
        """A session is returned as it was recorded."""
        session = sample_session()
        store.record(session)
        assert store.load(session.hardware.id) == session

    def test_keeps_optional_fields_absent(self, store: Store) -> None:
        """Figures that were not measured remain ``None`` or empty."""
        session = sample_session(reference_work={})
        store.record(session)
        assert store.load(session.hardware.id) == session

    def test_keeps_classes_apart(self, store: Store) -> None:
        """Each hardware class has its own baseline."""
        small, large = sample_session(cores=2), sample_session(cores=64, p50=0.001)
        store.record(large)
        store.record(small)
        assert store.classes() == tuple(sorted((small.hardware.id, large.hardware.id)))
        assert load_all(store) == {small.hardware.id: small, large.hardware.id: large}

    def test_sorts_sessions(self, store: Store) -> None:
        """The oldest session is first, in any order of recording."""
        first, second, third = _sessions(3)
        for session in (second, third, first):
            store.record(session)
        loaded = store.load(first.hardware.id)
        assert loaded == merge_baselines(merge_baselines(first, second), third)
        assert loaded is not None
        assert [point.p50 for point in loaded.cases[0].sessions] == [0.01, 0.02, 0.03]

    def test_recording_twice_changes_nothing(self, store: Store) -> None:
        """Recording is idempotent, so that a step of CI may be repeated."""
        session = sample_session()
        store.record(session)
        store.record(session)
        assert store.load(session.hardware.id) == session

    def test_keeps_the_last_sessions(self, store: Store) -> None:
        """The last twelve sessions of each case remain, with their package versions."""
        sessions = _sessions(SESSIONS_KEPT + 2)
        for session in sessions:
            store.record(session)
        loaded = store.load(sessions[0].hardware.id)
        assert loaded is not None
        kept = [session.cases[0].sessions[0] for session in sessions[2:]]
        assert list(loaded.cases[0].sessions) == kept
        assert list(loaded.packages) == [point.created for point in kept]

    def test_keeps_cases_that_a_session_did_not_measure(self, store: Store) -> None:
        """A session of a part of the suite does not remove other cases."""
        first = sample_session()
        second = sample_session("2026-01-02T00:00:00Z", test="tests/test_other.py::test_b")
        store.record(first)
        store.record(second)
        loaded = store.load(first.hardware.id)
        assert loaded is not None
        assert loaded.history(first.cases[0].case) == first.cases[0].sessions
        assert loaded.history(second.cases[0].case) == second.cases[0].sessions

    def test_keeps_names_as_they_are(self, store: Store) -> None:
        """Names of tests may contain any character."""
        session = sample_session(test="tests/größe.py::test_x[\"a/b\\c\"\n../..\u2028'<<<<<<< '{}\x00]")
        store.record(session)
        assert store.load(session.hardware.id) == session

    @pytest.mark.parametrize("p50", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_times_that_cannot_be(self, store: Store, p50: float) -> None:
        """A session with an impossible time is refused as a whole, with the path of the field."""
        with pytest.raises(StorageError, match=r"\$\.cases\[0\]\.sessions\[0\]\.p50"):
            store.record(sample_session(p50=p50))
        assert store.classes() == ()

    def test_writers_at_the_same_time_lose_nothing(self, store: Store) -> None:
        """Sessions that are recorded concurrently are all kept."""
        sessions = [sample_session(test=f"tests/test_model.py::test_{number:02}") for number in range(16)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(store.record, sessions))
        loaded = store.load(sessions[0].hardware.id)
        assert loaded is not None
        assert [entry.case for entry in loaded.cases] == [session.cases[0].case for session in sessions]

    def test_check_writable_records_nothing(self, store: Store) -> None:
        """The check before measuring passes for a writable store, and records nothing."""
        store.check_writable()
        assert store.classes() == ()
