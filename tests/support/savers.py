"""What processes save that run at once: they import this module alone."""

from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally
from pytest_infergate.core.domain.values import Case
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.storage.counter_files import CounterFiles
from pytest_infergate.testing import sample_session


def save_counters(folder, process, module):
    def record(name, of):
        tally = Tally(key=CounterKey(), counters={"flops": 8})
        return CounterRecord(case=Case(test=f"{of}::{name}", device="cpu"), tallies=(tally,))

    for number in range(10):
        CounterFiles(folder).record(
            [record(f"test_{process}_{number}", module), record("test_a", f"{process}.py")]
        )


def save_baselines(folder, process):
    store = FileStore(folder)
    for number in range(10):
        store.record(sample_session(test=f"test_{process}_{number}"))
        store.record(sample_session(f"2026-01-{10 * process + number + 1:02}T00:00:00Z"))
