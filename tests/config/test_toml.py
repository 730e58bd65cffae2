"""The table `[tool.infergate]`: what is accepted; what is refused is in `test_bad_input` of the plugin."""

import msgspec
import pytest

from pytest_infergate.config import toml
from pytest_infergate.config.parse import parse_budgets
from pytest_infergate.errors import ConfigurationError


@pytest.fixture
def read(tmp_path):
    """Read a table as it is written in a file."""

    def read(text):
        path = tmp_path / "pyproject.toml"
        path.write_text(text, encoding="utf-8")
        return toml.read_table(path)

    return read


def pricing(table, tmp_path, prices=None):
    return toml.parse_pricing(table, prices, tmp_path, ("cpu", "cuda"))


def test_every_key_says_what_it_must_be():
    assert list(toml._ALLOWED) == [field.name for field in msgspec.structs.fields(toml.Table)]


def test_without_a_table_everything_is_as_by_default(read, tmp_path):
    assert toml.read_table(tmp_path / "none.toml") == toml.Table()
    for text in ("", "[tool.other]\nkey = 1\n", "not toml", "tool = {}"):
        assert read(text) == toml.Table(), text
    found = pricing(toml.Table(), tmp_path)
    assert (found.table, found.utilisation, found.regions) == (None, 0.6, ())
    assert (found.instances, found.discounts) == ({}, {})


def test_prices_of_machines(read, tmp_path):
    table = read(
        "[tool.infergate]\n"
        "prices = 'mine.csv'\n"
        "utilisation = '75%'\n"
        "region = 'us-east-1'\n"
        "instances = { cpu = ' aws/c7i.xlarge ', 'cuda:1' = { usd_per_hour = 2 } }\n"
        "discounts = { 'aws/*' = '30%', 'gcp/*' = 0 }\n"
    )
    found = pricing(table, tmp_path)
    assert (found.table, found.utilisation, found.regions) == (tmp_path / "mine.csv", 0.75, ("us-east-1",))
    assert found.instances == {"cpu": "aws/c7i.xlarge", "cuda:1": 2.0}
    assert found.discounts == {"aws/*": 0.3, "gcp/*": 0.0}
    assert pricing(table, tmp_path, "other.csv").table == tmp_path / "other.csv"
    assert pricing(read("tool.infergate.region = ['a', 'b']"), tmp_path).regions == ("a", "b")
    assert pricing(read("tool.infergate.utilisation = 1"), tmp_path).utilisation == 1.0


def test_prices_of_machines_have_bounds(read, tmp_path):
    for price in ("0", "5e-324", "1000000.1", "inf"):
        table = read(f"tool.infergate.instances = {{ cpu = {{ usd_per_hour = {price} }} }}")
        with pytest.raises(ConfigurationError, match="'cpu': a machine must be"):
            pricing(table, tmp_path)
    table = read("tool.infergate.instances = { cpu = { usd_per_hour = 1e6 } }")
    assert pricing(table, tmp_path).instances == {"cpu": 1e6}


def test_a_utilisation_has_bounds(read, tmp_path):
    for share in ("0", "5e-324", "1.5"):
        with pytest.raises(ConfigurationError, match="utilisation"):
            pricing(read(f"tool.infergate.utilisation = {share}"), tmp_path)


def test_a_wrong_value_beside_right_ones_is_named(read):
    with pytest.raises(ConfigurationError, match=r"setup must be a command, got 3$"):
        read("[tool.infergate]\noverlay = ['a']\nsetup = 3\ngate_estimates = true\n")


def test_a_number_beyond_any_float_is_no_budget():
    with pytest.raises(ValueError, match="budget p95_ms"):
        parse_budgets({"p95_ms": 10**400})


def test_a_tool_that_is_not_a_table_has_no_table_of_infergate(read):
    assert read("tool = 3") == toml.Table()
