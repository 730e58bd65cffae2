"""Files of pytest-benchmark, which ``--benchmark-json`` writes, read as results of infergate."""

from __future__ import annotations

import msgspec

from pytest_infergate import __version__
from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.outcome import CaseResult, Outcome, Policy, Session
from pytest_infergate.core.domain.values import Case, Environment, Hardware
from pytest_infergate.core.gate import decide
from pytest_infergate.errors import StorageError

_HINT = "Hint: write it with pytest --benchmark-json=FILE"


class _Stats(msgspec.Struct, frozen=True):
    data: list[float] | None = None


class _Benchmark(msgspec.Struct, frozen=True):
    fullname: str
    stats: _Stats


class _Cpu(msgspec.Struct, frozen=True):
    brand_raw: str = ""
    count: int = 1


class _Machine(msgspec.Struct, frozen=True):
    cpu: _Cpu = _Cpu()
    machine: str = ""
    python_version: str = ""
    system: str = ""
    release: str = ""


class _File(msgspec.Struct, frozen=True):
    benchmarks: list[_Benchmark]
    datetime: str
    machine_info: _Machine = _Machine()
    version: str = ""


def parse_pytest_benchmark(content: bytes, where: str, device: str = "cpu") -> Session:
    """Return the benchmarks of a file as cases on `device`, without a baseline.

    Each round is one call, or the mean of several. Throughput, cold start and counters are unknown. `where`
    names the file in errors. Raises `StorageError` for a file without the single times of its rounds.
    """
    try:
        file = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(f"{where}: not a file of pytest-benchmark: {error}. {_HINT}") from None
    machine = file.machine_info
    # Without vector extensions, the class is never that of a run of infergate: other times were taken.
    hardware = Hardware(cpu_model=machine.cpu.brand_raw or machine.machine, cores=max(1, machine.cpu.count))
    results = [_result(benchmark, hardware, where, device) for benchmark in file.benchmarks]
    if not results:
        raise StorageError(f"{where}: must contain a benchmark, got none. {_HINT}")
    environment = Environment(
        os=f"{machine.system} {machine.release}".strip(),
        python=machine.python_version,
        packages={"pytest-benchmark": file.version} if file.version else {},
    )
    policy = Policy()
    verdicts = [decide.judge(result, {}, policy, environment) for result in results]
    return Session(
        tool_version=__version__,
        created=file.datetime,
        environment=environment,
        cases=tuple(results),
        gate=decide.gate_session(verdicts, policy),
    )


def _result(benchmark: _Benchmark, hardware: Hardware, where: str, device: str) -> CaseResult:
    times = benchmark.stats.data
    if not times:
        raise StorageError(
            f"{where}: {benchmark.fullname} must have the times of its rounds in stats.data. "
            "Hint: write the file with --benchmark-json=FILE, or with --benchmark-save-data"
        )
    if not all(stats.MIN_SECONDS <= seconds <= stats.MAX_SECONDS for seconds in times):
        raise StorageError(
            f"{where}: {benchmark.fullname}: times must be {stats.MIN_SECONDS:g} to {stats.MAX_SECONDS:g} s. "
            f"{_HINT}"
        )
    test, bracket, params = benchmark.fullname.partition("[")
    return CaseResult(
        case=Case(test=test, params=params.removesuffix("]") if bracket else "", device=device),
        nodeid=benchmark.fullname,
        outcome=Outcome.MEASURED,
        hardware=hardware,
        measurement=Measurement(latency=latency_of(tuple(times))),
    )
