import difflib
import json
import math
import shutil
import subprocess
from functools import reduce

import jsonschema
import pytest

from pytest_infergate.core.domain.model import Hardware
from pytest_infergate.core.domain.records import Baseline
from pytest_infergate.core.gate.baseline import SESSIONS_KEPT, merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_document
from pytest_infergate.testing import sample_session

EMPTY = Baseline(hardware=Hardware(cpu_model="Test CPU", cores=4))


def history(sessions, tests=("a.py::test_a", "b.py::test_b"), first=1):
    days = range(first, first + sessions)
    each = [
        sample_session(f"2026-01-{day:02}T00:00:00Z", test, p50=day / 1000) for day in days for test in tests
    ]
    return reduce(merge_baselines, each, None)


def decode(text):
    return baseline_document.decode_baseline(text.encode(), "base.json")


def test_the_layout():
    assert baseline_document.encode_baseline(history(2)) == (
        "{\n"
        '  "schema_version": 1,\n'
        '  "hardware": {"cpu_model": "Test CPU", "isa": ["avx2"], "cores": 4},\n'
        '  "cases": [\n'
        '    {"case": {"test": "a.py::test_a", "device": "cpu", "batch_size": 8}, "sessions": [\n'
        '      {"created": "2026-01-01T00:00:00Z", "p50": 0.001, "count": 120, "yardsticks": {"gemm": 0.001}}\n'
        '     ,{"created": "2026-01-02T00:00:00Z", "p50": 0.002, "count": 120, "yardsticks": {"gemm": 0.001}}\n'
        "    ]}\n"
        '   ,{"case": {"test": "b.py::test_b", "device": "cpu", "batch_size": 8}, "sessions": [\n'
        '      {"created": "2026-01-01T00:00:00Z", "p50": 0.001, "count": 120, "yardsticks": {"gemm": 0.001}}\n'
        '     ,{"created": "2026-01-02T00:00:00Z", "p50": 0.002, "count": 120, "yardsticks": {"gemm": 0.001}}\n'
        "    ]}\n"
        "  ],\n"
        '  "packages": {\n'
        '    "2026-01-01T00:00:00Z": {"torch": "2.13.0"}\n'
        '   ,"2026-01-02T00:00:00Z": {"torch": "2.13.0"}\n'
        "  }\n"
        "}\n"
    )


@pytest.mark.parametrize("baseline", [EMPTY, history(1), history(SESSIONS_KEPT)])
def test_what_is_written_is_read_back_and_valid(baseline):
    text = baseline_document.encode_baseline(baseline)
    assert decode(text) == baseline
    assert text.endswith("}\n")
    jsonschema.validate(json.loads(text), json.loads(baseline_document.baseline_schema()))


def changed_lines(before, after):
    lines = difflib.ndiff(
        baseline_document.encode_baseline(before).splitlines(),
        baseline_document.encode_baseline(after).splitlines(),
    )
    return sorted(line[0] for line in lines if line[0] in "+-")


def test_one_more_session_is_one_more_line_a_case():
    # Two cases and the package versions of the session.
    assert changed_lines(history(3), history(4)) == ["+"] * 3


def test_a_session_that_pushes_one_out_changes_two_lines_a_case():
    assert changed_lines(history(SESSIONS_KEPT), history(SESSIONS_KEPT + 1)) == ["+"] * 6 + ["-"] * 6


def test_figures_keep_five_significant_digits():
    session = sample_session(p50=0.0123456789, reference_work={"b": 1.23456789e-7, "a": 2})
    (point,) = decode(baseline_document.encode_baseline(session)).cases[0].sessions
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
        (tmp_path / "base.json").write_text(baseline_document.encode_baseline(baseline))
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


GOOD = baseline_document.encode_baseline(history(2))
RESTORE = "restore it from version control, or delete it and record anew with --infer-save"

UNREADABLE = {
    "empty": ("", f"base.json is not JSON: it ends too early (Expecting value, line 1 column 1); {RESTORE}"),
    "truncated": (
        GOOD[:280],
        f"base.json is not JSON: it ends too early (Expecting property name enclosed in double quotes, line 6 column 86); {RESTORE}",
    ),
    "truncated in a name": (
        GOOD[:255],
        "base.json is not JSON: it ends too early (Unterminated string starting at, line 6",
    ),
    "no JSON": ("cases: []", "base.json is not JSON (Expecting value, line 1 column 1)"),
    "two documents": (GOOD + GOOD, "base.json is not JSON (Extra data, line 19 column 1)"),
    "byte order mark": ("\ufeff" + GOOD, "base.json is not JSON (Unexpected UTF-8 BOM"),
    "array": ("[]", f"base.json holds a JSON array where a baseline is an object; {RESTORE}"),
    "string": ('"x"', "holds a JSON string"),
    "number": ("1", "holds a JSON number"),
    "boolean": ("true", "holds a JSON boolean"),
    "null": ("null", "holds a JSON null"),
    "deep": ("[" * 100_000, "base.json is not a baseline"),
    "huge number": (GOOD.replace("0.001,", "1" * 5000 + ",", 1), "base.json"),
    "large integer": (GOOD.replace("0.001,", "1" * 400 + ",", 1), "base.json"),
    "infinite number": (GOOD.replace("0.001,", "1e999,", 1), "`$.cases[0].sessions[0].p50` is inf"),
    "no hardware": (
        '{"schema_version": 1}',
        "base.json does not fit the schema of baselines: Object missing required field `hardware`",
    ),
    "unknown field": (
        GOOD.replace('"count": 120', '"count": 120, "colour": 3', 1),
        "Object contains unknown field `colour` - at `$.cases[0].sessions[0]`; correct that field, or restore it",
    ),
    "unknown field at the top": (
        GOOD.replace('"cases"', '"casse"', 1),
        "Object contains unknown field `casse`",
    ),
    "wrong type": (
        GOOD.replace("0.002", '"fast"', 1),
        "Expected `float`, got `str` - at `$.cases[0].sessions[1].p50`",
    ),
    "true for a count": (
        GOOD.replace("120", "true", 1),
        "Expected `int`, got `bool` - at `$.cases[0].sessions[0].count`",
    ),
    "zero time": (
        GOOD.replace("0.002", "0", 1),
        f"base.json: `$.cases[0].sessions[1].p50` is 0.0, and a time must be above 0 seconds and finite; correct that field, or {RESTORE}",
    ),
    "time below zero": (GOOD.replace("0.002", "-0.002", 1), "`$.cases[0].sessions[1].p50` is -0.002"),
    "NaN": (GOOD.replace("0.002", "NaN", 1), "`$.cases[0].sessions[1].p50` is nan"),
    "yardstick of zero": (
        GOOD.replace('"gemm": 0.001', '"gemm": 0', 1),
        "`$.cases[0].sessions[0].yardsticks.gemm` is 0.0",
    ),
    "no calls": (
        GOOD.replace("120", "0", 1),
        "`$.cases[0].sessions[0].count` is 0, and a median needs at least 1 call",
    ),
    "a figure of another file": (
        GOOD.replace('"count": 120', '"count": 120, "peak_memory": 4096', 1),
        "Object contains unknown field `peak_memory` - at `$.cases[0].sessions[0]`",
    ),
    "no time": (
        GOOD.replace("2026-01-01T00:00:00Z", "yesterday", 1),
        "`$.cases[0].sessions[0].created` is 'yesterday'",
    ),
    "no batch": (GOOD.replace('"batch_size": 8', '"batch_size": 0', 1), "`$.cases[0].case.batch_size` is 0"),
    "no cores": (GOOD.replace('"cores": 4', '"cores": 0'), "`$.hardware.cores` is 0"),
    "newer": (
        GOOD.replace('"schema_version": 1', '"schema_version": 2, "new": {}'),
        "base.json: `$.schema_version` is 2, written by a newer infergate than this one, which reads up to 1; upgrade pytest-infergate",
    ),
    "version zero": (
        GOOD.replace('"schema_version": 1', '"schema_version": 0'),
        "`$.schema_version` is 0, and versions begin at 1",
    ),
    "version as text": (
        GOOD.replace('"schema_version": 1', '"schema_version": "1"'),
        "Expected `int`, got `str` - at `$.schema_version`",
    ),
    "conflict": (
        GOOD.replace("  ],\n", "<<<<<<< HEAD\n  ],\n=======\n  ],\n>>>>>>> side\n"),
        (
            "base.json holds git conflict markers (line 13); take both sides by deleting the marker lines, or one "
            "side with `git checkout --ours base.json`, then run again with --infer-save"
        ),
    ),
    "half resolved": (GOOD.replace("  ],\n", "  ],\n=======\n"), "git conflict markers (line 14)"),
    "half resolved of three": (
        GOOD.replace("  ],\n", "  ],\n||||||| 1a2b3c4\n"),
        "git conflict markers (line 14); take both sides",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_says_what_where_and_the_cure(name):
    text, message = UNREADABLE[name]
    with pytest.raises(StorageError) as caught:
        decode(text)
    assert message in str(caught.value)
    assert "base.json" in str(caught.value)
    assert "; " in str(caught.value)


def test_bytes_that_are_no_text():
    with pytest.raises(StorageError, match=r"base\.json is not UTF-8 text \(byte 5\); restore it"):
        baseline_document.decode_baseline(GOOD.encode()[:5] + b"\xff\xfe", "base.json")


def test_windows_line_ends_are_read():
    assert decode(GOOD.replace("\n", "\r\n")) == decode(GOOD)


def test_a_file_without_version_is_the_first():
    assert decode(GOOD.replace('  "schema_version": 1,\n', "")) == decode(GOOD)


def test_a_case_that_stands_twice_is_joined():
    both = json.loads(GOOD)
    both["cases"] = [{**entry, "sessions": [point]} for entry in both["cases"] for point in entry["sessions"]]
    assert decode(json.dumps(both)) == decode(GOOD)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_session_with_nonsense_is_not_recorded(value):
    with pytest.raises(StorageError) as caught:
        baseline_document.check_session(sample_session(reference_work={"gemm": value}))
    assert str(caught.value) == (
        f"this session: `$.cases[0].sessions[0].yardsticks.gemm` is {value}, and a time must be above 0 seconds and "
        "finite; correct what measured it; nothing of the session was recorded"
    )


@pytest.mark.parametrize(
    "name",
    ["unknown field", "zero time", "no calls", "yardstick of zero", "no time", "newer", "version zero"],
)
def test_the_published_schema_refuses_what_the_reader_refuses(name):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(UNREADABLE[name][0]), json.loads(baseline_document.baseline_schema()))


def test_the_published_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json.loads(baseline_document.baseline_schema()))
    assert json.loads(baseline_document.baseline_schema())["title"] == "infergate baseline, version 1"
