"""Budgets for a classifier of video frames: a large model, at a rate that a camera sets."""

from __future__ import annotations

import pytest
import torch

from infergate_examples.video import CLASSES, FrameClassifier, frames, load_frame_classifier


@pytest.fixture(scope="module")
def classifier() -> FrameClassifier:
    return load_frame_classifier()


@pytest.mark.inference(
    batch_sizes=[1, 4], demand="8x30/s:periodic", budget={"weights_mb": 110, "gflops": 36}, unit="frames"
)
def test_camera(infer, classifier):
    """Eight cameras send 30 frames a second each."""
    result = infer(classifier, frames(infer.batch_size))
    assert result.output.shape == (infer.batch_size, CLASSES)
    torch.testing.assert_close(result.output.sum(1), torch.ones(infer.batch_size), atol=1e-3, rtol=0)
