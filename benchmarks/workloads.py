"""Eight models of 2 to 20 ms, each of which can be made slower by a known share of its time.

`paired_gate.py` copies this file into a repository of its own, in which only the stretch changes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

SPENT = [0.0, 0.0]
"""Total seconds of the calls of the model that was loaded last, without and with the stretch."""


class Stretched(nn.Module):
    """A model that spins after each call for a share of the time that the call took."""

    def __init__(self, inner: nn.Module, share: float, name: str) -> None:
        super().__init__()
        self.inner = inner
        self.share = share
        self.name = name

    def forward(self, *inputs: Tensor) -> object:
        begin = time.perf_counter()
        output = self.inner(*inputs)
        middle = time.perf_counter()
        until = begin + (middle - begin) * (1 + self.share)
        while time.perf_counter() < until:
            pass
        SPENT[0] += middle - begin
        SPENT[1] += time.perf_counter() - begin
        return output


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(256, 768)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x).unflatten(-1, (3, 8, 32)).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(query, key, value)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(128, 128, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Tabular(nn.Module):
    """A model of many small operators."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(120))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x).relu().mul(0.5)
        return x


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32),
        nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(1024, 1024), nn.GELU())))


WORKLOADS = {
    "mlp": (mlp, (32, 1024)),
    "conv": (conv, (4, 3, 96, 96)),
    "transformer": (lambda: nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True), (4, 128, 256)),
    "lstm": (Recurrent, (8, 48, 128)),
    "attention": (Attention, (4, 256, 256)),
    "tabular": (Tabular, (16, 64)),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(64, 64, 5, padding=2, groups=64), nn.Hardswish(), nn.Conv2d(64, 128, 1)
        ),
        (4, 64, 56, 56),
    ),
    "embedding": (
        lambda: nn.Sequential(
            nn.EmbeddingBag(20_000, 512), nn.Linear(512, 2048), nn.Tanh(), nn.Linear(2048, 512)
        ),
        None,
    ),
}


def load(name: str) -> tuple[nn.Module, Tensor]:
    """Build a workload and its input, stretched by its share in ``stretch.json``."""
    SPENT[:] = 0.0, 0.0  # outside the model, because infergate restores the model
    build, shape = WORKLOADS[name]
    model = build().eval()
    x = torch.randint(0, 20_000, (64, 50)) if shape is None else torch.randn(shape)
    share = json.loads(Path(__file__).with_name("stretch.json").read_text()).get(name, 0.0)
    return Stretched(model, share, name).eval(), x


def tell(model: nn.Module) -> None:
    """Append the seconds of a model, without and with the stretch, to the file named by the environment."""
    place = os.environ.get("INFERGATE_REALISED")
    if place and isinstance(model, Stretched):
        record = {
            "name": model.name,
            "asked": model.share,
            "inner": SPENT[0],
            "whole": SPENT[1],
        }
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
