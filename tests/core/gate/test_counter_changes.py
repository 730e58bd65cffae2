from itertools import product

import pytest
from core_values import HARDWARE, case, counted, measurement, result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from operator_rows import operator_rows, work

from pytest_infergate.core.domain.measurement import Counters
from pytest_infergate.core.domain.metrics import COUNTERS
from pytest_infergate.core.domain.outcome import Cause, Comparison, Outcome, Verdict
from pytest_infergate.core.domain.places import MAX_PLACES
from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import counter_changes
from pytest_infergate.core.gate.counter_changes import MAX_CAUSES, merge_records

MIB = 1024**2
EVERYWHERE = CounterKey()
SOFTWARE = CounterKey(torch="2.13.0", architecture="AVX2")
MACHINE = CounterKey(torch="2.13.0", architecture="AVX2", threads=2)
ACCELERATED = replace(HARDWARE, accelerator="Test GPU", accelerator_count=1)


def tally(key=SOFTWARE, rows=(), /, **found):
    return Tally(key=key, counters=found, operators=tuple(rows))


def on_record(*tallies):
    return CounterRecord(case=case(), tallies=tallies)


def taken(found, *, torch="2.13.0", hardware=HARDWARE, **fields):
    """The record of a measured case with these counters."""
    measured = measurement(counters=found, **fields)
    return counter_changes.counter_record(result(measurement=measured, hardware=hardware), torch)


def found_under(record):
    """The tallies that hold something."""
    return [each for each in record.tallies if each.counters or each.operators]


def compared(before, now, tolerance=None, memory_tolerance=0.01):
    return counter_changes.compare_counters(before, now, tolerance or {}, memory_tolerance)


def one(name, before, now, tolerance=None, memory_tolerance=0.01):
    """The row of a counter that stands alone under one key on both sides."""
    (row,) = compared(
        on_record(tally(**{name: before})), on_record(tally(**{name: now})), tolerance, memory_tolerance
    )
    return row


# --- what goes under which key -----------------------------------------------------------------------

EVERY = counted(**dict.fromkeys(sorted(COUNTERS.keys() - {"gflops"}), 7))
ANYWHERE = {"flops", "weight_bytes", "host_device_copies", "graphs", "graph_breaks", "recompiles"}
THREADED = {"allocations", "peak_memory_bytes"}
PYTHONIC = {"python_calls", "bytecodes"}


def names(record):
    return {each.key: set(each.counters) for each in record.tallies}


def test_every_counter_goes_under_one_key():
    assert names(taken(replace(EVERY, python="3.11"))) == {
        EVERYWHERE: ANYWHERE,
        SOFTWARE: EVERY.totals.keys() - ANYWHERE - THREADED - PYTHONIC,
        MACHINE: THREADED,
        CounterKey(torch="2.13.0", python="3.11"): PYTHONIC,
    }


def test_a_record_holds_the_case_and_the_figures():
    made = taken(counted(flops=1000, operators=10, allocations=3))
    assert made == on_record(
        tally(EVERYWHERE, flops=1000), tally(SOFTWARE, operators=10), tally(MACHINE, allocations=3)
    )


def test_every_key_of_the_machine_is_there():
    for found in [counted(flops=1), counted(allocations=1), Counters(architecture="AVX2")]:
        made = taken(found)
        assert [each.key for each in made.tallies] == [EVERYWHERE, SOFTWARE, MACHINE], found
        assert {
            name: value for each in made.tallies for name, value in each.counters.items()
        } == found.totals, found


def test_the_build_of_torch_is_not_part_of_a_key():
    for torch, version in [
        ("2.13.0", "2.13.0"),
        ("2.13.0+cpu", "2.13.0"),
        ("2.13.0+cu130", "2.13.0"),
        (None, None),
    ]:
        (made,) = found_under(taken(counted(operators=1), torch=torch))
        assert made.key == CounterKey(torch=version, architecture="AVX2"), (torch, version)


def test_an_unknown_architecture_is_absent():
    (made,) = found_under(taken(Counters(totals={"operators": 1})))
    assert made.key == CounterKey(torch="2.13.0")


def test_threads_count_where_the_processor_works():
    for hardware, threads, expected in [
        (HARDWARE, 2, 2),
        (HARDWARE, None, None),
        (None, 2, 2),
        (ACCELERATED, 2, None),
    ]:
        (made,) = found_under(taken(counted(allocations=3), hardware=hardware, threads=threads))
        assert made == tally(replace(SOFTWARE, threads=expected), allocations=3), (
            hardware,
            threads,
            expected,
        )


def test_on_an_accelerator_nothing_is_lost_though_two_keys_are_one():
    rows = (work(calls=10),)
    found = replace(counted(operators=10, allocations=3), operators=rows)
    made = taken(found, hardware=ACCELERATED)
    assert made == on_record(tally(EVERYWHERE), Tally(key=SOFTWARE, counters=found.totals, operators=rows))


def test_where_nothing_is_known_of_the_machine_nothing_is_lost_though_all_keys_are_one():
    found = Counters(totals={"flops": 1, "operators": 2, "allocations": 3}, operators=(work(),))
    (made,) = taken(found, torch=None, threads=None).tallies
    assert made == Tally(key=EVERYWHERE, counters=found.totals, operators=found.operators)


def test_a_total_that_varies_has_no_figure():
    found = replace(counted(flops=1, operators=10), varying={"operators": (9, 10)})
    assert taken(found) == on_record(tally(EVERYWHERE, flops=1), tally(operators=None), tally(MACHINE))


def test_weights_are_recorded_by_dtype():
    found = replace(counted(weight_bytes=12), weights={"float32": 8, "int8": 4})
    parts = {"weight_bytes": 12, "weight_bytes float32": 8, "weight_bytes int8": 4}
    assert taken(found) == on_record(Tally(key=EVERYWHERE, counters=parts), tally(), tally(MACHINE))


def test_parts_of_weights_need_their_sum():
    made = taken(replace(counted(flops=1), weights={"float32": 8}))
    assert made == on_record(tally(EVERYWHERE, flops=1), tally(), tally(MACHINE))


def test_operators_stand_with_the_software_that_chose_them():
    rows = (work(place="layers.{0-3}"),)
    made = taken(replace(counted(flops=1, allocations=3), operators=rows))
    assert [(each.key, each.operators) for each in made.tallies] == [
        (EVERYWHERE, ()),
        (SOFTWARE, rows),
        (MACHINE, ()),
    ]


def test_without_totals_there_are_still_operators():
    rows = (work(),)
    made = taken(Counters(architecture="AVX2", operators=rows))
    assert made == on_record(tally(EVERYWHERE), tally(SOFTWARE, rows), tally(MACHINE))


def test_only_measured_cases_have_a_record():
    for outcome in [outcome for outcome in Outcome if outcome is not Outcome.MEASURED]:
        assert (
            counter_changes.counter_record(result(outcome, measurement=measurement(counters=EVERY)), "2.13.0")
            is None
        ), outcome


def test_without_a_measurement_there_is_no_record():
    assert counter_changes.counter_record(result(measurement=None), "2.13.0") is None


# --- records joined ----------------------------------------------------------------------------------


def test_the_first_record_is_taken_as_it_is():
    new = on_record(tally(EVERYWHERE, flops=1), tally(operators=2), tally(MACHINE, allocations=3))
    assert merge_records(None, new) == new


def test_tallies_are_sorted_by_machine():
    keys = [
        replace(SOFTWARE, architecture="AVX512"),
        MACHINE,
        replace(MACHINE, threads=1),
        SOFTWARE,
        EVERYWHERE,
    ]
    joined = merge_records(None, on_record(*(tally(key, operators=1) for key in keys)))
    assert [each.key for each in joined.tallies] == [
        EVERYWHERE,
        SOFTWARE,
        replace(MACHINE, threads=1),
        MACHINE,
        replace(SOFTWARE, architecture="AVX512"),
    ]


def test_what_holds_nothing_is_not_kept():
    empty, rows = tally(EVERYWHERE), tally(SOFTWARE, [work()])
    assert merge_records(None, on_record(empty, rows, tally(MACHINE))) == on_record(rows)
    assert merge_records(None, on_record(empty)) == on_record()


def test_new_figures_take_the_place_of_any_torch_on_the_same_machine():
    for torch in ["2.12.0", "2.13.0", "2.14.0", None]:
        old = on_record(
            tally(EVERYWHERE, flops=9, graphs=9),
            tally(replace(SOFTWARE, torch=torch), operators=9),
            tally(replace(MACHINE, torch=torch), allocations=9),
        )
        new = on_record(tally(EVERYWHERE, flops=1), tally(operators=2), tally(MACHINE, allocations=3))
        assert merge_records(old, new) == new, torch


def test_figures_of_another_machine_stay():
    for elsewhere in [
        CounterKey(torch="2.13.0", architecture="AVX512"),
        CounterKey(torch="2.13.0", architecture="AVX2", threads=4),
        CounterKey(torch="2.13.0"),
    ]:
        kept = tally(elsewhere, operators=9)
        joined = merge_records(on_record(tally(operators=1), kept), on_record(tally(operators=2)))
        assert sorted(joined.tallies, key=lambda each: each.counters["operators"]) == [
            tally(operators=2),
            kept,
        ], elsewhere


def test_what_goes_everywhere_is_no_machine_of_its_own():
    unknown, everywhere = tally(CounterKey(torch="2.13.0"), operators=1), tally(EVERYWHERE, flops=1)
    assert set(map(repr, merge_records(on_record(unknown), on_record(everywhere)).tallies)) == {
        repr(unknown),
        repr(everywhere),
    }


def test_a_record_joined_again_changes_nothing():
    old = on_record(tally(replace(SOFTWARE, architecture="AVX512"), operators=9))
    once = merge_records(old, taken(EVERY))
    assert merge_records(once, taken(EVERY)) == once


# --- verdicts ----------------------------------------------------------------------------------------


def test_an_equal_counter():
    row = one("operators", 10, 10)
    assert (type(row.baseline), type(row.candidate)) == (float, float)
    assert row == Comparison(
        metric="operators",
        verdict=Verdict.EQUIVALENT,
        evidence="exact",
        baseline=10,
        candidate=10,
        effect=0.0,
        tolerance=0.0,
        sessions=1,
    )


def test_one_more_or_less_counts():
    for name, (now, verdict) in product(
        sorted(COUNTERS.keys() - {"gflops", "peak_memory_bytes", "views"} - PYTHONIC),
        [(1001, Verdict.REGRESSED), (999, Verdict.IMPROVED)],
    ):
        row = one(name, 1000, now)
        assert row.verdict is verdict, (name, now, verdict)
        assert row.effect == pytest.approx((now - 1000) / 1000), (name, now, verdict)


def test_small_edits_of_python_code_are_tolerated_and_quadratic_loops_are_not():
    for name, before, now, tolerance, verdict in [
        ("bytecodes", 20_000, 22_000, {}, Verdict.EQUIVALENT),
        ("bytecodes", 20_000, 22_001, {}, Verdict.REGRESSED),
        ("bytecodes", 20_000, 17_999, {}, Verdict.IMPROVED),
        ("bytecodes", 40, 1_040, {}, Verdict.EQUIVALENT),
        ("bytecodes", 40, 1_041, {}, Verdict.REGRESSED),
        ("python_calls", 2000, 2200, {}, Verdict.EQUIVALENT),
        ("python_calls", 2000, 2201, {}, Verdict.REGRESSED),
        ("python_calls", 1, 101, {}, Verdict.EQUIVALENT),
        ("python_calls", 1, 102, {}, Verdict.REGRESSED),
        ("bytecodes", 20_000, 20_001, {"bytecodes": 0.0}, Verdict.REGRESSED),
        ("bytecodes", 20_000, 21_001, {"bytecodes": 0.05}, Verdict.REGRESSED),
        ("bytecodes", 20_000, 22_001, {"counters": 0.2}, Verdict.EQUIVALENT),
        ("bytecodes", 20_000, 22_000, {"counters": 0.0}, Verdict.EQUIVALENT),
    ]:
        row = one(name, before, now, tolerance)
        assert row.verdict is verdict, (name, before, now, tolerance)


def test_a_tolerance_that_is_off_excludes_the_work_of_python():
    for tolerance in ({"bytecodes": None}, {"counters": None}):
        assert compared(on_record(tally(bytecodes=1)), on_record(tally(bytecodes=9999)), tolerance) == ()


def test_the_work_of_python_compares_within_one_version_of_it():
    before, now = (taken(replace(counted(bytecodes=50), python=python)) for python in ("3.11", "3.12"))
    (row,) = compared(before, now)
    assert row.verdict is Verdict.INCOMPARABLE
    assert row.note.text == "Python bytecodes recorded with Python 3.11, this is Python 3.12"


def test_counters_from_before_the_work_of_python_was_counted():
    before, now = (
        taken(counted(operators=4)),
        taken(replace(counted(operators=4, bytecodes=9), python="3.11")),
    )
    assert [(row.metric, row.verdict) for row in compared(before, now)] == [
        ("operators", Verdict.EQUIVALENT),
        ("counters", Verdict.NO_BASELINE),
    ]


def test_a_lower_bound_decides_only_that_a_counter_grew():
    key = CounterKey(torch="2.13.0", python="3.11")
    now = taken(replace(counted(), python="3.11", at_least={"bytecodes": 5000}))
    for known, verdict in [
        (3000, Verdict.REGRESSED),
        (4700, Verdict.INCOMPARABLE),
        (9000, Verdict.INCOMPARABLE),
    ]:
        (row,) = compared(on_record(tally(key, bytecodes=known)), now)
        assert row.verdict is verdict, known
    assert compared(None, now) == ()
    assert not found_under(merge_records(None, now))


def test_a_tolerance_is_a_share_of_what_is_on_record():
    for allowed, now, verdict in [
        (0.05, 1050, Verdict.EQUIVALENT),
        (0.05, 1051, Verdict.REGRESSED),
        (0.05, 950, Verdict.EQUIVALENT),
        (0.05, 949, Verdict.IMPROVED),
        (0.0, 1001, Verdict.REGRESSED),
        (2.0, 3000, Verdict.EQUIVALENT),
        (2.0, 3001, Verdict.REGRESSED),
    ]:
        row = one("operators", 1000, now, {"operators": allowed})
        assert row.verdict is verdict, (allowed, now, verdict)
        assert row.tolerance == allowed, (allowed, now, verdict)


def test_a_tolerance_in_whole_per_cent_allows_itself_and_no_more():
    for percent in range(101):
        allowed = {"counters": percent / 100}
        assert one("operators", 100, 100 + percent, allowed).verdict is Verdict.EQUIVALENT, percent
        assert one("operators", 100, 101 + percent, allowed).verdict is Verdict.REGRESSED, percent


def test_a_tolerance_allows_itself_of_large_counts_too():
    # 0.29 * 1.5e9 is 434999999.99999994 in binary.
    allowed = {"counters": 0.29}
    assert one("flops", 1_500_000_000, 1_935_000_000, allowed).verdict is Verdict.EQUIVALENT
    assert one("flops", 1_500_000_000, 1_935_000_001, allowed).verdict is Verdict.REGRESSED


def test_of_nothing_there_is_no_share():
    for now, verdict in [(0, Verdict.EQUIVALENT), (1, Verdict.REGRESSED)]:
        row = one("graph_breaks", 0, now, {"counters": 5.0})
        assert row.verdict is verdict, (now, verdict)
        assert row.effect is None, (now, verdict)


def test_to_nothing_is_an_improvement():
    row = one("graph_breaks", 3, 0)
    assert row.verdict is Verdict.IMPROVED
    assert row.effect == -1.0


def test_a_tolerance_for_all_counters_gives_way_to_one_by_name():
    both = {"counters": 0.5, "flops": 0.0}
    before, now = on_record(tally(flops=10, operators=10)), on_record(tally(flops=11, operators=11))
    assert {row.metric: (row.verdict, row.tolerance) for row in compared(before, now, both)} == {
        "flops": (Verdict.REGRESSED, 0.0),
        "operators": (Verdict.EQUIVALENT, 0.5),
    }


def test_ungated_counters_are_left_out():
    for tolerance, left in [
        ({"operators": None}, {"flops", "peak_memory_bytes"}),
        ({"counters": None}, {"peak_memory_bytes"}),
        ({"memory": None}, {"flops", "operators"}),
        ({"counters": None, "flops": 0.0}, {"flops", "peak_memory_bytes"}),
        ({"counters": None, "memory": None}, set()),
    ]:
        before = on_record(tally(flops=10, operators=10, peak_memory_bytes=MIB))
        now = on_record(tally(flops=11, operators=11, peak_memory_bytes=9 * MIB))
        assert {row.metric for row in compared(before, now, tolerance)} == left, (tolerance, left)


def test_views_are_gated_where_the_author_names_them():
    before, now = on_record(tally(views=10)), on_record(tally(views=11))
    assert compared(before, now) == ()
    assert compared(before, now, {"counters": 0.0}) == ()
    assert compared(None, now, {"counters": 0.0}) == ()
    (row,) = compared(before, now, {"views": 0.0})
    assert row.verdict is Verdict.REGRESSED


def test_parts_of_weights_are_not_judged_beside_their_sum():
    before = Tally(key=EVERYWHERE, counters={"weight_bytes": 8, "weight_bytes float32": 8})
    now = Tally(key=EVERYWHERE, counters={"weight_bytes": 8, "weight_bytes int8": 8})
    (row,) = compared(on_record(before), on_record(now))
    assert (row.metric, row.verdict) == ("weight_bytes", Verdict.EQUIVALENT)


def test_peak_memory_on_both_sides_of_the_allowance():
    for before, now, tolerance, verdict in [
        # 1 % of 500 MiB is more than the least that counts.
        (500 * MIB, 505 * MIB, 0.01, Verdict.EQUIVALENT),
        (500 * MIB, 505 * MIB + 1, 0.01, Verdict.REGRESSED),
        (500 * MIB, 495 * MIB, 0.01, Verdict.EQUIVALENT),
        (500 * MIB, 495 * MIB - 1, 0.01, Verdict.IMPROVED),
        # 1 % of 10 MiB is less: 1 MiB counts.
        (10 * MIB, 11 * MIB, 0.01, Verdict.EQUIVALENT),
        (10 * MIB, 11 * MIB + 1, 0.01, Verdict.REGRESSED),
        (10 * MIB, 11 * MIB + 1, 0.0, Verdict.REGRESSED),
        (0, MIB, 0.01, Verdict.EQUIVALENT),
        (0, MIB + 1, 0.01, Verdict.REGRESSED),
    ]:
        row = one("peak_memory_bytes", before, now, memory_tolerance=tolerance)
        assert (row.verdict, row.tolerance) == (verdict, tolerance), (before, now, tolerance, verdict)
        assert row.effect == ((now - before) / before if before else None), (before, now, tolerance, verdict)


def test_peak_memory_is_tolerated_as_memory():
    for tolerance, allowed in [
        ({}, 0.01),
        ({"memory": 0.2}, 0.2),
        ({"counters": 0.5}, 0.01),
        ({"peak_memory_bytes": 0.5}, 0.01),
    ]:
        assert one("peak_memory_bytes", 500 * MIB, 500 * MIB, tolerance).tolerance == allowed, (
            tolerance,
            allowed,
        )


def test_recording_anew_settles_what_is_no_longer_counted():
    before, now = taken(counted(flops=1, allocations=2)), taken(counted(flops=1))
    assert [row.verdict for row in compared(before, now)] == [Verdict.EQUIVALENT, Verdict.INCOMPARABLE]
    assert compared(merge_records(before, now), now) == (one("flops", 1, 1),)


def test_recording_anew_settles_that_nothing_is_counted():
    before, now = taken(counted(flops=1, operators=2, allocations=2)), taken(Counters(architecture="AVX2"))
    assert [row.verdict for row in compared(before, now)] == [Verdict.INCOMPARABLE]
    assert merge_records(before, now) == on_record()
    assert compared(merge_records(before, now), now) == ()


# --- what does not compare ---------------------------------------------------------------------------


def unsettled(verdict):
    """A row for counters without a verdict of their own, without its words."""
    code = "no-counters" if verdict is Verdict.NO_BASELINE else "incomparable"
    return Comparison(metric="counters", verdict=verdict, evidence="exact", note=Note(code=code, text=""))


def wordless(rows):
    return tuple(
        replace(row, note=replace(row.note, text="", hint="")) if row.note is not None else row
        for row in rows
    )


def notes(rows):
    return [str(row.note) for row in rows if row.note is not None]


def test_without_a_record_one_row_says_what_is_missing(snapshot):
    now = on_record(tally(EVERYWHERE, flops=1), tally(operators=2, bytes_read=3), tally(MACHINE, views=4))
    rows = compared(None, now)
    assert wordless(rows) == (unsettled(Verdict.NO_BASELINE),)
    assert notes(rows) == snapshot


def test_without_a_record_no_ungated_counter_is_missing():
    assert compared(None, on_record(tally(views=4, operators=1)), {"counters": None}) == ()
    assert compared(None, None) == ()


def test_new_counters_are_not_on_record(snapshot):
    now = on_record(tally(operators=2, bytes_read=3), tally(MACHINE, allocations=4))
    rows = compared(on_record(tally(operators=2)), now)
    assert wordless(rows) == (one("operators", 2, 2), unsettled(Verdict.NO_BASELINE))
    assert notes(rows) == snapshot


def test_lost_counters_are_incomparable(snapshot):
    before = on_record(tally(operators=2, bytes_read=3, views=1))
    for now, kept in [
        (None, ()),
        (on_record(), ()),
        (on_record(tally(operators=2)), (one("operators", 2, 2),)),
    ]:
        rows = compared(before, now)
        assert wordless(rows) == (*kept, unsettled(Verdict.INCOMPARABLE)), now
        assert notes(rows) == snapshot, now


def test_another_key_is_incomparable_and_says_why(snapshot):
    said = []
    for old, new in [
        (SOFTWARE, replace(SOFTWARE, torch="2.14.0")),
        (replace(SOFTWARE, torch=None), SOFTWARE),
        (SOFTWARE, replace(SOFTWARE, torch=None)),
        (SOFTWARE, replace(SOFTWARE, architecture="AVX512")),
        (replace(SOFTWARE, architecture=None), SOFTWARE),
        (SOFTWARE, replace(SOFTWARE, architecture=None)),
        (MACHINE, replace(MACHINE, threads=4)),
        (SOFTWARE, MACHINE),
        (MACHINE, SOFTWARE),
        # Where several differ, the first says enough.
        (MACHINE, CounterKey(torch="2.14.0", architecture="sm_90")),
        (MACHINE, CounterKey(torch="2.13.0", architecture="sm_90")),
    ]:
        rows = compared(on_record(tally(old, operators=1)), on_record(tally(new, operators=2)))
        assert wordless(rows) == (unsettled(Verdict.INCOMPARABLE),), (old, new)
        said += notes(rows)
    assert said == snapshot


def test_of_several_machines_on_record_the_last_is_named(snapshot):
    before = on_record(*(tally(replace(MACHINE, threads=threads), allocations=1) for threads in (1, 4)))
    (row,) = compared(before, on_record(tally(MACHINE, allocations=1)))
    assert row.note.text == snapshot


def test_one_row_says_all_that_one_difference_keeps_apart(snapshot):
    before = on_record(
        tally(operators=1, bytes_read=1, views=1), tally(MACHINE, allocations=1), tally(EVERYWHERE, flops=1)
    )
    after = [replace(key, torch="2.14.0") for key in (SOFTWARE, MACHINE)]
    now = on_record(
        tally(EVERYWHERE, flops=1),
        tally(after[0], operators=2, bytes_read=2, views=2),
        tally(after[1], allocations=2),
    )
    rows = compared(before, now)
    assert wordless(rows) == (one("flops", 1, 1), unsettled(Verdict.INCOMPARABLE))
    assert notes(rows) == snapshot


def test_each_difference_has_its_row(snapshot):
    before = on_record(tally(replace(SOFTWARE, torch="2.12.0"), operators=1), tally(MACHINE, allocations=1))
    now = on_record(tally(operators=1), tally(replace(MACHINE, threads=4), allocations=1))
    assert [row.note.text for row in compared(before, now)] == snapshot


def test_of_several_machines_on_record_the_own_one_compares():
    keys = [replace(MACHINE, threads=threads) for threads in (1, 2, 4)]
    before = on_record(*(tally(key, allocations=key.threads) for key in keys))
    assert compared(before, on_record(tally(MACHINE, allocations=2))) == (one("allocations", 2, 2),)


def test_what_varies_is_left_out():
    for before, now in [(None, 5), (5, None), (None, None)]:
        assert compared(on_record(tally(operators=before)), on_record(tally(operators=now))) == (), (
            before,
            now,
        )


def test_what_varied_under_another_key_is_left_out():
    for now in [5, None]:
        other = replace(MACHINE, threads=4)
        assert (
            compared(on_record(tally(other, allocations=None)), on_record(tally(MACHINE, allocations=now)))
            == ()
        ), now


def test_what_varies_under_its_own_key_is_not_sought_under_another():
    before = on_record(tally(MACHINE, allocations=None), tally(replace(MACHINE, threads=4), allocations=5))
    assert compared(before, on_record(tally(MACHINE, allocations=5))) == ()


def test_what_varies_now_is_not_lost():
    before = on_record(tally(replace(MACHINE, threads=4), allocations=5))
    assert compared(before, on_record(tally(MACHINE, allocations=None))) == ()


def test_a_difference_is_named_by_a_key_with_a_figure(snapshot):
    before = on_record(
        tally(replace(MACHINE, threads=4), allocations=5),
        tally(replace(MACHINE, threads=8), allocations=None),
    )
    (row,) = compared(before, on_record(tally(MACHINE, allocations=5)))
    assert row.note.text == snapshot


def test_reasons_use_the_words_of_the_counters(snapshot):
    every = {name: 1 for name in COUNTERS if name not in ("gflops", "views")}
    (row,) = compared(None, on_record(tally(unheard_of=1, **every)))
    assert str(row.note) == snapshot


def test_what_varied_on_record_and_is_gone_is_not_missed():
    assert compared(on_record(tally(operators=None, flops=1)), on_record(tally(flops=1))) == (
        one("flops", 1, 1),
    )


def test_rows_stand_in_the_order_of_the_counters():
    every = {name: 5 for name in reversed(COUNTERS) if name != "gflops"}
    before = on_record(tally(lost_counter=1, **every))
    now = on_record(tally(new_counter=1, **every))
    rows = compared(before, now, {"views": 0.0})
    assert [row.metric for row in rows] == [
        *(name for name in COUNTERS if name != "gflops"),
        *["counters"] * 2,
    ]
    assert [row.verdict for row in rows[-2:]] == [Verdict.NO_BASELINE, Verdict.INCOMPARABLE]


# --- who moved it ------------------------------------------------------------------------------------


STAYS = work("aten::relu")


def causes(before, now, name="operators", totals=(1, 2)):
    """Causes of a counter that moved, by default to more, with these operators beside one that stays."""
    old, new = (
        on_record(tally(SOFTWARE, [STAYS, *rows], **{name: total}))
        for rows, total in zip((before, now), totals, strict=True)
    )
    (row,) = compared(old, new)
    return row.causes


ADDMM = work("aten::addmm", "layers.{0-3}", calls=2)


def test_an_operator_that_came_is_the_cause():
    clone = work("aten::clone", "layers.{0-3}")
    assert causes([ADDMM], [ADDMM, clone]) == (
        Cause(operator="aten::clone", place="layers.{0-3}", change=4, calls=4, share=1.0),
    )


def test_an_operator_that_went_is_the_cause_of_less():
    clone = work("aten::clone", "layers.{0-3}")
    assert causes([ADDMM, clone], [ADDMM], totals=(2, 1)) == (
        Cause(operator="aten::clone", place="layers.{0-3}", change=-4, calls=-4, share=1.0),
    )


def test_the_largest_share_comes_first():
    now = [work("aten::add", "head", calls=1), work("aten::clone", "body", calls=3)]
    assert causes([], now) == (
        Cause(operator="aten::clone", place="body", change=3, calls=3, share=0.75),
        Cause(operator="aten::add", place="head", change=1, calls=1, share=0.25),
    )


def test_who_moved_against_the_counter_is_no_cause():
    before = [work("aten::add", calls=5), work("aten::clone", calls=1)]
    now = [work("aten::add", calls=4), work("aten::clone", calls=3)]
    assert causes(before, now) == (Cause(operator="aten::clone", change=2, calls=2, share=1.0),)


def test_one_place_out_of_several_is_named():
    now = [work("aten::addmm", "layers.{0-2}", calls=2), work("aten::addmm", "layers.3", calls=5)]
    assert causes([ADDMM], now) == (
        Cause(operator="aten::addmm", place="layers.3", change=3, calls=3, share=1.0),
    )


def test_places_that_are_grouped_otherwise_and_do_the_same_are_no_cause():
    now = [work("aten::addmm", f"layers.{index}", calls=2) for index in range(4)]
    assert causes([ADDMM], now) == ()


def test_a_place_that_was_renamed_is_a_cause_by_its_new_name():
    assert causes([work(place="old")], [work(place="new")]) == (
        Cause(operator="aten::addmm", place="new", change=1, calls=1, share=1.0),
    )


def test_equal_shares_are_sorted_by_operator_and_place():
    now = [work("aten::mul", "a"), work("aten::add", "b"), work("aten::add", "a")]
    assert [(cause.operator, cause.place) for cause in causes([], now)] == [
        ("aten::add", "a"),
        ("aten::add", "b"),
        ("aten::mul", "a"),
    ]


def test_only_so_many_causes_are_kept():
    now = [work(place=f"part{index:02}") for index in range(MAX_CAUSES + 1)]
    found = causes([], now)
    assert [cause.place for cause in found] == [f"part{index:02}" for index in range(MAX_CAUSES)]
    assert {cause.share for cause in found} == {1 / (MAX_CAUSES + 1)}


def test_places_beyond_the_bound_are_moved_as_one():
    many = f"layers.{{0-{MAX_PLACES}}}"
    (cause,) = causes([work(place=many)], [work(place=many, calls=3)])
    assert cause == Cause(
        operator="aten::addmm", place=many, change=2 * (MAX_PLACES + 1), calls=2 * (MAX_PLACES + 1), share=1.0
    )


MIXED = [
    work("aten::mm", calls=1, flops=10, bytes=100),
    work("aten::_to_copy", calls=2, bytes=200),
    work("aten::copy_", calls=3, bytes=300),
    work("aten::_local_scalar_dense", calls=4, bytes=8),
    work("Tensor.cpu", calls=5),
]


def test_each_counter_asks_for_its_own_figure():
    for name, changes in [
        ("flops", {"aten::mm": 10}),
        (
            "operators",
            {"aten::_local_scalar_dense": 4, "aten::copy_": 3, "aten::_to_copy": 2, "aten::mm": 1},
        ),
        (
            "host_device_copies",
            {"Tensor.cpu": 5, "aten::_local_scalar_dense": 4, "aten::copy_": 3, "aten::_to_copy": 2},
        ),
        ("dtype_casts", {"aten::copy_": 3, "aten::_to_copy": 2}),
        (
            "bytes_read",
            {"aten::copy_": 300, "aten::_to_copy": 200, "aten::mm": 100, "aten::_local_scalar_dense": 8},
        ),
        (
            "bytes_written",
            {"aten::copy_": 300, "aten::_to_copy": 200, "aten::mm": 100, "aten::_local_scalar_dense": 8},
        ),
        (
            "allocations",
            {"aten::_local_scalar_dense": 4, "aten::copy_": 3, "aten::_to_copy": 2, "aten::mm": 1},
        ),
        ("graphs", {}),
        ("graph_breaks", {}),
        ("recompiles", {}),
        ("kernel_launches", {}),
        ("synchronisations", {}),
        ("memcpys", {}),
    ]:
        found = causes([], MIXED, name)
        assert [(cause.operator, cause.change) for cause in found] == list(changes.items()), (name, changes)
        assert sum(cause.share for cause in found) == pytest.approx(1.0 if changes else 0.0), (name, changes)


def test_memory_is_moved_by_the_bytes_of_operators():
    (cause,) = causes([], [work(bytes=9 * MIB)], "peak_memory_bytes", (MIB, 9 * MIB))
    assert (cause.operator, cause.change) == ("aten::addmm", 9 * MIB)


def weights(total, **parts):
    sizes = {f"weight_bytes {dtype}": size for dtype, size in parts.items()}
    return on_record(Tally(key=EVERYWHERE, counters={"flops": 1, "weight_bytes": total, **sizes}))


def test_weights_are_moved_by_their_dtypes():
    for before, now, found in [
        (weights(8, float16=8), weights(16, float32=16), [("float32", 16, 1.0)]),
        (weights(16, float32=16), weights(8, float16=8), [("float32", -16, 1.0)]),
        (weights(8, float32=8), weights(12, float32=11, int8=1), [("float32", 3, 0.75), ("int8", 1, 0.25)]),
        (weights(8), weights(12), []),
    ]:
        (row,) = [row for row in compared(before, now) if row.metric == "weight_bytes"]
        assert [(cause.operator, cause.change, cause.share) for cause in row.causes] == found, (
            before,
            now,
            found,
        )


def test_what_did_not_move_beyond_its_tolerance_has_no_cause():
    before, now = (
        on_record(tally(SOFTWARE, [work(calls=10)], operators=10)),
        on_record(tally(SOFTWARE, [work(calls=11)], operators=11)),
    )
    assert compared(before, now)[0].causes
    assert not compared(before, now, {"operators": 0.1})[0].causes


def test_operators_under_other_keys_name_no_cause():
    for key in [replace(SOFTWARE, torch="2.12.0"), replace(SOFTWARE, architecture="AVX512")]:
        before = on_record(tally(EVERYWHERE, flops=1), tally(key, [work(flops=1)], operators=1))
        now = on_record(tally(EVERYWHERE, flops=2), tally(SOFTWARE, [work(flops=2)], operators=1))
        flops = compared(before, now)[0]
        assert (flops.metric, flops.verdict, flops.causes) == ("flops", Verdict.REGRESSED, ()), key


def test_operators_on_one_side_only_name_no_cause():
    for side in ["before", "now"]:
        rows = [work(flops=1)]
        before = on_record(
            tally(EVERYWHERE, flops=1), tally(SOFTWARE, rows if side == "before" else (), operators=1)
        )
        now = on_record(
            tally(EVERYWHERE, flops=2), tally(SOFTWARE, rows if side == "now" else (), operators=1)
        )
        assert compared(before, now)[0].causes == (), side


def test_operators_of_the_software_explain_counters_of_every_key():
    before = on_record(
        tally(EVERYWHERE, flops=1),
        tally(SOFTWARE, [work(flops=1)], operators=1),
        tally(MACHINE, allocations=1),
    )
    now = on_record(
        tally(EVERYWHERE, flops=2),
        tally(SOFTWARE, [work(flops=1), work("aten::mm", flops=1)], operators=2),
        tally(MACHINE, allocations=2),
    )
    assert [(row.metric, [cause.operator for cause in row.causes]) for row in compared(before, now)] == [
        ("flops", ["aten::mm"]),
        ("operators", ["aten::mm"]),
        ("allocations", ["aten::mm"]),
    ]


# --- laws ------------------------------------------------------------------------------------------


totals = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 10**15) for name in ("flops", "operators", "bytes_read", "memcpys")}
)
records = st.builds(lambda found, rows: on_record(tally(SOFTWARE, rows, **found)), totals, operator_rows)
FLIPPED = {
    Verdict.REGRESSED: Verdict.IMPROVED,
    Verdict.IMPROVED: Verdict.REGRESSED,
    Verdict.EQUIVALENT: Verdict.EQUIVALENT,
}


def settled(rows):
    return {row.metric: row for row in rows if row.metric != "counters"}


@given(records, records)
def test_label_swap_flips_every_verdict_and_its_causes(before, now):
    forth, back = settled(compared(before, now)), settled(compared(now, before))
    assert forth.keys() == back.keys()
    for name, row in forth.items():
        # More overhead is excused by less work, and less overhead needs no excuse.
        if "less-work-overall" not in {each.note.code for each in (row, back[name]) if each.note}:
            assert back[name].verdict is FLIPPED[row.verdict]
        mirrored = {replace(cause, change=-cause.change, calls=-cause.calls) for cause in row.causes}
        assert mirrored == set(back[name].causes)


@given(records, records)
def test_causes_share_what_moved_and_none_moved_the_other_way(before, now):
    for row in settled(compared(before, now)).values():
        change = row.candidate - row.baseline
        assert all(cause.change * change > 0 for cause in row.causes)
        assert list(row.causes) == sorted(row.causes, key=lambda cause: -cause.share)
        if 0 < len(row.causes) < MAX_CAUSES:
            assert sum(cause.share for cause in row.causes) == pytest.approx(1.0)


@given(records, st.floats(0, 5))
def test_a_record_against_itself_never_moves(record, tolerance):
    rows = compared(record, record, {"counters": tolerance})
    assert all(row.verdict is Verdict.EQUIVALENT and not row.causes for row in rows)
    assert {row.metric for row in rows} == set(record.tallies[0].counters)


# --- records of an older version ---------------------------------------------------------------------


@pytest.mark.parametrize("now", [8, 32])
def test_a_redefined_counter_of_an_older_version_is_incomparable_if_it_differs(now):
    for name in ("flops", "operators", "bytes_read", "bytes_written", "weight_bytes"):
        before = on_record(replace(tally(**{name: 16}), version=1))
        (row,) = compared(before, on_record(tally(**{name: now})))
        assert (row.verdict, row.note.code) == (Verdict.INCOMPARABLE, "incomparable"), name
        assert COUNTERS[name].text in row.note.text
        (same,) = compared(before, on_record(tally(**{name: 16})))
        assert (same.metric, same.verdict) == (name, Verdict.EQUIVALENT), name


def test_other_counters_of_an_older_version_are_compared():
    before = on_record(
        replace(tally(flops=16, host_device_copies=1, dtype_casts=2, peak_memory_bytes=10 * MIB), version=1)
    )
    now = on_record(tally(flops=64, host_device_copies=2, dtype_casts=1, peak_memory_bytes=10 * MIB + 10))
    assert {row.metric: row.verdict for row in compared(before, now)} == {
        "counters": Verdict.INCOMPARABLE,
        "host_device_copies": Verdict.REGRESSED,
        "dtype_casts": Verdict.IMPROVED,
        "peak_memory_bytes": Verdict.EQUIVALENT,
    }


def test_a_record_of_another_machine_keeps_its_version():
    old = on_record(replace(tally(flops=16), version=1), tally(EVERYWHERE, flops=16))
    merged = merge_records(old, on_record(tally(EVERYWHERE, flops=64)))
    assert [found.version for found in merged.tallies] == [2, 1]


def test_counters_for_which_there_was_no_time_are_neither_recorded_nor_unchanged():
    before = taken(counted(flops=10, operators=2, weight_bytes=4))
    assert taken(replace(counted(weight_bytes=4), counted=False)) is None
    part = replace(counted(flops=10, operators=2, weight_bytes=4), counted=False, operators=(work(),))
    assert {row.verdict for row in compared(before, taken(part))} == {Verdict.EQUIVALENT}
    (row,) = compared(before, None)
    assert row.verdict is Verdict.INCOMPARABLE
    assert "not counted by this run" in row.note.text


@pytest.mark.parametrize(
    ("before", "now", "verdicts"),
    [
        # nanoGPT 8f85b833: the head runs on the last token only
        (
            {"flops": 1000, "bytes_written": 100, "operators": 200, "allocations": 100},
            {"flops": 470, "bytes_written": 81, "operators": 201, "allocations": 102},
            "improved improved equivalent equivalent",
        ),
        ({"flops": 100, "operators": 100}, {"flops": 90, "operators": 110}, "improved regressed"),
        ({"flops": 100, "operators": 100}, {"flops": 90, "operators": 109}, "improved equivalent"),
        ({"flops": 100, "operators": 0}, {"flops": 10, "operators": 1}, "improved regressed"),
        ({"flops": 100, "bytes_read": 100}, {"flops": 10, "bytes_read": 101}, "improved regressed"),
        ({"flops": 100, "dtype_casts": 100}, {"flops": 10, "dtype_casts": 101}, "improved regressed"),
        ({"flops": 100, "operators": 100}, {"flops": 100, "operators": 101}, "equivalent regressed"),
    ],
)
def test_a_little_more_overhead_is_excused_by_less_work(before, now, verdicts):
    rows = {row.metric: row for row in compared(on_record(tally(**before)), on_record(tally(**now)))}
    assert [rows[name].verdict.value for name in before] == verdicts.split()
    excused = [
        row for row in rows.values() if row.verdict is Verdict.EQUIVALENT and row.candidate != row.baseline
    ]
    assert [row.note.code for row in excused] == ["less-work-overall"] * len(excused)


def test_a_little_more_overhead_is_excused_by_a_shorter_time():
    rows = compared(on_record(tally(operators=100)), on_record(tally(operators=101)))
    assert rows[0].verdict is Verdict.REGRESSED
    (excused,) = counter_changes.less_work_excuses(rows, 0.2)
    assert excused.verdict is Verdict.EQUIVALENT
    assert "1.0 %, while the time fell by 20.0 %" in excused.note.text
    (kept,) = counter_changes.less_work_excuses(rows, 0.01)
    assert kept.verdict is Verdict.REGRESSED
