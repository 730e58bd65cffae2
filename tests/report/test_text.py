from __future__ import annotations

import re

import msgspec
from sessions import (
    ASKED,
    MISSING,
    NOT_DECIDED,
    SMALL,
    answer,
    every_paired_kind,
    given,
    hostile_paired,
    judged,
    paired,
    time,
    uncompared,
    unmet,
)

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Budget, Outcome, Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.budgets import not_checked
from pytest_infergate.report import advice_summary, rows, text
from pytest_infergate.report.text_table import wrapped

LONG = "tests/" + "very_" * 40 + "deep/test_model.py::test_embedder"


def table(sample, pairs, width):
    return text.case_table(rows.rows(sample.session(pairs)), width)


def expensive(sample):
    cases = [sample.case(), sample.case(device="cuda", batch_size=8)]
    return [
        sample.spending(cases[0], sample.estimate(), sample.price(), budgets=(sample.check(),)),
        sample.spending(cases[1], sample.energy(0.0984, batch_size=8)),
    ]


def undecided(sample):
    note = sample.note(NOT_DECIDED, code="budget-not-decided")
    check = sample.check("p99_ms", 50.0, Verdict.OVER_BUDGET, note=note, missing=MISSING)
    return [sample.pair(verdict=Verdict.OVER_BUDGET, failed=True, budgets=(check,))]


def over(sample):
    check = sample.check(limit=40.0, verdict=Verdict.OVER_BUDGET)
    spent = (None, sample.energy(), sample.price())
    return [sample.spending(*spent, verdict=Verdict.OVER_BUDGET, failed=True, budgets=(check,))]


def test_tables(sample, snapshot):
    """Words about budgets give way to names, and to energy and cost; where names have no room, these stand apart."""
    skipped = {"outcome": Outcome.SKIPPED, "hardware": None}
    plain = [
        sample.pair(budgets=(sample.check(),)),
        sample.pair(sample.case(device="cuda", batch_size=8), Verdict.NOT_MEASURED, skipped),
        sample.pair(sample.case("t.py::test_strict"), Verdict.SUSPECTED, failed=True),
    ]
    apart = [*expensive(sample)[:1], sample.pair(sample.case("t.py::test_b"))]
    shown = {
        "figures": table(sample, plain, 120),
        "energy and cost": table(sample, expensive(sample), 140),
        "energy and cost apart": table(sample, apart, 80),
        **{f"a budget in {width} columns": table(sample, undecided(sample), width) for width in (200, 125, 90)},
        **{f"a budget beside a cost in {width} columns": table(sample, over(sample), width) for width in (160, 110)},
    }  # fmt: skip
    assert "\n\n".join(f"== {name}\n{lines}" for name, lines in shown.items()) == snapshot


def test_a_column_without_a_figure_is_not_there(sample):
    for fields, headers in (
        ({"energy": True}, ["peak memory", "energy/item", "budget"]),
        ({"price": True}, ["peak memory", "cost/million", "budget"]),
        ({}, ["peak memory", "budget"]),
    ):
        made = {field: getattr(sample, field)() for field in fields}
        lines = table(sample, [sample.pair(), sample.spending(**made)], 140).splitlines()
        header = re.split(r"  +", lines[0])
        assert header[header.index("peak memory") : -1] == headers
        assert len(lines) == 4


def test_an_energy_and_a_price_of_which_nothing_follows_change_nothing(sample):
    impossible = sample.spending(energy=sample.energy(batch_size=0), price=sample.price(utilisation=0.0))
    other = sample.pair(sample.case("t.py::test_other"))
    for width in (20, 80, 100, 120, 200):
        for pair in (sample.spending(), impossible):
            assert table(sample, [pair, other], width) == table(sample, [sample.pair(), other], width)


def test_a_table_keeps_the_width(sample):
    pairs = {
        "cost": sample.spending(sample.case(LONG), sample.estimate(), sample.price()),
        "budget": undecided(sample)[0],
        "hostile": sample.pair(sample.case(f"t.py::{sample.hostile[8]}")),
        "paired": sample.pair(
            sample.case(LONG), Verdict.REGRESSED, comparisons=(time(sample, Verdict.REGRESSED, 0.087),)
        ),
        # Its headers are then the widest cells of their columns.
        "unknown": sample.pair(sample.case(LONG), Verdict.NO_BASELINE, comparisons=(uncompared(sample),)),
    }
    for name, pair in pairs.items():
        for width in (90, 100, 105, 120, 140):
            lines = table(sample, [pair], width).splitlines()
            assert max(map(len, lines)) <= max(width, 100), (name, width)
    cost = table(sample, [pairs["cost"]], 100)
    assert cost.count("~12.3 mJ") == 1
    line = table(sample, [pairs["paired"]], 90).splitlines()[2]
    assert line.startswith("…")
    assert line.split()[0].endswith("test_embedder[cpu]")
    assert " ".join(line.split()[1:]) == "40.0 ms 43.5 ms +8.7 % +7.7 % to +9.7 % 7 regressed"


def test_a_long_table_is_cut_and_counts_the_rest(sample):
    lines = text.case_table(rows.rows(sample.many(203))).splitlines()
    assert len(lines) == 2 + text.ROWS_SHOWN + 1
    assert re.findall(r"\d+", lines[-1]) == ["3"]


def test_a_cut_table_has_energy_and_cost_of_what_it_shows(sample):
    many = [sample.pair(sample.case(f"t.py::test_{index}")) for index in range(text.ROWS_SHOWN)]
    lines = table(sample, [*many, sample.spending(energy=sample.energy())], 80).splitlines()
    assert "energy" not in lines[0]
    assert re.findall(r"\d+", lines[-1]) == ["1"]


def test_an_empty_session_is_its_outcome(sample):
    session = sample.session(headline="passed: no inference case ran")
    assert text.case_table(()) == ""
    assert text.terminal_summary(session) == "passed: no inference case ran"


def test_lists_are_cut_and_count_the_rest(sample):
    cases = [sample.case(f"t.py::test_{index}") for index in range(24)]
    new = [sample.pair(case, Verdict.NO_BASELINE) for case in cases]
    lines = text.changes(sample.session([sample.pair(), *new]).gate).splitlines()
    assert lines[0].endswith("(24):")
    assert lines[1:-1] == [f"  {case.name}" for case in cases[: text.NAMES_SHOWN]]
    assert re.findall(r"\d+", lines[-1]) == ["12"]


def test_a_note_over_many_cases_is_printed_once(sample):
    note, other = sample.note("hidden", "unset it"), sample.note("faults")
    groups = (
        rows.NoteGroup(note=note, nodeids=tuple(f"t.py::test_{index}" for index in range(20))),
        rows.NoteGroup(note=other, nodeids=("t.py::test_one[cpu]",)),
    )
    lines = text.note_lines(groups).splitlines()[1:]
    assert lines == [
        "  20 cases (t.py::test_0, t.py::test_1 and 18 more): hidden (unset it)",
        "  t.py::test_one[cpu]: faults",
    ]


def test_what_does_not_fail_and_deserves_a_look_is_named(sample):
    suspect = sample.pair(verdict=Verdict.SUSPECTED, comparisons=(sample.time(Verdict.SUSPECTED, 0.3),))
    printed = text.flagged(rows.rows(sample.session([suspect, sample.pair(failed=True)])))
    assert printed.count("test_embedder[cpu]") == 1
    printed = text.flagged(rows.rows(every_paired_kind(sample)))
    assert re.findall(r"test_(\w+)\[cpu\]$", printed, re.MULTILINE) == ["taken", "moved", "faster"]


def test_a_case_that_was_not_compared_has_no_times_under_was_and_now(sample):
    """One that failed or was invalid after it had been timed: its p95 is no "now"."""
    measured = {
        "outcome": Outcome.INVALID,
        "measurement": sample.measurement(),
        "reason": sample.note("lost"),
    }
    lost = judged(sample, "test_lost", Verdict.INVALID, (), result=measured)
    session = paired(sample, [judged(sample, "test_fine"), lost])
    lines = text.case_table(rows.rows(session), 120).splitlines()
    (line,) = [line.split() for line in lines if "::test_lost" in line]
    assert line[1:] == ["-", "-", "-", "-", "-", "invalid"]


def test_only_a_paired_run_begins_with_what_it_is_compared_with(sample):
    session = paired(sample, [judged(sample)])
    assert text.terminal_summary(session).startswith(text.base_lines(session) + "\n\ncase ")
    assert "main (merge base 1a2b3c4)" in text.base_lines(session)
    assert text.base_lines(sample.session([sample.pair()])) == ""


def test_advice_of_a_run(snapshot):
    """A table that is too wide becomes blocks of lines, in which nothing is cut."""
    several = given(answer(), SMALL, unmet(), unanswered=ASKED)
    assert text.advice_lines(None) == ""
    assert text.advice_lines(several, 140) == snapshot(name="wide")
    assert text.advice_lines(several, 80) == snapshot(name="narrow")
    assert text.advice_lines(given(unanswered=ASKED)) == snapshot(name="without an answer")
    words = text.advice_lines(several, 200).replace(":", "").split()
    for width in (60, 80, 100, 140):
        lines = text.advice_lines(several, width).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        missing = set(words) - set("\n".join(lines).replace(":", "").split()) - {"changes"}
        assert not [word for word in missing if word[0] not in "-…"]  # rules and shortened names


def test_advice_comes_before_the_outcome(sample):
    session = msgspec.structs.replace(sample.session([sample.pair()]), advice=given(answer()))
    blocks = text.terminal_summary(session).split("\n\n")
    assert blocks[-2] == text.advice_lines(session.advice, silent=advice_summary.without_demand(session))
    assert blocks[-1].startswith(session.gate.headline)


def test_what_users_copy_is_not_broken():
    command = "pytest tests/test_a.py::test_b --infer-devices=cuda --infer-json=gpu.json"
    advise, setting = "infergate advise r.json --demand 3/s --p95-ms 100", "cpu = { x = 1 }"
    assert wrapped(f"  to know, run {command}, or {advise} or {setting}", 16, "    ").splitlines() == [
        "  to know, run",
        f"    {command},",
        "    or",
        f"    {advise}",
        "    or",
        f"    {setting}",
    ]


def test_many_models_are_cut_and_counted():
    many = given(*(answer(model=f"t.py::test_{index}") for index in range(text.ROWS_SHOWN + 2)))
    lines = text.advice_lines(many).splitlines()
    rest = lines[1 + 1 + 2 + text.ROWS_SHOWN]
    assert re.findall(r"\d+", rest) == ["3"]  # their sum is a line, too
    assert lines[lines.index("when that changes:") + 1 + text.NAMES_SHOWN].split() == ["and", "190", "more"]


def test_nothing_that_a_terminal_obeys_is_printed(sample):
    for session in (sample.hostile_session(), hostile_paired(sample)):
        for width in (1, 20, 80, 200):
            printed = text.terminal_summary(session, width)
            assert all(line.isprintable() for line in printed.split("\n")), width


def test_the_table_leaves_out_absent_devices_as_long_as_others_are_there(sample):
    note = Note(code=NoteCode.DEVICE_ABSENT, text="no CUDA here")
    fields = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": note}
    absent = sample.pair(sample.case("t.py::test_absent"), Verdict.NOT_MEASURED, result=fields)
    shown = text.terminal_summary(sample.session([sample.pair(), absent]))
    assert "test_embedder[cpu]  " in shown
    assert "test_absent[cpu]  " not in shown
    assert "t.py::test_absent[cpu]: no CUDA here" in shown
    assert "test_absent[cpu]  " in text.terminal_summary(sample.session([absent]))


def test_a_case_without_figures_has_one_reason_for_all_its_budgets(sample):
    reason = Note(code=NoteCode.WORK_CHANGED, text="its work changes")
    checks = [not_checked(Budget(metric=name, limit=1.0), reason.text, "") for name in ("p50_ms", "gflops")]
    fields = {"outcome": Outcome.INVALID, "reason": reason, "measurement": None}
    pair = sample.pair(verdict=Verdict.OVER_BUDGET, result=fields, budgets=tuple(checks))
    [group] = rows.grouped_notes(sample.session([pair]))
    assert group.note.text == reason.text
