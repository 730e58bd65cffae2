"""The constants of a projection from times that follow its formulas."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice.projectable_work import ItemWork
from pytest_infergate.core.advice.projection import AcceleratorSheet

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
gpu_page = importlib.import_module("gpu_page")
sys.path.pop(0)

SHEET = AcceleratorSheet(
    name="card", memory=1e12, peak={"float16": 4e14}, bandwidth=2e12, time_factor=1.4, evidence="indirect"
)
WORK = ItemWork(
    flops=8e9, bytes=2e8, fixed_bytes=1e8, product_bytes=1e8, operators=200, element_size=4, weight_bytes=1e8
)


def busy(batch, runtime):
    """Seconds of the device for a batch, as docs/projection.md has them."""
    if runtime == "eager":
        return batch * (8e9 / (0.81 * 4e14) + 1e8 / (0.74 * 2e12)) + 0.5e8 / (0.74 * 2e12)
    return batch * (8e9 / 4e14 + (0.5e8 + 0.3 * 0.5e8) / (0.76 * 2e12)) + 0.5e8 / (0.76 * 2e12)


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@given(launch=st.floats(5e-6, 1e-4), factor=st.floats(0.5, 3))
def test_the_constants_by_which_times_were_made_are_found(runtime, launch, factor):
    times = {
        batch: ((launch * 200) ** 3 + (factor * busy(batch, runtime)) ** 3) ** (1 / 3)
        for batch in (1, 8, 256)
    }
    found_launch, found_factor = gpu_page.constants(WORK, times, SHEET, "float16", runtime)
    # The smallest batch takes k as 1, which its small share of the time hardly shows.
    assert found_launch == pytest.approx(launch, rel=0.05)
    if factor * busy(256, runtime) > 1.3 * launch * 200:
        assert found_factor == pytest.approx(factor, rel=0.1)


def test_a_model_that_never_waits_for_the_host_has_no_launch_time():
    times = {batch: 0.9 * busy(batch, "eager") for batch in (1, 256)}
    launch, factor = gpu_page.constants(WORK, times, SHEET, "float16", "eager")
    assert launch is None
    assert factor == pytest.approx(0.9)


def test_a_model_that_always_waits_for_the_host_says_nothing_of_the_device():
    launch, factor = gpu_page.constants(WORK, {1: 0.1, 256: 0.1}, SHEET, "float16", "eager")
    assert launch == pytest.approx(0.1 / 200, rel=0.01)
    assert factor is None


def test_cells_do_not_break_a_table():
    assert gpu_page.table(("a",), [("x|y",), (None,)]).splitlines()[2] == "| x\\|y |"
