"""Serving a model under load, with a source of requests on the clock of a fake device."""

from contextlib import contextmanager

import msgspec
import pytest
from core_values import latency, measurement
from traffic import Traffic

from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import Stream
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.load import under_load
from pytest_infergate.load.loadgen import LoadGenError
from pytest_infergate.load.under_load import LoadPlan, measured_under_load
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.testing import FakeDevice

SERVER = Load(scenario="server", rate=10.0)


class Bench:
    """Serves models that take seconds on a fake device; requests arrive at moments from now on."""

    def __init__(self, moments=(0.0, 0.1, 0.2), *, load=SERVER, batch_size=1, limit=None, p95=None):
        self.device = FakeDevice()
        self.settings = None
        self.traffic = None
        self.open = 0
        self.moments, self.p95 = moments, p95
        self.plan = LoadPlan(
            load,
            4.0,
            batch_size,
            self.device,
            limit,
            clock=self.device.fake_clock,
            traffic=self.running,
            absence=lambda: None,
        )

    @contextmanager
    def running(self, settings):
        self.settings = settings
        clock = self.device.fake_clock
        self.traffic = Traffic(
            [clock.now + round(1e9 * moment) for moment in self.moments],
            clock=clock,
            items=settings["items"],
        )
        self.traffic.p95 = self.p95
        self.open += 1
        try:
            yield self.traffic
        finally:
            self.open -= 1

    def spend(self, seconds):
        return lambda *_: self.device.spend(seconds)

    def measured(self, call, *args, before=None, **plan):
        self.plan = self.plan._replace(**plan)
        return measured_under_load(self.plan, Invocation(call, args), None, before or measurement())


def codes(measured):
    return [note.code for note in measured.notes]


def test_figures_are_those_of_the_clock():
    bench = Bench(limit=0.25)
    measured = bench.measured(bench.spend(0.2))
    load = measured.load
    assert (load.queries, load.answered, load.max_batch, load.limit) == (3, 3, 1, 0.25)
    assert load.p50.value == pytest.approx(0.3)
    assert load.within == 1
    assert load.busy == pytest.approx(0.15)
    assert codes(measured) == []
    assert bench.settings["test"]["server_target_latency_ns"] == 250_000_000
    assert bench.settings["test"]["min_duration_ms"] == 4000
    assert bench.open == 0


def test_a_load_beyond_saturation_ends_with_what_was_achieved():
    bench = Bench([number / 10 for number in range(40)])
    measured = bench.measured(bench.spend(1.0))
    assert measured.load.answered == 5
    assert measured.load.rate == pytest.approx(1.0)
    assert measured.load.p95.high is None
    assert codes(measured) == [NoteCode.LOAD_SATURATED]
    assert "35 of 40 requests" in measured.notes[0].text


def test_requests_that_are_sent_late_are_noted():
    assert codes(Bench(p95=0.5).measured(lambda: None)) == [NoteCode.LOAD_LATE]
    bench = Bench(p95=0.2004)
    assert codes(bench.measured(bench.spend(0.05))) == [NoteCode.LOAD_LATE]
    bench = Bench(p95=0.0509)
    assert codes(bench.measured(bench.spend(0.05))) == []


def test_upper_bounds_are_at_least_what_loadgen_has_seen():
    bench = Bench([number / 30 for number in range(100)], p95=0.09)
    load = bench.measured(bench.spend(0.01)).load
    assert load.p95.value == pytest.approx(0.01)
    assert load.p95.high == 0.09
    bench = Bench([number / 30 for number in range(100)], p95=0.009)
    assert bench.measured(bench.spend(0.01)).load.p95.high == pytest.approx(0.01)


def test_no_request_is_no_figure():
    measured = Bench([]).measured(lambda: None)
    assert (measured.load, codes(measured)) == (None, [NoteCode.LOAD_NOT_MEASURED])


def test_streams_and_counted_cases_are_not_served():
    bench = Bench()
    streamed = msgspec.structs.replace(measurement(), stream=Stream(items=3.0, first_item=latency()))
    counted = msgspec.structs.replace(measurement(), latency=None)
    for before, word in ((streamed, "stream"), (counted, "counters only")):
        measured = bench.measured(lambda: None, before=before)
        assert measured.load is None
        assert codes(measured) == [NoteCode.LOAD_NOT_MEASURED]
        assert word in measured.notes[0].text
    assert bench.settings is None


def test_without_time_nothing_is_served():
    measured = Bench().measured(lambda: None, seconds=-1.0)
    assert (measured.load, codes(measured)) == (None, [NoteCode.LOAD_NOT_MEASURED])


def test_without_loadgen_a_note_names_the_extra(monkeypatch):
    monkeypatch.setattr(under_load.loadgen, "installed", lambda: False)
    measured = Bench().measured(lambda: None, absence=under_load.loadgen_absence)
    assert measured.load is None
    assert "pytest-infergate[loadgen]" in measured.notes[0].hint


def test_a_loadgen_that_fails_is_a_note():
    @contextmanager
    def failing(_settings):
        raise LoadGenError("no space left")
        yield

    measured = Bench().measured(lambda: None, traffic=failing)
    assert measured.load is None
    assert "no space left" in measured.notes[0].text


def test_a_loadgen_that_ends_early_leaves_what_was_served():
    bench = Bench((0.0, 0.1, 0.2, 0.3))

    @contextmanager
    def ending(settings):
        with bench.running(settings) as traffic:
            receive = traffic.receive

            def receive_two(seconds):
                if len(traffic.answered) == 2:
                    raise LoadGenError("it was ended by signal 9")
                return receive(seconds)

            traffic.receive = receive_two
            yield traffic

    measured = bench.measured(bench.spend(0.01), traffic=ending)
    assert measured.load is None
    text = measured.notes[0].text
    assert "it was ended by signal 9" in text
    assert "after 110 ms and 2 answers" in text


def test_a_model_that_fails_under_load_says_where():
    bench = Bench()

    def model():
        if bench.traffic is not None and len(bench.traffic.answered) == 2:
            raise ValueError("third")
        bench.device.spend(0.01)

    with pytest.raises(ValueError, match="third") as raised:
        bench.measured(model)
    assert "after 110 ms and 2 answers" in raised.value.__notes__[0]
    assert bench.open == 0


def test_an_interrupt_shows_partial_figures():
    bench = Bench()

    def model():
        if bench.traffic is not None and len(bench.traffic.answered) == 2:
            raise KeyboardInterrupt
        bench.device.spend(0.01)

    with pytest.raises(KeyboardInterrupt, match=r"10/s.*2 answers, p95 10.0 ms so far; .* partial") as raised:
        bench.measured(model)
    assert raised.value.__cause__ is None
    assert bench.open == 0


def test_a_call_that_hangs_is_watched():
    seen = []

    @contextmanager
    def watched(passed):
        yield
        seen.append(passed())

    Bench().measured(lambda: None, watched=watched)
    assert seen == [3]


def test_a_batch_that_cannot_be_divided_is_one_request():
    bench = Bench(batch_size=8)
    measured = bench.measured(bench.spend(0.01))
    assert codes(measured) == [NoteCode.LOAD_NOT_BATCHED]
    assert measured.load.max_batch == 1
    assert bench.settings["items"] == 1


def test_items_of_an_array_are_batched():
    np = pytest.importorskip("numpy")
    bench = Bench([0.0, 0.01, 0.02, 0.03], batch_size=4)
    calls = []

    def model(x):
        calls.append(x.ravel().tolist())
        bench.device.spend(0.1)
        return x * 2

    measured = bench.measured(model, np.arange(4.0).reshape(4, 1))
    # The sizes that a batch may have are called before the first request.
    assert [len(call) for call in calls[:3]] == [4, 2, 1]
    assert calls[-2:] == [[0.0], [1.0, 2.0, 3.0]]
    assert (measured.load.max_batch, measured.load.mean_batch) == (4, 2.0)
    assert codes(measured) == []


def test_multi_stream_and_offline_settings():
    bench = Bench(load=Load(scenario="multi-stream", streams=8), batch_size=1)
    bench.measured(lambda: None)
    assert bench.settings["scenario"] == "MultiStream"
    assert bench.settings["test"]["multi_stream_samples_per_query"] == 8
    bench = Bench(load=Load(scenario="offline"), limit=1.0)
    measured = bench.measured(lambda: None)
    assert (measured.load.p95, measured.load.goodput) == (None, None)
