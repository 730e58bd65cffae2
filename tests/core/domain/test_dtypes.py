"""Dtypes of a case, as users write them."""

import pytest

from pytest_infergate.core.domain.dtypes import (
    DTYPES,
    DtypeParts,
    checked_dtype,
    dtype_parts,
    unsupported_dtype,
)


@pytest.mark.parametrize(
    ("dtype", "parts", "computed"),
    [
        (None, DtypeParts(), None),
        ("bfloat16", DtypeParts(cast="bfloat16"), "bfloat16"),
        ("float32:channels_last", DtypeParts(cast="float32", channels_last=True), "float32"),
        ("channels_last", DtypeParts(channels_last=True), None),
        ("autocast:float16", DtypeParts(autocast="float16"), "float16"),
        (
            "autocast:bfloat16:channels_last",
            DtypeParts(autocast="bfloat16", channels_last=True),
            "bfloat16",
        ),
        ("int8", DtypeParts(int8="dynamic"), "int8"),
        ("int8:weight-only", DtypeParts(int8="weight-only"), "int8:weight-only"),
        ("tf32", DtypeParts(tf32=True), "float16"),
    ],
)
def test_parts_of_a_dtype(dtype, parts, computed):
    assert dtype_parts(dtype) == parts
    assert parts.computed == computed
    assert dtype is None or dtype in DTYPES


def test_every_dtype_changes_something():
    assert len({dtype_parts(dtype) for dtype in DTYPES}) == len(DTYPES)
    assert DtypeParts() not in map(dtype_parts, DTYPES)
    assert [checked_dtype(dtype) for dtype in DTYPES] == list(DTYPES)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("bfloat", "bfloat16"),
        ("autocast:bf16", "autocast:bfloat16"),
        ("int8:weightonly", "int8:weight-only"),
        ("channel_last", "channels_last"),
        ("float16:channels", "float16:channels_last"),
    ],
)
def test_an_unknown_dtype_is_refused_with_the_nearest_one(word, nearest):
    with pytest.raises(ValueError, match=rf"got '{word}'. Hint: did you mean '{nearest}'\?$"):
        checked_dtype(word)


def test_a_short_name_is_refused_with_the_name_of_torch():
    with pytest.raises(ValueError, match=r"got 'fp16'. Hint: write float16$"):
        checked_dtype("fp16")


def test_int8_has_no_memory_format():
    with pytest.raises(ValueError, match=":channels_last may follow all but int8"):
        checked_dtype("int8:channels_last")


def test_tf32_exists_on_cuda_only():
    assert "not on cpu" in unsupported_dtype("cpu", "tf32")
    assert unsupported_dtype("cuda:1", "tf32:channels_last") is None
    assert unsupported_dtype("cpu", "int8") is None
