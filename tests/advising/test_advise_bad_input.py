"""`infergate advise` and input that cannot be right, or that is right and easily misread."""

import itertools
import json
from datetime import date

import msgspec
import pytest
from refusals import refused
from test_commands_on_results import CPU, GPU, PRICES, measured, session, sized

from pytest_infergate.advising import advise
from pytest_infergate.cli import main
from pytest_infergate.core.advice import planning, sensitivity
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.report import results_json

HEADER = "provider,region,name,vcpus,accelerator,accelerator_count,cpu_model,usd_per_hour,as_of"
TABLE = f"""{HEADER}
lab,cellar,box,4,,,Test CPU,0.2,2026-07-20
lab,cellar,card,8,L4,1,,0.8,2026-07-20
"""
BIG = Hardware(cpu_model="Big CPU", cores=16)
ASKED = ("--demand", "2/s", "--p95-ms", "200")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Short simulations, in a project that says nothing of prices."""
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Run the command: code, output, errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main.main(["advise", *map(str, arguments)])
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


@pytest.fixture
def write(tmp_path):
    """Write a file, and give its path."""

    def write(content, name="results.json"):
        path = tmp_path / name
        path.write_text(
            content if isinstance(content, str) else results_json.render_results(content), encoding="utf-8"
        )
        return path

    return write


@pytest.fixture
def cpu(write):
    return write(sized(CPU, "cpu", {1: 0.020, 8: 0.120}), "cpu.json")


@pytest.fixture
def gpu(write):
    return write(sized(GPU, "cuda", {1: 0.004, 8: 0.006}), "gpu.json")


@pytest.fixture
def answer(run):
    """Run the command: the one answer of its JSON."""

    def answer(*arguments):
        code, out, _ = run(*arguments, "--format", "json")
        assert code == 0
        (answer,) = json.loads(out)["answers"]
        return answer

    return answer


def codes(answer):
    return {note["code"] for kind in ("notes", "actions") for note in answer.get(kind, ())}


# Prices


def test_prices_that_cannot_be_are_refused(run, cpu, write, tmp_path, snapshot):
    prices = ("inf", "1e999", "0", "-0.0", "1.20EUR", "€1.20", "$1.20", "1,20", "free", "1e308", "5e-324")
    pairs = (*(f"cpu={price}" for price in prices), "cpu=", "=1.2", " = ", "=", "cqu=1")
    asked = {f"--price {pair!r}": (cpu, *ASKED, "--price", pair) for pair in pairs}
    tables = {
        "in euros": TABLE.replace("usd_per_hour", "eur_per_hour"),
        **{
            f"of {price}": TABLE.replace("0.2,", f"{price},")
            for price in ("-0.2", "nan", "inf", "0", "1e300", "5e-324")
        },
    }
    for index, (name, text) in enumerate(tables.items()):
        asked[f"a table {name}"] = (cpu, *ASKED, "--prices", write(text, f"{index}.csv"))
    asked["no table"] = (cpu, *ASKED, "--prices", "no.csv")
    assert refused(run, asked, folder=tmp_path) == snapshot


def test_a_price_older_than_ninety_days_is_doubted(answer, gpu, write, monkeypatch):
    table = write(TABLE, "own.csv")
    for today, old in (("2026-10-18", False), ("2026-10-19", True), ("2027-01-01", True)):
        monkeypatch.setattr(advise, "today", lambda today=today: date.fromisoformat(today))
        found = answer(gpu, *ASKED, "--prices", table, "--instance", "cuda=lab/card")
        assert ("prices-old" in codes(found)) == old, today
        assert "2026-07-20" in found["plans"][0]["price"]


def test_the_price_of_an_own_machine_never_ages(answer, gpu, monkeypatch):
    monkeypatch.setattr(advise, "today", lambda: date(2099, 1, 1))
    assert "prices-old" not in codes(answer(gpu, *ASKED, *PRICES))


# Demands


def test_what_cannot_be_asked_is_answered_with_what_can(run, cpu, snapshot):
    two = ("--demand", "2/s")
    questions = [
        ("--demand", "1e-12/s"),
        ("--demand", "1e15/s"),
        ("--demand", "1/day:periodic", "--streams", "1000000000"),
        (*two, "--streams", "3"),
        (*two, "--streams", "0"),
        (*two, "--p95-ms", "inf"),
        (*two, "--p95-ms", "-5"),
        (*two, "--p95-ms", "fast"),
        (*two, "--p95-ms", "5e-324"),
        (*two, "--p95-ms", "1e308"),
        (*two, "--utilisation", "nan"),
        (*two, "--utilisation", "0"),
        (*two, "--utilisation", "5e-324"),
        (*two, "--min-instances", "0"),
        (*two, "--day", ",".join(["1"] * 23 + ["5e-324"])),
        ("--items", "1e30", "--deadline", "2h"),
        ("--items", "1e6", "--deadline", "1ns"),
        ("--items", "1e6", "--deadline", "2h", "--streams", "4"),
        ("--items", "1e6", "--deadline", "2h", "--day", "1,2"),
        ("--items", "1e6", "--deadline", "2h", "--scale-up", "5min"),
        (*two, "--deadline", "2h"),
    ]
    asked = {" ".join(words): (cpu, *words, "--price", "cpu=0.1") for words in questions}
    assert refused(run, asked) == snapshot


def test_the_extremes_that_can_be_asked_are_answered_with_finite_figures(run, cpu):
    for limit, utilisation, price in itertools.product(("1e-6", "1e12"), ("0.001", "1"), ("1e-6", "1e6")):
        for rate in ("1e-9/s", "2/s", "1e12/s"):
            question = ("--demand", rate, "--p95-ms", limit, "--utilisation", utilisation)
            code, out, _ = run(cpu, *question, "--price", f"cpu={price}", "--format", "json")
            assert code == 0
            json.loads(out, parse_constant=pytest.fail)


def test_the_largest_backlog_has_figures_in_every_form(run, cpu):
    asked = ("--items", "1e18", "--deadline", "1s", "--price", "cpu=0.1")
    code, out, _ = run(cpu, *asked, "--format", "json")
    assert code == 0
    (job,) = json.loads(out)["jobs"]["tests/test_a.py::test_model"]
    assert job["instances"] * 8 / 0.12 == pytest.approx(1e18, rel=0.05)
    assert run(cpu, *asked)[0] == 0


def test_a_demand_beyond_all_machines_says_so(answer, cpu):
    found = answer(cpu, "--demand", "1e12/s", "--price", "cpu=0.1")
    assert (found["plans"], found["binding"]["code"]) == ([], "demand-unmet")


def test_a_demand_of_next_to_nothing_takes_one_machine(answer, cpu):
    for rate in ("1e-9/s", "1/day"):
        plan = answer(cpu, "--demand", rate, "--price", "cpu=0.1")["plans"][0]
        assert (plan["deployment"], plan["instances"]) == ("own cpu (cpu)", 1)
        assert plan["usd_per_month"] == pytest.approx(73.0)


def test_a_limit_below_the_fastest_call_is_answered_in_every_form(run, cpu):
    for form in ("text", "markdown", "html"):
        code, out, _ = run(cpu, "--demand", "2/s", "--p95-ms", "1", "--price", "cpu=0.1", "--format", form)
        assert code == 0
        assert "within 1.00 ms" in out.replace("\\", ""), form
        assert "USD/month" not in out, form


# Results


def test_results_without_a_case_say_how_to_get_some(run, write, tmp_path, snapshot):
    bare = write(session())
    assert refused(run, {"no cases": (bare, *ASKED)}, folder=tmp_path) == snapshot


def test_throughput_is_that_of_the_calls_and_not_what_the_file_says(run, write):
    whole = sized(CPU, "cpu", {1: 0.020, 8: 0.120})
    idle = [
        msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, throughput=0.0))
        for one in whole.cases
    ]
    answers = [
        run(write(one, "one.json"), *ASKED, "--price", "cpu=0.1")
        for one in (whole, msgspec.structs.replace(whole, cases=tuple(idle)))
    ]
    assert answers[0][0] == 0
    assert answers[0] == answers[1]


def test_one_batch_size_is_told_as_such(answer, write):
    found = answer(write(session(measured(0.02))), *ASKED, "--price", "cpu=0.1")
    assert "one-batch-size" in codes(found)


# Machines


def test_an_instance_without_the_device_gives_no_price(answer, cpu, gpu, write):
    """The price is assumed instead, which is labelled, and a note says that the instance is another machine."""
    table = ("--prices", write(TABLE, "own.csv"), "--instance")
    for file, instance in ((gpu, "cuda=lab/box"), (cpu, "cpu=lab/card")):
        found = answer(file, *ASKED, *table, instance)
        assert "other-machine" in codes(found)
        assert not found["plans"][0]["user_specified"]


def test_an_instance_without_the_device_is_named_beside_those_that_have_it(answer, cpu, gpu, write):
    table = write(TABLE, "own.csv")
    found = answer(
        cpu, gpu, *ASKED, "--prices", table, "--instance", "cpu=lab/box", "--instance", "cuda=lab/box"
    )
    assert found["deployments"] == ["box (cpu)", "g2-standard-4 (cuda)"]
    assert "other-machine" in codes(found)


def test_one_price_for_several_machines_tells_them_apart(answer, cpu, write):
    big = write(sized(BIG, "cpu", {1: 0.005, 8: 0.030}), "big.json")
    found = answer(cpu, big, "--demand", "100/s", "--p95-ms", "200", "--price", "cpu=0.1")
    assert [plan["deployment"] for plan in found["plans"]] == [
        "own cpu, 16 cores of Big CPU (cpu)",
        "own cpu, 4 cores of Test CPU (cpu)",
    ]
    assert "one-price" in codes(found)


def test_machines_are_priced_by_their_class(answer, cpu, write):
    big = write(sized(BIG, "cpu", {1: 0.005, 8: 0.030}), "big.json")
    found = answer(cpu, big, *ASKED, "--price", "test-cpu=0.1", "--price", "big-cpu=0.9")
    assert [(plan["deployment"], round(plan["usd_per_month"])) for plan in found["plans"]] == [
        ("own test-cpu (cpu)", 73),
        ("own big-cpu (cpu)", 657),
    ]


def test_a_machine_that_is_not_in_the_table_has_an_assumed_price(answer, cpu, write):
    big = write(sized(BIG, "cpu", {1: 0.005}), "big.json")
    found = answer(cpu, big, *ASKED, "--price", "test-cpu=0.1")
    assert found["deployments"] == ["16-core Big CPU (cpu)", "own test-cpu (cpu)"]
    (note,) = [note for note in found["notes"] if note["code"] == "assumed-price"]
    assert f"--price {BIG.id}=" in note["hint"]


def test_batch_sizes_of_several_runs_on_one_machine_come_together(answer, write):
    first = write(session(measured(0.020)), "first.json")
    second = write(session(measured(0.120, batch_size=8), created="2026-07-02T12:00:00Z"), "second.json")
    (sweep,) = answer(first, second, *ASKED, "--price", "cpu=0.1")["sweeps"]
    assert sweep["batch_sizes"] == [1, 8]


def test_results_of_several_dtypes_that_contradict_are_refused(run, write):
    files = []
    for index, p50 in enumerate((0.02, 0.03)):
        both = [measured(p50), measured(p50)]
        both[1] = msgspec.structs.replace(
            both[1], case=msgspec.structs.replace(both[1].case, dtype="float16")
        )
        files.append(write(session(*both, created=f"2026-07-0{index + 1}T12:00:00Z"), f"{index}.json"))
    code, out, err = run(*files, *ASKED)
    assert (code, out) == (4, "")
    assert f"tests/test_a.py::test_model[cpu] was measured twice on {CPU.id}" in err
