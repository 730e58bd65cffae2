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
from pytest_infergate.paired.channel import worker_channel
from pytest_infergate.paired.protocol import PROTOCOL_VERSION, CollectCases, Hello, MessageError
from pytest_infergate.worker.pytest_plugin import WorkerPlugin
from pytest_infergate.worker.seeded_imports import SeededImports

# The plugin is imported before pytest can rewrite its asserts; a project that turns warnings into errors
# would otherwise never start.
_IGNORED_WARNING = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
_PR_SET_PDEATHSIG = 1
"""From Linux's ``sys/prctl.h``."""


def serve(descriptor: int) -> None:
    """Run pytest as the worker of the run that has the other end of a socket."""
    _end_with_parent()
    # Standard output belongs to the model and its tests, which may print anything.
    channel = worker_channel(socket.socket(fileno=descriptor))
    # Children of the model must not keep this end open when this process ends.
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=channel.close)
    channel.send(Hello(PROTOCOL_VERSION, __version__))
    collect = channel.receive()
    if not isinstance(collect, CollectCases):
        raise MessageError(f"the first command must be CollectCases, got {type(collect).__name__}")
    source, target = Path(collect.source), Path(collect.target)
    # Another interpreter keeps its own path, on which the project must come first.
    sys.path[:] = collect.sys_path or [*collect.project_path, *sys.path]
    # Editable installs and PYTHONPATH lead to the candidate, from wherever the process is started.
    if collect.remap:
        sys.path[:] = source_tree.remap(sys.path, source, target)
        source_tree.remap_finders(source, target)
        source_tree.remap_variables(os.environ, source, target)
    plugin = WorkerPlugin(channel, source, target, collect.modules, collect.runtime)
    own = [f"--basetemp={collect.own_folder}/tests"]
    if collect.cache:
        own += ["-o", f"cache_dir={collect.own_folder}/cache"]
    seeded = SeededImports()
    seeded.install()
    code = pytest.main([*collect.arguments, *own, "-W", _IGNORED_WARNING], plugins=[plugin, seeded])
    if not plugin.served:
        sys.exit(f"Error: pytest ended with exit code {int(code)} before any test could run")


def _end_with_parent() -> None:
    """On Linux, be killed when the run ends in any way, even while suspended."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
