"""What prices alone decide: with machines whose calls always take the same time, it can be computed by hand."""

import math
from datetime import date

import msgspec
import pytest
from core_values import HARDWARE
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice import planning, recommendation
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.price_limits import price_limits
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.advice.staircase import Staircase
from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.values import Hardware

CALL = 0.02
BAND = math.exp(0.1)
"""Factor of the time of calls in a slow launch, against which a limit is held."""
PRECISION = 1.03
"""Ratio within which the end of a step is located."""


@pytest.fixture(autouse=True, scope="module")
def short_simulations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "PLAN_REQUESTS", 500)
        yield


def machine(usd, name="box", accelerator=None):
    return Instance(
        provider="lab", region="here", name=name, vcpus=4, memory_gib=None, usd_per_hour=usd,
        accelerator=accelerator, accelerator_count=int(accelerator is not None),
    )  # fmt: skip


def offer(usd, seconds=CALL, hardware=HARDWARE, name="box"):
    service = ServiceTimes(batch_sizes=(1,), percentiles=((seconds,) * 101,))
    deployment = Deployment(model="m", device="cpu", hardware=hardware, service=service, launch_band=0.1)
    return PricedDeployment(deployment=deployment, instance=machine(usd, name), user_specified=True)


T4 = machine(0.5, "t4", "T4")
GPUS = (T4, machine(0.9, "l4", "L4"))


def limits(candidates, gpus=GPUS, rate=10.0, limit=None, **fields):
    question = Question(demand=Demand(rate=rate), limit=limit, **fields)
    plans = recommendation.advise(question, candidates).plans
    return price_limits(question, [Staircase(each, question) for each in candidates], plans, gpus)


def test_as_long_as_so_many_machines_suffice_no_gpu_is_cheaper():
    found = limits([offer(0.2)])
    assert (found.gpu, found.gpu_usd_per_hour, found.machines) == ("lab/t4 with a T4", 0.5, 2)
    # Two machines that serve 50 requests per second each, of which 60 % are used.
    assert found.rate == pytest.approx(60, rel=0.03)
    assert (found.gpus, found.gpu_rate, found.faster) == (0, None, None)


def test_a_gpu_whose_price_has_no_day_is_unverified():
    dated = msgspec.structs.replace(T4, as_of=date(2026, 7, 20))
    assert [limits([offer(0.2)], gpus=(gpu,)).gpu_unverified for gpu in (T4, dated)] == [True, False]


def test_machines_that_cost_exactly_as_much_are_not_dearer():
    # In binary, five machines of 0.1 cost 0.5, and three of 0.1 cost more than 0.3.
    assert limits([offer(0.1)], gpus=(machine(0.3, "t4", "T4"),)).machines == 3
    assert limits([offer(0.1)]).machines == 5


def test_a_gpu_must_serve_its_share_of_a_larger_demand():
    # 300 requests per second take 10 machines for 2 USD: three GPU machines cost less, four as much.
    found = limits([offer(0.2)], rate=300.0)
    assert found.gpus == 3
    assert found.gpu_rate == pytest.approx(100.0)


def test_the_machine_that_serves_the_most_for_the_price_counts():
    other = Hardware(cpu_model="Other CPU", cores=8)
    fast = offer(0.5, seconds=0.004, hardware=other, name="fast")
    found = limits([offer(0.2), fast])
    assert (found.cpu, found.machines) == ("fast", 1)
    assert found.rate == pytest.approx(150, rel=0.03)


def test_a_dearer_machine_leaves_nothing_to_prices():
    found = limits([offer(0.6)])
    assert (found.machines, found.rate) == (0, None)


def test_a_limit_that_no_number_of_machines_meets_says_how_much_faster_a_call_must_be():
    found = limits([offer(0.2, seconds=0.3)], limit=0.1)
    assert found.rate is None
    assert found.faster == pytest.approx(3.0 * BAND)
    assert found.gpus is None
    # A call then takes 0.1 s / BAND: a machine serves 11 requests per second, of which 60 % are used.
    assert found.faster_machines == 2
    assert limits([offer(0.2, seconds=0.3)], limit=0.1, rate=100.0).faster_machines == 16
    assert limits([offer(0.2, seconds=0.3)], limit=0.1, min_instances=4).faster_machines == 4


def test_of_frames_99_per_cent_must_be_in_time_and_of_requests_95():
    slow_calls = (0.02,) * 97 + (0.05,) * 4
    slow = offer(0.2)
    deployment = msgspec.structs.replace(
        slow.deployment, service=ServiceTimes(batch_sizes=(1,), percentiles=(slow_calls,))
    )
    slow = msgspec.structs.replace(slow, deployment=deployment)
    frames = Question(demand=Demand(rate=25.0, pattern="periodic"))
    requests = Question(demand=Demand(rate=1.0), limit=0.04)
    for question, factor in ((frames, 1.25), (requests, None)):
        found = price_limits(question, [Staircase(slow, question)], (), (T4,))
        assert found.faster == (factor and pytest.approx(factor * BAND))


def test_streams_that_no_call_keeps_up_with_are_served_by_no_number_of_machines():
    """A call takes 200 ms, and the next frame arrives after 33 ms; one machine serves no whole stream."""
    demand = Demand(rate=240.0, pattern="periodic", streams=8)
    slow = offer(0.05, seconds=0.2)
    question = Question(demand=demand)
    found = price_limits(question, [Staircase(slow, question)], (), (T4,))
    assert (found.machines, found.rate) == (10, None)
    assert found.faster == pytest.approx(6.0 * BAND)


def test_there_is_nothing_to_compare_without_a_cpu_or_a_gpu():
    accelerated = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA L4", accelerator_count=1)
    assert limits([offer(0.2, hardware=accelerated)]) is None
    assert limits([offer(0.2)], gpus=()) is None


def test_machines_that_always_run_are_paid_for_on_both_sides():
    found = limits([offer(0.2)], min_instances=3)
    assert found.machines == 7


@given(
    usd=st.floats(0.05, 1.0), gpu=st.floats(0.3, 3.0), rate=st.floats(1.0, 500.0), limit=st.sampled_from([None, 0.2])
)  # fmt: skip
def test_what_prices_exclude_is_never_cheaper(usd, gpu, rate, limit):
    """Up to the rate, the CPU plan costs at most one GPU machine; a GPU that wins serves more than the rate."""
    cpu = offer(usd)
    question = Question(demand=Demand(rate=rate), limit=limit)
    answer = recommendation.advise(question, [cpu])
    found = price_limits(question, [Staircase(cpu, question)], answer.plans, (machine(gpu, "t4", "T4"),))
    assert found.machines * usd <= gpu * (1 + 1e-9)
    assert (found.machines + 1) * usd > gpu * (1 - 1e-9)
    cost = answer.winner.instances * usd
    if found.rate is not None and rate <= found.rate / PRECISION:
        assert cost <= gpu * (1 + 1e-9)
        assert found.gpus == 0
    if found.gpus:
        assert found.gpus * gpu < cost
        assert (found.gpus + 1) * gpu >= cost * (1 - 1e-9)
        assert found.rate is None or found.gpu_rate * PRECISION > found.rate


def test_all_of_it_is_part_of_an_advice():
    question = Question(demand=Demand(rate=10.0))
    answer = recommendation.advise(question, [offer(0.2)], (), (T4,))
    assert answer.price_limits == limits([offer(0.2)])
    assert recommendation.advise(question, [offer(0.2)]).price_limits is None


def test_several_demands_are_answered_like_one():
    cpu = offer(0.2)
    table = recommendation.demand_table(Question(demand=Demand(rate=7.0), limit=0.2), [cpu], (), (T4,))
    assert [step.rate for step in table.steps] == [0.1, 1.0, 10.0, 100.0, 1000.0]
    for step in table.steps:
        single = recommendation.advise(Question(demand=Demand(rate=step.rate), limit=0.2), [cpu])
        assert step.plan == single.winner
    assert (table.price_limits.machines, table.price_limits.gpu_rate) == (2, None)


def test_a_limit_below_every_call_leaves_the_table_without_plans():
    table = recommendation.demand_table(
        Question(demand=Demand(rate=1.0), limit=0.01), [offer(0.2)], (), (T4,)
    )
    assert {step.plan for step in table.steps} == {None}
    assert table.price_limits.faster == pytest.approx(2.0 * BAND)
    assert msgspec.json.decode(msgspec.json.encode(table))["model"] == "m"
