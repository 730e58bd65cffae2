"""The activation by the library's operator instead of a formula of six."""

REPOSITORY = "karpathy/nanoGPT"
COMMIT = "594068e7ae8a6c06e13066096558d68104489649"


def load():
    import torch
    from model import GPT, GPTConfig

    config = GPTConfig(block_size=128, vocab_size=1024, n_layer=4, n_head=4, n_embd=256, dropout=0.0)
    return GPT(config).eval(), torch.randint(0, 1024, (4, 128))
