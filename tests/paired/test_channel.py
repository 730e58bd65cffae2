import json
import socket
import threading
from fractions import Fraction
from pathlib import PurePosixPath

import pytest

from pytest_infergate.paired import channel
from pytest_infergate.paired.channel import Channel, ClosedError, SilentError


@pytest.fixture
def ends():
    one, other = channel.pair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def raw():
    """A channel, and the bare socket at its other end."""
    one, other = socket.socketpair()
    yield Channel(one), other
    one.close()
    other.close()


@pytest.mark.parametrize(
    "message",
    [{}, {"do": "turn", "calls": 3}, {"deep": {"list": [1, None, True, 0.1]}}, {"text": "zwei\nZeilen"}],
    ids=["empty", "flat", "deep", "lines"],
)
def test_a_message_arrives_as_it_was_sent(ends, message):
    ends[0].send(message)
    assert ends[1].receive() == message


@pytest.mark.parametrize("text", ["größer", "模型", "🔥", "\u2028", "\ud800", "\0"], ids=ascii)
def test_any_text_arrives(ends, text):
    ends[0].send({"text": text})
    assert ends[1].receive(1) == {"text": text}


def test_both_ends_talk(ends):
    ends[0].send({"from": 0})
    ends[1].send({"from": 1})
    assert ends[0].receive() == {"from": 1}
    assert ends[1].receive() == {"from": 0}


def test_messages_keep_their_order(ends):
    for index in range(50):
        ends[0].send({"index": index})
    assert [ends[1].receive()["index"] for _ in range(50)] == list(range(50))


def test_a_message_in_pieces_is_put_together(raw):
    ours, theirs = raw
    theirs.sendall(b'{"is": "re')
    with pytest.raises(SilentError):
        ours.receive(0.01)
    theirs.sendall(b'ady"}\n{"is":')
    assert ours.receive(1) == {"is": "ready"}
    theirs.sendall(b' "done"}\n')
    assert ours.receive(1) == {"is": "done"}


def test_a_message_larger_than_any_buffer_arrives(ends):
    message = {"words": "x" * 3_000_000}
    sender = threading.Thread(target=ends[0].send, args=(message,))
    sender.start()
    assert ends[1].receive(10) == message
    sender.join()


def test_a_message_without_end_is_none_of_ours(raw, monkeypatch):
    monkeypatch.setattr(channel, "MESSAGE_BYTES", 10_000)
    ours, theirs = raw
    theirs.sendall(b"x" * 80_000)
    with pytest.raises(ClosedError, match="the other process is gone"):
        ours.receive(1)


def test_silence_is_told_after_the_time(ends):
    with pytest.raises(SilentError, match="did not answer in time"):
        ends[0].receive(0.01)


def test_what_lies_there_needs_no_time(ends):
    ends[0].send({"is": "ready"})
    assert ends[1].receive(0) == {"is": "ready"}


@pytest.mark.parametrize(
    "junk",
    [b"no json", b"", b"[1, 2]", b'"text"', b"null", b"3", b"\xff\xfe", b'{"is": '],
    ids=ascii,
)
def test_what_is_no_message_is_told(raw, junk):
    ours, theirs = raw
    theirs.sendall(junk + b"\n")
    with pytest.raises(ClosedError, match="sent what is no message"):
        ours.receive(1)


def test_the_end_of_the_stream_is_told(ends):
    ends[0].close()
    with pytest.raises(ClosedError, match="the other process is gone"):
        ends[1].receive()


def test_a_message_cut_short_is_none(raw):
    ours, theirs = raw
    theirs.sendall(b'{"is": "ready"}')
    theirs.close()
    with pytest.raises(ClosedError):
        ours.receive(1)


def test_the_last_words_before_the_end_are_heard(ends):
    ends[0].send({"is": "done"})
    ends[0].close()
    assert ends[1].receive() == {"is": "done"}
    with pytest.raises(ClosedError):
        ends[1].receive()


def test_nobody_reads_any_more(ends):
    ends[1].close()
    with pytest.raises(ClosedError, match="the other process is gone: "):
        ends[0].send({"do": "turn"})


def test_an_end_that_died_with_words_unread_is_told(ends):
    ends[0].send({"do": "turn"})
    ends[1].close()
    with pytest.raises(ClosedError, match="the other process is gone"):
        ends[0].receive(1)


def test_the_descriptor_is_that_of_the_socket(ends):
    copy = Channel(socket.fromfd(ends[0].fileno(), socket.AF_UNIX, socket.SOCK_STREAM))
    copy.send({"is": "ready"})
    copy.close()
    assert ends[1].receive(1) == {"is": "ready"}


def test_one_line_a_message(raw):
    ours, theirs = raw
    ours.send({"text": "a\nb"})
    sent = theirs.recv(1000)
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
    assert json.loads(sent) == {"text": "a\nb"}


def test_what_json_does_not_know_is_told_as_its_text(ends):
    """Reports carry what the user's tests and hooks put there."""
    one, other = ends
    one.send({"is": "report", "data": {"path": PurePosixPath("a/b"), "raw": b"x", "share": Fraction(1, 2)}})
    assert other.receive()["data"] == {"path": "a/b", "raw": "b'x'", "share": "1/2"}
