"""The price of a case. Tables, names and hints are tested with the budgets on cost."""

import pytest

from pytest_infergate.config.toml import Pricing
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.runner.price_lookup import PriceList

MACHINE = Hardware(cpu_model="fake", cores=4)


def prices(**instances):
    return PriceList(Pricing(table=None, utilisation=0.5, regions=(), instances=instances, discounts={}))


def refuse():
    pytest.fail("the machine was looked up, which may load torch")


def test_a_case_without_prices_and_cost_budgets_looks_nothing_up():
    assert prices().case_price("cpu", refuse, {"p95_ms": 1.0}) is None


def test_a_missing_price_is_a_reason_only_where_a_budget_needs_it():
    assert prices(cuda=1.0).case_price("cpu", lambda: MACHINE, {"p95_ms": 1.0}) is None
    for budget in ("usd_per_million", "usd_per_month"):
        note = prices().case_price("cpu", lambda: MACHINE, {"p95_ms": 1.0, budget: 1.0})
        assert note.code == "unpriced"


def test_a_price_is_part_of_the_case_without_any_budget():
    price = prices(cpu=1.5).case_price("cpu", lambda: MACHINE, {})
    assert isinstance(price, Price)
    assert (price.usd_per_hour, price.utilisation) == (1.5, 0.5)


@pytest.mark.parametrize(("device", "price"), [("cuda", 1.0), ("cuda:0", 1.0), ("cuda:1", 2.0)])
def test_an_entry_of_a_numbered_device_takes_precedence(device, price):
    assert prices(**{"cuda": 1.0, "cuda:1": 2.0}).price(device, MACHINE).usd_per_hour == price
