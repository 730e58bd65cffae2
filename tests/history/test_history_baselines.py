"""Baselines in a history: the contract of stores, and the verdicts of files."""

import pytest

from pytest_infergate.core.domain.records import AcceptedChange, Baseline, BaselineCase
from pytest_infergate.history.history_baselines import opened_baselines
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.testing import StoreContract, sample_session


@pytest.fixture(params=["folder", "s3", "sqlite", "postgresql"])
def store(request, address, tmp_path):
    return opened_baselines(address(request.param), tmp_path, "demo")


class TestBaselinesInAHistory(StoreContract):
    """Everything that a store of baselines must do, in each kind of place."""


def test_the_baseline_is_that_of_files(store, tmp_path):
    """Thirty sessions of two cases, with an accepted change in between."""
    files = FileStore(tmp_path / "files")
    for day in range(1, 29):
        for test in ("a.py::test_a", "a.py::test_b")[: 1 + day % 2]:
            session = sample_session(f"2026-01-{day:02}T00:00:00Z", test=test, p50=day / 100)
            for one in (store, files):
                one.record(session)
        if day == 10:
            entry = session.cases[0]
            change = AcceptedChange(created="2026-01-10T12:00:00Z", reason="a larger model")
            accepted = BaselineCase(case=entry.case, sessions=(), accepted=(change,))
            for one in (store, files):
                one.record(Baseline(hardware=session.hardware, cases=(accepted,)))
    key = session.hardware.id
    assert store.load(key) == files.load(key)
    first, _ = files.load(key).cases
    assert [point.created[8:10] for point in first.anchor] == [f"{day:02}" for day in range(11, 23)]
    assert [point.created[8:10] for point in first.sessions] == [f"{day:02}" for day in range(17, 29)]
