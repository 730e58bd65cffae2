"""Names of plans, of their devices and of their prices."""

from __future__ import annotations

from pytest_infergate.core.advice.deployments import deployment_text
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.domain.advice_values import Plan, ProjectedPlan
from pytest_infergate.report.amounts import usd
from pytest_infergate.report.sanitize import plain


def plan_text(plan: Plan) -> str:
    """Return a plan with its device, and with the machine that it is priced like if its price is assumed."""
    if not plan.assumed:
        return f"{plan.text} ({device_text(plan)})"
    return f"{plan.instances} x {machine_at_hand(plan, device_text(plan))}, {priced_like(plan)}"


def machine_at_hand(plan: Plan, device: str = "") -> str:
    """Return the machine at hand, which is not in the price table: ``this machine (2-core AMD EPYC)``."""
    return f"this machine ({', '.join(filter(None, (plan.instance, device)))})"


def priced_like(plan: Plan) -> str:
    """Return the machine whose price is assumed for the one at hand: ``priced like aws/c7a.large``."""
    # The source of a price of the table states its region: "aws/c7a.large in us-east-1".
    name, region, _ = plan.price.partition(" in ")
    return f"priced like {name}" if region else "at an assumed price"


def place(plan: Plan) -> str:
    """Return where a plan runs: ``CPU``, ``GPU``, or the name of another device."""
    return {"cpu": "CPU", "cuda": "GPU", "mps": "GPU", "xpu": "GPU"}.get(plan.device, plan.device)


def price_label(plan: Plan | ProjectedPlan | Job) -> str:
    """Return what is uncertain about the price of a plan; empty for a price of a known day."""
    if not isinstance(plan, ProjectedPlan) and plan.assumed:
        return "assumed price"
    return "unverified price" if plan.unverified else ""


def dated_label(plan: Plan | ProjectedPlan) -> str:
    """Return what is uncertain about the price of a plan, with its day: ``assumed price of 2026-07-20``."""
    _, _, day = plan.price.partition(" as of ")
    label = price_label(plan)
    return plain(f"{label} of {day}" if day and label else label)


def device_text(plan: Plan | Job) -> str:
    """Return the device of a plan and what differs from its default, see `deployment_text`."""
    return deployment_text(plan.device, plan.runtime, plan.dtype, plan.threads, plan.workers)


def plan_price(plan: Plan) -> str:
    """Format the price of a plan: ``g6.xlarge 0.805 USD per hour: aws/g6.xlarge in us-east-1, on demand``."""
    assumed = f"assumed, {plan.assumed}; " if plan.assumed else ""
    return f"{plan.instance} {usd(plan.usd_per_hour)} per hour: {assumed}{plan.price}"
