"""Devices whose instruments fail: the test passes, the figure is missing, and a note has the reason."""

import textwrap

import pytest

from pytest_infergate.errors import CaseTimeoutError
from pytest_infergate.instruments.device import Device, InstrumentError, Meter
from pytest_infergate.instruments.peak_rates import peaks
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.guarded_device import GuardedDevice
from pytest_infergate.testing import FakeDevice, FakeMeter


def fails(*_):
    raise AssertionError("INTERNAL ASSERT FAILED\nplease report a bug")


def accelerator(**broken):
    device = FakeDevice("accel", asynchronous=True)
    for name, value in broken.items():
        setattr(device, name, value)
    return device


def measured(device, **effort):
    """The measurement of a call of 10 ms, with the notes of the guard."""
    guarded = GuardedDevice(device)
    run = measure(Subject(lambda: device.spend(0.010)), guarded, Effort(20, **effort))
    assert run.invalid is None
    assert run.measurement.latency.p50.value == pytest.approx(0.010 + device.enqueue)
    return run.measurement, guarded.notes()


def test_a_device_that_works_is_measured_as_without_a_guard():
    with_guard, notes = measured(accelerator())
    assert notes == ()
    device = accelerator()
    alone = measure(Subject(lambda: device.spend(0.010)), device, Effort(20)).measurement
    for name in ("latency", "throughput", "reference_work", "counters", "device_time", "enqueue", "notes"):
        assert getattr(with_guard, name) == getattr(alone, name), name


def test_it_is_a_device():
    assert isinstance(GuardedDevice(FakeDevice()), Device)


def missing(name):
    """What a measurement does not have if an instrument fails."""
    return {
        "reference_work": lambda m: m.reference_work == {},
        "architecture": lambda m: m.counters.architecture == "",
        "count": lambda m: "flops" not in m.counters.totals,
        "memory": lambda m: m.memory.activations is None,
        "work": lambda m: m.device_time is None,
        "cpu_times": lambda m: m.contention is None and m.undisturbed is None,
        "meter": lambda m: m.energy is None,
    }[name]


@pytest.mark.parametrize(
    "name", ["reference_work", "architecture", "count", "memory", "work", "cpu_times", "meter"]
)
def test_an_instrument_that_fails_leaves_its_figure_out(name):
    measurement, notes = measured(accelerator(**{name: fails}), energy=True)
    assert missing(name)(measurement)
    reasons = [
        note for note in (*notes, *measurement.notes) if note.code in ("instrument-failed", "not-counted")
    ]
    assert [note.text.rpartition(": ")[2] for note in reasons] == ["INTERNAL ASSERT FAILED"]


def test_only_the_reference_work_that_fails_is_left_out():
    device = accelerator()
    works = device.reference_work
    device.reference_work = lambda: {**works(), "copy": fails}
    measurement, notes = measured(device)
    assert set(measurement.reference_work) == {"compute", "dispatch"}
    assert [note.code for note in notes] == ["instrument-failed"]


def test_reference_work_that_fails_later_is_left_out_as_a_whole():
    device = accelerator()
    left = iter(range(5))

    def breaks():
        device.spend(1e-3)
        if next(left, None) is None:
            fails()

    works = device.reference_work
    device.reference_work = lambda: {**works(), "copy": breaks}
    measurement, notes = measured(device)
    assert set(measurement.reference_work) == {"compute", "dispatch"}
    assert len(notes) == 1


def test_reference_work_without_memory_for_it_is_no_failure():
    def no_memory():
        raise MemoryError

    device = accelerator(reference_work=no_memory)
    measurement, notes = measured(device)
    assert measurement.reference_work == {}
    assert [note.text for note in notes] == ["the reference work of accel failed: MemoryError: MemoryError"]
    assert device.released == 1


@pytest.mark.parametrize("method", ["joules", "rest", "state"])
def test_a_meter_that_fails(method):
    device = accelerator()
    meter = FakeMeter(device.fake_clock)
    device.energy_meter = meter
    setattr(meter, method, fails)
    measurement, notes = measured(device, energy=True)
    assert (measurement.energy is None) is (method == "joules")
    if method == "rest":
        assert measurement.energy.idle_watts is None
    assert [note.code for note in notes] == ["instrument-failed"]
    assert isinstance(GuardedDevice(device).meter(), Meter)


def test_probes_that_fail_have_no_peak():
    device = accelerator(probes=fails)
    guarded = GuardedDevice(device)
    assert peaks(guarded) is None
    assert [note.code for note in guarded.notes()] == ["instrument-failed"]
    device = accelerator()
    probes = device.probes()
    device.probes = lambda: probes._replace(products={"float32": probes.copy._replace(run=fails)})
    guarded = GuardedDevice(device)
    assert peaks(guarded).flops == {}
    assert len(guarded.notes()) == 1


def test_releasing_that_fails_is_a_note():
    guarded = GuardedDevice(accelerator(release=fails))
    guarded.release()
    assert [note.code for note in guarded.notes()] == ["instrument-failed"]
    assert guarded.notes() == ()


@pytest.mark.parametrize("kind", [CaseTimeoutError, KeyboardInterrupt, *(
    outcome.Exception for outcome in (pytest.exit, pytest.fail, pytest.skip)
)])  # fmt: skip
@pytest.mark.parametrize("where", ["instrument", "workload", "probe", "meter"])
def test_what_ends_a_test_or_the_session_is_passed_on(kind, where):
    ending = []

    def ends(*_):
        if ending:
            raise kind("that is enough")

    device = accelerator(work=ends, reference_work=lambda: {"copy": ends})
    probes = device.probes()
    device.probes = lambda: probes._replace(copy=probes.copy._replace(run=ends))
    device.energy_meter = FakeMeter(device.fake_clock)
    device.energy_meter.state = ends
    guarded = GuardedDevice(device)
    take = {
        "instrument": lambda: guarded.work(lambda: None),
        "workload": guarded.reference_work()["copy"],
        "probe": guarded.probes().copy.run,
        "meter": guarded.meter().state,
    }[where]
    ending.append(True)
    with pytest.raises(kind, match="that is enough"):
        take()
    assert guarded.notes() == ()


def test_reference_work_that_fails_only_when_it_is_waited_for_is_left_out():
    device = accelerator()
    works, wait, queued = device.reference_work(), device.synchronize, []

    def synchronize():
        if queued:
            queued.clear()
            fails()
        wait()

    device.synchronize = synchronize
    device.reference_work = lambda: {**works, "copy": lambda: queued.append(1)}
    measurement, notes = measured(device)
    assert set(measurement.reference_work) == {"compute", "dispatch"}
    assert [note.code for note in notes] == ["instrument-failed"]


def test_the_hardware_stays_the_one_that_was_known():
    device = accelerator()
    guarded = GuardedDevice(device)
    assert guarded.failure() is None
    known = guarded.hardware()
    device.hardware = fails
    assert guarded.hardware() == known
    assert "INTERNAL ASSERT FAILED" in guarded.failure()


def test_workloads_name_themselves_when_they_fail():
    device = accelerator()
    works = []
    device.reference_work = lambda: {"copy": lambda: fails() if works else None}
    (run,) = GuardedDevice(device).reference_work().values()
    works.append(1)
    with pytest.raises(InstrumentError, match="copy of accel"):
        run()


BROKEN = {
    "open": """
        class Broken(FakeKind):
            def open(self, name):
                raise OSError("no driver")
    """,
    "synchronize": """
        class Dead(FakeDevice):
            def synchronize(self):
                raise RuntimeError("the driver is gone")

        class Broken(FakeKind):
            def open(self, name):
                return Dead("fake")
    """,
    "hardware": """
        class Nameless(FakeDevice):
            def hardware(self):
                raise AttributeError("no name")

        class Broken(FakeKind):
            def open(self, name):
                return Nameless("fake")
    """,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_device_that_does_not_work_skips_its_cases(project, what):
    project.test()
    project.change(textwrap.dedent(BROKEN[what]))
    project.change(
        "def pytest_infergate_devices(config):\n"
        "    return [Broken(), FakeKind(ACCELERATOR, kind='accel'), FakeKind(kind='ghost')]\n"
    )
    result = project.run("--infer-devices=fake,accel", "-rs", "-p", "no:randomly")
    result.assert_outcomes(passed=1, skipped=1)
    reason = {"open": "OSError: no driver", "synchronize": "RuntimeError: the driver is gone"}
    result.stdout.fnmatch_lines(f"SKIPPED*fake *{reason.get(what, 'AttributeError: no name')}*")


def test_a_driver_that_dies_fails_the_test_of_that_call_and_skips_those_after_it(project):
    project.test(
        name="test_first",
        body="device.synchronize = lambda: 1 // 0; infer(lambda: device.synchronize())",
        file="test_a.py",
    )
    project.test(name="test_second", file="test_b.py")
    result = project.measure("-rs")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines("SKIPPED*fake does not work: ZeroDivisionError*")


@pytest.mark.parametrize(("flops", "invalid"), [(10**9, False), (10**12, True)])
def test_a_synchronisation_that_does_not_wait_is_invalid(project, flops, invalid):
    """Work of a second: the peak, measured with the same synchronisation, is too high by a factor only."""
    project.takes(1.0)
    project.test()
    project.change(
        "from pytest_infergate.instruments.device import DeviceCounters\n"
        "ACCELERATOR.synchronize = lambda: None\n"
        f"ACCELERATOR.counters = DeviceCounters({{'flops': {flops}}})\n"
    )
    project.run("--infer-devices=accel", "--infer-json=verdicts.json")
    (decided,) = project.decided("verdicts.json").values()
    assert ("too-fast" in decided.codes) is invalid
    assert (decided.verdict == "invalid") is invalid
