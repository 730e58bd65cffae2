import socket
import threading

import pytest

from pytest_infergate.paired import channel
from pytest_infergate.paired.channel import ClosedError, SilentError, run_channel, worker_channel
from pytest_infergate.paired.protocol import (
    Done,
    Finish,
    KeepOutput,
    MessageError,
    PhaseReported,
    Ready,
    TimeBlock,
    WarmedUp,
)


@pytest.fixture
def ends():
    """The end of a run, and that of its worker."""
    ours, theirs = socket.socketpair()
    run, worker = run_channel(ours), worker_channel(theirs)
    yield run, worker
    run.close()
    worker.close()


@pytest.fixture
def raw():
    """The end of a run, and the bare socket at its other end."""
    one, other = socket.socketpair()
    yield run_channel(one), other
    one.close()
    other.close()


def test_both_ends_talk(ends):
    run, worker = ends
    run.send(TimeBlock(3))
    worker.send(WarmedUp(3, 0.1))
    assert worker.receive() == TimeBlock(3)
    assert run.receive() == WarmedUp(3, 0.1)


@pytest.mark.parametrize(
    "text", ["größer", "模型", "🔥", "\u2028", "\ud800", "\0", "zwei\nZeilen"], ids=ascii
)
def test_any_text_arrives(ends, text):
    ends[0].send(KeepOutput(text))
    assert ends[1].receive(1) == KeepOutput(text)


def test_messages_keep_their_order(ends):
    for calls in range(50):
        ends[0].send(TimeBlock(calls))
    assert [ends[1].receive().calls for _ in range(50)] == list(range(50))


def test_a_message_in_pieces_is_put_together(raw):
    ours, theirs = raw
    theirs.sendall(b'{"is": "re')
    with pytest.raises(SilentError):
        ours.receive(0.01)
    theirs.sendall(b'ady"}\n{"is":')
    assert ours.receive(1) == Ready()
    theirs.sendall(b' "done"}\n')
    assert ours.receive(1) == Done()


def test_a_message_larger_than_any_buffer_arrives(ends):
    run, worker = ends
    message = PhaseReported(when="call", outcome="failed", serialised="x" * 3_000_000)
    sender = threading.Thread(target=worker.send, args=(message,))
    sender.start()
    assert run.receive(10) == message
    sender.join()


def test_a_message_without_end_closes_the_channel(raw, monkeypatch):
    monkeypatch.setattr(channel, "MAX_MESSAGE_BYTES", 10_000)
    ours, theirs = raw
    theirs.sendall(b"x" * 80_000)
    with pytest.raises(ClosedError, match="the other process is gone"):
        ours.receive(1)


def test_silence_is_an_error_after_the_time(ends):
    with pytest.raises(SilentError, match="did not answer in time"):
        ends[0].receive(0.01)


def test_a_message_that_has_arrived_needs_no_time(ends):
    ends[0].send(Finish())
    assert ends[1].receive(0) == Finish()


def test_a_line_that_is_no_message_is_an_error_and_the_next_one_is_read(raw):
    ours, theirs = raw
    theirs.sendall(b'junk\n{"is": "done"}\n')
    with pytest.raises(MessageError):
        ours.receive(1)
    assert ours.receive(1) == Done()


def test_the_end_of_the_stream_is_an_error(ends):
    ends[0].close()
    with pytest.raises(ClosedError, match="the other process is gone"):
        ends[1].receive()


def test_a_message_cut_short_is_none(raw):
    ours, theirs = raw
    theirs.sendall(b'{"is": "ready"}')
    theirs.close()
    with pytest.raises(ClosedError):
        ours.receive(1)


def test_the_last_message_before_the_end_arrives(ends):
    run, worker = ends
    worker.send(Done())
    worker.close()
    assert run.receive() == Done()
    with pytest.raises(ClosedError):
        run.receive()


def test_an_end_that_has_finished_sending_still_receives(ends):
    run, worker = ends
    run.send(Finish())
    run.finish_sending()
    worker.send(Done())
    assert worker.receive() == Finish()
    with pytest.raises(ClosedError):
        worker.receive(1)
    assert run.receive(1) == Done()


def test_finishing_twice_or_after_the_other_end_is_gone_does_no_harm(ends):
    ends[1].close()
    ends[0].finish_sending()
    ends[0].finish_sending()


def test_a_message_to_an_end_that_is_gone(ends):
    ends[1].close()
    with pytest.raises(ClosedError, match="the other process is gone: "):
        ends[0].send(Finish())


def test_an_end_that_is_gone_with_a_message_unread(ends):
    ends[0].send(Finish())
    ends[1].close()
    with pytest.raises(ClosedError, match="the other process is gone"):
        ends[0].receive(1)


def test_the_descriptor_is_that_of_the_socket(ends):
    copy = run_channel(socket.fromfd(ends[0].fileno(), socket.AF_UNIX, socket.SOCK_STREAM))
    copy.send(Finish())
    copy.close()
    assert ends[1].receive(1) == Finish()


def test_a_message_is_one_line(raw):
    ours, theirs = raw
    ours.send(KeepOutput("a\nb"))
    sent = theirs.recv(1000)
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
