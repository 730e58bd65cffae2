"""Budgets for a deployed service; skipped without one."""

from __future__ import annotations

import pytest


@pytest.mark.inference(
    runtimes=["server"], budget={"ttft_ms": 200, "itl_p95_ms": 100, "tokens_per_s": 10}, unit="answers"
)
def test_chat(infer, chat):
    result = infer(chat, "Name three colours of the rainbow.", max_tokens=24)
    assert "".join(result.output).split()
    if result.measured:
        assert result.stream.output_tokens == 24
