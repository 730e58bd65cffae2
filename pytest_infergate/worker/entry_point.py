"""Entry point of a worker process."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from pytest_infergate import __version__
from pytest_infergate.paired import source_tree
from pytest_infergate.paired.channel import Channel
from pytest_infergate.paired.worker_process import PROTOCOL
from pytest_infergate.worker.pytest_plugin import WorkerPlugin

_EARLY = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
"""This plugin is there before pytest; a project that turns warnings into errors would never start."""
_PR_SET_PDEATHSIG = 1


def serve(descriptor: int) -> None:
    """Run the worker whose run is at the other end of a socket."""
    _die_with_the_run()
    channel = Channel(socket.socket(fileno=descriptor))
    # Children of the model must not hold this end open when this process dies.
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=channel.close)
    channel.send({"is": "hello", "protocol": PROTOCOL, "version": __version__})
    begin = channel.receive()
    source, target = Path(begin["source"]), Path(begin["target"])
    # Another interpreter has a path of its own, on which the project must come first.
    sys.path[:] = begin["sys_path"] or [*begin["project"], *sys.path]
    if begin["remap"]:
        sys.path[:] = source_tree.remap(sys.path, source, target)
        source_tree.remap_finders(source, target)
        source_tree.remap_variables(os.environ, source, target)
    side = WorkerPlugin(channel, source, target, begin["modules"])
    # Folders of its own, for what pytest remembers between runs and for what tests write.
    own = [f"--basetemp={begin['own']}/tests"]
    if begin["caches"]:
        own += ["-o", f"cache_dir={begin['own']}/cache"]
    code = pytest.main([*begin["args"], *own, "-W", _EARLY], plugins=[side])
    if not side.served:
        sys.exit(f"Error: pytest ended with exit code {int(code)} before any test could run")


def _die_with_the_run() -> None:
    """On Linux, be killed when the run dies, even stopped; it may have died before this was said."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
