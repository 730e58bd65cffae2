"""Cost and exactness of the exact counters.

    python benchmarks/counters.py [--launches 15] [--repetitions 10]

Cost: the time for counting everything once and the time of a forward pass are measured alternately. The limit
is 6 passes or 0.5 s, whichever is more. Exactness: every case of the examples is counted repeatedly, in fresh
processes with different hash seeds, and compared with the first launch in the same way as by the gate. Any
alarm is a bug.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import torch

from pytest_infergate.core.domain.measurement import Counters, Latency, Measurement, WarmUp
from pytest_infergate.core.domain.outcome import CaseResult, Outcome, Verdict
from pytest_infergate.core.domain.records import CounterRecord
from pytest_infergate.core.domain.stats import quantile_estimate
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate import counter_changes as core
from pytest_infergate.devices.cpu import Cpu
from pytest_infergate.measure.counting import count_call
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.placement import placed

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
PAIRS = 5


def examples() -> dict[str, Invocation]:
    """Return the measured cases of the examples."""
    from infergate_examples.embedder import PASSAGE, QUERY, load_embedder, random_tokens
    from infergate_examples.voice import babble, frames, load_voice_activity

    embedder, detector = load_embedder(), load_voice_activity()
    cases = {"query": Invocation(embedder, random_tokens(1, QUERY), {})}
    cases |= {f"index-b{n}": Invocation(embedder, random_tokens(n, PASSAGE), {}) for n in (4, 16)}
    cases |= {f"frames-b{n}": Invocation(detector, (frames(n),), {}) for n in (1, 8, 32)}
    return cases | {"live-stream": Invocation(detector.listen, (babble(seconds=0.5),), {})}


def published() -> dict[str, Invocation]:
    """Return well-known models with random weights."""
    from transformers import (
        BertConfig,
        BertModel,
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    image = torch.randn(1, 3, 224, 224)
    return {
        "resnet-50": Invocation(ResNetForImageClassification(ResNetConfig()), (image,), {}),
        "vit-b-16": Invocation(ViTForImageClassification(ViTConfig()), (image,), {}),
        "bert-base-128": Invocation(BertModel(BertConfig()), (torch.randint(0, 30_000, (1, 128)),), {}),
    }


@contextmanager
def ready(invocation: Invocation) -> Iterator[tuple[Callable[[], Any], dict[str, int] | None]]:
    """Place a model on the CPU; yield its call, and the bytes of its weights by dtype."""
    with placed(invocation, "cpu") as model:

        def call() -> None:
            result = model.call()
            if isinstance(result, Iterator):
                for _ in result:
                    pass

        call()
        yield call, model.weights


def count(call: Callable[[], Any], weights: dict[str, int] | None) -> Counters:
    """Count everything once."""
    taken = count_call(call, Cpu(), compiled={}, weights=weights)
    if taken.notes:
        raise SystemExit(f"a counter was lost: {taken.notes}")
    return taken.counters


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def cost() -> None:
    """Print the forward passes and the seconds that counting takes, and the FLOPs."""
    print(f"{'case':<14} {'forward':>10} {'counting':>10} {'passes':>7} {'GFLOP':>9} {'operators':>9}")
    for name, invocation in {**examples(), **published()}.items():
        with ready(invocation) as (call, weights):
            pairs = [(seconds(call), seconds(lambda: count(call, weights))) for _ in range(PAIRS)]
            totals = count(call, weights).totals
        forward = median(one for one, _ in pairs)
        counting = median(other for _, other in pairs)
        ratio = median(other / one for one, other in pairs)
        within = "" if counting <= max(6 * forward, 0.5) else "  over the limit"
        print(
            f"{name:<14} {1e3 * forward:>7.2f} ms {1e3 * counting:>7.2f} ms {ratio:>7.1f} "
            f"{totals['flops'] / 1e9:>9.3f} {totals['operators']:>9}{within}"
        )


def record(name: str, counters: Counters) -> CounterRecord:
    """Return the counters in the form that the gate records."""
    zero = quantile_estimate([1.0], 0.5)
    measurement = Measurement(
        latency=Latency(count=1, mean=1.0, p50=zero, p90=zero, p95=zero, p99=zero),
        throughput=1.0,
        cold_start=1.0,
        warm_up=WarmUp(calls=1, seconds=1.0, steady=True),
        counters=counters,
        threads=torch.get_num_threads(),
    )
    result = CaseResult(
        case=Case(test=f"examples::{name}", device="cpu"),
        nodeid=name,
        outcome=Outcome.MEASURED,
        measurement=measurement,
    )
    found = core.counter_record(result, torch.__version__)
    if found is None:
        raise SystemExit(f"{name}: nothing was counted")
    return found


def launch(repetitions: int) -> None:
    """Count every case several times in this process, and print one record per line."""
    for name, invocation in examples().items():
        with ready(invocation) as (call, weights):
            for _ in range(repetitions):
                print(msgspec.json.encode(record(name, count(call, weights))).decode())


def exactness(launches: int, repetitions: int) -> int:
    """Compare every record with the first one of its case; print the alarms and return their number."""
    first: dict[Case, CounterRecord] = {}
    checks = alarms = 0
    for number in range(launches):
        env = {**os.environ, "PYTHONHASHSEED": str(number), "INFERGATE_PADDING": "x" * 97 * number}
        command = [sys.executable, __file__, "--launch", "--repetitions", str(repetitions)]
        lines = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
        for line in lines.splitlines():
            now = msgspec.convert(json.loads(line), CounterRecord)
            before = first.setdefault(now.case, now)
            rows = core.compare_counters(before, now, {}, 0.01)
            checks += 1
            moved = [row for row in rows if row.verdict is not Verdict.EQUIVALENT]
            alarms += bool(moved)
            for row in moved:
                print(f"{now.case.test}: {row.metric} {row.baseline} -> {row.candidate}")
    print(f"{checks} countings of {len(first)} cases in {launches} launches: {alarms} alarms")
    return alarms


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--launches", type=int, default=15)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--launch", action="store_true", help="one launch; used by the benchmark itself")
    given = parser.parse_args()
    if given.launch:
        launch(given.repetitions)
        return
    cost()
    print()
    sys.exit(bool(exactness(given.launches, given.repetitions)))


if __name__ == "__main__":
    main()
