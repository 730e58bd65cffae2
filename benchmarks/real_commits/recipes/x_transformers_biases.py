"""Norms and projections without biases."""

REPOSITORY = "lucidrains/x-transformers"
COMMIT = "7916859458525e9da8336378e09f351dacb7436c"


def load():
    import torch
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=256, depth=4, heads=4)
    model = TransformerWrapper(num_tokens=1000, max_seq_len=128, attn_layers=layers)
    return model.eval(), torch.randint(0, 1000, (2, 128))
