"""Run the paired gate on a branch of the examples: ten cases, of which one becomes 5 % slower, or none.

    python benchmarks/paired_examples.py measure unchanged|slower|loaded SESSIONS
    python benchmarks/paired_examples.py score       # all sessions so far
    python benchmarks/paired_examples.py rescore     # the same, decided again by the current rules

A session is `pytest --infer-against=main` on a branch, alternately on one thread and on two. In `slower`, a
passage is multiplied by an additional matrix, and the result is not used. `loaded` is the same, while another
process keeps one core busy every other three seconds. Sessions are appended to
benchmarks/results/paired_examples.jsonl, one line per case.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paired_gate import analyses, bounds, recorded, rescored, session

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paired_examples.jsonl"
EXAMPLES = HERE.parent / "examples" / "infergate_examples"
SLOW = "test_passage"
TESTS = """
import pytest

from infergate_examples.embedder import PASSAGE, QUERY, load_embedder, random_tokens
from infergate_examples.voice import babble, frames, load_voice_activity

embedder = pytest.fixture(scope="module")(load_embedder)
detector = pytest.fixture(scope="module")(load_voice_activity)


@pytest.mark.inference(batch_sizes=[1, 2, 4])
def test_query(infer, embedder):
    infer(embedder, *random_tokens(infer.batch_size, QUERY))


@pytest.mark.inference
def test_passage(infer, embedder):
    infer(embedder, *random_tokens(infer.batch_size, PASSAGE))


@pytest.mark.inference(batch_sizes=[1, 4, 8, 32, 64])
def test_frames(infer, detector):
    infer(detector, frames(infer.batch_size))


@pytest.mark.inference(unit="frames")
def test_live_stream(infer, detector):
    infer(detector.listen, babble(seconds=0.25))
"""
FAST = "        weight = mask.unsqueeze(-1).to(hidden.dtype)\n"
MORE = """        if token_ids.shape[1] == PASSAGE:
            self.transformer.encoder.layer[0].intermediate.dense(hidden)
"""
"""One twentieth of the multiplications of the network."""
LOAD = """
import time
while True:
    until = time.monotonic() + 3
    while time.monotonic() < until:
        pass
    time.sleep(3)
"""


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)  # noqa: S607


def repository(folder: Path, *, slower: bool) -> None:
    """Create a repository with the examples on main, and a branch that changes one file."""
    shutil.copytree(EXAMPLES, folder / "infergate_examples", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "test_ten.py").write_text(TESTS)
    (folder / "conftest.py").write_text("")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / ".gitignore").write_text("__pycache__\n.pytest_cache\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Examples")
    git(folder, "checkout", "-qb", "change")
    embedder = folder / "infergate_examples" / "embedder.py"
    text = embedder.read_text()
    changed = text.replace(FAST, MORE + FAST) if slower else text + "\n# changed\n"
    if changed == text:
        raise SystemExit(f"{embedder.name} has no line to make slower")
    embedder.write_text(changed)
    git(folder, "commit", "-qam", "Change")


@contextmanager
def load(*, wanted: bool) -> Iterator[None]:
    """Keep one core busy every other three seconds, if wanted."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", LOAD])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(arm: str, sessions: int) -> None:
    """Run sessions and append them to the results file."""
    for index in range(sessions):
        with tempfile.TemporaryDirectory() as name, load(wanted=arm == "loaded"):
            folder = Path(name) / "repository"
            folder.mkdir()
            repository(folder, slower=arm != "unchanged")
            records = [{"arm": arm, **record} for record in session(folder, "main", 1 + index % 2)]
        with RESULTS.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        for record in records:
            if record["name"].startswith(SLOW) or record["verdict"] != "equivalent":
                effect = "" if record["effect"] is None else f"{record['effect']:+.1%}"
                print(f"    {record['name']}: {record['verdict']} {effect}")
        words = ", ".join(f"{n} {verdict}" for verdict, n in Counter(r["verdict"] for r in records).items())
        print(f"{arm} {index + 1}: {records[0]['session_seconds']} s: {words}", flush=True)


def score(records: Iterable[dict[str, Any]]) -> None:
    """Print how often the sessions so far were right."""
    arms: dict[tuple[str, tuple[int, ...]], list[dict[str, Any]]] = {}
    for record in records:
        arms.setdefault((record["arm"], analyses(record)), []).append(record)
    for (arm, screen), found in arms.items():
        sessions: dict[int, list[dict[str, Any]]] = {}
        for record in found:
            sessions.setdefault(record["when"], []).append(record)
        seconds = sum(rows[0]["session_seconds"] for rows in sessions.values()) / len(sessions)
        print(f"\n{arm}, looks at {screen}: {len(sessions)} sessions of {seconds:.0f} s")
        changed = [r for r in found if arm != "unchanged" and r["name"].startswith(SLOW)]
        for label, rows in (("slower case", changed), ("others", [r for r in found if r not in changed])):
            for verdict, count in Counter(r["verdict"] for r in rows).most_common():
                print(f"  {label:12}{verdict:24}{bounds(count, len(rows))}")
        red = sum(any(r["verdict"] == "regressed" for r in rows) for rows in sessions.values())
        print(f"  {'red sessions':36}{bounds(red, len(sessions))}")


def main() -> None:
    """Measure, or score."""
    match sys.argv[1:]:
        case ["measure", ("unchanged" | "slower" | "loaded") as arm, sessions]:
            measure(arm, int(sessions))
        case ["score"]:
            score(recorded(RESULTS))
        case ["rescore"]:
            score(rescored(recorded(RESULTS)))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
