from __future__ import annotations

import json

import msgspec
from sessions import NOT_DECIDED, advised, answer, differs, hostile_paired, judged, paired, time, uncompared

from pytest_infergate.core.domain.advice_values import Demand
from pytest_infergate.core.domain.measurement import Estimate
from pytest_infergate.core.domain.outcome import (
    Against,
    Budget,
    BudgetCheck,
    Comparison,
    Outcome,
    Price,
    Verdict,
)
from pytest_infergate.report import gate_text, html, rows, text, wording
from pytest_infergate.report.sanitize import plain

COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"


def explained(sample):
    """Judged cases by what is to be seen of them: verdict and result."""
    cause = sample.cause
    slower = sample.time(Verdict.REGRESSED, 0.303, low=0.261, high=0.346)
    few = sample.note("3 stored sessions can show a slowdown of 61 % or more", "record more sessions")
    other = sample.note("other CPU model", "record a baseline on this class of machine with --infer-save")
    reason = sample.note("a coverage tracer was active while timing", "run with --no-cov")
    shapes = sample.note("outputs differ from cpu by 0.3", "look at the dtype")
    memory = sample.note("batch 256 ran out of memory")
    hidden = sample.note(hint="unset CUDA_VISIBLE_DEVICES")
    unchecked = sample.note(NOT_DECIDED, "raise --infer-max-time", code="budget-not-decided")
    near = sample.note("p95 latency 43.4 ms is near its limit 45.0 ms", "leave room")
    moved = sample.note("identical code differed by +1.8 % between the two sides", "measure later")
    accepted = sample.note("accepted: it is worth it", code="accepted")
    paired = time(sample, Verdict.REGRESSED, 0.087)
    bare = {"low": None, "high": None, "smallest_detectable": None, "sessions": 0, "tolerance": None}
    unsure = {"note": few, "sessions": 3, "smallest_detectable": 0.61, "low": -0.02, "high": 0.7}
    incomparable = sample.unsettled(
        Verdict.INCOMPARABLE, "operators recorded with torch 2.12.0, this is 2.13.0", "record them anew"
    )
    over = Verdict.OVER_BUDGET

    def case(verdict, *comparisons, result=None, failed=True, **fields):
        known = {} if result is None else result
        judged = sample.verdict(verdict, failed=failed, comparisons=comparisons, **fields)
        return judged, sample.result(**known)

    def budget(verdict, *checks, **fields):
        return case(verdict, budgets=checks, **fields)

    return {
        # Stored times
        "in order: the title says it": case(Verdict.EQUIVALENT, sample.time(), failed=False, budgets=(sample.check(),)),
        "time and memory regressed": case(Verdict.REGRESSED, sample.memory(Verdict.REGRESSED, 0.25), slower),
        "a time regressed, with more work": case(
            Verdict.REGRESSED, slower, sample.counter("flops", 10**9, 2 * 10**9, causes=(cause(10**9, "aten::mm", "head"),))
        ),
        "suspected, strict": case(Verdict.SUSPECTED, sample.time(Verdict.SUSPECTED, 0.3, **unsure), sample.counter(), sample.memory()),
        "inconclusive, strict": case(Verdict.INCONCLUSIVE, sample.time(Verdict.INCONCLUSIVE, 0.3, **unsure)),
        "incomparable, strict": case(
            Verdict.INCOMPARABLE, Comparison(metric="p50", verdict=Verdict.INCOMPARABLE, evidence="stored", candidate=0.052, note=other)
        ),
        "no baseline, strict": case(
            Verdict.NO_BASELINE, Comparison(metric="p50", verdict=Verdict.NO_BASELINE, evidence="stored", candidate=0.052, tolerance=0.25)
        ),
        # Budgets
        "over its budget, another kept": budget(over, sample.check(limit=40.0, verdict=over, value=52.1), sample.check("p50_ms")),
        "under its budget, in the unit of the test": budget(over, sample.check("throughput_per_s", 100.0, over, value=90.0), result={"unit": "texts"}),
        "an exact budget": budget(over, msgspec.structs.replace(sample.check("weights_mb", 1.0, over), value=type(sample.latency().p50)(value=2.0, low=2.0, high=2.0))),
        "budgets with one bound, or none": budget(
            over,
            msgspec.structs.replace(sample.check("p99_ms", 10.0, over), value=type(sample.latency().p50)(value=20.0, low=19.0)),
            msgspec.structs.replace(sample.check("p90_ms", 10.0, over), value=type(sample.latency().p50)(value=20.0, high=21.0)),
            sample.check("ttft_ms", 10.0, over, value=None),
        ),
        "a budget that was not checked": budget(over, sample.check("p99_ms", 50.0, over, note=unchecked)),
        "near its limit, strict": budget(Verdict.INCONCLUSIVE, sample.check(limit=45.0, verdict=Verdict.INCONCLUSIVE, note=near)),
        "many budgets: the title counts the rest": budget(
            over, *(sample.check(name, 40.0, over) for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "ttft_ms"))
        ),
        "no word of a missing baseline beside a broken budget": case(
            over, sample.time(Verdict.NO_BASELINE), budgets=(sample.check(limit=40.0, verdict=over),)
        ),
        # Counters
        "counters regressed, with their cause": case(
            Verdict.REGRESSED, sample.time(), sample.counter("flops", 10**9, 10**9),
            sample.counter("operators", 1000, 1004, causes=(cause(),)),
            sample.counter("bytes_written", 10**6, 1_164_000, causes=(cause(164_000),)),
        ),
        "one counter regressed, one did not, one improved": case(
            Verdict.REGRESSED, sample.counter(now=101), sample.counter("flops"), sample.counter("graphs", 2, 1)
        ),
        "the title names the first counter and counts the others": case(
            Verdict.REGRESSED, *(sample.counter(name, 10, 11) for name in ("flops", "operators", "dtype_casts")), sample.counter("views", 10, 9)
        ),
        "the title does not count reasons as counters": case(
            Verdict.REGRESSED, *(sample.counter(name, 10, 11) for name in ("flops", "operators")),
            *(sample.unsettled(Verdict.REGRESSED, words) for words in ("this", "that")),
        ),
        "the title names the largest cause, the section five": case(
            Verdict.REGRESSED, sample.counter(now=107, causes=tuple(cause(1, f"op{index}", "") for index in range(7)))
        ),
        "fewer operations": case(Verdict.IMPROVED, sample.counter(now=96, causes=(cause(-4),)), failed=False),
        "counters that do not compare, strict": case(Verdict.INCOMPARABLE, sample.time(), sample.counter("flops"), incomparable),
        "two reasons why counters do not compare, one hint": case(
            Verdict.INCOMPARABLE, *(sample.unsettled(Verdict.INCOMPARABLE, words, "record them anew") for words in ("one", "two"))
        ),
        "counters that do not compare, without a reason": case(Verdict.INCOMPARABLE, msgspec.structs.replace(incomparable, note=None)),
        "no word of counters that do not compare beside a regression": case(Verdict.REGRESSED, sample.counter(now=101), incomparable),
        "counters that are not on record, strict": case(
            Verdict.NO_BASELINE, sample.time(), sample.unsettled(Verdict.NO_BASELINE, "FLOPs, operators not on record yet")
        ),
        "a new time and new counters: one hint": case(
            Verdict.NO_BASELINE, sample.time(Verdict.NO_BASELINE, baseline=None, effect=0.0),
            sample.unsettled(Verdict.NO_BASELINE, "FLOPs not on record yet"),
        ),
        # Cases without a valid measurement
        "it ran before and cannot run now": case(Verdict.REGRESSED, result={"outcome": Outcome.INFEASIBLE, "reason": memory}, notes=(memory,)),
        "invalid, strict": case(Verdict.INVALID, result={"outcome": Outcome.INVALID, "reason": reason}, notes=(reason,)),
        "infeasible, strict": case(Verdict.INFEASIBLE, result={"outcome": Outcome.INFEASIBLE, "reason": memory}, notes=(memory,)),
        "mismatch": case(Verdict.MISMATCH, result={"reason": shapes}, notes=(shapes,)),
        "skipped, strict": case(Verdict.NOT_MEASURED, result={"outcome": Outcome.SKIPPED, "reason": hidden, "hardware": None}, notes=(hidden,)),
        "the test itself failed": case(Verdict.NOT_MEASURED, result={"outcome": Outcome.FAILED}),
        "a verdict alone has the reason from its notes": (sample.verdict(Verdict.INVALID, failed=True, notes=(reason,)), None),
        # Paired times
        "paired: in order": case(Verdict.EQUIVALENT, time(sample), failed=False),
        "paired: regressed": case(Verdict.REGRESSED, paired, sample.counter()),
        "paired: regressed, with more work": case(Verdict.REGRESSED, paired, sample.counter(now=104, causes=(cause(),))),
        "paired: more work in the same time": case(Verdict.REGRESSED, time(sample), sample.counter(now=104)),
        "paired: a pattern has no spaces": case(Verdict.REGRESSED, paired, nodeid="tests/test_a.py::test_b[two words]"),
        "paired: accepted by a commit": case(Verdict.REGRESSED, paired, failed=False, notes=(accepted,)),
        "paired: mismatch": case(Verdict.MISMATCH, time(sample), differs(sample)),
        "paired: regressed, and a mismatch": case(Verdict.REGRESSED, differs(sample), paired),
        "paired: without a base": case(Verdict.NO_BASELINE, uncompared(sample, candidate=0.04), failed=False),
        "paired: the control moved": case(Verdict.INVALID, time(sample, Verdict.INVALID, 0.087, note=moved), failed=False),
        "paired: inconclusive": case(Verdict.INCONCLUSIVE, time(sample, Verdict.INCONCLUSIVE, 0.019, note=few), failed=False),
        "paired: what is not known is left out": case(Verdict.INCONCLUSIVE, time(sample, Verdict.INCONCLUSIVE, **bare)),
        "paired: one launch": case(Verdict.INCONCLUSIVE, time(sample, Verdict.INCONCLUSIVE, sessions=1)),
        # Nothing else is known
        **{f"{verdict.value} alone": (sample.verdict(verdict, failed=True), None) for verdict in Verdict},
    }  # fmt: skip


def test_explanations(sample, snapshot):
    shown = [f"== {name}\n{text.failure_message(*judged)}" for name, judged in explained(sample).items()]
    assert "\n\n".join(shown) == snapshot


def test_every_explanation_begins_with_its_verdict(sample):
    for name, (verdict, result) in explained(sample).items():
        assert wording.explain(verdict, result).title.startswith(verdict.verdict.value), name


def test_a_case_without_a_verdict(sample, snapshot):
    result = sample.result(outcome=Outcome.SKIPPED, reason=sample.note(hint="unset it"))
    message = wording.explain_result(result)
    assert message.hints == ("unset it",)
    assert [message.title, wording.explain_result(sample.result()).title] == snapshot


def offered(verdict, result=None):
    """The tolerance that a message offers."""
    found = wording.explain(verdict, result).hints
    return [hint.partition("tolerance=")[2].rstrip(")") for hint in found if "tolerance=" in hint]


def test_the_tolerance_offered_is_the_next_step_above_the_bound(sample):
    """Another launch of the same code may be slower than this one."""
    steps = {
        None: "", -0.1: "", 0.0: "5%", 0.049: "5%", 0.05: "10%", 0.303: "35%", 1.1: "115%", 10: "1005%", 11: "",
    }  # fmt: skip
    for bound, expected in steps.items():
        row = msgspec.structs.replace(sample.time(Verdict.REGRESSED), effect=0.0, high=bound)
        found = offered(sample.verdict(Verdict.REGRESSED, failed=True, comparisons=(row,)))
        assert found == ([f'{{"p50": "{expected}"}}'] if expected else []), bound


def test_the_tolerance_offered_for_counters(sample):
    tables = [
        ([("operators", 100, 104)], {"operators": "5%"}),
        # One for all counters would let others grow too.
        ([("bytecodes", 15_396, 59_004)], {"bytecodes": "285%"}),
        (
            [("operators", 100, 104), ("flops", 100, 131), ("views", 100, 112)],
            {"operators": "5%", "flops": "35%", "views": "15%"},
        ),
        ([("peak_memory_bytes", 100, 112)], {"memory": "15%"}),
        ([("operators", 100, 104), ("peak_memory_bytes", 100, 112)], {"operators": "5%", "memory": "15%"}),
        # No share of 0 allows anything.
        ([("graph_breaks", 0, 1), ("operators", 100, 104)], {"graph_breaks": "off", "operators": "5%"}),
        ([("graph_breaks", 0, 1)], {"graph_breaks": "off"}),
        ([("peak_memory_bytes", 0, 2**21)], {"memory": "off"}),
        # A part of what is needed leaves the test failing.
        ([("operators", 1, 100)], {}),
        ([("operators", 1, 100), ("flops", 100, 104)], {}),
    ]
    for moved, expected in tables:
        rows = tuple(sample.counter(*each) for each in moved)
        found = offered(sample.verdict(Verdict.REGRESSED, failed=True, comparisons=rows))
        assert found == ([json.dumps(expected)] if expected else []), moved


def test_the_tolerance_offered_is_the_one_that_applies(sample):
    """Tolerances of the test are kept, because the marker that is offered replaces them."""
    rows = (
        sample.counter("flops", 100, 109),
        sample.counter("operators", 100, 104),
        sample.counter("peak_memory_bytes", 10**8, 112 * 10**6),
    )
    judged = sample.verdict(Verdict.REGRESSED, failed=True, comparisons=rows)
    for given, expected in (
        ({}, '{"flops": "10%", "operators": "5%", "memory": "15%"}'),
        (
            {"counters": 0.0, "p50": 0.1},
            '{"flops": "10%", "operators": "5%", "memory": "15%", "counters": "0%", "p50": "10%"}',
        ),
        (
            {"views": 0.125, "bytecodes": None},
            '{"flops": "10%", "operators": "5%", "memory": "15%", "views": "12.5%", "bytecodes": "off"}',
        ),
        ({"operators": 0.01}, '{"flops": "10%", "operators": "5%", "memory": "15%"}'),
        ({"operators": 0.01, "flops": 0.0}, '{"flops": "10%", "operators": "5%", "memory": "15%"}'),
        ({"memory": 0.0}, '{"flops": "10%", "operators": "5%", "memory": "15%"}'),
    ):
        assert offered(judged, sample.result(tolerance=given)) == [expected], given


def test_a_high_percentile_of_few_calls_is_no_figure(sample):
    """It is the slowest of them. What they show is a lower bound, if anything; a median is shown."""
    over = Verdict.OVER_BUDGET
    for metric, low, expected in (
        ("p95_ms", None, ""),
        ("p95_ms", 410.0, "at least 410 ms"),
        ("p50_ms", None, "424 ms"),
        ("bytecodes", 5000.0, "at least 5,000"),
    ):
        check = sample.check(metric, 40.0, over)
        check = msgspec.structs.replace(check, value=Estimate(value=424.0, low=low, high=None))
        judged = sample.verdict(over, failed=True, budgets=(check,))
        message = wording.explain(judged)
        shown = dict(message.sections[0].lines).get("measured", "")
        assert shown == expected, metric
        assert expected in message.title
        assert ("424" in text.failure_message(judged)) is (metric == "p50_ms"), metric
        (_, part) = rows.budget_parts((check,))
        assert ("424" in part) is (metric == "p50_ms")


def test_an_undecided_case_under_contention_says_so(sample):
    """In its title or its block, whichever note has the reason why it is undecided."""
    taken = sample.note("other processes took 12 %", code="cpu-contention")
    measured = sample.result(measurement=sample.measurement(notes=(taken,)))
    coarse, contended = (
        sample.note("x", code=code) for code in ("stored-timing-is-coarse", "contended-time")
    )
    unsure = Verdict.INCONCLUSIVE
    for verdict, note, lines_shown in (
        (unsure, coarse, True),
        (unsure, contended, False),
        (Verdict.REGRESSED, None, False),
    ):
        row = sample.time(verdict, 0.5, note=note)
        message = wording.explain(sample.verdict(verdict, failed=True, comparisons=(row,)), measured)
        assert ("other processes took 12 %" in dict(message.sections[0].lines).values()) is lines_shown
        assert ("other processes took processor time" in message.title) is (note is contended)
        check = sample.check("p95_ms", 40.0, verdict, note=note)
        message = wording.explain(sample.verdict(verdict, failed=True, budgets=(check,)), measured)
        if message.sections:
            assert ("other processes took 12 %" in dict(message.sections[0].lines).values()) is lines_shown


def section(sample, *comparisons, verdict=Verdict.REGRESSED):
    """The first section of a case with these comparisons."""
    return wording.explain(sample.verdict(verdict, failed=True, comparisons=comparisons)).sections[0]


def test_the_recorded_median_is_shown_beside_the_expected_one(sample):
    slow = sample.time(Verdict.REGRESSED, 4.0, recorded=0.0125, high=None)
    judged = sample.verdict(Verdict.REGRESSED, failed=True, comparisons=(slow,))
    assert "expected 40.0 ms (recorded 12.5 ms)" in wording.explain(judged).title
    lines = dict(section(sample, slow).lines)
    assert lines["recorded"].startswith("12.5 ms")
    assert lines["confidence"].startswith("at least x5.0")
    assert "recorded" not in dict(section(sample, sample.time(Verdict.REGRESSED, 4.0)).lines)


def test_a_counter_in_a_line(sample, snapshot):
    rows = [
        ("operators", 100, 104, {}),
        ("graph_breaks", 0, 2, {}),
        ("flops", 999, 2_000_000, {}),
        ("operators", 100, 120, {"tolerance": 0.1}),
        ("peak_memory_bytes", 10**7, 2 * 10**7, {"tolerance": 0.01}),
        ("weight_bytes", 8_000, 4_000, {}),
    ]
    lines_shown = [
        section(sample, sample.counter(metric, before, now, **{**fields, "verdict": Verdict.REGRESSED}))
        for metric, before, now, fields in rows
    ]
    assert [": ".join(line) for each in lines_shown for line in each.lines] == snapshot


CAUSES = {
    "calls": [("operators", 4, "aten::clone", "a")],
    "fewer calls, no place": [("operators", -1234, "aten::clone", "")],
    "bytes": [("bytes_read", 164_000, "aten::clone", "a")],
    "FLOPs": [("flops", -2 * 10**9, "aten::mm", "a")],
    "weights": [("weight_bytes", 8_000_000, "float32", "")],
    "one operator in one place is one line, with one figure of a kind": [
        ("flops", 10**9, "aten::mm", "a"),
        ("operators", 4, "aten::mm", "a"),
        ("allocations", 4, "aten::mm", "a"),
        ("bytes_read", 8_000, "aten::mm", "a"),
        ("bytes_written", 8_000, "aten::mm", "a"),
    ],
    "the first of two figures of bytes": [
        ("bytes_read", 8_000, "aten::mm", "a"),
        ("peak_memory_bytes", 9_000, "aten::mm", "a"),
    ],
    "those of the first counter come first": [
        ("flops", 9, "aten::mm", "a"),
        ("operators", 2, "aten::add", "a"),
        ("operators", 1, "aten::mm", "a"),
    ],
    "two places are two lines": [("operators", 1, "aten::mm", "a"), ("operators", 1, "aten::mm", "b")],
    "nothing": [],
}


def test_causes(sample, snapshot):
    lines = {
        name: wording.causes(
            [
                sample.counter(metric, causes=(sample.cause(change, operator, place),))
                for metric, change, operator, place in rows
            ]
        )
        for name, rows in CAUSES.items()
    }
    assert "\n".join(f"{name}: {'; '.join(lines_shown)}" for name, lines_shown in lines.items()) == snapshot


def test_many_causes_are_counted(sample):
    for count, shown, more in ((5, 5, 0), (6, 5, 1), (9, 2, 7)):
        row = sample.counter(causes=tuple(sample.cause(1, f"op{index}", "") for index in range(count)))
        lines = wording.causes([row], shown)
        assert lines[:shown] == tuple(f"+1 op{index}" for index in range(shown))
        assert [str(more) in line for line in lines[shown:]] == [True] * bool(more)


def test_hostile_operators_and_places_are_spelt_out(sample):
    for hostile in sample.hostile:
        for name in ("operator", "place"):
            cause = sample.cause(**{"operator": "aten::clone", "place": "a", name: hostile})
            (line,) = wording.causes([sample.counter(causes=(cause,))])
            assert plain(hostile) in line
            assert line.isprintable()


WORK = "exact counters"


def test_the_work_beside_a_time(sample, snapshot):
    causes = tuple(sample.cause(1, f"op{index}", "") for index in range(3))
    graphs = sample.counter("graphs", 1, 2)
    within = [
        sample.counter(before=100, now=105, tolerance=0.1, verdict=verdict)
        for verdict in (Verdict.EQUIVALENT, Verdict.IMPROVED, Verdict.REGRESSED)
    ]
    counters = {
        "nothing was counted": (),
        "nothing can be compared": (sample.unsettled(Verdict.INCOMPARABLE, "x"),),
        "operators were not counted": (sample.memory(), sample.counter("weight_bytes")),
        "no counter moved": (sample.counter(), sample.memory()),
        "one moved": (graphs, sample.counter("views")),
        "two moved": (graphs, sample.counter("views", 0, 3)),
        "two causes": (sample.counter(now=103, causes=causes[:2]),),
        "three causes": (sample.counter(now=103, causes=causes),),
        "less work": (sample.counter(now=96, causes=(sample.cause(-4),)),),
        **{f"moved within its tolerance: {row.verdict.value}": (row, sample.memory()) for row in within},
    }
    lines_shown = {
        name: dict(section(sample, sample.time(Verdict.REGRESSED, 0.5), *exact).lines).get(WORK)
        for name, exact in counters.items()
    }
    assert "\n".join(f"{name}: {words}" for name, words in lines_shown.items()) == snapshot
    assert [name for name, words in lines_shown.items() if words is None] == list(counters)[:3]


def test_what_a_cost_follows_from(sample, snapshot):
    price = Price(usd_per_hour=0.1785, utilisation=0.6, source="a\nb")
    cases = {
        "usd_per_million": ("usd_per_million", {}),
        "usd_per_month with a demand": ("usd_per_month", {"demand": 50.0}),
        "usd_per_month": ("usd_per_month", {}),
        "usd_per_month with an impossible demand": ("usd_per_month", {"demand": -1.0}),
        "usd_per_month, not measured": ("usd_per_month", {"demand": 50.0, "measurement": None}),
        "a time": ("p95_ms", {}),
        "without a price": ("usd_per_million", {"price": None}),
    }
    lines_shown = {}
    for name, (metric, fields) in cases.items():
        check = sample.check(metric, 1.0, Verdict.OVER_BUDGET, 2.0)
        verdict = sample.verdict(Verdict.OVER_BUDGET, failed=True, budgets=(check,))
        message = wording.explain(verdict, sample.result(**{"price": price, **fields}))
        lines_shown[name] = dict(message.sections[0].lines).get("price")
    assert "\n".join(f"{name}: {words}" for name, words in lines_shown.items()) == snapshot
    assert [name for name, words in lines_shown.items() if words is None] == list(cases)[-2:]


def test_what_a_paired_run_is_compared_with():
    cases = [
        ({"revision": "main", "commit": COMMIT}, "main (merge base 1a2b3c4)"),
        ({"revision": "main"}, "main"),
        ({"python": "/opt/old/bin/python"}, "/opt/old/bin/python"),
        ({"runtime": "compile:max-autotune"}, "compile:max-autotune"),
        ({"revision": "v1", "commit": COMMIT, "python": "/old"}, "v1 (merge base 1a2b3c4) with /old"),
        (
            {"revision": "a\nb\x1b", "commit": "\x07" * 8},
            r"a\nb\x1b (merge base \x07\x07\x07\x07\x07\x07\x07)",
        ),
    ]
    for fields, named in cases:
        assert wording.described_base(Against(**fields)) == named


def test_an_unknown_metric_of_a_foreign_file_is_a_bare_number():
    metric = wording.budget_metric("new\nmetric")
    assert (metric.text, metric.shown(1234.5), metric.shown(None)) == (r"new\nmetric", "1,234.5", "-")


def test_no_message_holds_what_a_terminal_would_obey(sample):
    for session in (sample.hostile_session(), hostile_paired(sample)):
        for result, verdict in zip(session.cases, session.gate.verdicts, strict=True):
            message = wording.explain(verdict, result)
            texts = [message.title, *message.hints]
            texts += [words for section in message.sections for line in section.lines for words in line]
            texts += [words for section in message.sections for words in (section.text, section.verdict)]
            assert all(words.isprintable() for words in texts)


def test_cases_that_were_compared_with_nothing_are_counted_in_words(sample):
    """Whatever their budgets decided."""
    alone = (sample.time(Verdict.NO_BASELINE, baseline=None, effect=0.0),)
    pairs = [
        sample.pair(sample.case("t.py::test_a"), Verdict.NO_BASELINE, comparisons=alone, budgets=(sample.check(),)),
        sample.pair(sample.case("t.py::test_b"), Verdict.OVER_BUDGET, comparisons=alone, budgets=(
            sample.check(limit=1.0, verdict=Verdict.OVER_BUDGET),
        )),
        sample.pair(sample.case("t.py::test_c"), comparisons=(sample.time(), *alone)),
        sample.pair(sample.case("t.py::test_d")),
    ]  # fmt: skip
    within, nothing = gate_text.gate_lines(sample.session(pairs))
    assert within.startswith("1 of 2 cases with a budget")
    assert nothing.startswith("2 cases have no baseline yet")
    assert "--infer-save" in nothing
    assert gate_text.gate_lines(sample.session(pairs[2:])) == []
    session = sample.session([sample.pair(verdict=Verdict.NO_BASELINE)])
    (recording,) = gate_text.gate_lines(
        msgspec.structs.replace(session, gate=msgspec.structs.replace(session.gate, recording=True))
    )
    assert recording == "1 case had no baseline before this run."
    (one,) = gate_text.gate_lines(session)
    assert one.startswith("1 case has no baseline yet")
    new = paired(sample, [judged(sample, "test_new", Verdict.NO_BASELINE, (uncompared(sample),))])
    (line,) = gate_text.gate_lines(new)
    assert "the base" in line
    assert "--infer-save" not in line


def test_a_limit_of_a_demand_that_no_budget_checks_is_named(sample):
    case = sample.case("t.py::test_a")
    camera = answer(model="t.py::test_a", limit=None, demand=Demand(rate=30.0, pattern="periodic"))
    free = answer(model="t.py::test_a", limit=None)
    for metric, allowed, made, named in (
        ("weights_mb", 1.0, camera, True),
        ("p95_ms", 1.0, camera, False),
        ("load_p99_ms", 1e3 / 30, camera, False),
        ("p95_ms", 34.0, camera, True),  # wider than the limit
        ("weights_mb", 1.0, free, False),
    ):
        check = BudgetCheck(budget=Budget(metric=metric, limit=allowed), verdict=None)
        pairs = [sample.pair(case, Verdict.NO_BASELINE, budgets=(check,))]
        session = advised(sample.session(pairs), made)
        assert any("test_a (33.3 ms)" in line for line in gate_text.gate_lines(session)) is named, metric
        # It is marked on the page, below the outcome in green.
        page = html.render_html(session).partition('<p class="below"><span class="warn">')[2]
        assert ("test_a (33.3 ms)" in page.partition("</p>")[0]) is named, metric


def test_cases_are_listed_as_new_only_beside_others(sample):
    known, new, skipped = (sample.case(f"t.py::test_{name}") for name in ("known", "new", "skipped"))
    verdicts = [
        sample.verdict(case=known),
        sample.verdict(Verdict.NO_BASELINE, new),
        sample.verdict(Verdict.NOT_MEASURED, skipped),
    ]
    gate = sample.session(new=(new,)).gate
    beside, alone = (
        msgspec.structs.replace(gate, verdicts=tuple(shown)) for shown in (verdicts, verdicts[1:])
    )
    assert gate_text.new_cases(beside) == (new,)
    assert gate_text.new_cases(alone) == ()
