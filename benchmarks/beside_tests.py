"""Medians of inference cases under `pytest -n 4` beside 500 ordinary tests, and in a run of their own.

    python benchmarks/beside_tests.py [PAIRS]

A project of 500 tests that compute for some milliseconds and of four inference tests is made in a temporary
folder. Runs of all tests under pytest-xdist and of the inference tests alone follow each other in pairs. The
ratio of their medians is printed for each case. Target: within 10 %.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_infergate.report.results_json import parse_results

FILES, TESTS = 10, 50
ORDINARY = """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_ordinary(number):
    assert sum(one * one for one in range(20_000)) > number
"""
MODELS = """
import pytest
import torch

MODELS = {
    "mlp": (torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.Linear(1024, 512)), (8, 512)),
    "wide": (torch.nn.Linear(2048, 2048), (16, 2048)),
    "conv": (torch.nn.Conv2d(3, 32, 3), (1, 3, 96, 96)),
    "attention": (torch.nn.TransformerEncoderLayer(128, 4, batch_first=True), (1, 64, 128)),
}

@pytest.mark.inference(threads=[1])
@pytest.mark.parametrize("name", MODELS)
def test_model(infer, name):
    model, shape = MODELS[name]
    infer(model.eval(), torch.randn(*shape))
"""


def medians(folder: Path, *arguments: str) -> dict[str, float]:
    """Run pytest in a process of its own, and return the median of each case in seconds."""
    results = folder / "results.json"
    options = ("--infer-devices=cpu", "--infer-max-time=3", f"--infer-json={results}", "-q")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    session = parse_results(results.read_bytes(), str(results))
    return {one.case.params: one.measurement.latency.p50.value for one in session.cases}


def main() -> None:
    """Print the ratios of all pairs, and the range of all."""
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_models.py").write_text(MODELS)
        for number in range(FILES):
            (folder / f"test_ordinary_{number}.py").write_text(ORDINARY.format(tests=TESTS))
        for _ in range(int(sys.argv[1]) if sys.argv[1:] else 3):
            beside = medians(folder, "-n", "4")
            alone = medians(folder, "-n", "0", "test_models.py")
            for case, seconds in beside.items():
                ratios.setdefault(case, []).append(seconds / alone[case])
    for case, found in ratios.items():
        print(f"{case}: {', '.join(f'{one:.3f}' for one in found)}; median {statistics.median(found):.3f}")
    everything = [one for found in ratios.values() for one in found]
    print(f"beside 500 tests / alone: {min(everything):.3f} to {max(everything):.3f}")


if __name__ == "__main__":
    main()
