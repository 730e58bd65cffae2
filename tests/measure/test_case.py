import asyncio
import concurrent.futures
from itertools import pairwise

import pytest

from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments import cpu_contention, sampler
from pytest_infergate.instruments.device import CpuTimes, DeviceMemory
from pytest_infergate.measure import item_streams, memory, timing_guard, warmup
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.testing import FakeDevice


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No tracer, be the suite run under one, and no page faults but those a test makes up."""
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)
    monkeypatch.setattr(memory, "page_faults", lambda: 0)


@pytest.fixture
def device():
    return FakeDevice()


@pytest.fixture
def accelerator():
    return FakeDevice("accel", asynchronous=True, enqueue=0.0001)


def spending(device, *seconds, output="output"):
    """A model that takes the first time at its first call, and so on; the last one for ever."""
    times = list(seconds)

    def call():
        device.spend(times.pop(0) if len(times) > 1 else times[0])
        return output

    return call


def few_calls(monkeypatch):
    """Let the caps that end a call without time come soon."""
    monkeypatch.setattr(sampler, "MAX_SAMPLES", 3000)
    monkeypatch.setattr(warmup, "MAX_WARM_UP_CALLS", 3000)


def codes(run):
    return [note.code for note in run.measurement.notes]


@pytest.mark.parametrize(("seconds", "limit"), [(0.010, 10), (3.0, 1)])
def test_contention_is_measured_however_few_calls_the_limit_allows(device, seconds, limit):
    device.others = 0.5
    run = measure(Subject(spending(device, seconds)), device, Effort(limit))
    assert run.measurement.contention == pytest.approx(0.5)
    assert "cpu-contention" in codes(run)
    assert run.measurement.undisturbed is None


def test_contention_of_the_first_call_and_of_the_passes_has_a_share_of_its_own(device):
    def call():
        # Others are busy during the first call, and once the sampling is done.
        device.others = 0.5 if device.kernels == 0 else 0.0
        spend()

    spend = spending(device, 4.0, 0.010)
    clock, times = device.fake_clock, []

    def cpu_times():
        # Time that others took since the last reading.
        times.append((clock.now / 1e9, device.others))
        taken = sum(other * (end - begin) for (begin, _), (end, other) in pairwise(times))
        return CpuTimes(wall=clock.now / 1e9, machine=clock.now / 1e9 + taken, own=clock.now / 1e9, cores=1)

    device.cpu_times = cpu_times
    run = measure(Subject(call), device, Effort(10)).measurement
    assert run.first_call.share == pytest.approx(0.5)
    assert run.contention == run.later_passes.share == pytest.approx(0.0)
    assert [note.code for note in run.notes if "contention" in note.code] == ["cpu-contention"]


@pytest.mark.parametrize("limit", [0.2, 2.0])
def test_the_items_of_a_stream_are_timed_however_little_time_there_is(device, limit):
    call = streaming(device, 0.2, 0.1, 6)
    stream = measure(Subject(call), device, Effort(limit)).measurement.stream
    assert stream.items == 6
    assert stream.first_item.p50.value == pytest.approx(0.2)
    assert stream.between_items.p95.value == pytest.approx(0.1)
    assert device.fake_clock.now / 1e9 <= limit + 2 * 0.7 + 0.01


def test_times_of_items_that_a_budget_needs_are_within_the_limit(device):
    run = measure(Subject(streaming(device, 0.02, 0.01, 9)), device, Effort(10, min_calls=90))
    assert run.measurement.stream.first_item.count >= 30 * 0.9
    assert device.fake_clock.now / 1e9 <= 10 + 3 * 0.1


def test_waiting_for_a_core_is_taken_from_the_time_of_a_call(device, monkeypatch):
    clock = device.fake_clock
    monkeypatch.setattr(cpu_contention, "waited_seconds", lambda: 0.75 * clock.now / 1e9)
    monkeypatch.setattr(device, "cpu_times", lambda: CpuTimes(clock.now / 1e9, 0, 0, 1, waited=0.0))
    run = measure(Subject(spending(device, 0.010)), device, Effort(10))
    assert run.measurement.undisturbed == pytest.approx(0.0025)


def test_what_is_measured_of_a_steady_model(device):
    run = measure(
        Subject(spending(device, 0.5, 0.010), batch_size=8, weights=lambda: {"float32": 123}, threads=2),
        device,
        Effort(10),
    )
    measurement = run.measurement
    assert run.output == "output"
    assert run.invalid is None
    assert measurement.cold_start == 0.5
    assert measurement.latency.p50.value == measurement.latency.p99.value == 0.010
    assert set(run.samples) == {0.010}
    assert measurement.latency.count == len(run.samples)
    assert measurement.throughput == pytest.approx(800)
    assert measurement.warm_up.steady
    assert (measurement.memory.weights, measurement.memory.activations) == (123, 1_000_000)
    assert measurement.reference_work == dict.fromkeys(("compute", "copy", "dispatch"), 0.001)
    assert measurement.threads == 2
    assert (measurement.enqueue, measurement.device_time, measurement.host_to_host) == (None, None, None)
    assert measurement.stream is None
    assert measurement.notes == ()


def test_work_from_before_is_not_part_of_the_first_call(accelerator):
    accelerator.spend(7.0)  # a fixture's, still queued
    run = measure(Subject(spending(accelerator, 0.5)), accelerator, Effort(10))
    assert run.measurement.cold_start == pytest.approx(0.5001)


def test_enqueue_device_time_and_synchronised_time_are_three_figures(accelerator):
    run = measure(Subject(spending(accelerator, 0.010)), accelerator, Effort(10))
    measurement = run.measurement
    assert measurement.latency.p50.value == pytest.approx(0.0101)
    assert measurement.enqueue == pytest.approx(0.0001)
    assert measurement.device_time == pytest.approx(0.0101)


def test_calls_are_issued_back_to_back_for_the_throughput(accelerator):
    # One synchronisation in all: the enqueuing hides behind the work of the call before.
    run = measure(Subject(spending(accelerator, 0.010), batch_size=4), accelerator, Effort(10))
    calls = 30
    assert run.measurement.throughput == pytest.approx(4 * calls / (0.0001 + calls * 0.010))
    assert run.measurement.throughput > 4 / run.measurement.latency.p50.value


def test_a_launch_bound_model(accelerator):
    accelerator.enqueue = 0.02
    run = measure(Subject(spending(accelerator, 0.001)), accelerator, Effort(10))
    assert run.measurement.enqueue / run.measurement.latency.p50.value == pytest.approx(20 / 21)
    assert run.measurement.throughput == pytest.approx(1 / 0.02, rel=0.01)


def test_a_call_without_a_kernel_is_invalid(accelerator, snapshot):
    run = measure(Subject(lambda: accelerator.fake_clock.advance(0.01)), accelerator, Effort(10))
    assert run.invalid.code == "no-kernel"
    assert str(run.invalid) == snapshot
    assert run.measurement is not None


def test_a_device_whose_kernels_nobody_sees_says_so(accelerator, monkeypatch):
    monkeypatch.setattr(accelerator, "work", lambda call: None)
    run = measure(Subject(spending(accelerator, 0.01)), accelerator, Effort(10))
    assert run.invalid is None
    assert run.measurement.device_time is None
    assert codes(run) == ["device-time-unseen"]


def test_host_to_host_is_measured_beside_the_resident_latency(accelerator):
    subject = Subject(spending(accelerator, 0.010), from_host=spending(accelerator, 9.0, 0.025))
    run = measure(subject, accelerator, Effort(10))
    assert run.measurement.latency.p50.value == pytest.approx(0.0101)
    assert run.measurement.host_to_host == pytest.approx(0.0251)


def test_exceptions_pass_through_and_the_collector_is_restored(device):
    import gc

    def failing():
        failing.calls += 1
        if failing.calls == 5:
            raise KeyError("model")
        device.spend(0.01)

    failing.calls = 0
    with pytest.raises(KeyError, match="model"):
        measure(Subject(failing), device, Effort(10))
    assert gc.isenabled()


def test_a_tracer_ends_it_after_one_call(device, monkeypatch):
    note = Note(code="tracer", text="a tracer was active")
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: note)
    run = measure(Subject(spending(device, 1.0)), device, Effort(10))
    assert (run.output, run.measurement, run.samples, run.invalid) == ("output", None, (), note)
    assert device.kernels == 1


def test_it_ends_for_a_call_that_takes_no_time(device, monkeypatch):
    few_calls(monkeypatch)
    monkeypatch.setattr(device, "reference_work", dict)
    run = measure(Subject(lambda: None), device, Effort(10))
    assert run.measurement.latency.p50.value == 0.0
    assert codes(run) == ["not-steady"]


def test_it_ends_where_no_time_is_left(device):
    run = measure(Subject(spending(device, 3.0)), device, Effort(1e-9))
    assert run.measurement.latency.count == 1
    assert run.measurement.warm_up.calls == 1


def test_the_cap_is_kept_by_a_slow_model(device):
    run = measure(Subject(spending(device, 1.0)), device, Effort(10))
    assert run.measurement.warm_up.seconds == 2.0
    assert device.fake_clock.now / 1e9 < 13


def test_a_model_that_does_not_settle_says_so(device, snapshot):
    times = iter(range(10**9))

    def call():
        device.spend(0.001 * 1.02 ** next(times))

    run = measure(Subject(call), device, Effort(2))
    assert not run.measurement.warm_up.steady
    assert codes(run)[0] == "not-steady"
    assert str(run.measurement.notes[0]) == snapshot


def test_notes_of_the_subject_come_first(device):
    given = Note(code="given", text="given")
    assert measure(Subject(spending(device, 0.01)), device, Effort(1), (given,)).measurement.notes == (given,)


@pytest.mark.parametrize(("faults", "noted"), [(999, False), (1000, True)])
def test_many_page_faults_are_noted(device, monkeypatch, snapshot, faults, noted):
    counted = [0]

    def call():
        device.spend(0.01)
        counted[0] += faults

    monkeypatch.setattr(memory, "page_faults", lambda: counted[0])
    run = measure(Subject(call), device, Effort(1))
    assert run.measurement.page_faults == faults
    assert ("page-faults" in codes(run)) is noted
    assert [str(note) for note in run.measurement.notes] == snapshot


def test_the_first_touch_of_the_reference_work_is_none_of_the_model_s_page_faults(device, monkeypatch):
    counted = [0]
    touched = []

    def reference_work():
        def run():
            device.spend(0.001)
            if not touched:
                touched.append(1)
                counted[0] += 100_000

        return {"copy": run}

    monkeypatch.setattr(memory, "page_faults", lambda: counted[0])
    monkeypatch.setattr(device, "reference_work", reference_work)
    assert measure(Subject(spending(device, 0.01)), device, Effort(1)).measurement.page_faults == 0


def test_page_faults_are_not_counted_beside_an_accelerator(accelerator):
    run = measure(Subject(spending(accelerator, 0.01)), accelerator, Effort(1))
    assert run.measurement.page_faults is None


def test_what_the_device_says_of_its_memory_is_passed_on(device, monkeypatch):
    def seen(call):
        call()
        return DeviceMemory(reserved=7, note=Note(code="memory-unseen", text="no"))

    monkeypatch.setattr(device, "memory", seen)
    run = measure(Subject(spending(device, 0.01)), device, Effort(1))
    assert (run.measurement.memory.activations, run.measurement.memory.reserved) == (None, 7)
    assert codes(run) == ["memory-unseen"]


def test_no_memory_for_the_reference_work_is_not_the_model_s_fault(device, monkeypatch):
    def exhausted():
        raise MemoryError

    monkeypatch.setattr(device, "reference_work", exhausted)
    run = measure(Subject(spending(device, 0.01)), device, Effort(1))
    assert run.measurement.reference_work == {}
    assert device.released == 1


def test_other_errors_of_the_reference_work_pass_through(device, monkeypatch):
    monkeypatch.setattr(device, "reference_work", lambda: {"broken": lambda: 1 // 0})
    with pytest.raises(ZeroDivisionError):
        measure(Subject(spending(device, 0.01)), device, Effort(1))


# Streams


def streaming(device, first, gap, items, end=0.0):
    def call():
        for index in range(items):
            device.spend(gap if index else first)
            yield index
        if end:
            device.spend(end)

    return call


def test_a_generator_is_a_stream(device):
    run = measure(Subject(streaming(device, 0.05, 0.01, 6)), device, Effort(10))
    measurement = run.measurement
    assert run.output == [0, 1, 2, 3, 4, 5]
    assert measurement.latency.p50.value == pytest.approx(0.1)
    assert measurement.throughput == pytest.approx(10)
    assert measurement.stream.items == 6
    assert measurement.stream.first_item.p50.value == pytest.approx(0.05)
    assert measurement.stream.between_items.p50.value == pytest.approx(0.01)
    assert measurement.stream.between_items.count == 5 * measurement.stream.first_item.count
    assert measurement.cold_start == pytest.approx(0.1)


def test_any_iterator_is_a_stream(device):
    run = measure(Subject(lambda: map(device.spend, [0.02, 0.01])), device, Effort(5))
    assert run.output == [None, None]
    assert run.measurement.latency.p50.value == pytest.approx(0.03)
    assert run.measurement.stream.items == 2


def test_a_list_is_no_stream(device):
    run = measure(Subject(spending(device, 0.01, output=[1, 2])), device, Effort(1))
    assert run.output == [1, 2]
    assert run.measurement.stream is None


def test_a_stream_of_one_item_has_nothing_between(device):
    stream = measure(Subject(streaming(device, 0.05, 0.01, 1)), device, Effort(1)).measurement.stream
    assert stream.items == 1
    assert stream.between_items is None


def test_a_stream_without_an_item_is_timed_to_its_end(device):
    run = measure(Subject(streaming(device, 0, 0, 0, end=0.02)), device, Effort(1))
    assert run.output == []
    assert run.measurement.stream.items == 0
    assert run.measurement.stream.first_item.p50.value == 0.02


def test_items_of_a_stream_are_awaited_on_an_asynchronous_device(accelerator):
    # What is queued after the last item of one call is not the first item of the next.
    run = measure(Subject(streaming(accelerator, 0.05, 0.01, 3, end=5.0)), accelerator, Effort(120))
    assert run.measurement.stream.first_item.p50.value == pytest.approx(0.0501)
    assert run.measurement.stream.between_items.p50.value == pytest.approx(0.0101)
    assert run.measurement.latency.p50.value == pytest.approx(5.0701)


def test_a_stream_has_as_many_first_items_as_the_budgets_need(device):
    stream = measure(
        Subject(streaming(device, 0.01, 0.01, 2)), device, Effort(60, min_calls=90)
    ).measurement.stream
    assert stream.first_item.count >= 90


def test_it_ends_for_a_stream_that_takes_no_time(device, monkeypatch):
    few_calls(monkeypatch)
    monkeypatch.setattr(device, "reference_work", dict)
    stream = measure(Subject(lambda: iter([1])), device, Effort(10)).measurement.stream
    assert stream.first_item.count == item_streams.MAX_STREAM_CALLS


# Results that are not there yet


async def _later():
    return "late"


def test_a_coroutine_is_no_result(device, snapshot):
    run = measure(Subject(_later), device, Effort(10))
    assert run.measurement is None
    assert run.invalid.code == "unfinished-output"
    assert str(run.invalid) == snapshot


def test_a_future_is_no_result(device):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        run = measure(Subject(lambda: pool.submit(int)), device, Effort(10))
    assert run.invalid.code == "unfinished-output"


def test_an_asynchronous_generator_is_a_stream_but_not_a_part_of_a_result(device):
    async def stream():
        device.spend(0.02)
        yield 1

    run = measure(Subject(stream), device, Effort(1))
    assert (run.invalid, run.output) == (None, [1])
    assert run.measurement.stream.first_item.p50.value == pytest.approx(0.02)
    assert measure(Subject(lambda: {"text": stream()}), device, Effort(1)).invalid.code == "unfinished-output"


def test_a_coroutine_that_is_run_is_a_result(device):
    def call():
        device.spend(0.01)
        return "late"

    assert measure(Subject(call), device, Effort(1)).invalid is None
    assert asyncio.run(_later()) == "late"


# Compiled models


def test_a_recompilation_while_measuring_is_invalid(device, monkeypatch):
    graphs = [5]
    calls = []

    def call():
        device.spend(0.1)
        calls.append(1)
        graphs[0] += len(calls) in (1, 3, 20)

    monkeypatch.setattr(timing_guard, "graph_count", lambda: graphs[0])
    run = measure(Subject(call), device, Effort(10))
    assert run.invalid == timing_guard.recompiled_note(0, 1)


def test_compiling_in_the_warm_up_is_what_it_is_for(device, monkeypatch):
    graphs = [5]
    calls = []

    def call():
        device.spend(0.1)
        calls.append(1)
        graphs[0] += len(calls) in (1, 3)

    monkeypatch.setattr(timing_guard, "graph_count", lambda: graphs[0])
    assert measure(Subject(call), device, Effort(10)).invalid is None
