import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from savers import save_counters

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.places import collapse_places
from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally
from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import counter_files
from pytest_infergate.storage.counter_files import CounterFiles, file_name

MODULE = "tests/test_model.py"
AVX2 = CounterKey(torch="2.13.0", architecture="avx2")
HOSTILE = (
    'say "hi"',
    "back\\slash",
    "two\nlines",
    "carriage\rreturn",
    "line\u2028separator \u2029 \x85",
    "nul\0",
    "byte \udc80",
    "<<<<<<< HEAD",
    "=======",
    "../..",
    "# comment",
    "größe",
    " in ",
    "{0-5}",
    " ",
)
RESTORE = ". Hint: restore it from version control, or delete it and record it again with --infer-save"
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
not_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may do anything")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def case(name="test_a", module=MODULE, **axes):
    return Case(test=f"{module}::{name}", device="cpu", **axes)


def tally(key=CounterKey(), *operators, **figures):  # noqa: B008 - frozen
    return Tally(key=key, counters=figures, operators=operators)


def record(of, *tallies, flops=8):
    return CounterRecord(case=of, tallies=tallies or (tally(flops=flops),))


def text(*records, module=MODULE):
    return counter_files.encode_counters(module, {each.case: each for each in records})


def decode(written):
    return counter_files.decode_counters(written.encode("utf-8", "backslashreplace"), "model.txt")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "counters"


@pytest.fixture
def files(folder):
    return CounterFiles(folder)


def names(folder):
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith("."))


# The text

GOLDEN = """\
# Exact counters of "tests/test_model.py": the work of one call of each case.
# Written by pytest --infer-save. Review a change here like a change of code.
# Sizes are in bytes; a multiplication and an addition are two flops. The figures of an operator "in" several
# places are those of each place: "in layer.*" means each number in the line "places layer.*".
infergate counters 2

case {"test": "tests/test_model.py::test_a", "device": "cpu", "batch_size": 8}
  everywhere
    flops 12000000
    host_device_copies 0
    weight_bytes 4096
    weight_bytes float32 4096
  with {"torch": "2.13.0", "architecture": "avx2"}
    aten::addmm 5
    aten::copy_ 1
    operators 6
    views varies
    places layer.* = 0-2
    aten::addmm: 2 calls, 3000000 flops, 40 bytes in head
    aten::addmm: 1 call, 2000000 flops, 30 bytes in layer.*
    aten::copy_: 1 call, 0 flops, 8 bytes
  with {"torch": "2.13.0", "architecture": "avx2", "threads": 4}
    allocations 7
  end of 16 lines

case {"test": "tests/test_model.py::test_b", "params": "small", "device": "cuda", "dtype": "float16"}
  everywhere
    flops 1
  end of 2 lines

end
"""
FIRST = record(
    case(batch_size=8),
    tally(
        **{"weight_bytes float32": 4096, "weight_bytes": 4096, "host_device_copies": 0, "flops": 12_000_000}
    ),
    tally(
        AVX2,
        OperatorWork(operator="aten::addmm", place="head", calls=2, flops=3_000_000, bytes=40),
        OperatorWork(operator="aten::addmm", place="layer.{0-2}", calls=1, flops=2_000_000, bytes=30),
        OperatorWork(operator="aten::copy_", calls=1, bytes=8),
        views=None,
        operators=6,
    ),
    tally(CounterKey(torch="2.13.0", architecture="avx2", threads=4), allocations=7),
)
SECOND = record(
    Case(test=f"{MODULE}::test_b", params="small", device="cuda", dtype="float16"), tally(flops=1)
)


def test_the_text():
    assert text(SECOND, FIRST) == GOLDEN


def test_the_text_is_read_back():
    assert decode(GOLDEN) == {FIRST.case: FIRST, SECOND.case: SECOND}


def test_lines_of_windows_editors_are_read():
    assert decode(GOLDEN.replace("\n", "\r\n")) == decode(GOLDEN)


def test_sums_of_an_operator_are_for_the_eye():
    assert decode(GOLDEN.replace("aten::addmm 5", "aten::addmm 99")) == decode(GOLDEN)


def test_comments_and_empty_lines_are_passed_over():
    assert decode("# mine\n\n" + GOLDEN.replace("  everywhere\n", "\n  everywhere\n# why\n\n")) == decode(
        GOLDEN
    )


def test_cases_and_counters_are_sorted():
    cases = [case(name, params=p, batch_size=b) for name in "ba" for p in ("y", "x") for b in (10, 9)]
    written = text(*(record(each, tally(operators=1, flops=2, allocations=3)) for each in cases))
    order = [line for line in written.splitlines() if line.startswith("case ")]
    assert list(decode(written)) == sorted(cases, key=lambda each: (each.test, each.params, each.batch_size))
    assert len(order) == 8
    body = written.split("everywhere\n")[1].splitlines()[:3]
    assert body == ["    allocations 3", "    flops 2", "    operators 1"]


def test_names_may_hold_anything():
    for name in HOSTILE:
        work = OperatorWork(operator="aten::mm", place=name, calls=1)
        hostile = record(case(name, params=name), tally(CounterKey(architecture=name), work, operators=1))
        written = text(hostile, module=name)
        assert decode(written) == {hostile.case: hostile}, name
        assert len([line for line in written.split("\n") if line.startswith("case ")]) == 1, name


words = st.text(
    st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
)
figures = st.dictionaries(
    st.sampled_from(["flops", "operators", "allocations", "weight_bytes float8_e4m3fn"]),
    st.none() | st.integers(0, 10**24 - 1),
    min_size=1,
)
work = st.builds(
    OperatorWork,
    operator=st.sampled_from(["aten::mm", "aten::copy_", "Tensor.cpu", "vision::nms"]),
    place=words,
    calls=st.integers(0, 10**15 - 1),
    flops=st.integers(0, 10**24 - 1),
    bytes=st.integers(0, 10**24 - 1),
)
keys = st.builds(
    CounterKey,
    torch=st.none() | words,
    architecture=st.none() | words,
    threads=st.none() | st.integers(1, 99),
)
tallies = st.builds(
    Tally,
    key=keys,
    counters=figures,
    operators=st.lists(work, max_size=3, unique_by=lambda row: (row.operator, row.place)).map(
        lambda rows: tuple(sorted(rows))
    ),
)
cases = st.builds(
    Case,
    test=words,
    params=words,
    device=words,
    dtype=st.none() | words,
    threads=st.none() | st.integers(1, 9),
)
records = st.builds(
    CounterRecord, case=cases, tallies=st.lists(tallies, max_size=3, unique_by=lambda row: row.key).map(tuple)
)


@given(st.lists(records, max_size=3, unique_by=lambda each: each.case))
def test_what_is_written_is_read_back(written):
    assert decode(text(*written)) == {each.case: each for each in written}


# Places


def test_a_file_stands_where_its_module_stands():
    for module in ["test_it.py", MODULE, "größe/test ü.py", "a b/-c+d=e@f.py", "_/1.py", "v1.2/x..py"]:
        assert file_name(module) == f"{module}.txt", module


STRANGE = (
    "..",
    ".",
    "../up.py",
    "a/../../up.py",
    "/etc/passwd",
    "",
    "a//b.py",
    "a/./b.py",
    "./b.py",
    "a/",
    "C:\\x.py",
    "C:x.py",
    "a\\b.py",
    "a*b?.py",
    '<"|>.py',
    "nul\0.py",
    ".hidden/b.py",
    "x" * 300,
    "é" * 150,
    "byte\udc80.py",
    "{x}.py",
    "a,b.py",
    "#a.py",
    "~/a.py",
    "$HOME/a.py",
    " a.py",
    "=a.py",
    "two\nlines.py",
    "a\u2028b.py",
)


def test_names_never_leave_the_folder(tmp_path):
    for number, module in enumerate(STRANGE):
        folder = tmp_path / str(number) / "counters"
        name = file_name(module)
        assert (folder / name).resolve().is_relative_to(folder.resolve()), module
        assert not set(name) & set('\0:*?"<>|\\'), module
        assert len(os.fsencode(name)) < 255, module
        strange = record(case(module=module))
        CounterFiles(folder).record([strange])
        written = [path for path in folder.rglob("*") if path.suffix == ".txt"]
        assert written == [folder / name], module
        assert CounterFiles(folder).load() == {strange.case: strange}, module


def test_modules_have_a_file_each(folder):
    modules = [*STRANGE, "b.py", "a/b.py", "up.py", "a-b.py", "x" * 299, "C-x.py", "etc/passwd"]
    assert len({(folder / file_name(module)).resolve() for module in modules}) == len(modules)


# The folder


def test_nothing_is_read_where_nothing_was_recorded(files, folder):
    assert files.load() == {}
    assert not folder.exists()


def test_what_is_recorded_is_loaded(files, folder):
    other = record(case(module="test_other.py"))
    assert files.record([FIRST, other, SECOND]) == 2
    assert files.load() == {each.case: each for each in (FIRST, SECOND, other)}
    assert names(folder) == ["test_other.py.txt", f"{MODULE}.txt"]
    assert (folder / f"{MODULE}.txt").read_text() == GOLDEN
    assert ".*" in (folder / ".gitignore").read_text().splitlines()


def test_an_unchanged_file_is_not_rewritten(files, folder):
    files.record([FIRST, SECOND])
    path = folder / f"{MODULE}.txt"
    path.write_bytes(GOLDEN.replace("\n", "\r\n").encode() + b"# mine\n")
    before = path.read_bytes()
    assert files.record([SECOND, FIRST]) == 0
    assert files.record([FIRST]) == 0
    assert path.read_bytes() == before


def test_only_the_module_that_changed_is_rewritten(files, folder):
    files.record([record(case(module=module)) for module in ("test_a.py", "test_b.py")])
    kept = folder / "test_a.py.txt"
    kept.write_bytes(kept.read_bytes() + b"# mine\n")
    assert files.record([record(case(module="test_a.py")), record(case(module="test_b.py"), flops=9)]) == 1
    assert kept.read_bytes().endswith(b"# mine\n")
    assert "    flops 9\n" in (folder / "test_b.py.txt").read_text()


def test_gone_cases_are_taken_out(files, folder):
    files.record([FIRST, SECOND])
    assert files.record([], removed=[FIRST.case]) == 1
    assert files.load() == {SECOND.case: SECOND}
    assert files.record([], removed=[FIRST.case]) == 0


def test_a_file_without_cases_is_removed(files, folder):
    files.record([FIRST, record(case(module="test_other.py"))])
    assert files.record([], removed=[FIRST.case]) == 1
    assert names(folder) == ["test_other.py.txt"]
    assert files.record([], removed=[case(module="never.py")]) == 0
    assert names(folder) == ["test_other.py.txt"]


def test_a_case_that_is_gone_and_measured_stays(files):
    files.record([FIRST])
    files.record([FIRST], removed=[FIRST.case])
    assert files.load() == {FIRST.case: FIRST}


def test_tallies_of_other_machines_stay(files):
    here, there = (
        tally(AVX2, operators=3),
        tally(CounterKey(torch="2.13.0", architecture="sm_90"), operators=9),
    )
    files.record([record(case(), tally(flops=1), there)])
    files.record([record(case(), tally(flops=2), here)])
    assert files.load()[case()].tallies == (tally(flops=2), here, there)


def test_one_torch_version_is_kept_of_a_machine(files):
    older, newer = (
        tally(AVX2, operators=3),
        tally(CounterKey(torch="2.14.0", architecture="avx2"), operators=4),
    )
    files.record([record(case(), older)])
    files.record([record(case(), newer)])
    assert files.load()[case()].tallies == (newer,)


def test_each_minor_version_of_python_has_its_counts(files):
    older, newer = (
        tally(CounterKey(torch="2.13.0", python=python), bytecodes=3) for python in ("3.11", "3.12")
    )
    files.record([record(case(), older)])
    files.record([record(case(), newer)])
    assert files.load()[case()].tallies == (older, newer)


OLD = """\
infergate counters 1

case {"test": "tests/test_model.py::test_a", "device": "cpu"}
  everywhere
    flops 100
  with {"torch": "2.13.0", "architecture": "avx2"}
    aten::empty_like 6
    aten::mm 3
    bytes_read 138
    operators 10
    profiler::_record_function_exit 1
    aten::empty_like: 2 calls, 0 flops, 16 bytes in layer.{0-2}
    aten::mm: 1 call, 100 flops, 30 bytes in layer.{0-2}
    profiler::_record_function_exit: 1 call, 0 flops, 0 bytes
  end of 11 lines

end
"""


def test_a_file_of_version_1_has_no_operators_that_do_no_work():
    mm = OperatorWork(operator="aten::mm", place="layer.{0-2}", calls=1, flops=100, bytes=30)
    everywhere, software = decode(OLD)[case()].tallies
    assert everywhere == replace(tally(flops=100), version=1)
    assert software == replace(tally(AVX2, mm, operators=3, bytes_read=90), version=1)
    varying = decode(OLD.replace("operators 10", "operators varies"))[case()].tallies[1]
    assert varying.counters == {"operators": None, "bytes_read": 90}


def test_cases_of_version_1_keep_their_mark_until_they_are_recorded_again(files, folder):
    path = folder / f"{MODULE}.txt"
    path.parent.mkdir(parents=True)
    path.write_text(OLD)
    old = decode(OLD)[case()]
    files.record([record(case("test_b"))])
    written = path.read_text()
    assert HEAD in written
    assert written.count("counted by version 1") == 2
    assert files.load() == {case(): old, case("test_b"): record(case("test_b"))}
    files.record([record(case(), tally(flops=100), tally(AVX2, operators=3))])
    assert "counted by version" not in path.read_text()


def test_a_mark_stays_with_the_counters_of_its_machine(files, folder):
    path = folder / f"{MODULE}.txt"
    path.parent.mkdir(parents=True)
    path.write_text(OLD)
    here = tally(CounterKey(torch="2.13.0", architecture="sm_90"), operators=3)
    files.record([record(case(), tally(flops=400), here)])
    versions = {found.key.architecture: found.version for found in files.load()[case()].tallies}
    assert versions == {None: 2, "avx2": 1, "sm_90": 2}


def layered(count):
    """The counters of an encoder with layers of ten operators, and a head; layer 0 has one more."""
    rows = [
        OperatorWork(operator=f"aten::op{number % 4}", place=f"layers.{layer}.part{number}", calls=1, bytes=8)
        for layer in range(count)
        for number in range(10)
    ]
    rows.append(OperatorWork(operator="aten::embedding", place="layers.0", calls=1))
    rows += [OperatorWork(operator="aten::op0", place=f"layers.{n}.part0", calls=2) for n in range(6)]
    rows.append(OperatorWork(operator="aten::addmm", place="head", calls=1))
    total = {"operators": len(rows), "bytes_read": 80 * count}
    return text(record(case(), tally(AVX2, *collapse_places(rows), **total)))


@pytest.mark.parametrize("fewer", [4, 10])
def test_one_more_layer_changes_the_lines_of_sums(fewer):
    changes = list(unified_diff(*(layered(count).split("\n") for count in (fewer, fewer + 1)), n=0))
    removed = [line.split()[1] for line in changes[2:] if line.startswith("-")]
    assert removed == [*(f"aten::op{number}" for number in range(4)), "bytes_read", "operators", "places"]
    assert len(changes) - 2 - sum(line.startswith("@@") for line in changes) == 2 * len(removed)


def test_the_meaning_of_places_is_read_from_any_line_of_its_tally():
    line = "    places layer.* = 0-2\n"
    last = "    aten::addmm: 2 calls, 3000000 flops, 40 bytes in head\n"
    moved = GOLDEN.replace(line, "").replace(last, last + line)
    assert decode(moved) == decode(GOLDEN)
    assert decode(GOLDEN.replace(line, line * 2).replace("16 lines", "17 lines")) == decode(GOLDEN)


def test_other_files_are_not_read(files, folder):
    files.record([FIRST])
    for name in ("README.md", "tests/test_model.py.txt~", ".infergate-1a2b.tmp"):
        (folder / name).write_text("no counters")
    assert files.load() == {FIRST.case: FIRST}


def test_a_folder_named_as_a_file_is_not_read(files, folder):
    (folder / "test_it.py.txt").mkdir(parents=True)
    assert files.load() == {}


# What cannot be read

HEAD = "infergate counters 2\n"
CASE = 'case {"test": "a.py::test_a", "device": "cpu"}\n'
OTHER = 'case {"test": "a.py::test_b", "device": "cpu"}\n'
ALL = f"{HEAD}{CASE}  everywhere\n"
WHOLE = f"{ALL}    flops 1\n  end of 2 lines\n"
UNREADABLE = {
    "empty": "",
    "blank": "\n \n",
    "comments only": "# mine\n",
    "cut in a row": GOLDEN[: GOLDEN.index(" flops, 30")],
    "cut in a case": GOLDEN[: GOLDEN.index('", "device')],
    "garbage": ALL + "hello\n",
    "binary": ALL + "\0\0\0",
    "two meanings": ALL + "    places a.* = 0-3\n    places a.* = 0-4\n  end of 3 lines\nend\n",
    "a meaning of nothing": ALL + "    places a.* = 3-0\n  end of 2 lines\nend\n",
    "no end": ALL + "    flops 1\nend\n",
    "no last line": WHOLE,
    "a case after the last line": WHOLE + "end\n" + OTHER,
    "cut before the end": ALL + "    flops 1\n",
    "no end before another": ALL + "    flops 1\n" + OTHER,
    "an end too small": WHOLE.replace("of 2", "of 1"),
    "an end too large": WHOLE.replace("of 2", "of 12"),
    "an end twice": WHOLE + "  end of 2 lines\n",
    "an end before its case": HEAD + "  end of 0 lines\n",
    "half an end": WHOLE.replace(" lines", " line"),
    "an end below zero": WHOLE.replace("of 2", "of -2"),
    "a huge end": WHOLE.replace("of 2", "of " + "9" * 5000),
    "a case twice": WHOLE + WHOLE.removeprefix(HEAD),
    "a case twice, apart": WHOLE + OTHER + "  end of 0 lines\n" + CASE,
    "a counter before its case": HEAD + "    flops 1\n",
    "a counter before its key": HEAD + CASE + "    flops 1\n",
    "a counter after an end": WHOLE + "    flops 1\n",
    "a sum after an end": WHOLE + "    aten::mm 1\n",
    "a key before its case": HEAD + "  everywhere\n",
    "a key after an end": WHOLE + '  with {"torch": "2.13.0"}\n',
    "a second case without key": WHOLE + OTHER + "    flops 1\n",
    "bad JSON": HEAD + "case {'test'}\n",
    "bad JSON of a key": HEAD + CASE + "  with torch\n",
    "bad JSON of a place": ALL + '    aten::mm: 1 call, 1 flops, 1 bytes in a"b\n',
    "wrong type": HEAD + 'case {"test": 1, "device": "cpu"}\n',
    "no object": HEAD + CASE + "  with []\n",
    "no device": HEAD + 'case {"test": "a"}\n',
    "unknown field": HEAD + CASE.replace("test", "tset", 1),
    "huge counter": ALL + f"    flops {'9' * 25}\n",
    "infinite number": HEAD + CASE.replace('"cpu"', '"cpu", "batch_size": 1e999'),
    "below zero": ALL + "    flops -1\n",
    "a fraction": ALL + "    flops 1.5\n",
    "no version": CASE,
    "version as word": "infergate counters one\n",
    "version zero": "infergate counters 0\n",
    "version with a zero before": "infergate counters 01\n",
    "version of ten digits": "infergate counters 1000000000\n",
    "huge version": f"infergate counters {'9' * 5000}\n",
    "byte order mark": "\ufeff" + GOLDEN[GOLDEN.index(HEAD) :],
    "twice with two values": ALL + "    flops 1\n    flops 2\n",
    "twice, once varying": ALL + "    flops varies\n    flops 2\n",
    "in two blocks": ALL + "    flops 1\n  everywhere\n    flops 2\n",
    "operator twice": ALL + "    aten::mm: 1 call, 1 flops, 1 bytes in a\n    aten::mm: 2 calls, 1 flops, 1 bytes in a\n",
}  # fmt: skip


def refused(written):
    """What is said of a text, without the name of its file and without what would restore it."""
    with pytest.raises(StorageError) as caught:
        pytest.fail(f"read as {decode(written)}")
    message = str(caught.value)
    assert message.startswith("model.txt, line ")
    assert message.endswith(RESTORE)
    assert "column" not in message  # of the JSON in the line: not where people look
    return message.removeprefix("model.txt, ").removesuffix(RESTORE)


def test_what_cannot_be_read_is_named_by_its_line(snapshot):
    assert {name: refused(written) for name, written in UNREADABLE.items()} == snapshot


def test_what_python_itself_refuses_is_named_by_its_line():
    deep = HEAD + "case " + "[" * 100_000
    huge = HEAD + CASE.replace('"cpu"', '"cpu", "batch_size": ' + "9" * 5000)
    for written in (deep, huge):
        assert refused(written).startswith("line 2: ")


def test_a_file_cut_anywhere_is_refused():
    for length in range(len(GOLDEN) - 1):
        with pytest.raises(StorageError) as caught:
            decode(GOLDEN[:length])
        assert str(caught.value).endswith(RESTORE)


def test_a_file_that_lost_a_line_reads_the_same_or_is_refused():
    for number in range(len(GOLDEN.splitlines())):
        lines = GOLDEN.splitlines(keepends=True)
        lost = lines.pop(number)
        if lost.startswith("#") or not lost.strip():
            assert decode("".join(lines)) == decode(GOLDEN), lost
        else:
            with pytest.raises(StorageError):
                pytest.fail(f"without {lost!r}: {decode(''.join(lines))}")


def test_a_newer_version_says_to_upgrade(snapshot):
    for version in (3, 10, 999_999_999):
        with pytest.raises(StorageError) as caught:
            decode(f"infergate counters {version}\nwhatever that may be\n")
        assert str(caught.value) == snapshot


def test_conflict_markers_say_how_to_take_one_side(snapshot):
    message = set()
    for end, marker in product(
        ("\n", "\r\n"), ("<<<<<<< HEAD", "||||||| 1a2b3c4", "=======", ">>>>>>> side")
    ):
        with pytest.raises(StorageError) as caught:
            pytest.fail(f"{marker!r}: {decode(f'{ALL}{marker}{end}    flops 1{end}')}")
        message.add(str(caught.value))
    assert message == snapshot


def test_bytes_that_are_no_text():
    with pytest.raises(StorageError, match=r"^model\.txt .*byte 21"):
        counter_files.decode_counters(HEAD.encode() + b"\xff", "model.txt")


def test_what_cannot_be_read_is_named_and_never_overwritten(files, folder):
    path = folder / f"{MODULE}.txt"
    path.parent.mkdir(parents=True)
    for content in (b"", b"garbage", b"\xff\xfe", GOLDEN.encode()[:-2], b"<<<<<<< HEAD\n"):
        path.write_bytes(content)
        for attempt in (
            files.load,
            lambda: files.record([FIRST]),
            lambda: files.record([], removed=[FIRST.case]),
        ):
            with pytest.raises(StorageError) as caught:
                pytest.fail(f"{content}: {attempt()}")
            assert str(path) in str(caught.value), content
        assert path.read_bytes() == content


def test_a_read_that_fails(files, monkeypatch):
    files.record([FIRST])

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for attempt in (files.load, lambda: files.record([FIRST])):
        with pytest.raises(
            StorageError,
            match=r"test_model.py.txt.*Permission denied",
        ):
            attempt()


# What cannot be written


@posix
def test_a_folder_in_place_of_a_file(files, folder):
    (folder / f"{MODULE}.txt").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"test_model.py.txt.*Is a directory"):
        files.record([FIRST])


def test_a_file_in_place_of_the_folder(files, folder):
    folder.write_text("a file")
    for attempt in (files.check_writable, lambda: files.record([FIRST])):
        with pytest.raises(StorageError, match=re.escape(str(folder))):
            attempt()
    with pytest.raises(StorageError) as caught:
        files.load()
    assert str(folder) in str(caught.value)
    assert folder.read_text() == "a file"


@not_root
def test_a_folder_that_is_read_only(files, folder):
    files.record([FIRST])
    folder.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            files.check_writable()
    finally:
        folder.chmod(0o700)


def test_the_check_leaves_no_trace(files, folder):
    files.check_writable()
    assert files.load() == {}
    assert names(folder) == []


def test_a_disk_that_is_full_leaves_the_earlier_file(files, monkeypatch):
    files.record([FIRST])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        files.record([record(FIRST.case, flops=9)])
    assert files.load() == {FIRST.case: FIRST}


def test_a_file_that_cannot_be_removed(files, folder, monkeypatch):
    files.record([FIRST])
    unlink = Path.unlink

    def refuse(path, *arguments, **options):
        if path.suffix == ".txt":
            raise PermissionError(13, "Permission denied")
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match=r"test_model.py.txt.*Permission denied"):
        files.record([], removed=[FIRST.case])


# Several writers


def test_threads_that_save_at_once_lose_nothing(folder):
    each = [record(case(f"test_{number}")) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: CounterFiles(folder).record([one]), each))
    assert CounterFiles(folder).load() == {one.case: one for one in each}


def test_processes_that_save_at_once_lose_nothing(folder):
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=save_counters, args=(folder, process, MODULE)) for process in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(CounterFiles(folder).load()) == 22
    assert names(folder) == ["0.py.txt", "1.py.txt", f"{MODULE}.txt"]


# Version control


class Repository:
    def __init__(self, path):
        self.path = path
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments, check=True):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.path, capture_output=True, text=True, check=check
        )

    def commit(self, *records):
        CounterFiles(self.path).record(records)
        self.git("add", ".")
        self.git("commit", "-q", "-m", "m")

    def branches(self, common, ours, theirs, *options):
        """Record on two branches; returns what the merge says."""
        self.commit(*common)
        self.git("checkout", "-q", "-b", "side")
        self.commit(*theirs)
        self.git("checkout", "-q", "main")
        self.commit(*ours)
        return self.git(*options, "merge", "-q", "side", check=False)

    def load(self):
        return CounterFiles(self.path).load()


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def rows(name, flops):
    return record(case(name), tally(flops=flops, weight_bytes=4), tally(AVX2, operators=3))


@needs_git
def test_branches_that_change_different_cases_merge(repository):
    common = [rows("test_a", 1), rows("test_b", 1)]
    merge = repository.branches(common, [rows("test_a", 2)], [rows("test_b", 3)])
    assert merge.returncode == 0, merge.stdout
    merged = CounterFiles(repository.path)
    assert merged.load() == {each.case: each for each in (rows("test_a", 2), rows("test_b", 3))}
    assert merged.record([rows("test_a", 2)]) == 0


SHAPES = {
    "one counter of a case": ([rows("test_a", 1)], [rows("test_a", 2)], [rows("test_a", 3)]),
    "a new case each": (
        [record(case("test_a"))],
        [record(case("test_b"), flops=1)],
        [record(case("test_c"), flops=2)],
    ),
    "a new case each, lines in common": ([rows("test_a", 1)], [rows("test_b", 2)], [rows("test_c", 3)]),
}


@needs_git
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_the_hint_about_a_conflict_works(repository, shape, style):
    common, ours, theirs = SHAPES[shape]
    before = {each.case: each for each in (*common, *ours)}
    assert repository.branches(common, ours, theirs, "-c", f"merge.conflictStyle={style}").returncode == 1
    with pytest.raises(StorageError, match="git conflict markers") as caught:
        repository.load()
    git, *arguments = shlex.split(re.search("`(.+)`", str(caught.value))[1], posix=os.name == "posix")
    assert git == "git"
    repository.git(*arguments)
    assert repository.load() == before
    CounterFiles(repository.path).record(theirs)
    assert repository.load() == before | {each.case: each for each in theirs}


def without_markers(path):
    """Take both sides of every conflict by deleting nothing but the marker lines."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line[:7] not in ("<<<<<<<", "|||||||", "=======", ">>>>>>>")]
    assert len(kept) < len(lines)
    path.write_text("".join(kept))


@needs_git
@pytest.mark.parametrize(
    ("shape", "style"), [*((shape, "merge") for shape in SHAPES), ("one counter of a case", "diff3")]
)
def test_deleting_only_the_marker_lines_is_refused(repository, shape, style):
    """Git leaves lines that both sides share out of the conflict, so that they stand there once."""
    assert repository.branches(*SHAPES[shape], "-c", f"merge.conflictStyle={style}").returncode == 1
    path = repository.path / f"{MODULE}.txt"
    without_markers(path)
    with pytest.raises(StorageError) as caught:
        repository.load()
    assert str(caught.value).startswith(f"{path}, line ")
    assert str(caught.value).endswith(RESTORE)


@needs_git
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.startswith("a new case")])
def test_both_sides_of_a_conflict_are_read_where_git_leaves_them_whole(repository, shape):
    assert repository.branches(*SHAPES[shape], "-c", "merge.conflictStyle=diff3").returncode == 1
    without_markers(repository.path / f"{MODULE}.txt")
    assert repository.load() == {each.case: each for side in SHAPES[shape] for each in side}


@needs_git
def test_lines_of_both_sides_in_one_case_are_refused(repository):
    """Each side has one line more, so that both ends are the same, and git sees nothing to ask."""
    names = [f"a{letter}" for letter in "bcdefgstuvwxyz"]
    common, ours, theirs = (
        record(case(), tally(**dict.fromkeys([*names, *more], 1))) for more in ([], ["aa"], ["am"])
    )
    assert repository.branches([common], [ours], [theirs]).returncode == 0
    with pytest.raises(StorageError, match=r"line 25: .*16 .*17"):
        repository.load()


@needs_git
def test_a_diff_shows_the_case_above_each_part(repository):
    work = [OperatorWork(operator=f"aten::op{n}", calls=1, flops=1, bytes=1) for n in range(9)]
    repository.commit(record(case("test_a")), record(case("test_b"), tally(AVX2, *work, operators=9)))
    work[-1] = OperatorWork(operator="aten::op8", calls=1, flops=2, bytes=1)
    CounterFiles(repository.path).record([record(case("test_b"), tally(AVX2, *work, operators=9))])
    hunks = [line for line in repository.git("diff").stdout.splitlines() if line.startswith("@@")]
    assert len(hunks) == 1
    assert hunks[0].endswith('@@ case {"test": "tests/test_model.py::test_b", "device": "cpu"}')
