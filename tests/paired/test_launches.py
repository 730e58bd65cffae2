"""The launches of a paired run, with workers that are scripted and a clock that they move."""

import math
import random
from itertools import groupby
from statistics import median

import pytest

from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import paired_times
from pytest_infergate.core.gate.paired_times import PairedTerms, Stage
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.outputs.value_differences import Sides
from pytest_infergate.paired.alternation import MIN_PAIRS
from pytest_infergate.paired.launches import LaunchTerms, run_launches
from pytest_infergate.paired.protocol import (
    BlockTimed,
    CaseInvalid,
    CasesCollected,
    CompareOutput,
    CountWork,
    Done,
    Finish,
    KeepOutput,
    ListModules,
    ModulesListed,
    NotConverted,
    OutOfMemory,
    OutputCompared,
    OutputKept,
    PhaseReported,
    Ready,
    RunCase,
    RunControl,
    RunWarmUp,
    SideMeasured,
    TimeBlock,
    WarmedUp,
    WorkCounted,
)
from pytest_infergate.paired.source_tree import LoadedModules
from pytest_infergate.paired.trial import TrialSpec, decision
from pytest_infergate.paired.worker_handle import WorkerLostError, ask

CASE = "test_a.py::test_one"
OTHER = "test_b.py::test_two"
FIRST = paired_times.MIN_LAUNCHES_UNPOOLED
PLAIN = 1
"""Launches of plain processes, before a case is called regressed."""
"""Launches after which a calm case is decided that has few others beside it."""
NAMES = {
    RunCase: "case",
    RunControl: "control",
    CountWork: "count",
    KeepOutput: "keep",
    CompareOutput: "compare",
    RunWarmUp: "warm",
    TimeBlock: "block",
    Finish: "finish",
    ListModules: "modules",
}
"""Commands as scripts and tests name them."""
SCRIPT = {
    "seconds": 0.010,
    "spread": 0.001,
    "setup": "passed",
    "call": "passed",
    "teardown": "passed",
    "reaches": True,
    "warm_calls": 5,
    "count_seconds": 0.0,
    "difference": None,
    "uncompared": (),
    "invalid": None,
    "exhausted": None,
    "unconverted": None,
    "fails": None,
    "lost": None,
    "killed": False,
    "interrupt": None,
}
"""A case on one side. `exhausted`, `unconverted`, `fails`, `lost` and `interrupt` name the command at which it happens. A
value may be a function of the worker."""


class World:
    """Everything outside of the launches: time, chance, processes and what their cases do."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 1000.0
        self.chance = random.Random(7)
        self.workers = []
        self.cases = {}
        self.specs = {}
        self.errors = {"base": {}, "candidate": {}}
        self.handshakes = {}
        """What a role raises instead of having collected."""
        self.without_control = set()
        """Roles whose reference work fails, each with the command at which it does."""
        self.kept = {}
        self.progress = []
        self.checked = []
        self.begun = []
        self.most_workers = 400

    def clock(self):
        return self.now

    def case(self, nodeid=CASE, *, base=None, candidate=None, both=None, **spec):
        """Add a case that is the same on both sides, except for their own scripts."""
        sides = {"base": base or {}, "candidate": candidate or {}}
        for side, script in sides.items():
            self.cases[side, nodeid] = {**SCRIPT, **(both or {}), **script}
        self.specs[nodeid] = TrialSpec(nodeid, **spec)

    def start(self, role, seed, *, plain=False):
        assert len(self.workers) < self.most_workers, "it never ends"
        self.workers.append(Fake(self, role, seed))
        self.workers[-1].plain = plain
        return self.workers[-1]

    def check(self, base, candidate):
        self.checked.append((base.leaked, candidate.leaked, len(self.progress)))

    def run(self, **terms):
        terms = LaunchTerms(folder=self.folder, **{"seed": 3, **terms})
        try:
            return run_launches(
                self.start,
                list(self.specs.values()),
                terms,
                check=self.check,
                report=self.progress.append,
                clock=self.clock,
            )
        finally:
            assert all(worker.ended for worker in self.workers)

    def alone(self, **terms):
        """Run; the one case that there is."""
        (trial,) = self.run(**terms).trials
        return trial

    def of(self, role):
        return [worker for worker in self.workers if worker.role == role]

    def neighbours(self, worker):
        return [one for one in self.workers if one is not worker and not one.ended and not one.gone]


class Fake:
    """A worker that obeys as the real one does, and insists on being awake."""

    def __init__(self, world, role, seed):
        self.world = world
        self.role = role
        self.side = "base" if role == "control" else role
        self.seed = seed
        self.launch = 1 + len(world.of(role))
        self.drift = math.exp(world.chance.gauss(0, 0.002))
        self.left = self.ended = self.gone = self.stopped = False
        self.nodeid = None
        self.control = False
        self.commands = []
        self.unread = []
        self.events = []
        self.counted = False
        self.blocks = 0

    # What the run calls

    def handshake(self):
        broken = self.world.handshakes.get(self.role)
        error = broken(self) if broken else None
        if error is not None:
            self.gone = True
            raise error
        errors = self.world.errors[self.side]
        nodeids = [nodeid for side, nodeid in self.world.cases if side == self.side]
        return CasesCollected(
            tuple(nodeid for nodeid in nodeids if nodeid.partition("::")[0] not in errors), errors
        )

    def send(self, command):
        assert not self.ended
        if self.gone:
            raise self._lost()
        self.commands.append(command)
        if isinstance(command, RunCase):
            self.world.begun.append(self.role)
        if self.stopped:
            self.unread.append(command)
        else:
            self._obey(command)

    def receive(self):
        if self.events:
            return self.events.pop(0)
        if self.gone:
            raise self._lost()
        raise AssertionError(f"{self.role} {'sleeps' if self.stopped else 'has no command'}")

    def timed_block(self, calls):
        self.resume()
        block = ask(self, TimeBlock(calls), BlockTimed)
        self.suspend()
        return block

    def resume(self):
        self.stopped = False
        while self.unread:
            self._obey(self.unread.pop(0))

    def suspend(self):
        self.stopped = True

    def leave(self):
        self.resume()
        self.left = True

    def end(self):
        assert self.left
        self.ended = True

    # What the process does

    @property
    def measuring(self):
        return self.control or self.nodeid is not None

    def _script(self, key):
        value = self.world.cases[self.side, self.nodeid][key]
        return value(self) if callable(value) else value

    def _lost(self):
        killed = self.nodeid is not None and self._script("killed")
        how = "was killed by SIGKILL" if killed else "ended with exit code 3"
        return WorkerLostError(self.role, f"the process of the {self.role} {how}", killed=killed)

    def _obey(self, command):
        if isinstance(command, (RunWarmUp, TimeBlock)):
            assert all(one.stopped for one in self.world.neighbours(self) if one.measuring)
        if not self.measuring:
            self._between_cases(command)
        elif self.control:
            self._in_control(command)
        elif not self._breaks(NAMES[type(command)]):
            self._in_case(command)

    def _between_cases(self, command):
        match command:
            case RunCase():
                self._begin(command.nodeid)
            case RunControl() if self._fails_in_control("control"):
                self.events.append(Done())
            case RunControl():
                self.control = True
                self.events.append(Ready())
            case ListModules():
                self.events.append(ModulesListed(LoadedModules(), self.role))

    def _fails_in_control(self, name):
        return (self.role, name) in self.world.without_control

    def _in_control(self, command):
        match command:
            case RunWarmUp() | TimeBlock() if self._fails_in_control(NAMES[type(command)]):
                self.events.append(Done())
                self.control = False
            case RunWarmUp():
                self.world.now += 3 * 0.004
                self.events.append(WarmedUp(3, 0.004))
            case TimeBlock():
                self.world.now += 0.004
                self.events.append(BlockTimed(0.004))
            case Finish():
                self.events += [SideMeasured(None), Done()]
                self.control = False

    def _in_case(self, command):
        match command:
            case CountWork():
                self.counted = True
                self.world.now += self._script("count_seconds")
                self.events.append(WorkCounted())
            case KeepOutput():
                self.world.kept[command.path] = self.nodeid
                self.events.append(OutputKept())
            case CompareOutput() if self.world.kept.get(command.path) != self.nodeid:
                self._end_test("failed", "FileNotFoundError: output")
            case CompareOutput():
                self.events.append(OutputCompared(self._script("difference"), self._script("uncompared")))
            case RunWarmUp():
                calls, seconds = command.calls or self._script("warm_calls"), self._script("seconds")
                self.world.now += seconds * calls
                self.events.append(WarmedUp(calls, seconds))
            case TimeBlock():
                noise = math.exp(self.world.chance.gauss(0, self._script("spread")))
                seconds = self._script("seconds") * self.drift * noise
                self.blocks += 1
                self.world.now += seconds * command.calls
                self.events.append(BlockTimed(seconds))
            case Finish():
                figures = {"launch": self.launch, "counted": self.counted, "blocks": self.blocks}
                self.events.append(SideMeasured(figures if self.blocks else None))
                self._end_test(self._script("call"))

    def _breaks(self, name):
        """Whether a command ends the test, or the process."""
        if self._script("interrupt") == name:
            raise KeyboardInterrupt
        if self._script("lost") == name:
            self.gone = True
            return True
        if self._script("exhausted") == name:
            self.events.append(OutOfMemory(Note(code="out-of-memory", text=f"{self.role} ran out")))
            self._end_test(self._script("call"))
            return True
        if self._script("unconverted") == name:
            self.events.append(NotConverted(Note(code="not-converted", text=f"{self.role} has a branch")))
            self._end_test("skipped")
            return True
        if self._script("fails") == name:
            self._end_test("failed", "ValueError: no")
            return True
        return False

    def _begin(self, nodeid):
        self.nodeid = nodeid
        self.counted, self.blocks = False, 0
        setup = self._script("setup")
        self._report("setup", setup)
        if setup != "passed":
            self._report("teardown", "passed")
            self._over()
        elif not self._breaks("case"):
            if self._script("invalid"):
                self.events.append(CaseInvalid(Note(code="lazy", text=self._script("invalid"))))
                self._end_test("passed")
            elif not self._script("reaches"):
                self._end_test(self._script("call"))
            else:
                self.events.append(Ready())

    def _report(self, when, outcome, reason=""):
        reason = reason or ("" if outcome == "passed" else f"{outcome} it was")
        self.events.append(
            PhaseReported(when=when, outcome=outcome, reason=reason, serialised=f"launch {self.launch}")
        )

    def _end_test(self, outcome, reason=""):
        self._report("call", outcome, reason)
        self._report("teardown", self._script("teardown"))
        self._over()

    def _over(self):
        self.events.append(Done())
        self.nodeid = None


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def verdict(trial, confirming=0):
    return decision(trial, confirming).verdict


def phases(trial):
    return [report.when for report in trial.reports]


def in_launch(number, value):
    """A script's value in one launch only."""
    return lambda worker: value if worker.launch == number else None


def together(at):
    """Memory that is enough for one process, not for two."""
    return lambda worker: at if worker.world.neighbours(worker) else None


def cases_of(worker):
    return [command.nodeid for command in worker.commands if isinstance(command, RunCase)]


def commands(worker):
    """Names of its commands, repetitions left out."""
    return [name for name, _ in groupby(NAMES[type(command)] for command in worker.commands)]


def case_commands(worker, kind):
    """Commands of a kind, without those of the control."""
    first = next(at for at, command in enumerate(worker.commands) if isinstance(command, RunCase))
    return [command for command in worker.commands[first:] if isinstance(command, kind)]


# Verdicts


def test_identical_code_is_equivalent_at_the_first_analysis(world):
    world.case()
    found = world.run()
    (trial,) = found.trials
    assert (trial.stage, verdict(trial)) == (Stage.DONE, Verdict.EQUIVALENT)
    assert (len(trial.screen), len(trial.confirm)) == (FIRST, 0)
    assert (found.launches, found.confirming, found.interrupted) == (FIRST, 0, False)
    assert not trial.waiting
    assert (trial.no_base, trial.output_difference, trial.invalid, trial.stopped, trial.lost) == (None,) * 5


def test_a_slowdown_is_confirmed_in_launches_of_its_own(world):
    world.case(candidate={"seconds": 0.0105})
    found = world.run()
    (trial,) = found.trials
    assert (trial.stage, verdict(trial, 1)) == (Stage.DONE, Verdict.REGRESSED)
    assert (len(trial.screen), len(trial.confirm)) == (FIRST, 5)
    assert (found.launches, found.confirming) == (FIRST + 5 + PLAIN, 1)


def test_a_slowdown_is_looked_at_in_plain_processes(world):
    def seconds(worker):
        return 0.004 if worker.plain else 0.010 + 0.0005 * (worker.side == "candidate")

    world.case(both={"seconds": seconds})
    world.case(OTHER)
    found = world.run()
    trial = found.trials[0]
    assert [worker.plain for worker in world.of("candidate")] == [False] * (FIRST + 5) + [True]
    assert median(trial.plain.base) == pytest.approx(0.004, rel=0.02)
    assert verdict(trial, 1) is Verdict.REGRESSED
    assert found.trials[1].plain is None
    # Its control would say nothing about the launches that decide.
    assert len(found.control) == FIRST + 5


def test_a_speedup_needs_no_confirmation(world):
    world.case(candidate={"seconds": 0.005})
    found = world.run()
    (trial,) = found.trials
    assert verdict(trial) is Verdict.IMPROVED
    assert (found.launches, found.confirming, trial.confirm) == (FIRST, 0, [])


def test_a_tolerance_is_that_of_the_case(world):
    world.case(candidate={"seconds": 0.0105}, terms=PairedTerms(tolerance=0.10))
    trial = world.alone()
    assert verdict(trial) is Verdict.SLOWER_WITHIN_TOLERANCE


def test_cases_learn_from_each_other_how_launches_differ(world):
    unsteady = {"seconds": lambda worker: 0.010 * math.exp(worker.world.chance.gauss(0, 0.05))}
    for index in range(8):
        world.case(f"test_{index}.py::test_it", both=unsteady)
    trials = world.run().trials
    first = paired_times.SCREEN_ANALYSES[0]
    assert all(trial.other_spreads[first].degrees == 7 * (first - 1) for trial in trials)
    soon = [trial for trial in trials if trial.launches == first]
    differences = [[launch.difference for launch in trial.screen] for trial in soon]
    assert Stage.SCREEN in {paired_times.decide(each, (), PairedTerms()).stage for each in differences}
    assert {verdict(trial) for trial in soon} <= {Verdict.EQUIVALENT, Verdict.IMPROVED}


def test_decided_cases_leave_the_others_alone(world):
    world.case()
    world.case(OTHER, candidate={"seconds": 0.0105})
    found = world.run()
    assert [trial.launches for trial in found.trials] == [FIRST, FIRST + 5 + PLAIN]
    assert [set(cases_of(worker)) for worker in world.of("base")] == [{CASE, OTHER}] * FIRST + [{OTHER}] * (
        5 + PLAIN
    )


def test_cases_in_confirmation_are_counted_once_each(world):
    for index in range(3):
        world.case(f"test_{index}.py::test_it", candidate={"seconds": 0.0105})
    world.case()
    found = world.run()
    assert found.confirming == 3
    assert [verdict(trial, 3) for trial in found.trials] == [Verdict.REGRESSED] * 3 + [Verdict.EQUIVALENT]


def test_an_unsteady_case_takes_all_launches_of_the_screen(world):
    world.case(
        both={"seconds": lambda worker: 0.010 * (1 + 0.3 * (worker.launch % 2))}, base={"seconds": 0.012}
    )
    (trial,) = world.run().trials
    assert len(trial.screen) == 15
    assert trial.stopped is None


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_a_call_that_takes_no_time_is_unreadable(world, side):
    world.case(**{side: {"seconds": 0.0}})
    trial = world.alone()
    assert trial.invalid.code == "latency-unreadable"
    assert trial.launches == 1


def test_no_cases_need_no_launch(world):
    found = world.run()
    assert (found.launches, found.trials, world.workers) == (0, [], [])


# What the workers are asked


def test_a_launch_goes_by_these_steps(world):
    world.case()
    world.run()
    first, second = world.of("base")[:2], world.of("candidate")[:2]
    start = ["control", "warm", "block", "finish", "case"]
    assert commands(first[0]) == [*start, "count", "keep", "warm", "block", "finish", "modules"]
    assert commands(second[0]) == [*start, "count", "compare", "warm", "block", "finish", "modules"]
    assert commands(first[1]) == commands(second[1]) == [*start, "warm", "block", "finish"]


def test_turns_are_the_same_in_every_launch(world):
    world.case(both={"seconds": lambda worker: 1e-4 * worker.launch, "warm_calls": lambda w: 10 * w.launch})
    world.run()
    for worker in world.workers:
        assert {command.calls for command in case_commands(worker, TimeBlock)} == {50}
        warms = [command.calls for command in case_commands(worker, RunWarmUp)]
        assert warms in ([10], [None])
        assert worker.launch == 1 or warms == [10]
    first = [command.calls for worker in world.workers[:2] for command in case_commands(worker, RunWarmUp)]
    assert sorted(map(str, first)) == ["10", "None"]


def test_workers_of_a_pair_share_a_seed_that_is_new_each_launch(world):
    world.case()
    world.run()
    seeds = [worker.seed for worker in world.of("base")]
    assert seeds == [worker.seed for worker in world.of("candidate")]
    assert len(set(seeds)) == FIRST
    assert all(0 < seed < 2**32 for seed in seeds)


def test_either_side_may_be_started_first_and_build_its_model_first(world):
    for index in range(4):
        world.case(f"test_{index}.py::test_it")
    world.run()
    assert {worker.role for worker in world.workers[::2]} == {"base", "candidate"}
    assert set(world.begun[::2]) == {"base", "candidate"}


def test_a_seed_makes_a_run_again(tmp_path):
    def found(seed):
        world = World(tmp_path)
        world.case()
        world.case(OTHER)
        world.run(seed=seed)
        return [(worker.role, worker.seed, cases_of(worker)) for worker in world.workers]

    assert found(1) == found(1) != found(2)


def test_modules_stay_together_and_their_order_varies(world):
    for module in "abcd":
        for name in "xyz":
            world.case(f"test_{module}.py::test_{name}")
    world.run()
    orders = [cases_of(worker) for worker in world.of("base")]
    assert orders == [cases_of(worker) for worker in world.of("candidate")]
    modules = [[module for module, _ in groupby(one, lambda nodeid: nodeid[5])] for one in orders]
    assert all(sorted(one) == list("abcd") for one in modules)
    assert len({tuple(one) for one in modules}) > 1
    within = {tuple(nodeid for nodeid in one if nodeid[5] == "a") for one in orders}
    assert len(within) > 1


def test_each_case_comes_with_the_one_that_follows(world):
    for index in range(3):
        world.case(f"test_{index}.py::test_it")
    world.run()
    for worker in world.workers:
        order = cases_of(worker)
        next_cases = [command.next_nodeid for command in case_commands(worker, RunCase)]
        assert next_cases == [*order[1:], None]


# Outputs and figures


def test_outputs_that_differ_are_noted(world):
    sides = Sides("in eager", "in compile", "float64")
    differs = {"difference": "values differ", "uncompared": ("a lock",)}
    world.case(candidate=differs, output_tolerance=0.5, sides=sides)
    trial = world.alone()
    assert trial.output_difference == "values differ"
    assert trial.uncompared_outputs == ("a lock",)
    assert trial.launches == FIRST
    (command,) = [found for worker in world.workers for found in case_commands(worker, CompareOutput)]
    assert command == CompareOutput(str(world.folder / "output"), 0.5, sides)


def test_outputs_need_not_be_compared(world):
    world.case(candidate={"difference": "values differ"}, compare_outputs=False)
    trial = world.alone()
    assert trial.output_difference is None
    assert not {"keep", "compare"} & {do for worker in world.workers for do in commands(worker)}


def test_figures_are_those_of_the_launch_that_counted(world):
    world.case()
    trial = world.alone()
    figure = {"launch": 1, "counted": True, "blocks": MIN_PAIRS}
    assert trial.measurements == {"base": figure, "candidate": figure}


def test_reports_are_those_of_all_phases(world):
    world.case()
    trial = world.alone()
    assert phases(trial) == ["setup", "call", "teardown"]
    assert {report.outcome for report in trial.reports} == {"passed"}
    assert len({report.serialised for report in trial.reports}) == 1


# A candidate whose test fails


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_candidate_that_does_not_pass_is_left_alone(world, phase, outcome):
    world.case(candidate={phase: outcome})
    found = world.run()
    (trial,) = found.trials
    assert trial.failed
    assert not trial.waiting
    assert found.launches == 1
    assert {report.when: report.outcome for report in trial.reports}[phase] == outcome


def test_a_candidate_that_fails_later_keeps_the_reports_of_that_launch(world):
    world.case(candidate={"call": lambda worker: "failed" if worker.launch == 3 else "passed"})
    trial = world.alone()
    assert [(report.when, report.outcome, report.serialised) for report in trial.reports] == [
        ("setup", "passed", "launch 3"),
        ("call", "failed", "launch 3"),
        ("teardown", "passed", "launch 3"),
    ]
    assert trial.measurements["candidate"]["launch"] == 1


@pytest.mark.parametrize("at", ["count", "warm", "block"])
def test_a_model_that_fails_among_commands_is_followed_to_the_end_of_its_test(world, at):
    world.case(candidate={"fails": at})
    world.case(OTHER)
    failed, other = world.run().trials
    assert failed.failed
    assert (phases(failed), failed.no_base, failed.launches) == (["setup", "call", "teardown"], None, 0)
    assert (verdict(other), other.launches) == (Verdict.EQUIVALENT, FIRST)


def test_both_models_may_fail_at_once(world):
    world.case(both={"fails": "count"})
    world.case(OTHER)
    failed, other = world.run().trials
    assert failed.failed
    assert verdict(other) is Verdict.EQUIVALENT


def test_a_candidate_that_may_not_be_timed_is_invalid(world):
    world.case(candidate={"invalid": "a coroutine"})
    trial = world.alone()
    assert (trial.invalid.code, trial.invalid.text) == ("lazy", "a coroutine")
    assert (trial.launches, trial.waiting, trial.failed) == (0, False, False)
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_candidate_that_never_calls_infer_but_passes_is_invalid(world):
    world.case(candidate={"reaches": False})
    trial = world.alone()
    assert (trial.invalid.code, trial.launches) == ("no-timings", 0)


# A base with nothing to compare with


def without_base(world, **scripts):
    """A case whose base is of no use, beside one that is not concerned."""
    world.case(**scripts)
    world.case(OTHER)
    trial, other = world.run().trials
    assert verdict(other) is Verdict.EQUIVALENT
    assert (trial.launches, trial.waiting, trial.output_difference) == (0, False, None)
    assert phases(trial) == ["setup", "call", "teardown"]
    return trial


def test_a_case_that_the_base_lacks_is_timed_alone(world):
    world.case()
    world.case(OTHER)
    del world.cases["base", CASE]
    trial, other = world.run().trials
    assert trial.no_base.code == "new-case"
    assert trial.measurements["candidate"] == {"launch": 1, "counted": True, "blocks": MIN_PAIRS}
    assert trial.launches == 0
    assert verdict(other) is Verdict.EQUIVALENT
    assert [cases_of(worker).count(CASE) for worker in world.of("candidate")] == [1] + [0] * (FIRST - 1)
    assert not any(CASE in cases_of(worker) for worker in world.of("base"))


def test_a_module_that_cannot_be_collected_on_the_base_says_why(world, snapshot):
    world.case()
    world.case("test_a.py::test_more")
    world.errors["base"] = {"test_a.py": "ModuleNotFoundError: No module named 'new'"}
    trials = world.run().trials
    assert str(trials[0].no_base) == snapshot
    for trial in trials:
        assert trial.no_base.code == "base-collection"
        assert trial.measurements["candidate"]["blocks"] == MIN_PAIRS


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_test_that_fails_on_the_base_says_how(world, phase):
    world.case(base={phase: "failed"})
    trial = world.alone()
    assert (trial.no_base.code, trial.failed) == ("base-failed", False)
    assert "failed it was" in trial.no_base.text
    assert trial.measurements["candidate"]["blocks"] == MIN_PAIRS
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_test_that_is_skipped_on_the_base(world):
    trial = without_base(world, base={"setup": "skipped"})
    assert "skipped it was" in trial.no_base.text


def test_a_base_that_does_not_reach_infer(world):
    trial = without_base(world, base={"reaches": False})
    assert trial.no_base.code == "base-ended"
    assert trial.measurements["candidate"]["counted"]


def test_a_base_that_may_not_be_timed(world):
    trial = without_base(world, base={"invalid": "a coroutine"})
    assert (trial.no_base.code, trial.no_base.text, trial.invalid) == ("lazy", "a coroutine", None)


@pytest.mark.parametrize("at", ["count", "warm", "block"])
def test_a_base_whose_model_fails_among_commands(world, at):
    trial = without_base(world, base={"fails": at})
    assert trial.no_base.code == "base-failed"
    assert "ValueError: no" in trial.no_base.text


def test_a_base_that_cannot_even_collect_leaves_the_candidate_alone(world):
    world.case()
    world.case(OTHER)
    world.handshakes["base"] = lambda worker: WorkerLostError("base", "the process of the base ended: E")
    found = world.run()
    for trial in found.trials:
        assert (trial.no_base.code, trial.no_base.text) == (
            "base-unusable",
            "the process of the base ended: E",
        )
        assert trial.measurements == {"candidate": {"launch": 1, "counted": True, "blocks": MIN_PAIRS}}
        assert phases(trial) == ["setup", "call", "teardown"]
    assert (found.launches, found.control, world.checked) == (1, [], [])
    assert len(world.workers) == 2


@pytest.mark.parametrize("why", ["fails", "invalid", "exhausted"])
def test_a_candidate_alone_may_go_wrong_too(world, why):
    script = {
        "fails": {"fails": "block"},
        "invalid": {"invalid": "lazy"},
        "exhausted": {"exhausted": "block"},
    }[why]
    world.case(candidate=script)
    del world.cases["base", CASE]
    trial = world.alone()
    assert trial.no_base.code == "new-case"
    assert (trial.failed, bool(trial.invalid), bool(trial.infeasible)) == (
        why == "fails",
        why == "invalid",
        why == "exhausted",
    )


# Processes that die


@pytest.mark.parametrize("at", ["case", "count", "warm", "block"])
def test_a_lost_candidate_costs_its_own_case(world, at):
    world.case(candidate={"lost": at})
    world.case(OTHER)
    lost, other = world.run().trials
    assert (lost.lost.code, lost.waiting, lost.reports) == ("process-lost", False, [])
    assert "exit code 3" in lost.lost.text
    assert (verdict(other), other.launches, other.lost) == (Verdict.EQUIVALENT, FIRST, None)


@pytest.mark.parametrize("at", ["case", "count", "warm", "block"])
def test_a_lost_base_leaves_the_candidate_to_be_run_again(world, at):
    world.case(base={"lost": at})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.no_base.code, trial.lost, trial.waiting) == ("base-lost", None, False)
    assert phases(trial) == ["setup", "call", "teardown"]
    assert trial.measurements["candidate"]["blocks"] == MIN_PAIRS
    assert (verdict(other), other.launches) == (Verdict.EQUIVALENT, FIRST)


def test_a_base_lost_after_its_turns_keeps_the_reports(world):
    world.case(base={"lost": "finish"})
    trial = world.alone()
    assert trial.no_base.code == "base-lost"
    assert phases(trial) == ["setup", "call", "teardown"]
    assert len(world.workers) == 2


def test_a_candidate_lost_after_its_turns(world):
    world.case(candidate={"lost": "finish"})
    trial = world.alone()
    assert (trial.lost.code, trial.no_base, trial.waiting, trial.launches) == ("process-lost", None, False, 1)


def test_cases_after_a_lost_process_go_on_in_a_new_pair(world):
    for index in range(4):
        world.case(f"test_{index}.py::test_it", candidate={"lost": "block"} if index == 2 else {})
    found = world.run()
    assert [trial.launches for trial in found.trials] == [FIRST, FIRST, 0, FIRST]
    assert found.launches == FIRST
    first = world.of("candidate")[:2]
    ran = [*cases_of(first[0]), *cases_of(first[1])]
    assert sorted(ran) == sorted(trial.spec.nodeid for trial in found.trials)
    assert cases_of(first[0])[-1] == "test_2.py::test_it"


def test_a_case_whose_id_is_new_in_each_process_fails_and_no_other(world, snapshot):
    world.case()
    world.case(OTHER)
    del world.cases["candidate", CASE]
    unstable, good = world.run().trials
    assert unstable.lost.code == "unstable-id"
    assert str(unstable.lost) == snapshot
    assert verdict(good) is Verdict.EQUIVALENT
    assert all(cases_of(worker) == [OTHER] for worker in world.workers)


def test_a_candidate_that_dies_without_a_base_ends_there(world):
    world.case(candidate={"lost": "count"})
    del world.cases["base", CASE]
    trial = world.alone()
    assert (trial.no_base.code, trial.lost.code) == ("new-case", "process-lost")
    assert len(world.workers) == 2


def test_a_case_that_kills_either_side_ends_there(world):
    world.case(both={"lost": "block"})
    world.case(OTHER)
    trial, other = world.run().trials
    assert trial.lost.code == "process-lost"
    assert verdict(other) is Verdict.EQUIVALENT


def test_a_base_lost_in_a_later_launch_leaves_reports_of_all_phases(world):
    world.case(base={"lost": in_launch(3, "block")})
    trial = world.alone()
    assert (trial.no_base.code, trial.launches) == ("base-lost", 2)
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_candidate_lost_in_a_later_launch(world):
    world.case(candidate={"lost": in_launch(3, "block")})
    trial = world.alone()
    assert (trial.lost.code, trial.launches, trial.waiting) == ("process-lost", 2, False)


def test_a_candidate_that_cannot_be_started_ends_the_run(world):
    world.case()
    world.handshakes["candidate"] = lambda worker: WorkerLostError("candidate", "it ended: E")
    with pytest.raises(WorkerLostError, match="it ended: E"):
        world.run()
    assert len(world.workers) == 2


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_an_interpreter_without_the_plugin_ends_the_run(world, side):
    world.case()
    world.handshakes[side] = lambda worker: ConfigurationError("install it")
    with pytest.raises(ConfigurationError, match="install it"):
        world.run()
    assert len(world.workers) == 2


def test_a_second_worker_that_cannot_be_started_ends_the_first(world):
    world.case()
    begun = world.start

    def start(role, seed, **options):
        if world.workers:
            raise ConfigurationError("no such interpreter")
        return begun(role, seed, **options)

    world.start = start
    with pytest.raises(ConfigurationError):
        world.run()
    assert len(world.workers) == 1


def test_every_worker_is_ended_though_another_cannot_be(world):
    world.case()

    def end(self=None):
        world.workers[0].ended = True
        raise KeyboardInterrupt

    begun = world.start

    def start(role, seed, **options):
        worker = begun(role, seed, **options)
        if len(world.workers) == 1:
            worker.end = end
        return worker

    world.start = start
    world.run()


# Memory


@pytest.mark.parametrize("side", ["base", "candidate"])
@pytest.mark.parametrize("at", ["case", "count", "warm", "block"])
def test_models_that_do_not_fit_together_run_one_after_the_other(world, side, at):
    world.case(**{side: {"exhausted": together(at)}})
    found = world.run()
    (trial,) = found.trials
    assert trial.separate
    assert (trial.stage, verdict(trial)) == (Stage.DONE, Verdict.EQUIVALENT)
    assert (trial.launches, found.launches) == (FIRST, FIRST + 1)
    assert (trial.infeasible, trial.no_base, trial.lost, trial.invalid) == (None,) * 4
    assert phases(trial) == ["setup", "call", "teardown"]
    assert len(trial.screen[0].base) == len(trial.screen[0].candidate) == MIN_PAIRS
    assert len(found.control) == 1


def test_models_of_both_sides_may_run_out_together(world):
    world.case(both={"exhausted": together("case")})
    trial = world.alone()
    assert (trial.separate, trial.infeasible, trial.no_base) == (True, None, None)
    assert (trial.launches, verdict(trial)) == (FIRST, Verdict.EQUIVALENT)


@pytest.mark.parametrize("at", ["case", "block"])
def test_a_model_that_cannot_be_converted_is_tried_once(world, at):
    world.case(both={"unconverted": at})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.infeasible.text, trial.separate, trial.waiting) == ("candidate has a branch", False, False)
    assert (
        sum(getattr(command, "nodeid", "") == CASE for one in world.workers for command in one.commands) == 2
    )
    assert phases(trial) == ["setup", "call", "teardown"]
    assert verdict(other) is Verdict.EQUIVALENT


def test_a_candidate_that_cannot_be_converted_is_beside_a_base_that_is_measured(world):
    world.case(candidate={"unconverted": "case"})
    trial = world.alone()
    assert (trial.infeasible.text, trial.no_base) == ("candidate has a branch", None)
    assert trial.measurements["base"]["blocks"] > 0


def test_a_base_that_cannot_be_converted_is_no_base(world):
    world.case(base={"unconverted": "case"})
    trial = world.alone()
    assert (trial.no_base.text, trial.infeasible) == ("base has a branch", None)
    assert trial.measurements["candidate"]["blocks"] > 0


def test_a_test_that_fails_for_want_of_memory_is_tried_apart(world):
    script = {
        "exhausted": together("case"),
        "call": lambda w: "failed" if w.world.neighbours(w) else "passed",
    }
    world.case(candidate=script)
    trial = world.alone()
    assert (trial.failed, trial.launches, verdict(trial)) == (False, FIRST, Verdict.EQUIVALENT)


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_a_process_that_the_system_kills_may_be_one_too_many(world, side):
    world.case(**{side: {"lost": together("block"), "killed": True}})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.separate, verdict(trial), trial.launches) == (True, Verdict.EQUIVALENT, FIRST)
    assert (other.separate, verdict(other)) == (False, Verdict.EQUIVALENT)
    assert (trial.no_base, trial.lost) == (None, None)


def test_apart_is_one_process_at_a_time_with_seeds_of_their_pair(world):
    world.case(candidate={"exhausted": together("case")})
    world.run()
    alone = world.workers[2:]
    assert [worker.role for worker in alone] == ["base", "candidate"] * FIRST
    assert all(one.seed == two.seed for one, two in zip(alone[::2], alone[1::2], strict=True))
    assert len({worker.seed for worker in alone}) == FIRST


def test_figures_of_a_case_apart_are_those_of_the_launch_that_counted(world):
    world.case(candidate={"exhausted": together("case")})
    trial = world.alone()
    assert [trial.measurements[side]["counted"] for side in ("base", "candidate")] == [True, True]


def test_outputs_are_compared_apart_too(world):
    world.case(candidate={"exhausted": together("case"), "difference": "values differ"})
    assert world.alone().output_difference == "values differ"


def test_a_slowdown_is_found_apart_too(world):
    world.case(candidate={"exhausted": together("case"), "seconds": 0.0105})
    found = world.run()
    assert verdict(found.trials[0], found.confirming) is Verdict.REGRESSED
    assert found.launches == 1 + FIRST + 5 + PLAIN
    assert [worker.plain for worker in world.of("base")][-2:] == [False, True]


def test_a_candidate_that_runs_out_alone_is_exhausted(world):
    world.case(candidate={"exhausted": "count"})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.separate, trial.infeasible.text, trial.no_base) == (True, "candidate ran out", None)
    assert (trial.waiting, trial.launches) == (False, 0)
    assert verdict(other) is Verdict.EQUIVALENT


@pytest.mark.parametrize("at", ["case", "count"])
def test_a_base_that_runs_out_alone_is_no_base(world, at):
    world.case(base={"exhausted": at})
    trial = world.alone()
    assert (trial.no_base.text, trial.infeasible, trial.failed) == ("base ran out", None, False)
    assert phases(trial) == ["setup", "call", "teardown"]
    assert trial.measurements["candidate"]["blocks"] > 0


def test_a_base_killed_even_alone_is_no_base(world):
    world.case(base={"lost": "count", "killed": True})
    trial = world.alone()
    assert (trial.no_base.code, trial.lost, trial.failed) == ("base-lost", None, False)
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_candidate_killed_even_alone_is_lost(world):
    world.case(candidate={"lost": "count", "killed": True})
    trial = world.alone()
    assert (trial.lost.code, trial.no_base, trial.separate) == ("process-lost", None, True)


def test_both_sides_may_be_killed_even_alone(world):
    world.case(both={"lost": "block", "killed": True})
    trial = world.alone()
    assert trial.lost.code == "process-lost"
    assert not trial.waiting


def test_a_base_that_fails_only_apart_says_so(world):
    world.case(
        base={"call": lambda worker: "passed" if worker.world.neighbours(worker) else "failed"},
        candidate={"exhausted": together("case")},
    )
    trial = world.alone()
    assert trial.no_base.code == "base-failed"
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_candidate_that_fails_apart_has_failed(world):
    world.case(base={"exhausted": together("case")}, candidate={"fails": "block"})
    trial = world.alone()
    assert trial.separate
    assert trial.failed
    assert phases(trial) == ["setup", "call", "teardown"]


def test_running_out_later_goes_on_apart(world):
    def later(worker):
        return "block" if worker.launch == 3 and worker.world.neighbours(worker) else None

    world.case(candidate={"exhausted": later})
    trial = world.alone()
    assert (trial.separate, verdict(trial), trial.launches) == (True, Verdict.EQUIVALENT, FIRST)
    assert trial.measurements["candidate"]["launch"] == 1


def test_running_out_in_the_second_launch_keeps_the_figures_of_the_first(world):
    world.case(candidate={"exhausted": in_launch(2, "warm")})
    trial = world.alone()
    assert trial.separate
    assert [trial.measurements[side]["counted"] for side in ("base", "candidate")] == [True, True]


# Time


def test_a_call_that_takes_too_long_for_a_launch_is_capped(world, snapshot):
    world.case(both={"seconds": 3.0}, max_seconds=60.0)
    trial = world.alone()
    assert (trial.stopped.code, trial.launches, trial.waiting) == ("time-limit", 0, False)
    assert str(trial.stopped) == snapshot
    assert phases(trial) == ["setup", "call", "teardown"]


def test_what_a_call_needs_counts_warm_up_and_turns_of_both_sides(world):
    world.case(both={"seconds": 3.0, "warm_calls": 1}, max_seconds=30.0)
    assert "60 s" in world.alone().stopped.text


def test_what_capped_a_call_can_be_allowed(world):
    world.case(both={"seconds": 3.0}, max_seconds=181.0)
    trial = world.alone()
    assert (trial.stopped, verdict(trial), trial.launches) == (None, Verdict.EQUIVALENT, FIRST)
    assert len(trial.screen[0].base) == 1


def test_a_call_that_takes_too_long_is_capped_apart_too(world):
    world.case(both={"seconds": 3.0}, base={"exhausted": together("case")}, max_seconds=60.0)
    trial = world.alone()
    assert (trial.stopped.code, trial.launches, trial.invalid) == ("time-limit", 0, None)


def test_a_case_takes_no_more_than_its_time(world, snapshot):
    world.case(both={"count_seconds": in_launch_seconds(1, 20.0)}, max_seconds=60.0)
    trial = world.alone()
    assert (trial.stopped.code, trial.launches, trial.stage) == ("time-limit", 1, Stage.SCREEN)
    assert trial.seconds == pytest.approx(40.5, abs=0.1)
    assert str(trial.stopped) == snapshot


def in_launch_seconds(number, seconds):
    return lambda worker: seconds if worker.launch == number else 0.0


def test_confirmation_is_not_begun_without_time_for_it(world):
    world.case(both={"seconds": 0.1}, candidate={"seconds": 0.11}, max_seconds=30.0)
    trial = world.alone()
    assert (trial.stage, trial.stopped.code) == (Stage.CONFIRM, "time-limit")
    assert (len(trial.screen), len(trial.confirm)) == (FIRST, 0)
    assert trial.stopped.text.startswith(f"{FIRST} launches")
    assert trial.seconds <= 30.0


def test_seconds_of_a_case_are_those_of_its_turns(world):
    world.case(both={"spread": 0.0})
    trial = world.alone()
    assert trial.seconds == pytest.approx(FIRST * 2 * (5 + MIN_PAIRS) * 0.010, rel=0.01)


def test_the_time_of_the_run_ends_it_between_launches(world, snapshot):
    world.case()
    world.case(OTHER)
    found = world.run(max_seconds=2.0)
    assert found.launches == 2
    assert not found.interrupted
    assert str(found.trials[0].stopped) == snapshot
    for trial in found.trials:
        assert (trial.stopped.code, trial.launches) == ("time-limit", 2)
        assert "--infer-max-total" in trial.stopped.text


def test_what_the_run_would_still_need_is_the_same_for_all(world):
    world.case(both={"seconds": 0.1})
    world.case(OTHER, both={"seconds": 0.1})
    hints = {trial.stopped.hint for trial in world.run(max_seconds=1.0).trials}
    assert len(hints) == 1


def test_what_is_decided_needs_no_more_time(world):
    world.case()
    trial = world.alone(max_seconds=4.6)
    assert (trial.stage, trial.stopped) == (Stage.DONE, None)


# An interrupt


def test_an_interrupt_keeps_what_is_decided(world):
    world.case()
    world.case(OTHER, candidate={"seconds": 0.0105, "interrupt": in_launch(7, "block")})
    found = world.run()
    done, open_ = found.trials
    assert found.interrupted
    assert (verdict(done), done.waiting) == (Verdict.EQUIVALENT, False)
    assert (done.stopped, open_.stopped.code) == (None, "interrupted")
    assert "after 6 launches" in open_.stopped.text
    assert (open_.waiting, open_.stage, open_.launches) == (False, Stage.CONFIRM, 6)
    assert found.launches == 7


def test_an_interrupt_of_the_plain_launch_keeps_the_regression(world):
    world.case(candidate={"seconds": 0.0105, "interrupt": in_launch(FIRST + 6, "block")})
    found = world.run()
    (trial,) = found.trials
    assert (found.interrupted, verdict(trial, 1)) == (True, Verdict.REGRESSED)
    assert (trial.stage, trial.stopped, trial.plain) == (Stage.DONE, None, None)


@pytest.mark.parametrize("limit", ["case", "run"])
def test_a_regression_without_time_for_a_plain_launch_stays_one(world, tmp_path, limit):
    def slower(**limits):
        here = World(tmp_path)
        here.case(candidate={"seconds": 0.0105}, **limits.pop("case", {}))
        begin = here.now
        return here.alone(**limits), here.now - begin

    whole, seconds = slower()
    assert whole.plain is not None
    if limit == "case":
        trial, _ = slower(case={"max_seconds": whole.seconds * 0.95})
    else:
        trial, _ = slower(max_seconds=seconds * 0.9)
    assert (trial.plain, trial.stopped, trial.stage) == (None, None, Stage.DONE)
    assert verdict(trial, 1) is Verdict.REGRESSED


def test_an_interrupt_before_the_first_launch_of_a_case_ended(world):
    world.case(candidate={"interrupt": "block"})
    trial = world.alone()
    assert (trial.stopped.code, trial.launches) == ("interrupted", 0)
    assert "before a launch" in trial.stopped.text


def test_an_interrupt_right_after_times_that_cannot_be_compared(world):
    world.case(both={"seconds": 0.0}, candidate={"interrupt": "finish"})
    trial = world.alone()
    assert (trial.launches, trial.invalid.code, trial.waiting) == (1, "latency-unreadable", False)


@pytest.mark.parametrize("at", ["case", "count", "warm", "block", "finish"])
@pytest.mark.parametrize("side", ["base", "candidate"])
def test_an_interrupt_may_come_at_any_time(world, side, at):
    world.case(**{side: {"interrupt": at}})
    found = world.run()
    assert (found.interrupted, found.launches, len(found.trials)) == (True, 1, 1)


def test_an_interrupt_apart(world):
    world.case(base={"exhausted": together("case"), "interrupt": in_launch(3, "block")})
    found = world.run()
    assert (found.interrupted, found.trials[0].launches) == (True, 1)


def test_an_interrupt_while_workers_start(world):
    world.case()
    world.handshakes["base"] = lambda worker: KeyboardInterrupt()
    assert world.run().interrupted


# The control and the check


def test_each_launch_has_a_control(world):
    world.case()
    found = world.run()
    assert len(found.control) == FIRST
    for launch in found.control:
        assert launch.difference == pytest.approx(0.0)
        assert len(launch.base) == len(launch.candidate) == MIN_PAIRS
    assert paired_times.control_moved(found.control) is None


@pytest.mark.parametrize("roles", [("base",), ("candidate",), ("base", "candidate")])
@pytest.mark.parametrize("command", ["control", "warm", "block"])
def test_a_device_without_reference_work_has_no_control_and_its_cases_are_compared(world, roles, command):
    world.case()
    world.without_control = {(role, command) for role in roles}
    found = world.run()
    assert found.control == []
    assert found.trials[0].launches == FIRST
    assert paired_times.control_moved(found.control) is None


def test_each_pair_has_a_control(world):
    world.case(candidate={"lost": "block"})
    world.case(OTHER)
    world.case("test_c.py::test_three")
    found = world.run()
    assert len(found.control) == len(world.of("base"))


def test_a_second_process_of_the_base_is_the_control_of_other_interpreters(world):
    world.case()
    found = world.run(control_worker=True)
    assert len(found.control) == FIRST
    assert len(world.of("control")) == FIRST
    assert [worker.seed for worker in world.of("control")] == [worker.seed for worker in world.of("base")]
    for worker in world.of("control"):
        assert commands(worker) == ["control", "warm", "block", "finish"]
    assert not any("control" in commands(worker) for worker in world.of("candidate"))
    assert all("control" in commands(worker) for worker in world.of("base"))
    assert verdict(found.trials[0]) is Verdict.EQUIVALENT


def test_a_control_worker_that_cannot_be_started_ends_the_run(world):
    world.case()
    world.handshakes["control"] = lambda worker: ConfigurationError("no")
    with pytest.raises(ConfigurationError):
        world.run(control_worker=True)
    assert len(world.workers) == 3


def test_loaded_files_are_checked_once_after_the_first_launch(world):
    world.case()
    world.case(OTHER)
    world.run()
    assert world.checked == [("base", "candidate", 0)]


def test_a_check_that_raises_ends_the_run(world):
    world.case()

    def check(base, candidate):
        raise ConfigurationError("both sides ran the same code")

    world.check = check
    with pytest.raises(ConfigurationError, match="the same code"):
        world.run()
    assert len(world.workers) == 2
    assert all(worker.ended for worker in world.workers)


@pytest.mark.parametrize("seed", range(4))
def test_loaded_files_are_checked_though_a_process_is_lost_in_the_first_launch(world, seed):
    world.case(candidate={"lost": "block"})
    world.case(OTHER)
    world.run(seed=seed)
    assert len(world.checked) == 1


def test_loaded_files_are_checked_though_models_run_apart(world):
    world.case(candidate={"exhausted": together("case")})
    world.run()
    assert world.checked == [("base", "candidate", 0)]


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_loaded_files_are_checked_though_no_pair_lives_long(world, side):
    world.case(**{side: {"lost": together("block"), "killed": True}})
    assert verdict(world.alone()) is Verdict.EQUIVALENT
    assert len(world.checked) == 1


# Progress


def test_progress_counts_launches_and_cases(world):
    world.case()
    world.case(OTHER, candidate={"seconds": 0.0105})
    world.run()
    assert [(one.launches, one.decided, one.confirming, one.cases) for one in world.progress] == [
        *((launch, 0, 0, 2) for launch in range(1, FIRST)),
        *((launch, 1, 1, 2) for launch in range(FIRST, FIRST + 5 + PLAIN)),
        (FIRST + 5 + PLAIN, 2, 0, 2),
    ]


def test_seconds_left_are_those_to_the_analysis_that_decides_most_cases(world):
    world.case(both={"spread": 0.0})
    world.run()
    control = 2 * (3 + MIN_PAIRS) * 0.004
    launch = 2 * (5 + MIN_PAIRS) * 0.010 + control
    left = [one.seconds_left for one in world.progress]
    assert left == pytest.approx([more * launch for more in (4, 3, 2, 1, 0)], rel=0.01, abs=1e-9)


def test_seconds_left_of_a_case_that_ran_apart_count_its_own_launches(world):
    world.case(both={"spread": 0.0}, base={"exhausted": together("case")})
    world.run()
    assert world.progress[1].seconds_left == pytest.approx(4 * 2 * (5 + MIN_PAIRS) * 0.010, rel=0.05)


def test_seconds_left_of_a_case_that_is_still_open_are_those_to_the_next_analysis(world):
    """Of one in its confirmation, too."""
    world.case(candidate={"seconds": 0.0105}, both={"spread": 0.0})
    world.run()
    left = [one.seconds_left for one in world.progress]
    assert left[FIRST - 1] > 4 * left[-2] > 0
    assert left[-1] == 0


# Counters only


def test_counters_take_one_launch_without_blocks(world):
    world.case()
    world.case(OTHER, candidate={"difference": "values differ"})
    found = world.run(counters_only=True)
    assert (found.launches, found.control, found.interrupted) == (1, [], False)
    assert [trial.stage for trial in found.trials] == [Stage.DONE] * 2
    assert [trial.output_difference for trial in found.trials] == [None, "values differ"]
    assert all(set(phases(trial)) == {"setup", "call", "teardown"} for trial in found.trials)
    (base,), (candidate,) = world.of("base"), world.of("candidate")
    assert commands(base) == [*["case", "count", "keep", "finish"] * 2, "modules"]
    assert commands(candidate) == [*["case", "count", "compare", "finish"] * 2, "modules"]


def test_counters_of_sides_that_do_not_fit_together(world):
    world.case(candidate={"exhausted": together("count")})
    found = world.run(counters_only=True)
    (trial,) = found.trials
    assert (trial.separate, found.launches, found.control) == (True, 2, [])
    assert (trial.stage, trial.infeasible, trial.no_base, trial.invalid) == (Stage.DONE, None, None, None)
    assert phases(trial) == ["setup", "call", "teardown"]
    assert not {"block", "warm"} & {do for worker in world.workers for do in commands(worker)}


def test_counters_of_a_case_without_a_base(world):
    world.case()
    del world.cases["base", CASE]
    trial = world.alone(counters_only=True)
    assert trial.no_base is not None
    (candidate,) = world.of("candidate")
    assert commands(candidate) == ["case", "count", "finish"]
