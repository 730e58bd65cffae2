"""Sends the figures of each case as OpenTelemetry metrics: copy this into an initial conftest.py."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource


def reader():
    # For a collector: OTLPMetricExporter() of the package opentelemetry-exporter-otlp.
    return PeriodicExportingMetricReader(ConsoleMetricExporter())


def pytest_infergate_results(config, results):
    provider = MeterProvider([reader()], Resource({"service.name": "inference-tests"}))
    meter = provider.get_meter("pytest-infergate", results.tool_version)
    duration = meter.create_gauge("infergate.call.duration", "s", "Percentiles of the time of a call")
    throughput = meter.create_gauge("infergate.throughput", "{item}/s", "Items per second, back to back")
    memory = meter.create_gauge("infergate.memory.peak", "By", "Weights and activations of a call")
    failed = {verdict.nodeid: verdict.failed for verdict in results.gate.verdicts}
    for result in results.cases:
        if result.measurement is None:
            continue
        case = {
            "test.case.name": result.nodeid,
            "test.case.result.status": "fail" if failed.get(result.nodeid) else "pass",
            "infergate.device": result.case.device,
        }
        if result.measurement.latency is not None:
            for percentile in ("p50", "p95", "p99"):
                figure = getattr(result.measurement.latency, percentile)
                if figure.high is not None:  # without a bound, it is the slowest of few calls
                    duration.set(figure.value, {**case, "infergate.percentile": percentile})
        if result.measurement.throughput is not None:
            throughput.set(result.measurement.throughput, case)
        if result.measurement.memory.peak is not None:
            memory.set(result.measurement.memory.peak, case)
    provider.force_flush()
    provider.shutdown()
