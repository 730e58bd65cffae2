"""Where to run it, in the report of a run: with a demand and a price, and not without."""

import json
import re
from html import unescape

import pytest

from pytest_infergate.core.advice import planning, recommendation, sensitivity

PRICED = "[tool.infergate.instances]\nfake = { usd_per_hour = 0.36 }\naccel = { usd_per_hour = 3.6 }\n"
TITLE = "Where to run each model"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short simulations: what they say is tested elsewhere."""
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)


@pytest.fixture
def reported(project):
    """Run the tests of the project on a call of 10 ms, and give the section of its report."""

    def run(*arguments, table=PRICED, devices="fake", **outcomes):
        (project.path / "pyproject.toml").write_text(table)
        result = project.run(f"--infer-devices={devices}", "--infer-report=r.html", *arguments)
        result.assert_outcomes(**outcomes)
        page = (project.path / "r.html").read_text()
        found = re.search(r'<section aria-labelledby="advice">(.*?)</section>', page, re.DOTALL)
        assert (TITLE in page) == (found is not None)
        return "" if found is None else unescape(re.sub(r"<[^>]+>", " ", found[1]))

    return run


def test_each_model_with_a_demand_has_an_answer_of_its_own(project, reported):
    """Whatever its budget decided. A periodic demand stays periodic."""
    project.several(
        {
            "none": "",
            "poisson": "demand='20/s', budget={'p95_ms': 1}",
            "periodic": "demand='5/s:periodic'",
        }
    )
    words = reported("--infer-gate=warn", passed=3)
    assert "20 requests/s, Poisson" in words
    assert "1 stream of 5 frames/s" in words
    assert "test_none states no demand" in words
    assert "::test_none" not in words
    assert words.count("Run it on 1 x own fake (fake): 263 USD per month") == 2


def test_the_command_line_wins_over_the_marker(project, reported):
    project.several({"none": "", "marked": "demand='20/s'"})
    words = reported("--infer-demand=100/s", passed=2)
    assert "20 requests/s, Poisson" not in words
    assert words.count("Run it on 2 x own fake (fake): 526 USD per month") == 2
    assert "test_none" in words


def test_no_demand_is_no_advice(project, reported):
    project.test()
    assert reported(passed=1) == ""


def test_a_run_without_a_demand_ends_with_the_next_command(project):
    project.test()
    result = project.measure("--infer-json=my results.json")
    line = "*: infergate advise 'my results.json' --demand 5/s --p95-ms 200"
    result.stdout.fnmatch_lines([line])
    assert "--infer-demand=5/s" in project.measure().stdout.str()


def test_commands_name_the_results_file_that_was_written(project):
    project.test("demand='20/s'")
    (project.path / "out").mkdir()
    shown = project.measure("--infer-json=out/r.json", "--infer-markdown=s.md").stdout.str()
    for text in (shown, (project.path / "s.md").read_text()):
        assert "infergate advise out/r.json --demand 20/s" in text.replace("\\", "")
        assert "results.json" not in text


def test_where_nothing_could_be_advised_on_there_is_no_next_command(project):
    project.test("demand='20/s'")
    assert "to see where to run" not in project.measure("--infer-json=r.json").stdout.str()
    project.test(body="raise ValueError")
    assert "to see where to run" not in project.measure("--infer-json=r.json").stdout.str()


def test_without_a_price_it_assumes_one(project, reported):
    project.test("demand='20/s'")
    words = reported(table="", passed=1)
    assert "No advice for" not in words
    assert "(assumed price)" in words
    assert "below [tool.infergate.instances]" in words


def test_batch_sizes_and_devices_are_weighed_against_each_other(project, reported):
    project.test("batch_sizes=[1, 8], demand='20/s'")
    words = reported(devices="fake,accel", passed=4)
    assert "Run it on 1 x own fake (fake): 263 USD per month" in words
    assert "Runner-up: 1 x own accel (accel)" in words
    assert "Throughput by batch size" in words


@pytest.mark.parametrize("demand", [None, "20/s"])
def test_results_carry_advice_where_a_test_has_a_demand_without_a_report(project, monkeypatch, demand):
    (project.path / "pyproject.toml").write_text(PRICED)
    project.test(f"demand={demand!r}")
    if demand is None:  # nothing is simulated
        monkeypatch.setattr(recommendation, "advise", None)
    project.measure("--infer-json=r.json").assert_outcomes(passed=1)
    advice = json.loads((project.path / "r.json").read_text()).get("advice")
    assert (advice is None) == (demand is None)


def test_advice_is_simulated_once_and_alike_in_every_report(project, monkeypatch):
    calls = []
    advise = recommendation.advise
    monkeypatch.setattr(recommendation, "advise", lambda *given: calls.append(given) or advise(*given))
    (project.path / "pyproject.toml").write_text(PRICED)
    project.test("demand='20/s'")
    result = project.measure("--infer-json=r.json", "--infer-report=r.html", "--infer-markdown=r.md")
    assert len(calls) == 1
    (answer,) = json.loads((project.path / "r.json").read_text())["advice"]["answers"]
    assert answer["plans"][0]["usd_per_month"] == pytest.approx(262.8)
    for shown in (
        result.stdout.str(),
        (project.path / "r.md").read_text().replace("\\", ""),
        unescape((project.path / "r.html").read_text()),
    ):
        assert "1 x own fake" in shown
        assert re.search(r"\b263\b", shown)


def test_an_unseen_tail_is_noted_where_the_demand_has_a_limit(project):
    """Frames have one; requests at random have none."""
    project.takes(0.5)
    project.several({"camera": "demand='1/s:periodic'", "random": "demand='1/s'"})
    found = project.verdicts()
    assert {name for name, one in found.items() if "tail-unseen" in one.codes} == {"camera"}
