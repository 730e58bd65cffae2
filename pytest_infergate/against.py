"""A paired run as pytest sees it: the base made ready, launches before the first test, reports replayed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import pytest

from pytest_infergate.core import gate, paired, units
from pytest_infergate.core.model import (
    Against,
    Case,
    CaseResult,
    CaseVerdict,
    Comparison,
    Measurement,
    Note,
    Outcome,
    Verdict,
)
from pytest_infergate.errors import ConfigurationError, InfergateError
from pytest_infergate.paired import loaded
from pytest_infergate.paired.session import Progress, Result, Session, Terms, Trial, Wanted
from pytest_infergate.paired.worker import Plan, Worker, holder
from pytest_infergate.paired.worktree import Revision, accepted, exists, lay_over, resolve, worktree
from pytest_infergate.report import messages
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.turns import Turns, TurnsOfCase, written

if TYPE_CHECKING:
    from pytest_infergate.session import InferenceRun
    from pytest_infergate.settings import Marker

DEFAULT_MAX_TIME = 180.0
"""Seconds that the turns of one case may take, over all launches."""
TYPICAL_LAUNCHES = 5
TYPICAL_SECONDS = 2.0
"""Of one case in one launch."""
TYPICAL_OVERHEAD = 8.0
"""Of one launch: two processes, their imports."""


class Entry(NamedTuple):
    """An item that takes part."""

    nodeid: str
    path: Path
    case: Case
    marker: Marker


class Outcomes(NamedTuple):
    """What a paired run decided, by node id, and what there is to replay."""

    results: Mapping[str, CaseResult]
    verdicts: Mapping[str, CaseVerdict]
    reports: Mapping[str, Sequence[dict[str, Any]]]
    against: Against
    on_base: frozenset[Case]
    """Cases that the base has as well."""
    interrupted: bool
    written: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Why the turns could not be written."""


class Opponent:
    """What the candidate is compared with: a revision, an interpreter, or both."""

    def __init__(self, run: InferenceRun, config: pytest.Config) -> None:
        settings = run.settings
        self._run = run
        self._config = config
        self.python = sys.executable
        self.revision: Revision | None = None
        if not hasattr(os, "killpg"):
            raise ConfigurationError("--infer-against needs a system with process groups: Linux or macOS")
        if settings.against is not None:
            self.revision = resolve(settings.against, config.rootpath)
            self._place(config.rootpath)
            self._place(config.invocation_params.dir)
        if settings.against_python is not None:
            self.python = self._interpreter(settings.against_python)

    @property
    def other_python(self) -> bool:
        """Whether the base has an interpreter of its own."""
        return self._run.settings.against_python is not None

    @property
    def top(self) -> Path:
        """Top folder of what is compared."""
        place = self._config.rootpath if self.revision is None else self.revision.top
        return place.resolve()

    def described(self) -> Against:
        """As it stands in results."""
        return Against(
            revision=None if self.revision is None else self.revision.asked,
            commit=None if self.revision is None else self.revision.commit,
            python=self.python if self.other_python else None,
        )

    def _interpreter(self, given: str) -> str:
        """The whole path: workers start elsewhere. Links stay, since an environment's interpreter is one."""
        path = self._config.invocation_params.dir / Path(given).expanduser()
        found = str(path) if path.is_file() else shutil.which(given)
        if found is None:
            raise ConfigurationError(
                f"--infer-against-python: there is no {given}; give a Python interpreter"
            )
        return found

    def lacks(self, path: Path) -> bool:
        """Whether the base has no such file: tests need their ``__init__.py``, but its own stays."""
        return self.revision is not None and not exists(self.revision, path.relative_to(self.top))

    def _place(self, folder: Path) -> Path:
        try:
            return folder.resolve().relative_to(self.top)
        except ValueError:
            raise ConfigurationError(
                f"--infer-against: {folder} is not inside the repository {self.top}: run pytest within it"
            ) from None

    @contextmanager
    def ready(
        self, files: Sequence[Path], place: Path, modules: Sequence[str] = ()
    ) -> Iterator[dict[str, Plan]]:
        """Make the base ready, removed on exit; how to start the workers of each side.

        They collect the test modules that are named, or whatever the run was told to.
        """
        with ExitStack() as stack:
            target = self.top
            if self.revision is not None:
                target = stack.enter_context(worktree(self.revision, place))
                lay_over(self.top, target, [*files, *self._overlay()])
                self._set_up(target / self._place(self._config.rootpath))
            plans = {
                side: self._plan(side, place, self.top if side == "candidate" else target, target)
                for side in ("base", "candidate", "twin")
            }
            yield {
                side: plan._replace(begin={**plan.begin, "modules": list(modules)})
                for side, plan in plans.items()
            }

    def _overlay(self) -> list[Path]:
        """As the file says that lists them: relative to the rootdir."""
        if self.revision is None:
            return []
        return [self._place(self._config.rootpath) / path for path in self._run.settings.overlay]

    def _set_up(self, target: Path) -> None:
        command = self._run.settings.setup
        if command is None:
            return
        done = subprocess.run(command, shell=True, cwd=target, capture_output=True, check=False)  # noqa: S602 - the user's own, from pyproject.toml
        if done.returncode:
            said = os.fsdecode(done.stderr or done.stdout).strip().splitlines()[-3:]
            raise ConfigurationError(
                f"setup of [tool.infergate] failed on the base with exit code {done.returncode}: "
                f"{' / '.join(said) or 'it said nothing'}"
            )

    def _plan(self, side: str, place: Path, root: Path, target: Path) -> Plan:
        config, here = self._config, self.top
        candidate = side == "candidate"
        same = candidate or not self.other_python

        spelled, real = config.rootpath, config.rootpath.resolve()

        def there(text: str) -> str:
            if spelled != real:  # through a link: files would be found twice, under two names
                text = loaded.remap_argument(text, spelled, real)
            return text if root == here else loaded.remap_argument(text, here, root)

        arguments = [there(argument) for argument in map(str, config.invocation_params.args)]
        arguments += ["--rootdir", there(str(real))]
        if config.inipath is not None:
            arguments += ["-c", there(str(config.inipath.resolve()))]
        folder = root / self._place_of(config.invocation_params.dir)
        folder.mkdir(parents=True, exist_ok=True)
        (place / f"own-{side}").mkdir(exist_ok=True)
        project = [path for path in sys.path if loaded.within(path, here) is not None]
        begin = {
            "args": arguments,
            "source": str(here),
            "target": str(target),
            "remap": root != here,
            "own": str(place / f"own-{side}"),
            "caches": config.pluginmanager.has_plugin("cacheprovider"),
            "sys_path": [path or str(Path.cwd()) for path in sys.path] if same else None,
            "project": project,
        }
        return Plan(
            side=side,
            python=sys.executable if candidate else self.python,
            folder=folder,
            holder=place,
            begin=begin,
        )

    def _place_of(self, folder: Path) -> Path:
        return self._place(folder) if self.revision is not None else folder.resolve()

    def check(self, base: Mapping[str, Any], candidate: Mapping[str, Any], laid: Sequence[Path]) -> None:
        """Stop where both sides run the same files; asked when all cases have run once.

        Raises `ConfigurationError` naming the file, or the install that wins.
        """
        if self.revision is None:
            return
        again = "or make the base import its own with setup in [tool.infergate]"
        leak = base["leaked"]
        if leak is not None:
            raise ConfigurationError(
                f"--infer-against: the base loaded {leak} of the working tree instead of its own: "
                f"install the project with `pip install --editable .`, {again}"
            )
        own = loaded.own(base["loaded"], [*laid, *self._overlay()])
        if own or self.other_python:
            return
        install = loaded.installed_over(candidate["loaded"], self.top)
        if install is not None:
            raise ConfigurationError(
                f"--infer-against: both sides loaded {install}, an install that hides the repository: "
                f"install the project with `pip install --editable .`, {again}"
            )
        raise ConfigurationError(
            "--infer-against: both sides ran the same code: no file of the repository was loaded but tests, "
            "which are the candidate's on both sides. Move the model out of the test file, or compare "
            "interpreters with --infer-against-python"
        )


def files_to_lay(entries: Sequence[Entry], config: pytest.Config, opponent: Opponent) -> list[Path]:
    """The candidate's tests, what pytest reads beside them, and its ini file, relative to the top."""
    top = opponent.top
    found: dict[Path, None] = {}
    for path in dict.fromkeys(entry.path.resolve() for entry in entries):
        if top not in path.parents:
            continue
        found[path.relative_to(top)] = None
        for folder in [parent for parent in path.parents if parent == top or top in parent.parents]:
            for name in ("conftest.py", "__init__.py"):
                beside = folder / name
                if beside.is_file() and (name == "conftest.py" or opponent.lacks(beside)):
                    found[beside.relative_to(top)] = None
    if config.inipath is not None and top in config.inipath.resolve().parents:
        found[config.inipath.resolve().relative_to(top)] = None
    return list(found)


def modules(entries: Sequence[Entry], config: pytest.Config, opponent: Opponent) -> list[str]:
    """Test modules with cases, relative to the rootdir; absolute where they are the same on both sides."""
    root = config.rootpath
    found: dict[str, None] = {}
    for path in dict.fromkeys(entry.path for entry in entries):
        if root in path.parents:
            found[str(path.relative_to(root))] = None
        elif opponent.top in path.resolve().parents:
            found[os.path.relpath(path.resolve(), root.resolve())] = None
        else:
            found[str(path)] = None
    return list(found)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, where nobody else handles them."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def forecast(cases: int, opponent: Opponent) -> str:
    """``24 cases against main (merge base 1a2b3c4), about 5 launches, 5 min``."""
    seconds = TYPICAL_LAUNCHES * (cases * TYPICAL_SECONDS + TYPICAL_OVERHEAD)
    about = f"about {TYPICAL_LAUNCHES} launches, {units.duration(seconds)}"
    return f"{units.plural(cases, 'case')} against {messages.opponent(opponent.described())}, {about}"


def compare(
    run: InferenceRun,
    config: pytest.Config,
    opponent: Opponent,
    entries: Sequence[Entry],
    tell: Callable[[Progress], None],
) -> Outcomes:
    """Make all launches and judge every case.

    Raises `ConfigurationError` where the sides cannot be told apart or a side cannot be started.
    """
    begin = time.monotonic()
    laid = files_to_lay(entries, config, opponent)
    trust = {} if opponent.revision is None else accepted(opponent.revision)
    place = holder()
    try:
        with interruptible(), opponent.ready(laid, place, modules(entries, config, opponent)) as plans:
            session = Session(
                lambda side, seed: Worker(plans[side], seed),
                [_wanted(run, entry) for entry in entries],
                Terms(folder=place, max_seconds=run.settings.max_total, twin=opponent.other_python),
                check=lambda base, candidate: opponent.check(base, candidate, laid),
                tell=tell,
            )
            found = session.run()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    judge = Judge(run, found.confirming, paired.moved(found.control))
    judged = [
        judge.judged(entry, trial, gate.accepted(entry.case, entry.nodeid, trust))
        for entry, trial in zip(entries, found.trials, strict=True)
        if not (found.interrupted and trial.waiting)
    ]
    against = msgspec.structs.replace(
        opponent.described(),
        launches=found.launches,
        seconds=time.monotonic() - begin,
        accepted=trust,
    )
    kept, problems = _keep(run.settings.turns, entries, found, against)
    return Outcomes(
        results={result.nodeid: result for result, _ in judged},
        verdicts={verdict.nodeid: verdict for _, verdict in judged},
        reports={trial.wanted.nodeid: [r["data"] for r in trial.reports] for trial in found.trials},
        against=against,
        on_base=frozenset(
            entry.case for entry, trial in zip(entries, found.trials, strict=True) if trial.no_base is None
        ),
        interrupted=found.interrupted,
        written=kept,
        problems=problems,
    )


def replayed(outcomes: Outcomes, nodeid: str, config: pytest.Config) -> list[pytest.TestReport]:
    """The reports of the candidate's worker, with the verdict in place of a pass that it forbids."""
    from pytest_infergate.conclusion import travelling
    from pytest_infergate.report import junit, text

    result, verdict = outcomes.results[nodeid], outcomes.verdicts[nodeid]
    reports = [_unpacked(data, config) for data in outcomes.reports[nodeid]]
    if not reports:  # its process died before it said anything
        reports = [_blank(nodeid, when) for when in ("setup", "call", "teardown")]
    settled = min(reports, key=lambda report: (report.passed, report.when != "call"))
    if verdict.failed and settled.passed:
        settled.outcome = "failed"
        settled.longrepr = text.failure_message(verdict, result)
    if result.outcome is Outcome.SKIPPED:
        settled.infergate_skipped = True  # type: ignore[attr-defined]
    else:
        settled.infergate = travelling(result, verdict, settled.location)  # type: ignore[attr-defined]
    properties = junit.properties(result, verdict)
    for report in reports:
        report.user_properties = [*report.user_properties, *properties]
    return reports


def _unpacked(data: dict[str, Any], config: pytest.Config) -> pytest.TestReport:
    """A report as pytest had it; JSON knows no tuple, which a skip's reason is."""
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):
        path, line, words = report.longrepr
        report.longrepr = (path, line, words)
    return report


def _blank(nodeid: str, when: Literal["setup", "call", "teardown"]) -> pytest.TestReport:
    """A report of a phase that nobody saw."""
    return pytest.TestReport(
        nodeid=nodeid,
        location=(nodeid.partition("::")[0], None, nodeid.rpartition("::")[2]),
        keywords={},
        outcome="passed",
        longrepr=None,
        when=when,
    )


def _keep(
    path: Path | None, entries: Sequence[Entry], found: Result, against: Against
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write every turn to a file, where that is asked for; lines that say so, and what kept it from that."""
    if path is None:
        return (), ()
    turns = Turns(
        against=against,
        confirming=found.confirming,
        control=tuple(found.control),
        cases=tuple(
            TurnsOfCase(
                case=entry.case,
                nodeid=entry.nodeid,
                plan=trial.wanted.plan,
                screen=tuple(trial.screen),
                confirm=tuple(trial.confirm),
                others=trial.others,
            )
            for entry, trial in zip(entries, found.trials, strict=True)
        ),
    )
    try:
        atomic_write(path, written(turns))
    except InfergateError as error:
        return (), (str(error),)
    return (f"wrote {path}",), ()


def _wanted(run: InferenceRun, entry: Entry) -> Wanted:
    tolerance = run.settings.tolerances_for(entry.case.test, entry.marker.tolerance).get("p50")
    return Wanted(
        nodeid=entry.nodeid,
        plan=paired.Plan() if tolerance is None else paired.Plan(tolerance=tolerance),
        max_seconds=run.settings.layered("max_time", entry.marker.max_time, DEFAULT_MAX_TIME),
        parity=None if entry.marker.parity is False else entry.marker.parity,
        compared=entry.marker.parity is not False,
    )


class Judge(NamedTuple):
    """What all cases of a run are judged by."""

    run: InferenceRun
    confirming: int
    control: Note | None
    """Why no time of this run counts, if none does."""

    def judged(self, entry: Entry, trial: Trial, trusted: Note | None) -> tuple[CaseResult, CaseVerdict]:
        """Judge one case from what its trial brought."""
        outcome, reason = _ending(trial)
        sides = {
            name: None if data is None else msgspec.convert(data, Measurement)
            for name, data in trial.figures.items()
        }
        measured = msgspec.structs.replace(
            self.run.result(entry.case, entry.nodeid, entry.marker, outcome),
            hardware=self.run.device(entry.case.device).hardware(),
            measurement=sides.get("candidate"),
            reason=reason,
            budgets=(),
        )
        base = msgspec.structs.replace(
            measured, outcome=Outcome.MEASURED, measurement=sides.get("base"), reason=None
        )
        mismatch = None
        if trial.mismatch is not None:
            cure = "if that is meant, say so with @pytest.mark.inference(parity=False), or a tolerance there"
            mismatch = Note(code="outputs-differ", text=trial.mismatch, cure=cure)
        verdict = gate.judge_paired(
            measured,
            base,
            self._comparison(trial) if outcome is Outcome.MEASURED else None,
            self.run.policy,
            self.run.environment,
            mismatch=mismatch,
            accepted=trusted,
        )
        return measured, verdict

    def _comparison(self, trial: Trial) -> Comparison:
        plan = trial.wanted.plan
        if trial.no_base is not None:
            data = trial.figures.get("candidate")
            return Comparison(
                metric="p50",
                verdict=Verdict.NO_BASELINE,
                evidence="paired",
                candidate=None if data is None else data["latency"]["p50"]["value"],
                tolerance=plan.tolerance,
                note=trial.no_base,
            )
        return paired.compared(
            trial.screen,
            trial.confirm,
            plan,
            confirming=self.confirming,
            others=trial.others,
            stopped=trial.stopped,
            control=self.control,
        )


def _ending(trial: Trial) -> tuple[Outcome, Note | None]:
    """What became of a case before anything was judged."""
    if trial.lost is not None:
        return Outcome.FAILED, trial.lost
    if trial.exhausted is not None:
        return Outcome.INFEASIBLE, trial.exhausted
    if trial.failed:
        skipped = any(report["outcome"] == "skipped" for report in trial.reports)
        if skipped:
            return Outcome.SKIPPED, Note(code="skipped", text="the test was skipped")
        return Outcome.FAILED, Note(
            code="test-failed", text="the test itself failed", cure="mend the test first"
        )
    if trial.invalid is not None:
        return Outcome.INVALID, trial.invalid
    return Outcome.MEASURED, None
