"""The tolerance of numbers, and what is shown of texts."""

import math
import struct

import pytest

from pytest_infergate.outputs.value_differences import (
    array_difference,
    list_difference,
    mask_limit,
    number_difference,
    text_difference,
)

NAN, INF = math.nan, math.inf


def differs(old, new, tolerance=None):
    return number_difference([old], [new], tolerance) is not None


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


@pytest.mark.parametrize("value", [0.1, -3.3, 1e300, 1e-300, 0.1j])
def test_numbers_have_the_tolerance_of_double_precision(value):
    assert not differs(value, value * (1 + 0.8e-7))
    assert differs(value, value * (1 + 1.25e-7))


def test_numbers_computed_in_single_precision_have_its_tolerance():
    assert not differs(single(0.1), single(0.1 * (1 + 0.8e-3)))
    assert differs(single(0.1), single(0.1 * (1 + 1.25e-3)))
    # One number that single precision cannot hold shows that they were computed in double precision.
    assert not differs(single(0.1), 0.1)
    assert differs(single(0.1), 0.10008)
    assert number_difference([single(0.1), 0.3], [single(0.1001), 0.3], None) is not None
    assert differs(1e39, 1.0005e39)


def test_numbers_of_one_list_may_be_of_several_scales():
    # The limit is 1e-7 of 1.1 and 1e-11 of 1000.1.
    assert number_difference([1000.1, 1.1], [1000.1, 1.1000001], None) is None
    assert number_difference([1000.1, 1.1], [1000.1, 1.1000002], None) == (
        1,
        "1.1 on the base, 1.1000002 now",
    )
    assert number_difference([4096.0, 0.75], [4096.0, 0.25], None)[0] == 1
    assert number_difference([4096.0, 0.75], [4099.0, 0.75], None) is None
    assert number_difference([4096.0, 0.75], [4096.0, 0.25], 1e-3) is None
    assert number_difference([1.1, 1.1], [1000.1, 1.1], None)[0] == 0


def test_a_tolerance_replaces_that_of_the_precision():
    assert not differs(1.0, 1.4, 0.5)
    assert differs(1.0, 1.0000001, 1e-9)
    assert differs(1.0, 1.0 + 2**-52, 0.0)
    assert not differs(1.0, 1.0, 0.0)


def test_what_is_not_finite_has_to_be_on_both_sides():
    for value in (NAN, INF, -INF, complex(NAN, 1), complex(0, INF)):
        assert not differs(value, value)
    for old, new in ((NAN, 1.0), (1.0, NAN), (INF, -INF), (1.0, INF), (INF, 1.0), (INF, NAN), (1j * INF, 1j)):
        assert differs(old, new)
        assert differs(old, new, 1e9)


def test_zero_tolerates_nothing_and_the_largest_numbers_differ():
    assert not differs(0.0, -0.0)
    assert differs(0.0, 1e-12)
    assert differs(1e308, -1e308)
    assert differs(complex(1e308, 1e308), complex(-1e308, 1e308))


def test_lists():
    assert list_difference([1, 2**62], [1, 2**62], None) is None
    assert list_difference([1, 2**62], [1, 2**62 + 1], 0.5)[1] == "[1]"
    assert list_difference([True, True], [True, False], None) == ("True on the base, False now", "[1]")
    assert list_difference([b"a", b"b"], [b"a", b"c"], None) == ("'b' on the base, 'c' now", "[1]")
    assert list_difference([1.0], [1.0, 1.0], None) == ("1 item on the base, 2 now", "")


def test_texts():
    assert text_difference(b"a", b"a") is None
    assert text_difference(b"a", b"b") == "'a' on the base, 'b' now"
    old, new = b"x" * 100 + b"cat" + b"y" * 100, b"x" * 100 + b"dog" + b"y" * 100
    found = text_difference(old, new)
    assert found.startswith("from character 100 on: 'xxxxxxxxxxcatyyy")
    assert "'xxxxxxxxxxdogyyy" in found
    assert text_difference(b"x" * 100, b"x" * 101).startswith("from character 100 on: ")
    assert text_difference(b"\x00", b"\x01", binary=True) is not None


def test_addresses_in_texts_are_not_compared():
    assert text_difference(b"<A at 0x7f01>", b"<A at 0x8f01>") is None
    assert text_difference(b"<A at 0x7f01>", b"<B at 0x8f01>") is not None
    assert text_difference(b"<Future at 0x7f01 state=done>", b"<Future at 0x8f01 state=done>") is None
    assert text_difference(b"0x7f01", b"0x8f01") is not None
    assert text_difference(b"SIGSEGV at 0x10", b"SIGSEGV at 0x7f00") is not None  # said by the model
    assert text_difference(b"/run/own-base/tests/a", b"/run/own-candidate/tests/a") is None
    assert text_difference(b"/run/own-base/tests/a", b"/run/own-candidate/tests/b") is not None


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([3.0, -1e9], 5e8),
        ([3.0, 0.01, -1e4, -1e4 + 3], 5e3),  # a mask that is added
        ([3.0, 3.4028234663852886e38], 1.7014117331926443e38),
        ([30.0, 1e9, 65504.0 * 1e30], INF),  # the largest is not round
        ([3.0, -1e9, 1e30], 5e8),
        ([3.0, 0.0, 0.0], INF),
        ([3.0, 2.9e3], INF),
        ([1.0, 1e-9], INF),  # rounding
        ([30.0, 1e4], INF),
        ([3.0, 1.7e9], INF),  # a time in seconds
        ([1e4, 1e4], INF),
        ([0.0, 1e9], INF),
        ([], INF),
    ],
)
def test_constants_of_masks(values, limit):
    assert mask_limit([abs(value) for value in values]) == limit
    numpy = pytest.importorskip("numpy")
    assert mask_limit(abs(numpy.array(values))) == limit


@pytest.mark.parametrize("constant", [-1e9, 3.4028234663852886e38, -65504.0])
def test_a_mask_does_not_hide_other_values(constant):
    numpy = pytest.importorskip("numpy")
    base = numpy.array([[0.5, constant, 2.0], [1.5, 0.25, constant]], dtype="float32")
    other = base * numpy.where(base == numpy.float32(constant), 1, 3).astype("float32")
    assert array_difference(base, base, None) is None
    assert array_difference(base, other, None).startswith(
        "values differ by up to 4, 200.0% of the value there"
    )
    assert number_difference(base[0].tolist(), other[0].tolist(), None)[0] == 0
    unmasked = numpy.where(base == numpy.float32(constant), 0, base)
    assert array_difference(base, unmasked, None) is not None
    half = base.astype("float16") if abs(constant) < 1e5 else None
    if half is not None:
        assert array_difference(half, other.astype("float16"), None) is not None


def test_columns_of_whole_numbers_are_equal_or_not():
    numpy = pytest.importorskip("numpy")
    # Corners, a score and a class.
    base = numpy.array([[10.5, 20.25, 0.5, 1200.0 - row] for row in range(5)], dtype="float32")
    other = base.copy()
    other[2, 3] += 1
    assert array_difference(base, other, None) == "1 of 20 whole numbers differ"
    other = base.copy()
    other[2, 0] += 0.01
    assert array_difference(base, other, None) is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scores_and_classes_beside_pixels_are_compared_in_each_precision(dtype):
    numpy = pytest.importorskip("numpy")
    base = numpy.array(
        [[100.5 + row, 640.0, 0.25 + 0.125 * row, 16.0 + row] for row in range(4)], dtype=dtype
    )
    scores, classes = base.copy(), base.copy()
    scores[1, 2] = 0.875
    classes[2, 3] = 5
    assert array_difference(base, base, None) is None
    assert "in its column" in array_difference(base, scores, None)
    assert array_difference(base, classes, None) is not None
    assert array_difference(base, classes, 0.5) is None  # as the user has set


def test_a_few_whole_values_in_half_precision_are_no_identifiers():
    numpy = pytest.importorskip("numpy")
    assert array_difference(numpy.float16([1000]), numpy.float16([1001]), None) is None
    assert (
        array_difference(numpy.float16([10, 20, 30, 1000]), numpy.float16([10, 20, 30, 1001]), None)
        is not None
    )


def test_whole_numbers_of_python_are_equal_or_not():
    assert number_difference([10231.0, 4.0], [10232.0, 4.0], None)[0] == 0
    assert number_difference([5003.0], [5006.0], None) is not None
    assert number_difference([5003.5], [5003.75], None) is None
    assert number_difference([5003.0], [5006.0], 0.1) is None


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:ComplexHalf support")
def test_complex_values_in_half_precision_have_its_tolerance():
    torch = pytest.importorskip("torch")
    base = torch.ones(8, dtype=torch.complex32)
    assert array_difference(base, base * 1.004, None) is None
    assert array_difference(base, base * 1.05, None) is not None
