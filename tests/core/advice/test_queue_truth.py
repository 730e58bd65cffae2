"""Predicted latencies beside those of a server whose service times are known: a part of the benchmark."""

import sys
from pathlib import Path
from statistics import median

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from queue_truth import Trial, ratios

TRIAL = Trial(requests=50_000, samples=3)


@pytest.mark.parametrize(
    ("name", "server", "load", "low", "high"),
    [
        ("constant", "batching", 0.7, 0.95, 1.05),
        ("noisy", "batching", 0.7, 0.9, 1.15),
        ("bimodal", "batching", 0.5, 0.9, 1.15),
        ("correlated", "single", 0.3, 0.9, 1.15),
        ("phases", "single", 0.3, 0.9, 1.15),
        ("phases", "batching", 0.5, 0.9, 1.15),
        ("phases", "batching", 0.7, 0.8, 1.2),
        ("rare", "single", 0.7, 0.85, 1.5),
    ],
)
def test_a_prediction_is_near_the_truth(name, server, load, low, high):
    assert low <= median(ratios(name, server, load, 1, TRIAL)) <= high
