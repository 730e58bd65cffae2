"""Measure a GPU in one call of at most 8 minutes: figures of a machine, and a page of them.

    python benchmarks/gpu_check.py [--device NAME] [--seconds N] [--output FOLDER] [--small]

The steps are in the order of their worth. Each has a time limit of its own; one that fails, or for which no
time is left, is a line of the page and ends nothing. The results of the models are written to
FOLDER/NAME-OF-THE-GPU.json, as input of `infergate advise`, and the figures to FOLDER/NAME-OF-THE-GPU.md.
With ``--small``, which is the default for `cpu` and `mojo`, models and batches are those of a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from gpu_page import Figures, GpuTest, StepDone, page  # noqa: E402 - after the paths

from pytest_infergate.errors import InfergateError  # noqa: E402
from pytest_infergate.report.results_json import parse_results, render_merged  # noqa: E402

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import Session

SECONDS: Final = 480.0
"""Budget of all steps."""
PAGE_SECONDS: Final = 5.0
"""Part of the budget that is kept for writing the page."""
START_SECONDS: Final = 25.0
"""Part of the limit of a step that is for imports and for building models."""
END_SECONDS: Final = 15.0
"""Time that an interrupted step has for writing what it measured."""
GPU_TESTS: Final = ("tests/devices/test_gpu.py", "tests/instruments/test_nvml.py")
OPENING: Final = """
import sys
from pytest_infergate.devices.accelerator import AcceleratorKind
from pytest_infergate.devices.cpu import CpuKind
name = sys.argv[1]
if name == "mojo":
    from torch_mojo_backend import register_mojo_devices
    register_mojo_devices()
kind = name.partition(":")[0]
print((CpuKind() if kind == "cpu" else AcceleratorKind(kind)).open(name).hardware())
"""
"""Opens a device, or raises the reason why it cannot be used."""


class Step(NamedTuple):
    """A part of the check: a process of its own."""

    name: str
    command: Callable[[float], Sequence[str]]
    """Arguments of Python for a limit in seconds."""
    folder: Path
    """Where it runs."""
    seconds: float
    """Time limit."""
    least: float
    """With less time left, it is not started."""
    results: Path | None = None
    """The file that it writes; without it, the step failed."""


Run = Callable[[Step, float], tuple["int | None", str]]
"""Runs a step with a limit in seconds; returns the exit code, ``None`` at the limit, and its last lines."""


def run_steps(
    steps: Sequence[Step],
    run: Run,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
    report: Callable[[StepDone], None] = lambda _: None,
) -> list[StepDone]:
    """Run steps one after another within a budget of seconds; whatever happens in one, the others run."""
    done: list[StepDone] = []
    begin = clock()
    for step in steps:
        before = clock()
        left = seconds - PAGE_SECONDS - (before - begin)
        if left < step.least:
            note = f"dropped: it takes at least {step.least:.0f} s, and {max(0.0, left):.0f} s were left"
            done.append(StepDone(step.name, "dropped", 0.0, note))
        else:
            try:
                code, text = run(step, min(step.seconds, left))
            except OSError as error:
                code, text = -1, str(error)
            outcome, note = judged(step, code, text)
            done.append(StepDone(step.name, outcome, clock() - before, note, reasons(text)))
        report(done[-1])
    return done


def judged(step: Step, code: int | None, text: str) -> tuple[str, str]:
    """Return the outcome of a step and a note on it."""
    wrote = step.results is None or step.results.exists()
    if code is None:
        return ("cut short" if wrote else "failed"), "its time limit was reached"
    # pytest: 1 is a failed test, 5 that none was collected.
    if code not in (0, 1, 5) or not wrote:
        lines = [line for line in text.splitlines() if line.strip()]
        return "failed", f"exit code {code}: {lines[-1] if lines else 'no output'}"
    return "done", ", ".join(re.findall(r"\d+ (?:passed|failed|skipped|errors?)\b", text)[-4:])


def reasons(text: str) -> tuple[str, ...]:
    """Return why tests failed or were skipped, from pytest's short summary, each reason once."""
    failed = re.findall(r"^(?:FAILED|ERROR) [^ ].*? - (.+)$", text, re.MULTILINE)
    skipped = re.findall(r"^SKIPPED \[\d+\] .*?:\d+: (.+)$", text, re.MULTILINE)
    return tuple(dict.fromkeys((*failed, *skipped)))


def process(step: Step, seconds: float, environment: dict[str, str], log: Path) -> tuple[int | None, str]:
    """Run a step in a process group of its own; at its limit, interrupt it, and kill what is left of it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        child = subprocess.Popen(
            [sys.executable, *step.command(seconds)],
            cwd=step.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None
        try:
            code = child.wait(max(1.0, seconds - END_SECONDS))
        except subprocess.TimeoutExpired:
            code = None
            # As Ctrl-C: pytest then reports, and infergate writes, what was measured until now.
            child.send_signal(signal.SIGINT)
        try:
            with suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS)
        finally:
            with suppress(ProcessLookupError):  # its children may still be there
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        output.seek(0)
        text = output.read()
    log.write_text(text, encoding="utf-8")
    return code, text[-20_000:]


def steps(device: str, folder: Path, *, small: bool) -> list[Step]:
    """Return all steps, the most valuable first. They run in copies below `folder`, and write there."""
    models, paired, tests = folder / "models", folder / "paired", folder / "gpu-tests.xml"
    kind = device.partition(":")[0]
    common = ["-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider"]
    measuring = [*common, "-p", "pytest_infergate.plugin.hooks", f"--infer-devices={device}"]
    half = [] if small else ["--infer-dtypes=float16"]
    case = "--infer-max-time=2" if small else "--infer-max-time=4"

    def measured(name: str, *options: str, seconds: float, least: float) -> Step:
        path = folder / f"{name}.json"

        def command(limit: float) -> list[str]:
            total = max(5.0, limit - START_SECONDS - END_SECONDS)
            arguments = [f"test_{name}.py", case, f"--infer-max-total={total:.0f}", f"--infer-json={path}"]
            return [*measuring, *half, *arguments, *options]

        return Step(name, command, models, seconds, least, path)

    def compared(limit: float) -> list[str]:
        total = max(5.0, limit - START_SECONDS - END_SECONDS)
        path = folder / "paired.json"
        return [*measuring, "--infer-against=HEAD", f"--infer-max-total={total:.0f}", f"--infer-json={path}"]

    rehearsal = ["-p", "mojo_device"] if kind == "mojo" else []
    # A warning of an installation that is not ours is no failure here.
    gpu_tests = [*common, *rehearsal, "-W", "default", "-m", "gpu", f"--junitxml={tests}", *GPU_TESTS]
    return [
        # In a rehearsal every step is to have its turn.
        measured("eager", seconds=75 if small else 150, least=40),
        Step("gpu tests", lambda _: gpu_tests, ROOT, 90, 30, tests),
        Step("paired run", compared, paired, 100 if small else 120, 60, folder / "paired.json"),
        measured("energy", "--infer-energy", seconds=45 if small else 60, least=40),
        measured("contexts", "--infer-workers=2", seconds=50 if small else 70, least=45),
        measured("compiled", seconds=SECONDS, least=50),
    ]


def prepare(folder: Path) -> None:
    """Copy what the steps run, and make the repository whose working tree has one layer more."""
    shutil.copytree(HERE / "gpu_models", folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "gpu_paired", folder / "paired", ignore=shutil.ignore_patterns("__pycache__"))
    paired = folder / "paired"
    shutil.copy(HERE / "gpu_models" / "conftest.py", paired)
    (paired / ".gitignore").write_text("__pycache__\n", encoding="utf-8")
    counts = paired / "counts.json"
    counts.write_text(json.dumps({"equal": 20, "slower": 20}), encoding="utf-8")
    author = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    for command in (("init", "-q"), ("add", "-A"), (*author, "commit", "-qm", "base")):
        subprocess.run(["git", *command], cwd=paired, check=True)  # noqa: S607
    counts.write_text(json.dumps({"equal": 20, "slower": 21}), encoding="utf-8")


def environment_of_steps(*, small: bool) -> dict[str, str]:
    """Return the variables of the steps: this checkout, no other plugins of pytest, no network."""
    path = [str(ROOT), str(ROOT / "tests" / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
        "COLUMNS": "300",  # for whole reasons in the summary
        "INFERGATE_GPU_CHECK_SMALL": "1" if small else "",
    }


def session(path: Path) -> Session | None:
    """Read what a step wrote; ``None`` if there is nothing, or nothing that can be read."""
    try:
        return parse_results(path.read_bytes(), path.name)
    except (OSError, InfergateError):
        return None


def gpu_test_results(path: Path) -> list[GpuTest]:
    """Read the outcomes of the gpu-marked tests; empty without a file."""
    try:
        cases = list(ET.parse(path).getroot().iter("testcase"))  # noqa: S314 - pytest wrote it
    except (OSError, ET.ParseError):
        return []
    found = []
    for case in cases:
        reasons = {part.tag: part.get("message", "") for part in case}
        outcome = next((tag for tag in ("failure", "error", "skipped") if tag in reasons), "passed")
        if not case.get("name"):  # pytest was interrupted in it
            continue
        found.append(GpuTest(case.get("name", ""), outcome, reasons.get(outcome, "").partition("\n")[0]))
    return found


def slug(name: str) -> str:
    """Return a name of a device as a part of a file name: ``nvidia-h200``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "device"


def write(folder: Path, output: Path, device: str, done: Sequence[StepDone]) -> list[Path]:
    """Write the results of the models and the page; return their paths."""
    names = ("eager", "compiled", "energy", "contexts", "paired")
    sessions = {name: found for name in names if (found := session(folder / f"{name}.json"))}
    hardware = next((case.hardware for one in sessions.values() for case in one.cases if case.hardware), None)
    name = slug((hardware and hardware.accelerator) or device)
    output.mkdir(parents=True, exist_ok=True)
    written = [output / f"{name}.md"]
    kept = [sessions[one] for one in ("eager", "compiled") if one in sessions]
    figures = Figures(device, tuple(done), sessions, gpu_test_results(folder / "gpu-tests.xml"))
    written[0].write_text(page(figures), encoding="utf-8")
    if kept:
        written.append(output / f"{name}.json")
        written[1].write_text(render_merged(kept), encoding="utf-8")
    return written


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "machines")
    parser.add_argument("--small", action="store_true", default=None)
    return parser.parse_args()


def main() -> None:
    """Run all steps on one device. The exit code is 1 if a step failed."""
    options, begin = arguments(), time.monotonic()
    small = options.small or options.device.partition(":")[0] in ("cpu", "mojo")
    environment = environment_of_steps(small=small)
    opened = subprocess.run(
        [sys.executable, "-c", OPENING, options.device],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if opened.returncode:
        raise SystemExit(f"gpu-check: {opened.stderr.strip().splitlines()[-1]}")
    print(f"{options.device}: {opened.stdout.strip()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="infergate-gpu-check-") as name:
        folder = Path(name)
        prepare(folder)
        done = run_steps(
            steps(options.device, folder, small=small),
            lambda step, limit: process(step, limit, environment, folder / f"{slug(step.name)}.log"),
            options.seconds - (time.monotonic() - begin),
            report=lambda one: print(
                f"{one.name}: {one.outcome}, {one.seconds:.0f} s {one.note}", flush=True
            ),
        )
        for path in write(folder, options.output, options.device, done):
            print(f"wrote {path}")
        logs = options.output / "logs"
        if any(one.outcome == "failed" for one in done):
            logs.mkdir(exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, logs)
            print(f"wrote {logs}")
    print(f"{time.monotonic() - begin:.0f} s in all")
    if any(one.outcome == "failed" for one in done):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
