from core_values import HARDWARE, baseline, case, point

from pytest_infergate.core.domain.measurement import Memory
from pytest_infergate.core.domain.values import Hardware, Note


def test_case_name_tells_what_is_not_default():
    for axes, name in [
        ({}, "t.py::a[cpu]"),
        ({"batch_size": 8}, "t.py::a[cpu-b8]"),
        (
            {"runtime": "compile", "dtype": "bfloat16", "batch_size": 8, "threads": 2, "params": "x-1"},
            "t.py::a[cpu-compile-bfloat16-b8-t2-x-1]",
        ),
    ]:
        assert case("t.py::a", **axes).name == name, (axes, name)


def test_hardware_id_depends_on_every_field():
    for change in [
        {"cpu_model": "X"},
        {"isa": ("avx512",)},
        {"cores": 8},
        {"accelerator": "H200"},
        {"accelerator_count": 1},
        {"driver": "580"},
    ]:
        known = {"cpu_model": "Test CPU", "isa": ("avx2",), "cores": 4}
        other = Hardware(**{**known, **change})
        assert other.id != HARDWARE.id, change
        assert HARDWARE.difference(other).startswith("other "), change


def test_hardware_id_is_a_file_name():
    strange = Hardware(cpu_model="../Intel(R)\0 Xeon® \\ " + "9" * 100, cores=2, accelerator="A/B")
    assert set(strange.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(strange.id) <= 70
    assert not strange.id.startswith("-")


def test_hardware_of_one_class_does_not_differ():
    assert HARDWARE.difference(HARDWARE) == ""


def test_peak_memory():
    for memory, peak in [
        (Memory(), None),
        (Memory(weights=5), None),
        (Memory(activations=3), None),
        (Memory(weights=5, activations=3), 8),
    ]:
        assert memory.peak == peak, (memory, peak)


def test_a_note_ends_with_its_hint():
    assert str(Note(code="a", text="b")) == "b"
    assert str(Note(code="a", text="b", hint="c")) == "b (c)"


def test_history_of_a_case():
    assert baseline(point(), of=case("a")).history(case("a")) == (point(),)
    assert baseline(of=case("a")).history(case("b")) == ()


def test_an_unset_number_of_threads_sorts_before_every_number():
    assert case(threads=None).order < case(threads=1).order < case(threads=2).order
