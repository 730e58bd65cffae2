"""Run the stored gate on identical code: how often it raises an alarm, and how steady launches are.

    python benchmarks/stored_gate.py [sessions] [pytest arguments, default: examples]

Each session is a fresh process that is compared with the sessions before it and then recorded into the
baseline, as in CI with --infer-save. The output has the verdicts, and for each case the spread of the launch
medians: raw, and corrected by the reference workloads. Results are written to
benchmarks/results/stored_gate.jsonl.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).parent.parent


def session(folder: Path, index: int, arguments: list[str]) -> dict[str, object]:
    """Run one session and return the content of its results file."""
    path = folder / f"{index}.json"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--infer-devices=cpu", "--infer-save",
        f"--infer-baseline={folder / 'baselines'}", f"--infer-json={path}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    document: dict[str, object] = json.loads(path.read_text())
    return document


def spread(values: list[float]) -> float:
    """Return the standard deviation of the logarithms, in per cent."""
    return 100 * stdev(map(math.log, values)) if len(values) > 1 else math.nan


def main() -> None:
    """Run the sessions and print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    arguments = sys.argv[2:] or ["examples"]
    verdicts: Counter[str] = Counter()
    medians: dict[str, list[float]] = {}
    corrected: dict[str, list[float]] = {}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for index in range(count):
            document = session(Path(name), index, arguments)
            for case in document["cases"]:  # type: ignore[attr-defined]
                if "measurement" not in case:
                    continue
                p50 = case["measurement"]["latency"]["p50"]["value"]
                speeds = case["measurement"]["reference_work"]
                medians.setdefault(case["nodeid"], []).append(p50)
                geometric = math.exp(mean(map(math.log, speeds.values())))
                corrected.setdefault(case["nodeid"], []).append(p50 / geometric)
                rows.append({"session": index, "case": case["nodeid"], "p50": p50, "reference_work": speeds})
            for verdict in document["gate"]["verdicts"]:  # type: ignore[index]
                for row in verdict.get("comparisons", ()):
                    if row["metric"] == "p50" and row["verdict"] != "no-baseline":
                        verdicts[row["verdict"]] += 1
            print(f"session {index + 1} of {count}: {dict(verdicts)}", flush=True)
    total = sum(verdicts.values())
    print(f"\n{total} comparisons of identical code")
    for word, number in verdicts.most_common():
        print(f"  {word:26s} {number:4d}  {number / total:6.1%}")
    print("\nspread of launch medians, %: raw, corrected")
    for nodeid in sorted(medians):
        print(f"  {spread(medians[nodeid]):5.1f} {spread(corrected[nodeid]):5.1f}  {nodeid}")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    with (results / "stored_gate.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
