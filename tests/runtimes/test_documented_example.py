"""The runtime of docs/extending.md converts and runs a model."""

import importlib
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.devices.cpu import CpuKind
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.runtimes.prepared_case import prepared

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"


def test_the_documented_runtime_works(tmp_path, monkeypatch):
    for name, content in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("INFERGATE_CACHE", str(tmp_path / "cache"))
    runtime = importlib.import_module("program_runtime").ProgramRuntime()
    model, x = torch.nn.Linear(4, 2).eval(), torch.ones(3, 4)
    case = Case(test="t.py::test_a", device="cpu", runtime="exported")
    with prepared(case, CpuKind().open("cpu"), Invocation(model, (x,)), runtime) as (subject, _, conversion):
        output = subject.structured(subject.call())
    torch.testing.assert_close(output, model(x))
    assert conversion.size > 0
    assert "pytest_infergate_runtimes" in (tmp_path / "conftest.py").read_text()
