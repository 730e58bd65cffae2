"""Measure two models of the examples under load, and what the server itself takes; needs the extra `loadgen`.

    pytest benchmarks/under_load.py --infer-devices=cpu --infer-threads=1 --infer-json=under_load.json

At these rates, the models were busy for a quarter to nine tenths of the time on the machine of the docs.
A call that returns its input shows what the server and LoadGen take.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

if TYPE_CHECKING:
    from pytest_infergate import Infer


def embed(infer: Infer) -> None:
    from infergate_examples.embedder import QUERY, load_embedder, random_tokens

    infer(load_embedder(), *random_tokens(infer.batch_size, QUERY))


def detect_voice(infer: Infer) -> None:
    from infergate_examples.voice import frames, load_voice_activity

    infer(load_voice_activity(), frames(infer.batch_size))


@pytest.mark.inference(batch_sizes=[1, 8], load="60/s")
def test_embedder_60(infer: Infer) -> None:
    embed(infer)


@pytest.mark.inference(batch_sizes=[1, 8], load="120/s")
def test_embedder_120(infer: Infer) -> None:
    embed(infer)


@pytest.mark.inference(batch_sizes=[1, 16], load="500/s")
def test_voice_500(infer: Infer) -> None:
    detect_voice(infer)


@pytest.mark.inference(batch_sizes=[1, 16], load="1000/s")
def test_voice_1000(infer: Infer) -> None:
    detect_voice(infer)


@pytest.mark.inference(load="single-stream", max_time=5)
def test_nothing_single_stream(infer: Infer) -> None:
    infer(returned, torch.zeros(1, 384))


@pytest.mark.inference(batch_sizes=[8], load="500/s", max_time=5)
def test_nothing_500(infer: Infer) -> None:
    infer(returned, torch.zeros(8, 384))


def returned(value: Any) -> Any:
    return value
