from __future__ import annotations

import json
import re

from pytest_infergate.report.sanitize import plain, plain_lines, shorten, within_test, without_commands


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


OBEYED = re.compile(r"(?m)(^|\r)\s*::|##\w*\[")
"""What a runner takes for a command: at the start of a line, and of the older form anywhere in one."""
COMMANDS = (
    "::error::x",
    " \t::add-mask::x",
    "a\n::error::x",
    "a\r::error::x",
    "\n\n \n::error::x",
    "##[error]x",
    "a ##[command]x",
    "###[error]x##[group]",
    "##vso[task.setvariable]x",
    "##teamcity[x]",
    "a::b\n  :::x",
)


def test_no_form_of_a_workflow_command_remains():
    for text in COMMANDS:
        assert OBEYED.search(text), text
        for clean in (plain, plain_lines, without_commands):
            assert not OBEYED.search(clean(text)), (clean, text)


def test_what_is_no_command_is_unchanged():
    for text in ("tests/a.py::test_b[cpu]", "a:: b", "# [x] ## x[", ": :", "#[x]", "aten::add ##", ""):
        assert plain(text) == plain_lines(text) == without_commands(text) == text


def test_json_without_commands_says_the_same():
    value = {text: [text, f"\\{text}", f'"{text}"'] for text in COMMANDS}
    text = json.dumps(value, indent=1)
    assert without_commands(text) != text
    assert json.loads(without_commands(text)) == value


def test_plain_lines_keeps_line_ends_only():
    assert plain_lines("a\x1b\n\rb\n") == "a\\x1b\n\\rb\n"


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
