from __future__ import annotations

import pytest

from pytest_infergate.core.domain.measurement import Estimate, Latency, Measurement, Memory, WarmUp
from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.report import rows
from pytest_infergate.report.rows import Judged, Row


def shown(row: Row) -> tuple[str, ...]:
    return row.nodeid, row.p50, row.p95, row.throughput, row.peak_memory, row.budget, row.word


def test_a_measured_case(sample):
    session = sample.session([sample.pair(budgets=(sample.check(),), result={"unit": "texts"})])
    (row,) = rows.rows(session)
    assert shown(row) == (
        "tests/test_model.py::test_embedder[cpu]",
        "40.0 ms",
        "43.4 ms",
        "25.0 texts/s",
        "125 MB",
        "kept",
        "equivalent",
    )


def test_a_skipped_case_has_no_figures(sample):
    fields = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": sample.note()}
    (row,) = rows.rows(sample.session([sample.pair(verdict=Verdict.NOT_MEASURED, result=fields)]))
    assert shown(row)[1:] == ("-", "-", "-", "-", "-", "not-measured")
    assert row.message.title == "not-measured: cuda hidden: CUDA_VISIBLE_DEVICES is empty"


def test_an_empty_session_has_no_rows(sample):
    assert rows.rows(sample.session()) == ()
    assert rows.grouped_notes(sample.session()) == ()


def test_results_and_verdicts_are_paired_and_none_is_dropped(sample):
    one, two, three = (sample.case(f"t.py::test_{name}") for name in ("one", "two", "three"))
    first, again = sample.result(one), sample.result(one, unit="texts")
    lonely = sample.result(two)
    verdicts = (sample.verdict(case=three), sample.verdict(case=one), sample.verdict(case=one))
    session = sample.session([(first, None), (lonely, None), (again, None), *((None, v) for v in verdicts)])
    assert rows.paired_with_verdicts(session) == (
        Judged(None, verdicts[0]),
        Judged(first, verdicts[1]),
        Judged(again, verdicts[2]),
        Judged(lonely, None),
    )
    assert [row.word for row in rows.rows(session)][-1] == "not judged"


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e300, float("inf"), float("nan")])
def test_extreme_figures_are_shown_without_failing(sample, value):
    estimate = Estimate(value=value)
    latency = Latency(count=1, mean=value, p50=estimate, p90=estimate, p95=estimate, p99=estimate)
    measurement = Measurement(
        latency=latency,
        throughput=value,
        cold_start=value,
        warm_up=WarmUp(calls=0, seconds=0.0, steady=False),
        memory=Memory(activations=10**18),
    )
    row = rows.row(Judged(sample.result(measurement=measurement), None))
    assert row.peak_memory == "1000000 TB"
    assert row.p50
    assert "inf" not in row.p50


def test_energy_co2e_and_cost_of_a_case(sample):
    pair = sample.spending(energy=sample.energy(), price=sample.price())
    (row,) = rows.rows(sample.session([pair]))
    assert (row.energy, row.co2e, row.cost) == ("12.3 mJ", "1.62 g", "3.31 USD")
    (row,) = rows.rows(sample.session([sample.spending(energy=sample.estimate())]))
    assert (row.energy, row.co2e, row.cost) == ("~12.3 mJ", "~1.62 g", "-")
    (row,) = rows.rows(sample.session([sample.pair()]))
    assert (row.energy, row.co2e, row.cost) == ("-", "-", "-")


@pytest.mark.parametrize(
    ("energy", "price", "columns"),
    [
        (False, False, ()),
        (True, False, ("energy",)),
        (False, True, ("cost",)),
        (True, True, ("energy", "cost")),
    ],
)
def test_a_figure_has_a_column_where_any_row_has_it(sample, energy, price, columns):
    spending = sample.spending(
        energy=sample.energy() if energy else None, price=sample.price() if price else None
    )
    shown = rows.rows(sample.session([sample.pair(), spending]))
    assert rows.expenses(shown) == columns
    assert rows.legend(shown) == ""


def test_an_estimate_brings_its_legend(sample):
    pairs = [sample.spending(energy=sample.energy()), sample.spending(energy=sample.estimate())]
    assert rows.legend(rows.rows(sample.session(pairs))) == (
        "~ an estimate, not measured: --infer-energy measures where a meter can be read"
    )


def test_workers_of_a_paired_run_cost_nothing(sample):
    """They serve nobody, whatever a file says of them."""
    time = sample.time(evidence="paired")
    pair = sample.spending(energy=sample.estimate(), price=sample.price(), comparisons=(time,))
    shown = rows.rows(sample.session([pair]))
    assert rows.expenses(shown) == ()
    assert rows.legend(shown) == ""


OVER = Verdict.OVER_BUDGET


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([], "-"),
        ([{}, {"metric": "p50_ms"}], "kept"),
        ([{"limit": 40.0, "verdict": OVER}], "over: p95_ms 43.4 ms > 40.0 ms"),
        (
            [{"metric": "throughput_per_s", "limit": 100.0, "value": 90.0, "verdict": OVER}],
            "under: throughput_per_s 90.0/s < 100/s",
        ),
        ([{"verdict": Verdict.INCONCLUSIVE}], "close: p95_ms 43.4 ms, limit 60.0 ms"),
        (
            [{"limit": 40.0, "verdict": OVER}, {"verdict": Verdict.INCONCLUSIVE}],
            "over: p95_ms 43.4 ms > 40.0 ms (and 1 more)",
        ),
        (
            [{"metric": "gflops", "limit": 2.0, "value": 2.5, "verdict": OVER}],
            "over: gflops 2.50 GFLOP > 2.00 GFLOP",
        ),
    ],
)
def test_budgets_in_words(sample, checks, expected):
    made = [sample.check(**fields) for fields in checks]
    assert rows.budget_words(made, sample.result()) == expected


def test_a_budget_that_nobody_could_check(sample):
    note = sample.note(
        "budget p99_ms was not decided: it needs 459 calls and has 120", code="budget-not-decided"
    )
    check = sample.check("p99_ms", 50.0, OVER, note=note)
    assert rows.budget_words([check]) == "not decided: p99_ms: it needs 459 calls and has 120"


def test_the_same_note_of_many_cases_is_one_group(sample):
    hidden, other = sample.note(), sample.note("page faults", "set malloc", code="faults")
    cases = [sample.case(batch_size=size) for size in (1, 2, 4)]
    pairs = [
        sample.pair(
            case, Verdict.NOT_MEASURED, {"outcome": Outcome.SKIPPED, "reason": hidden}, notes=(hidden,)
        )
        for case in cases
    ]
    measured = sample.case("t.py::test_other")
    pairs.insert(
        0, sample.pair(measured, result={"measurement": sample.measurement(notes=(other,))}, notes=(other,))
    )
    assert rows.grouped_notes(sample.session(pairs)) == (
        rows.NoteGroup(note=hidden, nodeids=tuple(case.name for case in cases)),
        rows.NoteGroup(note=other, nodeids=(measured.name,)),
    )


def test_hostile_names_are_spelt_out(sample):
    for row in rows.rows(sample.hostile_session()):
        assert all(text.isprintable() for text in (*shown(row), row.energy, row.co2e, row.cost))
    for group in rows.grouped_notes(sample.hostile_session()):
        assert str(group.note).isprintable()
        assert all(nodeid.isprintable() for nodeid in group.nodeids)
