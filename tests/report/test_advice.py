"""Advice as text, Markdown, pictures and page."""

import itertools
import re

import msgspec
import pytest

from pytest_infergate.core.advice import recommendation
from pytest_infergate.core.advice.demand import Backlog, Demand
from pytest_infergate.core.advice.deployments import Deployment, PricedDeployment
from pytest_infergate.core.advice.planning import Electricity, Plan, Question, Scaled
from pytest_infergate.core.advice.queueing import QueueLoad
from pytest_infergate.core.advice.recommendation import Advice, Job
from pytest_infergate.core.advice.sensitivity import CostPoint, Crossing, Sensitivity
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.model import Hardware, Note
from pytest_infergate.report import advice, html
from pytest_infergate.report.charts import line_charts

CPU = Hardware(cpu_model="Test CPU", cores=4)
GPU = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA L4", accelerator_count=1)


def plan(**fields):
    known = {
        "deployment": "c7i.xlarge (cpu)",
        "instance": "c7i.xlarge",
        "price": "aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20",
        "usd_per_hour": 0.1785,
        "user_specified": True,
        "device": "cpu",
        "runtime": "eager",
        "hardware": CPU.id,
        "max_batch": 8,
        "max_wait": 0.0,
        "instances": 2,
        "usd_per_month": 260.61,
        "usd_per_month_with_spare": 390.9,
        "usd_per_million": 1.98,
        "load": QueueLoad(
            requests=4500,
            mean=0.04,
            p50=0.035,
            p95=0.083,
            p99=0.12,
            utilisation=0.48,
            offered=0.36,
            mean_batch=1.7,
        ),
        "cold_start": 1.5,
        "weights_bytes": 91_000_000,
    }
    return Plan(**{**known, **fields})


CARD = plan(
    offer="g6.xlarge (cuda)",
    instance="g6.xlarge",
    price="aws/g6.xlarge in us-east-1, on demand, as of 2026-07-20",
    device="cuda",
    instances=1,
    usd_per_month=587.5,
    usd_per_month_with_spare=1175.0,
)


def answer(**fields):
    known = {
        "model": "tests/test_a.py::test_model",
        "demand": Demand(rate=50.0),
        "limit": 0.1,
        "utilisation": 0.6,
        "deployments": ("c7i.xlarge (cpu)", "g6.xlarge (cuda)"),
        "plans": (plan(), CARD),
        "considered": (plan(), plan(max_batch=1, usd_per_month=390.9), CARD),
        "crossings": (Crossing(rate=141.0, below="c7i.xlarge (cpu)", above="g6.xlarge (cuda)"),),
        "costs": tuple(
            CostPoint(rate=rate, usd_per_month=(cpu, 587.5))
            for rate, cpu in ((5.0, 130.3), (50.0, 260.6), (500.0, None))
        ),
        "sensitivities": (
            Sensitivity(assumption="its price +20 %", winner="c7i.xlarge (cpu)"),
            Sensitivity(assumption="slower calls", winner="g6.xlarge (cuda)"),
        ),
        "actions": (
            Note(code="single-worker", text="one worker was measured", hint="try --infer-workers=4"),
        ),
    }
    return Advice(**{**known, **fields})


def unmet():
    return answer(
        plans=(), considered=(), crossings=(), costs=(), sensitivities=(), nearest=plan(),
        binding=Note(code="limit-unmet", text="no plan answers 95 % of requests within 1.00 ms", hint="allow more time"),
    )  # fmt: skip


def test_the_sentence_that_matters_comes_first():
    text = advice.advice_text([answer()])
    lines = text.splitlines()
    assert lines[0] == "tests/test_a.py::test_model"
    assert (
        lines[1]
        == "  50 requests/s, Poisson, 95 % within 100 ms, machines used to at most 60 % of their capacity"
    )
    assert lines[2] == "  Run it on 2 x c7i.xlarge (cpu): 261 USD a month, 1.98 USD per million requests."


@pytest.mark.parametrize(
    "words",
    [
        "p95 83.0 ms of the 100 ms allowed; batches of at most 8; 36 % of its capacity used, busy 48 % of the time.",
        "Runner-up: 1 x g6.xlarge (cuda), 588 USD a month: 327 USD more.",
        "Up to 141 requests/s c7i.xlarge (cpu) costs least, above that g6.xlarge (cuda).",
        "With its price +20 %, it still costs least.",
        "With slower calls, g6.xlarge (cuda) would cost least.",
        "The first call in a new process takes 1.50 s once its 91.0 MB of weights are loaded.",
        "c7i.xlarge 0.178 USD an hour: aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20",
        "one worker was measured (try --infer-workers=4)",
        "Service time is not latency under load",
        "spot".capitalize(),
    ],
)
def test_what_the_terminal_says(words):
    assert words in advice.advice_text([answer()])


def test_a_winner_that_nothing_beats_is_told_with_its_range():
    assert "Nothing else costs less from 5.00/s to 500/s." in advice.advice_text([answer(crossings=())])


def test_missed_frames_and_waits_and_interpolation_are_told():
    load = msgspec.structs.replace(plan().load, missed=0.004, interpolated=True)
    cameras = Demand(rate=240.0, pattern="periodic", streams=8)
    text = advice.advice_text([answer(demand=cameras, plans=(plan(load=load, max_wait=0.01),))])
    assert "0.4 % of frames later than that" in text
    assert "waiting up to 10.0 ms for them" in text
    assert "interpolated between measured batch sizes" in text


@pytest.mark.parametrize(
    ("streams", "words"), [(0, "no such stream."), (1, "1 such stream."), (22, "22 such streams.")]
)
def test_streams_of_one_machine_are_told(streams, words):
    frames = answer(
        demand=Demand(rate=240.0, pattern="periodic", streams=8), plans=(plan(streams_per_instance=streams),)
    )
    words = words.replace("stream.", "stream, but frames of a stream may go to any of them.", not streams)
    assert f"One c7i.xlarge alone keeps up with {words}" in advice.advice_text([frames])


def test_no_plan_says_what_binds_and_what_next():
    text = advice.advice_text([unmet()])
    assert "No plan answers 95 % of requests within 1.00 ms." in text
    assert "Next: allow more time." in text
    assert "Run it on" not in text


def test_nobody_meets_the_limit_any_more():
    gone = (Sensitivity(assumption="slower calls", winner=None),)
    assert "With slower calls, no plan meets the limit." in advice.advice_text([answer(sensitivities=gone)])


def test_a_backlog():
    job = Job(
        instance="g6.xlarge", price="aws", usd_per_hour=0.8, device="cuda", max_batch=32, machine_hours=0.104,
        instances=1, usd=0.083,
    )  # fmt: skip
    work = Backlog(items=1e6, deadline=7200.0)
    text = advice.jobs(work, (job,), "tests/test_a.py::test_model")
    assert "1000000 items within 2 h 0 min" in text or "1,000,000 items" in text
    assert re.search(r"g6\.xlarge\s+cuda\s+32\s+0\.104\s+1\s+0\.0830\s+-$", text)
    spot = advice.jobs(work, (msgspec.structs.replace(job, usd_on_spot=0.0277),), "model")
    assert re.search(r"0\.0830\s+0\.0277$", spot, re.MULTILINE)
    assert spot.endswith("Spot machines may be taken away, and what they were at is done again.")


@pytest.mark.parametrize(
    ("source", "scope", "words"),
    [
        ("nvml", "board", "measured by nvml, of the board alone"),
        ("estimate", "vcpus", "estimated from the processor's class"),
    ],
)
def test_energy_stands_beside_the_winner(source, scope, words):
    taken = Electricity(
        joules_per_item=3.0, kwh_per_month=22.0, grams_co2e_per_month=10_450.0,
        basis="475 g/kWh (world, 2019)", source=source, scope=scope,
    )  # fmt: skip
    text = advice.advice_text([answer(plans=(plan(electricity=taken),))])
    assert (
        "Energy, idle time included: 3.00 J an item, 22.0 kWh a month, 10.4 kg CO2e at 475 g/kWh "
        f"(world, 2019); {words}. It is in the price of a rented machine, and should be in that of an own one."
        in text
    )
    assert "Energy, idle time" not in advice.advice_text([answer()])


def test_how_much_more_the_machines_serve_is_told():
    assert "\n  2 x c7i.xlarge serve up to about 66.0 requests/s.\n" in advice.advice_text(
        [answer(enough=66.0)]
    )
    single = answer(enough=66.0, plans=(plan(instances=1), CARD))
    assert "1 x c7i.xlarge serves up to about" in advice.advice_text([single])
    assert "up to about" not in advice.advice_text([answer()])


def test_a_runner_up_that_costs_the_same_is_told_by_what_it_is_worse_in():
    control_worker = plan(offer="c7i.xlarge (cpu, 2 workers)", workers=2)
    text = advice.advice_text(
        [answer(offers=(plan().deployment, control_worker.deployment), plans=(plan(), control_worker))]
    )
    assert (
        "Runner-up: 2 x c7i.xlarge (cpu, 2 workers), 261 USD a month: as much, with a p95 of 83.0 ms." in text
    )


def test_machines_that_never_serve_in_time_are_named():
    assert "Not in time with any number of machines: g6.xlarge (cuda)." in advice.advice_text(
        [answer(plans=(plan(),))]
    )
    assert "any number of machines" not in advice.advice_text([answer()])


def test_energy_that_is_known_of_others_alone_is_missed():
    taken = Electricity(
        joules_per_item=3.0, kwh_per_month=22.0, grams_co2e_per_month=10_450.0, basis="", source="nvml", scope="board"
    )  # fmt: skip
    missed = "Energy of this plan is not known"
    assert missed in advice.advice_text([answer(considered=(plan(), plan(electricity=taken)))])
    assert missed not in advice.advice_text([answer()])


def test_a_first_call_that_nobody_measured_is_not_told():
    assert "first call in a new process" not in advice.advice_text(
        [answer(plans=(plan(cold_start=None), CARD))]
    )


def test_several_crossings_are_one_sentence():
    crossings = (
        Crossing(rate=87.5, below="one", above="two"),
        Crossing(rate=538.0, below="two", above="three"),
    )
    text = advice.advice_text([answer(crossings=crossings)])
    assert "Up to 87.5 requests/s one costs least, up to 538 requests/s two, above that three." in text


def by_the_hour():
    scaled = [
        msgspec.structs.replace(one, scaled=Scaled(instances=counts, usd_per_month=usd))
        for one, counts, usd in ((plan(), (1,) * 12 + (2,) * 12, 197.0), (CARD, (1,) * 24, 587.5))
    ]
    return answer(plans=tuple(scaled))


def test_machines_that_come_and_go_have_a_column_and_a_sentence():
    text = advice.advice_text([by_the_hour()])
    assert (
        "Scaled by the hour, 1 to 2 x c7i.xlarge (cpu) costs least: 197 USD a month, "
        "machines ordered 5 min ahead." in text
    )
    assert re.search(r"USD/million\s+USD/month scaled\n", text)
    assert re.search(r"^2 x c7i\.xlarge .* 1\.98\s+197$", text, re.MULTILINE)
    assert "USD/month scaled |" in advice.advice_markdown([by_the_hour()])


def test_machines_that_stay_need_no_range():
    first, second = by_the_hour().plans
    text = advice.advice_text([answer(plans=(second,))])
    assert "Scaled by the hour, 1 x g6.xlarge (cuda) costs least: 588 USD a month" in text
    assert first.scaled is not None


def test_the_page_has_the_column_where_it_has_figures(sample):
    assert page(sample, by_the_hour(), answer()).count(">USD/month scaled</th>") == 1


# Several models


SMALL = answer(model="tests/test_b.py::test_small", demand=Demand(rate=200.0), actions=())
SAME = Note(code="stale", text="prices are 100 days old", hint="infergate prices refresh")
ASKED = {
    "tests/test_c.py::test_c": (Note(code="unknown-machine", text="what is it?", hint="say --instance"),),
    "tests/test_d.py::test_d": (Note(code="unknown-machine", text="what is it?", hint="say --instance"),),
    "tests/test_e.py::test_e": (Note(code="left-out", text="test_e is left out: its outcome is failed"),),
}


def test_several_models_are_summed_up_first():
    lines = advice.advice_text([answer(), SMALL, unmet()]).splitlines()
    assert re.split(r" {2,}", lines[0]) == list(advice.SUMMARY)
    assert re.split(r" {2,}", lines[1]) == [
        "tests/test_a.py::test_model", "2 x c7i.xlarge (cpu)", "83.0 ms", "261", "1.98", "> 500/s", "141/s",
    ]  # fmt: skip
    assert re.split(r" {2,}", lines[2])[-1] == "> 500/s"  # it changes below that demand alone
    assert re.split(r" {2,}", lines[3])[1:] == ["none meets the limit", "-", "-", "-", "-", "-"]
    assert "261 USD a month" in lines[7]


def test_the_models_are_added_up_where_each_has_a_plan():
    assert advice.summary_rows([answer(), SMALL])[-1] == ("all", "", "", "521", "", "", "")
    assert [row[0] for row in advice.summary_rows([answer(), unmet()])] == [answer().model] * 2


def test_one_model_needs_no_summary():
    assert advice.summary_rows([answer()]) == []
    assert advice.shared([answer()]) == []


def test_what_holds_for_every_model_is_said_once():
    both = [answer(notes=(SAME,)), msgspec.structs.replace(SMALL, notes=(SAME,))]
    for text in (advice.advice_text(both), advice.advice_markdown(both).replace("\\", "")):
        assert text.count("prices are 100 days old") == 1
        assert text.count("one worker was measured") == 1
        assert text.index("prices are 100 days old") > text.index("test_small")
    assert advice.advice_text(both[:1]).count("prices are 100 days old") == 1


def test_a_note_of_one_model_that_repeats_is_said_once():
    assert advice.advice_text([answer(notes=(SAME, SAME))]).count("prices are 100 days old") == 1


def test_what_must_be_known_is_asked_once():
    assert advice.questions(ASKED) == [
        "tests/test_c.py::test_c and 1 more: what is it? (say --instance)",
        "tests/test_e.py::test_e: test_e is left out: its outcome is failed",
    ]
    assert "\nnot answered:\n  tests/test_c.py::test_c and 1 more: " in advice.advice_text([answer()], ASKED)
    assert "### Not answered\n\n- " in advice.advice_markdown([answer()], ASKED)
    assert "not answered" not in advice.advice_text([answer()])


def test_frames_are_no_requests():
    frames = answer(demand=Demand(rate=60.0, pattern="periodic", streams=2))
    assert advice.verdict(frames).endswith("1.98 USD per million frames.")
    assert advice.verdict(answer()).endswith("1.98 USD per million requests.")


def test_markdown_has_a_table_and_no_markup_of_others():
    hostile = answer(model="tests/`a`|<b>.py::test_*x*", plans=(plan(instance="**big** | @all <img>"),))
    text = advice.advice_markdown([hostile])
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
    assert demand.cells[-1] == ("500/s", "limit not met", "588")


def test_the_demand_that_was_asked_for_is_marked():
    demand, pareto = line_charts.charts(answer())
    assert demand.rule[1] == "asked 50/s"
    assert pareto.rule[1] == "limit 100 ms"


def test_batches_are_drawn_where_several_were_measured():
    sweep = recommendation.Sweep(
        deployment="c7i.xlarge (cpu)", batch_sizes=(1, 8), p50=(0.02, 0.1), throughput=(50.0, 80.0)
    )
    batches = line_charts.charts(answer(sweeps=(sweep,)))[-1]
    assert batches.title == "What batches give"
    assert batches.cells == (
        ("c7i.xlarge (cpu)", "1", "20.0 ms", "50.0/s"),
        ("c7i.xlarge (cpu)", "8", "100 ms", "80.0/s"),
    )
    single = recommendation.Sweep(
        deployment="c7i.xlarge (cpu)", batch_sizes=(1,), p50=(0.02,), throughput=(50.0,)
    )
    assert len(line_charts.charts(answer(sweeps=(single,)))) == 2


def test_nothing_to_draw_is_no_picture():
    assert line_charts.charts(unmet()) == ()


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.001, 1e9), (3.0, 3.2), (1e-6, 2e-6), (99.0, 101.0)])
def test_axes_have_few_round_ticks(low, high):
    axis = line_charts._axis([low, high])
    assert axis.low <= low <= high <= axis.high
    assert len(axis.ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_more_offers_than_styles_begin_again():
    names = tuple(f"offer {index}" for index in range(8))
    many = answer(
        offers=names, costs=tuple(CostPoint(rate=rate, usd_per_month=(100.0,) * 8) for rate in (1.0, 10.0))
    )
    assert [line.style for line in line_charts.charts(many)[0].lines] == [0, 1, 2, 3, 4, 5, 0, 1]


# The page


def page(sample, *answers):
    return html.render_html(sample.session([sample.pair()]), advice=answers)


def test_the_page_leads_with_the_plan(sample):
    text = page(sample, answer())
    assert "Run it on 2 x c7i.xlarge (cpu): 261 USD a month" in text
    assert text.index("Where to run it") < text.index("All cases</h2>")
    assert text.count("<polyline") == 2
    assert text.count("<figure>") >= 2


def test_a_page_of_advice_begins_with_it(sample):
    session = sample.session([sample.pair()], headline="passed: 1 of 1 case decided", decided=1)
    text = html.render_html(session, advice=[answer()], leading=True)
    (title,) = re.findall("<title>(.*)</title>", text)
    (heading,) = re.findall("<h1>(.*)</h1>", text)
    assert title == heading == advice.verdict(answer())
    assert text.index('<h2 id="advice">') < text.index('<h2 id="run">What was measured</h2>')
    assert text.index('<h2 id="run">') < text.index("1 of 1 case decided") < text.index('<h2 id="cases">')


def test_a_page_of_several_models_has_them_in_a_table(sample):
    text = html.render_html(sample.session(), advice=[answer(notes=(SAME,)), SMALL], leading=True)
    assert "<h1>Where to run 2 models</h1>" in text
    assert text.index('<a class="id" href="#a2">tests/test_b.py::test_small</a>') < text.index('id="a1"')
    assert len(re.findall(r'<article class="card" id="a\d">', text)) == 2


def test_a_report_asks_for_what_must_be_known(sample):
    text = html.render_html(sample.session([sample.pair()]), unanswered=ASKED)
    assert "Not answered</h3>" in text
    assert "tests/test_c.py::test_c and 1 more: what is it?" in text
    assert '<a href="#advice">Where to run it</a>' in text
    assert text.count("<h1>") == text.count('<h2 id="advice">') == 1


@pytest.mark.parametrize("hostile", range(10))
def test_hostile_questions_stay_text(sample, hostile):
    name = sample.hostile[hostile]
    asked = {name: (Note(code="unknown-machine", text=name, hint=name),)}
    text = html.render_html(
        sample.session(), advice=[answer(model=name), unmet()], unanswered=asked, leading=True
    )
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "\x1b" not in text
    text.encode()


def test_without_advice_the_page_is_silent(sample):
    text = page(sample)
    assert "Where to run it" not in text
    assert "<polyline" not in text


def test_pictures_have_their_figures_beside_them(sample):
    text = page(sample, answer())
    assert "limit not met" in text
    assert "The table below has the figures." in text


def test_ids_are_unique_with_several_models(sample):
    text = page(sample, answer(), answer(model="tests/test_b.py::test_other"), unmet())
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("hostile", range(10))
def test_hostile_names_stay_text(sample, hostile):
    name = sample.hostile[hostile]
    evil = answer(model=name, offers=(name, "other"), plans=(plan(instance=name, price=name, offer=name),))
    text = page(sample, evil)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert "\udc80" not in text
    text.encode()


def test_a_real_answer_renders(sample):
    ways = [
        Deployment(
            model="tests/test_a.py::test_model", device=device, hardware=hardware, uncertain=0.1,
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
    assert "Run it on 1 x own cpu (cpu): 73.0 USD a month" in text
    assert not re.search(
        r"\b(inf|nan|Infinity|NaN)\b", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    )
    levels = [line.points for line in line_charts.charts(found)[0].lines]
    assert all(itertools.chain.from_iterable(levels))
