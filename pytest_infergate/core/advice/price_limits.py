"""What prices alone decide between CPU and GPU, before any GPU is measured.

A machine is rented as a whole. As long as the CPU machines that serve a demand cost no more than one machine
with a GPU, no GPU can be cheaper, however fast it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.planning import Question, server_of
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.sizing import MAX_PERIODIC_MISSES
from pytest_infergate.core.advice.staircase import Staircase
from pytest_infergate.core.domain.advice_values import Plan, PriceLimits
from pytest_infergate.core.domain.hardware_names import with_article
from pytest_infergate.core.domain.instance_types import Instance

# Prices are sums of decimal fractions: three machines of 0.1 cost as much as one of 0.3.
_ROUNDING: Final = 1e-9


def price_limits(
    question: Question,
    candidates: Sequence[Staircase],
    plans: Iterable[Plan],
    gpus: Iterable[Instance],
) -> PriceLimits | None:
    """Return what prices decide; ``None`` without a CPU among the candidates, or without a GPU to compare.

    `plans` are the best plans for the demand, the cheapest first. `gpus` are the machines with a GPU that can
    be rented.
    """
    steps = [stairs for stairs in candidates if stairs.priced.deployment.hardware.accelerator is None]
    processors = [stairs.priced for stairs in steps]
    gpu = min(gpus, key=lambda instance: (instance.price, instance.full_name), default=None)
    if not processors or gpu is None:
        return None
    # At least this number of machines of any kind always runs.
    price = gpu.price * question.min_instances
    counts = [math.floor(price / priced.instance.price * (1 + _ROUNDING)) for priced in processors]
    counted = zip(steps, counts, strict=True)
    rates = [(stairs.capacity(count) or None) if count else None for stairs, count in counted]
    ranked = zip(rates, counts, processors, strict=True)
    rate, count, cpu = max(ranked, key=lambda one: (one[0] or 0.0, one[1]))
    plan = next((plan for plan in plans if plan.deployment in {each.text for each in processors}), None)
    affordable = None
    if plan is not None:
        # The largest number of GPU machines that costs less than the plan, not as much.
        affordable = max(0, math.ceil(plan.instances * plan.usd_per_hour / gpu.price * (1 - _ROUNDING)) - 1)
        affordable = affordable if affordable >= question.min_instances else 0
    faster, machines = (None, None) if plan is not None else _faster(processors, question)
    return PriceLimits(
        gpu=f"{gpu.full_name} with {_accelerators(gpu)}" if gpu.accelerator else gpu.name,
        gpu_usd_per_hour=gpu.price,
        gpu_unverified=gpu.unverified,
        cpu=cpu.name,
        cpu_usd_per_hour=cpu.instance.price,
        assumed=bool(cpu.assumed),
        machines=count,
        rate=rate,
        gpus=affordable,
        gpu_rate=question.demand.rate / affordable if affordable else None,
        faster=faster,
        faster_machines=machines,
    )


def _accelerators(gpu: Instance) -> str:
    return (
        with_article(gpu.accelerator or "")
        if gpu.accelerator_count == 1
        else f"{gpu.accelerator_count} x {gpu.accelerator}"
    )


def _faster(
    processors: Iterable[PricedDeployment], question: Question
) -> tuple[float, int] | tuple[None, None]:
    """Return by which factor the slow calls of the fastest processor exceed the limit; ``None`` if none does.

    A request takes at least one call. With enough machines it takes hardly more. The second value is the
    number of machines whose load is small enough once calls are as fast as that.
    """
    limit = question.limit if question.limit is not None else question.demand.period
    # Of frames 99 % must be answered before the next one, of requests 95 % within their limit.
    percentile = 95 if question.limit is not None else round(100 * (1 - MAX_PERIODIC_MISSES))
    calls = [
        (priced.deployment.slowdown * times[percentile], size, priced)  # of 101
        for priced in processors
        for size, times in zip(
            priced.deployment.service.batch_sizes, priced.deployment.service.percentiles, strict=True
        )
    ]
    fastest, size, priced = min(calls, key=lambda call: call[0])
    if limit is None or not 0 < limit < fastest:
        return None, None
    sized = server_of(priced, question, size, 0.0)
    scaled = msgspec.structs.replace(sized, service=sized.service.scaled(limit / fastest))
    return fastest / limit, max(question.min_instances, scaled.least(question.demand))
