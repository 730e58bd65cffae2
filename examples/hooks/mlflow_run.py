"""Logs the figures of each case as a run of MLflow: copy this into an initial conftest.py."""

import re

import mlflow


def key(*parts):
    """Return a name that MLflow allows for metrics."""
    return re.sub(r"[^\w .:/-]", "_", "/".join(parts))


def pytest_infergate_results(config, results):
    figures = {}
    for result in results.cases:
        if result.measurement is None:
            continue
        if result.measurement.latency is not None:
            for name in ("p50", "p95"):
                figure = getattr(result.measurement.latency, name)
                if figure.high is not None:  # without a bound, it is the slowest of few calls
                    figures[key(result.nodeid, f"{name}_s")] = figure.value
        if result.measurement.memory.peak is not None:
            figures[key(result.nodeid, "peak_memory_bytes")] = result.measurement.memory.peak
        for name, count in result.measurement.counters.totals.items():
            figures[key(result.nodeid, name)] = count
    # The server and the experiment are those of MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.
    with mlflow.start_run(run_name=f"infergate {results.created}"):
        mlflow.set_tags(
            {"infergate.passed": results.gate.passed, "infergate.headline": results.gate.headline}
        )
        mlflow.log_params(
            {f"version.{name}": number for name, number in results.environment.packages.items()}
        )
        mlflow.log_metrics(figures)
