"""What a worker does inside of `infer`: its answers to commands, and the state of its accelerator."""

import gc
import random

import pytest

from pytest_infergate.core.domain.launch_times import GpuState
from pytest_infergate.instruments.device import DeviceState
from pytest_infergate.measure.case import Subject
from pytest_infergate.measure.guarded_device import GuardedDevice
from pytest_infergate.paired.protocol import (
    BlockTimed,
    CallConcurrently,
    CaseInvalid,
    CompareOutput,
    CountWork,
    Finish,
    KeepOutput,
    Leave,
    MessageError,
    OutputCompared,
    OutputKept,
    Ready,
    RunWarmUp,
    SideMeasured,
    TimeBlock,
    WorkCounted,
)
from pytest_infergate.testing import FakeDevice, FakeMeter
from pytest_infergate.worker import serving
from pytest_infergate.worker.serving import Serving, TimedBlocks

HOT = DeviceState(clock_hz=1.2e9, celsius=91.0, throttled=("hardware thermal slowdown",), others=1)


class Script:
    """A channel with commands that wait, and the events that were sent."""

    def __init__(self, *commands):
        self.commands = list(commands)
        self.events = []

    def receive(self):
        return self.commands.pop(0)

    def send(self, event):
        self.events.append(event)


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(serving.timing_guard, "tracer_note", lambda: None)  # coverage is one
    return FakeDevice()


def served(device, *commands, call=None, **subject):
    """The events of one case, and its run."""
    channel = Script(*commands)
    made = Subject(call or (lambda: device.spend(0.003)), **subject)
    return channel.events, Serving(channel).serve(made, GuardedDevice(device))


def test_every_command_has_its_answer(device, tmp_path):
    path = str(tmp_path / "output")
    events, run = served(
        device,
        *(CountWork(), KeepOutput(path), CompareOutput(path, None), RunWarmUp(2), TimeBlock(1), TimeBlock(3)),
        Finish(),
        batch_size=4,
    )
    kinds = [Ready, WorkCounted, OutputKept, OutputCompared, type(events[4]), BlockTimed, BlockTimed]
    assert [type(event) for event in events] == [*kinds, SideMeasured]
    assert events[3] == OutputCompared(None)
    assert events[4].calls == 2
    for event in events[4:7]:
        assert event.seconds == pytest.approx(0.003, rel=0.01)
    measurement = events[-1].measurement
    assert measurement is run.measurement
    assert measurement.latency.count == len(run.samples) == 4
    assert measurement.warm_up.calls == 2
    assert measurement.throughput == pytest.approx(4 / 0.003, rel=0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_what_differs_from_call_to_call_is_not_compared(device, tmp_path, stream):
    path = str(tmp_path / "output")

    def call():
        device.spend(0.003)
        output = {"seconds": device.clock() / 1e9, "drawn": random.random()}
        return iter([output]) if stream else output

    def compared(command, draws):
        random.seed(draws)
        events, _ = served(device, CountWork(), command, TimeBlock(2), Finish(), call=call)
        return events[2]

    compared(KeepOutput(path), draws=0)
    place = "output[0]" if stream else "output"
    unsteady = (f"{place}['seconds'] (differs from call to call)",)
    assert compared(CompareOutput(path, None), draws=0) == OutputCompared(None, unsteady)
    # A repeated call draws the same numbers: those of another seed do differ.
    found = compared(CompareOutput(path, None), draws=1)
    assert f"{place}['drawn']: " in found.difference
    assert found.uncompared == unsteady


def test_arguments_that_a_call_writes_into_are_not_compared(device, tmp_path):
    path = str(tmp_path / "output")
    buffer = []

    class Restored:
        changing = False

        def settle(self):
            self.changing = bool(buffer)
            buffer.clear()
            return True

        def renew(self):
            buffer.clear()

    def compared(call):
        arguments = Restored()
        events, _ = served(
            device, KeepOutput(path), CompareOutput(path, None), Finish(), call=call, arguments=arguments
        )
        return events[2]

    assert compared(lambda: None) == OutputCompared(None)
    assert compared(lambda: buffer.append(1)).uncompared == ("the arguments (the call changes them)",)


def test_a_case_that_was_not_timed_has_no_measurement(device):
    events, run = served(device, Finish())
    assert events == [Ready(), SideMeasured(None)]
    assert run.measurement is None


def test_an_output_that_is_not_finished_is_invalid_and_waits_for_no_command(device):
    async def later():
        pass

    coroutine = later()
    events, run = served(device, call=lambda: coroutine)
    coroutine.close()
    assert events == [CaseInvalid(run.invalid)]


def test_calls_back_to_back_have_their_batch_size_and_threads(device):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.time, "perf_counter", lambda: device.fake_clock() / 1e9)
        events, _ = served(device, CallConcurrently(0.1), Finish(), batch_size=8, threads=2)
    called = events[1]
    assert (called.batch_size, called.threads) == (8, 2)
    assert called.seconds >= 0.1
    assert called.calls * 0.003 == pytest.approx(called.seconds, rel=0.01)
    assert called.mean == pytest.approx(0.003, rel=0.01)
    assert len(called.percentiles) == 101


@pytest.mark.parametrize("command", [Leave(), KeepOutput("x"), CallConcurrently(1.0)], ids=repr)
def test_the_control_only_times(device, command):
    with pytest.raises(MessageError, match=type(command).__name__):
        Serving(Script(command)).control(device)


def test_the_control_times_reference_work(device):
    channel = Script(RunWarmUp(2), TimeBlock(1), Finish())
    Serving(channel).control(device)
    ready, warm, block, measured = channel.events
    assert (ready, measured) == (Ready(), SideMeasured(None))
    assert warm.calls == 2
    assert block.seconds > 0


@pytest.mark.parametrize("good_calls", [None, 0, 1, 3])
def test_the_control_ends_at_once_where_its_work_fails_and_the_next_case_has_the_note(device, good_calls):
    def fails():
        if good_calls is None or len(passed) >= good_calls:
            raise RuntimeError("no kernel")
        passed.append(1)

    passed = []
    device.reference_work = fails if good_calls is None else lambda: {"copy": fails}
    guarded = GuardedDevice(device)
    channel = Script(RunWarmUp(1), TimeBlock(1), CountWork(), Finish())
    serving = Serving(channel)
    serving.control(guarded)
    # The first of the good calls is that of the guard, the second is in place of that of a model.
    assert [type(event) for event in channel.events][:1] == ([Ready] if good_calls == 3 else [])
    assert not any(isinstance(event, SideMeasured) for event in channel.events)
    channel.commands[:] = [CountWork(), Finish()]
    run = serving.serve(Subject(lambda: device.spend(0.003)), guarded)
    note = run.measurement.notes[0]  # without torch, another one is about the check of the device
    assert note.code == "instrument-failed"
    assert note.text.endswith("failed: RuntimeError: no kernel")


def test_a_command_to_leave_ends_the_case_and_collections_go_on(device):
    with pytest.raises(MessageError, match="Leave"):
        served(device, Leave())
    assert gc.isenabled()


# The state of an accelerator


@pytest.fixture
def card():
    device = FakeDevice("card", asynchronous=True)
    device.energy_meter = FakeMeter(device.fake_clock)
    return device


def blocks(device):
    return TimedBlocks(lambda: device.spend(0.003), device)


def test_a_block_has_the_state_of_its_accelerator(card):
    card.energy_meter.reported_state = HOT
    block = blocks(card).time_block(2)
    assert block.seconds == pytest.approx(0.003, rel=0.01)
    assert block.gpu_state == GpuState(clock_hz=1.2e9, throttled=HOT.throttled)


def test_the_driver_is_not_queried_at_every_block(card, monkeypatch):
    monkeypatch.setattr(serving, "GPU_STATE_SECONDS", 3600.0)
    card.energy_meter.reported_state = HOT
    timing = blocks(card)
    first = timing.time_block(2)
    card.energy_meter.reported_state = DeviceState(clock_hz=2e9)
    assert timing.time_block(2).gpu_state == first.gpu_state
    monkeypatch.setattr(serving, "GPU_STATE_SECONDS", 0.0)
    assert timing.time_block(2).gpu_state == GpuState(clock_hz=2e9)


def test_an_accelerator_without_a_state(card):
    assert blocks(card).time_block(2).gpu_state is None
    card.energy_meter = None
    assert blocks(card).time_block(2).gpu_state is None


def test_a_processor_is_not_queried():
    device = FakeDevice()
    device.energy_meter = FakeMeter(device.fake_clock, source="rapl", scope="package")
    device.energy_meter.reported_state = HOT
    assert blocks(device).time_block(2).gpu_state is None
