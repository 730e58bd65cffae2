"""What machines cost in a run: tables of pyproject.toml, budgets, the result's cost, demand."""

import json
from fnmatch import fnmatchcase

import pytest

from pytest_infergate.config.marker import parse_marker
from pytest_infergate.config.settings import parse_settings
from pytest_infergate.config.toml import Pricing
from pytest_infergate.core.advice.demand import Demand
from pytest_infergate.core.domain.model import Hardware, Note
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.runner.price_lookup import PriceList
from pytest_infergate.storage import prices

HEADER = "provider,region,name,vcpus,cpu_model,accelerator,accelerator_count,usd_per_hour,as_of"
OWN = f"""{HEADER}
lab,cellar,small,4,fake,,,0.36,2026-07-20
lab,cellar,large,8,fake,,,0.72,2026-07-20
lab,cellar,gpu,4,fake,accel,1,3.6,2026-07-20
lab,attic,small,4,fake,,,0.4,2026-07-20
"""


@pytest.fixture(autouse=True)
def summer(monkeypatch):
    monkeypatch.setattr(prices, "today", lambda: "2026-07-21")


@pytest.fixture
def parse(tmp_path):
    """Parse a `pyproject.toml` and options, in a project of its own."""

    def run(table="", command=None, ini=None):
        (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
        command = {"devices": "cpu", **(command or {})}
        return parse_settings(
            command, ini or {}, rootdir=tmp_path, invocation_dir=tmp_path / "sub", kinds=("cpu", "cuda")
        )

    return run


# Settings


def test_nothing_is_priced_unless_said(parse, tmp_path):
    assert parse().pricing == Pricing(table=None, utilisation=0.6, regions=(), instances={}, discounts={})
    assert parse(command={"devices": None}).pricing.utilisation == 0.6


def test_what_machines_cost_is_said_in_pyproject(parse, tmp_path):
    found = parse(
        """
        [tool.infergate]
        prices = "own/prices.csv"
        utilisation = "50%"
        region = "us-east-1"
        [tool.infergate.instances]
        cpu = "aws/c7i.xlarge"
        cuda = { usd_per_hour = 1.2 }
        "cuda:1" = "g6.xlarge"
        [tool.infergate.discounts]
        "aws/c7i.*" = 0.3
        "*" = "10%"
        """
    ).pricing
    assert found == Pricing(
        table=tmp_path / "own" / "prices.csv",
        utilisation=0.5,
        regions=("us-east-1",),
        instances={"cpu": "aws/c7i.xlarge", "cuda": 1.2, "cuda:1": "g6.xlarge"},
        discounts={"aws/c7i.*": 0.3, "*": 0.1},
    )


def test_regions_may_be_several(parse):
    assert parse("[tool.infergate]\nregion = ['a', 'b']").pricing.regions == ("a", "b")


def test_an_option_names_another_table(parse, tmp_path):
    table = "[tool.infergate]\nprices = 'table.csv'"
    assert parse(table, ini={"prices": "ini.csv"}).pricing.table == tmp_path / "ini.csv"
    assert (
        parse(table, {"prices": "given.csv"}, {"prices": "ini.csv"}).pricing.table == tmp_path / "given.csv"
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("prices = 3", "[tool.infergate] prices must be the path of a CSV file"),
        ("prices = ' '", "[tool.infergate] prices must be the path of a CSV file"),
        ("utilisation = 0", "[tool.infergate] utilisation: 0 is not above 0 and at most 1, such as 0.6"),
        (
            "utilisation = '120%'",
            "[tool.infergate] utilisation: '120%' is not above 0 and at most 1, such as 0.6",
        ),
        ("utilisation = 60", "[tool.infergate] utilisation: 60 is above 1; write '60%' or 0.6"),
        ("utilisation = true", "[tool.infergate] utilisation: True is not a share such as '5%' or 0.05"),
        ("region = 3", "[tool.infergate] region must be a name such as 'us-east-1', or a list of them"),
        ("region = ['']", "[tool.infergate] region must be a name such as 'us-east-1', or a list of them"),
        ("instances = 3", "[tool.infergate.instances] must map devices to instances"),
        (
            "instances = { gpu = 'x' }",
            "[tool.infergate.instances] has an unknown device 'gpu': known are cpu, cuda; a GPU of NVIDIA or AMD is cuda",
        ),
        (
            "instances = { cpu = 1.2 }",
            (
                "[tool.infergate.instances]: 1.2 is neither an instance such as 'aws/c7i.xlarge' nor a price such as "
                "{ usd_per_hour = 1.2 }"
            ),
        ),
        (
            "instances = { cpu = { eur_per_hour = 1 } }",
            "[tool.infergate.instances]: {'eur_per_hour': 1} is neither*",
        ),
        (
            "instances = { cpu = { usd_per_hour = true } }",
            "[tool.infergate.instances]: {'usd_per_hour': True} is *",
        ),
        (
            "instances = { cpu = { usd_per_hour = -1 } }",
            "[tool.infergate.instances]: usd_per_hour is -1; a price is a number above 0",
        ),
        (
            "instances = { cpu = { usd_per_hour = nan } }",
            "[tool.infergate.instances]: usd_per_hour is nan; a price is a number above 0",
        ),
        (
            "discounts = { '*' = 1 }",
            "[tool.infergate.discounts]: 1 leaves nothing to pay; a discount is less than 100%",
        ),
        ("discounts = { '*' = 30 }", "[tool.infergate.discounts]: 30 is above 1; write '30%' or 0.3"),
    ],
)
def test_what_cannot_be_a_price_is_refused(parse, table, message):
    with pytest.raises(ConfigurationError) as caught:
        parse(f"[tool.infergate]\n{table}")
    assert fnmatchcase(str(caught.value), f"pyproject.toml: {message}".replace("[", "[[]"))


def test_a_demand_is_parsed_wherever_it_is_given(parse):
    assert parse(command={"demand": "50/s"}).command["demand"] == Demand(rate=50.0)
    assert parse(ini={"demand": "60/min"}).ini["demand"] == Demand(rate=1.0)
    assert parse_marker([((), {"demand": "50/s"})], ("cpu",)).demand == Demand(rate=50.0)
    assert (
        parse(command={"demand": "50/s", "prices": "x.csv"}).given["--infer-demand"]
        == "50 requests/s, Poisson"
    )


def test_the_command_line_wins_over_the_marker_and_that_over_the_ini_file(parse):
    of_marker, default = Demand(rate=2.0), None
    assert (
        parse(command={"demand": "1/s"}, ini={"demand": "3/s"}).layered("demand", of_marker, default).rate
        == 1
    )
    assert parse(ini={"demand": "3/s"}).layered("demand", of_marker, default).rate == 2
    assert parse(ini={"demand": "3/s"}).layered("demand", None, default).rate == 3


@pytest.mark.parametrize("demand", ["50", "0/s", "fast"])
def test_a_demand_that_is_none_is_refused(parse, demand):
    with pytest.raises(ConfigurationError, match=r"^--infer-demand: "):
        parse(command={"demand": demand})
    with pytest.raises(ConfigurationError, match=r"^@pytest.mark.inference\(demand=\.\.\.\): "):
        parse_marker([((), {"demand": demand})], ("cpu",))


# From the user's word to a price


@pytest.fixture
def price_list(tmp_path):
    """A price list over a table of the user's own."""

    def make(instances=None, table=OWN, regions=("cellar",), discounts=None):
        path = tmp_path / "own.csv"
        path.write_text(table, encoding="utf-8")
        return PriceList(
            Pricing(
                table=path,
                utilisation=0.5,
                regions=regions,
                instances=instances or {},
                discounts=discounts or {},
            )
        )

    return make


FOUR = Hardware(cpu_model="fake", cores=4)
TWO = Hardware(cpu_model="fake", cores=2)
LONE = Hardware(cpu_model="fake", cores=4, accelerator="accel", accelerator_count=1)


def test_a_machine_costs_what_its_instance_costs(price_list):
    assert price_list({"cpu": "lab/small"}).price("cpu", FOUR) == Price(
        usd_per_hour=0.36, utilisation=0.5, source="lab/small in cellar, on demand, as of 2026-07-20"
    )


def test_own_hardware_costs_what_its_owner_says(price_list):
    found = price_list({"cuda": 1.2}).price("cuda:1", LONE)
    assert found == Price(
        usd_per_hour=1.2, utilisation=0.5, source="own hardware, by [tool.infergate.instances]"
    )


def test_a_device_wins_over_its_kind(price_list):
    said = price_list({"cuda": 1.2, "cuda:1": 2.4})
    assert [said.price(name, LONE).usd_per_hour for name in ("cuda", "cuda:1", "cuda:2")] == [1.2, 2.4, 1.2]


def test_a_discount_is_taken_off(price_list):
    found = price_list({"cpu": "small"}, discounts={"lab/*": 0.5}).price("cpu", FOUR)
    assert found.usd_per_hour == pytest.approx(0.18)
    assert found.source == "lab/small in cellar, on demand, 50 % off, as of 2026-07-20"


def test_an_old_price_carries_its_doubt(price_list, monkeypatch):
    monkeypatch.setattr(prices, "today", lambda: "2026-12-24")
    (note,) = price_list({"cpu": "small"}).price("cpu", FOUR).notes
    assert (note.code, note.text) == ("prices-old", "the price of lab/small is 157 days old, of 2026-07-20")


def test_prices_far_apart_carry_their_doubt(price_list):
    table = OWN + "lab,cellar,other,4,fake,accel,1,9.0,2026-07-20\n"
    (note,) = price_list({"cuda": "gpu"}, table).price("cuda", LONE).notes
    assert note.code == "prices-doubtful"


@pytest.mark.parametrize(
    ("instances", "asked", "text", "hint"),
    [
        (
            {},
            ("cpu", FOUR),
            "it needs a price, and nobody said what the machine of cpu stands for",
            (
                'write cpu = "lab/small", which this machine looks like, into [tool.infergate.instances] of '
                "pyproject.toml, or cpu = { usd_per_hour = ... }"
            ),
        ),
        (
            {"cpu": "small"},
            ("cuda:1", Hardware(cpu_model="fake", cores=4, accelerator="unknown", accelerator_count=1)),
            "it needs a price, and nobody said what the machine of cuda:1 stands for",
            (
                "write cuda = { usd_per_hour = ... } into [tool.infergate.instances] of pyproject.toml, or measure on "
                "the instance that it is to stand for"
            ),
        ),
        (
            {"cpu": "large"},
            ("cpu", FOUR),
            "lab/large, which cpu stands for, is another machine: 4 cores can be used here, lab/large has 8 vCPUs",
            'write cpu = "lab/small", which *',
        ),
        (
            {"cuda:1": "large"},
            ("cuda:1", LONE),
            (
                "lab/large, which cuda:1 stands for, is another machine: the machine has an accelerator, accel, and "
                "lab/large has none"
            ),
            'write "cuda:1" = "lab/gpu", which *',
        ),
        (
            {"cpu": "gpu"},
            ("cpu", TWO),
            "lab/gpu, which cpu stands for, is another machine: no accelerator was used, and lab/gpu has accel",
            "write cpu = { usd_per_hour = ... } into *",
        ),
    ],
    ids=["nobody-said", "unknown", "cores", "accelerator", "unused"],
)
def test_what_has_no_price_says_why(price_list, instances, asked, text, hint):
    found = price_list(instances).price(*asked)
    assert isinstance(found, Note)
    assert found.text == text
    assert fnmatchcase(found.hint, hint.replace("[", "[[]"))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"instances": {"cpu": "smal"}},
            ConfigurationError,
            r"\[tool.infergate.instances\] cpu: no instance 'smal' is in the table of prices; did you mean 'small'",
        ),
        (
            {"instances": {"cpu": "small"}, "regions": ()},
            ConfigurationError,
            "'small' may be lab/small in cellar, lab/small in attic",
        ),
        (
            {"regions": ("cellar", "mars")},
            ConfigurationError,
            r"\] region: no price is of 'mars'; known are attic, ",
        ),
        (
            {"discounts": {"lab/tiny*": 0.1}},
            ConfigurationError,
            r"\[tool.infergate.discounts\]: no instance is called 'lab/tiny\*'",
        ),
        ({"table": "a,b\n"}, StorageError, "own.csv: line 1: unknown column 'a'"),
    ],
    ids=["name", "ambiguous", "region", "discount", "table"],
)
def test_what_the_user_named_is_found_before_anything_is_measured(price_list, fields, error, message):
    with pytest.raises(error, match=message):
        price_list(**fields).check()
    price_list({"cpu": "small", "cuda": 1.0}, discounts={"lab/*": 0.1}).check()


# Runs


@pytest.fixture
def priced(project):
    """A project whose fake device may stand for an instance; a call of 10 ms, so 100 items a second."""

    def write(instances='fake = "lab/small"'):
        (project.path / "own.csv").write_text(OWN, encoding="utf-8")
        (project.path / "pyproject.toml").write_text(
            f'[tool.infergate]\nprices = "own.csv"\nutilisation = 0.5\nregion = "cellar"\n'
            f"[tool.infergate.instances]\n{instances}\n",
            encoding="utf-8",
        )
        return project

    return write


def session(project):
    return json.loads((project.path / "r.json").read_text())


def test_the_result_tells_its_cost(priced):
    """0.36 USD an hour, 100 items a second, half of the time: 2 USD a million."""
    project = priced()
    project.test(body="assert round(infer(model).cost, 6) == 2")
    result = project.measure("--infer-json=r.json")
    result.assert_outcomes(passed=1)
    assert session(project)["cases"][0]["price"] == {
        "usd_per_hour": 0.36,
        "utilisation": 0.5,
        "source": "lab/small in cellar, on demand, as of 2026-07-20",
    }


def test_the_table_tells_the_cost(priced):
    project = priced()
    project.test()
    result = project.measure()
    result.stdout.fnmatch_lines(["case * cost/million *", "test_it.py::test_model* 2.00 USD *"])


def test_a_result_without_a_price_has_no_cost(project):
    project.test(body="assert infer(model).cost is None")
    project.measure("--infer-json=r.json").assert_outcomes(passed=1)
    assert "price" not in session(project)["cases"][0]
    project.test(body="infer(model).cost")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*this run did not measure*"])


def test_another_machine_has_no_cost(priced):
    project = priced('fake = "lab/large"')
    project.test(body="assert infer(model).cost is None")
    project.measure("--infer-json=r.json").assert_outcomes(passed=1)
    assert "unpriced" not in session(project)["cases"][0]


def test_a_batch_has_as_many_items(priced):
    project = priced()
    project.test("batch_sizes=[4]", "assert round(infer(model).cost, 6) == 0.5")
    project.measure().assert_outcomes(passed=1)


def test_a_kept_limit_on_cost_passes(priced):
    project = priced()
    project.test("budget={'usd_per_million': 4, 'usd_per_month': 1600}, demand='120/s'")
    result = project.measure("--infer-json=r.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*kept*no-baseline*"])
    assert session(project)["cases"][0]["demand"] == 120


def test_a_limit_on_cost_fails_by_name_with_what_it_rests_on(priced):
    project = priced()
    project.test("budget={'usd_per_million': 0.5}")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "over-budget: cost per million 2.00 USD is over its budget of 0.500 USD",
            "*budget usd_per_million: over-budget",
            "*measured *2.00 USD",
            "*allowed *at most 0.500 USD",
            "*how sure *between * USD and * USD (99 % over calls, 95 % between launches)",
            "*price *0.36 USD an hour, lab/small in cellar, on demand, as of 2026-07-20; used to 50 %",
            "FAILED: 1 of 1 case decided, 1 over-budget",
        ]
    )


def test_a_limit_on_a_month_counts_whole_machines(priced):
    project = priced()
    project.test("budget={'usd_per_month': 100}")
    result = project.measure("--infer-demand=120/s")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "over-budget: cost per month 788 USD is over its budget of 100 USD",
            "*price *; used to 50 %; 3 machines for 120/s, by throughput alone: waiting is not counted",
        ]
    )


def test_one_launch_within_the_spread_is_inconclusive(priced):
    project = priced()
    project.test("budget={'usd_per_million': 2.1}")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*cost per million 2.00 USD is within the spread between launches of its limit 2.10 USD (*"]
    )


def test_a_plain_price_always_applies(priced):
    project = priced("fake = { usd_per_hour = 0.36 }\naccel = { usd_per_hour = 3.6 }")
    project.test(
        "budget={'usd_per_million': 50}",
        "assert round(infer(model).cost) == {'fake': 2, 'accel': 20}[infer.device]",
    )
    project.run("--infer-devices=fake,accel").assert_outcomes(passed=2)


def test_an_instance_with_an_accelerator_stands_for_one(priced):
    project = priced('accel = "gpu"')
    project.test(body="assert round(infer(model).cost) == 20")
    project.run("--infer-devices=accel").assert_outcomes(passed=1)


def test_the_cpu_beside_an_accelerator_stands_for_no_instance_without_one(priced):
    project = priced('cpu = "lab/small"')
    conftest = project.path / "conftest.py"
    text = conftest.read_text().replace('FakeDevice("fake")', 'FakeDevice("cpu")')
    absent = "*(FakeKind(kind=name) for name in ('cuda', 'xpu', 'mps')), "
    text = text.replace("FakeKind(DEVICE, reason", f'{absent}FakeKind(DEVICE, kind="cpu", reason')
    project.test("budget={'usd_per_million': 1e9}")
    conftest.write_text(text)
    result = project.run("--infer-devices=cpu")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*another machine: the machine has an accelerator, accel, and lab/small has none"]
    )
    conftest.write_text(text.replace("FakeKind(ACCELERATOR, ", "FakeKind("))
    project.run("--infer-devices=cpu").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("instances", "budget", "lines"),
    [
        (
            "",
            "usd_per_million",
            [
                (
                    "over-budget: budget usd_per_million was not decided: it needs a price, and nobody said what the "
                    "machine of fake stands for"
                ),
                "*budget usd_per_million: over-budget (not decided)",
                '*- write fake = "lab/small", which this machine looks like, into [[]tool.infergate.instances] of *',
            ],
        ),
        (
            'fake = "lab/large"',
            "usd_per_million",
            [
                (
                    "over-budget: *not decided: lab/large, which fake stands for, is another machine: 4 cores can be "
                    "used here, lab/large has 8 vCPUs"
                ),
                '*- write fake = "lab/small", which *',
            ],
        ),
        (
            'fake = "lab/small"',
            "usd_per_month",
            [
                "over-budget: budget usd_per_month was not decided: it needs a demand",
                '*- say how much is to be served: demand="50/s" in the marker, or --infer-demand=50/s',
            ],
        ),
    ],
    ids=["nobody-said", "another-machine", "no-demand"],
)
def test_a_cost_that_nobody_knows_is_not_decided_and_says_the_cure(priced, instances, budget, lines):
    project = priced(instances)
    project.test(f"budget={{'{budget}': 1e9}}")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([*lines, "FAILED: 0 of 1 case decided, 1 over-budget"])


@pytest.mark.parametrize(
    ("instances", "options", "message"),
    [
        (
            'fake = "lab/smal"',
            [],
            "*instances] fake: no instance 'lab/smal' is in the table of prices; did you mean*",
        ),
        ('cpuu = "lab/small"', [], "*instances] has an unknown device 'cpuu': known are *"),
        (
            "",
            ["--infer-prices=no.csv"],
            "cannot read *no.csv: No such file or directory; give the path of a CSV file",
        ),
        ("", ["--infer-prices=test_it.py"], "*test_it.py: line *"),
        ("", ["--infer-demand=50"], "--infer-demand: '50' has no unit of time; write 50/s *"),
    ],
    ids=["name", "device", "no-table", "not-a-table", "demand"],
)
def test_bad_prices_end_the_run_with_exit_code_4(priced, instances, options, message):
    project = priced(instances)
    project.test()
    result = project.measure(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_doubtful_price_is_noted(priced, monkeypatch):
    monkeypatch.setattr(prices, "today", lambda: "2026-12-24")
    project = priced()
    project.test("batch_sizes=[1, 2]")
    result = project.measure()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*2 cases: the price of lab/small is 157 days old, of 2026-07-20 (compare it *"]
    )


def test_prices_and_demand_in_the_ini_file_do_not_switch_measuring_on(priced):
    project = priced()
    project.test()
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_prices = no.csv\ninfer_demand = 50/s\n")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*infergate:*")


def test_a_bad_demand_of_a_marker_is_an_error_of_that_test(priced):
    project = priced()
    project.test("demand='often'")
    result = project.measure()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*test_it.py::test_model: @pytest.mark.inference(demand=...): 'often' is not a demand*"]
    )


def test_the_html_report_is_written_with_prices_and_demand(priced):
    project = priced()
    project.test("budget={'usd_per_month': 100}")
    result = project.measure("--infer-demand=120/s", "--infer-report=r.html", "--infer-gate=warn")
    result.assert_outcomes(passed=1)
    page = (project.path / "r.html").read_text()
    assert "120 requests/s, Poisson" in page
    assert "lab/small in cellar" in page
