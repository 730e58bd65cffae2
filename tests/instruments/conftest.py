import gc
import sys

import pytest

from pytest_infergate.measure import guard


@pytest.fixture
def undisturbed(monkeypatch):
    """What is counted takes no longer than it must: no collection, one thread, no tracer that would end it."""
    monkeypatch.setattr(guard, "active_tracer", lambda: None)
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    torch = sys.modules["torch"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
