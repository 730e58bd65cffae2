import gc
from gc import collect

import pytest

from pytest_infergate.instruments.sampler import quiet_collector
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.kept_tensors import KeptTensors
from pytest_infergate.measure.same_work import ObservedWork, SameWork, first_call_notes, unequal_python
from pytest_infergate.testing import FakeDevice


def working(*works, settling=False):
    """Calls of known work, the last one for ever."""
    works = list(works)

    def observe(call, *, sizes):
        operators, flops, *products = works.pop(0) if len(works) > 1 else works[0]
        return call(), ObservedWork(operators, *(products or [10]), flops if sizes else None)

    work = SameWork(observe, settling=settling)
    call = RepeatedCall(lambda: "output")
    assert work.first_call(call) == "output"
    return work, call


FIRST = (100, 1000)
"""Operators and FLOPs of a first call, which has ten products."""


@pytest.mark.parametrize(
    ("second", "changed"),
    [
        (FIRST, False),
        ((100, 1000, 9), True),  # one product may be larger than all others
        ((100, 1000, 11), False),
        ((100, 1000, 12), True),
        ((50, 1000), False),  # the first call may have filled tables
        ((49, 1000), True),
        ((110, 1000), False),
        ((111, 1000), True),
        ((0, 0), True),
    ],
)
def test_the_second_call_does_the_work_of_the_first(second, changed):
    work, call = working(FIRST, second)
    note = work.again(call)
    assert (note is not None) is changed
    if changed:
        assert note.code == "work-changed"
        assert "call 1, " in note.text
        assert "call 2" in note.text


@pytest.mark.parametrize(
    ("later", "changed"),
    [
        ((50, 1000), True),
        ((91, 1000), False),
        ((100, 910), False),
        ((100, 900), True),
        ((100, 1100), False),
        ((100, 1110), True),
        ((100, 1000, 9), True),
    ],
)
def test_later_calls_have_no_tables_to_fill(later, changed):
    work, call = working(FIRST, FIRST, later)
    assert work.again(call) is None
    assert (work.again(call) is not None) is changed


def test_a_call_without_work_may_stay_so():
    work, call = working((0, 0))
    assert work.again(call) is None


@pytest.mark.parametrize(("flops", "changed"), [(1000, False), (500, False), (499, True), (1111, True)])
def test_of_calls_that_are_settling_only_the_flops_are_those_of_the_first(flops, changed):
    work, call = working(FIRST, (1, flops, 1), (2, flops, 1), settling=True)
    assert (work.again(call) is not None) is changed
    assert work.again(call) is not None  # from then on, operators are compared too


def test_copies_of_items_are_no_work_of_the_call():
    work, call = working((200, 0), (50, 0), (40, 0))
    work.items_copied()
    assert work.again(call) is None
    assert work.again(call) is not None
    work, call = working((200, 0), (50, 0, 9))
    work.items_copied()
    assert work.again(call) is not None


def test_nothing_is_said_of_work_that_is_not_seen():
    work = SameWork(None)
    call = RepeatedCall(lambda: 3)
    work.first_call(call)
    assert work.again(call) is None
    assert work.last == 3


def test_a_case_whose_work_grows_is_invalid_without_figures():
    device = FakeDevice()
    calls, frozen = [], bool(gc.get_freeze_count())  # by a fixture of earlier tests

    def observe(call, *, sizes):
        return call(), ObservedWork(10, len(calls), None)

    def call():
        calls.append(1)
        device.spend(0.01)

    run = measure(Subject(call, observe=observe), device, Effort(5))
    assert run.invalid.code == "work-changed"
    assert run.measurement is None
    assert bool(gc.get_freeze_count()) == frozen


@pytest.mark.torch
def test_tensors_that_calls_leave_behind_are_counted():
    torch = pytest.importorskip("torch")
    kept = []
    with quiet_collector():
        counter = KeptTensors()
        kept += [torch.zeros(1) for _ in range(10)]
        assert counter.note(2) is None  # too few to decide
        assert counter.note(11) is None
        note = counter.note(10)
    assert note.code == "tensors-kept"
    assert "10 more after 10 calls" in note.text


@pytest.mark.torch
def test_tensors_of_a_cycle_are_garbage_and_not_kept(monkeypatch):
    monkeypatch.setattr(gc, "collect", collect)
    torch = pytest.importorskip("torch")
    with quiet_collector():
        counter = KeptTensors()
        for _ in range(10):
            cycle = [torch.zeros(1)]
            cycle.append(cycle)
        del cycle
        assert counter.note(5) is None


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        (500, 1500, False),
        (500, 1501, True),
        (50_000, 55_000, False),
        (50_000, 55_001, True),
        (9000, 7000, True),
    ],
)
def test_python_s_own_work_stays_the_same(before, now, changed):
    note = unequal_python(before, now, 900)
    assert (note is not None) is changed
    if changed:
        assert note.code == "work-changed"


@pytest.mark.parametrize(
    ("first_seconds", "usual", "first", "noted"),
    [
        (0.017, 33e-6, False, True),
        (0.017, 33e-6, True, False),  # libraries are initialised
        (0.187, 21e-6, True, True),
        (0.002, 1e-6, False, False),
        (0.5, 0.006, False, False),
        (0.6, 0.006, False, True),
        (0.017, 0.0, False, True),
    ],
)
def test_a_first_call_that_later_ones_may_reuse_is_noted(first_seconds, usual, first, noted):
    notes = first_call_notes(first_seconds, usual, first=first)
    assert [note.code for note in notes] == ["first-call-long"] * noted


def test_a_case_whose_python_work_grows_is_invalid():
    device, history = FakeDevice(), []

    def call():
        history.append(1)
        device.spend(0.05)
        return sum(1 for _ in range(50 * len(history)))

    run = measure(Subject(call), device, Effort(3))
    assert run.invalid.code == "work-changed"
    assert "bytecodes" in run.invalid.text
