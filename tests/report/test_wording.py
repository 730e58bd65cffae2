from __future__ import annotations

import msgspec
import pytest

from pytest_infergate.core.domain.outcome import Outcome, Price, Verdict
from pytest_infergate.report import wording
from pytest_infergate.report.sanitize import plain


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (None, ""),
        (-0.1, ""),
        (0.0, "5%"),
        (0.049, "5%"),
        (0.05, "10%"),
        (0.303, "35%"),
        (1.1, "115%"),
        (11, ""),
    ],
)
def test_the_tolerance_offered_is_the_next_step_above_the_effect(sample, effect, expected):
    verdict = sample.verdict(
        Verdict.REGRESSED,
        failed=True,
        comparisons=(msgspec.structs.replace(sample.time(Verdict.REGRESSED), effect=effect),),
    )
    offers = [hint for hint in wording.explain(verdict).cures if "tolerance" in hint]
    wanted = [f'or allow it for this test: @pytest.mark.inference(tolerance={{"p50": "{expected}"}})']
    assert offers == (wanted if expected else [])


def test_a_case_in_order_is_told_in_its_title(sample):
    verdict = sample.verdict(comparisons=(sample.time(),), budgets=(sample.check(),))
    message = wording.explain(verdict, sample.result())
    assert message == wording.Message(
        title="equivalent: p50 latency 40.1 ms against an expected 40.0 ms: +0.3 %, allowed +25.0 %"
    )


def test_a_title_counts_what_it_does_not_name(sample):
    checks = [
        sample.check(name, 40.0, Verdict.OVER_BUDGET)
        for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "ttft_ms")
    ]
    title = wording.explain(sample.verdict(Verdict.OVER_BUDGET, budgets=tuple(checks))).title
    assert title.endswith("p95 latency 43.4 ms is over its budget of 40.0 ms; and 2 more")


def test_a_missing_baseline_does_not_matter_beside_a_broken_budget(sample):
    verdict = sample.verdict(
        Verdict.OVER_BUDGET,
        failed=True,
        comparisons=(sample.time(Verdict.NO_BASELINE),),
        budgets=(sample.check(limit=40.0, verdict=Verdict.OVER_BUDGET),),
    )
    message = wording.explain(verdict)
    assert [section.text for section in message.sections] == ["budget p95_ms"]
    assert not any("baseline" in hint for hint in message.cures)


def section(sample, *comparisons, verdict=Verdict.REGRESSED):
    """The first section of a case with these comparisons."""
    return wording.explain(sample.verdict(verdict, failed=True, comparisons=comparisons)).sections[0]


def test_a_title_names_the_first_counter_and_counts_the_others(sample):
    exact = [sample.counter(name, 10, 11) for name in ("flops", "operators", "dtype_casts")]
    verdict = sample.verdict(Verdict.REGRESSED, comparisons=(*exact, sample.counter("views", 10, 9)))
    assert wording.explain(verdict).title == ("regressed: FLOPs 11 FLOP against 10 FLOP; 2 more counters")


def test_a_title_does_not_count_reasons_as_counters(sample):
    exact = [sample.counter(name, 10, 11) for name in ("flops", "operators")]
    why = [sample.unsettled(Verdict.REGRESSED, text) for text in ("this", "that")]
    verdict = sample.verdict(Verdict.REGRESSED, comparisons=(*exact, *why))
    assert wording.explain(verdict).title == (
        "regressed: FLOPs 11 FLOP against 10 FLOP; this; that; and 1 more"
    )


def test_a_title_names_the_gravest_cause_only(sample):
    row = sample.counter(now=104, causes=(sample.cause(3), sample.cause(1, "aten::add", "")))
    title = wording.explain(sample.verdict(Verdict.REGRESSED, comparisons=(row,))).title
    assert title == "regressed: operators 104 against 100: +3 aten::clone in layers.{0-3}"


def test_fewer_operations_are_told_in_the_title(sample):
    row = sample.counter(now=96, causes=(sample.cause(-4),))
    assert wording.explain(sample.verdict(Verdict.IMPROVED, comparisons=(row,))) == wording.Message(
        title="improved: operators 96 against 100: -4 aten::clone in layers.{0-3}"
    )


@pytest.mark.parametrize(
    ("row", "fields", "line"),
    [
        (("operators", 100, 104), {}, "104 against 100: +4 (+4.0 %)"),
        (("graph_breaks", 0, 2), {}, "2 against 0: +2"),
        (("flops", 999, 2_000_000), {}, "2.00 MFLOP against 999 FLOP: +2.00 MFLOP (x2002)"),
        (
            ("operators", 100, 120),
            {"tolerance": 0.1},
            "120 against 100: +20 (+20.0 %), allowed +10.0 %",
        ),
        (
            ("peak_memory_bytes", 10**7, 2 * 10**7),
            {"tolerance": 0.01},
            "20.0 MB against 10.0 MB: +10.0 MB (x2.0), allowed +1.0 % or 1.05 MB, whichever is more",
        ),
        (("weight_bytes", 8_000, 4_000), {}, "4.00 kB against 8.00 kB: -4.00 kB (-50.0 %)"),
    ],
)
def test_a_counter_in_a_line(sample, row, fields, line):
    told = section(sample, sample.counter(*row, **{**fields, "verdict": Verdict.REGRESSED}))
    assert told == wording.MetricSection(
        text="exact counters, without noise",
        verdict="regressed",
        lines=((wording.compared_metric(row[0]).text, line),),
    )


def test_counters_that_did_not_regress_are_not_told_beside_those_that_did(sample):
    told = section(sample, sample.counter(now=101), sample.counter("flops"), sample.counter("graphs", 2, 1))
    assert [label for label, _ in told.lines] == ["operators"]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([("operators", 4, "aten::clone", "a")], ("+4 aten::clone in a",)),
        ([("operators", -1234, "aten::clone", "")], ("-1,234 aten::clone",)),
        ([("bytes_read", 164_000, "aten::clone", "a")], ("aten::clone in a, +164 kB",)),
        ([("flops", -2 * 10**9, "aten::mm", "a")], ("aten::mm in a, -2.00 GFLOP",)),
        ([("weight_bytes", 8_000_000, "float32", "")], ("float32, +8.00 MB",)),
        # One operator in one place is one line, and figures of one kind are told once.
        (
            [
                ("flops", 10**9, "aten::mm", "a"),
                ("operators", 4, "aten::mm", "a"),
                ("allocations", 4, "aten::mm", "a"),
                ("bytes_read", 8_000, "aten::mm", "a"),
                ("bytes_written", 8_000, "aten::mm", "a"),
            ],
            ("+4 aten::mm in a, +1.00 GFLOP, +8.00 kB",),
        ),
        (
            [("bytes_read", 8_000, "aten::mm", "a"), ("peak_memory_bytes", 9_000, "aten::mm", "a")],
            ("aten::mm in a, +8.00 kB",),
        ),
        # Those of the first counter come first.
        (
            [
                ("flops", 9, "aten::mm", "a"),
                ("operators", 2, "aten::add", "a"),
                ("operators", 1, "aten::mm", "a"),
            ],
            ("+1 aten::mm in a, +9 FLOP", "+2 aten::add in a"),
        ),
        (
            [("operators", 1, "aten::mm", "a"), ("operators", 1, "aten::mm", "b")],
            ("+1 aten::mm in a", "+1 aten::mm in b"),
        ),
        ([], ()),
    ],
)
def test_causes_in_words(sample, rows, lines):
    compared = [
        sample.counter(metric, causes=(sample.cause(change, operator, place),))
        for metric, change, operator, place in rows
    ]
    assert wording.causes(compared) == lines


@pytest.mark.parametrize(
    ("count", "shown", "last"),
    [(5, 5, "+1 op4"), (6, 5, "and 1 more"), (9, 2, "and 7 more")],
)
def test_many_causes_are_counted(sample, count, shown, last):
    row = sample.counter(causes=tuple(sample.cause(1, f"op{index}", "") for index in range(count)))
    lines = wording.causes([row], shown)
    assert lines[:shown] == tuple(f"+1 op{index}" for index in range(shown))
    assert lines[-1] == last


def test_a_section_shows_five_causes(sample):
    row = sample.counter(now=107, causes=tuple(sample.cause(1, f"op{index}", "") for index in range(7)))
    assert section(sample, row).lines[1:] == (
        *(("from", f"+1 op{index}") for index in range(5)),
        ("from", "and 2 more"),
    )


@pytest.mark.parametrize("name", ["operator", "place"])
def test_hostile_operators_and_places_are_spelt_out(sample, name):
    for hostile in sample.hostile:
        cause = sample.cause(**{"operator": "aten::clone", "place": "a", name: hostile})
        (line,) = wording.causes([sample.counter(causes=(cause,))])
        spelt = plain(hostile)
        assert line == (f"+4 {spelt} in a" if name == "operator" else f"+4 aten::clone in {spelt}")
        assert line.isprintable()


def beside(sample, *exact):
    """What stands beside a slower time with these counters."""
    return dict(section(sample, sample.time(Verdict.REGRESSED, 0.5), *exact).lines).get("the model's work")


def test_the_work_beside_a_time(sample):
    causes = tuple(sample.cause(1, f"op{index}", "") for index in range(3))
    assert beside(sample) is None
    assert beside(sample, sample.unsettled(Verdict.INCOMPARABLE, "x")) is None
    assert beside(sample, sample.counter(), sample.memory()) == "unchanged: no exact counter moved"
    graphs = sample.counter("graphs", 1, 2)
    assert beside(sample, graphs, sample.counter("views")) == "compiled graphs +1 (x2.0)"
    assert beside(sample, graphs, sample.counter("views", 0, 3)) == "compiled graphs +1 (x2.0), views +3"
    assert beside(sample, sample.counter(now=103, causes=causes[:2])) == "+1 op0; +1 op1"
    assert beside(sample, sample.counter(now=103, causes=causes)) == "+1 op0; +1 op1; and 1 more"


def test_without_operators_nobody_says_that_the_work_is_unchanged(sample):
    assert beside(sample, sample.memory(), sample.counter("weight_bytes")) is None


@pytest.mark.parametrize("verdict", [Verdict.EQUIVALENT, Verdict.IMPROVED, Verdict.REGRESSED])
def test_work_that_moved_within_its_tolerance_is_told_beside_a_time(sample, verdict):
    row = sample.counter(before=100, now=105, tolerance=0.1, verdict=verdict)
    assert beside(sample, row, sample.memory()) == "operators +5 (+5.0 %)"


def test_less_work_beside_a_slower_time(sample):
    assert beside(sample, sample.counter(now=96, causes=(sample.cause(-4),))) == (
        "-4 aten::clone in layers.{0-3}"
    )


@pytest.mark.parametrize(
    ("moved", "table"),
    [
        ([("operators", 100, 104)], '"counters": "5%"'),
        # One tolerance goes for all counters: the widest.
        ([("operators", 100, 104), ("flops", 100, 131), ("views", 100, 112)], '"counters": "35%"'),
        ([("peak_memory_bytes", 100, 112)], '"memory": "15%"'),
        ([("operators", 100, 104), ("peak_memory_bytes", 100, 112)], '"counters": "5%", "memory": "15%"'),
        ([("graph_breaks", 0, 1), ("operators", 100, 104)], '"counters": "5%"'),
        ([("graph_breaks", 0, 1)], ""),
        ([("operators", 1, 100)], ""),
    ],
)
def test_the_tolerance_offered_for_counters(sample, moved, table):
    rows = tuple(sample.counter(*each) for each in moved)
    cures = wording.explain(sample.verdict(Verdict.REGRESSED, failed=True, comparisons=rows)).cures
    allow = (f"or allow it for this test: @pytest.mark.inference(tolerance={{{table}}})",) if table else ()
    assert cures == (
        "if the change is meant, record it with --infer-save",
        *allow,
        'or report it without failing: @pytest.mark.inference(gate="warn")',
    )


@pytest.mark.parametrize(
    ("given", "table"),
    [
        ({}, '"counters": "10%", "memory": "15%"'),
        ({"counters": 0.0, "p50": 0.1}, '"counters": "10%", "memory": "15%"'),
        ({"operators": 0.01}, '"counters": "10%", "operators": "5%", "memory": "15%"'),
        ({"operators": 0.01, "flops": 0.0}, '"flops": "10%", "operators": "5%", "memory": "15%"'),
        ({"memory": 0.0}, '"counters": "10%", "memory": "15%"'),
    ],
)
def test_the_tolerance_offered_is_the_one_that_applies(sample, given, table):
    """One by name wins over the one for all, which then would change nothing."""
    rows = (
        sample.counter("flops", 100, 109),
        sample.counter("operators", 100, 104),
        sample.counter("peak_memory_bytes", 10**8, 112 * 10**6),
    )
    judged = sample.verdict(Verdict.REGRESSED, failed=True, comparisons=rows)
    cures = wording.explain(judged, sample.result(tolerance=given)).cures
    assert cures[1] == f"or allow it for this test: @pytest.mark.inference(tolerance={{{table}}})"


def test_new_counters_beside_a_new_time(sample):
    rows = (
        sample.time(Verdict.NO_BASELINE, baseline=None, effect=0.0),
        sample.unsettled(Verdict.NO_BASELINE, "FLOPs not on record yet"),
    )
    message = wording.explain(sample.verdict(Verdict.NO_BASELINE, failed=True, comparisons=rows))
    assert message.title == "no-baseline: p50 latency 40.0 ms has no baseline; FLOPs not on record yet"
    assert [part.text for part in message.sections] == ["p50 latency", "exact counters"]
    assert message.cures.count("record a baseline with --infer-save, and commit it") == 1


def test_each_reason_why_counters_do_not_compare_is_told(sample):
    rows = tuple(sample.unsettled(Verdict.INCOMPARABLE, text, "record them anew") for text in ("one", "two"))
    message = wording.explain(sample.verdict(Verdict.INCOMPARABLE, failed=True, comparisons=rows))
    assert [part.lines for part in message.sections] == [(("why", "one"),), (("why", "two"),)]
    assert message.cures.count("record them anew") == 1


def test_counters_that_do_not_compare_are_not_told_beside_a_regression(sample):
    rows = (
        sample.counter(now=101),
        sample.unsettled(Verdict.INCOMPARABLE, "other torch", "record them anew"),
    )
    message = wording.explain(sample.verdict(Verdict.REGRESSED, failed=True, comparisons=rows))
    assert [part.text for part in message.sections] == ["exact counters, without noise"]
    assert "record them anew" not in message.cures


def test_counters_without_a_reason(sample):
    row = msgspec.structs.replace(sample.unsettled(Verdict.INCOMPARABLE, "x"), note=None)
    assert section(sample, row, verdict=Verdict.INCOMPARABLE) == wording.MetricSection(
        text="exact counters", verdict="incomparable"
    )


def test_rates_carry_the_unit_of_the_test(sample):
    check = sample.check("throughput_per_s", 100.0, Verdict.OVER_BUDGET, value=90.0)
    verdict = sample.verdict(Verdict.OVER_BUDGET, budgets=(check,))
    message = wording.explain(verdict, sample.result(unit="texts"))
    assert message.title == "over-budget: throughput 90.0 texts/s is under its budget of 100 texts/s"


def test_a_case_that_nobody_judged(sample):
    result = sample.result(outcome=Outcome.SKIPPED, reason=sample.note(hint="unset it"))
    assert wording.explain_result(result) == wording.Message(
        title="skipped, not judged: cuda hidden: CUDA_VISIBLE_DEVICES is empty", cures=("unset it",)
    )
    assert wording.explain_result(sample.result()).title == "measured, not judged"


@pytest.mark.parametrize(
    ("metric", "fields", "words"),
    [
        ("usd_per_million", {}, "0.1785 USD an hour, a\\nb; used to 60 %"),
        (
            "usd_per_month",
            {"demand": 50.0},
            "0.1785 USD an hour, a\\nb; used to 60 %; 4 machines for 50.0/s, by throughput alone: waiting is not counted",
        ),
        ("usd_per_month", {}, "0.1785 USD an hour, a\\nb; used to 60 %"),
        ("usd_per_month", {"demand": -1.0}, "0.1785 USD an hour, a\\nb; used to 60 %"),
        ("p95_ms", {}, None),
        ("usd_per_million", {"price": None}, None),
        ("usd_per_month", {"demand": 50.0, "measurement": None}, "0.1785 USD an hour, a\\nb; used to 60 %"),
    ],
    ids=["million", "month", "no-demand", "foreign", "time", "no-price", "not-measured"],
)
def test_a_cost_says_what_it_rests_on(sample, metric, fields, words):
    price = Price(usd_per_hour=0.1785, utilisation=0.6, source="a\nb")
    check = sample.check(metric, 1.0, Verdict.OVER_BUDGET, 2.0)
    verdict = sample.verdict(Verdict.OVER_BUDGET, failed=True, budgets=(check,))
    lines = dict(wording.explain(verdict, sample.result(**{"price": price, **fields})).sections[0].lines)
    assert lines.get("price") == words


def test_an_unknown_metric_of_a_foreign_file_is_a_bare_number():
    metric = wording.budget_metric("new\nmetric")
    assert (metric.text, metric.shown(1234.5), metric.shown(None)) == (r"new\nmetric", "1,234.5", "-")


def test_no_message_holds_what_a_terminal_would_obey(sample):
    session = sample.hostile_session()
    for result, verdict in zip(session.cases, session.gate.verdicts, strict=True):
        message = wording.explain(verdict, result)
        texts = [message.title, *message.cures]
        texts += [text for section in message.sections for line in section.lines for text in line]
        texts += [text for section in message.sections for text in (section.text, section.verdict)]
        assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_words_when_nothing_else_is_known(sample, verdict):
    message = wording.explain(sample.verdict(verdict, failed=True))
    assert message.title.startswith(verdict.value)
