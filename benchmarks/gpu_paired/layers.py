"""A model of equal layers. `gpu_check.py` changes their number in `counts.json`: one more of 20 is 5 %."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

WIDTH, BATCH = (256, 64) if os.environ.get("INFERGATE_GPU_CHECK_SMALL") else (4096, 1024)


def load(name: str) -> tuple[nn.Module, Tensor]:
    """Build a model and its input."""
    count = json.loads(Path(__file__).with_name("counts.json").read_text())[name]
    torch.manual_seed(0)
    layers = nn.Sequential(*(part for _ in range(count) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())))
    return layers.eval(), torch.randn(BATCH, WIDTH)
