from __future__ import annotations

import msgspec
import pytest

from pytest_infergate.core.model import Outcome, Verdict
from pytest_infergate.report import messages


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
    offers = [cure for cure in messages.explain(verdict).cures if "tolerance" in cure]
    wanted = [f'or allow it for this test: @pytest.mark.inference(tolerance={{"p50": "{expected}"}})']
    assert offers == (wanted if expected else [])


def test_a_case_in_order_is_told_in_its_title(sample):
    verdict = sample.verdict(comparisons=(sample.time(),), budgets=(sample.check(),))
    message = messages.explain(verdict, sample.result())
    assert message == messages.Message(
        title="equivalent: p50 latency 40.1 ms against an expected 40.0 ms: +0.3 %, allowed +25.0 %"
    )


def test_a_title_counts_what_it_does_not_name(sample):
    checks = [
        sample.check(name, 40.0, Verdict.OVER_BUDGET)
        for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "ttft_ms")
    ]
    title = messages.explain(sample.verdict(Verdict.OVER_BUDGET, budgets=tuple(checks))).title
    assert title.endswith("p95 latency 43.4 ms is over its budget of 40.0 ms; and 2 more")


def test_a_missing_baseline_does_not_matter_beside_a_broken_budget(sample):
    verdict = sample.verdict(
        Verdict.OVER_BUDGET,
        failed=True,
        comparisons=(sample.time(Verdict.NO_BASELINE),),
        budgets=(sample.check(limit=40.0, verdict=Verdict.OVER_BUDGET),),
    )
    message = messages.explain(verdict)
    assert [section.words for section in message.sections] == ["budget p95_ms"]
    assert not any("baseline" in cure for cure in message.cures)


def test_rates_carry_the_unit_of_the_test(sample):
    check = sample.check("throughput_per_s", 100.0, Verdict.OVER_BUDGET, value=90.0)
    verdict = sample.verdict(Verdict.OVER_BUDGET, budgets=(check,))
    message = messages.explain(verdict, sample.result(unit="texts"))
    assert message.title == "over-budget: throughput 90.0 texts/s is under its budget of 100 texts/s"


def test_a_case_that_nobody_judged(sample):
    result = sample.result(outcome=Outcome.SKIPPED, reason=sample.note(cure="unset it"))
    assert messages.explain_result(result) == messages.Message(
        title="skipped, not judged: cuda hidden: CUDA_VISIBLE_DEVICES is empty", cures=("unset it",)
    )
    assert messages.explain_result(sample.result()).title == "measured, not judged"


def test_an_unknown_metric_of_a_foreign_file_is_a_bare_number():
    metric = messages.budget_metric("new\nmetric")
    assert (metric.words, metric.shown(1234.5), metric.shown(None)) == (r"new\nmetric", "1,234.5", "-")


def test_no_message_holds_what_a_terminal_would_obey(sample):
    session = sample.hostile_session()
    for result, verdict in zip(session.cases, session.gate.verdicts, strict=True):
        message = messages.explain(verdict, result)
        texts = [message.title, *message.cures]
        texts += [text for section in message.sections for line in section.lines for text in line]
        texts += [text for section in message.sections for text in (section.words, section.verdict)]
        assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_words_when_nothing_else_is_known(sample, verdict):
    message = messages.explain(sample.verdict(verdict, failed=True))
    assert message.title.startswith(verdict.value)
