"""Jobs on a Slurm cluster, submitted by submitit. All nodes must see the folder of the fleet."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.errors import ConfigurationError, InfergateError
from pytest_infergate.fleet.attempts import AttemptFolder, log_end
from pytest_infergate.fleet.fleet_file import MachineClass, checked_terms
from pytest_infergate.fleet.job_runner import run_attempt
from pytest_infergate.fleet.launchers import JobState

_CLIENTS: Final = ("sbatch", "squeue", "scancel", "sinfo", "srun")
_CLIENT_SECONDS: Final = 60.0
_END_SECONDS: Final = 60.0
"""Time that Slurm gets to end a job: it sends SIGTERM, and SIGKILL after its KillWait, 30 s by default."""
_SPARE_MINUTES: Final = 2
"""Added to the time limit of Slurm, so that a job ends by its own limit and can say so."""
_TERMS: Final[Mapping[str, tuple[Any, str]]] = {
    "partition": (str, "a name"),
    "constraint": (str, "features of a node, for example 'genoa'"),
    "gres": (str, "resources, for example 'gpu:l4:1'"),
    "exclusive": (bool, "true or false"),
    "nodelist": (str, "names of nodes"),
    "exclude": (str, "names of nodes"),
    "account": (str, "a name"),
    "qos": (str, "a name"),
    "setup": (list[str], "a list of shell commands"),
    "array_parallelism": (int, "a number of jobs"),
    "options": (dict[str, str | int | bool], "a table of further options of sbatch"),
}
_GPUS: Final = re.compile(r"\bgpu\b(?::[A-Za-z_][^:,]*)?(?::(\d+))?(?=,|$)")
_WAITING: Final = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_WORKING: Final = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING"}
)
_ENDINGS: Final = {
    "COMPLETED": "its Slurm job ended without results",
    "CANCELLED": "its Slurm job was cancelled",
    "TIMEOUT": "its Slurm job exceeded the time limit of Slurm",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "PREEMPTED": "its Slurm job was preempted by one of higher priority, and not requeued",
    "OUT_OF_MEMORY": "its Slurm job ran out of memory (request more with memory)",
}


_OFFERED: Final = (
    ("partition", "partition", "%R"),
    ("feature", "constraint", "%f"),
    ("node conf", "gres", "%G"),
)
"""A word of a refusal, the term that it is about, and the field of sinfo with what is offered."""


class SlurmLauncher:
    """Submits the jobs of a class as one array, and looks after them with squeue."""

    name = "slurm"
    capacity: int | None = None
    poll_seconds = 2.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "slurm"

    def check(self, machine: MachineClass) -> None:
        """Check the terms, and that the clients of Slurm and submitit are installed."""
        terms = checked_terms(machine, self.name, _TERMS)
        gres = _GPUS.search(terms.get("gres", ""))
        if machine.gpu is not None and gres is not None and int(gres[1] or 1) != machine.gpus:
            raise ConfigurationError(
                f"class {machine.name}: gpus must be the number of GPUs in gres {terms['gres']!r}, "
                f"got {machine.gpus}. Hint: write gpus = {gres[1] or 1}"
            )
        missing = [name for name in _CLIENTS if shutil.which(name) is None]
        if missing:
            raise ConfigurationError(
                f"class {machine.name}: slurm needs {', '.join(missing)} on the path. "
                "Hint: run this on a login node of the cluster"
            )
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                f"class {machine.name}: slurm needs submitit. Hint: pip install 'pytest-infergate[fleet]'"
            ) from None

    def start(self, machine: MachineClass, attempts: Sequence[AttemptFolder], batch: str) -> list[str]:
        """Submit an array of jobs, or a single job."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = SlurmExecutor(folder=self._folder, python=shlex.quote(machine.python or sys.executable))
        executor.update_parameters(**self._parameters(machine, batch))
        try:
            with executor.batch():
                jobs = [executor.submit(run_in_slurm, str(attempt.path)) for attempt in attempts]
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            raise ConfigurationError(self._refusal(machine, str(error))) from None
        except OSError as error:
            raise ConfigurationError(f"sbatch cannot be run: {error.strerror or error}") from None
        return [job.job_id for job in jobs]

    def states(self, started: Mapping[str, AttemptFolder]) -> Mapping[str, JobState]:
        """Return the states that squeue lists; of jobs that it has forgotten, what accounting knows."""
        listed = self._listed()
        states = {}
        for handle in started:
            state, reason = listed.get(handle) or (self._accounted(handle), "")
            if state in _WAITING:
                states[handle] = JobState("queued", "" if reason == "None" else reason)
            elif state in _WORKING:
                states[handle] = JobState("running")
            else:
                known = _ENDINGS.get(state, f"its Slurm job ended: {state} ({reason})" if state else "")
                text = known or "its Slurm job is not in the queue any more, and left no results"
                states[handle] = JobState("gone", f"{text}{log_end(self._folder / f'{handle}_0_log.out')}")
        return states

    def find(self, batch: str) -> Mapping[int, str]:
        """Return the jobs of a batch that wait or run."""
        rows = self._rows(_client("squeue", "-h", "-r", "--me", f"--name={batch}", "-o", "%i|%K"), 2)
        return {int(index) if index.isdecimal() else 0: handle for handle, index in rows}

    def cancel(self, started: Mapping[str, AttemptFolder]) -> None:
        """Cancel jobs, and wait until Slurm has ended them."""
        deadline = time.monotonic() + _END_SECONDS
        # Jobs that have ended already make scancel fail.
        _client("scancel", *started, check=False)
        while any(self._listed().get(handle, ("", ""))[0] in _WAITING | _WORKING for handle in started):
            if time.monotonic() > deadline:
                raise InfergateError(
                    f"Slurm has not ended its jobs {', '.join(started)} within {_END_SECONDS:.0f} s. "
                    "Hint: look at them with squeue"
                )
            time.sleep(0.2)

    def _parameters(self, machine: MachineClass, batch: str) -> dict[str, Any]:
        terms = dict(checked_terms(machine, self.name, _TERMS))
        options = dict(terms.pop("options", {}))
        if machine.gpu is not None:
            terms.setdefault("gres", f"gpu:{machine.gpus}")
        if machine.cores is not None:
            terms["cpus_per_task"] = machine.cores
        if machine.memory is not None:
            # Slurm calls a MiB M. submitit would write MB, which some versions of Slurm refuse.
            options.setdefault("mem", f"{math.ceil(machine.memory / 2**20)}M")
        return {
            **terms,
            "additional_parameters": options,
            "job_name": batch,
            "time": math.ceil(machine.time_limit / 60) + _SPARE_MINUTES,
            # A step of its own would get one core only: srun does not inherit the cores of its job.
            "use_srun": False,
            "stderr_to_stdout": True,
        }

    def _refusal(self, machine: MachineClass, text: str) -> str:
        """Return why sbatch refused a job, in its own words, with what the cluster offers."""
        prefix = "sbatch: error: "
        lines = [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]
        said = ". ".join(dict.fromkeys(lines)) or text.strip()
        terms = machine.terms.get(self.name, {})
        for word, key, field in _OFFERED:
            if word in said.lower() and key in terms:
                listed = _client("sinfo", "-h", "-o", field, check=False)
                offered = dict.fromkeys(listed.replace(",", "\n").split())
                return f"sbatch refused the job: {said}; {not_one_of(key, terms[key], offered)}"
        return f"sbatch refused the job: {said}"

    def _listed(self) -> dict[str, tuple[str, str]]:
        rows = self._rows(_client("squeue", "-h", "-r", "--me", "-t", "all", "-o", "%i|%T|%r"), 3)
        return {handle: (state, reason) for handle, state, reason in rows}

    @staticmethod
    def _rows(text: str, fields: int) -> list[list[str]]:
        rows = [line.split("|") for line in text.splitlines()]
        return [row for row in rows if len(row) == fields]

    @staticmethod
    def _accounted(handle: str) -> str:
        """Return the last state of a job by accounting, which many clusters have; empty if it is unknown."""
        found = _client("sacct", "-n", "-X", "-P", "-j", handle, "-o", "State", check=False).split()
        return found[0] if found else ""


def run_in_slurm(path: str) -> None:
    """Run an attempt inside a Slurm job."""
    array, index = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    run_attempt(Path(path), os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{index}")


def _client(*command: str, check: bool = True) -> str:
    """Run a client of Slurm, and return its output. With `check`, a failure raises `InfergateError`."""
    try:
        done = subprocess.run(  # noqa: S603 - clients of Slurm
            command, capture_output=True, text=True, errors="replace", timeout=_CLIENT_SECONDS, check=False
        )
    except FileNotFoundError:
        if not check:
            return ""
        raise InfergateError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        if not check:
            return ""
        raise InfergateError(f"{command[0]} did not answer within {_CLIENT_SECONDS:.0f} s") from None
    if done.returncode and check:
        raise InfergateError(f"{command[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout if done.returncode == 0 else ""
