"""Fixtures of the tests that call torch to measure or to count."""

import gc
import sys

import pytest

from pytest_infergate.measure import output_checks, timing_guard


@pytest.fixture(autouse=True)
def collections(monkeypatch):
    """Counts collections in place of making them: each looks through all objects of torch."""
    made = []
    monkeypatch.setattr(gc, "collect", lambda *_: made.append(gc.isenabled()))
    return made


@pytest.fixture
def undisturbed(monkeypatch):
    """What is counted takes no longer than it must: one thread, no tracer that would end it."""
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)
    monkeypatch.setattr(output_checks, "_FIRST_THREADS", {})
    torch = sys.modules["torch"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
