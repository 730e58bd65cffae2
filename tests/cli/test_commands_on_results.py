"""`infergate merge`, `gate` and `report`: files of several machines in, one decision out."""

import json
import re
import sys
import threading

import pytest
from refusals import refused
from sessions import ASKED, advised, answer

from pytest_infergate.cli import advise_command, main
from pytest_infergate.core.advice import planning, recommendation, sensitivity
from pytest_infergate.core.domain.measurement import Estimate, Latency, Measurement, WarmUp
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Policy, Session, Verdict
from pytest_infergate.core.domain.values import Case, Environment, Hardware
from pytest_infergate.core.gate import decide as gates
from pytest_infergate.report import results_json

CPU = Hardware(cpu_model="Test CPU", cores=4)
GPU = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA L4", accelerator_count=1)


def measured(p50, name="test_model", device="cpu", hardware=CPU, batch_size=1):
    case = Case(test=f"tests/test_a.py::{name}", device=device, batch_size=batch_size)
    exact = Estimate(value=p50, low=p50, high=p50)
    latency = Latency(
        count=500, mean=p50, p50=exact, p90=exact, p95=exact, p99=exact, percentiles=(p50,) * 101
    )
    measurement = Measurement(
        latency=latency,
        throughput=batch_size / p50,
        cold_start=0.5,
        warm_up=WarmUp(calls=3, seconds=0.3, steady=True),
    )
    return CaseResult(
        case=case, nodeid=case.name, outcome=Outcome.MEASURED, hardware=hardware, measurement=measurement
    )


def session(*found, kind=Verdict.EQUIVALENT, failed=False, created="2026-07-01T12:00:00Z"):
    verdicts = [CaseVerdict(case=one.case, nodeid=one.nodeid, verdict=kind, failed=failed) for one in found]
    return Session(
        tool_version="0.1.0",
        created=created,
        environment=Environment(),
        cases=found,
        gate=gates.gate_session(verdicts, Policy()),
    )


@pytest.fixture
def files(tmp_path):
    """Two machines' results."""
    cpu, gpu = tmp_path / "cpu.json", tmp_path / "gpu.json"
    cpu.write_text(results_json.render_results(session(measured(0.04))))
    gpu.write_text(results_json.render_results(session(measured(0.004, device="cuda", hardware=GPU))))
    return cpu, gpu


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


def test_merged_files_are_written_and_read_again(run, files, tmp_path):
    merged = tmp_path / "all.json"
    code, out, err = run("merge", *files, "-o", merged)
    assert (code, out) == (0, "")
    assert err == f"wrote {merged}\n"
    sessions = results_json.parse_all(merged.read_bytes(), "all.json")
    assert len(sessions) == 2
    again = tmp_path / "again.json"
    assert run("merge", merged, files[1], files[0], "-o", again)[0] == 0
    assert again.read_bytes() == merged.read_bytes()


def test_without_an_output_it_prints(run, files):
    code, out, _ = run("merge", *files)
    assert code == 0
    assert len(json.loads(out)["sessions"]) == 2


def test_a_contradiction_is_refused_and_nothing_is_written(run, files, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(results_json.render_results(session(measured(0.05), created="2026-07-02T12:00:00Z")))
    code, out, err = run("merge", *files, other, "-o", tmp_path / "all.json")
    assert (code, out) == (4, "")
    assert "tests/test_a.py::test_model[cpu]" in err
    assert not (tmp_path / "all.json").exists()


def test_the_gate_passes_where_all_passed(run, files):
    code, out, _ = run("gate", *files)
    assert code == 0
    assert out.count(" equivalent\n") == 2
    assert "1 x NVIDIA L4" in out


def test_the_gate_fails_where_one_failed(run, files, tmp_path):
    red = tmp_path / "red.json"
    slow = measured(0.04, hardware=Hardware(cpu_model="Other CPU", cores=2))
    red.write_text(results_json.render_results(session(slow, kind=Verdict.REGRESSED, failed=True)))
    code, out, _ = run("gate", *files, red)
    assert code == 1
    assert out.count("  regressed\n") == 1
    assert "2 cores of Other CPU" in out


def test_a_gate_that_decided_nothing_says_so_with_a_code_of_its_own(run, files, tmp_path):
    new = tmp_path / "new.json"
    found = [measured(0.04, name=f"test_{index}") for index in range(6)]
    new.write_text(results_json.render_results(session(*found, kind=Verdict.NO_BASELINE)))
    code, out, err = run("gate", new)
    assert (code, err) == (2, "")
    assert "nothing was decided: 6 cases, 6 without a baseline" in out.splitlines()
    assert run("gate", new, files[1])[0] == 0  # the other machine decided a case
    (tmp_path / "none.json").write_text(results_json.render_results(session()))
    assert run("gate", tmp_path / "none.json")[0] == 0


def test_advice_that_a_file_holds_is_shown_and_not_made_again(run, files, tmp_path, monkeypatch):
    """Two machines advised on one model each: both answers are there, and are not added up."""
    monkeypatch.setattr(recommendation, "advise", None)
    for file in files:
        found = results_json.parse_results(file.read_bytes(), file.name)
        file.write_text(results_json.render_results(advised(found, answer(), unanswered=ASKED)))
    code, out, _ = run("gate", *files)
    assert code == 0
    assert out.count("CPU: 2 x c7i.xlarge") == 2
    assert "\nall " not in out
    assert out.count("what is it?") == 1
    page, merged = tmp_path / "page.html", tmp_path / "all.json"
    assert run("report", *files, "-o", page)[0] == 0
    assert page.read_text().count('<p class="answer">') == 2
    assert run("merge", *files, "-o", merged)[0] == 0
    assert [one.advice.answers for one in results_json.parse_all(merged.read_bytes(), "all")] == [
        (answer(),)
    ] * 2


def test_the_gate_of_a_merged_file_is_that_of_its_parts(run, files, tmp_path):
    merged = tmp_path / "all.json"
    run("merge", *files, "-o", merged)
    assert run("gate", merged) == run("gate", *files)


def test_the_report_is_one_page(run, files, tmp_path):
    page = tmp_path / "page.html"
    code, _, err = run("report", *files, "-o", page)
    assert (code, err) == (0, f"wrote {page}\n")
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "1 x NVIDIA L4" in text
    assert "4 cores of Test CPU" in text


def test_what_is_not_a_result_is_named(run, files, tmp_path, snapshot):
    contents = {
        "broken": '{"schema_version": 1, "cases": "none"}',
        "empty": "",
        "none": '{"schema_version": 1, "sessions": []}',
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(content)
    commands = {
        "merge": (),
        "gate": (),
        "report": ("-o", tmp_path / "page.html"),
        "advise": ("--demand", "1/s"),
    }
    asked = {
        f"{command} {name}.json": (command, files[0], tmp_path / f"{name}.json", *options)
        for command, options in commands.items()
        for name in ("broken", "absent", *(["empty", "none"] if command == "gate" else []))
    }
    over = {
        f"{command} over its input": (command, files[0], "-o", files[0]) for command in ("report", "advise")
    }
    assert refused(run, {**asked, **over}, folder=tmp_path) == snapshot
    assert not (tmp_path / "page.html").exists()
    results_json.parse_results(files[0].read_bytes(), "cpu.json")


# advise


def sized(hardware, device, times):
    return session(
        *(measured(p50, device=device, hardware=hardware, batch_size=size) for size, p50 in times.items())
    )


@pytest.fixture
def machines(tmp_path):
    """A slow processor, and a card that is ten times as fast."""
    cpu, gpu = tmp_path / "cpu.json", tmp_path / "gpu.json"
    cpu.write_text(results_json.render_results(sized(CPU, "cpu", {1: 0.020, 8: 0.120})))
    gpu.write_text(results_json.render_results(sized(GPU, "cuda", {1: 0.004, 8: 0.006, 32: 0.012})))
    return cpu, gpu


PRICES = ("--price", "cpu=0.10", "--price", "cuda=0.80")


@pytest.fixture
def advise(run, machines, monkeypatch):
    """Run the command on both machines, with short simulations: answers of the JSON, or what it prints."""
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)

    def advise(*arguments, form="json"):
        code, out, _ = run("advise", *machines, *arguments, *PRICES, "--format", form)
        assert code == 0
        assert "Infinity" not in out
        assert "NaN" not in out
        return json.loads(out) if form == "json" else out

    return advise


@pytest.mark.parametrize("rate", ["5/s", "600/s"])
def test_the_processor_wins_at_a_low_demand_and_the_card_at_a_high_one(advise, rate):
    (answer,) = advise("--demand", rate, "--p95-ms", "200")["answers"]
    cheapest, other = answer["plans"]
    assert answer["demand"]["rate"] == float(rate.removesuffix("/s"))
    if rate == "5/s":
        assert (cheapest["deployment"], cheapest["instances"]) == ("own cpu (cpu)", 1)
        assert cheapest["usd_per_month"] == pytest.approx(73.0)
        assert (other["deployment"], other["usd_per_month"]) == ("own cuda (cuda)", pytest.approx(584.0))
    else:
        assert (cheapest["deployment"], cheapest["instances"]) == ("own cuda (cuda)", 1)


def test_a_limit_below_the_fastest_call_names_what_binds(advise):
    (answer,) = advise("--demand", "2/s", "--p95-ms", "1")["answers"]
    assert answer["plans"] == []
    assert answer["binding"]["code"] == "limit-unmet"
    assert answer["nearest"]["deployment"] == "own cuda (cuda)"


def test_every_form_has_the_answer(advise):
    asked = ("--demand", "2/s", "--p95-ms", "200")
    texts = {form: advise(*asked, form=form) for form in ("text", "markdown", "html")}
    assert texts["text"].startswith("tests/test_a.py::test_model\n")
    assert texts["markdown"].startswith("### `tests/test_a.py::test_model`\n")
    assert texts["html"].startswith("<!DOCTYPE html>")
    assert texts["html"].count("<polyline") >= 2
    assert all("73.0 USD" in text.replace("\\", "") for text in texts.values())


def test_a_page_is_written(run, machines, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)
    page = tmp_path / "advice.html"
    code, out, err = run("advise", *machines, "--demand", "2/s", "--format", "html", "-o", page, *PRICES)
    assert (code, out, err) == (0, "", f"wrote {page}\n")
    assert 'id="advice"' in page.read_text()


def test_without_a_demand_a_table_answers_for_several(advise):
    found = advise("--p95-ms", "200")
    assert found["answers"] == []
    (table,) = found["tables"]
    assert [step["rate"] for step in table["steps"]] == [0.1, 1.0, 10.0, 100.0, 1000.0]
    winners = [step["plan"]["device"] for step in table["steps"]]
    assert (winners[0], winners[-1]) == ("cpu", "cuda")


def test_a_machine_that_is_not_in_the_table_is_priced_without_a_question(run, machines):
    code, out, _ = run("advise", *machines, "--demand", "5/s", "--p95-ms", "200", "--format", "json")
    assert code == 0
    (answer,) = json.loads(out)["answers"]
    labels = [note["hint"] for note in answer.get("notes", ()) if note["code"] == "assumed-price"]
    assert answer["plans"][0]["assumed"]
    assert all("[tool.infergate.instances]" in hint for hint in labels)
    assert answer["price_limits"]["machines"] >= 1


def test_what_an_answer_suggests_is_accepted_by_the_next_command(run, machines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("--demand", "5/s", "--format", "json")

    def answered(*arguments):
        code, out, err = run("advise", *arguments, *asked)
        assert code == 0, err
        (answer,) = json.loads(out)["answers"]
        return answer, [note["hint"] for note in answer.get("notes", ()) if note["code"] == "assumed-price"]

    answer, (hint,) = answered(machines[0])
    line = re.search(r"write (cpu = \{.*?\}) ", hint)[1]
    (tmp_path / "pyproject.toml").write_text(f"[tool.infergate.instances]\n{line}\n")
    known, hints = answered(machines[0])
    assert hints == []
    assert known["plans"][0]["usd_per_month"] == pytest.approx(answer["plans"][0]["usd_per_month"], rel=1e-3)
    (tmp_path / "pyproject.toml").unlink()
    # Several machines have the device, so that each has a price of its own.
    other = tmp_path / "other.json"
    other.write_text(
        results_json.render_results(sized(Hardware(cpu_model="Big CPU", cores=16), "cpu", {1: 0.005}))
    )
    _, hints = answered(machines[0], other)
    prices = [word for hint in hints for word in re.findall(r"--price (\S+),", hint)]
    assert len(prices) == 2
    _, hints = answered(machines[0], other, *(part for price in prices for part in ("--price", price)))
    assert hints == []


def test_text_has_the_width_of_the_terminal_and_a_file_has_none(advise, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    wide = advise("--demand", "2/s", form="text")
    assert max(map(len, wide.splitlines())) > 100
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert max(map(len, advise("--demand", "2/s", form="text").splitlines())) <= 70


@pytest.fixture
def bars(monkeypatch):
    """Steps and text of each update of a bar, and an event that is set by the first."""
    updates, begun = [], threading.Event()

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, steps, text):
            updates.append((steps, text))
            begun.set()

    monkeypatch.setattr(advise_command.click, "progressbar", lambda **_: Bar())
    monkeypatch.setattr(advise_command, "PROGRESS_TICK", 0.001)
    return updates, begun


def test_a_bar_appears_where_it_takes_long(run, machines, monkeypatch, bars):
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 20)
    monkeypatch.setattr(advise_command, "PROGRESS_SECONDS", 1000.0)
    several = session(*(measured(0.02, name=f"test_{name}") for name in "abc"))
    machines[0].write_text(results_json.render_results(several))
    asked = ("advise", machines[0], "--demand", "1/s")
    assert run(*asked)[0] == 0
    assert bars[0] == []
    monkeypatch.setattr(advise_command, "PROGRESS_SECONDS", -1.0)
    assert run(*asked)[0] == 0
    assert sum(steps for steps, _ in bars[0]) == 3


def test_the_bar_moves_while_one_model_takes_long(monkeypatch, bars):
    updates, begun = bars
    monkeypatch.setattr(advise_command, "PROGRESS_SECONDS", -1.0)
    with advise_command.progress(1) as finished:
        assert begun.wait(60)
        finished()
    assert updates[0] == (0, "0 s")
    assert sum(steps for steps, _ in updates) == 1


def test_a_model_without_a_price_is_named_beside_a_backlog(run, machines, tmp_path, monkeypatch):
    table = tmp_path / "prices.csv"
    table.write_text(
        "provider,region,name,vcpus,accelerator,accelerator_count,usd_per_hour,as_of\n"
        "lab,cellar,card,4,L4,1,0.8,2026-07-20\n"
    )
    monkeypatch.chdir(tmp_path)
    machines[0].write_text(results_json.render_results(session(measured(0.02, name="test_cpu_only"))))
    work = ("--items", "1e6", "--deadline", "9h", "--prices", table, "--region", "cellar")
    code, out, _ = run("advise", *machines, *work)
    assert code == 0
    assert "no advice for:\n  tests/test_a.py::test_cpu_only: unknown machine" in out
    code, out, _ = run("advise", *machines, *work, "--format", "json")
    assert list(json.loads(out)["unanswered"]) == ["tests/test_a.py::test_cpu_only"]


def test_a_backlog_is_worked_off(advise):
    first = advise("--items", "1e6", "--deadline", "2h", form="text").splitlines()[5]
    assert first.split()[:2] == ["own", "cuda"]


DAY = ",".join(["1"] * 8 + ["9"] * 8 + ["3"] * 8)


def test_machines_come_and_go_with_the_hour(advise):
    asked = ("--demand", "600/s", "--p95-ms", "200", "--day", DAY, "--scale-up", "10min")
    (answer,) = advise(*asked)["answers"]
    assert answer["scale_up"] == 600
    assert len(answer["plans"][0]["scaled"]["instances"]) == 24


def test_bad_questions_are_answered_with_what_to_write(run, machines, snapshot):
    one = ("--demand", "1/s")
    questions = [
        ("--streams", "3"),
        ("--day", "1,2"),
        ("--demand", "fast"),
        ("--demand", "-1/s"),
        (*one, "--items", "5"),
        ("--items", "1e6"),
        ("--items", "many", "--deadline", "2h"),
        (*one, "--p95-ms", "0"),
        (*one, "--p95-ms", "nan"),
        (*one, "--utilisation", "1.5"),
        (*one, "--price", "cpu=-1"),
        (*one, "--price", "cpu=nan"),
        (*one, "--price", "cpu"),
        (*one, "--instance", "cpu=c7i.huge"),
        (*one, "--day", "1,2"),
        (*one, "--scale-up", "5min"),
        (*one, "--day", DAY, "--scale-up", "soon"),
        (*one, "--grid", "moon"),
        (*one, "--region", "moon"),
    ]
    asked = {" ".join(words): ("advise", *machines, *words) for words in questions}
    assert refused(run, asked) == snapshot
