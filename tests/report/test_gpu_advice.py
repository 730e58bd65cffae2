"""Projected machines in every form of an advice: marked by word and shape, as intervals, with the next command."""

import re
from html import unescape

import msgspec
import pytest
from sessions import advised, answer, given, plan, unmet

from pytest_infergate.core.domain.advice_values import (
    Demand,
    DemandStep,
    DemandTable,
    PriceLimits,
    PriceRange,
    ProjectedPlan,
    ProjectionCheck,
    Projections,
    Recommendations,
)
from pytest_infergate.core.domain.values import Note
from pytest_infergate.report import advice, github, gpu_advice, html, results_json, text
from pytest_infergate.report.advice_pages import advice_markdown, advice_text
from pytest_infergate.report.advice_summary import short_answer, summary_rows
from pytest_infergate.report.plan_names import plan_text


def projected(decision="recommended", **fields):
    known = {
        "instance": "aws/g4dn.xlarge", "accelerator": "T4", "price": "aws/g4dn.xlarge", "usd_per_hour": 0.526,
        "dtype": "float16", "evidence": "published", "decision": decision, "instances_low": 1,
        "instances_high": 2, "usd_per_month_low": 384.0, "usd_per_month_high": 768.0,
        "usd_per_million_low": 2.9, "usd_per_million_high": 5.8, "rate_low": 30.0, "rate_high": 400.0,
        "ruled_out_to": 20.0, "recommended_above": 45.0,
    }  # fmt: skip
    return ProjectedPlan(**{**known, **fields})


def projecting(made, *plans, **fields):
    return msgspec.structs.replace(made, projections=Projections(plans=plans, **fields))


PRICES = PriceLimits(
    gpu="x", gpu_usd_per_hour=0.5, cpu="c7i", cpu_usd_per_hour=0.1, machines=5, rate=90.0, assumed=True
)
UNDECIDED = projected("undecided", recommended_above=700.0)
L4 = projected("recommended", instance="gcp/g2", accelerator="L4", usd_per_hour=0.76)


def test_a_recommended_gpu_is_the_answer_and_its_costs_are_an_interval():
    made = projecting(answer(), projected(), L4)
    assert gpu_advice.PROJECTED in advice.verdict(made)
    assert "at most 768 USD per month with 2 x aws/g4dn.xlarge with a T4" in advice.verdict(made)
    (row,) = summary_rows([made])
    assert (row.basis, row.usd_per_month, row.p95) == (
        gpu_advice.PROJECTED,
        "384 to 768",
        "projected to be met",
    )
    assert row.changes == tuple(gpu_advice.gpu_changes(made))
    assert row.plan == "GPU: 2 x aws/g4dn.xlarge with a T4 should be enough"
    found = " ".join(advice.findings(made))
    assert "aws/g4dn.xlarge with a T4 or gcp/g2 with an L4: pytest tests/test_a.py::test_model " in found
    assert "--infer-devices=cuda --infer-dtypes=float16" in found
    assert "The best measured plan is 2 x c7i.xlarge" in found


def test_the_cost_of_a_gpu_ends_at_the_lowest_pessimistic_end():
    """The machine with the lowest price per hour may need many more."""
    wide = projected(instances_high=8, usd_per_month_high=3072.0, recommended_above=0.0)
    sure = projected(
        instance="aws/g6e", accelerator="L40S", instances_high=1, usd_per_month_low=1359.0,
        usd_per_month_high=1359.0, rate_low=300.0, recommended_above=0.0,
    )  # fmt: skip
    late = projected(accelerator="H100", usd_per_month_low=3000.0, usd_per_month_high=3000.0)
    guess = projected(
        accelerator="A100", unverified=True, usd_per_month_low=1015.0, usd_per_month_high=1015.0
    )
    nearest = plan(load=msgspec.structs.replace(plan().load, p95=0.15))
    limits = PriceLimits(
        gpu="x",
        gpu_usd_per_hour=0.5,
        cpu="c7i",
        cpu_usd_per_hour=0.1,
        machines=5,
        faster=1.41,
        faster_machines=3,
    )
    found = msgspec.structs.replace(
        projecting(unmet(), wide, guess, sure, late), nearest=nearest, price_limits=limits
    )
    (row,) = summary_rows([found])
    assert row.usd_per_month == "384 to 1,359"
    assert row.plan == (
        "GPU: 1 x aws/g6e with an L40S should be enough (1,359); "
        "1 to 8 x aws/g4dn.xlarge with a T4 may cost less (from 384)"
    )
    assert row.late == f"not on this CPU: 150 ms > 100 ms (from {gpu_advice.MEASURED} calls)"
    assert row.changes == (
        "this CPU, if a call becomes 1.5 times faster, and then on at least 3 machines",
        "to settle number and cost, measure a GPU",
        "above 300 requests/s it may take more than 1 x aws/g6e with an L40S",
    )
    verdict = advice.verdict(found)
    assert verdict.startswith("Not on this CPU: 150 ms > 100 ms")
    assert "at most 1,359 USD" in verdict
    assert "from 384 with 1 x aws/g4dn.xlarge with a T4 if it is fast enough" in verdict
    assert summary_rows([answer(model="b"), found])[-1].usd_per_month == "645 to 1,620"
    marks = [gpu_advice.decision_text(each, found.projections) for each in found.projections.plans]
    assert marks == [gpu_advice.OPEN, gpu_advice.LESS, gpu_advice.BEST, "dearer than an L40S"]
    asked = " ".join(advice.findings(found))
    assert "one of aws/g6e with an L40S, aws/g4dn.xlarge with a T4" in asked
    # A limit is held against slow calls; the measured ones are stated as well.
    slow = msgspec.structs.replace(plan(), slow_load=nearest.load)
    (row,) = summary_rows([msgspec.structs.replace(found, nearest=slow)])
    assert row.late == f"not on this CPU: 83.0 ms, slow 150 ms > 100 ms (from {gpu_advice.MEASURED} calls)"
    # A plan that is in time is not said to be late.
    assert summary_rows([projecting(unmet(), wide)])[0].late == ""


@pytest.mark.parametrize(
    ("factor", "words"), [(1.8934, "1.9"), (1.91, "2.0"), (2.0, "2.0"), (99.96, "100.0"), (1234.5, "1,235")]
)
def test_a_speed_up_is_rounded_up(factor, words):
    assert gpu_advice.times_faster(factor) == words


def test_demands_are_in_streams_where_the_demand_is():
    camera = answer(demand=Demand(rate=625.0, pattern="periodic", streams=20))
    # The file has 20906 for 669 x 31.25.
    assert [gpu_advice.amount(camera, rate) for rate in (20906.0, 20906.25, 31.25, 20.0)] == [
        "669 streams",
        "669 streams",
        "1 stream",
        "20.0 frames/s",
    ]
    assert gpu_advice.amount(answer(), 59.8) == "59.8 requests/s"


def test_an_undecided_gpu_leaves_the_measured_plan_and_states_where_to_measure():
    made = projecting(answer(), UNDECIDED)
    assert "2 x c7i.xlarge" in advice.verdict(made)
    assert any("between 20.0 requests/s and 700 requests/s" in line for line in advice.findings(made))
    (row,) = summary_rows([made])
    assert row.basis == "● measured; GPU ? undecided"
    assert f"up to 700 requests/s, {gpu_advice.ONLY_MEASURED}" in row.changes


def test_without_a_measured_plan_an_undecided_gpu_is_not_promised():
    made = projecting(unmet(), UNDECIDED)
    assert "measurement" in advice.verdict(made)
    assert "USD" not in advice.verdict(made)
    (row,) = summary_rows([made])
    assert (row.basis, row.usd_per_month) == (gpu_advice.UNDECIDED, "-")


def test_a_ruled_out_gpu_changes_no_figure():
    made = projecting(answer(), projected("ruled out", ruled_out_to=60.0, recommended_above=80.0))
    assert advice.verdict(made) == advice.verdict(answer())
    (row,) = summary_rows([made])
    assert row.basis == gpu_advice.MEASURED
    found = " ".join(advice.findings(made))
    assert "60.0 requests/s" in found
    assert "80.0 requests/s" in found


def test_a_price_that_decides_leaves_the_answer_open():
    price = PriceRange(
        machine="X", low=0.5, high=14.0, cheapest_at_low="X (cuda)", cheapest_at_high="y (cpu)"
    )
    made = answer(price_range=price)
    assert advice.verdict(made).startswith(gpu_advice.UNDECIDED)
    assert summary_rows([made])[0].basis == gpu_advice.UNDECIDED
    same = answer(price_range=msgspec.structs.replace(price, cheapest_at_low="y (cpu)"))
    assert advice.verdict(same) == advice.verdict(answer())
    assert any("0.500 USD to 14.0 USD" in line for line in advice.findings(same))


def test_totals_add_up_both_ends():
    cheap = projecting(answer(model="t.py::b", weights_bytes=None), projected())
    total = summary_rows([answer(), cheap])[-1]
    assert (total.basis, total.usd_per_month) == ("◇ projected in part", "645 to 1,029")


CHECK = ProjectionCheck(
    accelerator="A100-40GB", dtype="float16", batch_size=8, measured=0.004, low=0.001, point=0.002, high=0.006
)


def test_refusals_and_checks_are_sentences():
    note = Note(code="not-projected", text="not projected: recurrent layers run step by step")
    (refused,) = gpu_advice.projected_sentences("t.py::m[1]", Projections(refusals=(note,)), planned=True)
    assert "because recurrent layers run step by step" in refused
    assert "pytest t.py::m --infer-devices=cuda" in refused
    hinted = msgspec.structs.replace(note, hint="do that")
    (refused,) = gpu_advice.projected_sentences("t.py::m", Projections(refusals=(hinted,)), planned=True)
    assert refused.endswith("to know, do that.")
    (checked,) = gpu_advice.projected_sentences("t.py::m", Projections(checks=(CHECK,)), planned=True)
    assert "2.0 times" in checked
    assert "1 of 1" in checked
    assert not msgspec.structs.replace(CHECK, measured=0.0061).inside


@pytest.mark.parametrize("made", [answer(), unmet()])
@pytest.mark.parametrize("plan", [projected(), UNDECIDED, projected("ruled out")])
def test_every_form_carries_the_mark_and_the_legend(sample, made, plan):
    found = given(projecting(made, plan, checks=(CHECK,)))
    session = advised(sample.session(), *found.answers)
    plain = re.compile(r"\\(.)")
    pages = {
        "text": advice_text(found),
        "markdown": plain.sub(r"\1", advice_markdown(found)),
        "terminal": " ".join(text.advice_lines(found).split()),
        "job": plain.sub(r"\1", github.markdown_summary(session)),
        "html": unescape(html.render_html(session)),
    }
    for name, page in pages.items():
        assert gpu_advice.LEGEND in page, name
        assert "All times are measured" not in page
    for name in ("text", "markdown", "html"):
        assert "◇ aws/g4dn.xlarge with a T4" in pages[name], name
    again = results_json.parse_results(results_json.render_results(session), "x")
    assert again.advice.answers[0].projections == found.answers[0].projections


def test_without_a_projection_all_times_are_measured(sample):
    page = html.render_html(advised(sample.session(), answer()))
    assert "All times are measured" in page
    assert "◇" not in page


def test_a_table_of_demands_marks_each_row(sample):
    steps = (
        DemandStep(rate=1.0, plan=answer().winner, projections=Projections(plans=(projected("ruled out"),))),
        DemandStep(rate=100.0, plan=answer().winner, projections=Projections(plans=(projected(),))),
    )
    found = Recommendations(tables=(DemandTable(model="t.py::m", utilisation=0.6, steps=steps),))
    page = html.render_html(msgspec.structs.replace(sample.session(), advice=found), leading=True)
    for shown in (advice_text(found), re.sub(r"\\(.)", r"\1", advice_markdown(found)), page):
        assert gpu_advice.LEGEND in shown
        assert "384 to 768" in shown
        assert "261" in shown


def test_the_column_of_gpus_says_for_which_demand_what_holds():
    only = gpu_advice.ONLY_MEASURED
    ruled_out = projected("ruled out", ruled_out_to=60.0, recommended_above=80.0)
    for made, words in (
        (answer(price_limits=None), ""),
        (
            projecting(unmet(), projected(recommended_above=0.0)),
            "to settle number and cost, measure a GPU; above 60.0",
        ),
        (
            projecting(answer(), projected()),
            "up to 20.0 requests/s no GPU costs less; to settle number and cost, measure a GPU; above 60.0",
        ),
        (
            projecting(answer(), ruled_out),
            (
                f"up to 60.0 requests/s no GPU costs less (◇ projected); up to 80.0 requests/s, {only}; "
                "above 80.0 requests/s a GPU costs less (◇ projected)"
            ),
        ),
        (
            projecting(answer(), projected("undecided", ruled_out_to=0.0, recommended_above=None)),
            f"{only} whether one costs less",
        ),
        (
            projecting(unmet(), projected("undecided", ruled_out_to=0.0, recommended_above=None)),
            f"{only} whether one is enough",
        ),
        (projecting(answer(), projected("ruled out", ruled_out_to=None)), "◇ projected: no GPU is cheaper"),
        (
            projecting(answer(enough=50.0, price_limits=PRICES), ruled_out),
            (
                "up to 90.0 requests/s: more such machines, because no GPU costs less (from prices alone; that "
                "of this CPU is assumed)"
            ),
        ),
    ):
        found = "; ".join(gpu_advice.gpu_changes(made))
        assert found.startswith(words), words
        assert bool(found) is bool(words)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (60.0, 60.0, "dearer up to 60.0 requests/s, cheaper above"),
        (60.0, 80.0, "dearer up to 60.0 requests/s, undecided up to 80.0 requests/s, cheaper above"),
        (60.0, None, "dearer up to 60.0 requests/s, undecided above"),
        (0.0, None, "undecided at every demand"),
        (0.0, 80.0, "undecided up to 80.0 requests/s, cheaper above"),
        (0.0, 0.0, "cheaper at every demand"),
        (None, None, "dearer at every demand"),
    ],
)
def test_a_row_says_at_which_demands_a_gpu_is_dearer_and_cheaper(low, high, words):
    row = projected("undecided", ruled_out_to=low, recommended_above=high)
    assert gpu_advice.by_demand(row, planned=True) == words


def test_a_gpu_is_not_said_to_be_cheaper_than_machines_that_miss_the_limit():
    row = projected(ruled_out_to=0.0, recommended_above=0.0)
    assert "meets the limit" in gpu_advice.by_demand(row, planned=False)


def test_the_number_of_machines_has_its_unit():
    for low, high, words in ((1, 1, "1 machine"), (1, 8, "1 to 8 machines"), (2, None, "2 or more machines")):
        (found,) = [
            column.cell(projected(instances_low=low, instances_high=high))
            for column in gpu_advice.PROJECTED_COLUMNS
            if column.key == "machines"
        ]
        assert found == words


def test_an_unverified_price_says_so_in_every_form(sample):
    made = projecting(answer(), projected(unverified=True))
    page = html.render_html(advised(sample.session(), made))
    for shown in (advice_text(given(made)), advice_markdown(given(made)).replace("\\", ""), page):
        assert "0.526 (unverified price)" in shown
        assert summary_rows([made])[0].price == "unverified price"
    assert "the lowest pessimistic end with an unverified price" in advice.verdict(made)
    measured = answer(plans=(msgspec.structs.replace(answer().winner, unverified=True),))
    assert "(unverified price)" in advice.verdict(measured)
    assert "261 (unverified price of 2026-07-20)" in text.advice_lines(given(measured))


def test_a_plan_at_an_assumed_price_names_the_machine_with_this_price():
    made = plan(
        assumed="as much as x", instance="2-core X", price="aws/c7a.large in us-east-1, as of 2026-07-20"
    )
    assert plan_text(made) == "2 x this machine (2-core X, cpu), priced like aws/c7a.large"
    (row,) = summary_rows([answer(plans=(made,))])
    assert row.plan == "CPU: 2 x this machine (2-core X), priced like aws/c7a.large"
    assert row.price == "assumed price of 2026-07-20"
    assert short_answer([answer(plans=(made,))], [row]).startswith("1 model on this CPU (● measured): 261")
