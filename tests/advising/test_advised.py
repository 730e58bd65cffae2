"""Advice beside the report of a run: for which models there is any, and what it was asked."""

import msgspec
import pytest
from test_commands_on_results import CPU, GPU, measured, session

from pytest_infergate.advising.advise import advise_run
from pytest_infergate.config.toml import Pricing
from pytest_infergate.core.advice import planning, sensitivity
from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.core.domain.outcome import Against, Outcome, Verdict
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.runner.price_lookup import PriceList


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short simulations: what they say is tested elsewhere."""
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)


def prices(**instances):
    """Prices of own machines, and nothing else said."""
    return PriceList(Pricing(table=None, utilisation=0.5, regions=(), instances=instances, discounts={}))


def wanted(rate, **fields):
    """A case whose test says how much is to be served."""
    return msgspec.structs.replace(measured(0.02, **fields), demand=rate)


ASKED = Demand(rate=4.0)
A, B = "tests/test_a.py::test_a", "tests/test_a.py::test_b"


def test_what_the_user_asks_for_is_asked_of_every_model():
    answers = advise_run(
        session(measured(0.02, name="test_a"), wanted(9.0, name="test_b")), prices(cpu=0.1), ASKED
    ).answers
    assert [(one.model, one.demand) for one in answers] == [(A, ASKED), (B, ASKED)]
    assert [one.winner.text for one in answers] == ["1 x own cpu"] * 2
    assert {one.utilisation for one in answers} == {0.5}
    assert {one.limit for one in answers} == {None}


def test_without_that_each_test_has_its_own_demand():
    found = session(wanted(9.0, name="test_a"), measured(0.02, name="test_b"), wanted(1.0, name="test_c"))
    answers = advise_run(found, prices(cpu=0.1), None).answers
    assert [(one.model, one.demand.rate) for one in answers] == [(A, 9.0), ("tests/test_a.py::test_c", 1.0)]


def test_streams_and_pattern_are_those_that_were_asked_for():
    asked = Demand(rate=60.0, pattern="periodic", streams=2)
    (answer,) = advise_run(session(measured(0.002)), prices(cpu=0.1), asked).answers
    assert answer.demand == asked


def test_nothing_asked_is_no_advice():
    assert advise_run(session(measured(0.02)), prices(cpu=0.1), None) is None
    assert advise_run(session(), prices(cpu=0.1), None) is None


def test_without_a_price_it_assumes_one():
    found = session(measured(0.02), measured(0.02, name="test_b"))
    for known in ({}, {"cuda": 0.8}):
        given = advise_run(found, prices(**known), ASKED)
        assert given.unanswered == {}
        assert [one.model for one in given.answers] == [B, "tests/test_a.py::test_model"]
        assert all(one.winner.assumed for one in given.answers)
        assert all("assumed-price" in [note.code for note in one.notes] for one in given.answers)


def test_models_without_a_demand_are_not_answered():
    found = session(wanted(9.0, name="test_a"), measured(0.02, name="test_b"))
    assert [one.model for one in advise_run(found, prices(), None).answers] == [A]


def test_a_periodic_demand_of_a_test_stays_periodic():
    case = msgspec.structs.replace(wanted(30.0), streams=1)
    (answer,) = advise_run(session(case), prices(cpu=0.1), None).answers
    assert answer.demand == Demand(rate=30.0, pattern="periodic")


def test_a_machine_without_a_price_has_an_assumed_one_beside_one_that_has_one():
    rare = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA T9", accelerator_count=1)
    both = session(measured(0.02), measured(0.004, device="cuda", hardware=rare))
    (answer,) = advise_run(both, prices(cpu=0.1), ASKED).answers
    assert answer.deployments == ("own cpu (cpu)", "NVIDIA T9 machine (cuda)")
    (note,) = [note for note in answer.notes if note.code == "assumed-price"]
    assert "NVIDIA T9 machine" in note.text


def test_a_machine_is_found_by_its_class_where_nobody_says_what_it_is():
    card = measured(0.004, device="cuda", hardware=GPU)
    (answer,) = advise_run(session(card), prices(), ASKED).answers
    assert not answer.winner.user_specified
    assert "assumed-instance" in [note.code for note in answer.notes]


def test_a_paired_run_never_advises():
    paired = msgspec.structs.replace(session(wanted(9.0)), against=Against(revision="main"))
    assert advise_run(paired, prices(cpu=0.1), ASKED) is None
    assert advise_run(paired, prices(cpu=0.1), None) is None


def test_a_paired_run_looks_no_price_up():
    # Its prices were not checked before it began, so that they may be wrong.
    wrong = PriceList(Pricing(table=None, utilisation=0.5, regions=("moon",), instances={}, discounts={}))
    paired = msgspec.structs.replace(session(wanted(9.0)), against=Against(revision="main"))
    assert advise_run(paired, wrong, ASKED) is None


def test_what_failed_or_is_wrong_is_not_advised_and_that_is_said():
    for found in (
        session(msgspec.structs.replace(wanted(9.0), outcome=Outcome.FAILED)),
        session(wanted(9.0), kind=Verdict.MISMATCH),
        session(wanted(9.0), kind=Verdict.INVALID),
    ):
        given = advise_run(found, prices(cpu=0.1), ASKED)
        assert given.answers == ()
        ((note,),) = given.unanswered.values()
        assert note.code == "left-out"
        assert "test_model[cpu]" in note.text


def test_cases_of_several_batch_sizes_are_one_model():
    found = session(wanted(9.0), wanted(9.0, batch_size=8), wanted(9.0, device="cuda", hardware=GPU))
    (answer,) = advise_run(found, prices(cpu=0.1, cuda=0.8), None).answers
    assert set(answer.deployments) == {"own cpu (cpu)", "own cuda (cuda)"}
    assert {sweep.batch_sizes for sweep in answer.sweeps} == {(1, 8), (1,)}
    assert CPU.id in {plan.hardware for plan in answer.plans}
