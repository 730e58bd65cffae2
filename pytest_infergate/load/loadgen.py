"""MLPerf LoadGen as a source of requests, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.errors import InfergateError
from pytest_infergate.load.batching_server import Request
from pytest_infergate.load.loadgen_child import ANSWER, REQUEST

SCENARIOS: Final = {
    "server": "Server",
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "offline": "Offline",
}
"""Names of the scenarios in LoadGen."""
_CHILD: Final = Path(__file__).with_name("loadgen_child.py")
_READ: Final = 1 << 16
_SHORTEST_QUERY: Final = 1e-4
"""Seconds. LoadGen draws all queries before it starts, and more of them would only fill the memory."""


class LoadGenError(InfergateError):
    """LoadGen could not be started, or ended with an error."""


def installed() -> bool:
    """Return whether LoadGen can be imported."""
    return importlib.util.find_spec("mlperf_loadgen") is not None


def loadgen_settings(
    load: Load, seconds: float, *, items: int, call_seconds: float, rate: float, limit: float | None
) -> dict[str, Any]:
    """Return the settings of a test of `seconds` seconds over `items` items.

    `call_seconds` is the time of a call and `rate` the requests per second of calls back to back, by which
    LoadGen draws enough queries before it starts. `limit` is the latency in seconds that LoadGen checks too.
    """
    each = max(call_seconds / 2, _SHORTEST_QUERY * (load.streams or 1))
    test: dict[str, Any] = {
        "min_duration_ms": max(1, round(1e3 * seconds)),
        "min_query_count": 1,
        "single_stream_expected_latency_ns": round(1e9 * each),
        "multi_stream_expected_latency_ns": round(1e9 * each),
        "offline_expected_qps": min(rate, 1 / _SHORTEST_QUERY),
    }
    if load.rate is not None:
        test["server_target_qps"] = load.rate
    if load.streams is not None:
        test["multi_stream_samples_per_query"] = load.streams
    if limit is not None:
        test["server_target_latency_ns"] = round(1e9 * limit)
    return {"scenario": SCENARIOS[load.scenario], "items": items, "test": test}


class LoadGen:
    """A running test; it implements `Traffic`."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: IO[bytes]) -> None:
        self._process = process
        self._folder = folder
        self._log = log
        self._kept = b""
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        self._answers, self._requests = process.stdin.fileno(), process.stdout.fileno()

    def receive(self, seconds: float) -> Sequence[Request] | None:
        """Return the requests that LoadGen has issued; see `Traffic`.

        Raises `LoadGenError` if it ended with an error.
        """
        ready, _, _ = select.select([self._requests], [], [], seconds)
        if not ready:
            return ()
        data = os.read(self._requests, _READ)
        if not data:
            if self._process.wait() != 0:
                self._log.seek(0)
                lines = self._log.read().decode(errors="replace").strip().splitlines()
                code = self._process.returncode
                ended = f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
                raise LoadGenError(lines[-1] if lines else ended)
            return None
        data = self._kept + data
        whole = len(data) - len(data) % REQUEST.size
        self._kept = data[whole:]
        return [Request(*record) for record in REQUEST.iter_unpack(data[:whole])]

    def answer(self, requests: Sequence[Request]) -> None:
        """Report answers to LoadGen."""
        with suppress(BrokenPipeError):  # `receive` finds out why it ended
            os.write(self._answers, b"".join(ANSWER.pack(request.number) for request in requests))

    def own_percentile(self, percentile: int) -> float | None:
        """Return the 95th or 99th percentile in seconds that LoadGen has logged; ``None`` before its end."""
        entry = rf'"result_{percentile}\.00_percentile_latency_ns", "value": (\d+)'
        with suppress(OSError):
            found = re.search(entry, (self._folder / "mlperf_log_detail.txt").read_text(encoding="utf-8"))
            return None if found is None else int(found[1]) / 1e9
        return None


@contextmanager
def running(settings: dict[str, Any]) -> Iterator[LoadGen]:
    """Start a test of LoadGen, which is ended on exit. Its logs are in a temporary folder meanwhile.

    Raises `LoadGenError` if it cannot be started or its logs cannot be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="infergate-load-", ignore_cleanup_errors=True)
    except OSError as error:
        raise LoadGenError(f"its logs cannot be written: {error}") from error
    with folder as path, tempfile.TemporaryFile(dir=path) as log:
        try:
            process = subprocess.Popen(  # noqa: S603 - this interpreter
                [sys.executable, str(_CHILD), json.dumps(settings)],
                cwd=path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C stays with the run
            )
        except OSError as error:
            raise LoadGenError(f"its process cannot be started: {error}") from error
        with process:
            try:
                yield LoadGen(process, Path(path), log)
            finally:
                process.kill()
