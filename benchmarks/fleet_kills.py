"""Kill the controlling process of a fleet at random moments, and let later calls finish it.

    python benchmarks/fleet_kills.py [KILLS] [SEED] [slurm]

Fleets of four jobs on the local launcher, or on a real Slurm on the loopback interface. A stand-in for pytest
takes some tenths of a second and leaves a results file. The controlling process is killed by SIGKILL at a
random moment, up to three times a fleet, and a last call finishes it. Then each job must have one attempt
with results, no attempt may have been run twice, and no process and no job may be left.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fleet_parts import StandIn, as_json, results
from local_slurm import LocalSlurm, running

from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.fleet.attempt_processes import MARK

CLASSES = ("a", "b")
PARTS = ("x", "y")
KILLS_OF_A_FLEET = 3
LIFE = {"local": 3.0, "slurm": 6.0}
"""Seconds within which a controller is killed."""
SECONDS = {"local": 0.3, "slurm": 1.0}
"""Seconds that a job takes."""
WRAPPER = """#!/bin/sh
case "$2" in pytest) exec {stand_in} "$@" ;; esac
exec {python} "$@"
"""
"""An interpreter that is real but for pytest: jobs on Slurm are started by it."""


class KilledFleet:
    """A fleet in a folder, and what became of it."""

    def __init__(self, folder: Path, launcher: str) -> None:
        self.folder, self.launcher = folder, launcher
        stand_in = StandIn(folder / "stand-in")
        stand_in.takes(SECONDS[launcher])
        for name in CLASSES:
            # The same for both parts: equal sessions are one when they are merged.
            stand_in.leaves(name, results(Hardware(cpu_model=f"{name} CPU", cores=4)))
        self.stand_in = stand_in
        wrapper = folder / "python"
        wrapper.write_text(WRAPPER.format(stand_in=stand_in.path, python=sys.executable))
        wrapper.chmod(0o755)
        tables = "".join(f"[classes.{name}]\n" for name in CLASSES)
        parts = "".join(f'{part} = ["{part}.py"]\n' for part in PARTS)
        (folder / "fleet.toml").write_text(
            f'launcher = "{launcher}"\npython = "{wrapper}"\ntime_limit = "30s"\n{tables}[parts]\n{parts}'
        )

    def start(self) -> subprocess.Popen[str]:
        """Start a controller in a session of its own."""
        command = [sys.executable, "-m", "pytest_infergate", "fleet", "run", "fleet.toml"]
        with (self.folder / "controller.log").open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, text=True)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong after the last call."""
        for name in CLASSES:
            for part in PARTS:
                (job,) = self.folder.glob(f"fleet.results/*/{name}/{part}")
                ended = [path for path in job.glob("attempt-*/ended.json") if as_json(path)["code"] == 0]
                if len(ended) != 1:
                    yield f"{name}/{part} has {len(ended)} attempts with results"
        runs = Counter(self.stand_in.runs)
        yield from (f"{path} was run {count} times" for path, count in runs.items() if count > 1)
        yield from (f"process {process} is left" for process in self.left())

    def left(self) -> list[int]:
        """Return the processes of all attempts."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                content = entry.read_bytes()
                if f"{MARK}={self.folder}".encode() in content:
                    found.append(int(entry.parent.name))
        return found


def kill_and_finish(fleet: KilledFleet, chance: random.Random, kills: int) -> tuple[int, list[str]]:
    """Kill controllers, let the last one finish, and return the number of kills and what is wrong."""
    done = 0
    for _ in range(kills):
        process = fleet.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, LIFE[fleet.launcher]))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            done += 1
        process.wait()
    last = fleet.start()
    last.wait(120)
    return done, list(fleet.problems())


@contextlib.contextmanager
def cluster(launcher: str) -> Iterator[LocalSlurm | None]:
    """Run a Slurm if the jobs go there."""
    if launcher == "local":
        yield None
        return
    with tempfile.TemporaryDirectory() as name, running(name) as slurm:
        os.environ["SLURM_CONF"] = str(slurm.config)
        yield slurm.start()


def main() -> None:
    """Print a line a fleet with problems, and the sum."""
    kills = int(sys.argv[1]) if sys.argv[1:] else 300
    seed = int(sys.argv[2]) if sys.argv[2:] else 1
    launcher = sys.argv[3] if sys.argv[3:] else "local"
    chance, begin, done, fleets, wrong = random.Random(seed), time.monotonic(), 0, 0, 0  # noqa: S311
    with cluster(launcher) as slurm:
        while done < kills:
            with tempfile.TemporaryDirectory() as name:
                fleet = KilledFleet(Path(name), launcher)
                each, problems = kill_and_finish(fleet, chance, min(KILLS_OF_A_FLEET, kills - done))
                if slurm is not None:
                    problems += [f"in the queue: {row}" for row in slurm.queue()]
                done, fleets, wrong = done + each, fleets + 1, wrong + bool(problems)
                if problems:
                    print(f"fleet {fleets}: {'; '.join(problems)}")
                    print((Path(name) / "controller.log").read_text(), flush=True)
    print(
        f"{launcher}: {done} kills, {fleets} fleets, {wrong} with problems, {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
