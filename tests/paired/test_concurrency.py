"""Several workers at once, on fakes that keep a diary."""

import pytest

from pytest_infergate.core.domain.measurement import ConcurrentRun
from pytest_infergate.core.domain.model import Note
from pytest_infergate.paired import concurrency
from pytest_infergate.paired.concurrency import SECONDS, concurrent_runs
from pytest_infergate.paired.trial import TrialSpec
from pytest_infergate.paired.worker_process import WorkerLostError


class Fake:
    """A worker that answers at once; `fate` says what becomes of a case: ``ends``, ``fails`` or ``dies``."""

    def __init__(self, seed, diary, fates, calls=100, mean=0.02):
        self.seed, self.diary, self.fates = seed, diary, fates
        self.calls, self.mean = calls, mean
        self.answers = []
        self.left = self.ended = False

    def handshake(self):
        self.diary.append((self.seed, "greet"))
        return {"nodeids": []}

    def send(self, message):
        self.diary.append((self.seed, message["do"]))
        match message["do"]:
            case "case":
                fate = self.fates.get((self.seed, message["nodeid"]), "ends")
                self.asked = message
                if fate == "dies":
                    self.answers.append(
                        WorkerLostError("worker", "the process of the worker was killed", killed=True)
                    )
                elif fate == "fails":
                    self.answers += [{"is": "report"}, {"is": "done"}]
                else:
                    self.answers.append({"is": "ready"})
                    self.stray = fate == "strays"
            case "warm":
                self.answers.append({"is": "warm"})
            case "together" if self.stray:
                self.answers += [{"is": "report"}, {"is": "report"}, {"is": "done"}]
            case "together":
                assert message["seconds"] == SECONDS
                self.answers.append(
                    {
                        "is": "together",
                        "calls": self.calls,
                        "seconds": 2.0,
                        "mean": self.mean,
                        "percentiles": [self.mean] * 101,
                        "batch_size": 8,
                        "threads": 1,
                    }
                )
            case "finish":
                self.answers += [{"is": "finished"}, {"is": "report"}, {"is": "done"}]

    def receive(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

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


def wanted(*names):
    return [TrialSpec(f"tests/test_a.py::{name}") for name in names]


def test_throughput_is_the_sum_of_all_workers():
    crowd = Crowd()
    found = concurrent_runs(crowd, wanted("test_a"), 3)
    assert found == {
        "tests/test_a.py::test_a": ConcurrentRun(
            workers=3, throughput=3 * 50 * 8, calls=300, mean=0.02, percentiles=(0.02,) * 101, threads=1
        )
    }


def test_all_begin_before_any_is_heard():
    crowd = Crowd()
    concurrent_runs(crowd, wanted("test_a"), 2)
    words = [entry for entry in crowd.diary if entry[1] in ("warm", "together")]
    assert words == [(0, "warm"), (1, "warm"), (0, "together"), (1, "together")]


def test_cases_share_the_processes():
    crowd = Crowd()
    told = []
    found = concurrent_runs(crowd, wanted("test_a", "test_b"), 2, told.append)
    assert len(found) == 2
    assert len(crowd.all) == 2
    assert told == [1, 2]
    assert crowd.all[0].asked["next"] is None


def test_every_process_is_gone_afterwards():
    crowd = Crowd()
    concurrent_runs(crowd, wanted("test_a"), 2)
    assert all(one.ended for one in crowd.all)


def test_processes_are_gone_after_an_interrupt(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrency, "_case", interrupted)
    crowd = Crowd()
    with pytest.raises(KeyboardInterrupt):
        concurrent_runs(crowd, wanted("test_a"), 2)
    assert all(one.ended for one in crowd.all)


def test_a_test_that_fails_in_one_worker_has_a_note():
    crowd = Crowd({(1, "tests/test_a.py::test_a"): "fails"})
    found = concurrent_runs(crowd, wanted("test_a", "test_b"), 2)
    assert isinstance(found["tests/test_a.py::test_a"], Note)
    assert "2 workers at once" in found["tests/test_a.py::test_a"].text
    assert isinstance(found["tests/test_a.py::test_b"], ConcurrentRun)
    assert (0, "finish") in crowd.diary


def test_a_model_that_fails_while_it_is_timed_ends_only_its_case():
    crowd = Crowd({(0, "tests/test_a.py::test_a"): "strays"})
    found = concurrent_runs(crowd, wanted("test_a", "test_b"), 2)
    assert isinstance(found["tests/test_a.py::test_a"], Note)
    assert isinstance(found["tests/test_a.py::test_b"], ConcurrentRun)
    finished = [seed for seed, word in crowd.diary if word == "finish"]
    assert finished == [1, 0, 1]
    assert not any(one.answers for one in crowd.all)


def test_a_process_that_dies_takes_its_case_and_no_other():
    crowd = Crowd({(1, "tests/test_a.py::test_a"): "dies"})
    found = concurrent_runs(crowd, wanted("test_a", "test_b"), 2)
    assert found["tests/test_a.py::test_a"] == Note(
        code="single-worker", text="the process of the worker was killed"
    )
    assert isinstance(found["tests/test_a.py::test_b"], ConcurrentRun)
    assert len(crowd.all) == 4
    assert all(one.ended for one in crowd.all)


def test_workers_that_differ_are_averaged():
    class Uneven(Crowd):
        def __call__(self, seed):
            self.fields = {"calls": 100 * (seed + 1), "mean": 0.01 * (seed + 1)}
            return super().__call__(seed)

    (found,) = concurrent_runs(Uneven(), wanted("test_a"), 2).values()
    assert found.throughput == (50 + 100) * 8
    assert found.mean == pytest.approx(0.015)
    assert found.percentiles[50] == pytest.approx(0.015)
