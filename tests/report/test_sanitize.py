from __future__ import annotations

from pytest_infergate.report.sanitize import plain, shorten, within_test


def test_plain_spells_out_what_cannot_be_seen():
    for text, expected in (
        ("tests/a.py::test_b[cpu-b8]", "tests/a.py::test_b[cpu-b8]"),
        ("two\nlines\ttab", r"two\nlines\ttab"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\u202eevil\u200b", r"\u202eevil\u200b"),
        ("lone \udc80", r"lone \udc80"),
        ("\u2028", r"\u2028"),
        ("日本 🚀", "日本 🚀"),
        ("", ""),
    ):
        assert plain(text) == expected


def test_plain_leaves_only_printable_text(sample):
    assert all(plain(text).isprintable() for text in sample.hostile)


def test_shorten_cuts_from_the_left_at_a_boundary_where_one_is_near():
    for width, expected in (
        (47, "tests/vision/test_vit.py::test_vit_base[cpu-b8]"),
        (46, "…/vision/test_vit.py::test_vit_base[cpu-b8]"),
        (38, "…/test_vit.py::test_vit_base[cpu-b8]"),
        (30, "…::test_vit_base[cpu-b8]"),
        (20, "…st_vit_base[cpu-b8]"),
        (8, "…cpu-b8]"),
    ):
        short = shorten("tests/vision/test_vit.py::test_vit_base[cpu-b8]", width)
        assert short == expected
        assert len(short) <= width
    for width in (0, 1, 2, 16, 200):
        assert len(shorten("a/" * 5000, width)) <= max(1, width)


def test_within_test_is_what_tells_siblings_apart(sample):
    assert within_test(sample.case(batch_size=8, params="a[b]")) == "cpu-b8-a[b]"
