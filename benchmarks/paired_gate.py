"""Measure the paired gate: false alarms on identical code, detection of +3 % and +5 %, interval coverage.

    python benchmarks/paired_gate.py measure SHARE SESSIONS    # 0 is identical code, 0.05 is +5 %
    python benchmarks/paired_gate.py regimes SHARE SESSIONS    # the same with two wait policies of threads
    python benchmarks/paired_gate.py score                     # all sessions so far, with intervals
    python benchmarks/paired_gate.py rescore                   # the same, decided again by the current rules

A session is `pytest --infer-against=HEAD` in a repository of eight workloads, alternately on one thread and
on two. `regimes` compares, on two threads, the wait policy of the user's process with
`OMP_WAIT_POLICY=passive`, which the workers of version 0.1 had. SHARE stretches the time of every workload of
the working tree by spinning after each call. Sessions are appended to benchmarks/results/paired_gate.jsonl,
one line per case with the log ratio of each launch, so that other rules can be scored without measuring
again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median, variance
from typing import Any

from scipy.stats import beta

from pytest_infergate.core.gate.launch_location import spreads_of_others
from pytest_infergate.core.gate.paired_times import SCREEN_ANALYSES, PairedTerms, decide
from pytest_infergate.storage.paired_data import read_paired_data

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paired_gate.jsonl"
EARLIER = (5, 7, 10, 15)
"""Interim analyses of the screen in earlier sessions, which do not record them."""
TEST = """
import pytest

from workloads import WORKLOADS, load, tell


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.inference
def test_workload(infer, name):
    model, x = load(name)
    infer(model, x)
    tell(model)
"""


def repository(folder: Path, share: float) -> None:
    """Create a repository whose working tree is slower than its only commit by a share."""
    from workloads import WORKLOADS

    shutil.copy(HERE / "workloads.py", folder)
    (folder / "test_workloads.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / ".gitignore").write_text("__pycache__\n.pytest_cache\n")
    (folder / "stretch.json").write_text("{}")
    author = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    for command in (("init", "-q"), ("add", "-A"), (*author, "commit", "-qm", "base")):
        subprocess.run(["git", *command], cwd=folder, check=True)  # noqa: S607
    if share:
        (folder / "stretch.json").write_text(json.dumps(dict.fromkeys(WORKLOADS, share)))


def session(folder: Path, against: str, threads: int, policy: str = "") -> Iterator[dict[str, Any]]:
    """Run one session; yield one record per case. Without a policy, the threads wait as in any process."""
    paths = {name: folder.parent / f"{name}.json" for name in ("results", "turns", "realised")}
    paths["realised"].unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--infer-against={against}",
        f"--infer-threads={threads}", f"--infer-json={paths['results']}",
        f"--infer-paired-data={paths['turns']}",
    ]  # fmt: skip
    begin = time.time()
    environment = {**os.environ, "INFERGATE_REALISED": str(paths["realised"])}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    seconds = time.time() - begin
    verdicts = json.loads(paths["results"].read_text())["gate"]["verdicts"]
    blocks = {case.nodeid: case for case in read_paired_data(paths["turns"]).cases}
    realised = _realised(paths["realised"])
    for verdict in verdicts:
        row = next(row for row in verdict["comparisons"] if row["evidence"] == "paired")
        name = verdict["case"].get("params") or verdict["nodeid"].partition("::")[2]
        case = blocks[verdict["nodeid"]]
        yield {
            "when": round(begin),
            "looks": SCREEN_ANALYSES,
            "threads": threads,
            "wait_policy": policy,
            "name": name,
            "verdict": row["verdict"],
            "effect": row.get("effect"),
            "low": row.get("low"),
            "high": row.get("high"),
            "realised": realised.get(name),
            "base_ms": round(1e3 * row["baseline"], 4) if "baseline" in row else None,
            "session_seconds": round(seconds),
            "screen": [round(launch.difference, 6) for launch in case.screen],
            "confirm": [round(launch.difference, 6) for launch in case.confirm],
            "plain_ms": None if case.plain is None else round(1e3 * median(case.plain.base), 4),
        }


def _realised(path: Path) -> dict[str, float]:
    """Return how much slower than its base each workload actually was."""
    times: dict[tuple[str, bool], list[float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        sums = times.setdefault((record["name"], record["asked"] > 0), [0.0, 0.0])
        sums[0] += record["inner"]
        sums[1] += record["whole"]
    ratio = {key: whole / inner for key, (inner, whole) in times.items()}
    return {name: ratio[name, True] / ratio[name, False] - 1 for name, slower in ratio if slower}


def recorded(path: Path) -> list[dict[str, Any]]:
    """Return all cases of all sessions."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measure(share: float, sessions: Iterable[tuple[int, str]]) -> None:
    """Run a session for each number of threads and wait policy, and append them to the results file."""
    for index, (threads, policy) in enumerate(sessions):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "repository"
            folder.mkdir()
            repository(folder, share)
            found = session(folder, "HEAD", threads, policy)
            records = [{"share": share, **record} for record in found]
        with RESULTS.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        words = ", ".join(
            f"{count} {verdict}" for verdict, count in Counter(r["verdict"] for r in records).items()
        )
        record = f"{share:.0%} session {index + 1} {policy}: {records[0]['session_seconds']} s: {words}"
        print(record, flush=True)


def bounds(hits: int, count: int) -> str:
    """Format a share with its 95 % Clopper-Pearson interval."""
    low = beta.ppf(0.025, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
    return f"{hits} of {count} ({hits / count:.1%}, 95 % interval {low:.1%} to {high:.1%})"


def analyses(record: dict[str, Any]) -> tuple[int, ...]:
    """Return the numbers of launches after which the screen was analysed."""
    return tuple(record.get("looks", EARLIER))


def rescored(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Decide recorded sessions again; a case that would need launches that were not made is ``open``."""
    sessions: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        sessions.setdefault(record["when"], []).append(record)
    return [record for rows in sessions.values() for record in _decided(rows)]


def _decided(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Decide the cases of one session again."""
    spreads = {
        analysis: spreads_of_others([row["screen"][:analysis] for row in rows])
        for analysis in SCREEN_ANALYSES
    }
    confirming = sum(bool(row["confirm"]) for row in rows)
    for index, row in enumerate(rows):
        others = {analysis: found[index] for analysis, found in spreads.items()}
        decision = decide(row["screen"], row["confirm"], PairedTerms(), confirming=confirming, others=others)
        verdict = "open" if decision.verdict is None else decision.verdict.value
        yield {**row, "looks": SCREEN_ANALYSES, "verdict": verdict}


def score(records: Iterable[dict[str, Any]]) -> None:
    """Print how often the sessions so far were right."""
    arms: dict[tuple[float, str, tuple[int, ...]], list[dict[str, Any]]] = {}
    for record in records:
        # Sessions without a record of it had passive workers.
        policy = record.get("wait_policy", "passive") or "as in the user's process"
        arms.setdefault((record["share"], policy, analyses(record)), []).append(record)
    for (share, policy, screen), found in sorted(arms.items()):
        sessions = {record["when"]: record["session_seconds"] for record in found}
        print(f"\n{share:+.0%}, threads wait {policy}, looks at {screen}: "
              f"{len(found)} cases in {len(sessions)} sessions of "
              f"{sum(sessions.values()) / len(sessions):.0f} s")  # fmt: skip
        for verdict, count in Counter(record["verdict"] for record in found).most_common():
            print(f"  {verdict:24}{bounds(count, len(found))}")
        launches = [len(record["screen"]) + len(record["confirm"]) for record in found]
        squares = [variance(record["screen"]) * (len(record["screen"]) - 1) for record in found
                   if len(record["screen"]) > 1]  # fmt: skip
        degrees = sum(len(record["screen"]) - 1 for record in found)
        print(f"  {'spread of launches':24}{math.sqrt(sum(squares) / degrees):.1%}")
        print(f"  {'launches, mean':24}{sum(launches) / len(launches):.1f}")
        truths = [0.0 if not share else record["realised"] for record in found]
        known = [(r, t) for r, t in zip(found, truths, strict=True) if t is not None and r["low"] is not None]
        covered = sum(record["low"] <= truth <= record["high"] for record, truth in known)
        print(f"  {'interval covers':24}{bounds(covered, len(known))}")
        bias = [math.log1p(record["effect"]) - math.log1p(truth) for record, truth in known]
        print(f"  {'mean error':24}{sum(bias) / len(bias):+.2%}")


def main() -> None:
    """Measure, or score."""
    match sys.argv[1:]:
        case ["measure", share, sessions]:
            measure(float(share), [(1 + index % 2, "") for index in range(int(sessions))])
        case ["regimes", share, sessions]:
            measure(float(share), [(2, policy) for _ in range(int(sessions)) for policy in ("", "passive")])
        case ["score"]:
            score(recorded(RESULTS))
        case ["rescore"]:
            score(rescored(recorded(RESULTS)))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
