"""Codes are selected and then transformed; the transformed codebook is computed all the same."""

REPOSITORY = "lucidrains/vector-quantize-pytorch"
COMMIT = "8f5b428949feb4bca52264f253377188f2c21a23"


def load():
    import torch
    from vector_quantize_pytorch import SimVQ

    model = SimVQ(dim=256, codebook_size=512).eval()
    return model.indices_to_codes, torch.randint(0, 512, (1, 256))
