"""MLPerf LoadGen itself, and how its process ends."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.load import loadgen
from pytest_infergate.load.batching_server import Limits, serve_requests
from pytest_infergate.load.load_statistics import load_figures
from pytest_infergate.load.loadgen import LoadGenError, loadgen_settings, running

needs_loadgen = pytest.mark.skipif(not loadgen.installed(), reason="mlcommons-loadgen is not installed")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder, and one for temporary files."""
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield here
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []


def settings(load, seconds, **changed):
    return loadgen_settings(
        load, seconds, **{"items": 4, "call_seconds": 0.001, "rate": 500.0, "limit": 0.1} | changed
    )


def load_test(load, seconds=0.5, *, call=0.001, max_batch=4, limit=5.0):
    batches = []
    with running(settings(load, seconds)) as traffic:
        served = serve_requests(
            traffic, lambda _: time.sleep(call), time.monotonic_ns, Limits(max_batch, limit), batches
        )
        own = traffic.own_percentile(95)
    return load_figures(load, served, seconds, max_batch=max_batch), served, own


@needs_loadgen
@pytest.mark.slow
def test_server():
    figures, served, own = load_test(Load(scenario="server", rate=200.0), 1.0)
    assert 120 < figures.queries < 300  # a Poisson process of 200
    assert figures.answered == figures.queries
    assert served.unanswered == ()
    assert figures.p50.value > 0.001
    assert {request.item for batch in served.batches for request in batch.requests} == {0, 1, 2, 3}
    # LoadGen counts from the planned moment to its own notice of the answer.
    assert own >= figures.p95.value * 0.98


@needs_loadgen
@pytest.mark.slow
def test_single_stream_waits_for_each_answer():
    figures, served, _ = load_test(Load(scenario="single-stream"))
    assert figures.longest_queue == 1
    assert figures.queries == len(served.batches) > 20
    assert figures.seconds == pytest.approx(0.5, abs=0.2)


@needs_loadgen
@pytest.mark.slow
def test_multi_stream_sends_queries_of_several_requests():
    figures, _, _ = load_test(Load(scenario="multi-stream", streams=6))
    assert figures.requests == 6 * figures.queries
    assert figures.p50.value > 0.002  # six requests are two batches


@needs_loadgen
@pytest.mark.slow
def test_offline_sends_all_at_once():
    figures, _, _ = load_test(Load(scenario="offline"))
    assert figures.mean_batch > 3.9
    assert figures.rate > 500
    assert figures.p95 is None


@needs_loadgen
@pytest.mark.slow
def test_a_server_that_is_behind_ends_the_test():
    begin = time.monotonic()
    figures, served, own = load_test(
        Load(scenario="server", rate=500.0), 0.4, call=0.1, max_batch=1, limit=0.5
    )
    assert time.monotonic() - begin < 5
    assert own is None
    assert 2 <= figures.answered <= 6
    assert len(served.unanswered) > 50


@needs_loadgen
@pytest.mark.slow
def test_an_exception_of_the_model_ends_the_process():
    began = []

    def fail():
        with running(settings(Load(scenario="server", rate=100.0), 60)) as traffic:
            began.append(traffic._process)
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert began[0].returncode == -9


def test_an_error_of_the_process_is_its_last_line(monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('LoadGen is of another platform')")
    monkeypatch.setattr(loadgen, "_CHILD", broken)
    with pytest.raises(LoadGenError, match="another platform"):
        load_test(Load(scenario="offline"))


def test_a_process_that_is_killed_names_the_signal(monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(loadgen, "_CHILD", broken)
    with pytest.raises(LoadGenError, match="ended by signal 9"):
        load_test(Load(scenario="offline"))


def test_a_folder_that_cannot_be_written_is_an_error(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(Path(os.devnull)))
    with pytest.raises(LoadGenError, match="logs cannot be written"), running({}):
        pass
    monkeypatch.undo()
