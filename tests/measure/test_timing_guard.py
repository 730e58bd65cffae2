import asyncio
import concurrent.futures
import itertools
import sys
import types

import pytest

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import Counters, Measurement, Peaks
from pytest_infergate.measure import timing_guard


@pytest.fixture(autouse=True)
def untraced():
    """No tracer but the test's own: the suite itself may run under coverage."""
    tracer, profiler = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    yield
    sys.setprofile(profiler)
    sys.settrace(tracer)


@pytest.fixture
def alone():
    """Skip where a tool of the suite's own monitors."""
    if timing_guard.tracer_note() is not None:
        pytest.skip("the suite runs under a monitoring tool")


def tracer(*_):
    return None


class Tracer:
    def __call__(self, *_):
        return None


def test_nothing_traces(alone):
    assert timing_guard.tracer_note() is None


@pytest.mark.parametrize(
    ("one", "name"),
    [(tracer, "test_timing_guard.tracer"), (Tracer(), "test_timing_guard.Tracer")],
    ids=["function", "object"],
)
def test_a_trace_function_is_named(snapshot, one, name):
    sys.settrace(one)
    note = timing_guard.tracer_note()
    sys.settrace(None)
    assert note.code == "tracer"
    assert note.text.endswith(name)
    assert str(note) == snapshot


def test_a_profile_function_is_named():
    sys.setprofile(tracer)
    note = timing_guard.tracer_note()
    sys.setprofile(None)
    assert note.code == "tracer"
    assert note.text.endswith("test_timing_guard.tracer")


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="sys.monitoring came with Python 3.12")
def test_a_monitoring_tool_is_named_while_it_wants_events(alone):
    tool = 4
    sys.monitoring.use_tool_id(tool, "spy")
    try:
        assert timing_guard.tracer_note() is None
        sys.monitoring.set_events(tool, sys.monitoring.events.PY_START)
        assert timing_guard.tracer_note().text.endswith("spy")
        sys.monitoring.set_events(tool, 0)
        assert timing_guard.tracer_note() is None
    finally:
        sys.monitoring.free_tool_id(tool)


@pytest.mark.parametrize(("enabled", "code"), [(True, "tracer"), (False, None)])
def test_torch_s_profiler_is_a_tracer(alone, monkeypatch, enabled, code):
    fake = types.SimpleNamespace(_profiler_enabled=lambda: enabled)
    monkeypatch.setitem(sys.modules, "torch.autograd", fake)
    note = timing_guard.tracer_note()
    assert (note and note.code) == code
    if note is not None:
        assert note.text.endswith("torch.profiler")
        assert "--no-cov" not in note.hint


def test_a_coroutine_is_closed_and_refused():
    async def late():
        """Nobody awaits it."""

    coroutine = late()
    assert timing_guard.unfinished_output_note(coroutine).code == "unfinished-output"
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)


def test_an_awaitable_object_is_refused():
    class Late:
        def __await__(self):
            yield

    assert timing_guard.unfinished_output_note(Late()).code == "unfinished-output"


class Held:
    def __init__(self, held):
        self.held = held


class Lazy:
    """It computes what it is asked for, which is nothing that a call still has to do."""

    def __iter__(self):
        yield 1

    def __getattr__(self, name):
        return lambda: name


class Steps:
    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


async def later():
    yield 1


LOOP = asyncio.new_event_loop()
LOOP.close()
UNFINISHED = {
    "generator": ({"tokens": (each for each in [1])}, "output['tokens'] a generator"),
    "map": ([1, (2, map(abs, [1]))], "output[1][1] a map"),
    "zip of an object": (Held([zip([1], strict=False)]), "output.held[0] a zip"),
    "chain": ({("a", 1): itertools.chain([1])}, "output[key 0] a chain"),
    "iterator of a class": ([Steps()], "output[0] a Steps"),
    "asynchronous generator": ([later()], "output[0] a async_generator"),
    "future": (Held(concurrent.futures.Future()), "output.held a Future"),
    "future of a loop": ([asyncio.Future(loop=LOOP)], "output[0] a Future"),
}


@pytest.mark.parametrize(("output", "found"), UNFINISHED.values(), ids=UNFINISHED)
def test_unfinished_work_inside_an_output_is_refused_with_its_place(output, found):
    note = timing_guard.unfinished_output_note(output)
    assert note.code == "unfinished-output"
    assert (
        note.text.replace(", in", "").replace(",", "").endswith(f"returned {found} before its work was done")
    )


def test_all_coroutines_of_an_output_are_closed():
    async def late():
        """Nobody awaits it."""

    output = [late(), {"a": late()}]
    assert timing_guard.unfinished_output_note(output).code == "unfinished-output"
    for coroutine in (output[0], output[1]["a"]):
        with pytest.raises(RuntimeError, match="cannot reuse"):
            coroutine.send(None)


FINISHED = [
    None, 1.0, "text", [], {}, iter([]), asyncio, (each for each in []), Lazy(), [Lazy()], Held(lambda: 1),
    [iter([1]), iter({}), itertools.count(), reversed([1])], Held(sys.stderr), [len, Held], {"a": range(3)},
]  # fmt: skip


@pytest.mark.parametrize("output", FINISHED, ids=lambda value: type(value).__name__)
def test_anything_else_is_finished(output):
    assert timing_guard.unfinished_output_note(output) is None


@pytest.fixture
def dynamo(monkeypatch):
    counters = {"stats": {"unique_graphs": 3}}
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", types.SimpleNamespace(counters=counters))
    monkeypatch.setitem(sys.modules, "torch._dynamo.config", types.SimpleNamespace(recompile_limit=8))
    return counters["stats"]


def test_compilations_are_counted_from_where_it_begins(dynamo):
    compilations = timing_guard.GraphCounter()
    assert compilations.since() == 0
    dynamo["unique_graphs"] += 2
    assert compilations.since() == 2
    assert compilations.since() == 0


def test_without_a_compiler_nothing_was_compiled(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    monkeypatch.delitem(sys.modules, "torch._dynamo.config", raising=False)
    assert timing_guard.GraphCounter().since() == 0
    assert timing_guard.recompiled_note(100, 0) is None


def test_when_compiling_makes_a_case_invalid(dynamo, snapshot):
    notes = {}
    for warming, measuring in ((0, 0), (6, 0), (7, 0), (0, 1), (7, 1)):
        notes[warming, measuring] = timing_guard.recompiled_note(warming, measuring)
    assert [given for given, note in notes.items() if note is None] == [(0, 0), (6, 0)]
    assert {note.code for note in notes.values() if note} == {"recompiled"}
    assert "\n".join(f"{given}: {note}" for given, note in notes.items()) == snapshot


def test_counters_that_were_cleared_meanwhile_count_nothing(dynamo):
    compilations = timing_guard.GraphCounter()
    dynamo["unique_graphs"] = 0
    assert timing_guard.recompiled_note(0, compilations.since()) is None


# Times that contradict each other or the work


def timed_calls(slowest=0.012, **parts):
    return Measurement(latency=latency_of((0.010, 0.010, slowest)), **parts)


@pytest.mark.parametrize(
    ("parts", "noted"),
    [
        ({}, False),
        ({"enqueue": 0.001, "device_time": 0.009}, False),
        ({"enqueue": 0.012}, False),
        ({"enqueue": 0.0121}, True),
        ({"device_time": 0.02}, True),
    ],
)
def test_a_part_of_a_call_that_takes_longer_than_all_calls_is_a_contradiction(parts, noted):
    note = timing_guard.contradiction_note(timed_calls(**parts))
    assert (note is not None) is noted
    assert note is None or note.code == "times-disagree"
    assert timing_guard.contradiction_note(Measurement(**parts)) is None


@pytest.mark.parametrize(
    ("flops", "kernels", "peak", "invalid"),
    [
        (10**9, 0.009, 1e12, False),
        (10**9, 0.09, 1e12, False),  # streams overlap
        (10**9, 0.11, 1e12, True),
        (None, 0.11, None, True),
        (10**11, 0.009, 1e12, False),  # ten times the peak, as with Winograd's algorithm and narrow dtypes
        (2 * 10**11, 0.009, 1e12, True),
        (2 * 10**11, 0.009, None, False),
    ],
)
def test_calls_that_are_faster_than_their_work_were_not_waited_for(flops, kernels, peak, invalid):
    counters = Counters(totals={} if flops is None else {"flops": flops})
    peaks = None if peak is None else Peaks(flops={"float32": peak}, bandwidth=1e11)
    note = timing_guard.too_fast_note(timed_calls(device_time=kernels, counters=counters), peaks)
    assert (note is not None) is invalid
    assert note is None or note.code == "too-fast"
    assert timing_guard.too_fast_note(Measurement(counters=counters), peaks) is None
