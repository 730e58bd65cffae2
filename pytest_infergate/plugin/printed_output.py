"""What a model prints and logs: a test shows that of one call, however often infergate repeats it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

LINES_BEFORE_AN_ERROR = 50


class _Printed(NamedTuple):
    out: str
    err: str


class PrintedOutput:
    """Drops what pytest captured of the calls after the first one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._kept: _Printed | None = None
        logged = config.pluginmanager.get_plugin("logging-plugin")
        for name in ("caplog_handler", "report_handler"):
            handler = getattr(logged, name, None)
            if handler is not None:
                handler.addFilter(_for_readers)

    @contextmanager
    def of_first_call(self) -> Iterator[None]:
        """Keep what is printed until `first_returned`, and say how much is dropped after it.

        After an exception, the last lines before it are kept as well.
        """
        self._kept = None
        last = LINES_BEFORE_AN_ERROR
        try:
            yield
            last = 0
        finally:
            further = None if self._kept is None else self._read()
            if self._kept is not None and further is not None:
                _write(sys.stdout, self._kept.out, further.out, last)
                _write(sys.stderr, self._kept.err, further.err, last)

    def first_returned(self) -> None:
        """Keep what was printed so far."""
        self._kept = self._read()

    def _read(self) -> _Printed | None:
        """Take what was captured out of the hands of pytest; ``None`` if the test captures by itself."""
        manager = self._config.pluginmanager.getplugin("capturemanager")
        if manager is None or not manager.is_globally_capturing() or manager._capture_fixture is not None:  # noqa: SLF001 - nothing else says it
            return None
        return _Printed(*manager.read_global_capture())


def _for_readers(record: logging.LogRecord) -> bool:
    """Whether a record is not one of the hundreds that torch logs for its own tools when it compiles."""
    return record.name != "torch.__trace"


def _write(stream: Any, kept: str, further: str, last: int) -> None:
    """Write the output of the first call, the number of lines that are left out, and the last ones."""
    lines = further.splitlines(keepends=True)
    dropped = max(0, len(lines) - last)
    note = f"[infergate: {dropped:,} lines that repeated calls printed are left out]\n" if dropped else ""
    text = "".join((kept, note, *lines[dropped:]))
    if text:  # the stream may be closed
        stream.write(text)
