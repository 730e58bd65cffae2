"""Record results of one host that is set up as three machines, as input of `infergate advise`.

    python benchmarks/machines.py

Models of the examples are measured on two cores by one process and by two concurrent processes, on one core,
and on two cores without vector instructions beyond SSE, as on an old processor. The results are written to
benchmarks/results/machines/NAME.json; tests/core/advice/test_recommendation.py uses them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RESULTS = HERE / "results" / "machines"
MACHINES = {
    "two-cores": (2, {}, "--infer-workers=2"),
    "one-core": (1, {}, "--infer-threads=1"),
    "two-cores-sse": (
        2,
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        "--infer-threads=2",
    ),
}
"""Cores, environment variables and an option of each machine."""
TESTS = """
import pytest

from infergate_examples import video
from infergate_examples.embedder import QUERY, load_embedder, random_tokens

embedder = pytest.fixture(scope="module")(load_embedder)
classifier = pytest.fixture(scope="module")(video.load_frame_classifier)


@pytest.mark.inference(batch_sizes=[1, 2, 4, 8])
def test_query(infer, embedder):
    infer(embedder, *random_tokens(infer.batch_size, QUERY))


@pytest.mark.inference(batch_sizes=[1, 2], unit="frames")
def test_camera(infer, classifier):
    infer(classifier, video.frames(infer.batch_size))
"""


def measure(name: str, folder: Path) -> None:
    """Measure the models on one machine."""
    count, environment, option = MACHINES[name]
    usable = os.sched_getaffinity(0)
    if len(usable) < count:
        raise SystemExit(f"{name} takes {count} cores, and here are {len(usable)}")
    command = [
        sys.executable, "-m", "pytest", "-q", "--infer-devices=cpu", option,
        f"--infer-json={RESULTS / name}.json",
    ]  # fmt: skip
    os.sched_setaffinity(0, sorted(usable)[:count])
    try:
        subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)
    finally:
        os.sched_setaffinity(0, usable)


def main() -> None:
    """Measure the models on all machines."""
    if sys.argv[1:]:
        raise SystemExit(__doc__)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_models.py").write_text(TESTS, encoding="utf-8")
        (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {EXAMPLES}\n", encoding="utf-8")
        for machine in MACHINES:
            measure(machine, folder)


if __name__ == "__main__":
    main()
