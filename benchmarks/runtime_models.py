"""Ten models of transformers on every runtime, measured by infergate itself: the table of docs/runtimes.md.

    python benchmarks/runtime_models.py FOLDER [MODEL ...]

The results of each model are kept in FOLDER, and a model that has some is not measured again. `make runtimes`
measures what is missing. Times are compared within the run of one model only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SUITE = HERE / "runtime_suite"
PAGE = HERE.parent / "docs" / "runtimes.md"
BEGIN, END = "<!-- make runtimes -->\n", "<!-- end -->\n"
RUNTIMES = ("eager", "compile", "aoti", "onnxruntime", "openvino")
MODELS = (
    "BERT",
    "DistilBERT",
    "ViT",
    "ResNet",
    "ConvNeXt",
    "GPT-2",
    "T5 encoder",
    "Whisper encoder",
    "Wav2Vec2",
    "CLIP text",
)
"""Those of the suite, which is not imported here because it loads transformers."""


def measure(model: str, place: Path) -> None:
    """Measure a model on all runtimes in one run; the conversions are kept in the folder."""
    test = f"{SUITE / 'test_transformers.py'}::test_model"
    cases = [f"{test}[cpu-{runtime}-{model}]" for runtime in RUNTIMES]
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={place}"),
            *("-c", os.devnull, *cases),
            *(f"--infer-runtimes={','.join(RUNTIMES)}", "--infer-max-time=2"),
            f"--infer-json={place / model}.json",
        ],
        cwd=place,
        env={**os.environ, "INFERGATE_CACHE": str(place / "cache")},
        check=True,
    )


def cell(case: dict[str, Any], eager: float, reasons: list[str]) -> str:
    """Return the relative time, the error and the time of the conversion; or the index of a reason."""
    measured = case.get("measurement")
    if measured is None:
        reason = case["reason"]["text"].partition(": ")[2]
        if reason not in reasons:
            reasons.append(reason)
        return f"no ({reasons.index(reason) + 1})"
    share = measured["latency"]["p50"]["value"] / eager
    busy = any(note["code"] == "cpu-contention" for note in measured.get("notes", ()))
    parts = [f"{share:.2f}{'*' if busy else ''}"]
    parity = measured.get("parity", {})
    if parity.get("error") is not None:
        parts.append(f"{parity['error']:.0e}" + (" mismatch" if parity.get("difference") else ""))
    if (conversion := measured.get("conversion")) is not None:
        parts.append(f"{conversion['export'] + conversion['build'] + conversion['load']:.0f} s")
    return ", ".join(parts)


def table(place: Path) -> str:
    """Return the table of all models that have results, and the reasons below it."""
    reasons: list[str] = []
    rows = []
    for model in MODELS:
        path = place / f"{model}.json"
        if not path.exists():
            continue
        cases = {case["case"].get("runtime", "eager"): case for case in json.loads(path.read_text())["cases"]}
        eager = cases["eager"]["measurement"]["latency"]["p50"]["value"]
        others = [cell(cases[name], eager, reasons) for name in RUNTIMES[1:]]
        busy = any(
            note["code"] == "cpu-contention" for note in cases["eager"]["measurement"].get("notes", ())
        )
        rows.append(
            " | ".join(["", model, f"{1e3 * eager:.1f} ms{'*' if busy else ''}", *others, ""]).strip()
        )
    versions = ", ".join(
        f"{name} {version(name).partition('+')[0]}" for name in ("torch", "transformers", *RUNTIMES[3:])
    )
    notes = [f"{index}. {reason}" for index, reason in enumerate(reasons, start=1)]
    return "\n".join(
        [
            f"{versions}; {os.cpu_count()} CPU cores.",
            "",
            f"| model | {' | '.join(RUNTIMES)} |",
            "|---|" + "---|" * len(RUNTIMES),
            *rows,
            *(["", *notes] if notes else []),
            "",
        ]
    )


def main(folder: str, *names: str) -> None:
    """Measure the models that are named, or all that have no results, and write the table into the page."""
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    for model in names or MODELS:
        if names or not (place / f"{model}.json").exists():
            measure(model, place)
    page = PAGE.read_text()
    pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    written = f"{BEGIN}\n{table(place)}\n{END}"
    PAGE.write_text(re.sub(pattern, lambda _: written, page, flags=re.DOTALL))


if __name__ == "__main__":
    main(*sys.argv[1:])
