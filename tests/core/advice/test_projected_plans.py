"""Projected machines beside measured plans: what is projected, when it decides, and that it never promises too much."""

import math
from datetime import date

import msgspec
import pytest
from core_values import HARDWARE, case, measurement, result
from hypothesis import given, settings
from hypothesis import strategies as st
from test_projectable_work import WEIGHTS, counts

from pytest_infergate.core.advice import recommendation
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.projectable_work import ItemWork, item_work
from pytest_infergate.core.advice.projected_plans import (
    ProjectionOffer,
    projectable_machines,
    projectable_works,
)
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain.advice_values import Demand, ProjectedPlan, Projections
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.outcome import Policy, Session
from pytest_infergate.core.domain.values import Environment, Hardware, Note
from pytest_infergate.core.gate import decide
from pytest_infergate.storage.hardware_tables import accelerator_sheets

SHEETS = accelerator_sheets()
WORK = item_work({1: counts(1), 8: counts(8)})


def gpu(name="g4dn.xlarge", accelerator="T4", usd=0.526, count=1):
    return Instance(
        provider="aws", region="us-east-1", name=name, vcpus=4, memory_gib=16.0, accelerator=accelerator,
        accelerator_count=count, usd_per_hour=usd,
    )  # fmt: skip


def offer(*instances, work=WORK):
    return ProjectionOffer(work, SHEETS, projectable_machines(instances or (gpu(),), SHEETS))


def cpu(seconds, usd=0.1, **fields):
    """A CPU whose calls of one item always take so long."""
    known = {"model": "t.py::m", "device": "cpu", "hardware": HARDWARE, "launch_band": 0.1}
    service = ServiceTimes(batch_sizes=(1,), percentiles=((seconds,) * 101,))
    instance = Instance(
        provider="aws", region="us-east-1", name="c7i.large", vcpus=2, memory_gib=4.0, usd_per_hour=usd
    )
    made = Deployment(service=service, **{**known, **fields})
    return PricedDeployment(deployment=made, instance=instance, user_specified=True)


def ask(candidates, rate, *, limit=None, offered=None, **demand):
    question = Question(demand=Demand(rate=rate, **demand), limit=limit)
    return recommendation.advise(question, candidates, offer=offered or offer())


def test_only_single_accelerators_with_a_sheet_are_projected_at_their_cheapest():
    machines = projectable_machines(
        [gpu("a", usd=0.6), gpu("b", usd=0.5), gpu("c", "B200", 7), gpu("d", "A100-40GB", 20, count=8),
         gpu("e", "A100-80GB", 1.4), gpu("f", "H100-NVL", 7.0), gpu("g", "NVIDIA H100 PCIe", 3.0)],
        SHEETS,
    )  # fmt: skip
    assert [(instance.name, sheet.name) for instance, sheet in machines] == [
        ("b", "T4"), ("e", "A100-80GB-SXM"), ("g", "H100-PCIE"), ("f", "H100-NVL"),
    ]  # fmt: skip


def test_what_is_unverified_goes_with_every_projection():
    dated = gpu("g5.xlarge", "A10G")
    dated = msgspec.structs.replace(dated, as_of=date(2026, 7, 20))
    made = ask([cpu(1.0)], 100.0, offered=offer(gpu(), dated))
    found = {plan.accelerator: plan for plan in made.projections.plans}
    assert (found["T4"].unverified, found["T4"].evidence) == (True, "published")
    assert (found["A10G"].unverified, found["A10G"].evidence) == (False, "doubtful; peak unverified")
    own = msgspec.structs.replace(gpu(), provider="own", region="")
    assert not own.unverified  # the user knows its price


def test_a_model_that_is_slow_on_the_cpu_is_recommended_a_gpu_and_a_quick_one_is_not():
    (slow,) = ask([cpu(0.2)], 100.0).projections.plans
    assert slow.decision == "recommended"
    assert slow.usd_per_month_low <= slow.usd_per_month_high < ask([cpu(0.2)], 100.0).winner.usd_per_month
    (quick,) = ask([cpu(0.01)], 100.0).projections.plans
    assert (quick.decision, quick.ruled_out_to) == (
        "ruled out",
        pytest.approx(300, rel=1e-6),
    )  # of five CPUs


def test_no_measured_plan_leaves_the_answer_to_the_limit_alone():
    found = ask([cpu(0.2)], 10.0, limit=0.1)
    assert found.winner is None
    assert [plan.decision for plan in found.projections.plans] == ["recommended"]
    # A call of the pessimistic end takes longer than this, one of the optimistic end does not.
    undecided = ask([cpu(0.2)], 10.0, limit=0.008).projections.plans[0]
    assert (undecided.decision, undecided.instances_high, undecided.rate_low) == ("undecided", None, 0.0)
    never = ask([cpu(0.2)], 10.0, limit=0.0001).projections.plans[0]
    enormous = ask([cpu(0.2)], 1e12).projections.plans[0]
    assert (enormous.decision, enormous.usd_per_month_low) == ("ruled out", None)
    assert (never.decision, never.instances_low, never.ruled_out_to) == ("ruled out", None, None)


def test_a_camera_may_have_a_machine_of_its_own():
    found = ask([cpu(0.5)], 240.0, pattern="periodic", streams=8)
    (plan,) = found.projections.plans
    assert plan.decision == "recommended"
    assert plan.instances_high <= 8
    assert plan.rate_low % 30 == 0  # whole streams


def test_a_measured_accelerator_replaces_every_projection_and_checks_it():
    hardware = Hardware(
        cpu_model="Test CPU", cores=4, accelerator="NVIDIA A100-SXM4-40GB", accelerator_count=1
    )
    service = ServiceTimes(batch_sizes=(8,), percentiles=((0.004,) * 101,))
    measured = cpu(0.1, 3.0, device="cuda", dtype="float16", hardware=hardware)
    measured = msgspec.structs.replace(
        measured, deployment=msgspec.structs.replace(measured.deployment, service=service)
    )
    found = ask([cpu(0.2), measured], 10.0).projections
    assert found.plans == ()
    (check,) = found.checks
    assert (check.accelerator, check.batch_size, check.measured) == ("A100-40GB", 8, 0.004)
    assert check.inside
    assert check.low < check.point < check.high


def test_what_is_not_projected_says_why():
    reason = Note(code="not-projected", text="not projected: x")
    assert ask([cpu(0.2)], 10.0, offered=offer(work=reason)).projections.refusals == (reason,)
    part = msgspec.structs.replace(WORK, only_batch_size=1)
    (note,) = ask([cpu(0.2)], 10.0, offered=offer(work=part)).projections.refusals
    assert "batch_sizes=[1, 8]" in note.hint
    heavy = msgspec.structs.replace(WORK, weight_bytes=1e12)
    (note,) = ask([cpu(0.2)], 10.0, offered=offer(work=heavy)).projections.refusals
    assert "T4" in note.text


def test_a_table_of_demands_decides_each():
    table = recommendation.demand_table(Question(demand=Demand(rate=1.0)), [cpu(0.02)], offer=offer())
    decisions = [step.projections.plans[0].decision for step in table.steps]
    assert decisions == ["ruled out", "ruled out", "ruled out", "ruled out", "recommended"]


def machine(accelerator, low, high, decision="recommended", **fields):
    known = {
        "instance": "x", "accelerator": accelerator, "price": "x", "usd_per_hour": 1.0, "dtype": "float16",
        "evidence": "published", "decision": decision, "usd_per_month_low": low, "usd_per_month_high": high,
    }  # fmt: skip
    return ProjectedPlan(**{**known, **fields})


def test_the_lowest_pessimistic_end_bounds_the_cost_and_rules_out_what_is_dearer_for_certain():
    cheap, sure, late = machine("T4", 384, 3072), machine("L40S", 1359, 1359), machine("H100", 3000, 3000)
    doubtful, slow = machine("L4", 555, None, "undecided"), machine("K80", 50, 60, "ruled out")
    found = Projections(plans=(cheap, doubtful, sure, late, slow))
    assert (found.bound, found.lowest) == (sure, cheap)
    assert [plan for plan in found.plans if found.dearer(plan)] == [late]
    assert found.candidates == (sure, cheap, doubtful)
    # Only a price of a known day is a bound, if there is one.
    guess = machine("A100", 1015, 1015, unverified=True)
    assert msgspec.structs.replace(found, plans=(guess, *found.plans)).bound == sure
    assert Projections(plans=(guess, doubtful)).bound == guess
    none = Projections(plans=(doubtful, slow))
    assert (none.bound, none.lowest, none.candidates) == (None, doubtful, (doubtful,))
    assert not none.dearer(doubtful)
    assert Projections().candidates == ()


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1e-3, 1), st.floats(0.02, 2), st.floats(0.1, 20), st.floats(0.05, 2000), st.integers(1, 3),
    st.sampled_from([None, 0.02, 0.1]),
)  # fmt: skip
def test_nothing_is_recommended_that_loses_at_its_pessimistic_end(  # noqa: PLR0917 - all are drawn
    seconds,
    usd,
    price,
    rate,
    least,
    limit,
):
    question = Question(demand=Demand(rate=rate), limit=limit, min_instances=least)
    candidates = [cpu(seconds, usd), cpu(seconds / 3, 5 * usd, dtype="bfloat16")]
    offered = offer(gpu(usd=price), gpu("g5", "A10G", 1.5 * price))
    found = recommendation.advise(question, candidates, offer=offered)
    best = math.inf if found.winner is None else min(plan.usd_per_month for plan in found.plans)
    for plan in found.projections.plans:
        # The cheapest measured plan, with the error of a step that a simulation locates.
        if plan.decision == "recommended":
            machines = max(least, math.ceil(rate / plan.rate_low * (1 - 1e-9)))
            assert machines * plan.usd_per_hour * 730 <= best * (1.0 + 1e-9)
        if plan.decision == "ruled out" and plan.rate_high:
            machines = max(least, math.ceil(rate / plan.rate_high * (1 - 1e-9)))
            assert machines * plan.usd_per_hour * 730 >= best * (1.0 - 1e-9)


def session(*results, created="2026-12-01T00:00:00.000+00:00"):
    gate = decide.gate_session((), Policy())
    return Session(
        tool_version="1", created=created, environment=Environment(), cases=tuple(results), gate=gate
    )


def test_counters_of_a_model_are_collected_over_batch_sizes_and_files():
    small, large = (result(of=case(batch_size=size), measurement=counts(size)) for size in (1, 8))
    other = result(of=case("t.py::lost", batch_size=1), measurement=measurement())
    works = projectable_works([session(small, other), session(large)])
    assert isinstance(works[small.case.test], ItemWork)
    assert works[small.case.test].fixed_bytes == WEIGHTS
    assert "missing" in works["t.py::lost"].text
    # A size without counters must not hide those of another, nor replace its own.
    uncounted = result(of=case(batch_size=8), measurement=measurement())
    again = projectable_works([session(small, large), session(uncounted)])
    assert again[small.case.test] == works[small.case.test]
    compiled = result(of=case("t.py::c", runtime="compile"), measurement=counts(1))
    assert projectable_works([session(compiled)]) == {}
