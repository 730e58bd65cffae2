"""Overhead of infergate: inside the timed region, in a run without inference tests, and in collection.

    python benchmarks/overhead.py

Every figure is the median of ratios or differences between pairs that are measured alternately in this run.
Whole pytest runs are compared by their processor time. Targets: 150 ns per call, 1.02 times, 1.5 times.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PAIRS = 21
CALLS = 20_000
PLAIN = "import pytest\n\n\n@pytest.mark.parametrize('i', range({count}))\ndef test_plain(i):\n    pass\n"
MARKED = (
    "import pytest\n\n\n@pytest.mark.parametrize('i', range({count}))\n@pytest.mark.inference\n"
    "def test_model(infer, i):\n    infer(lambda: 1)\n"
)
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Environment in which modules are compiled once and not in every run, as on most machines."""
ALONE = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:benchmark")


def work(x: int) -> int:
    """Replace a model by a call that takes almost no time."""
    return x + 1


def by_hand(count: int) -> list[int]:
    """Time calls in the loop that users write by hand."""
    clock = time.perf_counter_ns
    times = [0] * count
    for index in range(count):
        start = clock()
        work(1)
        stop = clock()
        times[index] = stop - start
    return times


def timed_region() -> tuple[float, float]:
    """Return the median overhead per call over the loop by hand, and the time by hand, in nanoseconds."""
    from pytest_infergate.instruments.timed_calls import timed

    call = functools.partial(work, 1)
    differences, hand = [], []
    for _ in range(PAIRS):
        own = median(by_hand(CALLS))
        times = [0] * CALLS
        timed(call, time.perf_counter_ns, times)
        differences.append(median(times) - own)
        hand.append(own)
    return median(differences), median(hand)


Run = tuple[Path, tuple[str, ...]]
"""A folder, and arguments of pytest."""


def seconds(run: Run) -> float:
    """Return the processor time of one pytest run, which does not include stolen time."""
    folder, arguments = run
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "pytest", *ALONE, *arguments],
        cwd=folder,
        env=COMPILED,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def ratio(one: Run, other: Run) -> tuple[float, float, float]:
    """Return the median ratio of the times of two alternating runs, and its quartiles."""
    seconds(one), seconds(other)
    ratios = []
    for index in range(PAIRS):
        if index % 2:
            below = seconds(other)
            ratios.append(seconds(one) / below)
        else:
            above = seconds(one)
            ratios.append(above / seconds(other))
    ratios.sort()
    return ratios[PAIRS // 2], ratios[PAIRS // 4], ratios[-PAIRS // 4]


def main() -> None:
    """Print the table."""
    difference, hand = timed_region()
    print(f"timed region           {difference:+.0f} ns a call over {hand:.0f} ns by hand      (target +150)")
    with tempfile.TemporaryDirectory() as name:
        plain, marked = Path(name, "plain"), Path(name, "marked")
        for folder, source, count in ((plain, PLAIN, 2000), (marked, MARKED, 2000)):
            folder.mkdir()
            folder.joinpath("pytest.ini").write_text("[pytest]\n")
            folder.joinpath("test_it.py").write_text(source.format(count=count))
        thousand = Path(name, "thousand")
        thousand.mkdir()
        thousand.joinpath("pytest.ini").write_text("[pytest]\n")
        thousand.joinpath("test_it.py").write_text(PLAIN.format(count=1000))
        run = ratio((thousand, ()), (thousand, ("-p", "no:infergate")))
        print(
            "1,000 unmarked tests   {:.3f} times without the plugin ({:.3f}-{:.3f}, target 1.02)".format(*run)
        )
        collect = ("--collect-only",)
        collected = ratio((marked, collect), (plain, collect))
        print("2,000 marked, collect  {:.3f} times plain ones ({:.3f}-{:.3f}, target 1.5)".format(*collected))
        measured = ratio((marked, (*collect, "--infer-devices=cpu")), (plain, collect))
        print("  the same, measuring  {:.3f} times plain ones ({:.3f}-{:.3f})".format(*measured))


if __name__ == "__main__":
    main()
