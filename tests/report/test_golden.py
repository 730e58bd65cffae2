"""What every renderer makes of a rich session, of a paired one, and of several answers: their wording.

Figures, structure and limits are tested beside each renderer. `make golden` renews the golden files.
"""

import difflib

import full_session
import msgspec
import pytest
from pages import readable
from sessions import (
    ASKED,
    CARD,
    SMALL,
    SWEEP,
    advised,
    answer,
    every_paired_kind,
    every_stored_kind,
    given,
    plan,
    unmet,
    with_runtimes,
)

from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.domain.advice_values import Crossing, Demand, Electricity, Scaled, Sensitivity
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.values import Note
from pytest_infergate.report import github, html, junit, price_table, text
from pytest_infergate.report.advice_pages import advice_markdown, advice_text, backlog_text

KINDS = {"stored": every_stored_kind, "paired": every_paired_kind, "runtimes": with_runtimes}


@pytest.fixture(params=KINDS)
def session(sample, request):
    return KINDS[request.param](sample)


def test_terminal(session, snapshot):
    assert text.terminal_summary(session, 160) == snapshot


def test_markdown_summary(sample, snapshot):
    assert (
        github.markdown_summary(every_stored_kind(sample), artifact_url="https://example.org/run") == snapshot
    )


def test_comment(sample, snapshot):
    assert github.comment(every_paired_kind(sample), (123, 2), lead="the run ended with failure") == snapshot


def test_annotations(session, snapshot):
    places = {verdict.nodeid: (verdict.case.module, 12) for verdict in session.gate.verdicts[:2]}
    assert github.annotate(session, places) == snapshot


def test_comment_without_results(snapshot):
    words = "pytest ended with exit code 4"
    page = github.without_results(words, artifact_url="https://example.org/run", order=(5, 1))
    assert page == snapshot


def test_page(session, snapshot):
    shown = advised(session, answer(sweeps=(SWEEP,)), unmet(), unanswered=ASKED)
    page = html.render_html(shown, settings={"--infer-devices": "cpu"})
    assert readable(page) == snapshot


def test_page_of_advice(sample, snapshot):
    (one,) = full_session.advised(1, ("c7i.xlarge (cpu)", "g6.xlarge (cuda)"))
    page = html.render_html(advised(sample.session(), one), leading=True)
    assert readable(page).partition("\n## What was measured")[0] == snapshot


def test_properties(session, snapshot):
    verdicts = {verdict.nodeid: verdict for verdict in session.gate.verdicts}
    shown = [*session.cases[:2], *session.cases[-4:-1]]
    found = {result.nodeid: dict(junit.properties(result, verdicts[result.nodeid])) for result in shown}
    lines = [
        f"{nodeid}\n" + "\n".join(f"  {name} = {value}" for name, value in properties.items())
        for nodeid, properties in found.items()
    ]
    assert "\n".join(lines) == snapshot


TAKEN = Electricity(
    joules_per_item=3.0, kwh_per_month=22.0, grams_co2e_per_month=10_450.0,
    basis="475 g/kWh (world, 2019)", source="nvml", scope="board",
)  # fmt: skip
CAMERAS = Demand(rate=240.0, pattern="periodic", streams=8)
STALE = Note(code="stale", text="prices are 100 days old", hint="infergate prices refresh")
SCALED = tuple(
    msgspec.structs.replace(one, scaled=Scaled(instances=counts, usd_per_month=usd))
    for one, counts, usd in ((plan(), (1,) * 12 + (2,) * 12, 197.0), (CARD, (1,) * 24, 587.5))
)
TWIN = plan(deployment="c7i.xlarge (cpu, 2 workers)", workers=2)
ANSWERS = {
    "no plan meets the limit": unmet(),
    "no other plan is cheaper at any demand": answer(crossings=()),
    "several are cheapest, each at its demands": answer(
        crossings=(Crossing(rate=87.5, below="one", above="two"), Crossing(rate=538.0, below="two", above="three"))
    ),
    "frames that come late, from batches that wait": answer(
        demand=CAMERAS,
        plans=(plan(load=msgspec.structs.replace(plan().load, missed=0.004, interpolated=True), max_wait=0.01),),
    ),
    "frames without a limit": answer(
        demand=CAMERAS, limit=None, plans=(plan(load=msgspec.structs.replace(plan().load, missed=0.004)),)
    ),
    "a machine keeps up with no stream": answer(demand=CAMERAS, plans=(plan(streams_per_instance=0),)),
    "a machine keeps up with one stream": answer(demand=CAMERAS, plans=(plan(streams_per_instance=1),)),
    "a machine keeps up with many streams": answer(demand=CAMERAS, plans=(plan(streams_per_instance=22),)),
    "one change of an assumption leaves no plan": answer(
        sensitivities=(Sensitivity(assumption="slower calls", winner=None),)
    ),
    "energy was measured": answer(plans=(plan(electricity=TAKEN),)),
    "energy was estimated": answer(
        plans=(plan(electricity=msgspec.structs.replace(TAKEN, source="estimate", scope="vcpus")),)
    ),
    "energy is known of others": answer(considered=(plan(), plan(electricity=TAKEN))),
    "two machines have room left": answer(enough=66.0),
    "one machine has room left": answer(enough=66.0, plans=(plan(instances=1), CARD)),
    "a runner-up that costs as much": answer(deployments=(plan().deployment, TWIN.deployment), plans=(plan(), TWIN)),
    "a machine that never meets the limit": answer(plans=(plan(),)),
    "the first call was not measured": answer(plans=(plan(cold_start=None, weights_bytes=None), CARD)),
    "machines come and go": answer(plans=SCALED),
    "machines come, and their number stays": answer(plans=SCALED[1:]),
}  # fmt: skip


def test_advice_as_terminal_text(snapshot):
    both = [answer(notes=(STALE, STALE)), msgspec.structs.replace(SMALL, notes=(STALE,)), unmet()]
    assert advice_text(given(*both, unanswered=ASKED)) == snapshot(name="several models")
    usual = advice_text(given(answer()))
    changes = {
        name: [line for line in difflib.ndiff(usual.splitlines(), advice_text(given(found)).splitlines()) if line[0] in "+-"]
        for name, found in ANSWERS.items()
    }  # fmt: skip
    assert usual == snapshot(name="a plan")
    assert "\n\n".join("\n".join([f"== {name}", *lines]) for name, lines in changes.items()) == snapshot(
        name="what is otherwise"
    )


def test_advice_as_markdown(snapshot):
    both = [answer(notes=(STALE,), plans=SCALED), msgspec.structs.replace(SMALL, notes=(STALE,)), unmet()]
    assert advice_markdown(given(*both, unanswered=ASKED)) == snapshot


def test_backlog(snapshot):
    job = Job(
        instance="g6.xlarge", price="aws", usd_per_hour=0.8, device="cuda", max_batch=32, machine_hours=0.104,
        instances=1, usd=0.083,
    )  # fmt: skip
    on_spot = msgspec.structs.replace(job, usd_on_spot=0.0277)
    work = Backlog(items=1e6, deadline=7200.0)
    assert backlog_text(work, (job,), "tests/test_a.py::test_model") == snapshot(name="on demand")
    assert backlog_text(work, (job, on_spot), "tests/test_a.py::test_model") == snapshot(name="on spot")


def test_prices(snapshot):
    one = Instance(
        provider="lab", region="cellar", name="box", vcpus=16, memory_gib=64.0, accelerator="L4", accelerator_count=2,
        usd_per_hour=1.5, spot_usd_per_hour=0.25, as_of="2026-07-01",
    )  # fmt: skip
    other = Instance(
        provider="aws", region="us-east-1", name="c7i\nx", vcpus=4, memory_gib=None, cpu_model="Intel 8488C",
        usd_per_hour=0.1785, as_of="",
    )  # fmt: skip
    assert price_table.price_table([one, other]) == snapshot
