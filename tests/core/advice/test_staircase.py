"""Costs against demand are steps, and every statement on them is that of a brute force."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from core_values import HARDWARE
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_infergate.core.advice import deployments, planning, recommendation, sizing
from pytest_infergate.core.advice.demand import Backlog, Demand
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.advice.staircase import EDGE_PRECISION, Staircase
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.measurement import Energy
from pytest_infergate.report import results_json

RECORDED = Path(__file__).parents[3] / "benchmarks" / "results" / "machines"
OWN_PRICES = {"two-cores": 0.09, "one-core": 0.05, "two-cores-sse": 0.04}


def priced(times, usd=0.1, name="own", **fields):
    """A deployment with constant call times by batch size on a machine of the user."""
    service = ServiceTimes(
        batch_sizes=tuple(times), percentiles=tuple((seconds,) * 101 for seconds in times.values())
    )
    known = {"model": "m", "device": "cpu", "hardware": HARDWARE, "launch_band": 0.1, "service": service}
    machine = Instance(provider="own", region="", name=name, vcpus=0, memory_gib=None, usd_per_hour=usd)
    return PricedDeployment(
        deployment=Deployment(**{**known, **fields}), instance=machine, user_specified=True
    )


def recorded(model, names=tuple(OWN_PRICES)):
    """Deployments of a recorded model on several machines."""
    found = []
    for name in names:
        file = RECORDED / f"{name}.json"
        for one in deployments.deployments(results_json.parse_all(file.read_bytes(), file.name)):
            if one.model.endswith(model):
                machine = Instance(
                    provider="own",
                    region="",
                    name=name,
                    vcpus=0,
                    memory_gib=None,
                    usd_per_hour=OWN_PRICES[name],
                )
                found.append(PricedDeployment(deployment=one, instance=machine, user_specified=True))
    return found


def asked(rate, limit=None, **fields):
    return Question(demand=Demand(rate=float(rate)), limit=limit, **fields)


def leader(answer, rate):
    """The deployment that costs least at a rate, by the crossings of an answer."""
    return next(
        (crossing.below for crossing in answer.crossings if rate <= crossing.rate),
        answer.crossings[-1].above if answer.crossings else answer.winner.deployment,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "rate", "limit", "rates"),
    [
        ("test_camera", 10, None, 150),
        ("test_query", 100, None, 50),
        ("test_query", 100, 0.05, 30),
        ("test_camera", 3, 0.25, 30),
        pytest.param("test_camera", 10, None, 400, marks=pytest.mark.nightly),
        pytest.param("test_query", 100, None, 400, marks=pytest.mark.nightly),
        pytest.param("test_query", 100, 0.05, 200, marks=pytest.mark.nightly),
        pytest.param("test_query", 30, 0.034, 200, marks=pytest.mark.nightly),
        pytest.param("test_camera", 3, 0.25, 400, marks=pytest.mark.nightly),
    ],
)
def test_what_costs_least_is_what_a_brute_force_finds(monkeypatch, model, rate, limit, rates):
    if limit is None:  # no simulation decides
        monkeypatch.setattr(planning, "PLAN_REQUESTS", 50)
    offers = recorded(model)
    question = asked(rate, limit)
    answer = recommendation.advise(question, offers)
    stairs = {each.text: Staircase(each, question) for each in offers}
    wrong = far = 0

    def costs_of(demand):
        plans = [planning.best_plan(each, asked(demand, limit)) for each in offers]
        return {plan.deployment: plan.usd_per_month for plan in plans if plan is not None}

    def dearer(named, costs):
        return costs[named] > min(costs.values()) * (1 + planning.TIE)

    for demand in np.geomspace(rate / 30, rate * 30, rates):
        costs = costs_of(demand)
        named = leader(answer, demand)
        if dearer(named, costs):
            wrong += 1
            far += all(dearer(named, costs_of(demand * factor)) for factor in (0.95, 1.05))
        if limit is None:
            for text, cost in costs.items():
                assert stairs[text].usd_per_month(stairs[text].needed(demand)) == pytest.approx(cost), demand
    # With a limit, the end of a step and a plan are two simulations of different length near saturation, so
    # that the number of machines may differ within 5 % of the end of a step.
    assert wrong <= (0 if limit is None else max(1, 0.05 * rates))
    assert far == 0


def test_the_weights_are_those_of_the_dtype_that_the_model_has():
    half = priced({1: 0.010}, name="half", dtype="float16", weights_bytes=50)
    whole = priced({1: 0.010}, weights_bytes=100)
    assert recommendation.advise(asked(1), [half, whole]).weights_bytes == 100
    assert recommendation.advise(asked(1), [half]).weights_bytes is None


def test_a_backlog_names_how_the_model_runs():
    offer = priced({1: 0.010}, workers=2, threads=1, dtype="float16", runtime="compile")
    (job,) = recommendation.plan_backlog(Backlog(items=1000, deadline=60.0), [offer])
    assert (job.workers, job.threads, job.dtype, job.runtime) == (2, 1, "float16", "compile")


def test_a_step_ends_at_the_target_utilisation():
    stairs = Staircase(priced({1: 0.010, 8: 0.040}), asked(1))
    assert [stairs.capacity(machines) for machines in (1, 2, 1000)] == pytest.approx([120, 240, 120_000])
    assert [stairs.needed(rate) for rate in (1e-6, 120, 120.001, 240, 12_000.1)] == [1, 1, 2, 2, 101]
    assert stairs.needed(1e12) is None
    assert list(stairs.steps(250)) == [
        (pytest.approx(120), 1),
        (pytest.approx(240), 2),
        (pytest.approx(360), 3),
    ]


def test_a_limit_ends_steps_earlier_and_hardly_where_many_machines_share_a_queue():
    question = asked(1, 0.014)
    stairs = Staircase(priced({1: 0.010}), question)
    shares = [stairs.capacity(machines) / machines / 60 for machines in (1, 2, 3, 8, 16, 64)]
    assert shares == sorted(shares)
    assert shares[0] < 0.6
    assert shares[-1] == pytest.approx(1)
    server = planning.server_of(stairs.priced, question, 1, 0.0)
    for machines in (1, 2, 3, 5, 7):
        edge = stairs.capacity(machines)
        assert server.excess(Demand(rate=edge), machines) <= 0, machines
        # A plan repeats simulations with more requests.
        assert server.serves(Demand(rate=edge / 1.05), machines), machines
        assert not server.serves(Demand(rate=edge * 1.05), machines), machines


def test_steps_of_streams_are_whole_streams():
    demand = Demand(rate=240.0, pattern="periodic", streams=8)
    stairs = Staircase(priced({1: 0.010}), Question(demand=demand))
    for machines in (1, 2, 3, 5, 20):
        assert stairs.capacity(machines) / 30 == pytest.approx(round(stairs.capacity(machines) / 30))
    assert stairs.capacity(1) == pytest.approx(60)
    never = Staircase(priced({1: 0.034}), Question(demand=demand))
    assert never.needed(30.0) is None


def test_what_never_meets_the_limit_has_no_steps():
    stairs = Staircase(priced({1: 0.010}), asked(1, 0.009))
    assert stairs.capacity(1) == stairs.capacity(10_000) == 0
    assert stairs.needed(1.0) is stairs.needed_once() is None
    assert list(stairs.steps(10.0)) == []


# What a plan serves


def test_what_a_plan_serves_is_said_of_its_own_server():
    """A server of single requests was once shown with the demand that larger batches would serve."""
    offers = recorded("test_query", ["two-cores"])
    question = asked(100, 0.1)
    answer = recommendation.advise(question, offers)
    winner = answer.winner
    (own,) = [each for each in offers if each.text == winner.deployment]
    server = planning.server_of(own, question, winner.max_batch, winner.max_wait)
    for rate in np.geomspace(100, answer.enough, 12):
        assert server.serves(Demand(rate=float(rate)), winner.instances), rate
    assert not server.serves(Demand(rate=answer.enough * EDGE_PRECISION**2), winner.instances)


def test_of_servers_that_answer_as_fast_the_one_with_the_largest_batches_is_shown():
    offer = priced({1: 0.010, 4: 0.012, 8: 0.016})
    # Alone, a request takes as long with any server.
    assert planning.best_plan(offer, asked(0.1)).max_batch == 8
    # Where requests queue for others to finish, batches answer faster or slower.
    plans = list(planning.plans_of(offer, asked(30)))
    best = planning.best_of(plans)
    fastest = min(plan.load.p95 for plan in plans)
    assert best.load.p95 <= fastest * (1 + planning.P95_TIE)
    assert planning.best_of([]) is None


def test_machines_that_always_run_are_simulated():
    taken = Energy(
        joules=0.4, source="nvml", scope="board", seconds=2.0, calls=500, batch_size=1, idle_watts=20.0
    )
    offer = priced({1: 0.010}, energies=((1, taken),))
    one, three = (planning.best_plan(offer, asked(50, min_instances=least)) for least in (1, 3))
    assert (one.instances, three.instances) == (1, 3)
    assert three.load.p95 < 0.8 * one.load.p95
    assert three.load.utilisation == pytest.approx(one.load.utilisation / 3, rel=0.02)
    # Idle power of two more machines.
    watts = [plan.electricity.joules_per_item * 50 for plan in (one, three)]
    assert watts[1] - watts[0] == pytest.approx(40.0, rel=0.05)
    server = planning.server_of(offer, asked(50), 1, 0.0)
    assert three.slow_load == server.load(Demand(rate=50.0), 3)
    assert three.load == server.load(Demand(rate=50.0), 3, slowdown=1.0)


# Laws, on machines that are drawn

seconds = st.integers(1, 200).map(lambda value: value / 1000)
drawn_offers = st.lists(
    st.builds(
        lambda first, share, usd, workers: priced(
            {1: first, 8: first * (1 + 7 * share)}, usd=usd / 100, name=f"m{usd}-{first}-{share}-{workers}",
            workers=workers,
        ),
        seconds,
        st.integers(1, 10).map(lambda value: value / 10),
        st.integers(1, 300),
        st.integers(1, 3),
    ),
    min_size=2,
    max_size=4,
    unique_by=lambda offer: offer.name,
)  # fmt: skip


def month(offers, rate, limit=None):
    plans = [planning.best_plan(each, asked(rate, limit)) for each in offers]
    return min((plan.usd_per_month for plan in plans if plan is not None), default=math.inf)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sizing, "MIN_ROUNDS", 0)


@pytest.mark.usefixtures("short")
@settings(max_examples=30)
@given(drawn_offers, st.lists(st.integers(1, 2000), min_size=2, max_size=5).map(sorted))
def test_more_demand_never_costs_less(offers, rates):
    costs = [month(offers, rate) for rate in rates]
    assert costs == sorted(costs)
    for each in offers:
        stairs = Staircase(each, asked(1))
        assert [stairs.needed(rate) for rate in rates] == sorted(stairs.needed(rate) for rate in rates)


@pytest.mark.usefixtures("short")
@settings(max_examples=30)
@given(drawn_offers, st.integers(1, 2000), st.sampled_from([None, 0.3]))
def test_another_machine_never_makes_a_plan_dearer(offers, rate, limit):
    assert month(offers, rate, limit) <= month(offers[1:], rate, limit)


@pytest.mark.usefixtures("short")
@settings(max_examples=15)
@given(drawn_offers, st.integers(1, 2000), st.floats(1.0, 3.0))
def test_a_loser_that_becomes_dearer_never_wins(offers, rate, factor):
    answer = recommendation.advise(asked(rate), offers)
    for index, offer in enumerate(offers):
        if offer.text == answer.winner.deployment:
            continue
        dearer = msgspec.structs.replace(offer.instance, usd_per_hour=offer.instance.usd_per_hour * factor)
        changed = [*offers]
        changed[index] = msgspec.structs.replace(offer, instance=dearer)
        assert recommendation.advise(asked(rate), changed).winner.deployment != offer.text


# How much is simulated


@pytest.fixture
def simulated(monkeypatch):
    """The number of requests of each simulation."""
    sizes = []
    run, count = sizing.simulate, sizing.late_requests

    def simulated(moments, *args, **kwargs):
        sizes.append(len(moments))
        return run(moments, *args, **kwargs)

    def counted(*args, **kwargs):
        found = count(*args, **kwargs)
        sizes.append(found.requests)
        return found

    monkeypatch.setattr(sizing, "simulate", simulated)
    monkeypatch.setattr(sizing, "late_requests", counted)
    return sizes


def test_an_advice_without_a_limit_simulates_each_server_once(simulated):
    offers = recorded("test_query")
    recommendation.advise(asked(10), offers)
    # As measured, and as slow as another launch may make calls.
    assert len(simulated) == 2 * sum(len(each.deployment.service.batch_sizes) for each in offers)
    assert sum(simulated) <= 160_000  # about 80 ms


@pytest.mark.parametrize(("rate", "most"), [(1, 2_500_000), (100, 5_700_000)])
def test_an_advice_with_a_limit_that_binds_simulates_few_requests(simulated, rate, most):
    """Simulations take nearly all the time of an advice; calls that are slower come closer to the limit."""
    recommendation.advise(asked(rate, 0.05), recorded("test_query"))
    assert sum(simulated) <= most


def test_a_simulation_ends_with_the_first_request_that_is_late_once_too_often(simulated):
    server = planning.server_of(priced({1: 0.010, 2: 0.014}), asked(1, 0.016), 2, 0.0)
    known = msgspec.structs.replace(server, utilisation=1.0, requests=5_000)
    counted = 4_500  # after the warm-up
    assert known.excess(Demand(rate=5.0), 1) <= 0
    assert known.excess(Demand(rate=90.0), 1) > 0
    assert simulated[0] == counted
    assert simulated[1] < 0.2 * counted


def test_the_end_of_a_step_is_decided_as_by_the_simulation_that_records_all_batches():
    for offer in recorded("test_query", ["two-cores"]):
        for limit in (0.03, 0.05, 0.1):
            question = asked(1, limit)
            for size in offer.deployment.service.batch_sizes:
                for wait in planning.waits(size, question):
                    server = planning.server_of(offer, question, size, wait)
                    for share in (0.2, 0.5, 0.8, 1.0):
                        demand = Demand(rate=share * server.rate_at(2))
                        load = server._simulated(demand, 2, server._enough(demand, 2))
                        served = load.missed * load.requests <= 0.05 * (load.requests - 1) + 1e-9
                        excess = server.excess(demand, 2)
                        # Without any waiting, calls alone may take longer than the limit.
                        assert (excess <= 0) == (served and excess < math.inf), (limit, size, wait, share)


def test_a_batch_of_100_000_is_not_simulated_where_it_never_fills(simulated):
    offer = priced({1: 0.001, 1000: 0.05, 100_000: 4.0})
    plan = recommendation.advise(asked(1.0, 10.0), [offer]).winner
    assert plan.load.p95 == pytest.approx(0.001)
    # Where its batches would fill, a round of requests is 100,000 of them.
    assert sum(simulated) < 2_500_000
    simulated.clear()
    recommendation.advise(asked(1e5, 10.0), [offer])
    assert sum(simulated) < 10_000_000


def test_no_figure_is_infinite_whatever_is_asked():
    offers = recorded("test_query", ["two-cores", "one-core"])
    for question in (
        asked(1e-9),
        asked(1e12),
        asked(1e12, 0.05),
        asked(1, 1e-6),
        asked(1, 1e300),
        asked(1, min_instances=10**9),
        asked(100, utilisation=1.0),
    ):
        assert list(not_finite(recommendation.advise(question, offers))) == [], question


def not_finite(value):
    """Every number of a value that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        yield value
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    for each in (
        value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    ):
        yield from not_finite(each)
