"""The generated part of docs/reference.md is current; `make golden` renews it."""

import re
from pathlib import Path

import pytest

from pytest_infergate.core.domain.notes import MEANINGS, NoteCode

REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"
GENERATED = re.compile(r"(<!-- notes: [^\n]*\n)(.*?)(<!-- end of notes -->)", re.DOTALL)


def test_every_code_has_a_meaning():
    assert set(MEANINGS) == set(NoteCode)
    assert all(meaning.text.endswith(".") for meaning in MEANINGS.values())


def test_the_reference_lists_every_note(pytestconfig):
    rows = [f"| `{code.value}` | {MEANINGS[code].text} | {MEANINGS[code].hint} |" for code in NoteCode]
    table = "\n".join(["| code | meaning | hint |", "|---|---|---|", *rows]) + "\n"
    text = REFERENCE.read_text(encoding="utf-8")
    if pytestconfig.getoption("update_snapshots", False):
        REFERENCE.write_text(GENERATED.sub(lambda found: found[1] + table + found[3], text), encoding="utf-8")
        text = REFERENCE.read_text(encoding="utf-8")
    found = GENERATED.search(text)
    assert found is not None
    if found[2] != table:
        pytest.fail("docs/reference.md does not list the notes of the code: run make golden")
