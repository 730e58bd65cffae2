"""Files that version 0.1 wrote still load, with the field names of today."""

import json
from pathlib import Path

from pytest_infergate.core.domain.upgrade_0_1 import FIELDS, upgraded
from pytest_infergate.core.domain.values import SCHEMA_VERSION
from pytest_infergate.report.results_json import parse_results, render_results
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.storage.counter_files import CounterFiles
from pytest_infergate.storage.paired_data import encode_paired_data, read_paired_data

OLD = Path(__file__).parents[1] / "data" / "version_0_1"


def test_results():
    session = parse_results((OLD / "results.json").read_bytes(), "results.json")
    assert len(session.cases) == 2
    measurement = session.cases[0].measurement
    assert set(measurement.reference_work) == {"compute", "copy", "dispatch"}
    assert measurement.contention == 0.0
    again = json.loads(render_results(session))
    assert again["schema_version"] == SCHEMA_VERSION
    assert not FIELDS.keys() & set(keys(again))


def test_hints_of_notes():
    recorded = OLD.parents[2] / "benchmarks" / "results" / "machines" / "two-cores.json"
    session = parse_results(recorded.read_bytes(), recorded.name)
    notes = [note for result in session.cases if result.measurement for note in result.measurement.notes]
    assert any(note.hint for note in notes)


def keys(value):
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from keys(part)


def test_baseline():
    store = FileStore(str(OLD / "baselines"))
    baseline = store.load(*store.classes())
    assert [entry.sessions[0].reference_work["compute"] for entry in baseline.cases] == [0.001, 0.001]


def test_counters():
    (record,) = [one for case, one in CounterFiles(OLD / "counters").load().items() if case.batch_size == 1]
    assert record.tallies[0].counters == {"peak_memory_bytes": 1_000_000}


def test_paired_data(tmp_path):
    data = read_paired_data(OLD / "turns.json")
    assert len(data.cases[0].screen[0].base_gpu_states) == 6
    path = tmp_path / "new.json"
    path.write_text(encode_paired_data(data))
    assert json.loads(path.read_text())["schema_version"] == 2
    assert read_paired_data(path).cases == data.cases


def test_keys_of_users_stay():
    assert upgraded({"packages": {"crews": "1.0"}, "cure": "x"}) == {
        "packages": {"crews": "1.0"},
        "hint": "x",
    }


def test_codes_of_notes_are_renamed():
    assert upgraded([{"code": "fickle-id", "schema_version": 1}]) == [
        {"code": "unstable-id", "schema_version": SCHEMA_VERSION}
    ]
