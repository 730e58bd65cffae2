"""Six reference models with random weights, since their times do not depend on the weights.

With ``INFERGATE_GPU_CHECK_SMALL`` they have fewer layers and smaller inputs, for a rehearsal on a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

SMALL = bool(os.environ.get("INFERGATE_GPU_CHECK_SMALL"))
BATCHES = [1, 2, 4] if SMALL else [1, 8, 256]
WIDTH = 64 if SMALL else 224
TOKENS = 16 if SMALL else 128


def resnet50() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(depths=[1] * 4 if SMALL else [3, 4, 6, 3]))


def efficientnet_b0() -> nn.Module:
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    return EfficientNetForImageClassification(
        EfficientNetConfig(
            width_coefficient=1.0,
            depth_coefficient=0.2 if SMALL else 1.0,
            image_size=WIDTH,
            hidden_dim=1280,
            dropout_rate=0.2,
        )
    )


def vit_b16() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(image_size=WIDTH, num_hidden_layers=1 if SMALL else 12))


def bert_base() -> nn.Module:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(num_hidden_layers=1 if SMALL else 12))


def minilm() -> nn.Module:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(hidden_size=384, num_hidden_layers=2 if SMALL else 6, intermediate_size=1536))


def mlp() -> nn.Module:
    width = 256 if SMALL else 4096
    return nn.Sequential(*(part for _ in range(8) for part in (nn.Linear(width, width), nn.ReLU())))


def image(batch_size: int) -> Tensor:
    return torch.randn(batch_size, 3, WIDTH, WIDTH)


def text(batch_size: int) -> Tensor:
    return torch.randint(1_000, 30_522, (batch_size, TOKENS))


def vector(batch_size: int) -> Tensor:
    return torch.randn(batch_size, 256 if SMALL else 4096)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (mlp, vector),
    "minilm": (minilm, text),
    "bert-base": (bert_base, text),
    "vit-b16": (vit_b16, image),
    "resnet50": (resnet50, image),
    "efficientnet-b0": (efficientnet_b0, image),
}
"""By name, what builds the model and its input of a batch size; those that compile fastest come first."""


def load(name: str, batch_size: int) -> tuple[nn.Module, Tensor]:
    """Build a model and its input. Skips the test without transformers."""
    build, batch = MODELS[name]
    if name != "mlp":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    return build().eval(), batch(batch_size)
