"""The call that infergate times for ONNX Runtime and OpenVINO, over a loop by hand around the same session.

    python benchmarks/runtime_overhead.py

Both are timed alternately, in blocks. Figures are the median ratio of pairs and its quartiles, for a model
of the size of MiniLM and for a single layer.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import torch
from transformers import BertConfig, BertModel

from pytest_infergate.core.domain.values import Case
from pytest_infergate.devices.cpu import CpuKind
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.plugin.hooks import pytest_infergate_runtimes
from pytest_infergate.runtimes.prepared_case import prepared

PAIRS = 31
BLOCK_SECONDS = 0.1


def minilm() -> Invocation:
    model = BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)).eval()
    mask = torch.ones(1, 64, dtype=torch.int64)
    tokens = torch.randint(5, 30_000, (1, 64))
    return Invocation(model, (), {"input_ids": tokens, "attention_mask": mask})


def layer() -> Invocation:
    return Invocation(torch.nn.Linear(8, 4).eval(), (torch.randn(1, 8),))


def by_hand(call: functools.partial[Any]) -> Callable[[], Any]:
    """Return a call of the same session with inputs that are arrays already."""
    run = inspect.getclosurevars(call.func).nonlocals["run"]
    used = inspect.getclosurevars(run).nonlocals
    arrays = [value.numpy() for value in (*call.args, *call.keywords.values())]
    if "session" in used:
        feed = dict(zip(used["names"], arrays, strict=True))
        return lambda: used["session"].run(used["outputs"], feed)
    numbered = dict(enumerate(arrays))
    return lambda: used["request"].infer(numbered, share_inputs=True, share_outputs=True)


def seconds(call: Callable[[], Any], count: int) -> float:
    """Return the seconds of so many calls."""
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - begin


def main() -> None:
    """Print a line for each runtime and model."""
    device = CpuKind().open("cpu")
    for runtime in pytest_infergate_runtimes():
        if runtime.name not in ("onnxruntime", "openvino") or runtime.absence_reason() is not None:
            continue
        for build in (minilm, layer):
            case = Case(test="overhead", device="cpu", runtime=runtime.name)
            with prepared(case, device, build(), runtime) as (subject, _, _):
                hand = by_hand(subject.call)
                count = max(1, round(BLOCK_SECONDS / (seconds(hand, 20) / 20)))
                pairs = [(seconds(subject.call, count), seconds(hand, count)) for _ in range(PAIRS)]
            low, middle, high = quantiles((ours / its for ours, its in pairs), n=4)
            own = 1e6 * median(ours - its for ours, its in pairs) / count
            print(
                f"{runtime.name} {build.__name__}: x{middle:.3f} ({low:.3f} to {high:.3f}), {own:+.1f} µs of "
                f"{1e6 * median(its for _, its in pairs) / count:.1f} µs"
            )


if __name__ == "__main__":
    main()
