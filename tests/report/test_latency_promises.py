"""The p95 of a plan as text."""

import msgspec
import pytest

from pytest_infergate.core.domain.advice_values import Plan, QueueLoad
from pytest_infergate.core.domain.sampled import Sampled
from pytest_infergate.report.latency_promises import p95_text, sampled_text

LOAD = QueueLoad(requests=4500, mean=0.01, p50=0.01, p95=0.012, p99=0.02, utilisation=0.3, mean_batch=1.0)
PLAN = Plan(
    deployment="box (cpu)",
    instance="box",
    price="own hardware",
    usd_per_hour=0.1,
    user_specified=True,
    device="cpu",
    runtime="eager",
    hardware="x",
    max_batch=1,
    max_wait=0.0,
    instances=1,
    usd_per_month=73.0,
    usd_per_month_with_spare=146.0,
    usd_per_million=1.0,
    load=LOAD,
)
SLOW = msgspec.structs.replace(PLAN, slow_load=msgspec.structs.replace(LOAD, p95=0.031), slowdown=1.7)
SEEN = Sampled(calls=459, seconds=4.2, ordered=True, paced=1.13)


@pytest.mark.parametrize(
    ("plan", "sampled", "text"),
    [
        (PLAN, None, "12.0 ms"),
        (SLOW, SEEN, "12.0 ms, slow 31.0 ms"),
        (SLOW, Sampled(calls=458, ordered=True), "12.0 ms, slow 31.0 ms, not promised"),
        (SLOW, Sampled(calls=5000), "12.0 ms, slow 31.0 ms, not promised"),
        (
            msgspec.structs.replace(SLOW, slow_load=msgspec.structs.replace(LOAD, stable=False)),
            SEEN,
            "12.0 ms, slow without bound",
        ),
    ],
)
def test_a_p95_is_shown_as_measured_and_in_a_slow_launch(plan, sampled, text):
    assert p95_text(msgspec.structs.replace(plan, sampled=sampled)) == text


def test_an_answer_says_what_was_sampled():
    assert sampled_text(PLAN) == ""
    whole = sampled_text(msgspec.structs.replace(SLOW, sampled=SEEN))
    for part in (
        "459 calls",
        "4.2",
        "recorded order",
        "1.13 times",
        "1.70 times",
        "limit is held against slow",
    ):
        assert part in whole
    weak = sampled_text(msgspec.structs.replace(SLOW, sampled=Sampled(calls=30)))
    for part in ("30 calls", "fewer than the 459", "independently", "no paced calls", "no p95 is promised"):
        assert part in weak
