"""Every message goes through JSON and back; anything else is refused with what is wrong about it."""

import json
import typing

import msgspec
import pytest

from pytest_infergate import __version__
from pytest_infergate.core.domain.launch_times import GpuState
from pytest_infergate.core.domain.measurement import Counters, Estimate, Latency, Measurement, WarmUp
from pytest_infergate.core.domain.values import Note
from pytest_infergate.paired import protocol
from pytest_infergate.paired.protocol import (
    Command,
    Event,
    MessageError,
    decode_command,
    decode_event,
    encode,
)
from pytest_infergate.paired.source_tree import LoadedModules

NOTE = Note(code="out-of-memory", text="too large")
MEASUREMENT = Measurement(
    latency=Latency(
        count=3, mean=0.1, p50=Estimate(value=1 / 3), p90=Estimate(value=0.2, low=0.1), p95=Estimate(value=0.3),
        p99=Estimate(value=0.3), percentiles=(0.1,) * 101,
    ),
    throughput=10.0,
    cold_start=1.0,
    warm_up=WarmUp(calls=5, seconds=0.5, steady=True),
    counters=Counters(totals={"flops": 2**60}, varying={"bytes": (1, 2)}),
    notes=(NOTE,),
)  # fmt: skip
COMMANDS = [
    protocol.CollectCases(
        arguments=("-q", "größe\ud800"), source="/a", target="/b", remap=True, own_folder="/own", cache=False,
        sys_path=None, project_path=("/a/src",), modules=("tests/test_a.py",),
    ),
    protocol.RunCase("tests/test_a.py::test_x[\ud800]", None),
    protocol.RunControl(),
    protocol.CountWork(),
    protocol.KeepOutput("/tmp/output"),
    protocol.CompareOutput("/tmp/output", 0.0),
    protocol.RunWarmUp(None),
    protocol.TimeBlock(3),
    protocol.CallConcurrently(2.0),
    protocol.Finish(),
    protocol.ListModules(),
    protocol.Leave(),
]  # fmt: skip
EVENTS = [
    protocol.Hello(2, "0.1"),
    protocol.CasesCollected(("a", "b"), {"test_a.py": "SyntaxError"}),
    protocol.Ready(),
    protocol.WorkCounted(),
    protocol.OutputKept(),
    protocol.OutputCompared(None),
    protocol.OutputCompared("values differ", ("output[0] (function)",)),
    protocol.WarmedUp(5, 0.1),
    protocol.BlockTimed(1e-9, GpuState(clock_hz=1.2e9, throttled=("heat",))),
    protocol.CalledConcurrently(
        calls=3, seconds=2.0, mean=0.1, percentiles=(0.1,) * 101, batch_size=8, threads=None
    ),
    protocol.SideMeasured(MEASUREMENT),
    protocol.CaseInvalid(NOTE),
    protocol.OutOfMemory(NOTE),
    protocol.NotConverted(NOTE),
    protocol.PhaseReported(when="call", outcome="failed", reason="no", serialised='{"a": NaN}'),
    protocol.Done(),
    protocol.ModulesListed(LoadedModules(base={"pkg": "pkg/__init__.py"}), "pkg (pkg/__init__.py)"),
]


@pytest.mark.parametrize("message", COMMANDS, ids=lambda message: type(message).__name__)
def test_a_command_arrives_as_it_was_sent(message):
    assert decode_command(encode(message)) == message


@pytest.mark.parametrize("message", EVENTS, ids=lambda message: type(message).__name__)
def test_an_event_arrives_as_it_was_sent(message):
    assert decode_event(encode(message)) == message


def test_every_message_is_tried_above():
    assert {type(message) for message in COMMANDS} == set(typing.get_args(Command))
    assert {type(message) for message in EVENTS} == set(typing.get_args(Event))


def test_no_field_of_a_message_is_of_any_type():
    kinds = (*typing.get_args(Command), *typing.get_args(Event))
    assert not [
        (kind.__name__, field.name)
        for kind in kinds
        for field in msgspec.structs.fields(kind)
        if "Any" in str(field.type)
    ]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"no json", "line 1 column 1"),
        (b"", "line 1 column 1"),
        (b'"\xff"', "utf-8"),
        (b"[1, 2]", "array"),
        (b"null", "null"),
        (b'{"calls": 3}', "do"),
        (b'{"do": "dance"}', "dance"),
        (b'{"do": "timeblock"}', "calls"),
        (b'{"do": "timeblock", "calls": "3"}', "$.calls"),
        (b'{"do": "timeblock", "calls": 3, "more": 1}', "more"),
        (b"[" * 100_000, "recursion"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_is_wrong_with_a_message_is_named(line, named):
    with pytest.raises(MessageError) as error:
        decode_command(line)
    assert str(error.value).startswith("the run sent a message ")
    assert named in str(error.value)
    assert __version__ in str(error.value)


def test_a_command_is_no_event():
    with pytest.raises(MessageError, match="the worker sent a message"):
        decode_event(encode(protocol.TimeBlock(3)))
    with pytest.raises(MessageError):
        decode_command(encode(protocol.BlockTimed(0.1)))


def test_hello_is_read_from_any_version():
    """Version 0.1 sent it in this form; a later one may add fields."""
    line = json.dumps({"is": "hello", "protocol": 1, "version": "0.1.0", "later": [1]}).encode()
    assert decode_event(line) == protocol.Hello(1, "0.1.0")
    assert decode_event(b'{"is": "hello"}') == protocol.Hello(None, None)
