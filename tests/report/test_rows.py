from __future__ import annotations

from sessions import MISSING, NOT_DECIDED, differs, judged, time, uncompared

from pytest_infergate.core.domain.measurement import Counters, Estimate, Latency, Measurement, Memory, WarmUp
from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.core.gate.merge import flat_session
from pytest_infergate.report import columns, cost_and_energy, rows
from pytest_infergate.report.rows import CaseParts, Row


def shown(row: Row) -> tuple[str, ...]:
    return row.nodeid, row.p50, row.p95, row.throughput, row.peak_memory, row.budget, row.verdict_text


def test_a_measured_case(sample):
    session = sample.session([sample.pair(budgets=(sample.check(),), result={"unit": "texts"})])
    (row,) = rows.rows(session)
    assert shown(row) == (
        "tests/test_model.py::test_embedder[cpu]",
        "40.0 ms",
        "43.4 ms",
        "25.0 texts/s",
        "125 MB",
        "met",
        "equivalent",
    )


def test_a_skipped_case_has_no_figures(sample):
    fields = {"outcome": Outcome.SKIPPED, "hardware": None, "reason": sample.note()}
    (row,) = rows.rows(sample.session([sample.pair(verdict=Verdict.NOT_MEASURED, result=fields)]))
    assert shown(row)[1:] == ("-", "-", "-", "-", "-", "not-measured")
    assert sample.note().text in row.message.title


def test_machines_that_have_one_description_are_distinguished_by_their_hash(sample):
    plain, older = (
        Hardware(cpu_model="Test CPU", isa=isa, cores=2) for isa in (("avx2", "avx512f"), ("avx2",))
    )
    other = Hardware(cpu_model="Test CPU", cores=1)
    sessions = [sample.session([sample.pair(result={"hardware": each})]) for each in (plain, older, other)]
    found = {row.machine for row in rows.rows(flat_session(sessions))}
    assert found == {
        "1 core of Test CPU",
        f"2 cores of Test CPU ({plain.id[-8:]})",
        f"2 cores of Test CPU ({older.id[-8:]})",
    }


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
        CaseParts(None, verdicts[0]),
        CaseParts(first, verdicts[1]),
        CaseParts(again, verdicts[2]),
        CaseParts(lonely, None),
    )
    assert [row.verdict_text for row in rows.rows(session)][-1] == "not judged"


def test_extreme_figures_are_shown_without_failing(sample):
    for value in (0.0, 5e-324, 1e300, float("inf"), float("nan")):
        estimate = Estimate(value=value)
        latency = Latency(count=1, mean=value, p50=estimate, p90=estimate, p95=estimate, p99=estimate)
        measurement = Measurement(
            latency=latency,
            throughput=value,
            cold_start=value,
            warm_up=WarmUp(calls=0, seconds=0.0, steady=False),
            memory=Memory(weights=0, activations=10**18),
        )
        row = rows.row(CaseParts(sample.result(measurement=measurement), None))
        assert row.peak_memory == "1000000 TB"
        assert row.p50, value
        assert "inf" not in row.p50


def test_energy_co2e_and_cost_of_a_case(sample):
    for pair, figures in (
        (
            sample.spending(energy=sample.energy(), price=sample.price()),
            ("12.3 mJ", "1.62 g", "3.31 USD", False),
        ),
        (sample.spending(energy=sample.estimate()), ("~12.3 mJ", "~1.62 g", "-", True)),
        (sample.pair(), ("-", "-", "-", False)),
    ):
        (row,) = rows.rows(sample.session([pair]))
        found = cost_and_energy.cost_and_energy(pair[0])
        assert (found.energy, found.co2e, found.cost, found.estimated) == figures
        assert (row.energy, row.cost, row.estimated) == (figures[0], *figures[2:])


def test_a_figure_has_a_column_where_any_row_has_it(sample):
    energy, price = sample.energy(), sample.price()
    for fields, keys in (
        ({}, ()),
        ({"energy": energy}, ("energy",)),
        ({"price": price}, ("cost",)),
        ({"energy": energy, "price": price}, ("energy", "cost")),
    ):
        shown = rows.rows(sample.session([sample.pair(), sample.spending(**fields)]))
        found = columns.case_columns(shown)
        assert tuple(column.key for column in found if column in (columns.ENERGY, columns.COST)) == keys
        assert columns.legend(found, shown) == ""


def test_an_estimate_brings_its_legend(sample):
    pairs = [sample.spending(energy=sample.energy()), sample.spending(energy=sample.estimate())]
    shown = rows.rows(sample.session(pairs))
    assert columns.legend(columns.case_columns(shown), shown).startswith("~ ")


def test_workers_of_a_paired_run_cost_nothing(sample):
    """They serve no demand, whatever a file says of them."""
    time = sample.time(evidence="paired")
    pair = sample.spending(energy=sample.estimate(), price=sample.price(), comparisons=(time,))
    shown = rows.rows(sample.session([pair]))
    found = columns.case_columns(shown)
    assert found == columns.PAIRED_COLUMNS == columns.case_columns((), paired=True)
    assert columns.legend(found, shown) == ""


def test_every_column_has_a_key_of_its_own_and_reads_every_row(sample):
    """The table begins with the name and ends with the verdict, which renderers show in their own way."""
    pairs = [sample.spending(energy=sample.estimate(), price=sample.price()), judged(sample), sample.pair()]
    shown = rows.rows(sample.session(pairs))
    for declared in (columns.COLUMNS, columns.PAIRED_COLUMNS):
        assert len({column.key for column in declared}) == len(declared)
        assert (declared[0], declared[-1]) == (columns.CASE, columns.VERDICT)
        for column in declared:
            assert all(isinstance(column.cell(row), str) and column.cell(row) for row in shown)


OVER = Verdict.OVER_BUDGET
BUDGETS = {
    "none": [],
    "kept": [{}, {"metric": "p50_ms"}],
    "over": [{"limit": 40.0, "verdict": OVER}],
    "under": [{"metric": "throughput_per_s", "limit": 100.0, "value": 90.0, "verdict": OVER}],
    "close": [{"verdict": Verdict.INCONCLUSIVE}],
    "over, and one close": [{"limit": 40.0, "verdict": OVER}, {"verdict": Verdict.INCONCLUSIVE}],
    "a counter": [{"metric": "gflops", "limit": 2.0, "value": 2.5, "verdict": OVER}],
}


def test_budgets_in_words(sample, snapshot):
    note = sample.note(NOT_DECIDED, code="budget-not-decided")
    undecided = {"metric": "p99_ms", "limit": 50.0, "verdict": OVER, "note": note}
    cases = {
        **BUDGETS,
        "not decided": [{**undecided, "missing": MISSING}],
        "not decided, in a file of 0.1": [undecided],
        "over, and one not decided": [{**undecided, "missing": MISSING}, {"limit": 40.0, "verdict": OVER}],
    }
    shown = {
        name: ": ".join(rows.budget_parts([sample.check(**fields) for fields in checks], sample.result()))
        or "-"
        for name, checks in cases.items()
    }
    assert "\n".join(f"{name}: {words}" for name, words in shown.items()) == snapshot


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
    groups = (
        rows.NoteGroup(note=hidden, nodeids=tuple(case.name for case in cases)),
        rows.NoteGroup(note=other, nodeids=(measured.name,)),
    )
    assert rows.grouped_notes(sample.session(pairs)) == groups
    # What no verdict covers comes first, however few cases have it.
    opaque = sample.note("outputs not compared: output (generator)", code="outputs-not-compared")
    last = sample.case("z.py::test_last")
    pairs.append(sample.pair(last, notes=(opaque,)))
    first = rows.NoteGroup(note=opaque, nodeids=(last.name,))
    assert rows.grouped_notes(sample.session(pairs)) == (first, *groups)


def noted(sample, *notes):
    """The groups of cases with these notes of their measurements."""
    pairs = [
        sample.pair(
            sample.case(f"t.py::test_{number}"), result={"measurement": sample.measurement(notes=each)}
        )
        for number, each in enumerate(notes)
    ]
    return rows.grouped_notes(sample.session(pairs))


def test_one_cause_of_many_cases_is_one_group(sample):
    """Whatever the figures of the cases are; other notes with different texts stay apart."""
    shares = [
        (sample.note(f"others took {share} %", "use an idle machine", code="cpu-contention"),)
        for share in (12, 30, 7)
    ]
    (group,) = noted(sample, *shares)
    assert group.nodeids == tuple(f"t.py::test_{number}[cpu]" for number in range(3))
    assert str(group.note) == "for instance, others took 12 % (use an idle machine)"
    assert len(noted(sample, *((sample.note(f"reason {number}"),) for number in range(3)))) == 3


def test_contention_of_a_case_is_noted_once(sample):
    """The note of the verdict says what it hides, in the message of the case."""
    taken = sample.note("others took 50 %", code="cpu-contention")
    hides = sample.note("1 session can detect x4", code="contended-time")
    for notes, codes in (((taken,), ["cpu-contention"]), ((), ["contended-time"])):
        undecided = sample.pair(
            verdict=Verdict.INCONCLUSIVE,
            result={"measurement": sample.measurement(notes=notes)},
            comparisons=(sample.time(Verdict.INCONCLUSIVE, note=hides),),
        )
        assert [group.note.code for group in rows.grouped_notes(sample.session([undecided]))] == codes


def test_one_time_limit_serves_all_cases_that_lack_time(sample):
    def lacks(code, seconds):
        return Note(code=code, text=f"no time: {code}", hint=f"raise it to {seconds}s", max_time=seconds)

    few = [lacks("time-limit", 20), lacks("time-limit", 80), lacks("time-limit", 40)]
    (alone,) = noted(sample, *((note,) for note in few))
    assert str(alone.note) == "no time: time-limit (raise it to 80s)"
    several = noted(sample, (few[0], lacks("tail-unseen", 300)), *((note,) for note in few[1:]))
    assert [(group.note.code, len(group.nodeids)) for group in several] == [
        ("time-limit", 3),
        ("time-limit", 3),
        ("tail-unseen", 1),
    ]
    hints = [group.note.hint for group in several]
    assert [hint for hint in hints if hint] == [
        "raise --infer-max-time or max_time in the marker to 5min or more"
    ]


def test_hostile_names_are_spelt_out(sample):
    for row in rows.rows(sample.hostile_session()):
        assert all(text.isprintable() for text in (*shown(row), row.energy, row.cost))
    for group in rows.grouped_notes(sample.hostile_session()):
        assert str(group.note).isprintable()
        assert all(nodeid.isprintable() for nodeid in group.nodeids)


# Paired runs


def time_of(pair):
    return rows.row(rows.CaseParts(*pair)).time


def test_a_row_says_what_was_and_what_is(sample):
    assert time_of(judged(sample, comparisons=(time(sample, Verdict.REGRESSED, 0.087),))) == rows.TimeChange(
        was="40.0 ms", now="43.5 ms", change="+8.7 %", interval="+7.7 % to +9.7 %", launches="7", paired=True
    )


def test_a_row_without_another_side_has_the_candidate_alone(sample):
    assert time_of(judged(sample, comparisons=(uncompared(sample, candidate=0.04),))) == rows.TimeChange(
        now="40.0 ms", paired=True
    )
    assert time_of(judged(sample, comparisons=(uncompared(sample),))) == rows.TimeChange(paired=True)


def test_an_interval_needs_both_ends(sample):
    for bound in ("low", "high"):
        found = time_of(judged(sample, comparisons=(time(sample, **{bound: None}),)))
        assert (found.change, found.interval) == ("+0.3 %", "-")


def test_only_a_time_is_compared_and_a_paired_one_comes_first(sample):
    for comparisons in ((sample.memory(),), (sample.counter(now=101),), (differs(sample),)):
        assert time_of(judged(sample, comparisons=comparisons)) is None
    assert time_of((sample.result(), None)) is None
    stored = time_of(judged(sample, comparisons=(sample.time(), sample.memory())))
    assert (stored.paired, stored.was, stored.launches) == (False, "40.0 ms", "-")
    corrected = time_of(judged(sample, comparisons=(sample.time(recorded=0.03),)))
    assert corrected.was == "40.0 ms (recorded 30.0 ms)"
    assert time_of(judged(sample, comparisons=(sample.time(), time(sample)))).paired


def test_a_stored_time_has_no_interval_of_a_paired_run(sample):
    """Tables of several machines may hold both: the bounds of a stored comparison have other levels."""
    shown = rows.rows(sample.session([judged(sample), judged(sample, comparisons=(sample.time(),))]))
    (interval,) = (column for column in columns.case_columns(shown) if column.key == "interval")
    assert [interval.cell(row) for row in shown] == ["-0.7 % to +1.3 %", "-"]


def test_counters_take_the_place_of_times_that_were_not_measured(sample):
    counters = Counters(totals={"operators": 1234, "flops": 2000, "bytecodes": 99})
    figures = {"latency": None, "throughput": None, "cold_start": None, "warm_up": None, "counters": counters}
    counted, skipped, timed = (
        rows.row(CaseParts(*sample.pair(**of)))
        for of in (
            {"result": {"measurement": sample.measurement(**figures)}},
            {"result": {"measurement": None}},
            {},
        )
    )
    assert (counted.operators, counted.flops, counted.bytecodes) == ("1,234", "2.00 kFLOP", "99")
    keys = ["case", "operators", "flops", "bytecodes", "peak_memory", "budget", "verdict"]
    assert [column.key for column in columns.case_columns([counted, skipped])] == keys
    assert [column.key for column in columns.case_columns([counted], paired=True)] == keys
    both = [column.key for column in columns.case_columns([counted, timed])]
    assert {"p50", "throughput", "operators"} <= set(both)
    assert "operators" not in [column.key for column in columns.case_columns([timed, skipped])]
