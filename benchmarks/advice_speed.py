"""Time and simulated requests of an advice.

    python benchmarks/advice_speed.py [MODELS]

Each model is the recorded `test_query` of results/machines, with calls that are 0.4 to 2.5 times as long:
four batch sizes on one machine, by one and by two workers, or on three machines. Demands go from 0.1 to 1,000
requests per second. The last rows are extreme questions about one model. Seconds are processor time of this
process, without the start of Python.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec

from pytest_infergate.core.advice import deployments, queueing, recommendation, sizing
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.report import results_json

RECORDED = Path(__file__).parent / "results" / "machines"
USD_PER_HOUR = {"two-cores": 0.09, "one-core": 0.05, "two-cores-sse": 0.04}
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Requests per second, one for each model in turn."""
FACTORS = (0.4, 2.5)
"""Shortest and longest calls of a model over those recorded."""
LARGE = {1: 0.001, 1000: 0.05, 100_000: 4.0}
"""Seconds of a call by batch size, up to a very large one."""
simulated: list[int] = []
"""Number of requests of each simulation."""


def recorded(machines: Sequence[str]) -> list[PricedDeployment]:
    """Return the recorded deployments of one model on some machines."""
    found = []
    for name in machines:
        file = RECORDED / f"{name}.json"
        machine = Instance(
            provider="own",
            region="",
            name=name,
            vcpus=0,
            memory_gib=None,
            usd_per_hour=USD_PER_HOUR[name],
        )
        found += [
            PricedDeployment(deployment=each, instance=machine, user_specified=True)
            for each in deployments.deployments(results_json.parse_all(file.read_bytes(), file.name))
            if each.model.endswith("test_query")
        ]
    return found


def with_times(priced: PricedDeployment, service: ServiceTimes) -> PricedDeployment:
    """Return a deployment with other call times."""
    return msgspec.structs.replace(
        priced, deployment=msgspec.structs.replace(priced.deployment, service=service)
    )


def models(count: int, machines: Sequence[str]) -> list[list[PricedDeployment]]:
    """Return models whose calls take longer or shorter than those recorded."""
    offers = recorded(machines)
    made: list[list[PricedDeployment]] = []
    for seed in range(count):
        factor = math.exp(random.Random(seed).uniform(*map(math.log, FACTORS)))  # noqa: S311
        made.append([])
        for priced in offers:
            service = priced.deployment.service
            longer = msgspec.structs.replace(
                service,
                percentiles=tuple(tuple(factor * value for value in each) for each in service.percentiles),
                means=tuple(factor * mean for mean in service.means),
            )
            made[-1].append(with_times(priced, longer))
    return made


def row(
    name: str,
    advise: Callable[[Question, Sequence[PricedDeployment]], object],
    asked: Iterable[tuple[Question, Sequence[PricedDeployment]]],
) -> None:
    """Print the time and the simulations of some advice."""
    simulated.clear()
    seconds = []
    for question, offers in asked:
        begin = time.process_time()
        advise(question, offers)
        seconds.append(time.process_time() - begin)
    figures = f"{sum(seconds):>7.2f}  {max(seconds):>7.2f}  {len(simulated):>6,}  {sum(simulated):>11,}"
    print(f"{name:<46}  {figures}")


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if sys.argv[1:] else 50
    run, count_late = queueing.simulate, queueing.late_requests

    def recorded_all(moments: Any, *arguments: Any, **fields: Any) -> Any:
        simulated.append(len(moments))
        return run(moments, *arguments, **fields)

    def counted(*arguments: Any, **fields: Any) -> Any:
        found = count_late(*arguments, **fields)
        simulated.append(found.requests)
        return found

    setattr(sizing, "simulate", recorded_all)  # noqa: B010 - names that the module imports
    setattr(sizing, "late_requests", counted)  # noqa: B010
    print(f"{'':<46}  {'seconds':>7}  {'longest':>7}  {'runs':>6}  {'requests':>11}")
    for machines in (["two-cores"], list(USD_PER_HOUR)):
        offers = models(count, machines)
        where = f"{count} models, {len(machines)} machine{'s' * (len(machines) > 1)}"
        for limit in (None, 0.2, 0.05):
            text = "no limit" if limit is None else f"{1e3 * limit:g} ms"
            questions = [Question(demand=Demand(rate=rate), limit=limit) for rate in RATES]
            row(f"{where}, {text}", recommendation.advise, zip(cycle(questions), offers))
        table = Question(demand=Demand(rate=1.0), limit=0.05)
        row(f"{where}, 50 ms, 5 demands", recommendation.demand_table, ((table, each) for each in offers))
    first, *_ = recorded(["two-cores"])
    large = with_times(
        first,
        ServiceTimes(
            batch_sizes=tuple(LARGE), percentiles=tuple((seconds,) * 101 for seconds in LARGE.values())
        ),
    )
    for name, priced, rate, limit in (
        ("batches of up to 100,000, 10 s, 100,000/s", large, 1e5, 10.0),
        ("batches of up to 100,000, 10 s, 1,000,000/s", large, 1e6, 10.0),
        ("batches of up to 8, 50 ms, 1,000,000/s", first, 1e6, 0.05),
        ("a limit below the fastest call", first, 50.0, 0.001),
    ):
        row(name, recommendation.advise, [(Question(demand=Demand(rate=rate), limit=limit), [priced])])


if __name__ == "__main__":
    main()
