"""Budgets for a chat model, whose answer is read while it is written."""

from __future__ import annotations

import pytest

from infergate_examples.chat import ANSWER, PROMPT, load_chat_model, prompt


@pytest.fixture(scope="module")
def model():
    return load_chat_model()


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.inference(budget={"ttft_ms": 200, "itl_p95_ms": 100, "tokens_per_s": 10}, unit="answers")
def test_answer(infer, model, cached):
    """With a key-value cache, each token takes the same time; without one, the whole text is read again."""
    result = infer(model.generate, prompt(), streamer=infer.streamer, use_cache=cached)
    assert result.output.shape == (1, PROMPT + ANSWER)
