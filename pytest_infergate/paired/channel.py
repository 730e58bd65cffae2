"""Messages between the run and its workers: one JSON object a line over a pair of sockets."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

from pytest_infergate.errors import InfergateError

MESSAGE_BYTES = 64 * 1024**2
"""A longer message is none of ours."""


class ClosedError(InfergateError):
    """The other side is gone."""


class SilentError(InfergateError):
    """The other side did not answer in time."""


class Channel:
    """One end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; what JSON does not know goes as its text.

        Raises `ClosedError` where nobody reads any more.
        """
        try:
            self._end.sendall(json.dumps(message, default=str).encode() + b"\n")
        except OSError as error:
            raise ClosedError(f"the other process is gone: {error.strerror or error}") from error

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """Wait for one message.

        Raises `ClosedError` at the end of the stream or for what is no message, `SilentError` after so many
        seconds without one.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._buffer:
            self._fill(deadline)
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ClosedError("the other process sent what is no message")
        return message

    def _fill(self, deadline: float | None) -> None:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = select.poll()  # select itself refuses descriptors beyond 1023
        ready.register(self._end, select.POLLIN)
        if not ready.poll(None if wait is None else 1000 * wait):
            raise SilentError("the other process did not answer in time")
        try:
            data = self._end.recv(1 << 16)
        except OSError as error:
            raise ClosedError(f"the other process is gone: {error.strerror or error}") from error
        if not data or len(self._buffer) > MESSAGE_BYTES:
            raise ClosedError("the other process is gone")
        self._buffer += data

    def fileno(self) -> int:
        """The descriptor, to be handed to a child."""
        return self._end.fileno()

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def pair() -> tuple[Channel, Channel]:
    """Two connected ends."""
    one, other = socket.socketpair()
    return Channel(one), Channel(other)
