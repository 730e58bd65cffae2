"""What the simulation of advice predicts for the load under which a case was measured."""

from __future__ import annotations

from typing import Final

import msgspec

from pytest_infergate.core.advice.demand import arrivals
from pytest_infergate.core.advice.deployments import Deployment, deployments, model_name
from pytest_infergate.core.advice.queueing import Server, simulate
from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.core.domain.measurement import LoadFigures
from pytest_infergate.core.domain.outcome import Session

PREDICTED_REQUESTS: Final = 20_000
"""Requests that are simulated."""


def with_predictions(session: Session) -> Session:
    """Return a session whose load figures have the p95 that the simulation predicts for them."""
    found = {}
    for index, result in enumerate(session.cases):
        measurement = result.measurement
        if measurement is None or measurement.load is None:
            continue
        load, case = measurement.load, result.case
        # Whole inputs are served one by one: only the calls of this very case are like those of the server.
        cases = session.cases if load.max_batch == case.batch_size else (result,)
        axes = model_name(case), case.device, case.runtime, case.dtype, case.threads, result.hardware
        for made in deployments([msgspec.structs.replace(session, cases=cases)]):
            own = made.model, made.device, made.runtime, made.dtype, made.threads, made.hardware
            if own == axes and made.workers == 1 and load.max_batch <= made.service.largest:
                figures = msgspec.structs.replace(
                    load,
                    predicted_p95=predicted_p95(load, made),
                    predicted_slow_p95=predicted_p95(load, made, made.slowdown),
                )
                measurement = msgspec.structs.replace(measurement, load=figures)
                found[index] = msgspec.structs.replace(result, measurement=measurement)
    if not found:
        return session
    cases = tuple(found.get(index, result) for index, result in enumerate(session.cases))
    return msgspec.structs.replace(session, cases=cases)


def predicted_p95(load: LoadFigures, deployment: Deployment, slowdown: float = 1.0) -> float | None:
    """Simulate a server at the rate of a load; return its p95 in seconds.

    Calls take as long as measured, times `slowdown`. ``None`` without a rate, and if the queue would grow
    without bound.
    """
    if load.load.rate is None:
        return None
    moments = arrivals(Demand(rate=load.load.rate), PREDICTED_REQUESTS, 0)
    simulated = simulate(
        moments, deployment.service, Server(max_batch=load.max_batch), seed=0, slowdown=slowdown
    )
    return simulated.p95 if simulated.stable else None
