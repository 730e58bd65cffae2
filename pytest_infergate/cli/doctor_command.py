"""The command ``infergate doctor``."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from pytest_infergate.cli.console import echo
from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.results_files import output_option, write_output

_NEEDED: Final = ("torch",)
_NO_TORCH: Final = "all times and counters: {name} is not installed. Hint: install it in this environment"


@click.command(
    "doctor",
    epilog=examples("infergate doctor", "infergate doctor --quick", "infergate doctor --json -o doctor.json"),
)
@click.option("--quick", is_flag=True, help="Half a minute: fewer launches, and wider intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_option("File to write instead of the terminal.")
def doctor_command(*, quick: bool, as_json: bool, output: Path | None) -> None:
    """Measure for a minute what this machine can decide, and say what limits it.

    Small models run in several process launches with identical code. The smallest slowdown is stated for
    exact counters, paired runs, a recorded baseline and budgets; then each setting of the machine that limits
    them, with what it costs and a hint. Nothing on the machine is changed.
    """
    from pytest_infergate.core.domain import units
    from pytest_infergate.core.domain.machine_values import Examination
    from pytest_infergate.doctor.examine import FULL, QUICK, Instruments, diagnose, examine
    from pytest_infergate.doctor.trial_project import TrialProject, missing_package, without_pytest_options
    from pytest_infergate.instruments.cpu_contention import cpu_times
    from pytest_infergate.instruments.machine_reading import MachineFiles, read_machine, throttled_seconds
    from pytest_infergate.measure.lock import MachineLock
    from pytest_infergate.report.doctor_text import doctor_json, doctor_text

    files, absent = MachineFiles(), missing_package(_NEEDED)
    reading = read_machine(files, os.environ)
    if absent is not None:
        found = Examination(missing=(_NO_TORCH.format(name=absent),))
    else:
        length = QUICK if quick else FULL
        expected = units.duration(length.expected)
        echo(f"this takes about {expected} on an idle machine, and longer on a busy one", err=True)
        with tempfile.TemporaryDirectory(prefix="infergate-doctor-") as folder, without_pytest_options():
            instruments = Instruments(cpu_times, lambda: throttled_seconds(files))
            trials = TrialProject(Path(folder).resolve(), time.monotonic)
            with MachineLock().held("alone", lambda text: echo(text, err=True)):
                found = examine(trials, instruments, length, lambda text: echo(f"  {text}", err=True))
    diagnosis = diagnose(reading, found)
    write_output(doctor_json(diagnosis) if as_json else doctor_text(diagnosis), output)
