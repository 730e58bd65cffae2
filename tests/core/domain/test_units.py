import math

import pytest
from core_values import refusal

from pytest_infergate.core.domain import units

SHOWN = {
    units.seconds: {
        0: "0 s",
        1.0: "1.00 s",
        0.9995: "1.00 s",
        0.99949: "999 ms",
        0.0123: "12.3 ms",
        0.001: "1.00 ms",
        0.00099951: "1.00 ms",
        0.0009994: "999 µs",
        1e-6: "1.00 µs",
        9.994e-7: "999 ns",
        1e-9: "1.00 ns",
        5e-10: "0.500 ns",
        123.4: "123 s",
        12345.6: "12346 s",
        -0.0123: "-12.3 ms",
    },
    units.bytes_: {
        0: "0 B",
        1: "1 B",
        999: "999 B",
        999.4: "999 B",
        999.6: "1.00 kB",
        1000: "1.00 kB",
        999_400: "999 kB",
        999_600: "1.00 MB",
        12_300_000: "12.3 MB",
        1e9: "1.00 GB",
        1e12: "1.00 TB",
        1e15: "1000 TB",
        -999.6: "-1.00 kB",
        -5: "-5 B",
    },
    units.flops: {
        0: "0 FLOP",
        1: "1 FLOP",
        999: "999 FLOP",
        999.4: "999 FLOP",
        999.6: "1.00 kFLOP",
        1000: "1.00 kFLOP",
        999_400: "999 kFLOP",
        999_600: "1.00 MFLOP",
        12_300_000_000: "12.3 GFLOP",
        1e12: "1.00 TFLOP",
        1e15: "1000 TFLOP",
        -5: "-5 FLOP",
        -999.6: "-1.00 kFLOP",
    },
    units.joules: {
        0: "0 J",
        0.0123: "12.3 mJ",
        0.99949: "999 mJ",
        0.9995: "1.00 J",
        999.4: "999 J",
        999.6: "1.00 kJ",
        12_345_678: "12346 kJ",
        1e-6: "1.00 µJ",
        1e-9: "0.00100 µJ",
    },
    units.grams: {
        0: "0 g",
        1.62: "1.62 g",
        0.9995: "1.00 g",
        0.00162: "1.62 mg",
        1.62e-6: "1.62 µg",
        999.6: "1.00 kg",
        2.5e6: "2.50 t",
    },
    units.count: {
        0: "0",
        999: "999",
        1000: "1,000",
        1234.0: "1,234",
        -1234: "-1,234",
        999_999_999_999: "999,999,999,999",
    },
    units.rate: {
        0: "0/s",
        0.0457: "0.0457/s",
        0.9999: "1.00/s",
        1: "1.00/s",
        999.4: "999/s",
        999.6: "1.00k/s",
        1_234_000: "1.23M/s",
        2e9: "2.00G/s",
    },
    units.duration: {
        0: "0 s",
        8.4: "8 s",
        89: "89 s",
        90: "2 min",
        360: "6 min",
        89 * 60: "89 min",
        90 * 60: "1 h 30 min",
        7200: "2 h 0 min",
    },
    units.time_option: {
        0.14: "1s",
        8.01: "9s",
        89: "89s",
        89.5: "90s",
        90: "2min",
        121: "3min",
        7200: "120min",
    },
}
"""Both sides of each change of unit."""
ABSENT = (None, math.nan, math.inf)


@pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__)
def test_a_figure_is_shown_in_the_unit_of_its_size(show):
    assert {value: show(value) for value in SHOWN[show]} == SHOWN[show]


def test_what_is_no_number_is_shown_as_a_dash():
    for show in (
        units.seconds,
        units.bytes_,
        units.flops,
        units.joules,
        units.grams,
        units.count,
        units.rate,
    ):
        assert [show(value) for value in ABSENT] == ["-", "-", "-"], show
    assert [units.percent(value) for value in ABSENT] == ["-", "-", "-"]
    assert units.significant(math.nan, 3) == "-"


def test_rate_names_its_unit():
    assert units.rate(50, "tokens") == "50.0 tokens/s"


def test_percent():
    signed = {
        0.046: "+4.6 %",
        -0.046: "-4.6 %",
        0.0: "+0.0 %",
        0.994: "+99.4 %",
        1.0: "x2.0",
        2.1: "x3.1",
        11.4: "x12",
        2e10: "over x1,000,000",
    }
    assert {ratio: units.percent(ratio) for ratio in signed} == signed
    assert units.percent(2.1, signed=False) == "210.0 %"
    assert units.percent(1.8e306) == "-"  # its per cent would be infinite
    assert units.percent(0.8, signed=False, decimals=0) == "80 %"


def test_parse_duration():
    parsed = {"10": 10, "10s": 10, " 2 min ": 120, "1h": 3600, "1.5h": 5400, "1d": 86400, "0.1s": 0.1}
    assert {text: units.parse_duration(text) for text in parsed} == pytest.approx(parsed)


def test_parse_duration_refuses():
    for text in ("", "soon", "0", "0s", "-1", "1.2.3", "nan", "inf", "1 week", "10S", "1e3"):
        assert repr(text) in refusal(units.parse_duration, text)


def test_plural():
    shown = {0: "0 cases", 1: "1 case", 2: "2 cases", 1234: "1,234 cases"}
    assert {count: units.plural(count, "case") for count in shown} == shown


def test_significant():
    shown = {
        (0, 3): "0",
        (12.34, 3): "12.3",
        (0.04567, 3): "0.0457",
        (999.6, 3): "1000",
        (123456, 3): "123456",
        (1.5e-7, 2): "0.00000015",
    }
    assert {case: units.significant(*case) for case in shown} == shown


def test_round_significant():
    rounded = {
        0.0123456789: 0.012346,
        123456.7: 123460.0,
        0.0: 0.0,
        -1.234567: -1.2346,
        math.inf: math.inf,
    }
    assert {value: units.round_significant(value) for value in rounded} == rounded
    assert {value: units.round_significant(value) for value in rounded.values()} == {
        value: value for value in rounded.values()
    }


def test_errors_have_two_digits_and_a_power_of_ten():
    shown = [units.power(value) for value in (3.7e-07, 0.008, 1.0, 0.0, None, float("nan"), float("inf"))]
    assert shown == ["3.7e-07", "8.0e-03", "1.0e+00", "0", "-", "-", "-"]
