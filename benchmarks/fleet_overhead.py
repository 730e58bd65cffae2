"""What a fleet takes beyond its longest job: twelve jobs of three classes on a real Slurm on loopback.

    python benchmarks/fleet_overhead.py [SECONDS]

A stand-in for pytest takes SECONDS, 120 by default, and leaves a results file. Target: at most 10 s and 5 %.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fleet_kills import WRAPPER
from fleet_parts import StandIn, as_json, results
from local_slurm import NODES, running

from pytest_infergate.core.domain.values import Hardware

PARTS = 4


def write_fleet(folder: Path, seconds: float) -> None:
    """Write a fleet file with a class for each node, whose jobs may all run at the same time."""
    stand_in = StandIn(folder / "stand-in")
    stand_in.takes(seconds)
    for name in NODES:
        stand_in.leaves(name, results(Hardware(cpu_model=f"{name} CPU", cores=4)))
    python = folder / "python"
    python.write_text(WRAPPER.format(stand_in=stand_in.path, python=sys.executable))
    python.chmod(0o755)
    classes = "".join(
        f'[classes.{name}]\nmemory = "200MB"\nslurm = {{ nodelist = "{name}" }}\n' for name in NODES
    )
    parts = "".join(f'part-{number} = ["{number}.py"]\n' for number in range(PARTS))
    (folder / "fleet.toml").write_text(
        f'launcher = "slurm"\npython = "{python}"\ntime_limit = "1h"\n{classes}[parts]\n{parts}'
    )


def main() -> None:
    """Print the seconds of the longest job and of the fleet."""
    seconds = float(sys.argv[1]) if sys.argv[1:] else 120.0
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory() as other,
        running(other) as slurm,
    ):
        folder = Path(name)
        os.environ["SLURM_CONF"] = str(slurm.start().config)
        write_fleet(folder, seconds)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "pytest_infergate", "fleet", "run", "fleet.toml"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - begin
        ended = [as_json(path)["seconds"] for path in folder.glob("fleet.results/*/*/*/*/ended.json")]
    longest = max(ended)
    print(f"{len(ended)} jobs, the longest {longest:.1f} s, the fleet {wall:.1f} s")
    print(f"overhead {wall - longest:.1f} s, {100 * (wall / longest - 1):.1f} %")


if __name__ == "__main__":
    main()
