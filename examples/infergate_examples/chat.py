"""A small causal language model with random weights, since its time does not depend on them."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 1_000
PROMPT = 32
"""Tokens of a prompt."""
ANSWER = 48
"""Tokens of an answer."""


def load_chat_model() -> LlamaForCausalLM:
    """Build the model, with the same weights each time. Its answers always have `ANSWER` tokens."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    limits = {"min_new_tokens": ANSWER, "max_new_tokens": ANSWER, "do_sample": False, "pad_token_id": 0}
    model.generation_config.update(**limits)
    return model


def prompt() -> Tensor:
    """Return random token ids (1, PROMPT)."""
    return torch.randint(1, VOCABULARY, (1, PROMPT), generator=torch.Generator().manual_seed(0))
