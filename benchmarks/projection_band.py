"""How far projections are off: published times of unseen GPUs and unseen model families.

    make projection, or python benchmarks/projection_band.py [FOLDER]

Writes the figures of docs/projection.md between its two markers, and docs/projection.svg. Each GPU and each
tenth of the model families is left out in turn: the two efficiencies of a runtime are fitted to the rest, and
the rows that were left out are projected by the functions of the package. The data are those of
benchmarks/projection/, or of another folder with files of the same form; then the figures are only printed.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple
from zlib import crc32

import numpy as np
from scipy.optimize import minimize

from pytest_infergate.core.advice.projectable_work import ItemWork
from pytest_infergate.core.advice.projected_choice import choose
from pytest_infergate.core.advice.projection import CPU_BAND, EFFICIENCY, Efficiency, Projected, project
from pytest_infergate.core.domain.hardware_names import accelerator_model
from pytest_infergate.storage.hardware_tables import accelerator_sheet

HERE = Path(__file__).parent
DATA = HERE / "projection"
DATA_OF_OTHERS = ("measured_datacentre.csv", "reference_measurements.csv")
PAGE = HERE.parent / "docs" / "projection.md"
PICTURE = PAGE.with_suffix(".svg")
MARKS = ("<!-- begin: make projection -->\n", "<!-- end: make projection -->\n")

NAMES = {
    "RTX3090": "RTX 3090",
    "RTX4090": "RTX 4090",
    "RTX5090": "RTX 5090",
    "RTXPRO6000MQ": "RTX PRO 6000 Max-Q",
    "A100-40GB-SXM4": "A100-40GB",
    "A100-80GB-SXM4": "A100-80GB-SXM",
    "V100": "V100-16GB",
}
RUNTIMES = {
    "torch eager": "eager",
    "eager": "eager",
    "torchscript (Triton)": "eager",
    "torch.compile": "compiled",
}
DTYPES = {"fp32": "float32", "fp16": "float16", "amp": "float16"}
RECURRENT = ("sequencer2d",)
"""Families that the package refuses by their operators, which these tables do not list."""
FOLDS = 10
# Torchvision's networks were counted at 160 pixels; without their last layer, work grows with the area.
SCALED = ("resnet34", "resnet101", "resnet152", "resnext50_32x4d")
OTHER_NAMES = {
    "resnet50v1.5": "resnet50",
    "efficientnet-b0": "efficientnet_b0",
    "resnext101-32x4d": "resnext101_32x4d",
}
HARD_GPU_USD = 6.88
"""USD per hour of an H100 on AWS, asked for every GPU of the data, all of which are slower."""
CPU_USD = 0.357
"""USD per hour of a c7i.2xlarge."""
USUAL_GPU_USD = 1.0
DEMANDS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)


class Row(NamedTuple):
    """One published time."""

    model: str
    hardware: str
    runtime: str
    dtype: str
    batch: int
    seconds: float
    work: ItemWork

    @property
    def family(self) -> str:
        return re.match(r"[a-z]+", self.model)[0]  # type: ignore[index]

    @property
    def fold(self) -> int:
        return crc32(self.family.encode()) % FOLDS


Cases = dict[tuple[object, ...], tuple[Row, Efficiency]]
"""Rows with constants to which neither their GPU nor their family contributed."""


def table(name: str, folder: Path = DATA) -> Iterable[dict[str, str]]:
    with (folder / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def work(cells: dict[str, str], area: float = 1.0) -> ItemWork:
    """Return the work of a row of counters; `area` scales it to a larger image."""
    weights = 4e6 * float(cells["params"])
    each = area * (4e6 * float(cells["E"]) - weights)
    products = area * (4e6 * float(cells["Eop"]) - weights)
    return ItemWork(
        flops=area * 1e9 * float(cells["Ftot"]), bytes=each, product_bytes=products, fixed_bytes=weights,
        operators=int(cells["N"]), element_size=4, weight_bytes=weights,
    )  # fmt: skip


def images(folder: Path) -> list[Row]:
    """Return the rows of image models on GPUs and CPUs, whose counters belong to the same image size."""
    counted = {
        (cells["model"], float(cells["img"])): work(cells) for cells in table("counters_images.csv", folder)
    }
    return [
        Row(
            cells["model"],
            NAMES.get(cells["hardware"], cells["hardware"]),
            RUNTIMES[cells["runtime"]],
            "float16",
            int(float(cells["batch"])),
            float(cells["batch"]) / float(cells["throughput"]),
            found,
        )
        for cells in table("measured_images.csv", folder)
        if (found := counted.get((cells["model"], float(cells["img"])))) is not None
    ]


def others(fitted_to: set[str]) -> list[Row]:
    """Return rows of other GPUs than those that constants are fitted to, with counters of the same models."""
    counted = {cells["model"]: work(cells) for cells in table("counters_counted.csv")}
    for cells in table("counters_images.csv"):
        size = float(cells["img"])
        if size == 224 or cells["model"] in SCALED:
            counted.setdefault(cells["model"], work(cells, (224 / size) ** 2))
    rows = []
    for cells in (cells for name in DATA_OF_OTHERS for cells in table(name)):
        model = OTHER_NAMES.get(cells["model"], cells["model"])
        hardware = NAMES.get(cells["hardware"], cells["hardware"])
        runtime, dtype = RUNTIMES.get(cells["runtime"], ""), DTYPES.get(cells["dtype"], "")
        sheet = accelerator_sheet(hardware)
        rate = float(cells.get("throughput") or cells.get("samples_per_s") or 0)
        if (
            sheet
            and dtype in sheet.peak
            and runtime
            and model in counted
            and rate
            and hardware not in fitted_to
        ):
            batch = int(float(cells["batch"]))
            rows.append(Row(model, hardware, runtime, dtype, batch, batch / rate, counted[model]))
    # The reference measurements repeat rows of the data centre.
    return list({row[:5]: row for row in rows}.values())


def projected(row: Row, constants: Efficiency | None = None) -> Projected:
    """Project one row with the functions of the package."""
    sheet = accelerator_sheet(row.hardware)
    found = project(row.work, sheet, (row.batch,), dtype=row.dtype, runtime=row.runtime, efficiency=constants)
    if not isinstance(found, Projected):
        raise SystemExit(f"{row.model} on {row.hardware}: {found}")
    return found


def bytes_moved(row: Row, other: float) -> float:
    products = row.work.product_bytes
    return row.batch * (products + other * (row.work.bytes - products)) + row.work.fixed_bytes


def fitted(rows: Sequence[Row], runtime: str) -> Efficiency:
    """Fit the two efficiencies of a runtime to rows: least absolute difference of the logarithms."""
    constants = EFFICIENCY[runtime]
    pairs = [(row, accelerator_sheet(row.hardware)) for row in rows]
    arithmetic = np.array([row.batch * row.work.flops / sheet.peak[row.dtype] for row, sheet in pairs])
    # Half of the bytes that were counted in float32.
    moved = np.array([bytes_moved(row, constants.other_bytes) / 2 / sheet.bandwidth for row, sheet in pairs])
    times = np.array([row.seconds for row in rows])

    def distance(logarithms: np.ndarray) -> float:
        shares = np.exp(logarithms)
        return float(np.abs(np.log(times / (arithmetic / shares[0] + moved / shares[1]))).sum())

    start = np.log([constants.arithmetic, constants.bandwidth])
    found = np.exp(minimize(distance, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-2}).x)
    return constants._replace(arithmetic=float(found[0]), bandwidth=float(found[1]))


def left_out(rows: Sequence[Row]) -> Cases:
    """Return each row with constants to which neither its GPU nor its family contributed."""
    found = {}
    for runtime in EFFICIENCY:
        of_runtime = [row for row in rows if row.runtime == runtime]
        for gpu in sorted({row.hardware for row in of_runtime}):
            for fold in range(FOLDS):
                rest = [row for row in of_runtime if row.hardware != gpu and row.fold != fold]
                constants = fitted(rest, runtime)
                for row in of_runtime:
                    if row.hardware == gpu and row.fold == fold:
                        found[row[:5]] = row, constants
    return found


def inside(row: Row, constants: Efficiency | None = None) -> bool:
    """Return whether the measured time is inside of the projected interval."""
    call = projected(row, constants).batches[0].call_time
    return call.low <= row.seconds <= call.high


def ratio(row: Row, constants: Efficiency | None = None) -> float:
    return row.seconds / projected(row, constants).batches[0].call_time.point


def line(name: str, ratios: Sequence[float], covered: Sequence[bool]) -> str:
    low, high = np.quantile(ratios, [0.025, 0.975])
    error = median(abs(value - 1) for value in ratios)
    return (
        f"| {name} | {len(ratios)} | {100 * error:.0f} % | {median(ratios):.2f} | {low:.2f}-{high:.2f} | "
        f"{100 * np.mean(covered):.1f} % |"
    )


HEADER = ["median error", "median", "95 % of measured / projected", "inside of the band"]


def header(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]


def accuracy(cases: Cases) -> list[str]:
    """Return the table of unseen GPUs and families."""
    lines = header("runtime, unseen GPU", "models", *HEADER, "inside, constants of the package")
    for runtime in EFFICIENCY:
        of_runtime = [case for case in cases.values() if case[0].runtime == runtime]
        groups = {f"**{runtime}, all**": of_runtime}
        for gpu in sorted({row.hardware for row, _ in of_runtime}):
            groups[f"{runtime}, {gpu}"] = [case for case in of_runtime if case[0].hardware == gpu]
        for name, group in groups.items():
            shipped = 100 * np.mean([inside(row) for row, _ in group])
            text = line(name, [ratio(*case) for case in group], [inside(*case) for case in group])
            lines.append(f"{text} {shipped:.1f} % |")
    return lines


def elsewhere(rows: Sequence[Row]) -> list[str]:
    """Return the table of GPUs that no constant is fitted to, from a batch of 8 and below it."""
    lines = header("runtime, GPU, dtype", "rows", *HEADER)
    groups = defaultdict(list)
    for row in rows:
        size = "batch 8 and more" if row.batch >= 8 else "below 8"
        groups[f"{row.runtime}, {row.hardware}, {row.dtype}, {size}"].append(row)
    for name, group in sorted(groups.items()):
        lines.append(line(name, [ratio(row) for row in group], [inside(row) for row in group]))
    return lines


def worst(cases: Cases) -> list[str]:
    """Return the models that are outside of the band, the farthest first."""
    found = defaultdict(list)
    for row, constants in cases.values():
        if not inside(row, constants):
            found[row.model, row.runtime].append(ratio(row, constants))
    lines = header("model", "runtime", "measured / projected", "GPUs")
    order = sorted(found.items(), key=lambda pair: -max(abs(math.log(value)) for value in pair[1]))
    for (model, runtime), values in order:
        shown = f"{min(values):.1f}-{max(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"
        lines.append(f"| {model} | {runtime} | {shown} | {len(values)} |")
    return lines


def usd(price: float, served: float, rate: float) -> float:
    return price * math.ceil(rate / served)


def decisions(cases: Cases, rows: Sequence[Row]) -> list[str]:
    """Return the table of the rule between CPU and GPU, against the measured times of both.

    At small demands the prices of single machines decide; the largest demand fills machines of both kinds.
    """
    lines = header("question", "demands a second", "answers", "decided", "of these right", "point right")
    cpus = [row for row in rows if accelerator_model(row.hardware).model.startswith("i")]
    gpus = defaultdict(list)
    for row, constants in cases.values():
        gpus[row.model].append((row, constants))
    questions = [(f"a GPU at {USUAL_GPU_USD:g} USD an hour, CPUs as measured", USUAL_GPU_USD, 1)]
    questions += [
        (f"a GPU at {HARD_GPU_USD:g} USD an hour, CPUs {factor} times as fast", HARD_GPU_USD, factor)
        for factor in (1, 3, 10, 30)
    ]
    wrong: Counter[str] = Counter()
    for name, price, factor in questions:
        answers: dict[float, list[tuple[bool, bool, bool]]] = defaultdict(list)
        for cpu in cpus:
            measured = factor * cpu.batch / cpu.seconds
            counts = np.arange(1, math.ceil(DEMANDS[-1] / measured) + 1)
            for row, constants in gpus[cpu.model]:
                batches = projected(row, constants).batches
                ends = batches[0].throughput
                choice = choose(measured * counts, CPU_USD * counts, price, ends.low, ends.high)
                truth = row.batch / row.seconds
                for demand in DEMANDS:
                    cheaper = usd(price, truth, demand) < usd(CPU_USD, measured, demand)
                    answer = choice.at(demand)
                    decided, right = (
                        answer != "undecided",
                        answer == ("recommended" if cheaper else "ruled out"),
                    )
                    point = (usd(price, ends.point, demand) < usd(CPU_USD, measured, demand)) == cheaper
                    answers[demand].append((decided, right, point))
                    wrong[row.model] += decided and not right
        every = [one for given in answers.values() for one in given]
        for demands, given in (("1 to 100,000", every), ("100,000", answers[DEMANDS[-1]])):
            decided, right, points = (sum(column) for column in zip(*given, strict=True))
            lines.append(
                f"| {name} | {demands} | {len(given):,} | {100 * decided / len(given):.0f} % | "
                f"{100 * right / max(1, decided):.2f} % | {100 * points / len(given):.0f} % |"
            )
    found = ", ".join(f"{model} ({count})" for model, count in wrong.most_common() if count)
    return [*lines, "", f"Wrong decisions by model: {found or 'none'}."]


def cpu_to_cpu(rows: Sequence[Row]) -> str:
    """Return how far the ratio of two CPUs differs between models."""
    times = defaultdict(dict)
    for row in rows:
        if row.hardware.startswith("i"):
            times[row.hardware][row.model] = row.seconds / row.batch
    first, second = sorted(times)
    shared = sorted(times[first].keys() & times[second].keys())
    ratios = np.array([times[second][model] / times[first][model] for model in shared])
    spread = ratios / np.median(ratios)
    shares = [np.mean((CPU_BAND[0] <= one) & (one <= CPU_BAND[1])) for one in (spread, 1 / spread)]
    low, high = np.quantile(spread, [0.025, 0.975])
    times = f"{1 / np.median(ratios):.2f} times as long as on an {second}"
    both = f"{100 * shares[0]:.0f} % in one direction and {100 * shares[1]:.0f} % in the other"
    return (
        f"Calls on an {first} take {times} in the median of {len(shared)} models\n"
        "(torch.compile, float32, batch 1). Of single models, 95 % are within "
        f"{low:.2f}-{high:.2f} of that. Within the band of\n{CPU_BAND[0]:g}-{CPU_BAND[1]:g} are {both}. "
        "The peaks of these two are not in the\ntable of the package: the median itself is not checked."
    )


def picture(cases: Cases) -> str:
    """Draw measured over projected time, by the share of models, on a logarithmic axis."""
    width, height, left, top = 720, 320, 60, 20
    low, high = 0.4, 16.0

    def place(share: float, value: float) -> tuple[float, float]:
        up = math.log(min(max(value, low), high) / low) / math.log(high / low)
        return left + share * (width - left - 20), top + (1 - up) * (height - top - 50)

    box = (
        f'viewBox="0 0 {width} {height + 50}" role="img" font-family="sans-serif" font-size="13" fill="#222"'
    )
    label = "Measured over projected time of models on unseen GPUs"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box} aria-label="{label}">']
    parts.append(f'<rect width="{width}" height="{height + 50}" fill="#fff"/>')
    for value in (0.5, 1, 2, 4, 8, 16):
        y = place(0, value)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{width - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">x{value:g}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = place(share, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{height - 26}" text-anchor="middle">{100 * share:.0f} %</text>')
    styles = {"eager": ("#1f5fa8", ""), "compiled": ("#b4540a", "7 4")}
    for number, (runtime, (colour, dashes)) in enumerate(styles.items()):
        ratios = sorted(ratio(*case) for case in cases.values() if case[0].runtime == runtime)
        points = (place(index / (len(ratios) - 1), value) for index, value in enumerate(ratios))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        parts.append(f'<polyline points="{path}" {style}/>')
        band = EFFICIENCY[runtime].bands["measured"]
        for end in band:
            y = place(0, end)[1]
            ends = f'stroke="{colour}" stroke-dasharray="{"1 5" if dashes else "2 3"}"'
            parts.append(f'<path d="M{left} {y:.1f}H{width - 20}" {ends}/>')
        text = f"{runtime}: {len(ratios)} models; horizontal lines: its band, x{band[0]:g} to x{band[1]:g}"
        y = height + 14 + 20 * number
        parts.append(f'<path d="M{left} {y - 4}h34" {style}/><text x="{left + 42}" y="{y}">{text}</text>')
    parts.append(
        f'<text x="{left}" y="{height - 6}">share of models, sorted by measured / projected time</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else DATA
    rows = images(folder)
    gpus = [row for row in rows if accelerator_sheet(row.hardware) and not row.model.startswith(RECURRENT)]
    cases = left_out(gpus)
    sections = {
        "Unseen GPUs and unseen families": accuracy(cases),
        "GPUs that no constant is fitted to": elsewhere(others({row.hardware for row in gpus})),
        "CPU or GPU": decisions(cases, rows),
        "Another CPU": [cpu_to_cpu(rows)],
        "Models outside of the band": worst(cases),
    }
    text = "\n".join(f"### {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())
    print(text)
    if folder == DATA:
        page = PAGE.read_text(encoding="utf-8")
        begin, rest = page.split(MARKS[0])
        PAGE.write_text(f"{begin}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}", encoding="utf-8")
        PICTURE.write_text(picture(cases), encoding="utf-8")


if __name__ == "__main__":
    main()
