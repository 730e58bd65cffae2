"""Compare equal with fitted weights of the reference workloads, on recorded launches of identical code.

    python benchmarks/stored_fit.py measure LAUNCHES    # launch six models of workloads.py, and keep times
    python benchmarks/stored_fit.py score               # errors and verdicts, on the launches of both files

Each launch is compared with others, drawn at random, as its baseline: as they are, and as if it were slower.
Launches of six models are in benchmarks/results/stored_workloads.jsonl, and sessions of the examples in
benchmarks/results/stored_gate.jsonl.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from shutil import copy
from statistics import mean, median
from typing import Any
from unittest import mock

from pytest_infergate.core.domain.measurement import Estimate, Latency, Measurement
from pytest_infergate.core.domain.outcome import Comparison
from pytest_infergate.core.domain.records import BaselinePoint
from pytest_infergate.core.gate import stored_times

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LAUNCHES = RESULTS / "stored_workloads.jsonl"
MODELS = ("mlp", "conv", "transformer", "lstm", "attention", "tabular")
SESSIONS = (5, 8, 12)
SLOWDOWNS = (1.0, 1.3, 1.6, 2.0)
DRAWS = 10
TEST = """
import pytest

from workloads import load


@pytest.mark.parametrize("name", {models!r})
@pytest.mark.inference
def test_workload(infer, name):
    model, x = load(name)
    infer(model, x)
"""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(launches: int) -> None:
    """Append the medians of some launches, each a fresh process."""
    first = 1 + max((row["session"] for row in rows(LAUNCHES)), default=-1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(HERE / "workloads.py", folder)
        (folder / "stretch.json").write_text("{}")
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_workloads.py").write_text(TEST.format(models=MODELS))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--infer-devices=cpu",
                   "--infer-max-time=2.5", "--infer-json=results.json"]  # fmt: skip
        for session in range(first, first + launches):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            with LAUNCHES.open("a") as file:
                for case in json.loads((folder / "results.json").read_text())["cases"]:
                    found = case["measurement"]
                    row = {"session": session, "case": case["case"]["params"],
                           "p50": found["latency"]["p50"]["value"],
                           "reference_work": found.get("reference_work", {}),
                           "contention": found.get("contention"),
                           "page_faults": found.get("page_faults")}  # fmt: skip
                    file.write(json.dumps(row) + "\n")


def points(path: Path) -> dict[str, list[BaselinePoint]]:
    """Return the sessions of each case."""
    found: dict[str, list[BaselinePoint]] = {}
    for row in rows(path):
        share = row.get("contention") or 0.0
        found.setdefault(row["case"], []).append(
            BaselinePoint(
                created=f"{row['session']:04}",
                p50=row["p50"],
                count=100,
                reference_work=row.get("reference_work") or row["yardsticks"],
                contended=share > 0.05,
                contention=share if share > 0.05 else None,
                page_faults=row.get("page_faults"),
            )
        )
    return found


def compared(
    cases: dict[str, list[BaselinePoint]], sessions: int, slowdown: float
) -> Iterator[tuple[str, Comparison]]:
    """Compare each session of each case with so many others."""
    chance = random.Random(0)  # noqa: S311 - it shuffles
    for name, found in cases.items():
        for index, one in enumerate(found):
            others = found[:index] + found[index + 1 :]
            for _ in range(DRAWS if len(others) > sessions else len(others) == sessions):
                history = sorted(chance.sample(others, sessions), key=lambda point: point.created)
                exact = Estimate(value=slowdown * one.p50)
                candidate = Measurement(
                    latency=Latency(count=100, mean=exact.value, p50=exact, p90=exact, p95=exact, p99=exact),
                    reference_work=one.reference_work,
                    contention=one.contention,
                    page_faults=one.page_faults,
                )
                yield name, stored_times.compare_time(history, candidate, 0.25)


def error(found: Callable[[], Iterator[tuple[str, Comparison]]]) -> dict[str, float]:
    """Return the root mean square of the log effects of each case, in per cent."""
    squares: dict[str, list[float]] = {}
    for name, row in found():
        squares.setdefault(name, []).append(math.log1p(row.effect or 0.0) ** 2)
    return {name: 100 * math.sqrt(mean(values)) for name, values in squares.items()}


def score() -> None:
    """Print errors and verdicts with equal and with fitted weights."""
    without = mock.Mock(return_value=None)
    ways = {
        "raw": mock.patch.multiple(stored_times, MAX_CORRECTION=1.0, fit_speeds=without),
        "equal": mock.patch.object(stored_times, "fit_speeds", without),
        "fitted": nullcontext(),
    }
    for path in (LAUNCHES, RESULTS / "stored_gate.jsonl"):
        cases = points(path)
        counts = sorted({min(sessions, min(map(len, cases.values())) - 1) for sessions in SESSIONS})
        for sessions in counts:
            print(f"\n{path.name}: {sessions} sessions on record, errors in %")
            for way, patch in ways.items():
                with patch:
                    errors = error(lambda: compared(cases, sessions, 1.0))  # noqa: B023
                total = math.sqrt(mean(value**2 for value in errors.values()))
                each = ", ".join(f"{name.rpartition('::')[2]} {value:.1f}" for name, value in errors.items())
                print(f"  {way:7} {total:5.1f}   {each}")
            for way in ("equal", "fitted"):
                for slowdown in SLOWDOWNS:
                    with ways[way]:
                        rows_ = [row for _, row in compared(cases, sessions, slowdown)]
                    verdicts = Counter(row.verdict.value for row in rows_)
                    smallest = median(row.smallest_detectable or math.nan for row in rows_)
                    words = ", ".join(f"{count} {word}" for word, count in verdicts.most_common())
                    print(f"  {way:7} x{slowdown:<4} smallest detectable {smallest:5.0%}: {words}")


def main() -> None:
    match sys.argv[1:]:
        case ["measure", launches]:
            measure(int(launches))
        case ["score"]:
            score()
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
