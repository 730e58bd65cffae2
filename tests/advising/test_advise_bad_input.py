"""`infergate advise` and input that cannot be right, or that is right and easily misread."""

import json

import msgspec
import pytest
from test_commands_on_results import CPU, GPU, PRICES, measured, session, sized

from pytest_infergate.advising import advise
from pytest_infergate.cli import main
from pytest_infergate.core.advice import planning, sensitivity
from pytest_infergate.core.domain.model import Hardware
from pytest_infergate.report import results

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
    monkeypatch.setattr(planning, "REQUESTS", 100)
    monkeypatch.setattr(sensitivity, "STEPS", 2)
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
            content if isinstance(content, str) else results.render_results(content), encoding="utf-8"
        )
        return path

    return write


@pytest.fixture
def cpu(write):
    return write(sized(CPU, "cpu", {1: 0.020, 8: 0.120}), "cpu.json")


@pytest.fixture
def gpu(write):
    return write(sized(GPU, "cuda", {1: 0.004, 8: 0.006}), "gpu.json")


def refused(run, words, *arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (4, "")
    assert "Error: " in err
    assert words in err


# Prices


@pytest.mark.parametrize("price", ["inf", "1e999", "0", "-0.0", "1.20EUR", "€1.20", "$1.20", "1,20", "free"])
def test_a_price_is_a_number_of_dollars(run, cpu, price):
    refused(run, f"--price: {price!r} is no price in USD an hour", cpu, *ASKED, "--price", f"cpu={price}")


def test_a_price_of_which_no_month_can_be_paid_is_refused(run, cpu):
    refused(run, "--price: '1e308' is ", cpu, *ASKED, "--price", "cpu=1e308")


@pytest.mark.parametrize("pair", ["cpu=", "=1.2", " = ", "="])
def test_a_price_is_of_a_machine(run, cpu, pair):
    refused(run, f"--price: {pair!r} is not such as cpu=1.20", cpu, *ASKED, "--price", pair)


def test_prices_in_another_currency_are_refused(run, cpu, write):
    table = write(TABLE.replace("usd_per_hour", "eur_per_hour"), "own.csv")
    words = f"{table}: line 1: column 'eur_per_hour': prices are in US dollars; convert them"
    refused(run, words, cpu, *ASKED, "--prices", table)


@pytest.mark.parametrize("price", ["-0.2", "nan", "inf", "0", "1e300"])
def test_a_price_of_a_table_is_named_by_its_line(run, cpu, write, price):
    table = write(TABLE.replace("0.2,", f"{price},"), "own.csv")
    refused(run, f"{table}: line 2: usd_per_hour: {price!r} is ", cpu, *ASKED, "--prices", table)


def test_a_table_that_is_not_there_is_named(run, cpu):
    refused(run, "'no.csv' does not exist", cpu, *ASKED, "--prices", "no.csv")


@pytest.mark.parametrize(
    ("today", "old"), [("2026-10-18", False), ("2026-10-19", True), ("2027-01-01", True)]
)
def test_a_price_older_than_ninety_days_is_doubted(run, gpu, write, monkeypatch, *, today, old):
    monkeypatch.setattr(advise, "today", lambda: today)
    table = write(TABLE, "own.csv")
    code, out, _ = run(gpu, *ASKED, "--prices", table, "--instance", "cuda=lab/card")
    assert code == 0
    assert ("the price of lab/card is " in out) == old
    assert "lab/card in cellar, on demand, as of 2026-07-20" in out


def test_the_price_of_an_own_machine_never_ages(run, gpu, monkeypatch):
    monkeypatch.setattr(advise, "today", lambda: "2099-01-01")
    code, out, _ = run(gpu, *ASKED, *PRICES)
    assert code == 0
    assert "days old" not in out


# Demands


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--demand", "1e-12/s"), "--demand: '1e-12/s' is not a rate between"),
        (("--demand", "1e15/s"), "--demand: '1e15/s' is not a rate between"),
        (("--demand", "1/day:periodic", "--streams", "1000000000"), "--demand: 1,000,000,000 streams are more than"),
        (("--demand", "2/s", "--streams", "3"), "--demand: 3 streams of '2/s': streams are periodic"),
        (("--demand", "2/s", "--streams", "0"), "--streams"),
        (("--demand", "2/s", "--p95-ms", "inf"), "--p95-ms: inf is no number of milliseconds above 0"),
        (("--demand", "2/s", "--price", "cqu=1"), "--price: 'cqu' is no machine that was measured: "),
        (("--demand", "2/s", "--p95-ms", "-5"), "--p95-ms: -5 is no number of milliseconds above 0"),
        (("--demand", "2/s", "--p95-ms", "fast"), "'fast' is not a valid float"),
        (("--demand", "2/s", "--utilisation", "nan"), "--utilisation: nan is no share above 0"),
        (("--demand", "2/s", "--utilisation", "0"), "--utilisation: 0 is no share above 0"),
        (("--demand", "2/s", "--min-instances", "0"), "--min-instances"),
        (("--demand", "2/s", "--day", ",".join(["1"] * 23 + ["5e-324"])), "--day: an hour has next to no demand"),
        (("--items", "1e30", "--deadline", "2h"), "--items, --deadline: '1e30' is more than the 1e+18 items"),
        (("--items", "1e6", "--deadline", "1ns"), "--items, --deadline: '1ns' is not a time above zero"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_cannot_be_asked_is_answered_with_what_can(run, cpu, arguments, words):
    refused(run, words, cpu, *arguments, "--price", "cpu=0.1")


def test_the_largest_backlog_has_figures_in_every_form(run, cpu):
    asked = ("--items", "1e18", "--deadline", "1s", "--price", "cpu=0.1")
    code, out, _ = run(cpu, *asked, "--format", "json")
    assert code == 0
    (job,) = json.loads(out)["jobs"]["tests/test_a.py::test_model"]
    assert job["instances"] * 8 / 0.12 == pytest.approx(1e18, rel=0.05)
    assert run(cpu, *asked)[0] == 0


def test_a_demand_beyond_all_machines_says_so(run, cpu):
    code, out, _ = run(cpu, "--demand", "1e12/s", "--price", "cpu=0.1")
    assert code == 0
    assert "No number of machines serves this demand." in out


@pytest.mark.parametrize("rate", ["1e-9/s", "1/day"])
def test_a_demand_of_next_to_nothing_takes_one_machine(run, cpu, rate):
    code, out, _ = run(cpu, "--demand", rate, "--price", "cpu=0.1")
    assert code == 0
    assert "Run it on 1 x own cpu (cpu): 73.0 USD a month" in out


@pytest.mark.parametrize("form", ["markdown", "json", "html"])
def test_a_limit_below_the_fastest_call_is_answered_in_every_form(run, cpu, form):
    code, out, _ = run(cpu, "--demand", "2/s", "--p95-ms", "1", "--price", "cpu=0.1", "--format", form)
    assert code == 0
    assert "o plan answers 95 % of requests within 1.00 ms" in out.replace("\\", "")
    assert "Run it on" not in out


# Results


def test_an_empty_file_is_no_result(run, write):
    empty = write("", "empty.json")
    refused(run, f"{empty}: the file is empty", empty, *ASKED)


def test_results_without_a_case_say_how_to_get_some(run, write):
    bare = write(session())
    refused(
        run, "the results hold no case whose times can be used: run the tests with --infer-json", bare, *ASKED
    )


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


def test_one_batch_size_is_told_as_such(run, write):
    code, out, _ = run(write(session(measured(0.02))), *ASKED, "--price", "cpu=0.1")
    assert code == 0
    assert "only batches of 1 were measured on cpu: whether larger ones pay is unknown" in out
    assert "give the marker batch_sizes=[1, 8, 32]" in out


# Machines


@pytest.mark.parametrize(
    ("which", "instance", "words"),
    [
        ("gpu", "cuda=lab/box", "the machine has an accelerator, NVIDIA L4, and lab/box has none"),
        ("cpu", "cpu=lab/card", "no accelerator was used, and lab/card has L4"),
    ],
    ids=["card", "processor"],
)
def test_an_instance_without_the_device_serves_nobody(run, request, write, *, which, instance, words):
    table = write(TABLE, "own.csv")
    device, _, name = instance.partition("=lab/")
    said = f"{name}, which {device} is said to be, is another machine: {words}"
    refused(run, said, request.getfixturevalue(which), *ASKED, "--prices", table, "--instance", instance)


def test_an_instance_without_the_device_is_told_beside_those_that_have_it(run, cpu, gpu, write):
    table = write(TABLE, "own.csv")
    code, out, _ = run(
        cpu, gpu, *ASKED, "--prices", table, "--instance", "cpu=lab/box", "--instance", "cuda=lab/box"
    )
    assert code == 0
    assert "Run it on 1 x box (cpu)" in out
    assert "box, which cuda is said to be, is another machine" in out


def test_one_price_for_several_machines_tells_them_apart(run, cpu, write):
    big = write(sized(BIG, "cpu", {1: 0.005, 8: 0.030}), "big.json")
    code, out, _ = run(cpu, big, "--demand", "100/s", "--p95-ms", "200", "--price", "cpu=0.1")
    assert code == 0
    assert "Run it on 1 x own cpu, 16 cores of Big CPU (cpu)" in out
    assert "own cpu, 4 cores of Test CPU" in out


def test_machines_are_priced_by_their_class(run, cpu, write):
    big = write(sized(BIG, "cpu", {1: 0.005, 8: 0.030}), "big.json")
    prices = ("--price", "test-cpu=0.1", "--price", "big-cpu=0.9")
    code, out, _ = run(cpu, big, *ASKED, *prices)
    assert code == 0
    assert "Run it on 1 x own test-cpu (cpu): 73.0 USD a month" in out
    assert "Runner-up: 1 x own big-cpu (cpu), 657 USD a month" in out


def test_a_machine_that_nobody_priced_is_asked_for_beside_the_answer(run, cpu, write):
    big = write(sized(BIG, "cpu", {1: 0.005}), "big.json")
    code, out, _ = run(cpu, big, *ASKED, "--price", "test-cpu=0.1")
    assert code == 0
    assert "Run it on 1 x own test-cpu (cpu)" in out
    assert "what is this machine, and what does it cost: 16 cores of Big CPU?" in out


def test_batch_sizes_of_several_runs_on_one_machine_come_together(run, write):
    first = write(session(measured(0.020)), "first.json")
    second = write(session(measured(0.120, batch_size=8), created="2026-07-02T12:00:00Z"), "second.json")
    code, out, _ = run(first, second, *ASKED, "--price", "cpu=0.1", "--format", "json")
    assert code == 0
    (sweep,) = json.loads(out)["answers"][0]["sweeps"]
    assert sweep["batch_sizes"] == [1, 8]


def test_results_of_several_dtypes_that_contradict_are_refused(run, write):
    files = []
    for index, p50 in enumerate((0.02, 0.03)):
        both = [measured(p50), measured(p50)]
        both[1] = msgspec.structs.replace(
            both[1], case=msgspec.structs.replace(both[1].case, dtype="float16")
        )
        files.append(write(session(*both, created=f"2026-07-0{index + 1}T12:00:00Z"), f"{index}.json"))
    refused(run, "tests/test_a.py::test_model[cpu] was measured twice on test-cpu-4c-", *files, *ASKED)
