"""A connection between a run and one of its workers: one message a line over a pair of sockets."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from pytest_infergate.errors import InfergateError
from pytest_infergate.paired import protocol
from pytest_infergate.paired.protocol import Command, Event

MAX_MESSAGE_BYTES: Final = 64 * 1024**2
"""A longer line does not come from a worker, whose largest message is the report of a test."""

Sent = TypeVar("Sent", bound=Command | Event)
Received = TypeVar("Received", bound=Command | Event)


class ClosedError(InfergateError):
    """The other process closed the connection or has ended."""


class SilentError(InfergateError):
    """The other process did not answer in time."""


class Channel(Generic[Sent, Received]):
    """One end of a connection."""

    def __init__(self, end: socket.socket, decode: Callable[[bytes], Received]) -> None:
        self._end = end
        self._decode = decode
        self._buffer = bytearray()

    def send(self, message: Sent) -> None:
        """Send one message. Raises `ClosedError` if the other process cannot receive it."""
        try:
            self._end.sendall(protocol.encode(message) + b"\n")
        except OSError as error:
            raise ClosedError(f"the other process is gone: {error.strerror or error}") from error

    def receive(self, seconds: float | None = None) -> Received:
        """Wait for one message.

        Raises `ClosedError` at the end of the connection, `SilentError` after so many seconds without a
        message, `MessageError` for a line that is not a message.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        ready = select.poll()  # select() itself refuses descriptors above 1023
        ready.register(self._end, select.POLLIN)
        while b"\n" not in self._buffer:
            wait = None if deadline is None else 1000 * max(0.0, deadline - time.monotonic())
            if not ready.poll(wait):
                raise SilentError("the other process did not answer in time")
            try:
                data = self._end.recv(1 << 16)
            except OSError as error:
                raise ClosedError(f"the other process is gone: {error.strerror or error}") from error
            if not data or len(self._buffer) > MAX_MESSAGE_BYTES:
                raise ClosedError("the other process is gone")
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return self._decode(line)

    def finish_sending(self) -> None:
        """Close this end for sending: after the messages on their way the other end is closed."""
        with suppress(OSError):  # the other process is gone
            self._end.shutdown(socket.SHUT_WR)

    def fileno(self) -> int:
        """The descriptor, to be inherited by a child process."""
        return self._end.fileno()

    def close(self) -> None:
        """Close this end."""
        self._end.close()


RunChannel = Channel[Command, Event]
"""The end of the run."""
WorkerChannel = Channel[Event, Command]
"""The end of a worker."""


def run_channel(end: socket.socket) -> RunChannel:
    """The end of the run, on one socket of a pair."""
    return Channel(end, protocol.decode_event)


def worker_channel(end: socket.socket) -> WorkerChannel:
    """The end of a worker, on the other socket of a pair."""
    return Channel(end, protocol.decode_command)
