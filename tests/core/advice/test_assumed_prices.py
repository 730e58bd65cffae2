"""The price to assume for a machine that is not in the price table."""

import pytest

from pytest_infergate.core.advice.assumed_prices import assumed_price
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.values import Hardware


def row(name, vcpus, usd, cpu_model=None, *cards, **fields):
    accelerator, count = cards or (None, 0)
    return Instance(
        provider="lab", region="here", name=name, vcpus=vcpus, memory_gib=8.0, cpu_model=cpu_model,
        accelerator=accelerator, accelerator_count=count, usd_per_hour=usd, **fields
    )  # fmt: skip


TABLE = (
    row("intel-4", 4, 0.2, "Intel 8488C", spot_usd_per_hour=0.1),
    row("amd-4", 4, 0.3, "AMD 9R14"),
    row("hidden-4", 4, 0.1),
    row("intel-8", 8, 0.48, "Intel 8488C"),
    row("arm-4", 4, 0.14, "AWS Neoverse-V1"),
    row("t4", 4, 0.5, "Intel 8259CL", "T4", 1),
    row("t4-large", 16, 1.2, "Intel 8259CL", "T4", 1),
    row("l4", 4, 0.8, "AMD 7R13", "L4", 1),
    row("a100-8", 96, 22.0, "Intel 8275CL", "A100-40GB", 8),
)


def cpu(model, cores, **fields):
    return Hardware(cpu_model=model, cores=cores, **fields)


def gpu(accelerator, count=1, cores=4, model="Intel(R) Xeon(R) CPU @ 2.50GHz"):
    return cpu(model, cores, accelerator=accelerator, accelerator_count=count)


@pytest.mark.parametrize(
    ("hardware", "name", "usd"),
    [
        # As many cores of the architecture: the vendor first, then the lowest price.
        (cpu("AMD EPYC (25/1)", 4), "amd-4", 0.3),
        (cpu("Intel(R) Xeon(R) Gold 6148", 4), "intel-4", 0.2),
        (cpu("Unheard-of CPU", 4), "hidden-4", 0.1),
        (cpu("ARM (0x41/0xd4f)", 4), "arm-4", 0.14),
        (cpu("Apple M4", 4, isa=("asimd",)), "arm-4", 0.14),
        # No machine with so many cores: the median of 0.025, 0.05, 0.06 and 0.075 a core, the cheaper of two.
        (cpu("AMD EPYC (25/1)", 6), "intel-4", 0.3),
        (cpu("Apple M4", 10, isa=("asimd",)), "arm-4", 0.35),
        # The same accelerator beside another host.
        (gpu("Tesla T4", cores=48), "t4-large", 1.2),
        (gpu("Tesla T4", cores=2), "t4", 0.5),
        (gpu("NVIDIA L4"), "l4", 0.8),
        # Another number of the same accelerators, at the price of one.
        (gpu("Tesla T4", 2), "t4", 1.0),
        (gpu("NVIDIA A100-SXM4-40GB"), "a100-8", 2.75),
        # Another accelerator: the median of 0.5, 0.8, 1.2 and 2.75 for one.
        (gpu("NVIDIA GeForce RTX 4090"), "l4", 0.8),
        (gpu("NVIDIA GeForce RTX 4090", 2), "l4", 1.6),
    ],
)
def test_the_nearest_machine_has_the_price(hardware, name, usd):
    found = assumed_price(hardware, TABLE)
    assert found.instance.name == name
    assert found.instance.price == pytest.approx(usd)
    assert name in found.reason


def test_spot_prices_are_scaled_and_memory_is_unknown():
    found = assumed_price(cpu("AMD EPYC (25/1)", 6), TABLE).instance
    assert (found.vcpus, found.memory_gib) == (6, None)
    assert found.spot_usd_per_hour == pytest.approx(0.15)


def test_without_a_machine_of_the_kind_there_is_no_price():
    assert assumed_price(cpu("AMD EPYC (25/1)", 4), TABLE[4:]) is None
    assert assumed_price(cpu("Apple M4", 4), TABLE[:4]) is None
    assert assumed_price(gpu("Tesla T4"), TABLE[:5]) is None
