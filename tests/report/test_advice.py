"""Advice as text, Markdown, pictures and page. The wording is in the golden files."""

import itertools
import re
from html import unescape

import msgspec
from sessions import ASKED, CPU, GPU, SMALL, advised, answer, given, plan, unmet

from pytest_infergate.core.advice import planning, recommendation, sensitivity
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain.advice_values import (
    CostPoint,
    Crossing,
    Demand,
    DemandStep,
    DemandTable,
    PriceLimits,
    Recommendations,
    Scaled,
    Sweep,
)
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.values import Note
from pytest_infergate.report import advice, gpu_advice, html
from pytest_infergate.report import text as terminal
from pytest_infergate.report.advice_pages import advice_markdown, advice_text
from pytest_infergate.report.advice_summary import (
    SUMMARY_COLUMNS,
    change_lines,
    explanations,
    limit_lines,
    summary_rows,
    without_demand,
)
from pytest_infergate.report.charts import line_charts
from pytest_infergate.report.plan_names import plan_price

LIMITS = PriceLimits(
    gpu="aws/g4dn.xlarge with a T4", gpu_usd_per_hour=0.526, cpu="c7i.xlarge", cpu_usd_per_hour=0.1785,
    machines=2, rate=90.0,
)  # fmt: skip
SAME = Note(code="stale", text="prices are 100 days old", hint="infergate prices refresh")


def test_no_plan_has_neither_a_runner_up_nor_a_table():
    text = advice_text(given(unmet()))
    assert "USD" not in text.partition("assumed:")[0]
    assert unmet().binding.hint in text


def test_several_models_are_summed_up_first():
    first, _, *lines = advice_text(given(answer(), SMALL, unmet())).splitlines()
    assert first == "2 models on a CPU (● measured), 1 without a plan"
    # Nothing is projected.
    shown = [column.header for column in SUMMARY_COLUMNS if column.key != "basis"]
    assert re.split(r" {2,}", lines[0]) == shown
    assert re.split(r" {2,}", lines[2]) == [
        "tests/test_a.py::test_model", "50 requests/s", "CPU: 2 x c7i.xlarge", "261", "limit 100 ms: 83.0 ms, simulated",
        "1.98 (requests)",
    ]  # fmt: skip
    assert re.split(r" {2,}", lines[4])[1:] == [
        "50 requests/s", "none meets the limit", "-", "limit 100 ms: -", "-",
    ]  # fmt: skip


def test_the_models_are_added_up_where_each_has_a_plan():
    rows = summary_rows([answer(), SMALL])
    assert [column.cell(rows[-1]) for column in SUMMARY_COLUMNS if column.key != "plan"] == [
        "sum", "", "", "521", "", "",
    ]  # fmt: skip
    assert "separate machines" in rows[-1].plan
    assert any("share a machine" in line for line in explanations([answer(), SMALL], rows))
    assert [row.total for row in summary_rows([answer(), SMALL, unmet()])] == [False] * 3
    assert not explanations([unmet()], summary_rows([unmet()]))


def test_the_demands_at_which_an_answer_changes_are_stated_with_their_unit():
    two = answer(enough=66.0, price_limits=LIMITS)
    several = summary_rows([two, SMALL, answer(costs=(), crossings=())])
    assert several[0].changes[:2] == (
        "2 machines are enough up to 66.0 requests/s, 1.3 times the demand",
        "above 141 requests/s g6.xlarge (cuda) costs less",
    )
    # The crossing is below the demand of this one.
    assert several[1].changes == ("no other measured machine costs less up to 500 requests/s",)
    assert several[2].changes == ()
    assert summary_rows([unmet()])[0].changes == ("allow more time",)
    one = msgspec.structs.replace(two.winner, instances=1)
    (row,) = summary_rows([answer(enough=66.0, demand=Demand(rate=60.0, pattern="periodic"), plans=(one,))])
    assert row.changes[0] == "one machine is enough up to 1 stream, 1.1 times the demand"
    assert change_lines([row]) == [f"{row.model}: {'; '.join(row.changes)}"]


def test_an_answer_without_a_limit_says_so_and_how_to_set_one():
    free = answer(limit=None, demand=Demand(rate=2.5))
    cameras = answer(limit=None, demand=Demand(rate=60.0, pattern="periodic", streams=2))
    rows = summary_rows([answer(), free, cameras])
    assert [row.limit for row in rows[:3]] == [
        "limit 100 ms",
        "no latency limit",
        "limit 33.3 ms (next frame)",
    ]
    (line,) = limit_lines([answer(), free, free])
    assert line.startswith(f"{free.model}: ")
    assert "--demand 2.5/s" in line
    assert line.partition(": ")[2] in advice.findings(free)
    assert limit_lines([answer(), cameras]) == []
    assert ", no latency limit" in advice.question(free)
    assert "33.3 ms" in advice.question(cameras)


def test_one_machine_alone_is_not_said_to_be_the_cheapest():
    single = answer(
        deployments=("c7i.xlarge (cpu)",), crossings=(), costs=(CostPoint(rate=500.0, usd_per_month=(1.0,)),)
    )
    (row,) = summary_rows([single])
    assert not any("costs less" in line for line in row.changes)
    assert not any("No other deployment" in line for line in advice.findings(single))


def test_an_assumed_price_is_labelled_beside_every_figure():
    plan = msgspec.structs.replace(answer().winner, assumed="as much as aws/c7i.large")
    label = Note(
        code="assumed-price", text="assumed: it costs 0.1 USD per hour", hint="to set its price, write x"
    )
    assumed = answer(plans=(plan, *answer().plans[1:]), notes=(label,))
    (row,) = summary_rows([assumed])
    assert (row.usd_per_month, row.price) == ("261", "assumed price of 2026-07-20")
    assert "(assumed price)" in advice.verdict(assumed)
    assert "assumed, as much as aws/c7i.large" in plan_price(plan)
    assert advice.remarks(assumed)[0] == str(label)
    total = summary_rows([assumed, SMALL])[-1]
    assert (total.usd_per_month, total.price) == ("521", "assumed in part")
    assert str(label) in terminal.advice_lines(given(assumed))
    assert str(label) in advice_text(given(assumed))


def test_what_prices_decide_is_said_with_its_figures():
    (sentence,) = gpu_advice.price_sentences(LIMITS, limited=True)
    for figure in ("90.0 requests/s", "2 x c7i.xlarge", "0.526 USD", "within the limit"):
        assert figure in sentence, figure
    assert advice.findings(answer(price_limits=LIMITS))[0] == sentence
    (unverified,) = gpu_advice.price_sentences(
        msgspec.structs.replace(LIMITS, gpu_unverified=True), limited=True
    )
    assert "0.526 USD per hour, unverified price" in unverified
    cpu_only = answer(price_limits=LIMITS, plans=(answer().winner,))
    assert (
        "up to 90.0 requests/s no GPU costs less (from prices alone)" in summary_rows([cpu_only])[0].changes
    )
    (doubtful,) = gpu_advice.price_sentences(msgspec.structs.replace(LIMITS, assumed=True), limited=True)
    assert "assumed price" in doubtful
    assert "assumed" not in sentence
    share = msgspec.structs.replace(LIMITS, gpus=3, gpu_rate=70.0)
    assert "70.0 requests/s" in gpu_advice.price_sentences(share, limited=False)[-1]
    unmet_limit = msgspec.structs.replace(LIMITS, rate=None, faster=3.21)
    (sentence,) = gpu_advice.price_sentences(unmet_limit, limited=True)
    assert "3.3 times faster" in sentence
    dear = msgspec.structs.replace(LIMITS, machines=0, rate=None)
    (sentence,) = gpu_advice.price_sentences(dear, limited=True)
    assert "exclude no GPU" in sentence
    assert gpu_advice.price_sentences(None, limited=True) == []


def test_a_table_of_demands_is_in_every_form(sample):
    plan = msgspec.structs.replace(answer().winner, assumed="as much as aws/c7i.large")
    label = Note(
        code="assumed-price", text="assumed: it costs 0.1 USD per hour", hint="to set its price, write x"
    )
    steps = (DemandStep(rate=0.1, plan=plan), DemandStep(rate=1000.0))
    table = DemandTable(model="t.py::m", utilisation=0.6, steps=steps, price_limits=LIMITS, notes=(label,))
    found = Recommendations(tables=(table,))
    page = unescape(html.render_html(msgspec.structs.replace(sample.session(), advice=found), leading=True))
    markdown = re.sub(r"\\(.)", r"\1", advice_markdown(found))
    for text in (advice_text(found), markdown, page):
        for words in (
            "0.100/s",
            "1.00k/s",
            "261 (assumed price)",
            "none meets the limit",
            "90.0 requests/s",
            str(label),
        ):
            assert words in text, words


def test_two_answers_for_one_model_are_not_added_up():
    """Results of several machines hold one for each, and only one of them will be deployed."""
    assert not any(row.total for row in summary_rows([answer(), answer()]))


def test_two_tests_with_the_weights_of_one_model_are_not_added_up():
    for first, second, added in [(100, 100, False), (100, 101, True), (None, None, True)]:
        both = [answer(weights_bytes=first), msgspec.structs.replace(SMALL, weights_bytes=second)]
        assert any(row.total for row in summary_rows(both)) is added, (first, second)


def test_many_changes_of_the_cheapest_are_said_around_the_demand():
    rates = [2.0, 3.0, 40.0, 60.0, 90.0]
    crossings = tuple(
        Crossing(rate=rate, below=texts[0], above=texts[1])
        for rate, texts in zip(rates, itertools.cycle([(CPU, GPU), (GPU, CPU)]), strict=False)
    )
    for demand, span in [(50.0, (40.0, 60.0)), (1.0, (0.0, 2.0)), (100.0, (90.0, None)), (3.0, (2.0, 3.0))]:
        one = answer(demand=Demand(rate=demand), crossings=crossings)
        assert (one.cheapest_from, one.cheapest_up_to) == span, demand
        (line,) = [line for line in advice.findings(one) if "changes 5 times" in line]
        assert all(f"{int(rate)}" in line for rate in span if rate), line
    few = answer(crossings=crossings[:3])
    assert not any("changes" in line for line in advice.findings(few))


def test_a_p95_that_is_not_certain_says_so():
    for error, said in [(None, False), (0.03, False), (0.08, True)]:
        load = msgspec.structs.replace(plan().load, p95_error=error)
        one = answer(plans=(plan(load=load),))
        assert any("standard error of 8 %" in line for line in advice.findings(one)) is said, error


def test_ways_to_work_off_a_backlog_look_different():
    job = Job(
        instance="own", price="own hardware", usd_per_hour=0.1, device="cpu", max_batch=1, machine_hours=1.0,
        instances=1, usd=0.1,
    )  # fmt: skip
    ways = [{}, {"dtype": "bfloat16"}, {"runtime": "compile"}, {"workers": 2, "threads": 1}, {"threads": 1}]
    column = next(column for column in advice.JOB_COLUMNS if column.key == "device")
    cells = [column.cell(msgspec.structs.replace(job, **way)) for way in ways]
    assert cells == ["cpu", "cpu, bfloat16", "cpu, compile", "cpu, 2 workers of 1 thread", "cpu, 1 thread"]


def test_one_model_needs_no_sum():
    assert len(summary_rows([answer()])) == 1
    assert advice.shared([answer()]) == []
    assert "enough up to" not in advice_text(given(answer()))


def test_a_note_of_several_models_or_of_one_stands_once():
    both = [answer(notes=(SAME, SAME)), msgspec.structs.replace(SMALL, notes=(SAME,))]
    for answers in (both, both[:1]):
        for text in (advice_text(given(*answers)), advice_markdown(given(*answers)).replace("\\", "")):
            assert text.count(SAME.text) == 1
            assert text.count(answer().actions[0].text) == 1
    text = advice_text(given(*both))
    assert text.index(SAME.text) > text.index("test_small")


def test_what_must_be_known_is_asked_once():
    asked = advice.questions(ASKED)
    assert len(asked) == 2
    assert asked[0].startswith("tests/test_c.py::test_c and 1 more: ")
    asked = given(answer(), unanswered=ASKED)
    for text in (advice_text(asked), advice_markdown(asked)):
        assert text.count("what is it?") == 1
    assert "what is it?" not in advice_text(given(answer()))


def test_markdown_has_a_table_and_no_markup_of_others():
    hostile = answer(model="tests/`a`|<b>.py::test_*x*", plans=(plan(instance="**big** | @all <img>"),))
    text = advice_markdown(given(hostile))
    assert text.startswith("### ``tests/`a`|<b>.py::test_*x*``\n")
    assert "<img>" not in text
    assert "| @all" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


# Pictures


def test_every_offer_is_a_line_with_a_shape_of_its_own():
    demand, pareto = line_charts.charts(answer())
    assert [line.label for line in demand.lines] == ["c7i.xlarge (cpu)", "g6.xlarge (cuda)"]
    assert [line.style for line in demand.lines] == [0, 1]
    assert all(line.path for line in demand.lines)
    assert not any(line.path for line in pareto.lines)


def test_points_stand_inside_and_in_order():
    for chart in line_charts.charts(answer()):
        for line in chart.lines:
            across = [float(x.rstrip("%")) for x, _ in line.points]
            assert across == sorted(across)
            assert all(0 <= x <= 100 for x in across)
            assert all(0 <= float(y) <= line_charts.HEIGHT for _, y in line.points)


def test_a_demand_that_cannot_be_served_leaves_a_gap_and_words():
    demand = line_charts.charts(answer())[0]
    assert len(demand.lines[0].points) == 2
    assert demand.cells[-1][::2] == ("500/s", "588")
    assert not demand.cells[-1][1][0].isdigit()


def test_the_demand_that_was_asked_for_is_marked():
    demand, pareto = line_charts.charts(answer())
    assert "50/s" in demand.rule[1]
    assert "100 ms" in pareto.rule[1]


def test_the_chart_of_streams_counts_frames():
    assert line_charts.charts(answer())[0].across == "requests per second"
    camera = answer(demand=Demand(rate=60.0, pattern="periodic", streams=2))
    assert line_charts.charts(camera)[0].across == "frames per second"


def test_tests_without_a_demand_are_named(sample):
    session = sample.session([sample.pair()])
    (silent,) = {case.case.test.rpartition("::")[2] for case in session.cases}
    assert without_demand(session) == []
    assert without_demand(advised(session, answer())) == [silent]
    assert without_demand(advised(session, answer(model=session.cases[0].case.test))) == []
    for page in (
        html.render_html(advised(session, answer())),
        terminal.terminal_summary(advised(session, answer())),
    ):
        assert f"{silent} states no demand" in page


def test_a_sentence_said_above_is_no_assumption_below():
    said = explanations([answer()], summary_rows([answer()]))
    assert advice.SIMULATED in said
    assert advice.SIMULATED in advice.assumptions()
    assert advice.SIMULATED not in advice.assumptions(said)


def test_batches_are_drawn_where_several_were_measured():
    sweep = Sweep(deployment="c7i.xlarge (cpu)", batch_sizes=(1, 8), p50=(0.02, 0.1), throughput=(50.0, 80.0))
    batches = line_charts.charts(answer(sweeps=(sweep,)))[-1]
    assert batches.cells == (
        ("c7i.xlarge (cpu)", "1", "20.0 ms", "50.0/s"),
        ("c7i.xlarge (cpu)", "8", "100 ms", "80.0/s"),
    )
    single = Sweep(deployment="c7i.xlarge (cpu)", batch_sizes=(1,), p50=(0.02,), throughput=(50.0,))
    assert len(line_charts.charts(answer(sweeps=(single,)))) == 2


def test_nothing_to_draw_is_no_picture():
    assert line_charts.charts(unmet()) == ()


def test_axes_have_few_round_ticks():
    for low, high in ((1.0, 1.0), (0.001, 1e9), (3.0, 3.2), (1e-6, 2e-6), (99.0, 101.0)):
        axis = line_charts._axis([low, high])
        assert axis.low <= low <= high <= axis.high
        assert len(axis.ticks) <= 6, (low, high)
        assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_more_offers_than_styles_begin_again():
    names = tuple(f"offer {index}" for index in range(8))
    many = answer(
        deployments=names,
        costs=tuple(CostPoint(rate=rate, usd_per_month=(100.0,) * 8) for rate in (1.0, 10.0)),
    )
    assert [line.style for line in line_charts.charts(many)[0].lines] == [0, 1, 2, 3, 4, 5, 0, 1]


# The page


def page(sample, *answers):
    return html.render_html(advised(sample.session([sample.pair()]), *answers))


def test_the_page_leads_with_the_plan(sample):
    text = page(sample, answer())
    assert f"<strong>{advice.verdict(answer())}</strong>" in text
    assert text.index('<h2 id="advice">') < text.index('<h2 id="cases">')
    assert text.count("<polyline") == 2
    assert text.count("<figure>") >= 2


def test_the_page_has_the_column_of_hours_where_it_has_figures(sample):
    scaled = plan(scaled=Scaled(instances=(1,) * 12 + (2,) * 12, usd_per_month=197.0))
    text = page(sample, answer(plans=(scaled,)), answer())
    assert text.count(">USD/month scaled</th>") == 1


def test_a_page_of_advice_begins_with_it(sample):
    session = sample.session([sample.pair()], headline="passed: 1 of 1 case decided", decided=1)
    text = html.render_html(advised(session, answer()), leading=True)
    (title,) = re.findall("<title>(.*)</title>", text)
    (heading,) = re.findall("<h1>(.*)</h1>", text)
    assert title == heading == advice.verdict(answer())
    assert text.index('<h2 id="advice">') < text.index('<h2 id="run">')
    assert text.index('<h2 id="run">') < text.index("1 of 1 case decided") < text.index('<h2 id="cases">')


def test_a_page_of_several_models_has_them_in_a_table(sample):
    text = html.render_html(advised(sample.session(), answer(notes=(SAME,)), SMALL), leading=True)
    assert f"<h1>{advice.headline([answer(), SMALL])}</h1>" in text
    link = '<a class="id" href="#a2"><span class="p">tests/<wbr>test_b.py::</span><wbr>test_small</a>'
    assert text.index(link) < text.index('id="a1"')
    assert len(re.findall(r'<article class="card" id="a\d">', text)) == 2


def test_a_report_asks_for_what_must_be_known(sample):
    text = html.render_html(advised(sample.session([sample.pair()]), unanswered=ASKED))
    assert "tests/test_c.py::test_c and 1 more: what is it?" in text
    assert '<a href="#advice">' in text
    assert text.count("<h1>") == text.count('<h2 id="advice">') == 1


HARMFUL = ("<script>alert", "<img src=x", "\x1b", "\udc80")


def test_hostile_names_stay_text(sample):
    for name in sample.hostile:
        asked = {name: (Note(code="unknown-machine", text=name, hint=name),)}
        evil = answer(
            model=name, deployments=(name, "other"), plans=(plan(instance=name, price=name, deployment=name),)
        )
        session = advised(sample.session(), evil, unmet(), unanswered=asked)
        text = html.render_html(session, leading=True)
        assert [part for part in HARMFUL if part in text] == [], name
        assert text.encode()


def test_without_advice_the_page_is_silent(sample):
    text = page(sample)
    assert 'id="advice"' not in text
    assert "<polyline" not in text


def test_ids_are_unique_with_several_models(sample):
    text = page(sample, answer(), answer(model="tests/test_b.py::test_other"), unmet())
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_real_answer_renders(sample, monkeypatch):
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)
    ways = [
        Deployment(
            model="tests/test_a.py::test_model", device=device, hardware=hardware, launch_band=0.1,
            service=ServiceTimes(batch_sizes=tuple(times), percentiles=tuple((t,) * 101 for t in times.values())),
        )
        for device, hardware, times in (("cpu", CPU, {1: 0.02, 8: 0.12}), ("cuda", GPU, {1: 0.004, 8: 0.006}))
    ]  # fmt: skip
    prices = (0.1, 0.8)
    offers = [
        PricedDeployment(
            deployment=deployment, user_specified=True,
            instance=Instance(provider="own", region="", name=f"own {deployment.device}", vcpus=0, memory_gib=None, usd_per_hour=usd, as_of=""),
        )
        for deployment, usd in zip(ways, prices, strict=True)
    ]  # fmt: skip
    found = recommendation.advise(Question(demand=Demand(rate=2.0), limit=0.2), offers)
    text = page(sample, found)
    assert found.winner.deployment in text
    assert "73.0 USD" in text
    assert not re.search(
        r"\b(inf|nan|Infinity|NaN)\b", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    )
    levels = [line.points for line in line_charts.charts(found)[0].lines]
    assert all(itertools.chain.from_iterable(levels))


def test_a_narrow_terminal_shows_all_of_an_answer():
    found = given(answer(), SMALL, unmet())
    whole = advice_text(found)
    for width in (60, 80, 100):
        narrow = advice_text(found, width)
        assert max(map(len, narrow.splitlines())) <= width
        missing = set(whole.replace(":", "").split()) - set(narrow.replace(":", "").split())
        assert {word.strip("-") for word in missing} <= {"", "model", "plan"}  # rules, headers of names
