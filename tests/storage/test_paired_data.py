import json
import math
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.core.gate.paired import Launch, PairedTerms, Spread, decide
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import paired_data
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.paired_data import (
    PairedCaseData,
    PairedData,
    encode_paired_data,
    read_paired_data,
)

HOSTILE = (
    'say "hi"',
    '{"base": 1}',
    "two\nlines\r",
    "\x1b[31mred\x00",
    "line\u2028separator",
    "größe 日本 🚀",
)


def launch(effect=0.0, base=0.0123456789, turns=6, step=1e-5):
    times = [base + step * index for index in range(turns)]
    return Launch(base=tuple(times), candidate=tuple(time * (1 + effect) for time in times))


def of_case(name="test_a", screen=(), confirm=(), **fields):
    case = Case(test=f"tests/test_a.py::{name}", device="cpu")
    return PairedCaseData(
        case=case, nodeid=case.name, plan=PairedTerms(), screen=screen, confirm=confirm, **fields
    )


def some(*cases, **fields):
    against = Against(revision="main", commit="1" * 40, launches=7, seconds=12.5, accepted={"*a*": "why"})
    return PairedData(**{"against": against, "cases": cases or (of_case(screen=(launch(),)),), **fields})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "turns.json"


def kept(path, what):
    atomic_write(path, encode_paired_data(what))
    return read_paired_data(path)


def decisions(what):
    return [
        decide(
            [one.difference for one in case.screen],
            [one.difference for one in case.confirm],
            case.plan,
            confirming=what.confirming,
            others=case.others,
        )
        for case in what.cases
    ]


# Round trip


def test_what_is_written_is_read(path):
    what = some(
        of_case("test_a", (launch(0.05), launch(0.04))),
        of_case("test_b", (launch(),) * 3, (launch(0.5), launch(-0.5, base=3.5))),
        of_case("test_c"),
        control=(launch(0.001), launch(-0.001)),
        confirming=1,
    )
    found = kept(path, what)
    assert found.against == what.against
    assert found.confirming == 1
    assert [case.case for case in found.cases] == [case.case for case in what.cases]
    assert [(len(case.screen), len(case.confirm)) for case in found.cases] == [(2, 0), (3, 2), (0, 0)]
    assert found.cases[1].confirm[1].candidate == pytest.approx(what.cases[1].confirm[1].candidate)
    assert len(found.control) == 2
    assert kept(path, found) == found


@given(
    st.lists(st.floats(-0.1, 0.3), min_size=5, max_size=10),
    st.lists(st.floats(-0.1, 0.3), max_size=15),
    st.floats(1e-5, 10),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_decision_stays(path, screen, confirm, base):
    case = of_case(
        screen=tuple(launch(effect, base) for effect in screen),
        confirm=tuple(launch(effect, base) for effect in confirm),
        others={3: Spread(squares=0.0123456, degrees=40), 5: Spread(squares=0.02, degrees=80)},
    )
    what = some(case, confirming=3)
    assert decisions(kept(path, what)) == decisions(what)


def test_a_launch_is_a_line():
    lines = encode_paired_data(some(of_case(screen=(launch(), launch())), control=(launch(),))).splitlines()
    assert sum(line.startswith('{"base":[') for line in lines) == 3
    assert len(lines) == 4


def test_times_are_rounded_to_a_tenth_of_a_nanosecond(path):
    exact = Launch(base=(0.1234567890123,), candidate=(1 / 3,))
    found = kept(path, some(of_case(screen=(exact,))))
    assert found.cases[0].screen[0] == Launch(base=(0.123456789,), candidate=(0.3333333333,))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_come_back(path, name):
    what = some(of_case(name, (launch(), launch())))
    assert kept(path, what).cases[0].nodeid == what.cases[0].nodeid


def test_a_name_with_a_lone_surrogate_can_be_written(path):
    # The path of a test file whose bytes are no UTF-8.
    found = kept(path, some(of_case("test_\udc80", (launch(),))))
    assert len(found.cases) == 1


# Broken files


def refused(path):
    with pytest.raises(StorageError) as caught:
        read_paired_data(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def document(**fields):
    return {**json.loads(encode_paired_data(some())), **fields}


def with_launch(**launch):
    content = document()
    content["cases"][0]["screen"] = [launch]
    return content


def test_no_such_file(path):
    assert refused(path) == f"{path} cannot be read: No such file or directory"


def test_a_folder(tmp_path):
    refused(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may do anything")
def test_a_file_that_may_not_be_read(path):
    path.write_text(encode_paired_data(some()))
    path.chmod(0)
    assert "Permission denied" in refused(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"nonsense", b"{", b"\xff\xfe", b'{"a": "\x80"}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "nul", "words", "cut", "bytes", "text", "lists", "objects"],
)
def test_what_is_no_json(path, data):
    path.write_bytes(data)
    assert refused(path).endswith("; write one with --infer-paired-data")


def test_a_file_that_was_cut(path):
    text = encode_paired_data(some())
    for end in range(0, len(text) - 2, 7):
        path.write_text(text[:end])
        assert "is no file of turns" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        [],
        1,
        None,
        "text",
        {},
        {"cases": []},
        {"tool_version": "1", "cases": [], "gate": {}},
        document(more=1),
        document(against=None),
        document(cases={}),
        document(cases=[1]),
        document(cases=[{}]),
        document(schema_version="1"),
        document(confirming=0.5),
        document(control=[[]]),
        document(control=[{"base": [1.0]}]),
        with_launch(base=["1"], candidate=[1]),
        with_launch(base=[None], candidate=[1]),
        with_launch(base=[[[[]]]], candidate=[1]),
        with_launch(base=1, candidate=1),
        with_launch(base=[1], candidate=[1], more=[]),
    ],
    ids=lambda content: json.dumps(content)[:20],
)
def test_foreign_json(path, content):
    path.write_text(json.dumps(content))
    assert "is no file of turns" in refused(path)


def test_the_field_is_named(path):
    path.write_text(json.dumps(with_launch(base=["1"], candidate=[1])))
    assert "$.cases[0].screen[0].base[0]" in refused(path)


@pytest.mark.parametrize("version", [0, 2, 10**30, -1])
def test_another_version(path, version):
    path.write_text(json.dumps(document(schema_version=version)))
    assert f"{path} is " in refused(path)


def test_a_newer_version_is_named(path):
    path.write_text(json.dumps(document(schema_version=2)))
    assert refused(path) == f"{path} is of version 2; this infergate reads 1"


def test_a_newer_version_is_named_although_its_fields_are_new(path):
    path.write_text(json.dumps(document(schema_version=2, devices=["cpu"])))
    assert "version 2" in refused(path)


@pytest.mark.parametrize(
    ("base", "candidate"), [([1], [1, 1]), ([1, 1], [1]), ([], [1]), ([1], []), ([], [])]
)
def test_turns_come_in_pairs(path, base, candidate):
    path.write_text(json.dumps(with_launch(base=base, candidate=candidate)))
    message = refused(path)
    assert "tests/test_a.py::test_a" in message
    assert f"{len(base)} turns of the base and {len(candidate)} of the candidate" in message


@pytest.mark.parametrize("seconds", ["0", "0.0", "-0.1", "-1", "1e9", "1e30", "1e308"])
@pytest.mark.parametrize("side", ["base", "candidate"])
def test_times_that_are_none(path, seconds, side):
    text = json.dumps(with_launch(**{"base": [1.5, 1.5], "candidate": [1.5, 1.5], side: [1.5, 99.5]}))
    path.write_text(text.replace("99.5", seconds))
    assert "tests/test_a.py::test_a[cpu]: a turn is not a time above zero" in refused(path)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-Infinity", "null", "true", "1e999", '"nan"'])
def test_times_that_are_no_numbers(path, seconds):
    path.write_text(json.dumps(with_launch(base=[99.5], candidate=[1.5])).replace("99.5", seconds))
    assert "is no file of turns" in refused(path)


def test_the_control_is_looked_at_too(path):
    path.write_text(json.dumps(document(control=[{"base": [1], "candidate": [1, 2]}])))
    assert "the control: a launch has 1 turns" in refused(path)
    path.write_text(json.dumps(document(control=[{"base": [1], "candidate": [0]}])))
    assert "the control: a turn is not a time" in refused(path)


def test_confirming_launches_are_looked_at_too(path):
    content = document()
    content["cases"][0]["confirm"] = [{"base": [1], "candidate": [-1]}]
    path.write_text(json.dumps(content))
    assert "a turn is not a time" in refused(path)


@pytest.mark.parametrize(
    "plan", [{"tolerance": -1.0}, {"tolerance": -7}, {"floor": -1.0}, {"floor": -2}], ids=json.dumps
)
def test_a_plan_that_nobody_can_be_held_to(path, plan):
    content = document()
    content["cases"][0]["plan"] = plan
    path.write_text(json.dumps(content))
    refused(path)


@pytest.mark.parametrize("spread", [{"squares": -1.0}, {"squares": 1e300}, {"degrees": -1}], ids=json.dumps)
def test_a_spread_that_no_launches_have(path, spread):
    content = document()
    content["cases"][0]["others"] = {"3": spread}
    path.write_text(json.dumps(content))
    assert "the spread of others" in refused(path)


def test_a_file_too_large(path, monkeypatch):
    monkeypatch.setattr(paired_data, "MOST_BYTES", 100)
    path.write_text(encode_paired_data(some()))
    assert "is larger than 100 bytes" in refused(path)


# Anything at all


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    (),
    ("against",),
    ("confirming",),
    ("control",),
    ("cases",),
    ("cases", 0),
    ("cases", 0, "case"),
    ("cases", 0, "plan"),
    ("cases", 0, "screen"),
    ("cases", 0, "screen", 0),
    ("cases", 0, "screen", 0, "base"),
    ("cases", 0, "screen", 0, "base", 0),
]
fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def only_refuses(path):
    try:
        found = read_paired_data(path)
    except StorageError as error:
        assert str(path) in str(error)  # noqa: PT017 - it need not be raised
        return
    for case in found.cases:
        assert all(math.isfinite(one.difference) for one in (*case.screen, *case.confirm))


@fuzzed
@given(st.binary(max_size=200))
def test_bytes(path, data):
    path.write_bytes(data)
    only_refuses(path)


@fuzzed
@given(JSON, st.sampled_from(PLACES))
def test_junk_in_any_place(path, junk, place):
    root = {"": document()}
    content, last = root, ""
    for key in place:
        content, last = content[last], key
    content[last] = junk
    path.write_text(json.dumps(root[""]))
    only_refuses(path)


@fuzzed
@given(st.integers(0, 600), st.integers(0, 30), st.binary(max_size=8))
def test_a_file_that_was_damaged(path, start, length, data):
    intact = encode_paired_data(some()).encode()
    path.write_bytes(intact[:start] + data + intact[start + length :])
    only_refuses(path)
