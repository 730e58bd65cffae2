"""Sessions that fill every section of a report, for tests and benchmarks of its size."""

from itertools import pairwise

import msgspec

from pytest_infergate.core.domain.advice_values import (
    Advice,
    CostPoint,
    Crossing,
    Demand,
    Plan,
    QueueLoad,
    Sensitivity,
    Sweep,
)
from pytest_infergate.core.domain.measurement import Counters, Peaks
from pytest_infergate.core.domain.outcome import Against, Outcome, Verdict

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Batch sizes of each test."""
AGAINST = Against(
    revision="main",
    commit="1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d",
    launches=10,
    seconds=900.0,
    accepted={"test_model_3*": "a new tokenizer"},
)
PEAKS = Peaks(flops={"float32": 2e12}, bandwidth=2e10)
OFFERS = ("c7i.xlarge (cpu)", "c7i.xlarge (cpu, 4 workers)", "g6.xlarge (cuda)")
PRICE = "aws/{} in us-east-1, on demand, as of 2026-07-20"


def full(sample, count, *, paired=False):
    """A session of so many cases, eight a test: times, counters, energy, cost, notes, and some that failed.

    `sample` makes its parts. One case of twenty regressed, one of ten was skipped; those of a paired run
    were compared call by call.
    """
    pairs = [
        _skipped(sample, index) if index % 10 == 9 else _measured(sample, index, paired)
        for index in range(count)
    ]
    failed = sum(verdict.failed for _, verdict in pairs)
    cases = tuple(verdict.case for _, verdict in pairs)
    session = sample.session(
        pairs,
        passed=not failed,
        headline=f"{'FAILED' if failed else 'passed'}: {count} of {count} cases decided",
        decided=count,
        reasons=(f"{failed} cases regressed",) if failed else (),
        new=cases[:3],
        missing=cases[-2:],
        renamed=((cases[0], cases[-1]),),
        deselected=(sample.note("tests/test_other.py::test_other: no device of this run"),),
    )  # fmt: skip
    return msgspec.structs.replace(session, against=AGAINST) if paired else session


def advised(models, offers=OFFERS):
    """An answer for each of so many models, with every picture that an answer can have."""
    return [_answer(f"tests/models/test_family_{index // 10}.py::test_model_{index}", offers) for index in range(models)]  # fmt: skip


def _case(sample, index):
    test = f"tests/models/test_family_{index // 80}.py::test_model_{index // 8}"
    return sample.case(test, batch_size=SIZES[index % 8])


def _skipped(sample, index):
    note = sample.note(hint="unset it")
    return sample.pair(
        _case(sample, index),
        Verdict.NOT_MEASURED,
        {"outcome": Outcome.SKIPPED, "hardware": None, "reason": note},
        notes=(note,),
    )


def _measured(sample, index, paired):
    size = SIZES[index % 8]
    p50 = 0.002 * size**0.8 * (1 + 0.01 * (index % 37))
    counters = Counters(
        totals={
            "flops": size * 2 * 10**9,
            "operators": 412,
            "bytes_read": size * 31_415_926,
            "bytes_written": size * 14_142_135,
            "dtype_casts": 3,
            "allocations": 271,
            "weight_bytes": 90_868_736,
            "peak_memory_bytes": size * 35_200_000,
            "views": 1024,
        },
        weights={"float32": 90_868_736},
        architecture="AVX512",
    )
    measurement = sample.measurement(
        p50,
        0.03 + 0.01 * (index % 5),
        counters=counters,
        energy=sample.energy(0.0123 * size, batch_size=size),
        notes=(sample.note(f"page faults: {4096 * size:,} a call", "set MALLOC_TRIM_THRESHOLD_=2147483648"),),
    )
    regressed = index % 20 == 0
    return sample.pair(
        _case(sample, index),
        Verdict.REGRESSED if regressed else Verdict.EQUIVALENT,
        {"measurement": measurement, "peaks": PEAKS, "price": sample.price(), "demand": 50.0, "unit": "texts"},
        failed=regressed,
        comparisons=_compared(sample, p50, regressed=regressed, paired=paired),
        budgets=(sample.check(limit=2e3 * p50, value=1e3 * p50 * 1.1),),
    )  # fmt: skip


def _compared(sample, p50, *, regressed, paired):
    verdict = Verdict.REGRESSED if regressed else Verdict.EQUIVALENT
    evidence = {"evidence": "paired", "tolerance": 0.02, "sessions": 10} if paired else {}
    time = sample.time(verdict, 0.3 if regressed else 0.003, baseline=p50, **evidence)
    if not regressed:
        return time, sample.memory(), sample.counter("operators", 412, 412)
    causes = (
        sample.cause(),
        sample.cause(2, "aten::_to_copy", "embeddings", 0.3),
        sample.cause(1, "aten::add", ""),
    )
    return (
        time,
        sample.memory(Verdict.REGRESSED, 0.2),
        sample.counter("operators", 408, 412, causes=causes),
        sample.counter("dtype_casts", 1, 3),
    )


def _plan(offer, rank, max_batch, share):
    instance = offer.partition(" ")[0]
    usd = 0.1785 if instance.startswith("c7i") else 0.8048
    month = usd * 730 * (1 + rank)
    return Plan(
        deployment=offer,
        instance=instance,
        price=PRICE.format(instance),
        usd_per_hour=usd,
        user_specified=True,
        device="cuda" if "cuda" in offer else "cpu",
        runtime="eager",
        workers=4 if "workers" in offer else 1,
        hardware="test-cpu-4c-1a2b3c4d",
        max_batch=max_batch,
        max_wait=0.1 * share,
        instances=1 + rank,
        usd_per_month=month,
        usd_per_month_with_spare=month + usd * 730,
        usd_per_million=month / 131.4,
        load=QueueLoad(
            requests=4500, mean=0.03, p50=0.028, p95=0.03 + 0.004 * max_batch * (1 + share), p99=0.12,
            utilisation=0.48, mean_batch=1.7,
        ),
        cold_start=1.5,
        weights_bytes=90_868_736,
    )  # fmt: skip


def _answer(model, offers):
    """Every plan that is tried: each batch size, and each wait for it to fill."""
    considered = [
        _plan(offer, rank, size, share)
        for rank, offer in enumerate(offers)
        for size in SIZES
        for share in ((0.0, 0.1, 0.25) if size > 1 else (0.0,))
    ]
    rates = [50 * 10 ** (step / 8) for step in range(-16, 17)]
    return Advice(
        model=model,
        demand=Demand(rate=50.0),
        limit=0.1,
        utilisation=0.6,
        deployments=tuple(offers),
        plans=tuple(_plan(offer, rank, 8, 0.1) for rank, offer in enumerate(offers)),
        considered=tuple(considered),
        sweeps=tuple(
            Sweep(
                deployment=offer,
                batch_sizes=SIZES,
                p50=tuple(0.002 * size**0.8 for size in SIZES),
                throughput=tuple(500 * size**0.2 * (1 + rank) for size in SIZES),
            )
            for rank, offer in enumerate(offers)
        ),
        crossings=tuple(Crossing(rate=100.0 * (1 + rank), below=a, above=b) for rank, (a, b) in enumerate(pairwise(offers))),
        costs=tuple(
            CostPoint(
                rate=rate,
                usd_per_month=tuple(130.3 * (1 + rank) * max(1.0, round(rate / 50)) for rank in range(len(offers))),
            )
            for rate in rates
        ),
        sensitivities=(
            Sensitivity(assumption="its price +20 %", winner=offers[0]),
            Sensitivity(assumption="its calls as slow, and all others as fast, as another launch may be", winner=offers[-1]),
        ),
    )  # fmt: skip
