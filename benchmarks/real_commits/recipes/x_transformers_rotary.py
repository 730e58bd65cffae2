"""Rotary positions by halves instead of pairs: fewer and larger operators. A single sequence."""

REPOSITORY = "lucidrains/x-transformers"
COMMIT = "872335910fc55ef03631878d2e14bcff0f944631"


def load():
    import torch
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=256, depth=4, heads=4, rotary_pos_emb=True)
    model = TransformerWrapper(num_tokens=1000, max_seq_len=128, attn_layers=layers)
    return model.eval(), torch.randint(0, 1000, (1, 128))
