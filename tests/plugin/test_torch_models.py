"""Real modules on the real CPU through the whole plugin. Nothing here depends on how long a call takes."""

import importlib

import pytest

torch = pytest.importorskip("torch")
# Kept loaded: a run in this process would register these a second time.
importlib.import_module("torch._dynamo")
importlib.import_module("torch._inductor.config")

pytestmark = pytest.mark.torch


@pytest.fixture
def measured(pytester, inner_runs):
    """Run a file of inference tests on the CPU, briefly."""

    def run(source, *options):
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess(
            "-p", "pytest_infergate.plugin.hooks", "--infer-devices=cpu", "--infer-max-time=0.5", *options
        )

    return run


def test_a_module_is_measured_and_its_output_is_a_normal_tensor(measured):
    measured(
        """
        import pytest, torch

        @pytest.mark.inference(batch_sizes=[2])
        def test_model(infer):
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
        """
    ).assert_outcomes(passed=1)


def test_a_module_scoped_model_survives_all_cases(measured):
    measured(
        """
        import pytest, torch

        @pytest.fixture(scope="module")
        def model():
            model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout())
            model.register_buffer("calls", torch.zeros(()))
            model.register_forward_hook(lambda module, *_: module.calls.add_(1))
            yield model
            assert model.training and model[1].training
            assert model[0].weight.dtype == torch.float32 and model.calls == 0

        @pytest.mark.inference(dtypes=["float32", "bfloat16"], threads=[1, 2], batch_sizes=[1, 3])
        def test_model(infer, model):
            out = infer(model, torch.randn(infer.batch_size, 8)).output
            assert out.dtype == infer.dtype
            assert infer.threads in (1, 2) and torch.get_num_threads() not in (0,)
        """,
        "-v",
    ).assert_outcomes(passed=8)


def test_threads_are_set_and_restored(measured):
    measured(
        """
        import pytest, torch

        before = torch.get_num_threads()

        @pytest.mark.inference(threads=[1])
        def test_model(infer):
            seen = []
            infer(lambda: seen.append(torch.get_num_threads()))
            assert set(seen) == {1} and torch.get_num_threads() == before
        """
    ).assert_outcomes(passed=1)


def test_a_stateful_model_whose_output_grows_is_invalid(measured):
    result = measured(
        """
        import torch

        class Growing(torch.nn.Module):
            def forward(self, x):
                self.n = getattr(self, "n", 0) + 1
                return x.repeat(min(self.n, 3))

        def test_model(infer):
            model = Growing()
            infer(model, torch.ones(2))
            assert not hasattr(model, "n")
        """
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*invalid*", "*the output changed from float32*2* to *between calls*"])


def test_nan_is_invalid(measured):
    result = measured(
        "import torch\ndef test_model(infer): infer(torch.nn.ReLU(), torch.full((2, 2), float('nan')))"
    )
    result.stdout.fnmatch_lines(["*invalid*", "*the output holds NaN: 4 of 4 values*"])


def test_a_callable_that_records_gradients_is_told_so(measured):
    result = measured(
        """
        import torch
        model = torch.nn.Linear(4, 4)
        def test_model(infer): infer(lambda: model(torch.ones(1, 4)))
        """
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*gradients were on while timing*"])
    result.stdout.fnmatch_lines(["*a module inside the callable was in training mode*"])


def test_out_of_memory_on_the_cpu_is_infeasible(measured):
    result = measured("import torch\ndef test_model(infer): infer(lambda: torch.empty(1 << 50))", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*infeasible*", "*out of memory on cpu at batch size 1*"])


def test_a_real_slowdown_is_red_from_a_baseline_of_one_session(measured, monkeypatch):
    # Fifty times slower is fifty times slower on any machine, but a busy one says that it does not know.
    monkeypatch.setattr("pytest_infergate.instruments.interference.contention", lambda *_: 0.0)
    source = """
        import time, torch
        model = torch.nn.Linear(64, 64)
        def test_model(infer):
            infer(lambda: (time.sleep({seconds}), model(torch.ones(1, 64)))[1])
        """
    measured(source.format(seconds=0.002), "--infer-save").assert_outcomes(passed=1)
    result = measured(source.format(seconds=0.1))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*"])


def test_plain_pytest_puts_a_module_into_eval_and_leaves_it(pytester, inner_runs):
    pytester.makepyfile(
        """
        import torch
        def test_model(infer):
            model = torch.nn.Dropout(0.5).train()
            assert infer(model, torch.ones(100)).output.sum() == 100
            assert model.training
        """
    )
    pytester.runpytest_inprocess("-p", "pytest_infergate.plugin.hooks").assert_outcomes(passed=1)
