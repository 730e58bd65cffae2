"""Files of converted models: made once, in a process of their own, and never used if they are not what was made."""

import json
import os
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from stub_runtime import StubRuntime
    from torch import nn

    from pytest_infergate.errors import ConversionError
    from pytest_infergate.runtimes.conversion import (
        RECORD,
        UNFINISHED,
        UNUSED_DAYS,
        Conversions,
        build_in_child,
    )
    from pytest_infergate.runtimes.converted_call import conversions_folder
    from pytest_infergate.runtimes.exported_model import exported
    from pytest_infergate.runtimes.runtime import ExportingRuntime, Placing

CPU = Placing("cpu", threads=1)


def build_here(runtime, program, folder, placing):
    runtime.build(program, folder, placing)


@pytest.fixture(scope="module")
def model():
    return exported(nn.Linear(4, 2).eval(), (torch.ones(1, 4),), {})


@pytest.fixture
def conversions(tmp_path):
    return Conversions(tmp_path / "conversions", build_here)


def test_the_stub_is_a_runtime():
    assert isinstance(StubRuntime(), ExportingRuntime)


def test_a_model_is_converted_once(conversions, model):
    first = conversions.files(StubRuntime(), model, CPU)
    again = conversions.files(StubRuntime(), model, CPU)
    assert (first.cached, again.cached) == (False, True)
    assert (again.folder, again.seconds, again.size) == (
        first.folder,
        pytest.approx(first.seconds),
        first.size,
    )
    assert first.size == len("cpu")
    # The program has the dtype.
    assert conversions.files(StubRuntime(), model, CPU._replace(dtype="bfloat16")).cached


@pytest.mark.parametrize(
    "changed",
    [Placing("cpu", threads=2), Placing("cpu", threads=1, mode="fast")],
)
def test_another_placing_is_another_conversion(conversions, model, changed):
    conversions.files(StubRuntime(), model, CPU)
    assert not conversions.files(StubRuntime(), model, changed).cached


def test_another_version_is_another_conversion(conversions, model, monkeypatch):
    conversions.files(StubRuntime(), model, CPU)
    monkeypatch.setattr(StubRuntime, "version", lambda _: "2")
    assert not conversions.files(StubRuntime(), model, CPU).cached


def damage_content(folder):
    (folder / "model").write_text("gpu")


def damage_record(folder):
    (folder / RECORD).write_text("{")


def add_file(folder):
    (folder / "more").write_text("")


def claim_nothing(folder):
    (folder / "model").unlink()
    (folder / RECORD).write_text(json.dumps({"seconds": 1.0, "files": {}}))


@pytest.mark.parametrize("damage", [damage_content, damage_record, add_file, claim_nothing])
def test_damaged_files_are_made_again(conversions, model, damage):
    folder = conversions.files(StubRuntime(), model, CPU).folder
    damage(folder)
    assert not conversions.files(StubRuntime(), model, CPU).cached
    assert (folder / "model").read_text() == "cpu"
    assert conversions.files(StubRuntime(), model, CPU).cached


def test_a_failed_conversion_leaves_nothing(conversions, tmp_path, model):
    for mode, reason in [("nothing", "the runtime wrote no files"), ("raise", "no kernel")]:
        with pytest.raises((ConversionError, ValueError), match=reason):
            conversions.files(StubRuntime(), model, Placing("cpu", threads=1, mode=mode))
        assert list((tmp_path / "conversions").iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "seconds", "reason"),
    [
        ("raise", 60, "ValueError: no kernel for this operator"),
        ("kill", 60, "the conversion was ended by signal 9, as it is if memory runs out"),
        ("hang", 1, "the conversion did not end within 1 s"),
    ],
)
def test_a_child_that_fails_or_hangs_has_a_reason(tmp_path, model, mode, seconds, reason):
    (tmp_path / "files").mkdir()
    placing = Placing("cpu", threads=1, mode=mode)
    with pytest.raises(ConversionError) as failed:
        build_in_child(StubRuntime(), model.program, tmp_path / "files", placing, seconds)
    assert str(failed.value) == reason


def test_files_that_no_run_used_for_long_are_deleted(conversions, tmp_path, model):
    old = conversions.files(StubRuntime(), model, CPU).folder
    long_ago = time.time() - (UNUSED_DAYS + 1) * 86400
    unfinished, foreign = (tmp_path / "conversions" / name for name in (UNFINISHED, "thesis"))
    unfinished.mkdir()
    foreign.mkdir()
    for path in (old, unfinished, foreign):
        os.utime(path, (long_ago, long_ago))
    conversions.files(StubRuntime(), model, Placing("cpu", threads=2))
    assert not old.exists()
    assert not unfinished.exists()
    assert foreign.exists()


def test_a_folder_that_others_may_write_to_is_refused(conversions, tmp_path, model):
    Path(tmp_path / "conversions").mkdir()
    (tmp_path / "conversions").chmod(0o777)
    with pytest.raises(ConversionError, match="be writable for this user only"):
        conversions.files(StubRuntime(), model, CPU)


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_has_a_reason(tmp_path, model, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversionError, match=r"cannot be kept in .* Hint: set INFERGATE_CACHE"):
        Conversions(tmp_path / below, build_here).files(StubRuntime(), model, CPU)


def test_a_user_without_a_home_folder_has_a_reason(monkeypatch):
    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("INFERGATE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConversionError, match="Hint: set INFERGATE_CACHE"):
        conversions_folder()
