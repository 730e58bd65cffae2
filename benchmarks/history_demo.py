"""The page of a simulated history: 90 days of 20 cases, with planted steps and drifts.

    python benchmarks/history_demo.py history.html

It is marked as simulated. What is planted is printed, so that what the page says can be compared with it.
"""
# ruff: noqa: S311 - simulations

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pytest_infergate.core.domain.history_values import HistoryEntry, HistorySession
from pytest_infergate.core.domain.records import AcceptedChange, Baseline, BaselineCase
from pytest_infergate.core.domain.values import Case, Hardware
from pytest_infergate.core.gate.trends import corrected, trends_of
from pytest_infergate.history.change_points import change_points
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.session_history import SessionHistory
from pytest_infergate.report.history_page import render_history

DAYS = 90
START = datetime(2026, 1, 5, 3, tzinfo=timezone.utc)
HARDWARE = Hardware(cpu_model="AMD EPYC 7763", cores=4)
TESTS = ("embedder::test_encode", "chat::test_first_token", "chat::test_generate", "video::test_frame",
         "voice::test_stream")  # fmt: skip
BATCHES = (1, 8, 32, 64)
STEPS = {("chat::test_generate", 8): (62, 1.15), ("voice::test_stream", 1): (40, 0.88),
         ("embedder::test_encode", 32): (30, 1.25)}  # fmt: skip
"""Factor from a day on."""
DRIFTS = {("video::test_frame", 64): 1.2, ("embedder::test_encode", 1): 1.06}
"""Factor that is reached over all days."""
ACCEPTED = {("embedder::test_encode", 32): (31, "larger vocabulary, which was agreed on")}
RELEASES = {0: "v1.0", 28: "v1.1", 60: "v1.2"}


def factor(case: tuple[str, int], day: int) -> float:
    """Return how much longer a case takes on a day than at first."""
    since, step = STEPS.get(case, (0, 1.0))
    return (step if day >= since else 1.0) * DRIFTS.get(case, 1.0) ** (day / (DAYS - 1))


def case_of(test: str, batch_size: int) -> Case:
    name, _, function = test.partition("::")
    return Case(test=f"tests/test_{name}.py::{function}", device="cpu", batch_size=batch_size)


def day_session(day: int, generator: random.Random) -> HistorySession:
    """Return the run of a day, whose machine is up to 10 % faster or slower than usual."""
    machine = generator.lognormvariate(0, 0.04)
    entries = []
    for number, test in enumerate(TESTS):
        for batch_size in BATCHES:
            p50 = 0.004 * (1 + number) * batch_size**0.8
            p50 *= factor((test, batch_size), day) * machine * generator.lognormvariate(0, 0.015)
            failed = STEPS.get((test, batch_size), (0, 1.0))[0] == day and factor((test, batch_size), day) > 1
            work = {name: 1e-3 * machine * generator.lognormvariate(0, 0.004) for name in ("gemm", "copy")}
            entries.append(
                HistoryEntry(
                    case=case_of(test, batch_size),
                    hardware=HARDWARE.id,
                    verdict="slower" if failed else "equivalent",
                    failed=failed,
                    p50=p50,
                    reference_work=work,
                )
            )
    created = START + timedelta(days=day)
    return HistorySession(
        project="demo",
        created=created.isoformat(),
        commit=hashlib.sha256(str(day).encode()).hexdigest()[:40],
        release=RELEASES.get(day),
        simulated=True,
        hardware={HARDWARE.id: HARDWARE},
        entries=tuple(entries),
    )


def accepted_session(case: tuple[str, int]) -> HistorySession:
    """Return the document that accepts the change of a case."""
    day, reason = ACCEPTED[case]
    created = (START + timedelta(days=day, hours=6)).isoformat()
    entry = BaselineCase(
        case=case_of(*case), sessions=(), accepted=(AcceptedChange(created=created, reason=reason),)
    )
    baseline = Baseline(hardware=HARDWARE, cases=(entry,))
    return HistorySession(project="demo", created=created, simulated=True, baseline=baseline)


def main() -> None:
    generator = random.Random(90)
    with tempfile.TemporaryDirectory(prefix="infergate-") as folder:
        history = SessionHistory(open_store(f"{folder}/history", Path(folder)))
        for day in range(DAYS):
            history.add(day_session(day, generator))
        for case in ACCEPTED:
            history.add(accepted_session(case))
        series = history.series()
        trends = trends_of(series, change_points([corrected(one) for one in series]))
        Path(sys.argv[1]).write_text(
            render_history(trends, "20 simulated cases", simulated=history.is_simulated()), encoding="utf-8"
        )
    for key, (day, step) in STEPS.items():
        since = f"{START + timedelta(days=day):%Y-%m-%d}"
        print(f"step  {step - 1:+.0%} on {since}: {case_of(*key).name}")
    for key, whole in DRIFTS.items():
        print(f"drift {whole - 1:+.0%} over all days: {case_of(*key).name}")


if __name__ == "__main__":
    main()
