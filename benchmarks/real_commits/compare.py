"""Compare real commits with their parents, by infergate and by an interleaved loop of its own.

    python benchmarks/real_commits/compare.py CLONES [RECIPE...]

CLONES contains clones of the repositories under their names, with full history. README.md lists the packages
that they import. Each recipe is run by `pytest --infer-against=COMMIT^` in a worktree of the commit, and by a
loop that shares no code with infergate: two plain processes, one a side, take turns in random order, each
blocked on its input while the other one works; five pairs of processes, 60 turns each. Results are appended
to benchmarks/results/real_commits.jsonl.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "real_commits.jsonl"
PROCESSES = 5
TURNS = 60
TEST = """

import pytest


@pytest.mark.inference
def test_commit(infer):
    infer(*load())
"""
LOOP = """
import sys, time
import torch
sys.path[:0] = [sys.argv[1] + "/src", sys.argv[1]]
from test_recipe import load
torch.manual_seed(0)
model, x = load()
with torch.inference_mode():
    for line in sys.stdin:
        model(x)
        begin = time.perf_counter()
        for _ in range(int(line)):
            model(x)
        print("took", (time.perf_counter() - begin) / int(line), flush=True)
"""


@contextmanager
def worktree(clone: Path, revision: str, recipe: Path) -> Iterator[Path]:
    """A worktree of a revision, with the test of a recipe."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / clone.name
        git = ["git", "-C", str(clone), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
        try:
            (folder / "test_recipe.py").write_text(recipe.read_text() + TEST)
            (folder / "pytest.ini").write_text("[pytest]\npythonpath = . src\n")
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def by_infergate(folder: Path, commit: str) -> dict[str, Any]:
    """Run the paired comparison; return its verdict, its times and what it says."""
    results = folder.parent / "results.json"
    command = [
        sys.executable, "-m", "pytest", "test_recipe.py", "-q", "-p", "no:cacheprovider",
        f"--infer-against={commit}^", f"--infer-json={results}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not results.exists():
        raise SystemExit(done.stdout + done.stderr)
    (verdict,) = json.loads(results.read_text())["gate"]["verdicts"]
    times = next((row for row in verdict["comparisons"] if row["evidence"] == "paired"), {})
    return {
        "verdict": verdict["verdict"],
        "times": times.get("verdict"),
        **{key: times.get(key) for key in ("effect", "low", "high", "baseline")},
        "counters": [row["metric"] for row in verdict["comparisons"] if row["evidence"] == "exact"],
        "notes": [note["code"] for note in verdict.get("notes", ())],
    }


def by_loop(base: Path, candidate: Path) -> dict[str, Any]:
    """Interleave plain processes; return the effect with its 95 % interval, and the seconds of the base."""
    ratios, seconds = [], []
    for _ in range(PROCESSES):
        with ExitStack() as stack:
            sides = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-c", LOOP, str(folder)], cwd=folder, text=True,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                    )
                )
                for folder in (base, candidate)
            ]  # fmt: skip
            calls = max(1, round(0.01 / max(turn(sides[0], 3), turn(sides[1], 3))))
            times: list[list[float]] = [[], []]
            for _ in range(TURNS):
                for side in random.sample((0, 1), 2):
                    times[side].append(turn(sides[side], calls))
            for each in sides:
                each.stdin.close()  # type: ignore[union-attr]
        ratios.append(math.log(statistics.median(times[1]) / statistics.median(times[0])))
        seconds.append(statistics.median(times[0]))
    centre = statistics.mean(ratios)
    reach = stats.t.ppf(0.975, PROCESSES - 1) * statistics.stdev(ratios) / math.sqrt(PROCESSES)
    effect, low, high = (math.expm1(value) for value in (centre, centre - reach, centre + reach))
    return {"effect": effect, "low": low, "high": high, "baseline": statistics.median(seconds)}


def turn(process: subprocess.Popen[str], calls: int) -> float:
    """Let a process make so many calls; return the seconds of one."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(calls, file=process.stdin, flush=True)
    for line in process.stdout:
        if line.startswith("took "):
            return float(line.split()[1])
    raise SystemExit(f"a process of the loop ended with exit code {process.wait()}")


def agree(found: dict[str, Any], loop: dict[str, Any]) -> str:
    """Whether both have the same sign, where the loop is sure of it."""
    if loop["low"] <= 0 <= loop["high"] or found["effect"] is None:
        return "not sure"
    return "yes" if (found["effect"] > 0) == (loop["effect"] > 0) else "NO"


def main() -> None:
    """Run the recipes that are named, or all."""
    clones = Path(sys.argv[1])
    paths = sorted((HERE / "recipes").glob("*.py"))
    for path in paths:
        if sys.argv[2:] and path.stem not in sys.argv[2:]:
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        clone = clones / recipe.REPOSITORY.partition("/")[2]
        with (
            worktree(clone, recipe.COMMIT, path) as candidate,
            worktree(clone, recipe.COMMIT + "^", path) as base,
        ):
            loop = by_loop(base, candidate)
            found = by_infergate(candidate, recipe.COMMIT)
        record = {"recipe": path.stem, "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
                  "infergate": found, "loop": loop}  # fmt: skip
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        words = [
            "no times"
            if each["effect"] is None
            else f"{each['effect']:+.1%} ({each['low']:+.1%} to {each['high']:+.1%}) "
            f"of {1e3 * each['baseline']:.2f} ms"
            for each in (found, loop)
        ]
        print(f"{path.stem}: infergate {found['verdict']} {words[0]}; loop {words[1]}; "
              f"signs agree: {agree(found, loop)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
