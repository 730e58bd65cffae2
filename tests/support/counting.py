"""Cases counted on the real CPU while a fake clock runs: no time is measured, and none is waited for."""

import torch

from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate import counter_changes as core
from pytest_infergate.devices.cpu import Cpu
from pytest_infergate.instruments import operator_counters
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.placement import placed
from pytest_infergate.runner.run import REPETITIONS
from pytest_infergate.runtimes.prepared_case import SETTLING_CALLS
from pytest_infergate.testing import FakeDevice

ONE_PASS = "cuda"
"""Any device but the CPU, for which a second pass looks for round trips."""


def counted(call, device="cpu"):
    """Count one call in inference mode."""
    with torch.inference_mode():
        return operator_counters.counters(call, device)


def flops(call):
    return counted(call, ONE_PASS).totals["flops"]


def calls(seen):
    """How often which operator ran where."""
    return {(row.operator, row.place): row.calls for row in seen.work}


def counting_device():
    """A device whose calls take no real time, and whose counters are those of the CPU."""
    device, cpu = FakeDevice(), Cpu()
    device.count, device.memory, device.architecture = cpu.count, cpu.memory, cpu.architecture
    return device


def measured(model, *args, device=None, dtype=None):
    """Measure a case as a session does."""
    device = device or counting_device()
    with placed(Invocation(model, args), "cpu", dtype) as ready:

        def call():
            device.spend(1.0)  # so long that there are few calls
            return ready.call()

        settling = SETTLING_CALLS if ready.unsettled else 0
        subject = Subject(
            call,
            weights=ready.weights,
            unfound=ready.unfound,
            hidden=ready.hidden,
            threads=torch.get_num_threads(),
            settling=settling,
        )
        return measure(subject, device, Effort(60, repetitions=REPETITIONS))


def counters(model, *args, **options):
    return measured(model, *args, **options).measurement.counters


def recorded(run):
    """What would be put on record of a run."""
    result = CaseResult(
        case=Case(test="tests/test_model.py::test_model", device="cpu"),
        nodeid="tests/test_model.py::test_model[cpu]",
        outcome=Outcome.MEASURED,
        measurement=run.measurement,
    )
    return core.counter_record(result, torch.__version__)


def compared(before, after):
    """Compare two runs by their counters, as strictly as the gate does."""
    comparisons = core.compare_counters(recorded(before), recorded(after), {}, 0.01)
    return {comparison.metric: comparison for comparison in comparisons}
