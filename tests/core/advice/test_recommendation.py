"""Advice: which plan, how sure, and that it is the one that a brute force finds."""

import functools
import heapq
import math
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from core_values import ENVIRONMENT, HARDWARE, case, latency, measurement, refusal, result

from pytest_infergate.core.advice import (
    deployments,
    planning,
    priced_deployments,
    recommendation,
    sensitivity,
    sizing,
)
from pytest_infergate.core.advice.demand import Backlog, Demand, arrivals
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.measurement import ConcurrentRun, Energy, Memory
from pytest_infergate.core.domain.outcome import Against, CaseVerdict, Policy, Session, Verdict
from pytest_infergate.core.domain.values import Environment, Hardware, Note
from pytest_infergate.core.gate import decide
from pytest_infergate.report import results_json

GPU = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA L4", accelerator_count=1)


@pytest.fixture(autouse=True, scope="module")
def short_simulations():
    """What is asserted of plans holds of any number of requests; `ask` keeps its answers for the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "PLAN_REQUESTS", 1000)
        patch.setattr(sensitivity, "COST_STEPS", 16)
        yield


def times(**seconds):
    """Calls that always take the same time: ``times(b1=0.02, b8=0.1)``."""
    sizes = tuple(int(name[1:]) for name in seconds)
    return ServiceTimes(batch_sizes=sizes, percentiles=tuple((value,) * 101 for value in seconds.values()))


def instance(name="c7i.xlarge", usd=0.1785, **fields):
    known = {"provider": "aws", "region": "us-east-1", "vcpus": 4, "memory_gib": 8.0, "as_of": "2026-07-20"}
    return Instance(name=name, usd_per_hour=usd, **{**known, **fields})


def deployment(service, **fields):
    known = {
        "model": "tests/test_a.py::test_model",
        "device": "cpu",
        "hardware": HARDWARE,
        "launch_band": 0.1,
    }
    return Deployment(service=service, **{**known, **fields})


SLOW = PricedDeployment(
    deployment=deployment(times(b1=0.020, b8=0.120)), instance=instance(usd=0.10), user_specified=True
)
FAST = PricedDeployment(
    deployment=deployment(times(b1=0.004, b8=0.006, b32=0.012), device="cuda", hardware=GPU),
    instance=instance("g6.xlarge", 0.81),
    user_specified=True,
)
OTHER = PricedDeployment(
    deployment=deployment(times(b1=0.009, b4=0.030), hardware=Hardware(cpu_model="Big CPU", cores=16)),
    instance=instance("c7i.4xlarge", 0.30),
    user_specified=True,
)
OFFERS = (SLOW, FAST, OTHER)


# A brute force, written apart: every batch size, wait and number of instances, served in the plainest way.


def drawn(service, luck):
    """Seconds of the batch of each first request, by its size: `luck` is the share of faster calls."""
    measured = [np.interp(100 * luck, range(101), values) for values in service.percentiles]
    return {
        size: [float(np.interp(size, service.batch_sizes, column)) for column in zip(*measured, strict=True)]
        for size in range(1, service.largest + 1)
    }


def served(moments, seconds, max_batch, max_wait, workers):
    """Latencies of requests in order, one worker taking one batch after another."""
    free = [0.0] * workers
    latencies = []
    first = 0
    while first < len(moments):
        oldest = moments[first]
        begins = max(free[0], oldest)
        if first + max_batch <= len(moments):
            full = moments[first + max_batch - 1]
            begins = max(begins, min(full, oldest + max_wait))
        else:
            begins = max(begins, oldest + max_wait)
        batch = [moment for moment in moments[first : first + max_batch] if moment <= begins]
        ends = begins + seconds[len(batch)][first]
        latencies += [ends - moment for moment in batch]
        first += len(batch)
        heapq.heapreplace(free, ends)
    return latencies


def brute_force(made, demand, limit, luck, seconds):
    """The least cost a month of any plan, by trying all of them; `math.inf` where none will do.

    `seconds` are those of `drawn` for each offer, which no question changes.
    """
    least = math.inf
    requests = len(luck)
    moments = arrivals(demand, requests, 0).tolist()
    skipped = requests // 10
    late = math.ceil(0.95 * (requests - skipped - 1))
    for priced, calls in zip(made, seconds, strict=True):
        service, workers = priced.deployment.service, priced.deployment.workers
        # The limit is held against calls as slow as another launch may make them.
        slow = {each: [priced.deployment.slowdown * value for value in row] for each, row in calls.items()}
        for position, size in enumerate(service.batch_sizes):
            values = service.percentiles[position]
            mean = sum(low + high for low, high in pairwise(values)) / 200
            busy = demand.rate * mean / size / workers
            for share in (0.0, 0.1, 0.25) if size > 1 else (0.0,):
                # With a worker for each request, more of them change nothing.
                for instances in range(max(1, math.ceil(busy / 0.6)), requests // workers + 2):
                    month = instances * priced.instance.usd_per_hour * 730
                    if month >= least:
                        break
                    found = served(moments, slow, size, share * limit, instances * workers)
                    if sorted(found[skipped:])[late] <= limit:
                        least = month
                        break
    return least


RECORDED = Path(__file__).parents[3] / "benchmarks" / "results" / "machines"
"""Results of one host set up as three machines, by benchmarks/machines.py."""
OWN_PRICES = {"two-cores": 0.09, "one-core": 0.05, "two-cores-sse": 0.04}


def recorded(model):
    """Offers of a recorded model on three machines, whose prices a user might say."""
    found = []
    for name, usd in OWN_PRICES.items():
        file = RECORDED / f"{name}.json"
        for one in deployments.deployments(results_json.parse_all(file.read_bytes(), file.name)):
            # Without means a distribution is straight lines between its percentiles, all along.
            straight = msgspec.structs.replace(one.service, means=())
            if one.model.endswith(model):
                own = instance(name, usd, provider="own")
                own_way = msgspec.structs.replace(one, service=straight)
                found.append(PricedDeployment(deployment=own_way, instance=own, user_specified=True))
    return tuple(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "limits"), [(8, 5), pytest.param(20, 10, marks=pytest.mark.nightly)], ids=["40", "200"]
)
def test_the_plan_is_the_one_that_a_brute_force_finds(monkeypatch, rates, limits):
    """Over a grid of demands and limits; plans within one per cent of the cost count as ties."""
    made = recorded("test_query")
    assert len({priced.deployment.hardware.id for priced in made}) == 3
    requests = 50
    luck = np.random.default_rng((0, 2)).random(requests)
    seconds = [drawn(priced.deployment.service, luck) for priced in made]
    monkeypatch.setattr(planning, "PLAN_REQUESTS", requests)
    monkeypatch.setattr(sizing, "MIN_ROUNDS", 0)
    none = 0
    for rate in np.geomspace(1, 200, rates):
        for limit in np.geomspace(0.004, 0.5, limits):
            question = Question(demand=Demand(rate=float(rate)), limit=float(limit))
            plans = [plan for priced in made if (plan := planning.best_plan(priced, question)) is not None]
            found = min((plan.usd_per_month for plan in plans), default=math.inf)
            wanted = brute_force(made, question.demand, question.limit, luck, seconds)
            if math.isinf(wanted):
                none += 1
                assert math.isinf(found), (rate, limit)
            else:
                assert found == pytest.approx(wanted, rel=0.01), (rate, limit)
    assert 0 < none < rates * limits / 2


# One answer


@functools.cache
def ask(rate=2.0, limit=0.2, made=(SLOW, FAST), **fields):
    return recommendation.advise(Question(demand=Demand(rate=rate), limit=limit, **fields), made)


def test_the_winner_is_the_cheapest_that_meets_the_limit():
    answer = ask()
    assert answer.winner.instance == "c7i.xlarge"
    assert answer.winner.usd_per_month == pytest.approx(73.0)
    assert answer.runner_up.instance == "g6.xlarge"
    assert answer.saving == pytest.approx(591.3 - 73.0)
    assert answer.winner.load.p95 <= 0.2
    assert answer.nearest is None
    assert answer.binding is None


def test_where_it_flips():
    answer = ask(rate=5.0)
    assert len(answer.crossings) >= 1
    last = answer.crossings[-1]
    assert (last.below, last.above) == (SLOW.text, FAST.text)
    below, above = (ask(rate=last.rate * factor) for factor in (0.97, 1.03))
    assert (below.winner.instance, above.winner.instance) == ("c7i.xlarge", "g6.xlarge")


def test_where_others_cost_as_much_the_best_plan_is_the_one_that_is_beaten():
    answer = ask(rate=5.0, made=(crew_of(SLOW), SLOW, FAST))
    assert answer.plans[0].deployment == SLOW.text
    assert answer.plans[-1].deployment == FAST.text
    assert [(crossing.below, crossing.above) for crossing in answer.crossings] == [(SLOW.text, FAST.text)]


def test_costs_are_computed_for_two_decades_on_either_side():
    rates = [point.rate for point in ask(rate=2.0).costs]
    assert (rates[0], rates[len(rates) // 2], rates[-1]) == pytest.approx((0.02, 2.0, 200.0))


def test_the_cost_follows_the_demand_and_never_falls():
    for index in range(2):
        costs = [point.usd_per_month[index] for point in ask().costs]
        assert all(low <= high for low, high in pairwise(costs) if low and high)


def test_every_million_is_the_month_over_its_requests():
    winner = ask(rate=2.0).winner
    assert winner.usd_per_million == pytest.approx(73.0 / (2.0 * 730 * 3600) * 1e6)


def test_a_spare_is_one_more():
    winner = ask().winner
    assert winner.usd_per_month_with_spare == pytest.approx(2 * winner.usd_per_month)


def test_a_least_number_of_instances_is_paid_for():
    winner = ask(min_instances=3).winner
    assert winner.instances == 3
    assert winner.usd_per_month == pytest.approx(219.0)
    assert winner.usd_per_month_with_spare == pytest.approx(219.0)


# Energy


def powered(source="nvml", idle=20.0, joules=0.4):
    taken = Energy(
        joules=joules, source=source, scope="board", seconds=2.0, calls=500, batch_size=1, idle_watts=idle
    )
    return msgspec.structs.replace(
        FAST, deployment=msgspec.structs.replace(FAST.deployment, energies=((1, taken),))
    )


def test_energy_counts_what_machines_take_between_calls():
    plan = planning.best_plan(powered(), Question(demand=Demand(rate=10.0), limit=0.05, grid="FRA"))
    busy = plan.load.utilisation
    watts = 100.0 * busy + 20.0 * (1 - busy)  # 0.4 J in each of 250 calls a second
    assert 0 < busy < 1
    assert plan.instances == 1
    assert plan.electricity.joules_per_item == pytest.approx(watts / 10.0)
    assert plan.electricity.kwh_per_month == pytest.approx(watts * 730 / 1000)
    assert plan.electricity.grams_co2e_per_month == pytest.approx(watts * 0.73 * 56.039)
    assert plan.electricity.basis == "56.039 g/kWh (FRA, 2023)"
    assert (plan.electricity.source, plan.electricity.scope) == ("nvml", "board")


def test_energy_may_be_less_than_a_joule():
    plan = planning.best_plan(powered(), Question(demand=Demand(rate=120.0), limit=0.05))
    busy = plan.load.utilisation
    assert plan.instances == 1
    assert plan.electricity.joules_per_item == pytest.approx((100.0 * busy + 20.0 * (1 - busy)) / 120.0)
    assert plan.electricity.joules_per_item < 1


def test_every_instance_takes_energy():
    one, three = (
        planning.best_plan(powered(), Question(demand=Demand(rate=10.0), limit=0.05, min_instances=least))
        for least in (1, 3)
    )
    assert three.electricity.kwh_per_month > one.electricity.kwh_per_month


def test_unknown_energy_is_absent():
    for priced in [
        FAST,
        powered(idle=None),
        powered(joules=0.0, idle=0.0),
        powered(joules=1e308, idle=1e308),
    ]:
        plan = planning.best_plan(priced, Question(demand=Demand(rate=10.0), limit=0.05))
        assert plan.electricity is None, priced


# Machines that come and go

DAY = (0.0,) * 6 + (0.5,) * 6 + (1.0,) * 6 + (0.25,) * 6


@functools.cache
def scaled(**fields):
    return ask(rate=160.0, day=DAY, **fields)


def test_each_hour_has_the_machines_that_it_takes():
    plan = next(plan for plan in scaled().plans if plan.instance == "c7i.xlarge")
    own = Question(demand=Demand(rate=160.0), limit=0.2)
    for share, hour in ((0.5, 6), (1.0, 12), (0.25, 18)):
        asked = msgspec.structs.replace(own, demand=Demand(rate=160.0 * share))
        alone = planning.best_plan(SLOW, asked)
        assert plan.scaled.instances[hour] >= alone.instances
    assert plan.scaled.instances[0] == 1
    assert plan.scaled.instances[12] == plan.instances > plan.scaled.instances[6] > plan.scaled.instances[18]


def test_machines_are_paid_for_from_their_order_on():
    for minutes in (5, 30):
        plan = next(plan for plan in scaled(scale_up=60.0 * minutes).plans if plan.instance == "c7i.xlarge")
        few, some, all_, less = (plan.scaled.instances[hour] for hour in (0, 6, 12, 18))
        hours = 6 * (few + some + all_ + less) + minutes / 60 * (some - few + all_ - some)
        assert plan.scaled.usd_per_month == pytest.approx(hours / 24 * 730 * 0.10)
        assert plan.scaled.usd_per_month < plan.usd_per_month


def test_a_least_number_of_instances_never_goes():
    plan = next(plan for plan in scaled(min_instances=2).plans if plan.instance == "c7i.xlarge")
    assert min(plan.scaled.instances) == 2


def test_a_million_is_over_the_requests_of_the_whole_day():
    winner = scaled().winner
    requests = 160.0 * (0.5 + 1.0 + 0.25) / 4 * 730 * 3600
    assert winner.usd_per_million == pytest.approx(winner.usd_per_month / requests * 1e6)


def test_who_wins_may_depend_on_whether_machines_come_and_go():
    day = (1.0,) + (0.02,) * 23
    answer = ask(rate=340.0, limit=0.5, day=day)
    assert answer.winner.instance == "g6.xlarge"
    assert answer.scaled_winner.instance == "c7i.xlarge"
    assert answer.scaled_winner.scaled.usd_per_month < answer.winner.scaled.usd_per_month


def test_without_the_hours_nothing_is_scaled():
    assert ask().scaled_winner is None
    assert ask().winner.scaled is None


def test_a_limit_that_nothing_meets_names_the_nearest_plan():
    answer = ask(limit=0.001)
    assert answer.plans == ()
    assert answer.winner is None
    assert answer.saving is None
    assert answer.nearest.instance == "g6.xlarge"
    assert answer.nearest.load.p95 >= 0.004
    assert answer.binding.code == "limit-unmet"
    assert "1.00 ms" in answer.binding.text
    assert answer.binding.hint


def test_the_nearest_plan_for_frames_states_the_time_of_99_per_cent_of_them():
    tail = (0.040,) * 96 + (0.080,) * 5
    service = ServiceTimes(batch_sizes=(1,), percentiles=(tail,))
    camera = msgspec.structs.replace(SLOW, deployment=deployment(service))
    asked = Question(demand=Demand(rate=240.0, pattern="periodic", streams=8))
    answer = recommendation.advise(asked, (camera,))
    p99 = recommendation.answered_within(answer.nearest, None)
    assert p99 == answer.nearest.slow_load.p99 > answer.nearest.slow_load.p95
    assert f"slow {units.seconds(p99)}, simulated" in answer.binding.text


def test_smaller_batches_are_suggested_only_where_there_are_any():
    large = msgspec.structs.replace(FAST, deployment=deployment(times(b8=0.006), device="cuda", hardware=GPU))
    for made, size, smaller in (((SLOW, FAST), 1, False), ((large,), 8, True)):
        answer = ask(limit=0.001, made=made)
        assert answer.nearest.max_batch == size
        assert ("smaller batch" in answer.binding.hint) is smaller


def test_a_plan_that_costs_one_per_cent_more_is_tied():
    cheap, quick = (
        msgspec.structs.replace(plan, usd_per_month=usd)
        for plan, usd in zip(ask().plans, (100.0, 101.0), strict=True)
    )
    assert quick.load.p95 < cheap.load.p95
    assert planning.fastest_first([cheap, quick]) == [quick, cheap]
    dearer = msgspec.structs.replace(quick, usd_per_month=101.01)
    assert planning.fastest_first([cheap, dearer]) == [cheap, dearer]


def test_among_equal_costs_the_faster_plan_wins():
    control_worker = msgspec.structs.replace(
        SLOW,
        deployment=deployment(times(b1=0.010), hardware=Hardware(cpu_model="Fast CPU", cores=4)),
        instance=instance("c8i.xlarge", 0.1005),
    )
    assert ask(made=(SLOW, control_worker)).winner.instance == "c8i.xlarge"
    dearer = msgspec.structs.replace(control_worker, instance=instance("c8i.xlarge", 0.102))
    assert ask(made=(SLOW, dearer)).winner.instance == "c7i.xlarge"


def crew_of(priced):
    """The same machine with two workers, each half as fast: it serves as much for the same money."""
    service = priced.deployment.service
    slow = msgspec.structs.replace(
        service,
        percentiles=tuple(tuple(2 * time for time in times_) for times_ in service.percentiles),
        means=tuple(2 * mean for mean in service.means),
    )
    return msgspec.structs.replace(
        priced, deployment=msgspec.structs.replace(priced.deployment, workers=2, service=slow)
    )


def test_where_plans_cost_the_same_the_one_that_is_advised_is_not_said_to_be_beaten():
    for made in ((SLOW, crew_of(SLOW)), (crew_of(SLOW), SLOW)):
        answer = ask(made=made)
        assert answer.plans[0].usd_per_month == pytest.approx(answer.plans[1].usd_per_month)
        assert answer.winner.deployment == SLOW.text  # the faster of both
        assert all(answer.demand.rate < crossing.rate for crossing in answer.crossings[:1])
        assert [crossing.below for crossing in answer.crossings[:1]] in ([], [SLOW.text])


def test_a_dearer_machine_is_dearer_with_any_number_of_workers():
    price, _ = ask(made=(SLOW, crew_of(SLOW))).sensitivities
    assert price.winner == SLOW.text


def test_what_the_machines_of_the_best_plan_serve_is_narrowed():
    answer = ask()
    asked = Question(demand=answer.demand, limit=answer.limit, utilisation=answer.utilisation)
    served, beyond = (
        planning.best_plan(SLOW, msgspec.structs.replace(asked, demand=Demand(rate=share * answer.enough)))
        for share in (1.0, 1.05)
    )
    assert answer.winner.deployment == SLOW.text
    assert answer.enough >= answer.demand.rate
    assert served.instances == answer.winner.instances < beyond.instances


def test_the_first_call_is_that_of_the_smallest_batch_because_later_cases_find_a_warm_process():
    deployment = msgspec.structs.replace(SLOW.deployment, cold_starts=((8, 0.003), (1, 0.1)))
    answer = ask(made=(msgspec.structs.replace(SLOW, deployment=deployment),))
    assert {plan.max_batch for plan in answer.considered} == {1, 8}
    assert {plan.cold_start for plan in answer.considered} == {0.1}
    assert {plan.cold_start for plan in ask().considered} == {None}


def test_sensitivity_says_who_wins_when_an_assumption_moves():
    close = msgspec.structs.replace(
        SLOW,
        deployment=deployment(times(b1=0.020), hardware=Hardware(cpu_model="Near CPU", cores=4)),
        instance=instance("c8i.xlarge", 0.11),
    )
    price, latency_ = ask(made=(SLOW, close)).sensitivities
    assert price.winner == close.text
    assert "price" in price.assumption
    assert latency_.winner == SLOW.text
    assert {item.winner for item in ask().sensitivities} == {SLOW.text}


def test_one_deployment_has_no_sensitivities():
    answer = ask(made=(SLOW,))
    assert answer.sensitivities == ()
    assert answer.runner_up is None
    assert answer.crossings == ()


def test_frames_of_streams_are_answered_before_the_next():
    demand = Demand(rate=8 * 30.0, pattern="periodic", streams=8)
    answer = recommendation.advise(Question(demand=demand), (SLOW, FAST))
    assert answer.winner.load.missed <= 0.01
    assert all(point.rate % 30 == pytest.approx(0, abs=1e-6) or point.rate >= 30 for point in answer.costs)


def test_one_instance_keeps_up_with_so_many_streams():
    def asked(streams):
        return Demand(rate=10.0 * streams, pattern="periodic", streams=streams)

    answer = recommendation.advise(Question(demand=asked(8)), (SLOW, FAST))
    by_words = {priced.text: priced for priced in (SLOW, FAST)}
    assert len(answer.plans) == 2
    for plan in answer.plans:
        priced = by_words[plan.deployment]
        most = plan.streams_per_instance
        assert 1 <= most < 1_000
        for streams, fits in ((most, True), (most + 1, False)):
            alone = planning.served_plan(
                priced, Question(demand=asked(streams)), plan.max_batch, plan.max_wait, max_instances=1
            )
            assert (alone is not None) is fits
    assert ask().winner.streams_per_instance is None


def test_without_an_accelerator_the_page_says_what_it_needs():
    codes = {note.code for note in ask(made=(SLOW, OTHER)).actions}
    assert "no-accelerator" in codes
    assert "no-accelerator" not in {note.code for note in ask().actions}


def test_one_batch_size_is_noted():
    single = msgspec.structs.replace(SLOW, deployment=deployment(times(b1=0.02)))
    assert "one-batch-size" in {note.code for note in ask(made=(single,)).actions}
    assert "one-batch-size" not in {note.code for note in ask(made=(SLOW,)).actions}


def on_machine(workers=1, device="cpu", hardware=HARDWARE):
    measured = deployment(times(b1=0.020, b8=0.120), workers=workers, device=device, hardware=hardware)
    return msgspec.structs.replace(SLOW, deployment=measured)


def test_several_workers_are_suggested_where_only_one_was_measured():
    one_core = Hardware(cpu_model="Test CPU", cores=1)
    for made, noted in (
        ((on_machine(),), True),
        ((on_machine(), on_machine(workers=2)), False),
        ((on_machine(), on_machine(workers=2, hardware=OTHER.deployment.hardware)), True),
        # Workers of the accelerator say nothing about those of the processor.
        ((on_machine(hardware=GPU), on_machine(workers=2, device="cuda", hardware=GPU)), True),
        ((on_machine(device="cuda", hardware=GPU),), False),
        ((on_machine(hardware=one_core),), False),
    ):
        assert ("single-worker" in {note.code for note in ask(made=made).actions}) is noted, made


def test_a_lower_precision_is_named():
    half = msgspec.structs.replace(FAST, deployment=msgspec.structs.replace(FAST.deployment, dtype="float16"))
    assert "accuracy" in {note.code for note in ask(made=(SLOW, half)).notes}


def test_an_assumed_instance_is_named():
    assumed = msgspec.structs.replace(SLOW, user_specified=False)
    note = next(note for note in ask(made=(assumed,)).notes if note.code == "assumed-instance")
    assert "c7i.xlarge" in note.text
    assert "--instance cpu=c7i.xlarge" in note.hint


def test_advice_is_for_one_model():
    other = msgspec.structs.replace(
        FAST, deployment=msgspec.structs.replace(FAST.deployment, model="tests/test_b.py::test_b")
    )
    for made in ((), (SLOW, other)):
        assert "one model" in refusal(ask, made=made)


def test_no_figure_is_infinite():
    for answer in (ask(), ask(limit=0.001), ask(limit=None)):
        text = msgspec.json.encode(answer).decode()
        assert "Infinity" not in text
        assert "NaN" not in text


# A backlog


def test_a_backlog_takes_machine_hours():
    first, second = recommendation.plan_backlog(Backlog(items=1e6, deadline=7200.0), (SLOW, FAST))
    assert (first.instance, second.instance) == ("g6.xlarge", "c7i.xlarge")
    assert first.max_batch == 32
    assert first.machine_hours == pytest.approx(1e6 / 32 * 0.012 / 3600)
    assert first.usd == pytest.approx(first.machine_hours * 0.81)
    assert first.instances == 1
    assert second.instances == math.ceil(1e6 / 8 * 0.120 / 7200)
    assert (first.usd_on_spot, second.usd_on_spot) == (None, None)


def test_a_backlog_may_run_on_spot_machines():
    spot = msgspec.structs.replace(FAST, instance=instance("g6.xlarge", 0.81, spot_usd_per_hour=0.27))
    (job,) = recommendation.plan_backlog(Backlog(items=1e6, deadline=7200.0), (spot,))
    assert job.usd_on_spot == pytest.approx(job.usd / 3)


# Ways and offers


def session(*results, against=None, environment=ENVIRONMENT, kinds=None):
    verdicts = [
        CaseVerdict(
            case=one.case,
            nodeid=one.nodeid,
            verdict=(kinds or {}).get(one.case, Verdict.EQUIVALENT),
            failed=False,
        )
        for one in results
    ]
    return Session(
        tool_version="0.1.0",
        created="2026-07-01T12:00:00Z",
        environment=environment,
        cases=results,
        gate=decide.gate_session(verdicts, Policy()),
        against=against,
    )


def timed(p50, size=1, device="cpu", hardware=HARDWARE, **fields):
    known = {"latency": msgspec.structs.replace(latency(p50), percentiles=(p50,) * 101)}
    return result(
        of=case(device=device, batch_size=size),
        hardware=hardware,
        measurement=measurement(p50, **{**known, **fields}),
    )


def test_batch_sizes_of_one_deployment_are_joined():
    (found,) = deployments.deployments([session(timed(0.1, 8), timed(0.02, 1))])
    assert found.service.batch_sizes == (1, 8)
    assert found.service.mean(8) == pytest.approx(0.1)
    assert found.model == "tests/test_a.py::test_model"


def test_devices_and_machines_are_deployments_of_their_own():
    found = deployments.deployments(
        [session(timed(0.02)), session(timed(0.004, device="cuda", hardware=GPU))]
    )
    assert [one.device for one in found] == ["cpu", "cuda"]


def test_copies_between_host_and_device_are_paid():
    (found,) = deployments.deployments(
        [session(timed(0.004, device="cuda", hardware=GPU, host_to_host=0.005))]
    )
    assert found.service.mean(1) == pytest.approx(0.005)
    assert found.service.percentiles[0][95] == pytest.approx(0.005)


def runs(workers, mean, size=1):
    return ConcurrentRun(
        workers=workers, throughput=workers * size / mean, calls=100, mean=mean, percentiles=(mean,) * 101
    )


def test_concurrent_workers_are_deployments_of_their_own():
    memory = Memory(host_peak=100)
    alone, two = deployments.deployments(
        [session(timed(0.02, concurrent_runs=(runs(2, 0.03),), memory=memory))]
    )
    assert (alone.workers, two.workers) == (1, 2)
    assert two.service.mean(1) == pytest.approx(0.03)
    assert (alone.host_bytes, two.host_bytes) == (100, 200)
    assert two.text == "cpu, 2 workers"


def test_energy_is_that_of_one_worker_by_batch_size():
    taken = Energy(joules=1.0, source="nvml", scope="board", seconds=2.0, calls=100, batch_size=8)
    found = deployments.deployments(
        [session(timed(0.01, concurrent_runs=(runs(2, 0.03),)), timed(0.05, 8, energy=taken))]
    )
    assert [deployment.energies for deployment in found] == [((8, taken),), ()]


def test_workers_that_were_not_measured_are_not_multiplied():
    broken = ConcurrentRun(workers=4, throughput=1.0, calls=1, mean=0.1, percentiles=())
    assert [
        one.workers for one in deployments.deployments([session(timed(0.02, concurrent_runs=(broken,)))])
    ] == [1]


def test_two_workers_on_one_machine_serve_more():
    crowd = msgspec.structs.replace(SLOW, deployment=deployment(times(b1=0.022), workers=2))
    single = msgspec.structs.replace(SLOW, deployment=deployment(times(b1=0.020)))
    answer = ask(rate=45.0, made=(single, crowd))
    assert (answer.winner.workers, answer.winner.instances) == (2, 1)
    assert answer.runner_up.instances == 2


def test_paired_runs_never_advise():
    assert deployments.deployments([session(timed(0.02), against=Against(revision="main"))]) == ()


def test_wrong_outputs_and_invalid_times_never_advise():
    for kind in [Verdict.MISMATCH, Verdict.INVALID, Verdict.NOT_MEASURED]:
        one = timed(0.02)
        assert deployments.deployments([session(one, kinds={one.case: kind})]) == (), kind


def test_times_that_are_none_never_advise():
    for percentiles in [(), (0.02,) * 100, (0.0,) * 101, (-1.0,) * 101, (0.03,) * 100 + (0.02,)]:
        broken = msgspec.structs.replace(latency(0.02), percentiles=tuple(percentiles))
        one = result(measurement=measurement(0.02, latency=broken))
        assert deployments.deployments([session(one)]) == (), percentiles


def test_a_virtual_machine_is_less_sure():
    plain, virtual = (
        deployments.deployments([session(timed(0.02), environment=Environment(virtual=value))])[0].launch_band
        for value in (False, True)
    )
    assert virtual > 3 * plain


TABLE = (
    instance("c7i.xlarge", 0.1785, cpu_model="Intel 8488C"),
    instance("g6.xlarge", 0.8048, accelerator="L4", accelerator_count=1, cpu_model="AMD 7R13"),
)


def test_an_instance_is_found_by_its_class():
    (priced,), notes = priced_deployments.priced_deployments([FAST.deployment], TABLE, {})
    assert (priced.instance.name, priced.user_specified) == ("g6.xlarge", False)
    assert notes == ()


def test_what_the_user_says_counts():
    (priced,), _ = priced_deployments.priced_deployments(
        [FAST.deployment], TABLE, {"cuda": instance("own", 0.5, vcpus=0)}
    )
    assert (priced.instance.name, priced.user_specified) == ("own", True)


def test_another_machine_never_has_its_price(snapshot):
    (priced,), (note,) = priced_deployments.priced_deployments([FAST.deployment], TABLE, {"cuda": TABLE[0]})
    assert (priced.instance, priced.user_specified) == (TABLE[1], False)
    assert "--price cuda=USD_PER_HOUR" in note.hint
    assert str(note) == snapshot


def test_the_most_particular_word_counts():
    own = {name: instance(name, vcpus=0) for name in ("any", "this", "that")}
    prices = {"cpu": own["any"], HARDWARE.id[:12]: own["this"], HARDWARE.id[:5]: own["that"]}
    (priced,), _ = priced_deployments.priced_deployments([SLOW.deployment], TABLE, prices)
    assert priced.instance.name == "this"


def test_a_machine_is_unknown_only_if_the_table_has_none_of_its_kind(snapshot):
    made, (note,) = priced_deployments.priced_deployments([SLOW.deployment], TABLE[1:], {})
    assert made == ()
    assert "--price cpu=USD_PER_HOUR" in note.hint
    assert str(note) == snapshot


def test_the_price_of_a_machine_that_is_not_in_the_table_is_assumed_and_labelled():
    (priced,), notes = priced_deployments.priced_deployments([SLOW.deployment], TABLE, {})
    assert notes == ()
    assert (priced.instance.name, priced.user_specified) == ("c7i.xlarge", False)
    assert priced.text == "4-core Test CPU (cpu)"
    answer = recommendation.advise(Question(demand=Demand(rate=1.0)), [priced])
    assert answer.winner.assumed == priced.assumed
    assert answer.winner.usd_per_hour == 0.1785
    (note,) = [note for note in answer.notes if note.code == "assumed-price"]
    assert "cpu = { usd_per_hour = 0.1785 }" in note.hint
    assert "[tool.infergate.instances]" in note.hint
    assert [note for note in answer.notes if note.code == "assumed-instance"] == []


def test_an_assumed_machine_has_the_memory_that_was_needed():
    heavy = msgspec.structs.replace(SLOW.deployment, host_bytes=9 * 2**30)
    large = instance("m7i.xlarge", 0.2016, cpu_model="Intel 8488C", memory_gib=16.0)
    (priced,), _ = priced_deployments.priced_deployments([heavy], (*TABLE, large), {})
    assert priced.instance == large


def test_an_instance_without_the_memory_is_left_out(snapshot):
    heavy = msgspec.structs.replace(SLOW.deployment, host_bytes=9 * 2**30)
    made, (note,) = priced_deployments.priced_deployments([heavy], TABLE, {"cpu": instance("own", vcpus=0)})
    assert made == ()
    assert str(note) == snapshot


def test_memory_travels_from_the_largest_batch():
    memory = Memory(weights=10, activations=20, host_peak=70)
    (found,) = deployments.deployments([session(timed(0.02), timed(0.1, 8, memory=memory))])
    assert (found.host_bytes, found.weights_bytes) == (70, 10)


def test_notes_of_what_was_left_out_stay():
    note = Note(code="left-out", text="something")
    assert note in recommendation.advise(Question(demand=Demand(rate=1.0)), (SLOW,), (note,)).notes


def test_the_constants_are_those_of_cost():
    assert Question(demand=Demand(rate=1.0)).utilisation == instance_types.UTILISATION


def test_an_unknown_accelerator_is_undecided_where_the_range_of_its_price_decides():
    unsure = msgspec.structs.replace(FAST, assumed="the median", price_ends=(0.2, 2.0))
    answers = [
        recommendation.advise(Question(demand=Demand(rate=rate)), [SLOW, unsure]).price_range
        for rate in (1.0, 100.0, 100_000.0)
    ]
    assert [each.decides for each in answers] == [False, True, False]
    assert [each.cheapest_at_high for each in answers[:2]] == [SLOW.text] * 2
    assert answers[1].cheapest_at_low == unsure.text
    assert recommendation.advise(Question(demand=Demand(rate=1.0)), [SLOW, FAST]).price_range is None
