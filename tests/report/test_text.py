from __future__ import annotations

import pytest

from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.report import rows, text

NOT_DECIDED = "budget p99_ms was not decided: it needs 459 calls and has 120"


def test_the_table(sample):
    cases = [sample.case(), sample.case(device="cuda", batch_size=8)]
    pairs = [
        sample.pair(cases[0], budgets=(sample.check(),)),
        sample.pair(cases[1], Verdict.NOT_MEASURED, {"outcome": Outcome.SKIPPED, "hardware": None}),
    ]
    assert text.case_table(rows.rows(sample.session(pairs)), 120) == (
        """
case                                             p50      p95  throughput  peak memory  budget  verdict
-------------------------------------------  -------  -------  ----------  -----------  ------  ------------
tests/test_model.py::test_embedder[cpu]      40.0 ms  43.4 ms      25.0/s       125 MB  kept    equivalent
tests/test_model.py::test_embedder[cuda-b8]        -        -           -            -  -       not-measured
"""
    ).strip("\n")


MARK = "~ an estimate, not measured: --infer-energy measures where a meter can be read"


def expensive(sample):
    cases = [sample.case(), sample.case(device="cuda", batch_size=8)]
    return [
        sample.spending(cases[0], sample.estimate(), sample.price(), budgets=(sample.check(),)),
        sample.spending(cases[1], sample.energy(0.0984, batch_size=8)),
    ]


def test_energy_and_cost_have_columns_where_a_case_has_them(sample):
    assert text.case_table(rows.rows(sample.session(expensive(sample))), 140) == (
        f"""
case                                             p50      p95  throughput  peak memory  energy/item  cost/million  budget  verdict
-------------------------------------------  -------  -------  ----------  -----------  -----------  ------------  ------  ----------
tests/test_model.py::test_embedder[cpu]      40.0 ms  43.4 ms      25.0/s       125 MB     ~12.3 mJ      3.31 USD  kept    equivalent
tests/test_model.py::test_embedder[cuda-b8]  40.0 ms  43.4 ms      25.0/s       125 MB      12.3 mJ             -  -       equivalent
{MARK}
"""
    ).strip("\n")


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"energy": True}, "peak memory  energy/item  budget"),
        ({"price": True}, "peak memory  cost/million  budget"),
        ({}, "peak memory  budget"),
    ],
    ids=["energy", "cost", "neither"],
)
def test_a_column_without_a_figure_is_not_there(sample, fields, header):
    made = {field: getattr(sample, field)() for field in fields}
    shown = rows.rows(sample.session([sample.pair(), sample.spending(**made)]))
    lines = text.case_table(shown, 140).splitlines()
    assert header in lines[0]
    assert len(lines) == 4


@pytest.mark.parametrize("width", [20, 80, 100, 120, 200])
def test_a_table_without_energy_and_cost_is_what_it_was(sample, width):
    """An energy and a price of which nothing follows change nothing."""
    impossible = sample.spending(energy=sample.energy(batch_size=0), price=sample.price(utilisation=0.0))
    for pair in (sample.spending(), impossible):
        shown = rows.rows(sample.session([pair, sample.pair(sample.case("t.py::test_other"))]))
        plain = rows.rows(sample.session([sample.pair(), sample.pair(sample.case("t.py::test_other"))]))
        assert text.case_table(shown, width) == text.case_table(plain, width)


def test_where_names_have_no_room_energy_and_cost_have_a_table_of_their_own(sample):
    pairs = [*expensive(sample)[:1], sample.pair(sample.case("t.py::test_b"))]
    assert text.case_table(rows.rows(sample.session(pairs)), 80) == (
        f"""
case                   p50      p95  throughput  peak memory  budget  verdict
-----------------  -------  -------  ----------  -----------  ------  ----------
…st_embedder[cpu]  40.0 ms  43.4 ms      25.0/s       125 MB  kept    equivalent
t.py::test_b[cpu]  40.0 ms  43.4 ms      25.0/s       125 MB  -       equivalent

case                                     energy/item  cost/million
---------------------------------------  -----------  ------------
tests/test_model.py::test_embedder[cpu]     ~12.3 mJ      3.31 USD
{MARK}
"""
    ).strip("\n")


@pytest.mark.parametrize("width", [80, 100, 105, 120])
def test_energy_and_cost_keep_the_width(sample, width):
    case = sample.case("tests/" + "very_" * 40 + "deep/test_model.py::test_embedder")
    pair = sample.spending(case, sample.estimate(), sample.price())
    lines = text.case_table(rows.rows(sample.session([pair])), width).splitlines()
    assert max(map(len, lines)) <= width
    assert sum("~12.3 mJ" in line for line in lines) == 1


def test_words_about_budgets_give_way_to_energy_and_cost(sample):
    check = sample.check(limit=40.0, verdict=Verdict.OVER_BUDGET)
    pair = sample.spending(
        None, sample.energy(), sample.price(), verdict=Verdict.OVER_BUDGET, failed=True, budgets=(check,)
    )
    shown = rows.rows(sample.session([pair]))
    assert "  over: p95_ms 43.4 ms > 40.0 ms  over-budget" in text.case_table(shown, 160)
    assert "  12.3 mJ      3.31 USD  over    over-budget" in text.case_table(shown, 110)


def test_a_cut_table_tells_energy_and_cost_of_what_it_shows(sample):
    session = sample.session(
        [
            *(sample.pair(sample.case(f"t.py::test_{index}")) for index in range(200)),
            sample.spending(energy=sample.energy()),
        ]
    )
    lines = text.case_table(rows.rows(session), 80).splitlines()
    assert "energy" not in lines[0]
    assert lines[-1] == "and 1 more case, in --infer-report"


@pytest.mark.parametrize(
    ("width", "budget"),
    [(200, f"not decided: p99_ms: {NOT_DECIDED[31:]}"), (125, "not decided: p99_ms"), (90, "not decided")],
)
def test_words_about_budgets_give_way_to_names(sample, width, budget):
    note = sample.note(NOT_DECIDED, code="budget-not-decided")
    check = sample.check("p99_ms", 50.0, Verdict.OVER_BUDGET, note=note)
    shown = rows.rows(
        sample.session([sample.pair(verdict=Verdict.OVER_BUDGET, failed=True, budgets=(check,))])
    )
    lines = text.case_table(shown, width).splitlines()
    assert f"  {budget}  over-budget" in lines[2]
    assert all(len(line) <= max(width, 100) for line in lines)


def test_a_table_of_thousands_is_cut_and_says_so(sample):
    lines = text.case_table(rows.rows(sample.many(203))).splitlines()
    assert len(lines) == 2 + text.ROWS_SHOWN + 1
    assert lines[-1] == "and 3 more cases, in --infer-report"


def test_an_empty_session_is_its_outcome(sample):
    session = sample.session(headline="passed: no inference case ran")
    assert text.case_table(()) == ""
    assert text.terminal_summary(session) == "passed: no inference case ran"


def test_the_outcome_gives_its_reasons(sample):
    gate = sample.session(headline="FAILED: 1 of 2 cases decided", reasons=("1 case regressed",)).gate
    assert text.outcome(gate) == "FAILED: 1 of 2 cases decided\n  1 case regressed"


def test_changes_are_listed_and_cut(sample):
    cases = tuple(sample.case(f"t.py::test_{index}") for index in range(24))
    gate = sample.session(
        new=cases, missing=cases[:1], renamed=((cases[0], cases[1]),), deselected=(sample.note("why", "do"),)
    ).gate
    lines = text.changes(gate).splitlines()
    assert lines[0] == "new, unknown to the baseline (24):"
    assert lines[12:14] == ["  t.py::test_11[cpu]", "  and 12 more"]
    assert lines[14:] == [
        "missing, in the baseline only (1):",
        "  t.py::test_0[cpu]",
        "renamed, it seems (1):",
        "  t.py::test_0[cpu] -> t.py::test_1[cpu]",
        "deselected (1):",
        "  why (do)",
    ]


def test_a_note_over_many_cases_is_printed_once(sample):
    note, other = sample.note("hidden", "unset it"), sample.note("faults")
    groups = (
        rows.NoteGroup(note=note, nodeids=tuple(f"t.py::test_{index}" for index in range(20))),
        rows.NoteGroup(note=other, nodeids=("t.py::test_one[cpu]",)),
    )
    assert text.note_lines(groups) == (
        "notes (2):\n  20 cases: hidden (unset it)\n  t.py::test_one[cpu]: faults"
    )


def test_suspects_are_named_though_they_do_not_fail(sample):
    pair = sample.pair(verdict=Verdict.SUSPECTED, comparisons=(sample.time(Verdict.SUSPECTED, 0.3),))
    assert text.flagged(rows.rows(sample.session([pair]))) == (
        "worth a look, though not failing (1):\n"
        "  tests/test_model.py::test_embedder[cpu]\n"
        "    suspected: p50 latency 52.0 ms against an expected 40.0 ms: +30.0 %, allowed +25.0 %"
    )


def test_a_strict_failure_is_marked_in_the_table(sample):
    pair = sample.pair(verdict=Verdict.SUSPECTED, failed=True)
    assert "suspected (fails)" in text.case_table(rows.rows(sample.session([pair])), 140)


@pytest.mark.parametrize("width", [1, 20, 80, 100, 200])
def test_nothing_that_a_terminal_obeys_is_printed(sample, width):
    printed = text.terminal_summary(sample.hostile_session(), width)
    assert all(line.isprintable() for line in printed.split("\n"))


def test_no_line_of_a_table_is_long_because_of_a_name(sample):
    session = sample.session([sample.pair(sample.case(f"t.py::{name}")) for name in sample.hostile])
    assert max(map(len, text.case_table(rows.rows(session), 100).splitlines())) <= 100


def test_a_regression_fails_with_all_that_is_known(sample):
    verdict = sample.verdict(
        Verdict.REGRESSED,
        failed=True,
        comparisons=(
            sample.memory(Verdict.REGRESSED, 0.25),
            sample.time(Verdict.REGRESSED, 0.303, low=0.261, high=0.346),
        ),
    )
    assert text.failure_message(verdict, sample.result()) == (
        """
regressed: peak memory 60.0 MB against 48.0 MB; p50 latency 52.1 ms against an expected 40.0 ms: +30.3 %, allowed +25.0 %

  exact counters, without noise: regressed
    peak memory  60.0 MB against 48.0 MB: +12.0 MB (+25.0 %), allowed +1.0 % or 1.05 MB, whichever is more

  p50 latency: regressed
    measured             52.1 ms, median of 412 calls
    expected             40.0 ms, from 12 sessions
    change               +30.3 %, allowed +25.0 %
    how sure             between +26.1 % and +34.6 %; the chance of a false alarm anywhere in the run is 0.5 %
    smallest detectable  a true +13.0 % would be called regressed in 9 of 10 runs
    the model's work     peak memory +12.0 MB (+25.0 %)

  next
    - if the change is meant, record it with --infer-save
    - or allow it for this test: @pytest.mark.inference(tolerance={"memory": "30%", "p50": "35%"})
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


def test_counters_fail_together_with_who_moved_them(sample):
    verdict = sample.verdict(
        Verdict.REGRESSED,
        failed=True,
        comparisons=(
            sample.time(),
            sample.counter("flops", 10**9, 10**9),
            sample.counter("operators", 1000, 1004, causes=(sample.cause(),)),
            sample.counter("bytes_written", 10**6, 1_164_000, causes=(sample.cause(164_000),)),
        ),
    )
    assert text.failure_message(verdict, sample.result()) == (
        """
regressed: operators 1,004 against 1,000: +4 aten::clone in layers.{0-3}; 1 more counter

  exact counters, without noise: regressed
    operators      1,004 against 1,000: +4 (+0.4 %)
    bytes written  1.16 MB against 1.00 MB: +164 kB (+16.4 %)
    from           +4 aten::clone in layers.{0-3}, +164 kB

  next
    - if the change is meant, record it with --infer-save
    - or allow it for this test: @pytest.mark.inference(tolerance={"counters": "20%"})
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


def test_a_slower_time_stands_beside_the_work_that_moved(sample):
    verdict = sample.verdict(
        Verdict.REGRESSED,
        failed=True,
        comparisons=(
            sample.time(Verdict.REGRESSED, 0.303, low=0.261, high=0.346),
            sample.counter("flops", 10**9, 2 * 10**9, causes=(sample.cause(10**9, "aten::mm", "head"),)),
        ),
    )
    assert text.failure_message(verdict) == (
        """
regressed: p50 latency 52.1 ms against an expected 40.0 ms: +30.3 %, allowed +25.0 %; FLOPs 2.00 GFLOP against 1.00 GFLOP: aten::mm in head, +1.00 GFLOP

  p50 latency: regressed
    measured             52.1 ms
    expected             40.0 ms, from 12 sessions
    change               +30.3 %, allowed +25.0 %
    how sure             between +26.1 % and +34.6 %; the chance of a false alarm anywhere in the run is 0.5 %
    smallest detectable  a true +13.0 % would be called regressed in 9 of 10 runs
    the model's work     aten::mm in head, +1.00 GFLOP

  exact counters, without noise: regressed
    FLOPs  2.00 GFLOP against 1.00 GFLOP: +1.00 GFLOP (x2.0)
    from   aten::mm in head, +1.00 GFLOP

  next
    - if the change is meant, record it with --infer-save
    - or allow it for this test: @pytest.mark.inference(tolerance={"p50": "35%", "counters": "105%"})
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


def test_counters_that_cannot_be_compared_fail_when_strict(sample):
    hint = "record them anew with --infer-save"
    found = "operators recorded with torch 2.12.0, this is 2.13.0"
    judged = sample.verdict(
        Verdict.INCOMPARABLE,
        failed=True,
        comparisons=(
            sample.time(),
            sample.counter("flops"),
            sample.unsettled(Verdict.INCOMPARABLE, found, hint),
        ),
    )
    assert text.failure_message(judged, sample.result()) == (
        f"""
incomparable: {found}

  exact counters: incomparable
    why  {found}

  next
    - {hint}
    - {STRICT.format("incomparable")}
"""
    ).strip("\n")


def test_counters_that_are_not_on_record_fail_when_strict(sample):
    judged = sample.verdict(
        Verdict.NO_BASELINE,
        failed=True,
        comparisons=(
            sample.time(),
            sample.unsettled(Verdict.NO_BASELINE, "FLOPs, operators not on record yet"),
        ),
    )
    assert text.failure_message(judged, sample.result()) == (
        f"""
no-baseline: FLOPs, operators not on record yet

  exact counters: no-baseline
    why  FLOPs, operators not on record yet

  next
    - record a baseline with --infer-save, and commit it
    - {STRICT.format("no-baseline")}
"""
    ).strip("\n")


def test_what_ran_before_and_cannot_run_now_fails(sample):
    reason = sample.note("batch 256 ran out of memory")
    result = sample.result(outcome=Outcome.INFEASIBLE, reason=reason)
    verdict = sample.verdict(Verdict.REGRESSED, failed=True, notes=(reason,))
    assert text.failure_message(verdict, result) == (
        """
regressed: the baseline measured it and this run could not: batch 256 ran out of memory

  next
    - make it run again, or record the baseline anew without this case with --infer-save
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


def test_a_broken_budget_fails(sample):
    check = sample.check(limit=40.0, verdict=Verdict.OVER_BUDGET, value=52.1)
    verdict = sample.verdict(Verdict.OVER_BUDGET, failed=True, budgets=(check, sample.check("p50_ms")))
    assert text.failure_message(verdict, sample.result()) == (
        """
over-budget: p95 latency 52.1 ms is over its budget of 40.0 ms

  budget p95_ms: over-budget
    measured  52.1 ms
    allowed   at most 40.0 ms
    how sure  between 46.9 ms and 57.3 ms (99 % over calls, 95 % between launches)

  next
    - make it fit, or change the promise: @pytest.mark.inference(budget={"p95_ms": ...})
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


def test_a_budget_that_nobody_could_check_fails(sample):
    note = sample.note(NOT_DECIDED, "raise --infer-max-time", code="budget-not-decided")
    check = sample.check("p99_ms", 50.0, Verdict.OVER_BUDGET, note=note)
    verdict = sample.verdict(Verdict.OVER_BUDGET, failed=True, budgets=(check,))
    assert text.failure_message(verdict, sample.result()) == (
        """
over-budget: budget p99_ms was not decided: it needs 459 calls and has 120

  budget p99_ms: over-budget (not decided)
    measured  43.4 ms
    allowed   at most 50.0 ms
    how sure  between 39.1 ms and 47.7 ms (99 % over calls, 95 % between launches)
    why       it needs 459 calls and has 120

  next
    - raise --infer-max-time
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


STRICT = """or run without --infer-strict, which alone makes '{}' fail
    - or report it without failing: @pytest.mark.inference(gate="warn")"""


@pytest.mark.parametrize("verdict", [Verdict.SUSPECTED, Verdict.INCONCLUSIVE])
def test_what_the_evidence_does_not_decide_fails_when_strict(sample, verdict):
    note = sample.note("3 stored sessions can show a slowdown of 61 % or more", "record more sessions")
    row = sample.time(verdict, 0.3, note=note, sessions=3, smallest_detectable=0.61, low=-0.02, high=0.7)
    judged = sample.verdict(verdict, failed=True, comparisons=(row, sample.counter(), sample.memory()))
    assert text.failure_message(judged, sample.result()) == (
        f"""
{verdict.value}: p50 latency 52.0 ms against an expected 40.0 ms: +30.0 %, allowed +25.0 %

  p50 latency: {verdict.value}
    measured             52.0 ms, median of 412 calls
    expected             40.0 ms, from 3 sessions
    change               +30.0 %, allowed +25.0 %
    how sure             between -2.0 % and +70.0 %, each bound at 95 % confidence
    smallest detectable  a true +61.0 % would be called regressed in 9 of 10 runs
    the model's work     unchanged: no exact counter moved
    note                 3 stored sessions can show a slowdown of 61 % or more

  next
    - record more sessions
    - {STRICT.format(verdict.value)}
"""
    ).strip("\n")


def test_a_budget_near_its_limit_fails_when_strict(sample):
    note = sample.note(
        "p95 latency 43.4 ms is within the spread between launches of its limit 45.0 ms", "leave room"
    )
    check = sample.check(limit=45.0, verdict=Verdict.INCONCLUSIVE, note=note)
    judged = sample.verdict(Verdict.INCONCLUSIVE, failed=True, budgets=(check,))
    assert text.failure_message(judged) == (
        f"""
inconclusive: p95 latency 43.4 ms is within the spread between launches of its limit 45.0 ms

  budget p95_ms: inconclusive
    measured  43.4 ms
    allowed   at most 45.0 ms
    how sure  between 39.1 ms and 47.7 ms (99 % over calls, 95 % between launches)
    why       p95 latency 43.4 ms is within the spread between launches of its limit 45.0 ms

  next
    - leave room
    - {STRICT.format("inconclusive")}
"""
    ).strip("\n")


def test_what_cannot_be_compared_fails_when_strict(sample):
    note = sample.note("other CPU model", "record a baseline on this class of machine with --infer-save")
    row = sample.time(
        Verdict.INCOMPARABLE, baseline=None, low=None, high=None, smallest_detectable=None, note=note
    )
    row = type(row)(metric="p50", verdict=row.verdict, evidence="stored", candidate=0.052, note=note)
    judged = sample.verdict(Verdict.INCOMPARABLE, failed=True, comparisons=(row,))
    assert text.failure_message(judged, sample.result()) == (
        f"""
incomparable: p50 latency 52.0 ms cannot be compared: other CPU model

  p50 latency: incomparable
    measured  52.0 ms, median of 412 calls
    note      other CPU model

  next
    - record a baseline on this class of machine with --infer-save
    - {STRICT.format("incomparable")}
"""
    ).strip("\n")


def test_a_missing_baseline_fails_when_strict(sample):
    time = type(sample.time())(
        metric="p50", verdict=Verdict.NO_BASELINE, evidence="stored", candidate=0.052, tolerance=0.25
    )
    judged = sample.verdict(Verdict.NO_BASELINE, failed=True, comparisons=(time,))
    assert text.failure_message(judged, sample.result()) == (
        f"""
no-baseline: p50 latency 52.0 ms has no baseline

  p50 latency: no-baseline
    measured  52.0 ms, median of 412 calls

  next
    - record a baseline with --infer-save, and commit it
    - {STRICT.format("no-baseline")}
"""
    ).strip("\n")


REASONS = [
    (Verdict.INVALID, Outcome.INVALID, "a coverage tracer was active while timing", "run with --no-cov", ()),
    (
        Verdict.INFEASIBLE,
        Outcome.INFEASIBLE,
        "batch 256 ran out of memory",
        "",
        ("leave out what does not fit: a smaller batch size, or another device",),
    ),
    (Verdict.MISMATCH, Outcome.MEASURED, "outputs differ from cpu by 0.3", "look at the dtype", ()),
]


@pytest.mark.parametrize("row", REASONS, ids=lambda row: row[0].value)
def test_what_could_not_be_measured_rightly_fails_with_its_reason(sample, row):
    verdict, outcome, why, hint, more = row
    reason = sample.note(why, hint)
    result = sample.result(outcome=outcome, reason=reason, measurement=None)
    message = text.failure_message(sample.verdict(verdict, failed=True, notes=(reason,)), result)
    forgiving = "" if verdict is Verdict.MISMATCH else STRICT.format(verdict.value)
    last = forgiving or 'or report it without failing: @pytest.mark.inference(gate="warn")'
    steps = "\n    - ".join([*filter(None, [hint]), *more, last])
    assert message == f"{verdict.value}: {why}\n\n  next\n    - {steps}"


def test_a_case_that_was_skipped_fails_when_strict(sample):
    reason = sample.note(hint="unset CUDA_VISIBLE_DEVICES")
    result = sample.result(outcome=Outcome.SKIPPED, reason=reason, hardware=None)
    judged = sample.verdict(Verdict.NOT_MEASURED, failed=True, notes=(reason,))
    assert text.failure_message(judged, result) == (
        """
not-measured: cuda hidden: CUDA_VISIBLE_DEVICES is empty

  next
    - unset CUDA_VISIBLE_DEVICES
    - or run without --infer-strict, which alone makes 'not-measured' fail
"""
    ).strip("\n")


def test_a_verdict_alone_tells_the_reason_from_its_notes(sample):
    judged = sample.verdict(Verdict.INVALID, failed=True, notes=(sample.note("why", "do"),))
    assert text.failure_message(judged).startswith("invalid: why\n\n  next\n    - do\n")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_prints_when_nothing_else_is_known(sample, verdict):
    assert text.failure_message(sample.verdict(verdict, failed=True)).startswith(verdict.value)
