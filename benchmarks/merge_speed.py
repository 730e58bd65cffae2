"""Time of merging the results of a fleet.

    python benchmarks/merge_speed.py [FILES] [CASES]

Files with the cases of benchmarks/results/machines/two-cores.json, repeated under other names and on other
hardware, are merged by the command `infergate merge`: first with the totals of counters only, then with all
that a deep model leaves. The seconds are those of the whole command. Target: 100 files of 500 cases in 5 s.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from pytest_infergate.core.domain.outcome import CaseResult
from pytest_infergate.report import results_json

RECORDED = Path(__file__).parent / "results" / "machines" / "two-cores.json"
ROUNDS = 3


def write_files(folder: Path, files: int, cases: int, *, whole: bool) -> int:
    """Write results files, each of another hardware class, and return their bytes."""
    (session,) = results_json.parse_all(RECORDED.read_bytes(), str(RECORDED))
    recorded = [
        (result if whole else reduced(result), verdict)
        for result, verdict in zip(session.cases, session.gate.verdicts, strict=True)
    ]
    written = 0
    for number in range(files):
        pairs = []
        for index in range(cases):
            result, verdict = recorded[index % len(recorded)]
            case = msgspec.structs.replace(result.case, test=f"tests/test_models.py::test_{index}")
            hardware = msgspec.structs.replace(result.hardware, cpu_model=f"CPU {number}")
            pairs.append(
                (
                    msgspec.structs.replace(result, case=case, hardware=hardware, nodeid=case.name),
                    msgspec.structs.replace(verdict, case=case, nodeid=case.name),
                )
            )
        gate = msgspec.structs.replace(session.gate, verdicts=tuple(verdict for _, verdict in pairs))
        each = msgspec.structs.replace(session, cases=tuple(result for result, _ in pairs), gate=gate)
        path = folder / f"machine-{number}.json"
        path.write_text(results_json.render_results(each), encoding="utf-8")
        written += path.stat().st_size
    return written


def reduced(result: CaseResult) -> CaseResult:
    """Return a case as a small model leaves it: without operators and concurrent processes."""
    counters = msgspec.structs.replace(result.measurement.counters, operators=())
    measurement = msgspec.structs.replace(result.measurement, counters=counters, concurrent_runs=())
    return msgspec.structs.replace(result, measurement=measurement)


def measure(files: int, cases: int, *, whole: bool) -> None:
    """Print the seconds of each round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = write_files(folder, files, cases, whole=whole)
        seconds = []
        command = [
            sys.executable,
            "-m",
            "pytest_infergate",
            "merge",
            *sorted(map(str, folder.glob("*.json"))),
        ]
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            subprocess.run(
                [*command, "-o", str(folder / "merged.out")], check=True, stderr=subprocess.DEVNULL
            )
            seconds.append(f"{time.perf_counter() - begin:.2f} s")
        print(f"{files} files of {cases} cases, {written / 1e6:.0f} MB: {', '.join(seconds)}")


def main() -> None:
    """Merge small and large cases."""
    files, cases = (int(word) for word in (*sys.argv[1:], *("100", "500")[len(sys.argv) - 1 :]))
    for whole in (False, True):
        measure(files, cases, whole=whole)


if __name__ == "__main__":
    main()
