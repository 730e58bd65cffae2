"""What inference costs, and which machines are of one class."""

import math
from datetime import date, timedelta

import msgspec
import pytest
from core_values import measurement, refusals
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain import hardware_names, instance_types
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.outcome import Budget, CaseResult, Outcome, Policy, Price, Verdict
from pytest_infergate.core.domain.values import Case, Environment, Hardware, Note
from pytest_infergate.core.gate import budgets, decide

rates = st.floats(1e-3, 1e6)
dollars = st.floats(1e-3, 1e3)
shares = st.floats(0.01, 1.0)


def instance(name="c7i.xlarge", **fields):
    known = {
        "provider": "aws",
        "region": "us-east-1",
        "vcpus": 4,
        "memory_gib": 8.0,
        "cpu_model": "Intel 8488C",
        "usd_per_hour": 0.1785,
        "as_of": date(2026, 7, 20),
    }
    return Instance(**{**known, "name": name, **fields})


def gpu(name="g6.xlarge", accelerator="L4", count=1, **fields):
    return instance(
        name,
        accelerator=accelerator,
        accelerator_count=count,
        **{"usd_per_hour": 0.8048, "cpu_model": None, **fields},
    )


def cpu_machine(model="Intel(R) Xeon(R) Platinum 8488C (6/143)", cores=4, **fields):
    return Hardware(cpu_model=model, cores=cores, **fields)


def gpu_machine(accelerator="NVIDIA L4", count=1):
    return cpu_machine("AMD EPYC 7R13 (25/1)", accelerator=accelerator, accelerator_count=count)


# Figures


def test_machines_are_paid_for_from_their_order_on():
    for instances, scale_up, hours in [
        ((2,) * 24, 300.0, 48.0),
        ((1,) * 12 + (3,) * 12, 0.0, 48.0),
        ((1,) * 12 + (3,) * 12, 900.0, 48.5),
        ((1,) * 12 + (3,) * 12, 3600.0, 50.0),
        ((1,) * 12 + (3,) * 12, 5400.0, 51.0),
        ((3,) * 12 + (1,) * 12, 900.0, 48.5),  # the order is of the day before
        ((1, 3) * 12, 3600.0, 72.0),
        ((1,) * 23 + (5,), 1e12, 120.0),
    ]:
        assert instance_types.instance_hours(instances, scale_up) == pytest.approx(hours), (
            instances,
            scale_up,
            hours,
        )


def test_the_published_figure():
    """inf2.xlarge, BERT-base: 2,756 inferences/s at 0.327 USD an hour."""
    assert instance_types.usd_per_million(0.327, 2756) == pytest.approx(0.033, abs=0.0005)


def test_a_month_has_730_hours():
    assert instance_types.usd_per_month(1.0, 3) == 2190.0


@given(dollars, rates, shares)
def test_twice_the_throughput_halves_the_cost(price, rate, share):
    usual = instance_types.usd_per_million(price, rate, share)
    assert instance_types.usd_per_million(price, 2 * rate, share) == pytest.approx(usual / 2)


@given(dollars, rates, shares)
def test_twice_the_price_doubles_the_cost(price, rate, share):
    usual = instance_types.usd_per_million(price, rate, share)
    assert instance_types.usd_per_million(2 * price, rate, share) == pytest.approx(2 * usual)


@given(dollars, rates, shares)
def test_a_machine_that_idles_costs_as_much_as_one_that_is_slower(price, rate, share):
    assert instance_types.usd_per_million(price, rate, share) == pytest.approx(
        instance_types.usd_per_million(price, rate * share)
    )


@given(dollars, rates, shares, rates)
def test_whole_machines_never_cost_less_than_what_they_serve(price, rate, share, demand):
    count = instance_types.instances_for_throughput(demand, rate, share)
    served = (
        demand
        * 3600
        * instance_types.HOURS_PER_MONTH
        / 1e6
        * instance_types.usd_per_million(price, rate, share)
    )
    assert instance_types.usd_per_month(price, count) >= served * (1 - 1e-6)


@given(rates, rates, shares)
def test_one_machine_fewer_would_not_do(demand, rate, share):
    count = instance_types.instances_for_throughput(demand, rate, share)
    assert count * rate * share >= demand * (1 - 1e-6)
    assert count == 1 or (count - 1) * rate * share < demand


def test_a_machine_at_its_limit_is_one():
    for demand, rate, share, count in [
        (60, 100, 0.6, 1),
        (61, 100, 0.6, 2),
        (0.001, 100, 0.6, 1),
        (50, 10, 1.0, 5),
        (2.1, 0.7, 1.0, 3),
    ]:
        assert instance_types.instances_for_throughput(demand, rate, share) == count, (
            demand,
            rate,
            share,
            count,
        )


def test_nothing_is_paid_by_an_impossible_throughput(snapshot):
    rates = (0.0, -1.0, math.nan, math.inf)
    assert refusals(instance_types.usd_per_million, *((1.0, rate) for rate in rates)) == snapshot
    assert refusals(instance_types.instances_for_throughput, *((5.0, rate) for rate in rates)) == snapshot


def test_a_utilisation_is_a_share(snapshot):
    shares = (0.0, -0.5, 1.01, math.nan)
    assert refusals(instance_types.usd_per_million, *((1.0, 10.0, share) for share in shares)) == snapshot


def test_a_demand_that_cannot_be_served_is_refused(snapshot):
    demands = (math.nan, math.inf, -1.0)
    assert (
        refusals(instance_types.instances_for_throughput, *((demand, 10.0) for demand in demands)) == snapshot
    )


def test_a_commitment_reduces_what_is_paid_not_the_list_price(snapshot):
    one = instance(usd_per_hour=0.2, discount=0.25)
    assert (one.price, one.usd_per_hour) == (pytest.approx(0.15), 0.2)
    assert one.text == snapshot
    assert instance(as_of=None).text == snapshot


def test_what_is_paid_for_an_instance():
    note = Note(code="x", text="x")
    assert instance_types.price_of(instance(discount=0.5), 0.6, (note,)) == Price(
        usd_per_hour=0.1785 / 2,
        utilisation=0.6,
        source="aws/c7i.xlarge in us-east-1, on demand, 50 % off, as of 2026-07-20",
        notes=(note,),
    )


# Names


TABLE = (
    instance(),
    instance("c7i.2xlarge", vcpus=8),
    instance("n2-standard-4", provider="gcp", region="us-central1"),
    instance("same", provider="gcp"),
    instance("same", provider="azure"),
    instance("both"),
    instance("both", region="eu-west-1"),
)


def test_an_instance_goes_by_its_full_name_or_its_own():
    for name in ["aws/c7i.xlarge", "c7i.xlarge"]:
        assert instance_types.find_instance(TABLE, name) is TABLE[0], name


def test_a_provider_tells_two_apart():
    assert instance_types.find_instance(TABLE, "azure/same") is TABLE[4]


def test_a_name_of_no_instance_or_of_several_is_refused(snapshot):
    def find(name):
        return instance_types.find_instance(TABLE, name)

    assert refusals(find, "same", "aws/both", "c7i.xlrge", "zzz") == snapshot


def test_discounts_go_by_pattern_and_later_ones_win():
    reduced = instance_types.discounted(TABLE, {"aws/*": 0.1, "aws/c7i.2*": 0.3, "c7i.xlarge": 0.9})
    assert [one.discount for one in reduced] == [0.1, 0.3, 0, 0, 0, 0.1, 0.1]
    assert instance_types.discounted(TABLE, {}) == TABLE
    assert instance_types.discounted(reduced[:1], {"gcp/*": 0.5}) == reduced[:1]


SHELF = (
    instance(),
    gpu(),
    gpu("p4d", "A100-40GB", 8),
    gpu("p4de", "A100-80GB", 8, region="eu"),
    gpu("x", "H100-NVL"),
)


def test_choosing():
    for accelerator, regions, names in [
        (None, (), ["c7i.xlarge", "g6.xlarge", "p4d", "p4de", "x"]),
        ("L4", (), ["g6.xlarge"]),
        ("nvidia l4", (), ["g6.xlarge"]),
        ("A100", (), ["p4d", "p4de"]),
        ("a100-80gb", (), ["p4de"]),
        ("H100", (), ["x"]),
        ("A100", ("us-east-1",), ["p4d"]),
        (None, ("eu", "nowhere"), ["p4de"]),
    ]:
        assert [one.name for one in instance_types.select_instances(SHELF, accelerator, regions)] == names, (
            accelerator,
            regions,
            names,
        )


def test_choosing_nothing_says_what_there_is(snapshot):
    def chosen(*choice):
        return instance_types.select_instances(SHELF, *choice)

    assert refusals(chosen, "T4", (None, ("mars",)), "H100-PCIe") == snapshot


# Classes

SAME_ACCELERATORS = [
    ("Tesla T4", "T4"),
    ("NVIDIA L4", "L4"),
    ("NVIDIA L40S", "L40S"),
    ("NVIDIA A10", "A10"),
    ("NVIDIA A10G", "A10G"),
    ("NVIDIA A100-SXM4-40GB", "A100"),
    ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
    ("NVIDIA A100-PCIE-40GB", "A100"),
    ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
    ("NVIDIA A100 80GB PCIe", "A100-80GB"),
    ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIE"),
    ("NVIDIA H100 80GB HBM3", "H100"),
    ("NVIDIA H100 80GB HBM3", "H100-SXM5"),
    ("NVIDIA H100 PCIe", "H100-PCIe"),
    ("NVIDIA H100 NVL", "H100-NVL"),
    ("NVIDIA H100 NVL", "H100NVL"),
    ("NVIDIA H200", "H200"),
    ("NVIDIA B200", "B200"),
    ("NVIDIA GH200 480GB", "GH200"),
    ("Tesla V100-SXM2-16GB", "V100"),
    ("Tesla V100-SXM2-32GB", "V100-32GB"),
    ("NVIDIA GeForce RTX 4090", "RTX4090"),
    ("NVIDIA RTX A6000", "A6000"),
    ("Quadro RTX 6000", "RTX6000"),
    ("NVIDIA RTX 6000 Ada Generation", "RTX6000-Ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"),
    ("AMD Instinct MI300X", "MI300X"),
]
OTHER_ACCELERATORS = [
    ("NVIDIA A10", "A10G"),
    ("NVIDIA A10G", "A10"),
    ("NVIDIA A10", "A100"),
    ("NVIDIA A10-4Q", "A10"),
    ("NVIDIA L4", "L40S"),
    ("NVIDIA L4", "L40"),
    ("NVIDIA L40", "L40S"),
    ("NVIDIA L40S", "L4"),
    ("Tesla T4", "T4G"),
    ("NVIDIA A100-SXM4-80GB", "A100"),
    ("NVIDIA A100-SXM4-40GB", "A100-80GB"),
    ("NVIDIA A100-SXM4-80GB", "A100-80GB-PCIe"),
    ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "A100"),
    ("NVIDIA A100-SXM4-40GB MIG 7g.40gb", "A100-40GB"),
    ("NVIDIA H100 PCIe", "H100"),
    ("NVIDIA H100 NVL", "H100"),
    ("NVIDIA H100 80GB HBM3", "H100-NVL"),
    ("NVIDIA H100 80GB HBM3", "H200"),
    ("NVIDIA GH200 480GB", "H200"),
    ("Tesla V100-SXM2-32GB", "V100"),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX4090"),
    ("Quadro RTX 6000", "RTX6000-Ada"),
    ("mps", "L4"),
    ("NVIDIA", "GPU"),
    ("", ""),
]


def test_one_accelerator_by_two_names():
    for measured, listed in SAME_ACCELERATORS:
        assert hardware_names.same_accelerator(measured, listed), (measured, listed)
        assert hardware_names.same_accelerator(listed, measured), (measured, listed)
        assert hardware_names.same_accelerator(listed, listed), (measured, listed)


def test_two_accelerators():
    for measured, listed in OTHER_ACCELERATORS:
        assert not hardware_names.same_accelerator(measured, listed), (measured, listed)
        assert not hardware_names.same_accelerator(listed, measured), (measured, listed)


def test_a_name_is_completed_where_it_leaves_something_open():
    for name, memory, instance_name, complete in [
        ("A100", 80.0, "p4de.24xlarge", "A100-80GB"),
        ("A100", 40.0, "gpu_1x_a100_sxm4", "A100-40GB-SXM"),
        ("A100-80GB", 80.0, "x", "A100-80GB"),
        ("V100", 32.0, "x", "V100-32GB"),
        ("L4", 24.0, "g6.xlarge", "L4"),
        ("H100", 80.0, "gpu_1x_h100_pcie", "H100-PCIE"),
        ("H100NVL", 94.0, "x-nvl", "H100NVL"),
        ("A100", None, "x", "A100"),
    ]:
        assert hardware_names.completed_name(name, memory, instance_name) == complete, (
            name,
            memory,
            instance_name,
            complete,
        )


SAME_CPUS = [
    ("Intel(R) Xeon(R) Platinum 8488C (6/143)", "Intel 8488C"),
    ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz (6/106)", "Intel 8370C"),
    ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz (6/85)", "Intel 8259CL"),
    ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz (6/79)", "Intel E5-2686 v4"),
    ("Intel(R) Xeon(R) 6975P-C (6/173)", "Intel 6975P-C"),
    ("Intel(R) Xeon(R) Platinum 8488C (6/143)", "8488C"),
    ("AMD EPYC 9R14 (25/17)", "AMD 9R14"),
    ("AMD EPYC 7763 64-Core Processor (25/1)", "AMD 7763"),
    ("aarch64 (0x41/0xd40)", "AWS Neoverse-V1"),
    ("aarch64 (0x41/0xd4f)", "AWS Neoverse-V2"),
    ("aarch64 (0x6d/0xd49)", "Microsoft Neoverse-N2"),
]
OTHER_CPUS = [
    ("Intel(R) Xeon(R) Platinum 8488C (6/143)", "Intel 8481C"),
    ("Intel(R) Xeon(R) Platinum 8488C (6/143)", "Intel"),
    ("Intel(R) Xeon(R) CPU @ 2.80GHz (6/85)", "Intel"),
    ("Intel Xeon Processor (Cascadelake) (6/85)", "Intel"),
    ("AMD EPYC-Rome Processor (23/49)", "AMD"),
    ("AMD EPYC 7763 64-Core Processor (25/1)", "Intel 7763"),
    ("AMD EPYC 9R14 (25/17)", "AMD 9V74"),
    ("aarch64 (0x41/0xd40)", "AWS Neoverse-V2"),
    ("aarch64 (0x41/0xd0b)", "Neoverse-N1"),
    ("aarch64", "AWS Neoverse-V1"),
    ("unknown", None),
    ("", ""),
]


def test_one_cpu_by_two_names():
    for measured, listed in SAME_CPUS:
        assert hardware_names.same_cpu(measured, listed), (measured, listed)
        assert hardware_names.same_cpu(listed, measured), (measured, listed)


def test_two_cpus():
    for measured, listed in OTHER_CPUS:
        assert not hardware_names.same_cpu(measured, listed), (measured, listed)
        assert not hardware_names.same_cpu(listed, measured), (measured, listed)


def test_names_of_any_length_are_taken_apart():
    # In a file from elsewhere: where time grew with the square of the length, this test would not end.
    assert hardware_names.cpu_model("(" * 10**6).model == "(" * 10**6
    assert hardware_names.accelerator_model("NVIDIA L4 " + "9" * 5000 + "GB").memory is None


def test_an_instance_is_of_the_class_or_says_in_what_it_differs(snapshot):
    for one, hardware in [
        (instance(), cpu_machine()),
        (gpu(), gpu_machine()),
        (gpu(vcpus=64, cpu_model=None), gpu_machine()),
    ]:
        assert instance_types.hardware_difference(one, hardware) == "", (one, hardware)
        assert instance_types.same_class(one, hardware), (one, hardware)
    differences = []
    for one, hardware in [
        (instance(), cpu_machine(cores=2)),
        (instance(cpu_model=None), cpu_machine()),
        (instance(cpu_model="Intel 8488C"), cpu_machine("AMD EPYC 9R14 (25/17)")),
        (instance(), cpu_machine(accelerator="NVIDIA L4", accelerator_count=1)),
        (gpu(), cpu_machine()),
        (gpu(), gpu_machine("Tesla T4")),
        (gpu(count=4), gpu_machine()),
    ]:
        differences.append(instance_types.hardware_difference(one, hardware))
        assert not instance_types.same_class(one, hardware), (one, hardware)
    assert differences == snapshot


def test_proposals_are_of_the_class_and_the_cheapest_comes_first():
    dear, cheap, committed = gpu(usd_per_hour=2.0), gpu("cheap"), gpu("zz", usd_per_hour=1.0, discount=0.5)
    shelf = [dear, instance(), cheap, committed, gpu("four", count=4, usd_per_hour=0.1)]
    assert instance_types.proposals(gpu_machine(), shelf) == (committed, cheap, dear)
    assert instance_types.proposals(cpu_machine(cores=3), shelf) == ()


def test_a_machine_with_another_host_is_no_proposal():
    """An L4 beside an EPYC is no machine with a Xeon, and a T4 beside 48 cores none with 4 vCPUs."""
    epyc = gpu("g6.xlarge", cpu_model="AMD 7R13")
    xeon, large = gpu("g2-standard-4", cpu_model="Intel", usd_per_hour=0.1), gpu("g6.12xlarge", vcpus=48)
    shelf = [epyc, xeon, large]
    assert instance_types.proposals(gpu_machine(), shelf) == (epyc,)
    many = msgspec.structs.replace(gpu_machine(), cores=48)
    assert instance_types.proposals(many, shelf) == (large,)
    assert instance_types.proposals(msgspec.structs.replace(many, cores=64), shelf) == ()


@given(st.permutations(range(len(SHELF))))
def test_proposals_do_not_hang_on_the_order_of_the_table(order):
    shelf = [msgspec.structs.replace(one, vcpus=4) for one in SHELF]
    found = instance_types.proposals(
        gpu_machine("NVIDIA A100-SXM4-40GB", 8), [shelf[index] for index in order]
    )
    assert [one.name for one in found] == ["p4d"]


# Age and doubt


def test_a_price_is_old_after_ninety_days():
    for today, old in [
        (date(2026, 7, 19), False),  # a price of tomorrow is not old
        (date(2026, 7, 20), False),
        (date(2026, 10, 18), False),
        (date(2026, 10, 19), True),
        (date(2027, 7, 20), True),
    ]:
        note = instance_types.stale_price_note([instance()], today)
        assert (note is not None) == old, (today, old)
        if note is not None:
            assert note.code == "prices-old", (today, old)


def test_the_hint_on_an_old_price_names_the_option_that_takes_a_table():
    for option in ("--prices", "--infer-prices"):
        note = instance_types.stale_price_note([instance(as_of=None)], date(2026, 7, 21), option)
        assert f"{option} prices.csv" in note.hint


def test_an_old_price_says_which_and_how_old(snapshot):
    note = instance_types.stale_price_note(
        [instance("new", as_of=date(2026, 12, 1)), instance("old"), instance("no", as_of=None)],
        date(2026, 12, 2),
    )
    assert str(note) == snapshot


def test_a_price_of_no_day_says_so(snapshot):
    note = instance_types.stale_price_note([instance(), instance("x", as_of=None)], date(2026, 7, 21))
    assert note.code == "prices-undated"
    assert str(note) == snapshot
    assert instance_types.stale_price_note([], date(2026, 7, 21)) is None


@given(st.dates(date(1970, 1, 1), date(2400, 12, 31)), st.integers(0, 1000))
def test_ages_are_counted_in_days(day, days):
    note = instance_types.stale_price_note([instance(as_of=day)], day + timedelta(days=days))
    assert (note is not None) == (days > instance_types.MAX_PRICE_AGE_DAYS)
    assert note is None or f" {days} days old" in note.text


def test_prices_of_one_accelerator_far_apart_are_doubted(snapshot):
    cheap, dear = gpu("a", usd_per_hour=4.2), gpu("b", region="eu", count=2, usd_per_hour=19.6)
    (note,) = instance_types.price_doubts([cheap, dear, instance(usd_per_hour=99.0)])
    assert note.code == "prices-doubtful"
    assert str(note) == snapshot


def test_prices_that_may_well_be():
    for other in [
        {"usd_per_hour": 8.4},
        {"usd_per_hour": 99.0, "provider": "gcp"},
        {"usd_per_hour": 99.0, "accelerator": "L40S"},
        {"usd_per_hour": 33.0, "accelerator_count": 8},
    ]:
        one = gpu(usd_per_hour=4.2)
        assert (
            instance_types.price_doubts([one, msgspec.structs.replace(one, name="other", **other)]) == ()
        ), other


# Budgets


PRICE = Price(usd_per_hour=0.36, utilisation=0.5, source="own")


def check(metric, limit, *, throughput=100.0, band=0.0, price=PRICE, **fields):
    budget = Budget(metric=metric, limit=limit)
    return budgets.check_budget(budget, measurement(throughput=throughput), band, price=price, **fields)


def test_a_limit_on_the_cost_of_a_million():
    for limit, verdict in [(1.99, Verdict.OVER_BUDGET), (2.01, None)]:
        outcome = check("usd_per_million", limit)
        assert outcome.verdict is verdict, (limit, verdict)
        assert outcome.value.value == outcome.value.low == outcome.value.high == pytest.approx(2.0), (
            limit,
            verdict,
        )
        assert outcome.note is None, (limit, verdict)


def test_a_cost_spreads_as_launches_do():
    for limit, verdict in [
        (1.80, Verdict.OVER_BUDGET),
        (1.82, Verdict.INCONCLUSIVE),
        (2.20, Verdict.INCONCLUSIVE),
        (2.22, None),
    ]:
        # A band of 10 % reaches from 1.81 to 2.21.
        outcome = check("usd_per_million", limit, band=0.1)
        assert outcome.verdict is verdict, (limit, verdict)
        assert outcome.value.low == pytest.approx(2.0 * math.exp(-0.1)), (limit, verdict)
        assert outcome.value.high == pytest.approx(2.0 * math.exp(0.1)), (limit, verdict)


def test_a_month_counts_whole_machines():
    assert check("usd_per_month", 800.0, demand=120.0).value.value == pytest.approx(3 * 0.36 * 730)
    assert check("usd_per_month", 789.0, demand=120.0).verdict is None
    assert check("usd_per_month", 788.0, demand=120.0).verdict is Verdict.OVER_BUDGET
    # Another launch may be 10 % faster or slower, and still needs as many.
    assert check("usd_per_month", 789.0, demand=120.0, band=0.1).value.low == pytest.approx(3 * 0.36 * 730)
    spread = check("usd_per_month", 789.0, demand=149.0, band=0.1)
    assert (spread.value.value, spread.value.high) == (pytest.approx(3 * 262.8), pytest.approx(4 * 262.8))
    assert spread.verdict is Verdict.INCONCLUSIVE


def test_a_cost_that_is_not_known_counts_as_failed(snapshot):
    unpriced = Note(code="x", text="the reason", hint="the hint")
    said = []
    for metric, fields in [
        ("usd_per_month", {}),
        ("usd_per_million", {"price": None, "unpriced": unpriced}),
        ("usd_per_million", {"price": None}),
        ("usd_per_million", {"throughput": 0.0}),
    ]:
        outcome = check(metric, 1e9, **fields)
        assert outcome.verdict is Verdict.OVER_BUDGET, (metric, fields)
        assert outcome.note.code == "budget-not-decided", (metric, fields)
        said.append(str(outcome.note))
    assert said == snapshot


def test_a_disturbed_case_is_not_too_dear():
    budget = Budget(metric="usd_per_million", limit=0.1)
    contended = measurement(throughput=100.0, contention=0.9)
    assert budgets.check_budget(budget, contended, 0.0, price=PRICE).verdict is Verdict.INCONCLUSIVE


def test_the_gate_holds_a_case_against_its_own_price_and_shows_its_doubts():
    doubt = Note(code="prices-old", text="old")
    result = CaseResult(
        case=Case(test="t.py::test", device="cpu"),
        nodeid="t.py::test[cpu]",
        outcome=Outcome.MEASURED,
        hardware=cpu_machine(),
        measurement=measurement(throughput=100.0),
        budgets=(Budget(metric="usd_per_million", limit=0.5), Budget(metric="usd_per_month", limit=9e9)),
        price=msgspec.structs.replace(PRICE, notes=(doubt,)),
        demand=10.0,
    )
    verdict = decide.judge(result, {}, Policy(), Environment(virtual=False))
    assert (verdict.verdict, verdict.failed) == (Verdict.OVER_BUDGET, True)
    assert [check.verdict for check in verdict.budgets] == [Verdict.OVER_BUDGET, None]
    assert decide.is_decided(verdict)
    assert doubt in verdict.notes


@given(rates, rates, st.floats(0.0, 1.0), st.floats(0.1, 1e4))
def test_the_bounds_of_a_cost_hold_it(throughput, demand, band, limit):
    for metric in ("usd_per_million", "usd_per_month"):
        value = check(metric, limit, throughput=throughput, band=band, demand=demand).value
        assert value.low <= value.value <= value.high
