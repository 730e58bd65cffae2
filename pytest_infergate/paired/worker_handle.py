"""A worker process as the run uses it: what it can do, and how it may fail."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal, Protocol, TypeVar

from pytest_infergate.errors import InfergateError
from pytest_infergate.paired.protocol import BlockTimed, CasesCollected, Command, Event

Side = Literal["base", "candidate"]
"""One of the two that are compared."""
Role = Literal["base", "candidate", "control", "worker"]
"""What a process is for: a side, a second base that controls the first, or one of several at once."""
Answer = TypeVar("Answer", bound=Event)


class WorkerLostError(InfergateError):
    """A worker has ended, did not answer in time, or sent something unreadable."""

    def __init__(self, role: Role, text: str, *, killed: bool = False) -> None:
        super().__init__(text)
        self.role = role
        self.killed = killed
        """By SIGKILL, as the system does when memory runs out."""


class UnexpectedEventError(InfergateError):
    """A worker sent another event than the answer to its command: its test is ending."""

    def __init__(self, worker: PairedWorker, event: Event) -> None:
        super().__init__(f"a worker sent an unexpected event: {type(event).__name__}")
        self.worker = worker
        self.event = event


class PairedWorker(Protocol):
    """A process that runs cases, in production a `WorkerProcess`. Methods may raise `WorkerLostError`."""

    def handshake(self) -> CasesCollected:
        """Wait until it has collected its tests."""

    def send(self, command: Command) -> None:
        """Send a command."""

    def receive(self) -> Event:
        """Wait for the next event."""

    def timed_block(self, calls: int) -> BlockTimed:
        """Resume it, let it time one block, suspend it. Raises `UnexpectedEventError`."""

    def resume(self) -> None:
        """Let it run."""

    def suspend(self) -> None:
        """Stop it, with all its threads and children."""

    def leave(self) -> None:
        """Ask it to end."""

    def end(self) -> None:
        """Wait a short time until it has ended, and kill it otherwise."""


class Start(Protocol):
    """Starts the worker of a role with the seed of its launch."""

    def __call__(self, role: Role, seed: int, *, plain: bool = False) -> PairedWorker:
        """Start it; a plain one has the environment of the run, without the settings of paired workers."""


def ask(worker: PairedWorker, command: Command, answer: type[Answer]) -> Answer:
    """Send a command and wait for its answer. Raises `UnexpectedEventError` for another event."""
    worker.send(command)
    return receive_answer(worker, answer)


def receive_answer(worker: PairedWorker, answer: type[Answer]) -> Answer:
    """Wait for the answer to a command that was sent. Raises `UnexpectedEventError` for another event."""
    event = worker.receive()
    if not isinstance(event, answer):
        raise UnexpectedEventError(worker, event)
    return event


def end_workers(workers: Sequence[PairedWorker]) -> None:
    """End all processes at once, even if that is interrupted."""
    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.end)
        for worker in workers:
            worker.leave()
