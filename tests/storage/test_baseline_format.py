import difflib
import json
import math
import shutil
import subprocess
from functools import reduce

import jsonschema
import pytest

from pytest_infergate.core.domain.records import Baseline
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.core.gate.baseline import SESSIONS_KEPT, merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_format
from pytest_infergate.testing import sample_session

EMPTY = Baseline(hardware=Hardware(cpu_model="Test CPU", cores=4))


def history(sessions, tests=("a.py::test_a", "b.py::test_b"), first=1):
    days = range(first, first + sessions)
    each = [
        sample_session(f"2026-01-{day:02}T00:00:00Z", test, p50=day / 1000) for day in days for test in tests
    ]
    return reduce(merge_baselines, each, None)


def decode(text):
    return baseline_format.decode_baseline(text.encode(), "base.json")


def test_the_layout():
    assert baseline_format.encode_baseline(history(2)) == (
        "{\n"
        '  "schema_version": 2,\n'
        '  "hardware": {"cpu_model": "Test CPU", "isa": ["avx2"], "cores": 4},\n'
        '  "cases": [\n'
        '    {"case": {"test": "a.py::test_a", "device": "cpu", "batch_size": 8}, "sessions": [\n'
        '      {"created": "2026-01-01T00:00:00Z", "p50": 0.001, "count": 120, "reference_work": {"gemm": 0.001}}\n'
        '     ,{"created": "2026-01-02T00:00:00Z", "p50": 0.002, "count": 120, "reference_work": {"gemm": 0.001}}\n'
        "    ]}\n"
        '   ,{"case": {"test": "b.py::test_b", "device": "cpu", "batch_size": 8}, "sessions": [\n'
        '      {"created": "2026-01-01T00:00:00Z", "p50": 0.001, "count": 120, "reference_work": {"gemm": 0.001}}\n'
        '     ,{"created": "2026-01-02T00:00:00Z", "p50": 0.002, "count": 120, "reference_work": {"gemm": 0.001}}\n'
        "    ]}\n"
        "  ],\n"
        '  "packages": {\n'
        '    "2026-01-01T00:00:00Z": {"torch": "2.13.0"}\n'
        '   ,"2026-01-02T00:00:00Z": {"torch": "2.13.0"}\n'
        "  }\n"
        "}\n"
    )


def test_what_is_written_is_read_back_and_valid():
    for baseline in [EMPTY, history(1), history(SESSIONS_KEPT)]:
        text = baseline_format.encode_baseline(baseline)
        assert decode(text) == baseline, baseline
        assert text.endswith("}\n"), baseline
        jsonschema.validate(json.loads(text), json.loads(baseline_format.baseline_schema()))


def changed_lines(before, after):
    lines = difflib.ndiff(
        baseline_format.encode_baseline(before).splitlines(),
        baseline_format.encode_baseline(after).splitlines(),
    )
    return sorted(line[0] for line in lines if line[0] in "+-")


def test_one_more_session_is_one_more_line_a_case():
    # Two cases and the package versions of the session.
    assert changed_lines(history(3), history(4)) == ["+"] * 3


def test_a_session_that_pushes_one_out_changes_two_lines_a_case():
    full = [history(SESSIONS_KEPT + more) for more in range(3)]
    # Once, the first sessions become the anchor of each of the two cases.
    assert changed_lines(full[0], full[1]) == ["+"] * (4 + 2 * SESSIONS_KEPT) + ["-"] * 2
    assert changed_lines(full[1], full[2]) == ["+"] * 6 + ["-"] * 6


def test_figures_keep_five_significant_digits():
    session = sample_session(p50=0.0123456789, reference_work={"b": 1.23456789e-7, "a": 2})
    (point,) = decode(baseline_format.encode_baseline(session)).cases[0].sessions
    assert point.p50 == 0.012346
    assert list(point.reference_work.items()) == [("a", 2.0), ("b", 1.2346e-07)]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("sessions", [3, SESSIONS_KEPT])
def test_both_sides_of_a_git_conflict_are_a_baseline(tmp_path, sessions):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, capture_output=True, check=False
        ).returncode

    def commit(baseline):
        (tmp_path / "base.json").write_text(baseline_format.encode_baseline(baseline))
        git("add", ".")
        return git("commit", "-m", "m")

    common = history(sessions)
    ours = merge_baselines(common, history(1, first=20))
    theirs = merge_baselines(common, history(1, first=21))
    assert git("init") == 0
    assert commit(common) == 0
    assert git("checkout", "-b", "side") == 0
    assert commit(theirs) == 0
    assert git("checkout", "main") == 0
    assert commit(ours) == 0
    assert git("merge", "side") == 1
    merged = (tmp_path / "base.json").read_text()
    with pytest.raises(StorageError, match="git conflict markers"):
        decode(merged)
    kept = [line for line in merged.splitlines() if line[:7] not in ("<<<<<<<", "=======", ">>>>>>>")]
    assert decode("\n".join(kept)) == merge_baselines(merge_baselines(common, ours), theirs)


GOOD = baseline_format.encode_baseline(history(2))
RESTORE = "restore it from version control, or delete it and record it again with --infer-save"

UNREADABLE = {
    "empty": "",
    "truncated": GOOD[:290],
    "truncated in a name": GOOD[:255],
    "no JSON": "cases: []",
    "two documents": GOOD + GOOD,
    "byte order mark": "\ufeff" + GOOD,
    "array": "[]",
    "string": '"x"',
    "number": "1",
    "boolean": "true",
    "null": "null",
    "infinite number": GOOD.replace("0.001,", "1e999,", 1),
    "no hardware": '{"schema_version": 2}',
    "unknown field": GOOD.replace('"count": 120', '"count": 120, "colour": 3', 1),
    "unknown field at the top": GOOD.replace('"cases"', '"casse"', 1),
    "wrong type": GOOD.replace("0.002", '"fast"', 1),
    "true for a count": GOOD.replace("120", "true", 1),
    "zero time": GOOD.replace("0.002", "0", 1),
    "time below zero": GOOD.replace("0.002", "-0.002", 1),
    "NaN": GOOD.replace("0.002", "NaN", 1),
    "a reference time of zero": GOOD.replace('"gemm": 0.001', '"gemm": 0', 1),
    "next to no time": GOOD.replace("0.002", "5e-324", 1),
    "time beyond all": GOOD.replace("0.002", "1.7976931348623157e308", 1),
    "a reference time beyond all": GOOD.replace('"gemm": 0.001', '"gemm": 1e308', 1),
    "contention beyond all": GOOD.replace('"count": 120', '"count": 120, "contention": 1e308', 1),
    "page faults beyond all": GOOD.replace('"count": 120', '"count": 120, "page_faults": 1e308', 1),
    "calls beyond all": GOOD.replace("120", "1" + "0" * 300, 1),
    "no calls": GOOD.replace("120", "0", 1),
    "contention below zero": GOOD.replace('"count": 120', '"count": 120, "contention": -0.1', 1),
    "contention that is NaN": GOOD.replace('"count": 120', '"count": 120, "contention": NaN', 1),
    "a figure of another file": GOOD.replace('"count": 120', '"count": 120, "peak_memory": 4096', 1),
    "no time": GOOD.replace("2026-01-01T00:00:00Z", "yesterday", 1),
    "no batch": GOOD.replace('"batch_size": 8', '"batch_size": 0', 1),
    "half of a character for a CPU": GOOD.replace('"cpu_model": "', r'"cpu_model": "\ud800'),
    "half of a character for a field": GOOD.replace('"cases"', r'"\ud800": 1, "cases"'),
    "half of a character for a name": GOOD.replace('"hardware": {', r'"hardware": {"\ud800": 1, '),
    "half of a character for a time": GOOD.replace("0.002", r'"\ud800"', 1),
    "half of a character for a day": GOOD.replace("2026-01-01T00:00:00Z", r"\ud800", 1),
    "a command for a field": GOOD.replace('"cases"', r'"\u001b[31m##[error]x": 1, "cases"'),
    "no cores": GOOD.replace('"cores": 4', '"cores": 0'),
    "newer": GOOD.replace('"schema_version": 2', '"schema_version": 3, "new": {}'),
    "version zero": GOOD.replace('"schema_version": 2', '"schema_version": 0'),
    "version as text": GOOD.replace('"schema_version": 2', '"schema_version": "1"'),
    "conflict": GOOD.replace("  ],\n", "<<<<<<< HEAD\n  ],\n=======\n  ],\n>>>>>>> side\n"),
    "half resolved": GOOD.replace("  ],\n", "  ],\n=======\n"),
    "half resolved of three": GOOD.replace("  ],\n", "  ],\n||||||| 1a2b3c4\n"),
}


def refused(text):
    with pytest.raises(StorageError) as caught:
        pytest.fail(f"read as {decode(text)}")
    assert "base.json" in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_read_is_named_by_its_field(snapshot):
    assert {name: refused(text) for name, text in UNREADABLE.items()} == snapshot


def test_what_python_itself_refuses_names_the_file():
    for digits in (400, 5000):
        refused(GOOD.replace("0.001,", "1" * digits + ",", 1))
    refused("[" * 100_000)


def test_bytes_that_are_no_text():
    with pytest.raises(StorageError, match=r"^base\.json .*byte 5"):
        baseline_format.decode_baseline(GOOD.encode()[:5] + b"\xff\xfe", "base.json")


def test_windows_line_ends_are_read():
    assert decode(GOOD.replace("\n", "\r\n")) == decode(GOOD)


def test_the_contention_of_a_session_is_kept_and_absent_in_earlier_files():
    text = GOOD.replace('"count": 120', '"count": 120, "contended": true, "contention": 0.5', 1)
    kept = [point.contention for entry in decode(text).cases for point in entry.sessions]
    assert kept[:2] == [0.5, None]
    assert decode(baseline_format.encode_baseline(decode(text))) == decode(text)


def test_a_file_without_version_is_of_today():
    assert decode(GOOD.replace('  "schema_version": 2,\n', "")) == decode(GOOD)


def test_a_case_that_stands_twice_is_joined():
    both = json.loads(GOOD)
    both["cases"] = [{**entry, "sessions": [point]} for entry in both["cases"] for point in entry["sessions"]]
    assert decode(json.dumps(both)) == decode(GOOD)


def test_a_session_with_nonsense_is_not_recorded(snapshot):
    for value in (0.0, math.nan):
        with pytest.raises(StorageError) as caught:
            baseline_format.check_session(sample_session(reference_work={"gemm": value}))
        assert str(caught.value) == snapshot


def test_the_published_schema_refuses_what_the_reader_refuses():
    validator = jsonschema.Draft202012Validator(json.loads(baseline_format.baseline_schema()))
    assert validator.is_valid(json.loads(GOOD))
    for name in (
        *("unknown field", "zero time", "no calls", "a reference time of zero", "contention below zero"),
        *("next to no time", "time beyond all", "a reference time beyond all", "contention beyond all"),
        *("page faults beyond all", "calls beyond all"),
        *("no time", "newer", "version zero"),
    ):
        assert not validator.is_valid(json.loads(UNREADABLE[name])), name


def test_the_published_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json.loads(baseline_format.baseline_schema()))
    assert json.loads(baseline_format.baseline_schema())["title"] == "infergate baseline, version 2"
