"""The simulation at the rate of a load test, beside its measurement."""

import msgspec
import pytest
from core_values import ENVIRONMENT, HARDWARE, OTHER_HARDWARE, case, latency, measurement, result

from pytest_infergate.core.advice.load_prediction import with_predictions
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import Estimate, LoadFigures
from pytest_infergate.core.domain.outcome import Policy, Session
from pytest_infergate.core.gate import decide


def load(rate=None, max_batch=1, scenario="server"):
    return LoadFigures(
        load=Load(scenario=scenario, rate=rate), seconds=20.0, queries=200, answered=200, requests=200,
        p95=Estimate(value=0.03), max_batch=max_batch, mean_batch=1.0, busy=0.2, longest_queue=3,
    )  # fmt: skip


def timed(seconds=0.02, size=1, hardware=HARDWARE, **fields):
    constant = msgspec.structs.replace(latency(seconds), mean=seconds, percentiles=(seconds,) * 101)
    return result(
        of=case(batch_size=size),
        hardware=hardware,
        measurement=measurement(seconds, latency=constant, **fields),
    )


def predicted(*results):
    session = Session(
        tool_version="0.1.0", created="2026-07-01T12:00:00Z", environment=ENVIRONMENT, cases=results,
        gate=decide.gate_session((), Policy()),
    )  # fmt: skip
    return [
        None if one.measurement.load is None else one.measurement.load.predicted_p95
        for one in with_predictions(session).cases
    ]


def test_constant_service_has_the_p95_of_an_m_d_1_queue():
    """At half load, 95 % of requests wait at most 1.97 service times (Erlang's formula, by quadrature)."""
    (p95,) = predicted(timed(0.02, load=load(25.0)))
    assert p95 == pytest.approx(0.02 * (1 + 1.97), rel=0.05)


def test_calls_of_a_slower_launch_are_predicted_too():
    """Launches of one machine differ by a few per cent, which is more than a server near saturation can take."""
    session = Session(
        tool_version="0.1.0", created="2026-07-01T12:00:00Z", environment=ENVIRONMENT,
        cases=(timed(0.02, load=load(20.0)), timed(0.02, size=2, load=load(98.0, max_batch=2))),
        gate=decide.gate_session((), Policy()),
    )  # fmt: skip
    one, two = (case.measurement.load for case in with_predictions(session).cases)
    assert one.predicted_p95 < one.predicted_slow_p95
    assert two.predicted_p95 is not None
    assert two.predicted_slow_p95 is None


def test_batches_use_the_times_of_all_sizes():
    results = timed(0.01), timed(0.02, size=8, load=load(150.0, max_batch=8))
    slow = timed(0.02), timed(0.04, size=8, load=load(150.0, max_batch=8))
    (none, fast), (_, slower) = predicted(*results), predicted(*slow)
    assert none is None
    assert 0.01 < fast < slower


def test_a_load_beyond_saturation_or_without_a_rate_has_no_prediction():
    assert predicted(timed(0.02, load=load(60.0))) == [None]
    assert predicted(timed(0.02, load=load(scenario="single-stream"))) == [None]


def test_whole_inputs_that_are_served_alone_are_predicted_from_their_own_calls():
    _, p95 = predicted(timed(0.001), timed(0.02, size=8, load=load(2.0)))
    assert 0.02 <= p95 < 0.03


def test_another_machine_predicts_nothing():
    results = timed(0.01, hardware=OTHER_HARDWARE), timed(0.02, size=8, load=load(150.0, max_batch=8))
    alone = predicted(results[1])
    assert predicted(*results)[1] == alone[0]


def test_a_session_without_load_is_the_same_object():
    session = Session(
        tool_version="0.1.0", created="2026-07-01T12:00:00Z", environment=ENVIRONMENT, cases=(timed(),),
        gate=decide.gate_session((), Policy()),
    )  # fmt: skip
    assert with_predictions(session) is session
