"""The example of docs/extending.md on a real device of torch: measured, recorded, compared, paired, advised.

Each run of pytest is a process of its own, because the device can be registered in a process once.
"""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inner_results import verdicts

pytestmark = [
    pytest.mark.torch,
    pytest.mark.nightly,
    pytest.mark.skipif(
        importlib.util.find_spec("torch_mojo_backend") is None,
        reason="no torch-mojo-backend: make test-accelerator",
    ),
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
MODEL = """
import torch


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
"""
TESTS = """
import pytest
import torch
from small_model import network


@pytest.mark.inference(batch_sizes=[1, 64])
def test_module(infer):
    model, x = network(), torch.ones(infer.batch_size, 64)
    output = infer(model, x).output
    with torch.no_grad():
        torch.testing.assert_close(output, network()(x), rtol=1e-3, atol=1e-4)
    for layer in (model[0], model[2]):
        assert type(layer.weight) is torch.nn.Parameter
        assert layer.weight.device.type == "cpu"


@pytest.mark.inference
def test_callable(infer):
    model, x = network().to(infer.device).eval(), torch.ones(4, 64, device=infer.device)

    def call():
        with torch.no_grad():
            return model(x)

    infer(call)
"""


def process(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def results(folder, *arguments, devices="cpu,mojo"):
    """Run the tests; return the cases of the results on `mojo` by name of the test."""
    arguments = (f"--infer-devices={devices}", "--infer-max-time=15", "--infer-json=results.json", *arguments)
    status, text = process(folder, "pytest", "-p", "no:cacheprovider", *arguments)
    assert status == 0, text
    cases = json.loads((folder / "results.json").read_text())["cases"]
    return {case["nodeid"].partition("::")[2]: case for case in cases}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository with the conftest.py of the document, whose kernels are compiled by a first run."""
    (example,) = re.findall(
        r"```python\n(from pytest_infergate import AcceleratorKind\n.*?)```", DOCUMENT.read_text(), re.DOTALL
    )
    assert len(example.splitlines()) <= 30
    path = tmp_path_factory.mktemp("project")
    (path / "conftest.py").write_text(example)
    (path / "small_model.py").write_text(MODEL)
    (path / "test_it.py").write_text(TESTS)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *command], cwd=path, check=True)
    # Compiling may take longer than the time limit of a case, which then lacks figures.
    results(path, "--infer-counters-only")
    return path


@pytest.fixture(scope="module")
def cases(folder):
    """The cases that a run without a baseline measures."""
    return results(folder)


ON_MOJO = ["test_module[mojo-b1]", "test_module[mojo-b64]", "test_callable[mojo]"]


@pytest.mark.parametrize("name", ON_MOJO)
def test_a_case_is_measured(cases, name):
    case = cases[name]
    measurement = case["measurement"]
    assert case["outcome"] == "measured"
    assert 0 < measurement["enqueue"] <= measurement["latency"]["p99"]["value"]
    assert set(measurement["reference_work"]) == {"compute", "copy", "dispatch"}
    batch = {"test_module[mojo-b1]": 1, "test_module[mojo-b64]": 64, "test_callable[mojo]": 4}[name]
    assert measurement["counters"]["totals"]["flops"] == 2 * batch * (64 * 64 + 64 * 8)
    assert (measurement.get("host_to_host") is not None) is name.startswith("test_module")
    codes = {note["code"] for note in measurement["notes"]}
    assert {"memory-unseen", "device-time-unseen"} <= codes
    assert not codes & {"instrument-failed", "inputs-changed", "not-counted"}


def test_both_devices_are_advised_on(folder, cases):
    status, text = process(
        folder, "pytest_infergate", "advise", "results.json", "--demand", "5/s", "--p95-ms", "200"
    )
    assert status == 0, text
    assert "mojo" in text


def test_times_are_compared_with_the_baseline(folder, cases):
    results(folder, "--infer-save", "--infer-save-contended")
    recorded = json.loads(next((folder / ".infergate" / "baselines").glob("*mojo*.json")).read_text())
    assert len(recorded["cases"]) == len(ON_MOJO)
    results(folder)
    decided = verdicts(folder / "results.json")
    for name in ON_MOJO:
        # On a busy machine, what is decided about the times is open; that they were compared is not.
        assert decided[name.removeprefix("test_")].verdict not in (
            "no-baseline",
            "invalid",
            "not-measured",
        ), name


def test_pairs_of_processes_compare_equal_code(folder, cases):
    results(folder, "--infer-against=HEAD", "--infer-max-time=60", "-k", "b64", devices="mojo")
    decided = verdicts(folder / "results.json")["module[mojo-b64]"]
    assert not decided.failed
    assert decided.verdict not in ("no-baseline", "invalid", "not-measured")
    assert "outputs-differ" not in decided.codes
