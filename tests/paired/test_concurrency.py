"""Several workers at once, on fakes that keep a diary."""

import pytest

from pytest_infergate.core.domain.measurement import ConcurrentRun
from pytest_infergate.core.domain.values import Note
from pytest_infergate.paired import concurrency
from pytest_infergate.paired.concurrency import SECONDS, concurrent_runs
from pytest_infergate.paired.protocol import (
    CallConcurrently,
    CalledConcurrently,
    CasesCollected,
    Done,
    Finish,
    PhaseReported,
    Ready,
    RunCase,
    RunWarmUp,
    SideMeasured,
    WarmedUp,
)
from pytest_infergate.paired.worker_handle import WorkerLostError

REPORT = PhaseReported(when="call", outcome="failed", serialised="")


class Fake:
    """A worker that answers at once; `fates` are ``ends``, ``fails``, ``fails timed`` or ``dies``."""

    def __init__(self, seed, diary, fates, calls=100, mean=0.02):
        self.seed, self.diary, self.fates = seed, diary, fates
        self.calls, self.mean = calls, mean
        self.events = []
        self.left = self.ended = False

    def handshake(self):
        self.diary.append((self.seed, "handshake"))
        return CasesCollected(())

    def send(self, command):
        self.diary.append((self.seed, type(command)))
        match command:
            case RunCase():
                self.case = command
                self.fate = self.fates.get((self.seed, command.nodeid), "ends")
                if self.fate == "dies":
                    self.events.append(
                        WorkerLostError("worker", "the process of the worker was killed", killed=True)
                    )
                else:
                    self.events += [REPORT, Done()] if self.fate == "fails" else [Ready()]
            case RunWarmUp():
                self.events.append(WarmedUp(5, 0.01))
            case CallConcurrently() if self.fate == "fails timed":
                self.events += [REPORT, REPORT, Done()]
            case CallConcurrently():
                assert command.seconds == SECONDS
                self.events.append(
                    CalledConcurrently(
                        calls=self.calls,
                        seconds=2.0,
                        mean=self.mean,
                        percentiles=(self.mean,) * 101,
                        batch_size=8,
                        threads=1,
                    )
                )
            case Finish():
                self.events += [SideMeasured(None), REPORT, Done()]

    def receive(self):
        event = self.events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event

    def leave(self):
        self.left = True

    def end(self):
        assert self.left
        self.ended = True


class Crowd:
    """Starts fakes, and remembers them."""

    def __init__(self, fates=None, **fields):
        self.diary, self.all, self.fates, self.fields = [], [], fates or {}, fields

    def __call__(self, seed):
        self.all.append(Fake(seed, self.diary, self.fates, **self.fields))
        return self.all[-1]


def nodeids(*names):
    return [f"tests/test_a.py::{name}" for name in names]


def test_throughput_is_the_sum_of_all_workers():
    crowd = Crowd()
    found = concurrent_runs(crowd, nodeids("test_a"), 3)
    assert found == {
        "tests/test_a.py::test_a": ConcurrentRun(
            workers=3, throughput=3 * 50 * 8, calls=300, mean=0.02, percentiles=(0.02,) * 101, threads=1
        )
    }


def test_all_begin_before_any_is_waited_for():
    crowd = Crowd()
    concurrent_runs(crowd, nodeids("test_a"), 2)
    commands = [entry for entry in crowd.diary if entry[1] in (RunWarmUp, CallConcurrently)]
    assert commands == [(0, RunWarmUp), (1, RunWarmUp), (0, CallConcurrently), (1, CallConcurrently)]


def test_cases_share_the_processes():
    crowd = Crowd()
    reported = []
    found = concurrent_runs(crowd, nodeids("test_a", "test_b"), 2, reported.append)
    assert len(found) == 2
    assert len(crowd.all) == 2
    assert reported == [1, 2]
    assert crowd.all[0].case.next_nodeid is None


def test_every_process_is_gone_afterwards():
    crowd = Crowd()
    concurrent_runs(crowd, nodeids("test_a"), 2)
    assert all(one.ended for one in crowd.all)


def test_processes_are_gone_after_an_interrupt(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrency, "_measured_at_once", interrupted)
    crowd = Crowd()
    with pytest.raises(KeyboardInterrupt):
        concurrent_runs(crowd, nodeids("test_a"), 2)
    assert all(one.ended for one in crowd.all)


def test_a_test_that_fails_in_one_worker_has_a_note():
    crowd = Crowd({(1, "tests/test_a.py::test_a"): "fails"})
    found = concurrent_runs(crowd, nodeids("test_a", "test_b"), 2)
    assert isinstance(found["tests/test_a.py::test_a"], Note)
    assert "2 workers at once" in found["tests/test_a.py::test_a"].text
    assert isinstance(found["tests/test_a.py::test_b"], ConcurrentRun)
    assert (0, Finish) in crowd.diary


def test_a_model_that_fails_while_it_is_timed_ends_only_its_case():
    crowd = Crowd({(0, "tests/test_a.py::test_a"): "fails timed"})
    found = concurrent_runs(crowd, nodeids("test_a", "test_b"), 2)
    assert isinstance(found["tests/test_a.py::test_a"], Note)
    assert isinstance(found["tests/test_a.py::test_b"], ConcurrentRun)
    finished = [seed for seed, command in crowd.diary if command is Finish]
    assert finished == [1, 0, 1]
    assert not any(one.events for one in crowd.all)


def test_a_process_that_dies_takes_its_case_and_no_other():
    crowd = Crowd({(1, "tests/test_a.py::test_a"): "dies"})
    found = concurrent_runs(crowd, nodeids("test_a", "test_b"), 2)
    assert found["tests/test_a.py::test_a"] == Note(
        code="concurrent-run-failed", text="the process of the worker was killed"
    )
    assert isinstance(found["tests/test_a.py::test_b"], ConcurrentRun)
    assert len(crowd.all) == 4
    assert all(one.ended for one in crowd.all)


def test_workers_that_differ_are_averaged():
    class Uneven(Crowd):
        def __call__(self, seed):
            self.fields = {"calls": 100 * (seed + 1), "mean": 0.01 * (seed + 1)}
            return super().__call__(seed)

    (found,) = concurrent_runs(Uneven(), nodeids("test_a"), 2).values()
    assert found.throughput == (50 + 100) * 8
    assert found.mean == pytest.approx(0.015)
    assert found.percentiles[50] == pytest.approx(0.015)
