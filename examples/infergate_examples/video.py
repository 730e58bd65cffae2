"""Classification of video frames: ResNet-50 with random weights, since its time does not depend on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

WIDTH = 224
"""Width and height of a frame in pixels."""
CLASSES = 1000


class FrameClassifier(nn.Module):
    """ResNet-50 over frames that arrive as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNetForImageClassification(ResNetConfig(num_labels=CLASSES))

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (batch, 3, WIDTH, WIDTH) of bytes to probabilities (batch, CLASSES)."""
        scaled = frames.to(next(self.parameters()).dtype).div(127.5).sub(1)
        return self.network(pixel_values=scaled).logits.softmax(1)


def load_frame_classifier() -> FrameClassifier:
    """Build the network, with the same weights each time."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return FrameClassifier().eval()


def frames(batch_size: int) -> Tensor:
    """Return frames of noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch_size, 3, WIDTH, WIDTH), dtype=torch.uint8, generator=generator)
