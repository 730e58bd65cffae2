"""Projected times: by hand for ResNet-50, laws for any work, and published times of a fixed part of the data."""

import csv
from pathlib import Path

import pytest
from core_values import refusals
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice.projectable_work import ItemWork
from pytest_infergate.core.advice.projection import (
    EFFICIENCY,
    AcceleratorSheet,
    CpuClass,
    Projected,
    ProjectedRange,
    project,
    project_cpu,
)
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.storage.hardware_tables import accelerator_sheet

RESNET = ItemWork(flops=8.178e9, bytes=325e6, product_bytes=87e6, fixed_bytes=102e6, operators=174,
                  element_size=4, weight_bytes=102e6, activation_bytes=9e6)  # fmt: skip
SHEET = AcceleratorSheet(name="X", memory=24e9, peak={"float16": 100e12}, bandwidth=1e12, evidence="measured")


def batches(work=RESNET, sheet=SHEET, sizes=(256,), **how):
    found = project(work, sheet, sizes, **how)
    assert isinstance(found, Projected), found
    return found.batches


def reason(*arguments, **how):
    found = project(*arguments, **how)
    assert isinstance(found, Note)
    assert found.code == NoteCode.NOT_PROJECTED
    return str(found)


def test_eager_by_hand():
    # Half of the bytes of float32: 162.5 MB an item and 51 MB once, at 0.74 TB/s; FLOPs at 81 TFLOP/s.
    device = 256 * (8.178e9 / 81e12 + 162.5e6 / 0.74e12) + 51e6 / 0.74e12
    (batch,) = batches()
    assert batch.call_time.point == pytest.approx((device**3 + (174 * 23e-6) ** 3) ** (1 / 3))
    assert batch.call_time.low == pytest.approx(0.5 * device, rel=1e-3)
    assert batch.call_time.high == pytest.approx((2.4**3 * device**3 + (174 * 75e-6) ** 3) ** (1 / 3))
    assert batch.throughput == ProjectedRange(
        low=256 / batch.call_time.high, point=256 / batch.call_time.point, high=256 / batch.call_time.low
    )
    assert (batch.host_bound, batch.rough) == (False, False)


def test_a_compiler_leaves_the_bytes_of_products_and_three_tenths_of_the_others():
    moved = 0.5 * (87e6 + 0.3 * 238e6)
    device = 256 * (8.178e9 / 100e12 + moved / 0.76e12) + 51e6 / 0.76e12
    (batch,) = batches(runtime="compiled")
    assert batch.call_time.point == pytest.approx((device**3 + (174 * 10e-6) ** 3) ** (1 / 3))


def test_small_batches_are_host_bound_and_an_order_of_magnitude():
    found = project(RESNET, SHEET, (1, 7, 8, 256))
    assert [batch.host_bound for batch in found.batches] == [True, True, True, False]
    assert [batch.rough for batch in found.batches] == [True, True, True, False]
    (note,) = found.notes
    assert note.code == NoteCode.HOST_BOUND
    assert "174 operators" in note.text
    few = project(msgspec_replace(RESNET, operators=1), SHEET, (1, 7, 8))
    assert [batch.rough for batch in few.batches] == [True, True, False]
    assert not any(batch.host_bound for batch in few.batches)


def msgspec_replace(value, **fields):
    import msgspec

    return msgspec.structs.replace(value, **fields)


def test_float16_weights_of_a_float16_measurement_are_not_halved_again():
    half = msgspec_replace(RESNET, bytes=162.5e6, fixed_bytes=51e6, weight_bytes=51e6, element_size=2)
    assert batches(half)[0].call_time.point == pytest.approx(batches()[0].call_time.point)


def test_the_class_of_an_accelerator_multiplies_the_time_of_the_device():
    slow = msgspec_replace(SHEET, time_factor=1.4)
    free = msgspec_replace(RESNET, operators=0)
    assert batches(free, slow)[0].call_time.point == pytest.approx(1.4 * batches(free)[0].call_time.point)


works = st.builds(
    ItemWork,
    flops=st.floats(1e6, 1e13),
    bytes=st.floats(1e6, 1e10),
    product_bytes=st.floats(0, 1e6),
    fixed_bytes=st.floats(0, 1e9),
    operators=st.integers(0, 5000),
    element_size=st.sampled_from([2, 4]),
    weight_bytes=st.just(0.0),
)
runtimes = st.sampled_from(["eager", "compiled"])


@given(
    works, runtimes, st.sampled_from(["measured", "published", "indirect", "doubtful"]), st.integers(1, 4096)
)
def test_the_ends_enclose_the_point(work, runtime, evidence, size):
    (batch,) = batches(work, msgspec_replace(SHEET, evidence=evidence), (size,), runtime=runtime)
    for figure in (batch.call_time, batch.throughput):
        assert 0 < figure.low <= figure.point <= figure.high


@given(
    works,
    runtimes,
    st.integers(1, 2048),
    st.floats(1, 10),
    st.sampled_from(["flops", "bytes", "fixed_bytes"]),
)
def test_more_work_never_takes_less_time(work, runtime, size, factor, field):
    more = msgspec_replace(work, **{field: factor * getattr(work, field)})
    slower, faster = (
        batches(more, sizes=(size,), runtime=runtime)[0],
        batches(work, sizes=(size,), runtime=runtime)[0],
    )
    assert slower.call_time.point >= faster.call_time.point * (1 - 1e-12)
    assert slower.call_time.high >= faster.call_time.high * (1 - 1e-12)


@given(works, runtimes, st.integers(1, 2048))
def test_a_larger_batch_takes_longer_and_never_serves_fewer_items(work, runtime, size):
    small, large = batches(work, sizes=(size, size + 1), runtime=runtime)
    assert small.call_time.point < large.call_time.point
    assert small.throughput.point <= large.throughput.point * (1 + 1e-9)


@given(works, st.integers(1, 2048))
def test_compiling_never_makes_the_device_slower(work, size):
    work = msgspec_replace(work, operators=0)
    eager, compiled = (batches(work, sizes=(size,), runtime=runtime)[0] for runtime in ("eager", "compiled"))
    assert compiled.call_time.point <= eager.call_time.point


def test_bands_widen_with_less_evidence():
    for constants in EFFICIENCY.values():
        bands = constants.bands
        for less, more in (("doubtful", "indirect"), ("indirect", "published"), ("published", "measured")):
            assert bands[less][0] <= bands[more][0] < 1 < bands[more][1] <= bands[less][1]


# What is refused


def test_a_dtype_without_a_known_peak():
    assert "bfloat16" in reason(RESNET, accelerator_sheet("T4"), (8,), dtype="bfloat16")
    assert "bfloat16" in reason(RESNET, accelerator_sheet("V100"), (8,), dtype="bfloat16")
    assert "float32" in reason(RESNET, accelerator_sheet("A100"), (8,), dtype="float32")
    assert "int8" in reason(RESNET, accelerator_sheet("A100"), (8,), dtype="int8")
    assert batches(sheet=accelerator_sheet("T4"), dtype="float32")


def test_compiled_needs_the_products_apart():
    assert "apart" in reason(msgspec_replace(RESNET, product_bytes=None), SHEET, (8,), runtime="compiled")
    assert batches(msgspec_replace(RESNET, product_bytes=None))


def test_what_does_not_fit_into_the_memory_of_the_device():
    # Half of 43.2 GB are 21.6 GB, 90 % of the memory.
    fits = msgspec_replace(RESNET, weight_bytes=43.2e9, activation_bytes=0)
    assert batches(fits)
    assert "24.0 GB" in reason(msgspec_replace(fits, weight_bytes=43.3e9), SHEET, (8,))
    found = project(RESNET, SHEET, (4788, 4789))
    assert [batch.batch_size for batch in found.batches] == [4788]
    assert "4789" in found.notes[0].text
    assert "4789" in reason(RESNET, SHEET, (4789,))


def test_a_batch_size_that_alone_is_known():
    known = msgspec_replace(RESNET, only_batch_size=16)
    found = project(known, SHEET, (1, 16, 32))
    assert [batch.batch_size for batch in found.batches] == [16]
    assert [note.code for note in found.notes].count(NoteCode.NOT_PROJECTED) == 2
    assert "counters-only" in reason(known, SHEET, (1,))


def test_bad_batch_sizes_and_sheets_are_errors():
    with pytest.raises(ValueError, match="1 or more"):
        project(RESNET, SHEET, (0,))
    with pytest.raises(ValueError, match="1 or more"):
        project(RESNET, SHEET, ())
    for figures in ({"bandwidth": 0.0}, {"peak": {"float16": float("nan")}}, {"memory": float("inf")}):
        with pytest.raises(ValueError, match="greater than 0"):
            msgspec_replace(SHEET, **figures)


# Published times


def published():
    with (Path(__file__).parent / "published_times.csv").open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def test_at_least_95_percent_of_published_times_are_inside_of_the_band():
    outside, points, rows = [], [], list(published())
    for cells in rows:
        read = {name: float(cells[name]) for name in ("flops", "bytes", "product_bytes", "fixed_bytes")}
        work = ItemWork(
            **read, operators=int(cells["operators"]), element_size=4, weight_bytes=read["fixed_bytes"]
        )
        sheet, size = accelerator_sheet(cells["accelerator"]), int(cells["batch_size"])
        call = batches(work, sheet, (size,), runtime=cells["runtime"], dtype=cells["dtype"])[0].call_time
        seconds = float(cells["seconds"])
        points.append(seconds / call.point)
        if not call.low <= seconds <= call.high:
            outside.append(cells["model"])
    assert {cells["accelerator"] for cells in rows} >= {"RTX 3090", "RTX 4090", "RTX 5090", "T4", "V100-16GB"}
    assert len(outside) <= 0.05 * len(rows), outside
    assert 0.9 < sorted(points)[len(points) // 2] < 1.25


# Another CPU

ICE = CpuClass(name="Ice Lake", cpu_models=("8375C",), flop_per_cycle=64, ghz=3.5, vcpus_per_core=2)
MILAN = CpuClass(name="Milan", cpu_models=("7R13",), flop_per_cycle=32, ghz=3.4, vcpus_per_core=2)


def test_cpus_are_compared_by_the_peak_of_their_cores():
    same = project_cpu(0.010, ICE, ICE, (4, 4))
    assert (same.low, same.point, same.high) == pytest.approx((0.004, 0.010, 0.026))
    other = project_cpu(0.010, ICE, MILAN, (8, 4))
    assert other.point == pytest.approx(0.010 * (64 * 3.5 * 8) / (32 * 3.4 * 4))


def test_a_virtual_cpu_may_be_a_core():
    whole = msgspec_replace(MILAN, vcpus_per_core=1)
    assert project_cpu(0.010, MILAN, whole, (4, 4)).point == pytest.approx(0.005)


def test_other_dtypes_of_cpus_are_refused():
    assert isinstance(project_cpu(0.010, ICE, ICE, (4, 4), dtype="bfloat16"), Note)


def test_bad_times_and_cpus_are_errors(snapshot):
    assert refusals(
        project_cpu, (0.0, ICE, ICE, (4, 4)), (float("nan"), ICE, ICE, (4, 4)), (0.01, ICE, ICE, (4, 0))
    ) == snapshot  # fmt: skip
