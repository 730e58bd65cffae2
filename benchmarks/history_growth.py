"""How histories grow: reading a baseline, adding a session, the page, writers at once, killed writers.

    python benchmarks/history_growth.py growth --measurements 10000 100000 1000000
    python benchmarks/history_growth.py writers --processes 16 --sessions 200
    python benchmarks/history_growth.py kills --kills 300
    python benchmarks/history_growth.py page --series 1000
    python benchmarks/history_growth.py changes

Times are medians of three. Sessions are simulated: 500 cases of one hardware class each, measured with a
spread of 2 %. PostgreSQL is started in a temporary folder on this machine.
"""
# ruff: noqa: S311 - simulations

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import os
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from history_places import postgres, postgres_absence, repository

from pytest_infergate.core.domain.history_values import HistoryEntry, HistorySession
from pytest_infergate.core.domain.records import Baseline, BaselineCase, BaselinePoint
from pytest_infergate.core.domain.values import Case, Hardware
from pytest_infergate.core.gate.trends import corrected, trends_of
from pytest_infergate.history.change_points import change_points
from pytest_infergate.history.documents import encoded, stamp
from pytest_infergate.history.history_baselines import HistoryBaselines
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.measurements import MEASUREMENT_COLUMNS
from pytest_infergate.history.parquet_parts import compact
from pytest_infergate.history.pending import PENDING_FOLDER, keep_pending, push
from pytest_infergate.history.session_folder import FolderSessions
from pytest_infergate.history.session_history import SessionHistory
from pytest_infergate.history.session_tables import TableSessions
from pytest_infergate.report.history_page import render_history

CASES = 500
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
HARDWARE = Hardware(cpu_model="Simulated CPU", cores=4)
COUNTERS = {name: 10**index for index, name in enumerate(("flops", "operators", "bytes_read", "allocations"))}


def simulated(number: int, cases: int = CASES, seed: int = 0) -> tuple[HistorySession, Baseline]:
    """Return a run, and what it records into the baseline."""
    generator = random.Random(f"{seed} {number}")
    created = (START + timedelta(hours=number, microseconds=seed)).isoformat(timespec="microseconds")
    entries, recorded = [], []
    for index in range(cases):
        case = Case(test=f"tests/models/test_family_{index // 50}.py::test_model_{index // 4}", device="cpu",
                    batch_size=(1, 8, 32, 128)[index % 4])  # fmt: skip
        p50 = float(f"{0.002 * (1 + index / 100) * generator.lognormvariate(0, 0.02):.4e}")
        speed = {
            name: float(f"{1e-3 * generator.lognormvariate(0, 0.02):.4e}")
            for name in ("gemm", "copy", "dispatch")
        }
        entries.append(
            HistoryEntry(
                case=case, hardware=HARDWARE.id, verdict="equivalent", p50=p50, low=0.99 * p50,
                high=1.01 * p50,
                p95=1.2 * p50, throughput=1 / p50, cold_start=20 * p50, peak_memory=10**8,
                reference_work=speed, counters=COUNTERS,
            )
        )  # fmt: skip
        point = BaselinePoint(created=created, p50=p50, count=400, reference_work=speed)
        recorded.append(BaselineCase(case=case, sessions=(point,)))
    run = HistorySession(
        project="benchmark",
        created=created,
        hardware={HARDWARE.id: HARDWARE},
        entries=tuple(entries),
        simulated=True,
    )
    return run, Baseline(hardware=HARDWARE, cases=tuple(recorded), packages={created: {"torch": "2.13.0"}})


def seconds(call: Callable[[], object], times: int = 3) -> float:
    """Return the median time of a call."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def local_address(kind: str, folder: str) -> str:
    """Return the address of a place in a folder."""
    return {"sqlite": f"sqlite:///{folder}/h.db", "folder": f"{folder}/h", "branch": "branch://history"}[kind]


class Filler:
    """Fills a place with runs quickly, which have the figures of `TEMPLATES` simulated ones in turn."""

    TEMPLATES = 200

    def __init__(self, address: str, folder: Path) -> None:
        self.store = open_store(address, folder)
        self.templates = [encoded(simulated(number)[0]) for number in range(self.TEMPLATES)]

    def fill(self, begin: int, end: int) -> None:
        """Add the runs of these numbers, unless they are there."""
        known = set(self.store.names())
        for name, content in self.templates:
            if begin < self.TEMPLATES and name not in known:
                self.store.add(name, content)
        for number in range(max(begin, self.TEMPLATES), end):
            template, content = self.templates[number % self.TEMPLATES]
            old, created = (
                (START + timedelta(hours=one)).isoformat(timespec="microseconds")
                for one in (number % self.TEMPLATES, number)
            )
            content = content.replace(f'"created":"{old}"'.encode(), f'"created":"{created}"'.encode())
            parts = template.split(".")
            parts[0], parts[4] = stamp(created), hashlib.sha256(content).hexdigest()[:16]
            name = ".".join(parts)
            if name not in known:
                self._keep(name, content, created, template)

    def _keep(self, name: str, content: bytes, created: str, template: str) -> None:
        if isinstance(self.store, FolderSessions):
            (Path(self.store.location) / name).write_bytes(content)
        elif isinstance(self.store, TableSessions):
            with self.store.driver() as connection:
                mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
                connection.execute(
                    f"INSERT INTO infergate_sessions VALUES ({mark}, 'benchmark', 'run', {mark}, {mark})",  # noqa: S608
                    (name, created, content.decode()),
                )
                rest = ", ".join(list(MEASUREMENT_COLUMNS)[4:])
                connection.execute(
                    f"INSERT INTO infergate_measurements SELECT {mark}, number, project, {mark}, {rest} "  # noqa: S608
                    f"FROM infergate_measurements WHERE session = {mark}",
                    (name, created, template),
                )
        else:
            self.store.add(name, content)


def growth(measurements: list[int], places: list[str], kept: str | None) -> None:
    """Print a row for each place and size. In a folder that is kept, only what is missing is written."""
    print("| place | measurements | baseline of 500 cases | add a session | page of 90 runs | of all runs |")
    print("|---|---|---|---|---|---|")
    for kind in places:
        with nullcontext(kept) if kept else tempfile.TemporaryDirectory(prefix="infergate-") as folder:
            if kind == "postgresql":
                if reason := postgres_absence():
                    print(f"| {kind} | {reason} |")
                    continue
                with postgres() as url:
                    _growth(kind, url, Path(folder), measurements)
            else:
                if kind == "branch":
                    repository(Path(folder))
                _growth(kind, local_address(kind, folder), Path(folder), measurements)


def _growth(kind: str, address: str, folder: Path, measurements: list[int]) -> None:
    def opened() -> SessionHistory:
        return SessionHistory(open_store(address, folder))

    def page(last: int | None) -> None:
        found = opened().series(last)
        render_history(trends_of(found, change_points([corrected(one) for one in found])), address)

    done = 0
    filler = Filler(address, folder)
    for wanted in measurements:
        filler.fill(done, wanted // CASES)
        baselines = HistoryBaselines(opened(), "benchmark")
        # A baseline is recorded with each tenth run, as in a nightly job; the last 48 are read.
        for number in range(done, wanted // CASES, 10):
            if number < 20 * Filler.TEMPLATES or number % 100 == 0:
                baselines.record(simulated(number)[1])
        done = wanted // CASES
        load = seconds(lambda: HistoryBaselines(opened(), "benchmark").load(HARDWARE.id))
        unique = time.time_ns() // 1000 % 10**6
        sessions = [simulated(10**6 + done + number, seed=unique)[0] for number in range(3)]
        add = statistics.median(seconds(partial(opened().add, session), 1) for session in sessions)
        recent = seconds(partial(page, 90), 1)
        everything = ""
        if kind == "folder":
            begin = time.perf_counter()
            compact(opened().store)
            between = time.perf_counter()
            page(None)
            everything = f"{time.perf_counter() - between:.1f} s, compacted before in {between - begin:.0f} s"
        print(
            f"| {kind} | {wanted:,} | {load:.2f} s | {add:.2f} s | {recent:.2f} s | {everything} |",
            flush=True,
        )


def _write(address: str, folder: str, worker: int, sessions: int) -> None:
    for number in range(sessions):
        run, _ = simulated(number, cases=3, seed=worker + 1)
        SessionHistory(open_store(address, Path(folder))).add(run)


def writers(processes: int, sessions: int, places: list[str]) -> None:
    """Let processes add sessions at once, and count what is there."""
    print("| place | written | kept | time |")
    print("|---|---|---|---|")

    def run(kind: str, address: str, folder: str) -> None:
        begin = time.perf_counter()
        started = [
            multiprocessing.Process(target=_write, args=(address, folder, worker, sessions))
            for worker in range(processes)
        ]
        for one in started:
            one.start()
        for one in started:
            one.join()
        failed = sum(one.exitcode != 0 for one in started)
        history = SessionHistory(open_store(address, Path(folder)))
        kept = sum(1 for _ in history.sessions())
        took = time.perf_counter() - begin
        print(f"| {kind} | {processes * sessions} | {kept} ({failed} failed) | {took:.0f} s |", flush=True)

    for kind in places:
        with tempfile.TemporaryDirectory(prefix="infergate-") as folder:
            if kind == "postgresql":
                with postgres() as url:
                    run(kind, url, folder)
                continue
            if kind == "branch":
                repository(Path(folder))
            run(
                kind,
                local_address(kind, folder),
                folder,
            )


def _save_until_killed(address: str, folder: Path, first: int, report: int) -> None:
    for number in range(first, first + 1000):
        session, _ = simulated(number, cases=40)
        keep_pending(session, folder)
        os.write(report, f"{session.created}\n".encode())
        push(lambda: SessionHistory(open_store(address, folder)), folder)


def kills(count: int, places: list[str]) -> None:
    """Kill writers at random moments; what a writer reported as kept must be there at the end."""
    print("| place | kills | sessions | of them pending at the end | lost | time |")
    print("|---|---|---|---|---|---|")
    for kind in places:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="infergate-")))
            if kind == "branch":
                repository(folder)
            is_server = kind == "postgresql"
            address = opened.enter_context(postgres()) if is_server else local_address(kind, str(folder))
            begin = time.perf_counter()
            promised = _killed(count, address, folder)
            waiting = sum(1 for _ in (folder / PENDING_FOLDER).glob("*.json"))
            left = push(lambda a=address, f=folder: SessionHistory(open_store(a, f)), folder)
            history = SessionHistory(open_store(address, folder))
            found = {session.created for session in history.sessions()}  # raises for a damaged one
            print(
                f"| {kind} | {count} | {len(found)} | {waiting} | {len(promised - found)} {left.problem}"
                f"| {time.perf_counter() - begin:.0f} s |",
                flush=True,
            )


def _killed(count: int, address: str, folder: Path) -> set[str]:
    """Return the starts of the sessions that writers had kept before they were killed."""
    generator = random.Random(1)
    promised: set[str] = set()
    # Drivers are loaded before, so that no writer is killed while it loads them.
    SessionHistory(open_store(address, folder)).documents()
    for index in range(count):
        reading, writing = os.pipe()
        # A fork starts within a millisecond, and a new process would need a second to import.
        victim = multiprocessing.get_context("fork").Process(
            target=_save_until_killed, args=(address, folder, index * 1000, writing)
        )
        victim.start()
        os.close(writing)
        with open(reading, encoding="utf-8") as lines:  # noqa: PTH123 - a descriptor
            first = lines.readline()
            time.sleep(generator.uniform(0, 0.5))
            os.kill(victim.pid, signal.SIGKILL)
            promised |= {line.strip() for line in (first, *lines) if line.endswith("\n")}
        victim.join()
    return promised


def page(series: int) -> None:
    """Time the page of so many series of the last 90 runs, part by part."""
    with tempfile.TemporaryDirectory(prefix="infergate-") as folder:
        history = SessionHistory(open_store(f"{folder}/h", Path(folder)))
        for number in range(90):
            history.store.add(*encoded(simulated(number, cases=series)[0]))
        begin = time.perf_counter()
        found = history.series(90)
        read = time.perf_counter()
        points = change_points([corrected(one) for one in found])
        analysed = time.perf_counter()
        text = render_history(trends_of(found, points), history.location)
        end = time.perf_counter()
        print(
            f"{len(found)} series of 90 runs: {end - begin:.1f} s, of it reading {read - begin:.1f} s, "
            f"change points {analysed - read:.1f} s, page {end - analysed:.1f} s, {len(text) / 1e6:.1f} MB"
        )


def changes(days: int = 90, count: int = 10_000) -> None:
    """Count false change points in daily series with a spread of 2 %, and steps of 3 % that are found."""
    generator = random.Random(7)

    def noise(step_at: int) -> list[float]:
        return [generator.lognormvariate(0, 0.02) * (1.03 if day >= step_at else 1) for day in range(days)]

    false = sum(map(len, (change_points([noise(days) for _ in range(count)]) or {}).values()))
    monthly = false / count / days * 30_000
    print(f"false: {false} in {count} series of {days} days: {monthly:.2f} a month in 1,000 series")
    for since in (10, 20, 45):
        at = days - since
        found = change_points([noise(at) for _ in range(count // 2)]) or {}
        seen = sum(any(abs(index - at) <= 5 for index in each) for each in found.values())
        best = best_power(days, since, alpha=days / 30_000)
        print(f"a step of 3 %, {since} days ago: found in {seen / (count // 2):.0%}; at best {best}")
    found = dict.fromkeys(range(days, days + 30), 0)
    for _ in range(count // 10):
        series, known = noise(days) + noise(days)[:30], set[int]()
        for day in found:
            for index in (change_points([series[day - days : day]]) or {}).get(0, ()):
                place = index + day - days
                found[day] += not any(abs(place - other) <= 5 for other in known)
                known.add(place)
    new = sum(found.values()) - found[days]
    print(f"new false points on the pages of 30 days of {count // 10} series: {new}")


def best_power(days: int, since: int, alpha: float) -> str:
    """Return how often the likelihood ratio finds a step of 3 % at a rate of false alarms per series.

    It knows the spread of 2 %, and also the day or not; no other test of normal series finds more.
    """
    import numpy as np

    generator = np.random.default_rng(11)
    before = np.arange(1, days)

    def scores(shift: float) -> Any:
        values = generator.standard_normal((50_000, days))
        values[:, days - since :] += shift
        left = np.cumsum(values, axis=1)[:, :-1]
        means = (values.sum(axis=1, keepdims=True) - left) / (days - before) - left / before
        return np.abs(means) / np.sqrt(1 / before + 1 / (days - before))

    alone, stepped = scores(0.0), scores(math.log(1.03) / 0.02)
    known = days - since - 1
    power = (stepped[:, known] > np.quantile(alone[:, known], 1 - alpha)).mean()
    unknown = (stepped.max(axis=1) > np.quantile(alone.max(axis=1), 1 - alpha)).mean()
    return f"{unknown:.0%}, and {power:.0%} if the day were known"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["growth", "writers", "kills", "page", "changes"])
    parser.add_argument("--measurements", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--places", nargs="+", default=["folder", "sqlite", "postgresql"])
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--folder", help="folder that growth keeps, so that it can be measured in parts")
    given = parser.parse_args()
    if given.what == "growth":
        growth(given.measurements, given.places, given.folder)
    elif given.what == "page":
        page(given.series)
    elif given.what == "changes":
        changes()
    elif given.what == "writers":
        writers(given.processes, given.sessions, given.places)
    else:
        kills(given.kills, given.places)


if __name__ == "__main__":
    main()
