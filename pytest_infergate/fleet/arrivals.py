"""What arrived from a job: results that count, or the reason why they do not."""

from __future__ import annotations

import dataclasses

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.hardware_names import same_accelerator
from pytest_infergate.core.domain.outcome import Outcome, Session
from pytest_infergate.core.domain.pytest_endings import pytest_ending
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.errors import StorageError
from pytest_infergate.fleet.attempts import AttemptFolder, Ended, log_end
from pytest_infergate.fleet.fleet_file import MachineClass

_TESTS_FAILED = 1


@dataclasses.dataclass(frozen=True)
class Arrival:
    """How a job ended."""

    problem: str = ""
    """Why its results do not count; empty if they do."""
    remark: str = ""
    """What is noteworthy about results that count."""
    hardware: str = ""
    """Description of the measured machine."""
    machines: tuple[str, ...] = ()
    """Ids of the hardware classes that were measured, with which reports name machines."""
    seconds: float | None = None


def arrival(machine: MachineClass, attempt: AttemptFolder, ended: Ended) -> Arrival:
    """Judge what a job left in its folder."""
    if ended.problem:
        return Arrival(ended.problem, seconds=ended.seconds)
    code = ended.code
    if code is None or code not in (0, _TESTS_FAILED):
        ending = pytest_ending(-1 if code is None else code)
        return Arrival(f"{ending}{log_end(attempt.log)}", seconds=ended.seconds)
    from pytest_infergate.report.results_json import parse_results

    try:
        session = parse_results(attempt.results.read_bytes(), str(attempt.results))
    except FileNotFoundError:
        return Arrival(
            f"{pytest_ending(code)} and wrote no results{log_end(attempt.log)}", seconds=ended.seconds
        )
    except OSError as error:
        return Arrival(f"cannot read {attempt.results}: {error.strerror or error}", seconds=ended.seconds)
    except StorageError as error:
        return Arrival(str(error), seconds=ended.seconds)
    found = tuple(
        dict.fromkeys(
            result.hardware
            for result in session.cases
            if result.hardware is not None and result.outcome is Outcome.MEASURED
        )
    )
    problem = next((text for hardware in found if (text := _unexpected(machine, hardware))), "")
    if machine.gpu is not None and not problem and not any(hardware.accelerator for hardware in found):
        problem = (
            f"no case was measured on a GPU, and the class has {machine.gpu!r}. "
            "Hint: request it with --infer-devices; infergate show says why cases on it were skipped"
        )
    return Arrival(
        problem=f"wrong hardware: {problem}" if problem else "",
        remark="" if problem else _remark(session, code),
        hardware=" and ".join(dict.fromkeys(hardware.text for hardware in found)),
        machines=tuple(hardware.id for hardware in found),
        seconds=ended.seconds,
    )


def _unexpected(machine: MachineClass, hardware: Hardware) -> str:
    """Return in what the measured hardware is not that of the class; empty if it is."""
    if machine.cores is not None and hardware.cores != machine.cores:
        return f"measured on {units.plural(hardware.cores, 'core')}, and the class has {machine.cores}"
    if machine.cpu is not None and machine.cpu.lower() not in hardware.cpu_model.lower():
        return f"measured on a CPU {hardware.cpu_model!r}, and the class has {machine.cpu!r}"
    if hardware.accelerator is None or machine.gpu is None:
        return ""
    if not same_accelerator(machine.gpu, hardware.accelerator):
        return f"measured on a GPU {hardware.accelerator!r}, and the class has {machine.gpu!r}"
    if hardware.accelerator_count != machine.gpus:
        return (
            f"measured with {units.plural(hardware.accelerator_count, 'GPU')}, and the class has "
            f"{machine.gpus}. Hint: set gpus, or hide the others with CUDA_VISIBLE_DEVICES in env"
        )
    return ""


def _remark(session: Session, code: int) -> str:
    if not session.gate.verdicts:
        return "no inference test was selected, so nothing was measured"
    if code == _TESTS_FAILED and session.gate.passed:
        return "a test failed for another reason than an inference case"
    return ""
