"""`infergate merge`, `gate` and `report`: files of several machines in, one decision out."""

import json

import pytest

from pytest_infergate.cli import main
from pytest_infergate.core.domain.measurement import Estimate, Latency, Measurement, WarmUp
from pytest_infergate.core.domain.model import Case, Environment, Hardware
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Policy, Session, Verdict
from pytest_infergate.core.gate import decide as gates
from pytest_infergate.report import results

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
    cpu.write_text(results.render_results(session(measured(0.04))))
    gpu.write_text(results.render_results(session(measured(0.004, device="cuda", hardware=GPU))))
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
    sessions = results.parse_all(merged.read_bytes(), "all.json")
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
    other.write_text(results.render_results(session(measured(0.05), created="2026-07-02T12:00:00Z")))
    code, out, err = run("merge", *files, other, "-o", tmp_path / "all.json")
    assert (code, out) == (4, "")
    assert "tests/test_a.py::test_model[cpu] was measured twice" in err
    assert not (tmp_path / "all.json").exists()


def test_the_gate_passes_where_all_passed(run, files):
    code, out, _ = run("gate", *files)
    assert code == 0
    assert "passed: 2 of 2 cases decided" in out
    assert "on 1 x NVIDIA L4" in out


def test_the_gate_fails_where_one_failed(run, files, tmp_path):
    red = tmp_path / "red.json"
    slow = measured(0.04, hardware=Hardware(cpu_model="Other CPU", cores=2))
    red.write_text(results.render_results(session(slow, kind=Verdict.REGRESSED, failed=True)))
    code, out, _ = run("gate", *files, red)
    assert code == 1
    assert "FAILED: 3 of 3 cases decided, 1 regressed" in out
    assert "1 case regressed, on 2 cores of Other CPU" in out


def test_the_gate_of_a_merged_file_is_that_of_its_parts(run, files, tmp_path):
    merged = tmp_path / "all.json"
    run("merge", *files, "-o", merged)
    assert run("gate", merged) == run("gate", *files)


def test_the_report_is_one_page(run, files, tmp_path):
    page = tmp_path / "page.html"
    code, _, err = run("report", *files, "-o", page)
    assert (code, err) == (0, f"wrote {page}\n")
    text = page.read_text()
    assert "passed: 2 of 2 cases decided" in text
    assert "1 x NVIDIA L4" in text
    assert "4 cores of Test CPU" in text


def test_a_broken_file_is_named(run, files, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema_version": 1, "cases": "none"}')
    for command in ("merge", "gate", "report", "advise"):
        code, out, err = run(command, files[0], broken, *(["--demand", "1/s"] if command == "advise" else []))
        assert (code, out) == (4, "")
        assert str(broken) in err


def test_an_empty_file_is_named(run, tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_text("")
    code, _, err = run("gate", empty)
    assert code == 4
    assert f"{empty}: the file is empty" in err


def test_a_merged_file_without_sessions_is_refused(run, tmp_path):
    none = tmp_path / "none.json"
    none.write_text('{"schema_version": 1, "sessions": []}')
    code, _, err = run("gate", none)
    assert code == 4
    assert "$.sessions: there is none" in err


def test_a_merged_file_is_no_single_session(files):
    with pytest.raises(Exception, match="holds 2 sessions"):
        results.parse_results(
            results.render_merged([session(measured(0.04)), session(measured(0.05))]), "all.json"
        )


def test_an_absent_file_is_usage(run, tmp_path):
    code, _, err = run("merge", tmp_path / "absent.json")
    assert code == 4
    assert "absent.json" in err


# advise


def sized(hardware, device, times):
    return session(
        *(measured(p50, device=device, hardware=hardware, batch_size=size) for size, p50 in times.items())
    )


@pytest.fixture
def machines(tmp_path):
    """A slow processor, and a card that is ten times as fast."""
    cpu, gpu = tmp_path / "cpu.json", tmp_path / "gpu.json"
    cpu.write_text(results.render_results(sized(CPU, "cpu", {1: 0.020, 8: 0.120})))
    gpu.write_text(results.render_results(sized(GPU, "cuda", {1: 0.004, 8: 0.006, 32: 0.012})))
    return cpu, gpu


PRICES = ("--price", "cpu=0.10", "--price", "cuda=0.80")


def test_at_a_low_demand_the_processor_wins(run, machines):
    code, out, _ = run("advise", *machines, "--demand", "5/s", "--p95-ms", "200", *PRICES)
    assert code == 0
    assert "Run it on 1 x own cpu (cpu): 73.0 USD a month" in out
    assert "Runner-up: 1 x own cuda (cuda), 584 USD a month: 511 USD more." in out
    assert "own cpu (cpu) costs least, above that own cuda (cuda)" in out


def test_at_a_high_demand_the_card_wins(run, machines):
    code, out, _ = run("advise", *machines, "--demand", "600/s", "--p95-ms", "200", *PRICES)
    assert code == 0
    assert "Run it on 1 x own cuda (cuda): 584 USD a month" in out


def test_a_limit_below_the_fastest_call_names_what_binds(run, machines):
    code, out, _ = run("advise", *machines, "--demand", "2/s", "--p95-ms", "1", *PRICES)
    assert code == 0
    assert "No plan answers 95 % of requests within 1.00 ms: the nearest, 1 x own cuda" in out


def test_advice_as_json_has_every_figure(run, machines):
    code, out, _ = run("advise", *machines, "--demand", "2/s", "--p95-ms", "200", "--format", "json", *PRICES)
    assert code == 0
    answer = json.loads(out)["answers"][0]
    assert answer["plans"][0]["usd_per_month"] == pytest.approx(73.0)
    assert answer["plans"][0]["instances"] == 1
    assert answer["demand"]["rate"] == 2.0
    assert "Infinity" not in out
    assert "NaN" not in out


def test_advice_as_markdown_is_escaped(run, machines):
    code, out, _ = run("advise", *machines, "--demand", "2/s", "--format", "markdown", *PRICES)
    assert code == 0
    assert out.startswith("### `tests/test_a.py::test_model`\n")
    assert "| plan" in out


def test_advice_as_a_page(run, machines, tmp_path):
    page = tmp_path / "advice.html"
    code, _, _ = run(
        "advise", *machines, "--demand", "2/s", "--p95-ms", "200", "--format", "html", "-o", page, *PRICES
    )
    assert code == 0
    text = page.read_text()
    assert "Where to run it" in text
    assert "Run it on 1 x own cpu" in text
    assert text.count("<polyline") >= 2
    assert "Infinity" not in text


def test_a_backlog_is_worked_off(run, machines):
    code, out, _ = run("advise", *machines, "--items", "1e6", "--deadline", "2h", *PRICES)
    assert code == 0
    first = out.splitlines()[4]
    assert first.split()[:2] == ["own", "cuda"]


DAY = ",".join(["1"] * 8 + ["9"] * 8 + ["3"] * 8)


def test_machines_come_and_go_with_the_hour(run, machines):
    code, out, _ = run(
        "advise",
        *machines,
        "--demand",
        "600/s",
        "--p95-ms",
        "200",
        "--day",
        DAY,
        "--scale-up",
        "10min",
        *PRICES,
    )
    assert code == 0
    assert "USD/month scaled" in out
    assert "machines ordered 10 min ahead." in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what is to be served: --demand 50/s"),
        (("--demand", "fast"), "--demand: "),
        (("--demand", "-1/s"), "--demand: "),
        (("--demand", "1/s", "--items", "5"), "exclude each other"),
        (("--items", "1e6"), "needs a --deadline"),
        (("--items", "many", "--deadline", "2h"), "--items, --deadline: "),
        (("--demand", "1/s", "--p95-ms", "0"), "--p95-ms: 0 is no number of milliseconds above 0"),
        (("--demand", "1/s", "--p95-ms", "nan"), "--p95-ms: nan is no number of milliseconds above 0"),
        (("--demand", "1/s", "--utilisation", "1.5"), "--utilisation: 1.5 is no share"),
        (("--demand", "1/s", "--price", "cpu=-1"), "--price: '-1' is no price"),
        (("--demand", "1/s", "--price", "cpu=nan"), "--price: 'nan' is no price"),
        (("--demand", "1/s", "--price", "cpu"), "--price: 'cpu' is not such as cpu=1.20"),
        (
            ("--demand", "1/s", "--instance", "cpu=c7i.huge"),
            "--instance: no instance 'c7i.huge' is in the table of prices",
        ),
        (("--demand", "1/s", "--day", "1,2"), "--day: a day has 24 hours, and here are 2 numbers"),
        (("--demand", "1/s", "--scale-up", "5min"), "--scale-up: machines come and go only where --day says"),
        (("--demand", "1/s", "--day", DAY, "--scale-up", "soon"), "--scale-up: 'soon' is not a time"),
        (("--demand", "1/s", "--grid", "moon"), "--grid: no factor of 'moon' is known, only of world, USA"),
        (("--demand", "1/s", "--region", "moon"), "no price is of 'moon'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_questions_are_answered_with_what_to_write(run, machines, arguments, words):
    code, out, err = run("advise", *machines, *arguments)
    assert (code, out) == (4, "")
    assert words in err


def test_an_unknown_machine_is_asked_for(run, files):
    code, out, err = run("advise", files[0], "--demand", "1/s")
    assert (code, out) == (4, "")
    assert "what is this machine, and what does it cost: 4 cores of Test CPU?" in err
    assert "--price cpu=USD_PER_HOUR" in err
