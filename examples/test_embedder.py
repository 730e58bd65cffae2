"""Budgets for a sentence embedder: the latency of one query, and the throughput of building an index."""

from __future__ import annotations

import pytest
import torch

from infergate_examples.embedder import (
    PASSAGE,
    QUERY,
    WIDTH,
    Embedder,
    load_embedder,
    random_tokens,
    tokenize,
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder()


@pytest.mark.inference(demand="3/s", budget={"p95_ms": 100, "weights_mb": 100, "cold_start_ms": 4_000})
def test_query(infer, embedder):
    """A chatbot looks up three queries a second."""
    result = infer(embedder, *random_tokens(infer.batch_size, QUERY))
    assert result.output.shape == (infer.batch_size, WIDTH)
    # In bfloat16 as well: pytest --infer-dtypes=float32,bfloat16.
    norms = result.output.float().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(infer.batch_size), atol=1e-2, rtol=0)


@pytest.mark.inference(batch_sizes=[4, 16], budget={"throughput_per_s": 2, "peak_memory_mb": 500})
def test_index(infer, embedder):
    result = infer(embedder, *random_tokens(infer.batch_size, PASSAGE))
    assert result.output.shape == (infer.batch_size, WIDTH)
    assert result.output.isfinite().all()


@torch.inference_mode()
def test_similar_sentences_are_closer(embedder):
    sentences = [
        "A cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "The central bank raised its rate.",
    ]
    cat, kitten, bank = embedder(*tokenize(sentences))
    assert cat @ kitten > 0.5
    assert cat @ bank < 0.2


@torch.inference_mode()
def test_padding_changes_nothing(embedder):
    alone = embedder(*tokenize(["A cat sleeps."]))
    padded = embedder(*tokenize(["A cat sleeps.", "A much longer sentence keeps the first one company."]))[:1]
    torch.testing.assert_close(alone, padded, atol=1e-4, rtol=0)
