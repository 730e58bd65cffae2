"""Answers to queries."""

import json
from datetime import datetime
from decimal import Decimal

from pytest_infergate.report.answers import MAX_ANSWER, answer_csv, answer_json, answer_table


def test_a_long_answer_is_cut_and_counted():
    text = answer_table(["n"], ((number,) for number in range(MAX_ANSWER + 5)))
    assert len(text.splitlines()) == MAX_ANSWER + 3
    assert "1,005 rows, of which the first 1,000 are shown" in text
    assert answer_table(["n"], []).endswith("0 rows")


def test_values_of_engines_and_hostile_ones(sample):
    names = [name for name in sample.hostile if name.isprintable() or "\x1b" in name]
    row = [*names, None, Decimal("1.50"), datetime(2026, 1, 2), b"x", 1.5e-300, True]  # noqa: DTZ001
    columns = [f"c{number}" for number in range(len(row))]
    table, text = answer_table(columns, [row]), answer_csv(columns, [row])
    assert "\x1b" not in table + text
    assert not [cell for cell in text.splitlines()[1].split(",") if cell.startswith(("=", "@", '"='))]
    found = json.loads(answer_json(columns, [row]))[0]
    assert [found[name] for name in columns[: len(names)]] == names
    assert list(found.values())[-6:] == [None, 1.5, "2026-01-02T00:00:00", "eA==", 1.5e-300, True]
