"""The hardware tables of the package: accelerators and CPUs with the peaks of their data sheets."""

from __future__ import annotations

import functools
from importlib import resources

import msgspec

from pytest_infergate.core.advice.projection import AcceleratorSheet, CpuClass
from pytest_infergate.core.domain.hardware_names import cpu_model, same_accelerator
from pytest_infergate.storage.prices import table_rows

_DTYPES = ("float32", "float16", "bfloat16")


@functools.cache
def accelerator_sheets() -> tuple[AcceleratorSheet, ...]:
    """Read the accelerators that can be projected onto."""
    return tuple(
        msgspec.convert(
            {
                "name": cells["name"],
                "memory": float(cells["memory_gb"]) * 1e9,
                "peak": {
                    dtype: float(cells[f"{dtype}_tflops"]) * 1e12
                    for dtype in _DTYPES
                    if cells[f"{dtype}_tflops"]
                },
                "bandwidth": float(cells["bandwidth_gbs"]) * 1e9,
                "time_factor": float(cells["time_factor"]),
                "evidence": cells["evidence"],
                "unverified": cells["unverified"],
                "source": cells["source"],
            },
            AcceleratorSheet,
        )
        for cells in _rows("accelerators.csv")
    )


@functools.cache
def cpu_classes() -> tuple[CpuClass, ...]:
    """Read the classes of CPUs that can be projected onto."""
    return tuple(
        CpuClass(
            name=cells["name"],
            cpu_models=tuple(cells["cpu_models"].split()),
            flop_per_cycle=float(cells["float32_flop_per_cycle"]),
            ghz=float(cells["sustained_ghz"]),
            vcpus_per_core=int(cells["vcpus_per_core"]),
            source=cells["source"],
        )
        for cells in _rows("cpu_classes.csv")
    )


def accelerator_sheet(name: str) -> AcceleratorSheet | None:
    """Return the row of an accelerator by any of its names; ``None`` if there is none."""
    return next((sheet for sheet in accelerator_sheets() if same_accelerator(sheet.name, name)), None)


def cpu_class(name: str) -> CpuClass | None:
    """Return the class of a CPU by the name of the system or of a price table; ``None`` if there is none."""
    model = cpu_model(name).model
    return next((one for one in cpu_classes() if model in map(str.lower, one.cpu_models)), None)


def _rows(name: str) -> list[dict[str, str]]:
    text = (resources.files("pytest_infergate") / "data" / name).read_text(encoding="utf-8")
    header, rows = table_rows(text, name)
    return [dict(zip(header, row.cells, strict=True)) for row in rows]
