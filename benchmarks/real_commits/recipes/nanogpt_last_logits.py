"""The logits of the last position only, instead of all positions, when nothing is trained."""

REPOSITORY = "karpathy/nanoGPT"
COMMIT = "8f85b8334749d1b6c3af3e11f4874bc1d0c0cad2"


def load():
    import torch
    from model import GPT, GPTConfig

    config = GPTConfig(block_size=128, vocab_size=8192, n_layer=4, n_head=4, n_embd=256, dropout=0.0)
    model = GPT(config).eval()
    # The position that is sampled from; all others are the change.
    return torch.inference_mode()(lambda tokens: model(tokens)[0][:, -1]), torch.randint(0, 8192, (1, 128))
