"""Calls that never return, with limits of a fraction of a second."""

import faulthandler
import signal
import sys
import threading
import time
from contextlib import suppress
from itertools import count

import pytest

from pytest_infergate.errors import CaseTimeoutError
from pytest_infergate.measure.call_limit import CALL_SECONDS, CallLimit, call_seconds, debugged
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.counters_only import count_only
from pytest_infergate.testing import FakeDevice

needs_alarm = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
FOREVER = 60.0
LIMIT = 0.05


def never(text):
    pytest.fail(f"the process would have ended: {text}")


def test_the_limit_leaves_time_to_compile_and_grows_with_that_of_the_case():
    assert (call_seconds(0.1), call_seconds(10.0), call_seconds(60.0)) == (CALL_SECONDS,) * 3
    assert call_seconds(180.0) == 1800.0


@needs_alarm
def test_an_exception_is_raised_where_the_call_hangs():
    limit = CallLimit(LIMIT, never)
    with pytest.raises(CaseTimeoutError, match="call 3 must return") as found, limit.watching(lambda: 2):
        time.sleep(FOREVER)
    assert any("time.sleep" in str(entry.statement) for entry in found.traceback)


@needs_alarm
@pytest.mark.parametrize("course", [measure, count_only])
def test_a_hanging_call_is_named_by_its_number(course):
    calls = count(1)
    limit = CallLimit(LIMIT, never)
    effort = Effort(10, watched=limit.watching)
    with pytest.raises(CaseTimeoutError, match="call 2 must return") as found:
        course(Subject(lambda: time.sleep(FOREVER) if next(calls) == 2 else 0), FakeDevice("fake"), effort)
    assert found.value.__notes__[0].startswith("infergate repeats the call: raised in call 2; call 1 passed")


@needs_alarm
def test_a_call_that_hangs_under_an_observer_is_not_a_call_without_counters():
    device = FakeDevice("fake")
    device.count = lambda call: time.sleep(FOREVER)
    with pytest.raises(CaseTimeoutError):
        measure(Subject(lambda: 0), device, Effort(10, watched=CallLimit(LIMIT, never).watching))


@needs_alarm
def test_calls_that_return_may_take_longer_together():
    with CallLimit(LIMIT, never).watching(count().__next__):
        time.sleep(5 * LIMIT)


@needs_alarm
def test_a_model_that_catches_the_exception_does_not_pass():
    def model():
        with suppress(Exception):
            time.sleep(FOREVER)

    with pytest.raises(CaseTimeoutError), CallLimit(LIMIT, never).watching(lambda: 0):
        model()


@needs_alarm
def test_everything_is_put_back():
    threads = threading.active_count()
    with CallLimit(FOREVER, never).watching(lambda: 0):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    with pytest.raises(ZeroDivisionError), CallLimit(FOREVER, never).watching(lambda: 0):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert threading.active_count() == threads


@needs_alarm
@pytest.mark.parametrize("other", ["handler", "timer"])
def test_a_timeout_of_somebody_else_is_left_alone(other):
    def theirs(*_):
        pass

    before = signal.signal(signal.SIGALRM, theirs if other == "handler" else signal.SIG_DFL)
    if other == "timer":
        signal.setitimer(signal.ITIMER_REAL, FOREVER)
    try:
        with CallLimit(LIMIT, never).watching(lambda: 0):
            time.sleep(4 * LIMIT)
        assert signal.getsignal(signal.SIGALRM) is (theirs if other == "handler" else signal.SIG_DFL)
        assert (signal.getitimer(signal.ITIMER_REAL)[0] > FOREVER / 2) is (other == "timer")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@needs_alarm
def test_a_timeout_of_the_model_is_left_alone():
    def theirs(*_):
        pass

    try:
        with CallLimit(FOREVER, never).watching(lambda: 0):
            signal.signal(signal.SIGALRM, theirs)
        assert signal.getsignal(signal.SIGALRM) is theirs
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@needs_alarm
def test_a_call_that_no_exception_ends_ends_the_process():
    ended, log = threading.Event(), []

    def end(text):
        log.append(text)
        ended.set()
        time.sleep(4 * LIMIT)
        log.append("ended")

    def model():
        while not ended.is_set():
            with suppress(CaseTimeoutError):
                ended.wait(FOREVER)

    with pytest.raises(CaseTimeoutError), CallLimit(LIMIT, end, grace=LIMIT).watching(lambda: 6):
        model()
    # The main thread does not go on while the process ends.
    log.append("left")
    assert [log[0].startswith("call 7 must return"), *log[1:]] == [True, "ended", "left"]


def test_beside_the_main_thread_there_is_only_the_end_of_the_process():
    ended = threading.Event()

    def call():
        with CallLimit(LIMIT, lambda _: ended.set(), grace=LIMIT).watching(lambda: 0):
            ended.wait(FOREVER)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(FOREVER)
    assert ended.is_set()


@needs_alarm
def test_who_waits_in_a_debugger_is_not_hanging():
    namespace = {"__name__": "pdb", "sleep": time.sleep}
    exec("def interaction(): sleep(0.3)", namespace)
    with CallLimit(LIMIT, never, grace=LIMIT).watching(lambda: 0):
        namespace["interaction"]()
    assert not debugged(sys._getframe())


def test_a_process_whose_interpreter_is_locked_is_ended_last(monkeypatch):
    log = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *a, **k: log.append((a, k)))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: log.append("cancelled"))
    with CallLimit(10.0, never, grace=1.0, stacks=7).watching(lambda: 0):
        while not log:
            time.sleep(0.001)
    assert log == [((12.0,), {"file": 7, "exit": True}), "cancelled"]
