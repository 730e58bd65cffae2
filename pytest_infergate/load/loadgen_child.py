"""The process in which MLPerf LoadGen runs: `python loadgen_child.py SETTINGS`, with settings as JSON.

It writes a record to its standard output for each request that LoadGen issues, and reads the numbers of
answered requests from its standard input. It imports nothing of this package, and its current folder is where
LoadGen writes its logs. In a process of its own, LoadGen neither waits for the interpreter lock of the model
nor makes it wait, and can be ended at any moment.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from typing import Any

REQUEST = struct.Struct("<QQq")
"""Number, item, and nanoseconds of the monotonic clock on which it was issued."""
ANSWER = struct.Struct("<Q")


def run_test(settings: dict[str, Any]) -> None:
    """Run one test of LoadGen."""
    import mlperf_loadgen as loadgen

    requests, answers = os.dup(1), os.dup(0)
    os.dup2(2, 1)  # what LoadGen prints is no record

    def issue(samples: list[Any]) -> None:
        now = time.monotonic_ns()
        data = b"".join(REQUEST.pack(sample.id, sample.index, now) for sample in samples)
        while data:
            data = data[os.write(requests, data) :]

    def complete() -> None:
        kept = b""
        while data := os.read(answers, 1 << 16):
            data = kept + data
            whole = len(data) - len(data) % ANSWER.size
            kept = data[whole:]
            loadgen.QuerySamplesComplete(
                [loadgen.QuerySampleResponse(number, 0, 0) for (number,) in ANSWER.iter_unpack(data[:whole])]
            )
        os._exit(0)  # the server has gone: the requests that are left would have no answer

    test = loadgen.TestSettings()
    test.mode = loadgen.TestMode.PerformanceOnly
    test.scenario = getattr(loadgen.TestScenario, settings["scenario"])
    for name, value in settings["test"].items():
        setattr(test, name, value)
    log = loadgen.LogSettings()
    log.enable_trace = False
    threading.Thread(target=complete, daemon=True).start()
    items = settings["items"]
    server = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(items, items, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(server, library, test, log, "")
    os._exit(0)


if __name__ == "__main__":
    run_test(json.loads(sys.argv[1]))
