"""Rows that are masked entirely are always filled, without asking whether there is one."""

REPOSITORY = "lucidrains/x-transformers"
COMMIT = "514b99bb35419f49400a81110e50a7270a947f9c"


def load():
    import torch
    from x_transformers import Encoder, TransformerWrapper

    layers = Encoder(dim=256, depth=4, heads=4, attn_flash=True)
    model = TransformerWrapper(num_tokens=1000, max_seq_len=128, attn_layers=layers)
    model.eval()
    mask = torch.ones(1, 128, dtype=torch.bool)
    mask[:, 100:] = False
    tokens = torch.randint(0, 1000, (1, 128))
    return torch.inference_mode()(lambda tokens: model(tokens, mask=mask)), tokens
