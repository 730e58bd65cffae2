"""The hardware tables of the package: what is in them, and the traps of published tables."""

import re

import pytest

from pytest_infergate.storage import prices
from pytest_infergate.storage.hardware_tables import (
    accelerator_sheet,
    accelerator_sheets,
    cpu_class,
    cpu_classes,
)


def test_each_row_is_sound_and_has_a_source():
    sheets = accelerator_sheets()
    assert len({sheet.name for sheet in sheets}) == len(sheets)
    for sheet in sheets:
        assert sheet.source
        assert 10e9 < sheet.memory < 300e9
        assert 1e12 < sheet.peak["float16"] < 1e15  # no sparse rate
        assert 100e9 < sheet.bandwidth < 10e12
        assert sheet.time_factor in (1.0, 1.4)
        assert accelerator_sheet(sheet.name) is sheet


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H200", 989.4), ("Tesla T4", 30), ("NVIDIA A10G", 70),
     ("NVIDIA A10", 125), ("NVIDIA GeForce RTX 3090", 71), ("NVIDIA GeForce RTX 4090", 165.2), ("A100", 312),
     ("Tesla V100-SXM2-16GB", 125), ("NVIDIA L40S", 362.05), ("NVIDIA L4", 121), ("A30", 165)],
)  # fmt: skip
def test_names_of_torch_find_their_dense_peak(name, tflops):
    assert accelerator_sheet(name).peak["float16"] == pytest.approx(tflops * 1e12)


def test_forms_and_memory_are_distinguished():
    quiet = accelerator_sheet("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition")
    assert quiet.name == "RTX PRO 6000 Max-Q"
    assert accelerator_sheet("NVIDIA RTX PRO 6000 Blackwell Workstation Edition").name == "RTX PRO 6000"
    assert accelerator_sheet("A100-40GB").bandwidth == 1555e9
    assert accelerator_sheet("A100-80GB").bandwidth == 2039e9
    assert accelerator_sheet("NVIDIA H100 PCIe").bandwidth == 2000e9
    assert accelerator_sheet("H100-NVL").bandwidth == 3900e9
    assert accelerator_sheet("Radeon VII") is None


def test_bfloat16_has_a_peak_only_where_tensor_cores_have_it():
    without = {sheet.name for sheet in accelerator_sheets() if "bfloat16" not in sheet.peak}
    assert without == {"T4", "V100-16GB", "V100-32GB"}


def test_l4_and_a10g_have_the_widest_band():
    assert {sheet.name for sheet in accelerator_sheets() if sheet.evidence == "doubtful"} == {"L4", "A10G"}


def test_what_no_source_confirms_is_marked():
    """The word is in a column of its own, from which every projection takes it."""
    marked = {sheet.name: sheet.unverified for sheet in accelerator_sheets() if sheet.unverified}
    assert marked == {
        "A30": "peak and bandwidth", "A10G": "peak", "V100-16GB": "bandwidth", "V100-32GB": "bandwidth",
        "H100-PCIE": "bandwidth", "H100-NVL": "bandwidth",
    }  # fmt: skip
    for sheet in accelerator_sheets():
        assert sheet.unverified or not re.search("from memory|not verified", sheet.source), sheet.name


@pytest.mark.parametrize(
    ("name", "known"),
    [("Intel(R) Xeon(R) Platinum 8488C (6/143)", "Sapphire Rapids"), ("AMD EPYC 7R13 Processor", "Milan"),
     ("AWS Neoverse-V1", "Graviton3"), ("Intel(R) Xeon(R) Processor @ 2.60GHz", None), ("", None)],
)  # fmt: skip
def test_classes_of_cpus_are_found_by_name(name, known):
    found = cpu_class(name)
    assert (found and found.name) == known


def test_matrix_extensions_are_in_no_row():
    assert max(one.flop_per_cycle for one in cpu_classes()) == 64


def test_most_priced_cpus_and_nvidia_gpus_are_known():
    instances, _ = prices.default_prices()
    for one in instances:
        if one.accelerator in ("T4", "L4", "A10G", "L40S", "A100-40GB", "A100-80GB", "H100", "H200"):
            assert accelerator_sheet(one.accelerator) is not None
