"""Whether the tests notice a change of the core: they run against a sample of its mutants.

    make mutants
    make mutants MUTANTS_ARGS="--count 20 --only capacity"

cosmic-ray lists the mutants and makes them. The tests run once with coverage, which shows the tests that
reach each line. A mutant runs only these, in order: the tests of its own module, then the quickest, up to
the first failure.

The sample consists of the mutants with the lowest hashes of the seed, the function, the line and the
operator. It therefore stays the same when modules move or other lines change, and a larger sample contains
the smaller.

Survivors that are accepted are listed in mutants.toml, each with a reason. The run fails if fewer than 90 %
are killed, if a survivor is not listed, or if an entry of the list matches no line of the core.
The script itself needs Python 3.11.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree as ET

import coverage
import tomllib
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parent.parent
CORE = "pytest_infergate/core"
TESTS = ("tests/core", "tests/report")
ACCEPTED = Path(__file__).with_suffix(".toml")
LEAST_KILLED = 0.9
IGNORED = (".git", ".venv*", ".hypothesis", "__pycache__", ".*_cache", "build", "dist")

PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-m", "not torch and not gpu and not nightly"),
    *("-p", "no:cacheprovider", "-p", "no:benchmark", "--hypothesis-seed=0"),
)
PASSED, MISUSED, NO_TESTS = 0, 4, 5
"""Exit statuses of pytest."""

OPERATORS = frozenset(
    f"core/{name}"
    for name in (
        *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add"),
        *("ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_Pow_Mul"),
        *("ReplaceBinaryOperator_FloorDiv_Div", "ReplaceBinaryOperator_Mod_FloorDiv"),
        *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE"),
        *("ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt"),
        *("ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE"),
        *("ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt"),
        *("ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"),
        *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
        *("ReplaceAndWithOr", "ReplaceOrWithAnd", "AddNot"),
        *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub"),
        *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "NumberReplacer", "ExceptionReplacer"),
        *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
    )
)
"""For each operator its opposite, and for a bound also the next one. cosmic-ray has more: most of them fail
in any test (a shift in place of a sum), others in none (`==` in place of `is`, `&` in a union of types)."""


@dataclass(frozen=True)
class Module:
    """A module of the core, and where its statements are."""

    path: str
    source: str

    def statement(self, line: int) -> tuple[range, bool]:
        """Return the lines of the statement at a line, up to its body, and whether it runs on import."""
        lines, on_import = range(line, line + 1), True
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
                body = getattr(node, "body", None)
                if not body or line < body[0].lineno:
                    end = body[0].lineno - 1 if body else node.end_lineno
                    lines = range(node.lineno, max(node.lineno, end or 0) + 1)
                elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    on_import = False
        return lines, on_import

    def inert(self) -> set[tuple[int, int]]:
        """Return the positions of values without a behaviour to test: frozen=True of a class, strict=True."""
        spans: list[ast.keyword] = []
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.ClassDef):
                spans += node.keywords
            elif isinstance(node, ast.Call):
                spans += [keyword for keyword in node.keywords if keyword.arg == "strict"]
        return {(span.value.lineno, span.value.col_offset) for span in spans}


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: Module
    spec: MutationSpec
    rank: str
    """Its hash, which orders the sample."""

    @property
    def line(self) -> int:
        """The number of the first line that changes."""
        return int(self.spec.start_pos[0])

    @property
    def function(self) -> str:
        """The function or class around the change."""
        return str(self.spec.definition_name or "")

    def source(self) -> str:
        """Return the module with the change."""
        changed = mutate_code(
            self.module.source, get_operator(self.spec.operator_name)(), self.spec.occurrence
        )
        assert changed is not None, f"{self}: cosmic-ray does not find it again"
        return str(changed)

    def diff(self) -> list[str]:
        """Return the lines taken away and added, as in a diff without context."""
        pair = (self.module.source.splitlines(), self.source().splitlines())
        return [
            line
            for line in difflib.unified_diff(*pair, n=0, lineterm="")
            if line[:3] not in ("---", "+++") and line[0] != "@"
        ]

    def change(self) -> tuple[str, str, str]:
        """Return what identifies it wherever its module is: function, lines before, lines after."""
        before, after = (
            "\n".join(line[1:].strip() for line in self.diff() if line[0] == sign) for sign in ("-", "+")
        )
        return self.function, before, after

    def __str__(self) -> str:
        name = self.spec.operator_name.removeprefix("core/")
        return f"{self.module.path}:{self.line} in {self.function or 'the module'} ({name})"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    verdict: str
    """killed, timed out, survived, or not reached by any test."""
    tests: int
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether the tests noticed it."""
        return self.verdict in ("killed", "timed out")


def all_mutants(modules: Iterable[Module], seed: int) -> list[Mutant]:
    """List the mutants, one for each place in the source, in the order of their rank."""
    by_path = {module.path: module for module in modules}
    with (
        tempfile.TemporaryDirectory() as folder,
        use_db(Path(folder, "work.sqlite"), WorkDB.Mode.create) as database,
    ):
        init([Path(path) for path in by_path], database, {})
        specs = [spec for item in database.work_items for spec in item.mutations]
    inert = {path: module.inert() for path, module in by_path.items()}
    seen: dict[str, int] = defaultdict(int)
    places: dict[tuple[str, tuple[int, int]], Mutant] = {}
    for spec in sorted(
        specs, key=lambda spec: (str(spec.module_path), spec.start_pos, spec.operator_name, spec.occurrence)
    ):
        path = str(spec.module_path)
        if spec.operator_name not in OPERATORS or spec.start_pos in inert[path]:
            continue
        line = by_path[path].source.splitlines()[spec.start_pos[0] - 1]
        column = spec.start_pos[1] - (len(line) - len(line.lstrip()))
        name = f"{seed}:{spec.definition_name}:{line.strip()}:{column}:{spec.operator_name}"
        seen[name] += 1
        rank = hashlib.sha256(f"{name}:{seen[name]}".encode()).hexdigest()
        place = (path, spec.start_pos)
        if place not in places or rank < places[place].rank:
            places[place] = Mutant(by_path[path], spec, rank)
    return sorted(places.values(), key=lambda mutant: mutant.rank)


class Reach:
    """Which tests reach which line of the core, and how long each takes."""

    def __init__(self, data: coverage.CoverageData, times: Mapping[str, float], tree: Path) -> None:
        self._data, self._times, self._tree = data, times, tree

    @staticmethod
    def _function(context: str) -> str:
        """Return the test function of a context such as `tests/test_x.py::test_y[3]|run`."""
        return context.rpartition("|")[0].partition("[")[0]

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that reach it, in the order in which they run."""
        by_line = self._data.contexts_by_lineno(str(self._tree / mutant.module.path))
        lines, on_import = mutant.module.statement(mutant.line)
        contexts = {
            context
            for line, found in by_line.items()
            if on_import or line in lines
            for context in found
            if context
        }
        stem = Path(mutant.module.path).stem
        # A default of a struct is read without a line of Python, so that no test reaches it.
        own = {test for test in self._times if Path(test.partition("::")[0]).stem == f"test_{stem}"}
        return sorted(
            {self._function(context) for context in contexts} | own,
            key=lambda test: (
                stem not in Path(test.partition("::")[0]).stem,
                self._times.get(test, 0.0),
                test,
            ),
        )

    def seconds(self, tests: list[str]) -> float:
        """Return how long these tests, or the tests of these files, took."""
        return sum(time for test, time in self._times.items() if test.startswith(tuple(tests)))


def copy(tree: Path, folder: Path) -> Path:
    """Copy a working tree, without environments, caches and history."""
    return Path(shutil.copytree(tree, folder, ignore=shutil.ignore_patterns(*IGNORED)))


def environment(tree: Path, **more: str) -> dict[str, str]:
    """Import the package from this tree, and keep no bytecode, which could outlive a mutant."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PY_COLORS": "0", **more}


def reach(tree: Path, tests: Iterable[str], workers: int) -> Reach:
    """Run all the tests once, with coverage."""
    report, data_file = tree / "times.xml", tree / "reach.coverage"
    measuring = (f"--cov={CORE}", "--cov-context=test", "--cov-report=", "--cov-config=/dev/null")
    run = subprocess.run(
        [*PYTEST, *tests, "-n", str(workers), "--dist", "worksteal", f"--junitxml={report}", *measuring],
        cwd=tree,
        env=environment(tree, COVERAGE_FILE=str(data_file)),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != PASSED:
        raise SystemExit(f"{run.stdout}{run.stderr}\nThe tests must pass without a mutant.")
    data = coverage.CoverageData(str(data_file))
    data.read()
    times: dict[str, float] = defaultdict(float)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it just now
        *names, test = [*case.get("classname", "").split("."), case.get("name", "").partition("[")[0]]
        while not (file := Path(tree, *names).with_suffix(".py")).is_file():
            test = f"{names.pop()}::{test}"  # names that end in a class
        times[f"{file.relative_to(tree)}::{test}"] += float(case.get("time", 0))
    return Reach(data, times, tree)


def run_tests(tree: Path, tests: list[str], timeout: float) -> str:
    """Run these tests up to the first failure, and return killed, timed out or survived."""
    arguments = tree / "tests.txt"
    arguments.write_text("\n".join(tests))
    try:
        run = subprocess.run(
            [*PYTEST, "-x", "-n", "0", "--no-cov", f"@{arguments}"],
            cwd=tree,
            env=environment(tree),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "timed out"
    # A mutant that breaks an import is killed; any other misuse is a fault of this script.
    broken = any(error in run.stdout + run.stderr for error in ("ERROR collecting", "conftest"))
    if run.returncode == NO_TESTS or (run.returncode == MISUSED and not broken):
        raise RuntimeError(f"{' '.join(run.args)}:\n{run.stdout}{run.stderr}")
    return "survived" if run.returncode == PASSED else "killed"


def try_one(mutant: Mutant, trees: SimpleQueue[Path], reached: Reach) -> Outcome:
    """Make a mutant in a free tree, run its tests, and restore the module."""
    tests = reached.tests(mutant)
    if not tests:
        return Outcome(mutant, "not reached by any test", 0, 0.0)
    # Of what runs once for several tests, coverage shows the first alone: a survivor meets their whole files.
    files = sorted({test.partition("::")[0] for test in tests})
    started, tree = time.monotonic(), trees.get()
    module = tree / mutant.module.path
    stat = module.stat()
    try:
        module.write_text(mutant.source())
        for chosen in (tests, files):
            verdict = run_tests(tree, chosen, timeout=60 + 5 * reached.seconds(chosen))
            if verdict != "survived":
                break
    finally:
        module.write_text(mutant.module.source)
        os.utime(module, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        trees.put(tree)
    return Outcome(mutant, verdict, len(tests), time.monotonic() - started)


def accepted_changes() -> dict[tuple[str, str, str], str]:
    """Read the survivors that may live: function, line before and line after, and the reason."""
    entries = tomllib.loads(ACCEPTED.read_text()).get("survivor", [])
    for entry in entries:
        if set(entry) != {"function", "before", "after", "reason"} or not entry["reason"].strip():
            raise SystemExit(f"{ACCEPTED.name}: {entry} must have function, before, after and a reason.")
    return {(entry["function"], entry["before"], entry["after"]): entry["reason"] for entry in entries}


def stale(
    accepted: Iterable[tuple[str, str, str]], modules: Iterable[Module]
) -> Iterator[tuple[str, str, str]]:
    """Yield the accepted changes whose lines are in no module."""
    sources = ["\n".join(line.strip() for line in module.source.splitlines()) for module in modules]
    for change in accepted:
        if not any(f"\n{change[1]}\n" in f"\n{source}\n" for source in sources):
            yield change


def summary(outcomes: list[Outcome], accepted: Mapping[tuple[str, str, str], str]) -> bool:
    """Print the survivors and the share that was killed; return whether all is well."""
    survivors = [outcome for outcome in outcomes if not outcome.killed]
    unexplained = [outcome for outcome in survivors if outcome.mutant.change() not in accepted]
    for outcome in sorted(survivors, key=lambda outcome: (outcome.mutant.module.path, outcome.mutant.line)):
        reason = accepted.get(outcome.mutant.change())
        print(f"\n{outcome.verdict}: {outcome.mutant}, {outcome.tests} tests")
        print(*(f"  {line}" for line in outcome.mutant.diff()), sep="\n")
        print(f"  accepted: {reason}" if reason else "  not accepted")
    killed = len(outcomes) - len(survivors)
    timed_out = sum(outcome.verdict == "timed out" for outcome in outcomes)
    share = killed / len(outcomes)
    known = len(survivors) - len(unexplained)
    print(f"\n{killed} of {len(outcomes)} mutants killed ({share:.1%}), {timed_out} by the time limit")
    print(f"{len(survivors)} survived, {known} of them accepted in {ACCEPTED.name}")
    if share < LEAST_KILLED:
        print(f"failed: at least {LEAST_KILLED:.0%} must be killed")
    if unexplained:
        print(f"failed: {len(unexplained)} not accepted. Hint: add a test or an entry with a reason")
    return share >= LEAST_KILLED and not unexplained


def main() -> None:
    """Try a sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="how many mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which sample (default: %(default)s)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only mutants whose file and function contain it"
    )
    parser.add_argument("--workers", type=int, default=2, help="how many at a time (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the sample, and run nothing")
    parser.add_argument(
        "tests", nargs="*", default=TESTS, help=f"tests that may kill (default: {' '.join(TESTS)})"
    )
    options = parser.parse_args()

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first = copy(ROOT, folder / "0")
        others = [copy(first, folder / str(index)) for index in range(1, options.workers)]
        os.chdir(first)  # edits of the working tree meanwhile change nothing
        modules = [Module(str(path), path.read_text()) for path in sorted(Path(CORE).rglob("*.py"))]
        accepted = accepted_changes()
        gone = list(stale(accepted, modules))
        for function, before, _after in gone:
            print(f"{ACCEPTED.name}: remove the entry of {function}, no module has its line: {before}")
        mutants = all_mutants(modules, options.seed)
        sample = [mutant for mutant in mutants if options.only in str(mutant)][: options.count]
        print(
            f"{len(sample)} of {len(mutants)} places in {len(modules)} modules, seed {options.seed}",
            flush=True,
        )
        if options.list:
            for mutant in sample:
                print(mutant, *mutant.diff(), sep="\n  ")
            return

        started = time.monotonic()
        reached = reach(first, options.tests, options.workers)
        print(f"all tests with coverage: {time.monotonic() - started:.0f} s", flush=True)
        control = next(filter(None, map(reached.tests, sample)), [])
        if not control or run_tests(first, control, timeout=600) != "survived":
            raise SystemExit("The tests of the first mutant must exist, and pass without it.")
        trees: SimpleQueue[Path] = SimpleQueue()
        for tree in (first, *others):
            trees.put(tree)
        pool = stack.enter_context(ThreadPoolExecutor(options.workers))
        outcomes = []
        for outcome in pool.map(lambda mutant: try_one(mutant, trees, reached), sample):
            outcomes.append(outcome)
            print(f"{outcome.verdict}: {outcome.mutant}, {outcome.seconds:.1f} s", flush=True)
        print(f"{time.monotonic() - started:.0f} s")
        if not summary(outcomes, accepted) or gone:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
