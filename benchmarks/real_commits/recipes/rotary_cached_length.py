"""The length of the cached frequencies is an integer instead of a tensor that each call reads."""

REPOSITORY = "lucidrains/rotary-embedding-torch"
COMMIT = "37fdab42cd671b3e8c627366288a48dcc1ec9cd4"


def load():
    import torch
    from rotary_embedding_torch import RotaryEmbedding

    rotary = RotaryEmbedding(dim=32)
    return rotary.rotate_queries_or_keys, torch.randn(1, 8, 128, 64)
