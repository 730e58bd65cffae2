"""Budgets for a voice activity detector, which must keep up with many callers and with one live stream."""

from __future__ import annotations

import pytest
import torch

from infergate_examples.voice import FRAME, VoiceActivity, babble, frames, load_voice_activity


@pytest.fixture(scope="module")
def detector() -> VoiceActivity:
    return load_voice_activity()


@pytest.mark.inference(
    batch_sizes=[1, 8, 32], demand="20x31.25/s:periodic", budget={"p95_ms": 32, "peak_memory_mb": 20}
)
def test_frames(infer, detector):
    """Twenty callers: a frame lasts 32 ms, and a detector that takes longer falls behind."""
    result = infer(detector, frames(infer.batch_size))
    probability, (hidden, _) = result.output
    assert probability.shape == (infer.batch_size, 1)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert hidden.shape == (infer.batch_size, 128)


@pytest.mark.inference(budget={"ttft_ms": 32, "itl_p95_ms": 32}, unit="frames")
def test_live_stream(infer, detector):
    result = infer(detector.listen, babble(seconds=0.5))
    assert len(result.output) == 8_000 // FRAME
    assert all(0 <= probability.item() <= 1 for probability in result.output)


@torch.inference_mode()
def test_speech_is_told_from_noise(detector):
    speech = torch.cat(list(detector.listen(babble(seconds=3))))
    noise = torch.cat(list(detector.listen(0.02 * torch.randn(1, 48_000))))
    assert speech.median() > 0.5
    assert noise.max() < 0.3
