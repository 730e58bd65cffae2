"""What machines cost in a run: tables of pyproject.toml, budgets, the result's cost, demand.

What is refused there, and with which words, is in `test_bad_input`.
"""

import json
from datetime import date

import pytest
from inner_results import failures
from inputs import listed, message, parsed

from pytest_infergate.config.case_terms import case_terms
from pytest_infergate.config.marker import parse_marker
from pytest_infergate.config.toml import Pricing
from pytest_infergate.core.advice.demand import Demand
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.core.domain.values import Hardware, Note
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
    monkeypatch.setattr(prices, "today", lambda: date(2026, 7, 21))


@pytest.fixture
def parse(tmp_path):
    """Parse a `pyproject.toml` and options, in a project of its own."""

    def run(table="", command=None, ini=None):
        return parsed(tmp_path, {"devices": "cpu", **(command or {})}, ini, table)

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


def test_a_demand_is_parsed_wherever_it_is_given(parse):
    assert parse(command={"demand": "50/s"}).command["demand"] == Demand(rate=50.0)
    assert parse(ini={"demand": "60/min"}).ini["demand"] == Demand(rate=1.0)
    assert parse_marker([((), {"demand": "50/s"})], ("cpu",)).demand == Demand(rate=50.0)
    assert (
        parse(command={"demand": "50/s", "prices": "x.csv"}).given["--infer-demand"]
        == "50 requests/s, Poisson"
    )


@pytest.mark.parametrize(
    ("command", "marked", "rate"), [("1/s", "2/s", 1), (None, "2/s", 2), (None, None, 3)]
)
def test_the_command_line_wins_over_the_marker_and_that_over_the_ini_file(parse, command, marked, rate):
    settings = parse(command={"demand": command}, ini={"demand": "3/s"})
    marker = parse_marker([((), {} if marked is None else {"demand": marked})], ("cpu",))
    assert case_terms(settings, marker, "t.py::test").demand == Demand(rate=rate)


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
    monkeypatch.setattr(prices, "today", lambda: date(2026, 12, 24))
    (note,) = price_list({"cpu": "small"}).price("cpu", FOUR).notes
    assert (note.code, note.text) == (
        "prices-old",
        "the price of lab/small is 157 days old, as of 2026-07-20",
    )


def test_prices_far_apart_carry_their_doubt(price_list):
    table = OWN + "lab,cellar,other,4,fake,accel,1,9.0,2026-07-20\n"
    (note,) = price_list({"cuda": "gpu"}, table).price("cuda", LONE).notes
    assert note.code == "prices-doubtful"


def test_what_has_no_price_says_why_and_what_to_write(price_list, snapshot):
    unknown = Hardware(cpu_model="fake", cores=4, accelerator="unknown", accelerator_count=1)
    found = {}
    for name, instances, device, hardware in (
        ("nothing said", {}, "cpu", FOUR),
        ("unknown accelerator", {"cpu": "small"}, "cuda:1", unknown),
        ("other cores", {"cpu": "large"}, "cpu", FOUR),
        ("another accelerator", {"cuda:1": "large"}, "cuda:1", LONE),
        ("unused accelerator", {"cpu": "gpu"}, "cpu", TWO),
    ):
        note = price_list(instances).price(device, hardware)
        assert isinstance(note, Note), name
        found[name] = f"{note.code}: {note.text}\n    {note.hint}"
    assert "\n".join(f"{name}\n    {text}" for name, text in found.items()) == snapshot


def test_what_the_user_named_is_looked_up_before_anything_is_measured(price_list, tmp_path, snapshot):
    given = {
        "instance": {"instances": {"cpu": "smal"}},
        "ambiguous": {"instances": {"cpu": "small"}, "regions": ()},
        "region": {"regions": ("cellar", "mars")},
        "discount": {"discounts": {"lab/tiny*": 0.1}},
        "table": {"table": "a,b\n"},
    }
    found = {
        name: message(lambda fields=fields: price_list(**fields).check()) for name, fields in given.items()
    }
    assert [name for name, text in found.items() if text.startswith("NOT REFUSED")] == []
    del found["region"]  # it lists those of the prices that come with infergate
    assert listed(found, tmp_path) == snapshot
    price_list({"cpu": "small", "cuda": 1.0}, discounts={"lab/*": 0.1}).check()


# Runs


@pytest.fixture
def priced(project):
    """A project whose fake device may be configured as an instance; a call of 10 ms, so 100 items a second."""

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


def test_the_result_and_the_table_tell_the_cost(priced):
    """0.36 USD an hour, 100 items a second, half of the time: 2 USD a million; and a batch has more items."""
    project = priced()
    project.pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.inference(batch_sizes=[1, 4])
        def test_model(infer, model):
            assert round(infer(model).cost, 6) == 2 / infer.batch_size
        """
    )
    result = project.measure("--infer-json=r.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["case * cost/million *", "test_it.py::test_model* 2.00 USD *"])
    assert session(project)["cases"][0]["price"] == {
        "usd_per_hour": 0.36,
        "utilisation": 0.5,
        "source": "lab/small in cellar, on demand, as of 2026-07-20",
    }


def test_another_machine_has_no_cost(priced):
    project = priced('fake = "lab/large"')
    project.test(body="assert infer(model).cost is None")
    project.measure("--infer-json=r.json").assert_outcomes(passed=1)
    assert not {"price", "unpriced"} & session(project)["cases"][0].keys()


def test_limits_on_cost(priced, snapshot):
    """A month counts whole machines. One launch within the spread is inconclusive."""
    project = priced()
    project.several(
        {
            "kept": "budget={'usd_per_million': 4, 'usd_per_month': 1600}",
            "own_demand": "budget={'usd_per_month': 300}, demand='20/s'",
            "million": "budget={'usd_per_million': 0.5}",
            "month": "budget={'usd_per_month': 100}",
            "near": "budget={'usd_per_million': 2.1}",
        }
    )
    result = project.measure("--infer-json=r.json", "-o", "infer_demand=120/s", "--infer-report=r.html")
    decided = project.decided("r.json")
    assert {name for name, one in decided.items() if one.failed} == {"million", "month"}
    assert {name for name, one in decided.items() if "budget-inconclusive" in one.codes} == {"near"}
    demands = {case["nodeid"]: case["demand"] for case in session(project)["cases"]}
    assert demands["test_it.py::test_kept[fake]"] == 120
    assert demands["test_it.py::test_own_demand[fake]"] == 20
    assert "\n\n".join(failures(result).values()) == snapshot
    page = (project.path / "r.html").read_text()
    assert "120 requests/s, Poisson" in page
    assert "lab/small in cellar" in page


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


def test_an_unknown_cost_is_not_decided_and_has_a_hint(priced, snapshot):
    failed = {}
    for instances, test in (
        ("", "budget={'usd_per_million': 1e9}"),
        ('fake = "lab/large"', "budget={'usd_per_million': 1e9}"),
        ('fake = "lab/small"', "budget={'usd_per_month': 1e9}"),
    ):
        project = priced(instances)
        project.test(test)
        result = project.measure("--infer-json=r.json")
        assert "budget-not-decided" in project.decided("r.json")["model"].codes
        failed[f"{instances}, {test}"] = failures(result)["test_model[fake]"]
    assert "\n\n".join(f"{given}\n\n{text}" for given, text in failed.items()) == snapshot


def test_a_doubtful_price_is_noted(priced, monkeypatch):
    monkeypatch.setattr(prices, "today", lambda: date(2026, 12, 24))
    project = priced()
    project.test()
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*the price of lab/small is 157 days old, as of 2026-07-20 (fetch current ones *"]
    )
