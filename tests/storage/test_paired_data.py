import json
import math
import os
import sys
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate.launch_location import Spread
from pytest_infergate.core.gate.paired_times import PairedTerms, decide
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


def launch(effect=0.0, base=0.0123456789, blocks=6, step=1e-5):
    times = [base + step * index for index in range(blocks)]
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
    return tmp_path / "paired.json"


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


def test_names_come_back(path):
    for name in HOSTILE:
        what = some(of_case(name, (launch(), launch())))
        assert kept(path, what).cases[0].nodeid == what.cases[0].nodeid, name


def test_a_name_with_a_lone_surrogate_can_be_written(path):
    # The path of a test file whose bytes are no UTF-8.
    found = kept(path, some(of_case("test_\udc80", (launch(),))))
    assert len(found.cases) == 1


# Broken files


def refused(path):
    """What is said of a file that is refused, with its name for its path."""
    with pytest.raises(StorageError) as caught:
        pytest.fail(f"read as {read_paired_data(path)}: {path.read_text()}")
    assert str(path) in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


def messages(path, *texts):
    """What is said of a file with each of these texts."""
    answers = []
    for text in texts:
        path.write_text(text)
        answers.append(refused(path))
    return answers


def document(**fields):
    return {**json.loads(encode_paired_data(some())), **fields}


def with_launch(**launch):
    content = document()
    content["cases"][0]["screen"] = [launch]
    return content


def test_no_such_file(path):
    refused(path)


def test_a_folder(tmp_path):
    refused(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may do anything")
def test_a_file_that_may_not_be_read(path):
    path.write_text(encode_paired_data(some()))
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_what_is_no_json_is_refused(path):
    for data in (
        *(b"", b"\0\0", b"nonsense", b"{", b"\xff\xfe", b'{"a": "\x80"}'),
        *(b"[" * 100_000, b'{"a":' * 100_000),
    ):
        path.write_bytes(data)
        refused(path)


def test_a_file_that_was_cut_is_refused(path):
    text = encode_paired_data(some())
    for end in range(0, len(text) - 2, 7):
        path.write_text(text[:end])
        refused(path)


def test_foreign_json_is_refused(path, snapshot):
    foreign = [
        *([], 1, None, "text", {}, {"cases": []}, {"tool_version": "1", "cases": [], "gate": {}}),
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
    ]
    assert messages(path, *map(json.dumps, foreign)) == snapshot


def test_another_version_is_refused_although_its_fields_are_new(path, snapshot):
    versions = [document(schema_version=version) for version in (0, 3, 10**30, -1)]
    assert (
        messages(path, *map(json.dumps, [*versions, document(schema_version=3, devices=["cpu"])])) == snapshot
    )


def test_times_come_in_pairs(path, snapshot):
    launches = [([1], [1, 1]), ([1, 1], [1]), ([], [1]), ([1], []), ([], [])]
    texts = [json.dumps(with_launch(base=base, candidate=candidate)) for base, candidate in launches]
    texts.append(json.dumps(document(control=[{"base": [1], "candidate": [1, 2]}])))
    assert messages(path, *texts) == snapshot


def test_times_that_are_none_are_refused(path, snapshot):
    found = set()
    for seconds, side in product(("0", "0.0", "-0.1", "-1", "1e9", "1e30", "1e308"), ("base", "candidate")):
        text = json.dumps(with_launch(**{"base": [1.5, 1.5], "candidate": [1.5, 1.5], side: [1.5, 99.5]}))
        found |= set(messages(path, text.replace("99.5", seconds)))
    found |= set(messages(path, json.dumps(document(control=[{"base": [1], "candidate": [0]}]))))
    assert sorted(found) == snapshot


def test_times_that_are_no_numbers_are_refused(path):
    intact = json.dumps(with_launch(base=[99.5], candidate=[1.5]))
    for seconds in ("NaN", "Infinity", "-Infinity", "null", "true", "1e999", '"nan"'):
        messages(path, intact.replace("99.5", seconds))


def test_confirming_launches_are_checked_too(path):
    content = document()
    content["cases"][0]["confirm"] = [{"base": [1], "candidate": [-1]}]
    messages(path, json.dumps(content))


def test_the_figures_of_a_plan_and_of_a_spread_are_checked(path, snapshot):
    texts = []
    for place, figures in [
        *(
            ("plan", plan)
            for plan in ({"tolerance": -1.0}, {"tolerance": -7}, {"floor": -1.0}, {"floor": -2})
        ),
        *(("others", {"3": spread}) for spread in ({"squares": -1.0}, {"squares": 1e300}, {"degrees": -1})),
    ]:
        content = document()
        content["cases"][0][place] = figures
        texts.append(json.dumps(content))
    assert messages(path, *texts) == snapshot


def test_a_file_that_is_too_large_is_refused(path, monkeypatch):
    path.write_text(encode_paired_data(some()))
    read_paired_data(path)
    monkeypatch.setattr(paired_data, "MAX_DATA_BYTES", 100)
    refused(path)


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
