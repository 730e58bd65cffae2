"""Small models of torch that a machine is examined with: arithmetic, convolution, attention, small operators.

A call of each takes a few milliseconds on two cores.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn


class SmallOperators(nn.Module):
    """A model whose time is that of dispatching operators."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(80))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape: (items, 64)."""
        for layer in self.layers:
            x = x + layer(x).relu().mul(0.5)
        return x


def perceptron() -> tuple[nn.Module, Tensor]:
    """Return a model of dense products, and its input."""
    parts = [part for _ in range(4) for part in (nn.Linear(768, 768), nn.GELU())]
    return nn.Sequential(*parts).eval(), torch.randn(32, 768)


def convolution() -> tuple[nn.Module, Tensor]:
    """Return a model with large activations, and its input."""
    parts = (nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU())
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1)).eval(), torch.randn(2, 3, 96, 96)


def transformer() -> tuple[nn.Module, Tensor]:
    """Return a layer with attention, and its input."""
    return nn.TransformerEncoderLayer(256, 4, 512, batch_first=True).eval(), torch.randn(2, 128, 256)


def small_operators() -> tuple[nn.Module, Tensor]:
    """Return a model of many small operators, and its input."""
    return SmallOperators().eval(), torch.randn(16, 64)


SMALL_MODELS: Final = {
    "perceptron": perceptron,
    "convolution": convolution,
    "transformer": transformer,
    "small_operators": small_operators,
}
"""What builds a model and its input, by name."""
