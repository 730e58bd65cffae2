import math

import pytest

from pytest_infergate.core.domain import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1.0, "1.00 s"),
        (0.9995, "1.00 s"),
        (0.99949, "999 ms"),
        (0.0123, "12.3 ms"),
        (0.001, "1.00 ms"),
        (0.00099951, "1.00 ms"),
        (0.0009994, "999 µs"),
        (1e-6, "1.00 µs"),
        (9.994e-7, "999 ns"),
        (1e-9, "1.00 ns"),
        (5e-10, "0.500 ns"),
        (123.4, "123 s"),
        (12345.6, "12346 s"),
        (-0.0123, "-12.3 ms"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_seconds(value, text):
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.6, "1.00 kB"),
        (1000, "1.00 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (12_300_000, "12.3 MB"),
        (1e9, "1.00 GB"),
        (1e12, "1.00 TB"),
        (1e15, "1000 TB"),
        (-999.6, "-1.00 kB"),
        (-5, "-5 B"),
        (None, "-"),
        (math.nan, "-"),
    ],
)
def test_bytes(value, text):
    assert units.bytes_(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 FLOP"),
        (1, "1 FLOP"),
        (999, "999 FLOP"),
        (999.4, "999 FLOP"),
        (999.6, "1.00 kFLOP"),
        (1000, "1.00 kFLOP"),
        (999_400, "999 kFLOP"),
        (999_600, "1.00 MFLOP"),
        (12_300_000_000, "12.3 GFLOP"),
        (1e12, "1.00 TFLOP"),
        (1e15, "1000 TFLOP"),
        (-5, "-5 FLOP"),
        (-999.6, "-1.00 kFLOP"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_flops(value, text):
    assert units.flops(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 J"),
        (0.0123, "12.3 mJ"),
        (0.99949, "999 mJ"),
        (0.9995, "1.00 J"),
        (999.4, "999 J"),
        (999.6, "1.00 kJ"),
        (12_345_678, "12346 kJ"),
        (1e-6, "1.00 µJ"),
        (1e-9, "0.00100 µJ"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_joules(value, text):
    assert units.joules(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 g"),
        (1.62, "1.62 g"),
        (0.9995, "1.00 g"),
        (0.00162, "1.62 mg"),
        (1.62e-6, "1.62 µg"),
        (999.6, "1.00 kg"),
        (2.5e6, "2.50 t"),
        (None, "-"),
        (math.nan, "-"),
    ],
)
def test_grams(value, text):
    assert units.grams(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (1234.0, "1,234"),
        (-1234, "-1,234"),
        (999_999_999_999, "999,999,999,999"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_count(value, text):
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0/s"),
        (0.0457, "0.0457/s"),
        (0.9999, "1.00/s"),
        (1, "1.00/s"),
        (999.4, "999/s"),
        (999.6, "1.00k/s"),
        (1_234_000, "1.23M/s"),
        (2e9, "2.00G/s"),
        (None, "-"),
        (math.inf, "-"),
    ],
)
def test_rate(value, text):
    assert units.rate(value) == text


def test_rate_names_its_unit():
    assert units.rate(50, "tokens") == "50.0 tokens/s"


@pytest.mark.parametrize(
    ("ratio", "signed", "decimals", "text"),
    [
        (0.046, True, 1, "+4.6 %"),
        (-0.046, True, 1, "-4.6 %"),
        (0.0, True, 1, "+0.0 %"),
        (0.994, True, 1, "+99.4 %"),
        (1.0, True, 1, "x2.0"),
        (2.1, True, 1, "x3.1"),
        (11.4, True, 1, "x12"),
        (2.1, False, 1, "210.0 %"),
        (0.8, False, 0, "80 %"),
        (None, True, 1, "-"),
        (math.nan, True, 1, "-"),
    ],
)
def test_percent(ratio, signed, decimals, text):
    assert units.percent(ratio, signed=signed, decimals=decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (8.4, "8 s"),
        (89, "89 s"),
        (90, "2 min"),
        (360, "6 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (7200, "2 h 0 min"),
    ],
)
def test_duration(value, text):
    assert units.duration(value) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("10s", 10), (" 2 min ", 120), ("1h", 3600), ("1.5h", 5400), ("1d", 86400), ("0.1s", 0.1)],
)
def test_parse_duration(text, seconds):
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "0", "0s", "-1", "1.2.3", "nan", "inf", "1 week", "10S", "1e3"])
def test_parse_duration_refuses(text):
    with pytest.raises(ValueError) as raised:
        units.parse_duration(text)
    assert str(raised.value) == f"{text!r} is not a time above zero, such as 10, 10s, 2min"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (1234, "1,234 cases")]
)
def test_plural(count, text):
    assert units.plural(count, "case") == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 3, "0"),
        (12.34, 3, "12.3"),
        (0.04567, 3, "0.0457"),
        (999.6, 3, "1000"),
        (123456, 3, "123456"),
        (1.5e-7, 2, "0.00000015"),
        (math.nan, 3, "-"),
    ],
)
def test_significant(value, digits, text):
    assert units.significant(value, digits) == text


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.0123456789, 0.012346), (123456.7, 123460.0), (0.0, 0.0), (-1.234567, -1.2346), (math.inf, math.inf)],
)
def test_round_significant(value, rounded):
    assert units.round_significant(value) == rounded
    assert units.round_significant(rounded) == rounded
