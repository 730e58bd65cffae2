"""Real modules on the real CPU through the whole plugin. Nothing here depends on how long a call takes."""

import pytest

from pytest_infergate.instruments import cpu_contention

pytestmark = pytest.mark.torch


@pytest.fixture
def cpu(project, torch_kept):
    """Run a file of inference tests on the CPU, briefly."""
    (project.path / "conftest.py").unlink()

    def run(source, *options):
        project.pytester.makepyfile(test_it=source)
        return project.run("--infer-devices=cpu", "--infer-json=r.json", *options)

    return run


MODELS = """
    import pytest, torch

    before = torch.get_num_threads()


    @pytest.mark.inference(batch_sizes=[2])
    def test_module(infer):
        model = torch.nn.Linear(8, 4).train()
        inputs = {"input": torch.randn(infer.batch_size, 8)}
        result = infer(model, **inputs)
        assert result.output.shape == (2, 4)
        assert not result.output.is_inference() and not result.output.requires_grad
        result.output.add_(1).requires_grad_()
        assert result.memory.weights == (8 * 4 + 4) * 4
        assert result.memory.activations == 2 * 4 * 4
        assert model.training
        assert result.measurement.threads == torch.get_num_threads()


    @pytest.fixture(scope="module")
    def shared():
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout())
        model.register_buffer("calls", torch.zeros(()))
        model.register_forward_hook(lambda module, *_: module.calls.add_(1))
        yield model
        assert model.training and model[1].training
        assert model[0].weight.dtype == torch.float32 and model.calls == 0


    @pytest.mark.inference(dtypes=["float32", "bfloat16"], batch_sizes=[1, 3])
    def test_shared(infer, shared):
        assert infer(shared, torch.randn(infer.batch_size, 8)).output.dtype == infer.dtype


    @pytest.mark.inference(threads=[1, 2])
    def test_threads(infer):
        seen = []
        infer(lambda: seen.append(torch.get_num_threads()))
        assert set(seen) == {infer.threads} and torch.get_num_threads() == before


    class Growing(torch.nn.Module):
        def forward(self, x):
            self.n = getattr(self, "n", 0) + 1
            return x.repeat(min(self.n, 3))


    def test_growing(infer):
        model = Growing()
        infer(model, torch.ones(2))
        assert not hasattr(model, "n")


    def test_nan(infer):
        infer(torch.nn.ReLU(), torch.full((2, 2), float("nan")))


    linear = torch.nn.Linear(4, 4)


    def test_gradients(infer):
        infer(lambda: linear(torch.ones(1, 4)))


    def test_out_of_memory(infer):
        infer(lambda: torch.empty(1 << 50))
"""


def test_modules_are_measured_and_left_as_they_were(project, cpu):
    result = cpu(MODELS, "--infer-max-time=0.1")
    result.assert_outcomes(passed=10, skipped=1)
    decided = {name.removesuffix("[cpu]"): one for name, one in project.decided("r.json").items()}
    assert {name for name, one in decided.items() if one.verdict == "invalid"} == {"growing", "nan"}
    assert "shape-changed" in decided["growing"].codes
    assert "nan-output" in decided["nan"].codes
    assert {"gradients-on", "training-mode"} <= decided["gradients"].codes
    assert decided["out_of_memory"].verdict == "infeasible"
    assert decided["module[cpu-b2]"].verdict == "no-baseline"


def test_plain_pytest_puts_a_module_into_eval_and_leaves_it(project, cpu):
    project.pytester.makepyfile(
        test_it="""
        import torch
        def test_model(infer):
            model = torch.nn.Dropout(0.5).train()
            assert infer(model, torch.ones(100)).output.sum() == 100
            assert model.training
        """
    )
    project.run().assert_outcomes(passed=1)


@pytest.mark.nightly
def test_a_real_slowdown_is_red_from_a_baseline_of_one_session(cpu, monkeypatch):
    # Fifty times slower is fifty times slower on any machine, but a busy one says that it does not know.
    monkeypatch.setattr(cpu_contention, "contention", lambda *_: 0.0)
    source = """
        import time, torch
        model = torch.nn.Linear(64, 64)
        def test_model(infer):
            infer(lambda: (time.sleep({seconds}), model(torch.ones(1, 64)))[1])
        """
    options = ("--infer-max-time=0.5",)
    cpu(source.format(seconds=0.002), "--infer-save", *options).assert_outcomes(passed=1)
    result = cpu(source.format(seconds=0.1), *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*"])


UNUSUAL = """
    import pytest, torch
    from torch import nn
    from odd_tensors import Wraps, quantised


    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.unused = quantised(), nn.LazyLinear(2)
            self.stem = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())

        def forward(self, x):
            return self.stem(x), self.rows


    @pytest.mark.inference
    def test_lazy(infer):
        x = torch.ones(2, 3, 8, 8)
        output, rows = infer(Table(), x).output
        assert output.shape == (2, 4, 6, 6)
        assert torch.equal(rows.dequantize(), quantised().dequantize())


    @pytest.mark.inference
    def test_not_copied(infer):
        table = Wraps(torch.ones(2))
        assert infer(lambda x: (x, table), torch.ones(1)).output[1] is table
"""


def test_what_torch_refuses_to_copy_runs_in_every_mode(project, cpu):
    cpu(UNUSUAL, "--infer-counters-only", "-W", "ignore").assert_outcomes(passed=2)
    decided = {name.removesuffix("[cpu]"): one for name, one in project.decided("r.json").items()}
    assert "tensor-not-copied" not in decided["lazy"].codes
    assert "tensor-not-copied" in decided["not_copied"].codes
    project.run("-W", "ignore").assert_outcomes(passed=2)
