"""The hook that receives the results of a run, and the examples that use it."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
from core_values import ENVIRONMENT, case, counted, exact, latency, measurement, result

from pytest_infergate import Session
from pytest_infergate.core.domain.measurement import Estimate, Memory
from pytest_infergate.core.domain.outcome import CaseVerdict, GateResult, Outcome, Verdict

EXAMPLES = Path(__file__).parents[2] / "examples" / "hooks"
KEEPS = """
def pytest_infergate_results(config, results):
    from pytest_infergate.report.results_json import render_results

    with (config.rootpath / "kept.json").open("a") as file:
        file.write(render_results(results))
"""
NAME = "tests/test_a.py::test_model[cpu]"


def test_the_hook_gets_what_the_results_file_contains(project):
    project.change(KEEPS)
    project.test()
    assert project.measure("--infer-json=results.json").ret == 0
    # Called twice, the file would be no JSON.
    assert json.loads((project.path / "kept.json").read_text()) == json.loads(
        (project.path / "results.json").read_text()
    )


def test_a_run_that_does_not_measure_has_no_results(project):
    project.change(KEEPS)
    project.test()
    assert project.run().ret == 0
    assert not (project.path / "kept.json").exists()


def test_a_hook_that_fails_hides_nothing(project):
    project.change("def pytest_infergate_results(): raise OSError('the collector is gone')")
    project.test()
    done = project.measure("--infer-json=results.json", "--infer-save")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*pytest_infergate_results failed: OSError: the collector is gone*"])
    assert project.decided("results.json")
    assert list((project.path / ".infergate/baselines").iterdir())


# Examples


@pytest.fixture
def results():
    """A run of a case with times and one without."""
    measured = result(
        measurement=measurement(
            latency=latency(0.01, p95=exact(0.02), p99=Estimate(value=0.03)),
            memory=Memory(weights=40, activations=2),
            counters=counted(flops=100),
        )
    )
    skipped = result(Outcome.INFEASIBLE, of=case("tests/test_a.py::test_other"))
    verdict = CaseVerdict(case=measured.case, nodeid=NAME, verdict=Verdict.REGRESSED, failed=True)
    return Session(
        tool_version="1.2.3",
        created="2026-12-01T00:00:00.000+00:00",
        environment=ENVIRONMENT,
        cases=(measured, skipped),
        gate=GateResult(passed=False, headline="gate failed", verdicts=(verdict,), decided=1),
    )


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_opentelemetry_gets_figures_in_seconds_and_bytes(results, monkeypatch):
    export = pytest.importorskip("opentelemetry.sdk.metrics.export", reason="needs opentelemetry-sdk")
    sent = []

    class Kept(export.ConsoleMetricExporter):
        def export(self, metrics_data, *_, **__):
            sent.append(metrics_data)
            return export.MetricExportResult.SUCCESS

    module = example("opentelemetry_metrics")
    monkeypatch.setattr(module, "ConsoleMetricExporter", Kept)
    module.pytest_infergate_results(None, results)
    [resource] = sent[0].resource_metrics
    assert resource.resource.attributes["service.name"] == "inference-tests"
    found = {
        (metric.name, metric.unit, point.attributes.get("infergate.percentile")): point
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert {key: point.value for key, point in found.items()} == {
        ("infergate.call.duration", "s", "p50"): 0.01,
        ("infergate.call.duration", "s", "p95"): 0.02,
        ("infergate.throughput", "{item}/s", None): 100.0,
        ("infergate.memory.peak", "By", None): 42,
    }
    point = found["infergate.memory.peak", "By", None]
    assert (point.attributes["test.case.name"], point.attributes["test.case.result.status"]) == (NAME, "fail")


class FakeMlflow(types.ModuleType):
    """What the example uses of MLflow, kept in memory."""

    def __init__(self):
        super().__init__("mlflow")
        self.kept = {}

    def start_run(self, run_name):
        self.kept["name"] = run_name
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kept["ended"] = True

    def __getattr__(self, name):
        if name not in ("set_tags", "log_params", "log_metrics"):
            raise AttributeError(name)
        return lambda values: self.kept.update({name: values})


METRICS = {"p50_s": 0.01, "p95_s": 0.02, "peak_memory_bytes": 42, "flops": 100}
LOGGED = {f"tests/test_a.py::test_model_cpu_/{name}": value for name, value in METRICS.items()}


def test_mlflow_gets_a_run(results, monkeypatch):
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    example("mlflow_run").pytest_infergate_results(None, results)
    assert fake.kept["ended"]
    assert fake.kept["log_metrics"] == LOGGED
    assert fake.kept["set_tags"] == {"infergate.passed": False, "infergate.headline": "gate failed"}
    assert fake.kept["log_params"] == {"version.torch": "2.13.0"}


def test_the_real_mlflow_takes_it(results, tmp_path, monkeypatch):
    # mlflow-skinny has no database.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny, which brings 40 packages")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    mlflow.set_experiment("infergate")
    example("mlflow_run").pytest_infergate_results(None, results)
    [run] = mlflow.search_runs(output_format="list")
    assert run.data.metrics == LOGGED
    assert run.data.params == {"version.torch": "2.13.0"}
    assert run.data.tags["infergate.passed"] == "False"
