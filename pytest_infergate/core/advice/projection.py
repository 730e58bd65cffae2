"""Project the time of a call onto hardware that is not attached, from exact counters and data sheets.

A projection is an interval. It never gates, and it never ranks one accelerator against another. The formulas,
their constants and their bands are those of docs/projection.md, which `make projection` recomputes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from pytest_infergate.core.advice.projectable_work import MORE_SIZES, ONE_SIZE, ItemWork, refusal
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note, Struct

ProjectedRuntime = Literal["eager", "compiled"]
Evidence = Literal["measured", "published", "indirect", "doubtful"]
ELEMENT_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of an element of each dtype that can be projected."""
USABLE_MEMORY: Final = 0.9
"""Share of the device memory that weights and activations may fill; the driver and the allocator use some."""
SMALLEST_BATCH: Final = 8
"""Batch size below which the time of a call depends on the host more than on the counters."""
CPU_BAND: Final = (0.4, 2.6)
"""Measured over projected time from one CPU to another."""


class Efficiency(NamedTuple):
    """What a runtime reaches of the data sheet; fitted to published rows, see docs/projection.md."""

    arithmetic: float
    """Share of the peak arithmetic."""
    bandwidth: float
    """Share of the peak bandwidth."""
    other_bytes: float
    """Share of the bytes of operators without products that remains; a compiler fuses the rest."""
    launch: tuple[float, float, float]
    """Seconds that the host needs for an operator: on a new host, usually, on a host of 2020."""
    bands: Mapping[Evidence, tuple[float, float]]
    """Measured over projected time, by what supports the row of the table."""


EFFICIENCY: Final[Mapping[ProjectedRuntime, Efficiency]] = {
    "eager": Efficiency(
        0.81,
        0.74,
        1.0,
        (5e-6, 23e-6, 75e-6),
        {"measured": (0.5, 2.4), "published": (0.45, 3.0), "indirect": (0.45, 3.0), "doubtful": (0.4, 3.5)},
    ),
    "compiled": Efficiency(
        1.0,
        0.76,
        0.3,
        (0.5e-6, 10e-6, 25e-6),
        {"measured": (0.6, 2.4), "published": (0.5, 3.0), "indirect": (0.5, 3.0), "doubtful": (0.4, 3.5)},
    ),
}
"""The constants of each runtime. At least 95 % of models are inside of the bands that could be checked."""


class AcceleratorSheet(Struct, frozen=True, kw_only=True):
    """The figures of an accelerator that a projection needs. All rates are dense, with float32 accumulation.

    Raises `ValueError` for a figure that is not greater than 0 and finite.
    """

    name: str
    memory: float
    """Bytes."""
    peak: dict[str, float]
    """Floating point operations per second by dtype; a dtype that is absent cannot be projected."""
    bandwidth: float
    """Bytes per second."""
    time_factor: float = 1.0
    """How much longer calls take than on the class that the efficiencies were fitted to."""
    evidence: Evidence
    """``measured``: rows of the class determine the constants; ``published``: rows of others check them;
    ``indirect``: neither; ``doubtful``: not even the data sheet is certain."""
    unverified: str = ""
    """Figures that no source confirms: ``bandwidth``, ``peak and bandwidth``; empty if there is none."""
    source: str = ""

    @property
    def support(self) -> str:
        """The evidence, and what is unverified: ``indirect; bandwidth unverified``."""
        return f"{self.evidence}; {self.unverified} unverified" if self.unverified else self.evidence

    def __post_init__(self) -> None:
        figures = {"memory": self.memory, "bandwidth": self.bandwidth, "time_factor": self.time_factor}
        for name, figure in {**figures, **self.peak}.items():
            if not 0 < figure < math.inf:
                raise ValueError(f"{name} of {self.name} must be greater than 0 and finite, got {figure}")


class ProjectedRange(Struct, frozen=True, kw_only=True):
    """A projected figure with the ends of its band. About one model in forty lies outside."""

    low: float
    point: float
    high: float


class ProjectedBatch(Struct, frozen=True, kw_only=True):
    """The projection of one batch size."""

    batch_size: int
    call_time: ProjectedRange
    """Seconds of a call."""
    throughput: ProjectedRange
    """Items per second; its low end belongs to the high end of the time."""
    host_bound: bool = False
    """Whether launching the operators takes longer than their work, as far as can be projected."""
    rough: bool = False
    """Whether only the order of magnitude means anything: host-bound, or a batch below `SMALLEST_BATCH`."""


class Projected(Struct, frozen=True, kw_only=True):
    """The projection of a model onto one accelerator."""

    accelerator: str
    runtime: str
    dtype: str
    evidence: str
    batches: tuple[ProjectedBatch, ...]
    """At least one; in the order of the batch sizes."""
    notes: tuple[Note, ...] = ()
    """Why a batch size is missing, and which are host-bound."""


def project(
    work: ItemWork,
    sheet: AcceleratorSheet,
    batch_sizes: Iterable[int],
    *,
    dtype: str = "float16",
    runtime: ProjectedRuntime = "eager",
    efficiency: Efficiency | None = None,
) -> Projected | Note:
    """Project the work of a model onto an accelerator, or return the reason why that is refused.

    `efficiency` replaces the fitted constants of the runtime. Raises `ValueError` for a batch size below 1.
    """
    sizes = tuple(dict.fromkeys(batch_sizes))
    if not sizes or min(sizes) < 1:
        raise ValueError(f"batch sizes must be 1 or more, got {sizes}")
    constants = EFFICIENCY[runtime] if efficiency is None else efficiency
    element = ELEMENT_BYTES.get(dtype)
    if element is None or dtype not in sheet.peak:
        return refusal(
            f"the peak of {sheet.name} in {dtype} is unknown or depends on settings",
            f"project one of {', '.join(sheet.peak)}",
        )
    if runtime == "compiled" and work.product_bytes is None:
        return refusal("the bytes of products and of other operators are not known apart", "project eager")
    scale = element / work.element_size
    if work.weight_bytes * scale > USABLE_MEMORY * sheet.memory:
        return refusal(
            f"the weights take {units.bytes_(work.weight_bytes * scale)} in {dtype}, and {sheet.name} has "
            f"{units.bytes_(sheet.memory)}"
        )
    batches, notes = [], []
    for size in sizes:
        if work.only_batch_size is not None and size != work.only_batch_size:
            notes.append(refusal(ONE_SIZE, MORE_SIZES))
        elif work.memory(size) * scale > USABLE_MEMORY * sheet.memory:
            notes.append(refusal(f"batches of {size} do not fit into the memory of {sheet.name}"))
        else:
            batches.append(project_batch(work, sheet, size, dtype, constants))
    if not batches:
        return notes[0]
    waiting = [str(batch.batch_size) for batch in batches if batch.host_bound]
    if waiting:
        text = f"host-bound: {units.plural(work.operators, 'operator')} take longer to launch than to run"
        hint = f"only the order of magnitude means anything at batch size {', '.join(waiting)}"
        notes.append(Note(code=NoteCode.HOST_BOUND, text=text, hint=hint))
    return Projected(
        accelerator=sheet.name,
        runtime=runtime,
        dtype=dtype,
        evidence=sheet.support,
        batches=tuple(batches),
        notes=tuple(notes),
    )


def project_batch(
    work: ItemWork, sheet: AcceleratorSheet, size: int, dtype: str, constants: Efficiency
) -> ProjectedBatch:
    """Project one batch size, without a check of what is refused."""
    scale = ELEMENT_BYTES[dtype] / work.element_size
    products = work.bytes if work.product_bytes is None else work.product_bytes
    moved = scale * (products + constants.other_bytes * (work.bytes - products))
    bandwidth = constants.bandwidth * sheet.bandwidth
    device = sheet.time_factor * (
        size * (work.flops / (constants.arithmetic * sheet.peak[dtype]) + moved / bandwidth)
        + scale * work.fixed_bytes / bandwidth
    )
    band = constants.bands[sheet.evidence]
    best, usual, worst = (launch * work.operators for launch in constants.launch)
    # Neither the host nor the device is idle for long while the other works; the sum of cubes joins them
    # where both take about as long.
    ends = ((best, band[0] * device), (usual, device), (worst, band[1] * device))
    low, point, high = ((host**3 + busy**3) ** (1 / 3) for host, busy in ends)
    return ProjectedBatch(
        batch_size=size,
        call_time=ProjectedRange(low=low, point=point, high=high),
        throughput=ProjectedRange(low=size / high, point=size / point, high=size / low),
        host_bound=usual > device,
        rough=usual > device or size < SMALLEST_BATCH,
    )


class CpuClass(Struct, frozen=True, kw_only=True):
    """The arithmetic of one class of CPUs, in float32."""

    name: str
    cpu_models: tuple[str, ...]
    """Model names as clouds write them: ``8488C``."""
    flop_per_cycle: float
    """Of one core, in its widest vectors. Matrix extensions do not count: models reach about a tenth of
    their peak."""
    ghz: float
    """Sustained by all cores."""
    vcpus_per_core: int
    source: str = ""

    @property
    def core_peak(self) -> float:
        """Floating point operations per second of one core."""
        return self.flop_per_cycle * self.ghz * 1e9

    def cores(self, vcpus: int) -> float:
        """Return the cores behind a number of virtual CPUs."""
        return vcpus / self.vcpus_per_core


def project_cpu(
    seconds: float, here: CpuClass, there: CpuClass, vcpus: tuple[int, int], *, dtype: str = "float32"
) -> ProjectedRange | Note:
    """Project the measured seconds of a call from one CPU to another, with all virtual CPUs of both.

    `vcpus` are those of the measured machine and of the other one. Raises `ValueError` for a figure that is
    not greater than 0 and finite.
    """
    if not (0 < seconds < math.inf and min(vcpus) > 0):
        raise ValueError(f"seconds and vcpus must be greater than 0 and finite, got {seconds} and {vcpus}")
    if dtype != "float32":
        return refusal(f"the arithmetic of CPUs in {dtype} is not known well enough", "project float32")
    ratio = here.core_peak * here.cores(vcpus[0]) / (there.core_peak * there.cores(vcpus[1]))
    return ProjectedRange(
        low=CPU_BAND[0] * ratio * seconds, point=ratio * seconds, high=CPU_BAND[1] * ratio * seconds
    )
