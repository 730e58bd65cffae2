"""A temporary project with the small models, whose tests are launched as those of any project are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.errors import InfergateError
from pytest_infergate.paired.launches import LaunchTerms, run_launches
from pytest_infergate.paired.protocol import CollectCases
from pytest_infergate.paired.run_folder import run_folder
from pytest_infergate.paired.trial import TrialSpec, log_ratios
from pytest_infergate.paired.worker_handle import Role
from pytest_infergate.paired.worker_process import MALLOC, THREADS, WorkerProcess, WorkerSpec
from pytest_infergate.report.results_json import parse_results

MODELS: Final = ("perceptron", "convolution", "transformer", "small_operators")
CASE_SECONDS: Final = 1.6
"""Time limit of a model in a launch on its own; the default would take most of the minute for one launch."""
_FILE: Final = "test_models.py"
_TESTS: Final = f"""
import pytest

from pytest_infergate.doctor.small_models import SMALL_MODELS


@pytest.mark.inference
@pytest.mark.parametrize("name", {MODELS!r})
def test_model(infer, name):
    model, inputs = SMALL_MODELS[name]()
    infer(model, inputs)
"""
_ISOLATED: Final = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Other plugins would lengthen the start, and may change how tests run."""
_ARGUMENTS: Final = ("-q", "-p", "infergate", "-p", "no:cacheprovider", "--infer-devices=cpu")
TIMEOUT_SECONDS: Final = 120.0
"""Longest duration of one launch on its own."""


class TrialError(InfergateError):
    """The small models cannot be run; the message is the reason."""


class PairedTrial(NamedTuple):
    """What paired launches of identical code brought."""

    differences: dict[str, tuple[float, ...]]
    """Log ratios of the launches, by model."""
    overhead: float
    """Seconds of a launch beyond those of its cases."""
    case: float
    """Seconds of one case in a launch."""


class Trials(Protocol):
    """Runs the small models in processes of their own."""

    def alone(self) -> dict[str, Measurement]:
        """Measure each model in one new process, as an ordinary run does; by name. Raises `TrialError`."""

    def paired(self, seconds: float) -> PairedTrial:
        """Run both sides of a paired run with the same code, without a new launch after so many seconds.

        Raises `TrialError`.
        """


class TrialProject:
    """`Trials` in a temporary folder."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / _FILE).write_text(_TESTS, encoding="utf-8")

    def alone(self) -> dict[str, Measurement]:
        """Run pytest in a new process with the environment of this one."""
        results = self._folder / "results.json"
        command = [
            *(sys.executable, "-m", "pytest", *_ARGUMENTS, f"--infer-max-time={CASE_SECONDS}"),
            f"--infer-json={results}", "--infer-lock=off",
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter
                command,
                cwd=self._folder,
                env={**os.environ, **_ISOLATED},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TrialError(f"the models cannot be measured: {error}") from error
        if done.returncode or not results.exists():
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it printed nothing"]
            raise TrialError(f"pytest ended with exit code {done.returncode}: {lines[-1]}")
        session = parse_results(results.read_bytes(), str(results))
        results.unlink()
        return {
            result.case.params: result.measurement
            for result in session.cases
            if result.measurement is not None
        }

    def paired(self, seconds: float) -> PairedTrial:
        """Launch worker processes with the settings of any paired run."""
        if not hasattr(os, "killpg"):
            raise TrialError(f"paired runs need signals that {sys.platform} does not have")
        nodeids = {name: f"{_FILE}::test_model[cpu-{name}]" for name in MODELS}
        ended: list[float] = [self._clock()]
        with run_folder() as folder:
            specs = {role: self._worker(role, folder) for role in ("base", "candidate")}

            def start(role: Role, seed: int, *, plain: bool = False) -> WorkerProcess:
                return WorkerProcess(
                    specs[role]._replace(variables=_ISOLATED) if plain else specs[role], seed
                )

            try:
                found = run_launches(
                    start,
                    [TrialSpec(nodeid) for nodeid in nodeids.values()],
                    LaunchTerms(folder, seconds),
                    report=lambda _: ended.append(self._clock()),
                    clock=self._clock,
                )
            except InfergateError as error:
                raise TrialError(f"no paired launch could be made: {error}") from error
        if found.interrupted:
            raise KeyboardInterrupt
        trials = dict(zip(nodeids, found.trials, strict=True))
        launches = max(1, found.launches)
        timed = sum(trial.seconds for trial in trials.values())
        return PairedTrial(
            {name: tuple(log_ratios(trial, len(trial.screen))) for name, trial in trials.items()},
            overhead=max(0.0, ended[-1] - ended[0] - timed) / launches,
            case=timed / sum(max(1, trial.launches) for trial in trials.values()),
        )

    def _worker(self, role: Role, folder: Path) -> WorkerSpec:
        own = folder / f"own-{role}"
        own.mkdir()
        top = str(self._folder)
        return WorkerSpec(
            role=role,
            python=sys.executable,
            folder=self._folder,
            run_folder=folder,
            collect=CollectCases(
                arguments=(*_ARGUMENTS, "--rootdir", top, "-c", f"{top}/pytest.ini"),
                source=top,
                target=top,
                remap=False,
                own_folder=str(own),
                cache=False,
                sys_path=tuple(path or str(Path.cwd()) for path in sys.path),
                project_path=(),
            ),
            variables={**THREADS, **MALLOC, **_ISOLATED},
        )


@contextmanager
def without_pytest_options() -> Iterator[None]:
    """Keep options of the user's own tests away from the processes that are started meanwhile."""
    kept = {name: os.environ.pop(name) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def missing_package(names: Sequence[str]) -> str | None:
    """Return the first of some packages that is not installed; ``None`` if all are."""
    from importlib.util import find_spec

    return next((name for name in names if find_spec(name) is None), None)
