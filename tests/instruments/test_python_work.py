"""Counts of Python's own work, on the interpreter that runs the tests."""

import asyncio
import gc
import sys
import threading

import pytest

from pytest_infergate.instruments import python_work
from pytest_infergate.instruments.python_work import count_python


def loop(times):
    total = 0
    for number in range(times):
        total += number * number
    return total


def totals(call):
    found = count_python(call)
    assert found.note is None
    return found.totals["python_calls"], found.totals["bytecodes"]


def bytecodes(call):
    return totals(call)[1]


def recursive(depth):
    return 0 if depth == 0 else 1 + recursive(depth - 1)


def raising():
    try:
        int("word")
    except ValueError:
        return recursive(2)


def generator():
    return [number for number in (n * n for n in range(5)) if number]


async def nested():
    await asyncio.sleep(0)
    return 1


def coroutine():
    task = nested()
    try:
        while True:
            task.send(None)
    except StopIteration as end:
        return end.value


class Traced:
    def __call__(self):
        return sorted(range(4), key=lambda number: -number)


def compiled(source, path):
    space = {"loop": loop}
    exec(compile(source, path, "exec"), space)
    return space["outer"]


def test_calls_of_python_functions():
    assert totals(lambda: 1)[0] == 1
    assert totals(lambda: loop(3))[0] == 2
    assert totals(lambda: recursive(10))[0] == 12
    assert totals(Traced())[0] == 5  # sorted is C, its key is Python
    assert totals(lambda: len("abc"))[0] == 1


def test_a_call_without_python_has_no_work():
    assert totals(gc.isenabled) == (0, 0)


@pytest.mark.parametrize("call", [lambda: loop(20), raising, generator, coroutine, Traced()])
def test_the_same_call_has_the_same_count(call):
    first = totals(call)
    for _ in range(50):
        call()  # specialised bytecodes count as those that they replace
    assert {totals(call) for _ in range(5)} == {first}
    assert first[0] > 0


def test_each_bytecode_of_a_loop_counts():
    ten, twenty, thirty = (bytecodes(lambda times=times: loop(times)) for times in (10, 20, 30))
    assert thirty - twenty == twenty - ten
    assert (twenty - ten) % 10 == 0
    assert twenty - ten > 0


def test_a_quadratic_loop_is_seen():
    def linear(words):
        return list(dict.fromkeys(words))

    def quadratic(words):
        kept = []
        for word in words:
            if not any(word == known for known in kept):
                kept.append(word)
        return kept

    words = [str(number) for number in range(100)]
    assert linear(words) == quadratic(words)
    assert bytecodes(lambda: quadratic(words)) > 100 * bytecodes(lambda: linear(words))


def test_a_generator_that_began_before_is_counted():
    kept = iter([loop(number) for number in range(9)])
    running = (loop(number) for number in kept)
    next(running)
    calls, _ = totals(lambda: next(running))
    assert calls == 3


def test_infergates_own_frames_are_not_counted():
    within = compiled("def outer():\n    for _ in range(50): pass\n    loop(5)", python_work.__file__)
    outside = lambda: loop(5)  # noqa: E731 - as the frame to compare with
    assert totals(within)[0] == totals(outside)[0] - 1
    assert totals(within)[1] < totals(outside)[1]


def test_what_restores_arguments_is_not_counted_nor_what_it_calls():
    source = "def keep():\n    yield loop(9)\n    loop(9)\ndef outer(): return list(keep())"
    restoring = compiled(source, python_work._RESTORING)
    assert totals(restoring) == (0, 0)

    def wrapped():
        restoring()
        return loop(5)

    plain = bytecodes(lambda: loop(5))
    calls, counted = totals(wrapped)
    assert calls == 2
    assert 0 < counted - plain < 10


def test_finalizers_of_the_output_are_not_counted():
    class Output:
        def __del__(self):
            loop(1000)

    assert bytecodes(Output) < 50


def test_garbage_collection_does_not_count():
    class Cycle:
        def __init__(self):
            self.own = self

        def __del__(self):
            loop(1000)

    enabled = gc.get_threshold()
    gc.set_threshold(1)
    try:
        assert bytecodes(lambda: [Cycle() for _ in range(5)]) < 500
    finally:
        gc.set_threshold(*enabled)
        gc.collect()
    assert gc.isenabled()


def test_what_was_set_before_is_restored():
    def fail():
        raise LookupError

    before = sys.gettrace(), sys.getprofile(), sys.settrace, threading.gettrace(), gc.isenabled()
    with pytest.raises(LookupError):
        count_python(fail)
    assert before == (sys.gettrace(), sys.getprofile(), sys.settrace, threading.gettrace(), gc.isenabled())
    if hasattr(sys, "monitoring"):
        assert [sys.monitoring.get_tool(tool) for tool in (3, 4)] == [None, None]


def test_a_call_beyond_the_limit_has_a_lower_bound():
    found = count_python(lambda: loop(1000), limit=500)
    assert found.totals == {}
    assert found.at_least == {"python_calls": 2, "bytecodes": 500}
    assert found.note.code == "not-counted"
    assert bytecodes(lambda: loop(3)) < 500  # nothing remains of it


def set_and_restored():
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    loop(3)
    sys.settrace(before)


def left_without():
    sys.settrace(None)
    loop(3)


def in_a_thread():
    thread = threading.Thread(target=lambda: loop(50))
    thread.start()
    thread.join()


@pytest.mark.parametrize("call", [set_and_restored, left_without, in_a_thread])
def test_what_makes_a_count_wrong_is_noted(call):
    found = count_python(call)
    assert (found.totals, found.at_least) == ({}, {})
    assert found.note.code == "not-counted"
    assert sys.gettrace() is None


def test_under_a_tracer_nothing_is_called():
    def tracer(*_):
        return None

    sys.settrace(tracer)
    try:
        found = count_python(lambda: pytest.fail("it was called"))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(None)
    assert found.totals == {}
    assert found.note.code == "not-counted"


def test_other_threads_do_not_count():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            loop(10)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert len({totals(lambda: loop(2000)) for _ in range(5)}) == 1
    finally:
        stop.set()
        thread.join()
