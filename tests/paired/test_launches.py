"""The run of all cases, with workers that are scripted and a clock that they move."""

import math
import random
from itertools import groupby

import pytest

from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.gate import paired
from pytest_infergate.core.gate.paired import PairedTerms, Stage
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import launches
from pytest_infergate.paired.alternation import MIN_PAIRS
from pytest_infergate.paired.launches import LaunchTerms, PairedLaunches
from pytest_infergate.paired.trial import TrialSpec, decision
from pytest_infergate.paired.worker_process import UnexpectedMessageError, WorkerLostError

CASE = "test_a.py::test_one"
OTHER = "test_b.py::test_two"
FIRST = paired.MIN_LAUNCHES_UNPOOLED
"""Launches after which a calm case is decided that has few others beside it."""
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
    "invalid": None,
    "exhausted": None,
    "strays": None,
    "lost": None,
    "killed": False,
    "interrupt": None,
}
"""A case on one side. `exhausted`, `strays`, `lost` and `interrupt` name the command at which it happens. A
value may be a function of the worker."""


class World:
    """Everything outside of the session: time, chance, processes and what their cases do."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 1000.0
        self.chance = random.Random(7)
        self.workers = []
        self.cases = {}
        self.collected = {}
        self.errors = {"base": {}, "candidate": {}}
        self.greets = {}
        self.kept = {}
        self.user_specified = []
        self.checked = []
        self.begun = []
        self.most_workers = 400

    def monotonic(self):
        return self.now

    def case(self, nodeid=CASE, *, base=None, candidate=None, both=None, **wanted):
        """Add a case that is the same on both sides but for what is said."""
        sides = {"base": base or {}, "candidate": candidate or {}}
        for side, script in sides.items():
            self.cases[side, nodeid] = {**SCRIPT, **(both or {}), **script}
        self.collected[nodeid] = TrialSpec(nodeid, **wanted)

    def start(self, side, seed):
        assert len(self.workers) < self.most_workers, "it never ends"
        self.workers.append(Fake(self, side, seed))
        return self.workers[-1]

    def session(self, **terms):
        def check(base, candidate):
            self.checked.append((base["side"], candidate["side"], len(self.user_specified)))

        terms = LaunchTerms(folder=self.folder, **{"seed": 3, **terms})
        cases = list(self.collected.values())
        return PairedLaunches(self.start, cases, terms, check=check, tell=self.user_specified.append)

    def run(self, **terms):
        try:
            return self.session(**terms).run()
        finally:
            assert all(worker.ended for worker in self.workers)

    def alone(self, **terms):
        """Run; the one case that there is."""
        (trial,) = self.run(**terms).trials
        return trial

    def of(self, side):
        return [worker for worker in self.workers if worker.side == side]

    def neighbours(self, worker):
        return [one for one in self.workers if one is not worker and not one.ended and not one.gone]


class Fake:
    """A worker that obeys as the real one does, and insists on being awake."""

    def __init__(self, world, side, seed):
        self.world = world
        self.side = side
        self.seed = seed
        self.launch = 1 + len(world.of(side))
        self.drift = math.exp(world.chance.gauss(0, 0.002))
        self.left = self.ended = self.gone = self.stopped = False
        self.nodeid = None
        self.control = False
        self.user_specified = []
        self.unread = []
        self.said = []
        self.counted = False
        self.blocks = 0

    # What the session calls

    def handshake(self):
        greets = self.world.greets.get(self.side)
        error = greets(self) if greets else None
        if error is not None:
            self.gone = True
            raise error
        side = "base" if self.side == "twin" else self.side
        errors = self.world.errors[side]
        nodeids = [nodeid for name, nodeid in self.world.cases if name == side]
        nodeids = [nodeid for nodeid in nodeids if nodeid.partition("::")[0] not in errors]
        return {"is": "collected", "nodeids": nodeids, "errors": errors}

    def send(self, message):
        assert not self.ended
        if self.gone:
            raise self._lost()
        self.user_specified.append(message)
        if message["do"] == "case":
            self.world.begun.append(self.side)
        if self.stopped:
            self.unread.append(message)
        else:
            self._obey(message)

    def receive(self):
        if self.said:
            return self.said.pop(0)
        if self.gone:
            raise self._lost()
        raise AssertionError(f"{self.side} {'sleeps' if self.stopped else 'was asked nothing'}")

    def ask(self, message, kind, seconds=600.0):
        self.send(message)
        answer = self.receive()
        if answer["is"] != kind:
            raise UnexpectedMessageError(self, answer)
        return answer

    def timed_block(self, calls):
        self.resume()
        answer = self.ask({"do": "turn", "calls": calls}, "turn")
        self.suspend()
        return answer["seconds"]

    def gpu_states(self):
        return ()

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
        side = "base" if self.side == "twin" else self.side
        value = self.world.cases[side, self.nodeid][key]
        return value(self) if callable(value) else value

    def _lost(self):
        killed = self.nodeid is not None and self._script("killed")
        how = "was killed by SIGKILL" if killed else "ended with exit code 3"
        return WorkerLostError(self.side, f"the process of the {self.side} {how}", killed=killed)

    def _obey(self, message):
        do = message["do"]
        if not self.measuring:
            if do == "case":
                self._begin(message["nodeid"])
            elif do == "control":
                self.control = True
                self._say("ready", seconds=0.004)
            else:
                self._say("loaded", side=self.side)
            return
        if do in ("warm", "turn"):
            assert all(one.stopped for one in self.world.neighbours(self) if one.measuring)
        if self.control:
            self._timed(do, 0.004, 3) if do != "finish" else self._finish_control()
            return
        if not self._breaks(do):
            getattr(self, f"_{do}")(message)

    def _say(self, kind, **words):
        self.said.append({"is": kind, **words})

    def _breaks(self, do):
        """Whether a command ends the test, or the process."""
        if self._script("interrupt") == do:
            raise KeyboardInterrupt
        if self._script("lost") == do:
            self.gone = True
            return True
        if self._script("exhausted") == do:
            self._say("exhausted", note={"code": "out-of-memory", "text": f"{self.side} ran out"})
            self._end_test(self._script("call"))
            return True
        if self._script("strays") == do:
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
                self._say("invalid", note={"code": "lazy", "text": self._script("invalid")})
                self._end_test("passed")
            elif not self._script("reaches"):
                self._end_test(self._script("call"))
            else:
                self._say("ready", seconds=0.1)

    def _report(self, when, outcome, words=""):
        words = words or ("" if outcome == "passed" else f"{outcome} it was")
        data = {"when": when, "launch": self.launch}
        self._say("report", when=when, outcome=outcome, words=words, data=data)

    def _end_test(self, outcome, words=""):
        self._report("call", outcome, words)
        self._report("teardown", self._script("teardown"))
        self._over()

    def _over(self):
        self._say("done")
        self.nodeid = None

    def _timed(self, do, seconds, calls):
        calls = calls if do == "warm" else 1
        self.world.now += seconds * calls
        self._say(do, seconds=seconds, calls=calls)

    def _finish_control(self):
        self._say("finished", measurement=None)
        self._say("done")
        self.control = False

    def _count(self, _):
        self.counted = True
        self.world.now += self._script("count_seconds")
        self._say("counted")

    def _keep(self, message):
        self.world.kept[message["path"]] = self.nodeid
        self._say("kept")

    def _compare(self, message):
        if self.world.kept.get(message["path"]) != self.nodeid:
            self._end_test("failed", "FileNotFoundError: output")
        else:
            self._say("compared", difference=self._script("difference"))

    def _warm(self, message):
        calls = message["calls"] or self._script("warm_calls")
        seconds = self._script("seconds")
        self.world.now += seconds * calls
        self._say("warm", seconds=seconds, calls=calls)

    def _timed_block(self, message):
        noise = math.exp(self.world.chance.gauss(0, self._script("spread")))
        seconds = self._script("seconds") * self.drift * noise
        self.blocks += 1
        self.world.now += seconds * message["calls"]
        self._say("turn", seconds=seconds)

    def _finish(self, _):
        figure = {"launch": self.launch, "counted": self.counted, "turns": self.blocks}
        self._say("finished", measurement=figure if self.blocks else None)
        self._end_test(self._script("call"))


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.setattr(launches, "time", world)
    return world


def verdict(trial, confirming=0):
    return decision(trial, confirming).verdict


def phases(trial):
    return [report["data"]["when"] for report in trial.reports]


def in_launch(number, value):
    """A script's value in one launch only."""
    return lambda worker: value if worker.launch == number else None


def from_launch(number, value):
    return lambda worker: value if worker.launch >= number else None


def together(at):
    """Memory that is enough for one process, not for two."""
    return lambda worker: at if worker.world.neighbours(worker) else None


def cases_of(worker):
    return [message["nodeid"] for message in worker.user_specified if message["do"] == "case"]


def commands(worker):
    """What it was told, repetitions left out."""
    return [do for do, _ in groupby(message["do"] for message in worker.user_specified)]


# Verdicts


def test_identical_code_is_equivalent_at_the_first_look(world):
    world.case()
    found = world.run()
    (trial,) = found.trials
    assert (trial.stage, verdict(trial)) == (Stage.DONE, Verdict.EQUIVALENT)
    assert (len(trial.screen), len(trial.confirm)) == (FIRST, 0)
    assert (found.launches, found.confirming, found.interrupted) == (FIRST, 0, False)
    assert not trial.waiting
    assert (trial.no_base, trial.mismatch, trial.invalid, trial.stopped, trial.lost) == (None,) * 5


def test_a_slowdown_is_confirmed_in_launches_of_its_own(world):
    world.case(candidate={"seconds": 0.0105})
    found = world.run()
    (trial,) = found.trials
    assert (trial.stage, verdict(trial, 1)) == (Stage.DONE, Verdict.REGRESSED)
    assert (len(trial.screen), len(trial.confirm)) == (FIRST, 5)
    assert (found.launches, found.confirming) == (FIRST + 5, 1)


def test_a_speedup_needs_no_confirmation(world):
    world.case(candidate={"seconds": 0.005})
    found = world.run()
    (trial,) = found.trials
    assert verdict(trial) is Verdict.IMPROVED
    assert (found.launches, found.confirming, trial.confirm) == (FIRST, 0, [])


def test_a_tolerance_is_that_of_the_case(world):
    world.case(candidate={"seconds": 0.0105}, plan=PairedTerms(tolerance=0.10))
    trial = world.alone()
    assert verdict(trial) is Verdict.SLOWER_WITHIN_TOLERANCE


def test_cases_learn_from_each_other_how_launches_differ(world):
    unsteady = {"seconds": lambda worker: 0.010 * math.exp(worker.world.chance.gauss(0, 0.05))}
    for index in range(8):
        world.case(f"test_{index}.py::test_it", both=unsteady)
    trials = world.run().trials
    first = paired.SCREEN_ANALYSES[0]
    assert all(trial.others[first].degrees == 7 * (first - 1) for trial in trials)
    soon = [trial for trial in trials if trial.launches == first]
    differences = [[launch.difference for launch in trial.screen] for trial in soon]
    assert Stage.SCREEN in {paired.decide(each, (), PairedTerms()).stage for each in differences}
    assert {verdict(trial) for trial in soon} <= {Verdict.EQUIVALENT, Verdict.IMPROVED}


def test_decided_cases_leave_the_others_alone(world):
    world.case()
    world.case(OTHER, candidate={"seconds": 0.0105})
    found = world.run()
    assert [trial.launches for trial in found.trials] == [FIRST, FIRST + 5]
    assert [set(cases_of(worker)) for worker in world.of("base")] == [{CASE, OTHER}] * FIRST + [{OTHER}] * 5


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


# What the workers are told


def test_a_launch_goes_by_these_steps(world):
    world.case()
    world.run()
    first, second = world.of("base")[:2], world.of("candidate")[:2]
    start = ["control", "warm", "turn", "finish", "case"]
    assert commands(first[0]) == [*start, "count", "keep", "warm", "turn", "finish", "loaded"]
    assert commands(second[0]) == [*start, "count", "compare", "warm", "turn", "finish", "loaded"]
    assert commands(first[1]) == commands(second[1]) == [*start, "warm", "turn", "finish"]


def test_turns_are_the_same_in_every_launch(world):
    world.case(both={"seconds": lambda worker: 1e-4 * worker.launch, "warm_calls": lambda w: 10 * w.launch})
    world.run()
    for worker in world.workers:
        at = next(index for index, message in enumerate(worker.user_specified) if message["do"] == "case")
        told = worker.user_specified[at:]
        assert {message["calls"] for message in told if message["do"] == "turn"} == {50}
        warms = [message["calls"] for message in told if message["do"] == "warm"]
        assert warms in ([10], [None])
        assert worker.launch == 1 or warms == [10]
    assert sorted(str(warm) for worker in world.workers[:2] for warm in warmed(worker)) == ["10", "None"]


def warmed(worker):
    at = next(index for index, message in enumerate(worker.user_specified) if message["do"] == "case")
    return [message["calls"] for message in worker.user_specified[at:] if message["do"] == "warm"]


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
    assert {worker.side for worker in world.workers[::2]} == {"base", "candidate"}
    assert set(world.begun[::2]) == {"base", "candidate"}


def test_a_seed_makes_a_run_again(tmp_path, monkeypatch):
    def found(seed):
        world = World(tmp_path)
        monkeypatch.setattr(launches, "time", world)
        world.case()
        world.case(OTHER)
        world.run(seed=seed)
        return [(worker.side, worker.seed, cases_of(worker)) for worker in world.workers]

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


def test_each_case_is_told_with_the_one_that_follows(world):
    for index in range(3):
        world.case(f"test_{index}.py::test_it")
    world.run()
    for worker in world.workers:
        told = [message for message in worker.user_specified if message["do"] == "case"]
        order = [message["nodeid"] for message in told]
        assert [message["next"] for message in told] == [*order[1:], None]


# Outputs and figures


def test_outputs_that_differ_are_told(world):
    world.case(candidate={"difference": "values differ"}, parity=0.5)
    trial = world.alone()
    assert trial.mismatch == "values differ"
    assert trial.launches == FIRST
    (told,) = [
        message for worker in world.workers for message in worker.user_specified if message["do"] == "compare"
    ]
    assert told == {"do": "compare", "path": str(world.folder / "output"), "tolerance": 0.5}


def test_outputs_need_not_be_compared(world):
    world.case(candidate={"difference": "values differ"}, compared=False)
    trial = world.alone()
    assert trial.mismatch is None
    assert not {"keep", "compare"} & {do for worker in world.workers for do in commands(worker)}


def test_figures_are_those_of_the_launch_that_counted(world):
    world.case()
    trial = world.alone()
    figure = {"launch": 1, "counted": True, "turns": MIN_PAIRS}
    assert trial.figures == {"base": figure, "candidate": figure}


def test_reports_are_those_of_all_phases(world):
    world.case()
    trial = world.alone()
    assert phases(trial) == ["setup", "call", "teardown"]
    assert {report["outcome"] for report in trial.reports} == {"passed"}
    assert len({report["data"]["launch"] for report in trial.reports}) == 1


# A candidate whose test goes wrong


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_candidate_that_does_not_pass_is_left_alone(world, phase, outcome):
    world.case(candidate={phase: outcome})
    found = world.run()
    (trial,) = found.trials
    assert trial.failed
    assert not trial.waiting
    assert found.launches == 1
    assert {r["data"]["when"]: r["outcome"] for r in trial.reports}[phase] == outcome


def test_a_candidate_that_fails_later_keeps_the_reports_of_that_launch(world):
    world.case(candidate={"call": lambda worker: "failed" if worker.launch == 3 else "passed"})
    trial = world.alone()
    assert [(r["data"]["when"], r["outcome"], r["data"]["launch"]) for r in trial.reports] == [
        ("setup", "passed", 3),
        ("call", "failed", 3),
        ("teardown", "passed", 3),
    ]
    assert trial.figures["candidate"]["launch"] == 1


@pytest.mark.parametrize("at", ["count", "warm", "turn"])
def test_a_model_that_fails_among_commands_is_followed_to_the_end_of_its_test(world, at):
    world.case(candidate={"strays": at})
    world.case(OTHER)
    failed, other = world.run().trials
    assert failed.failed
    assert (phases(failed), failed.no_base, failed.launches) == (["setup", "call", "teardown"], None, 0)
    assert (verdict(other), other.launches) == (Verdict.EQUIVALENT, FIRST)


def test_both_models_may_fail_at_once(world):
    world.case(both={"strays": "count"})
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
    assert (trial.launches, trial.waiting, trial.mismatch) == (0, False, None)
    assert phases(trial) == ["setup", "call", "teardown"]
    return trial


def test_a_case_that_the_base_lacks_is_timed_alone(world):
    world.case()
    world.case(OTHER)
    del world.cases["base", CASE]
    trial, other = world.run().trials
    assert trial.no_base.code == "new-case"
    assert trial.figures["candidate"] == {"launch": 1, "counted": True, "turns": MIN_PAIRS}
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
        assert trial.figures["candidate"]["turns"] == MIN_PAIRS


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_test_that_fails_on_the_base_says_how(world, phase):
    world.case(base={phase: "failed"})
    trial = world.alone()
    assert (trial.no_base.code, trial.failed) == ("base-failed", False)
    assert "failed it was" in trial.no_base.text
    assert trial.figures["candidate"]["turns"] == MIN_PAIRS
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_test_that_is_skipped_on_the_base(world):
    trial = without_base(world, base={"setup": "skipped"})
    assert "skipped it was" in trial.no_base.text


def test_a_base_that_does_not_reach_infer(world):
    trial = without_base(world, base={"reaches": False})
    assert trial.no_base.code == "base-ended"
    assert trial.figures["candidate"]["counted"]


def test_a_base_that_may_not_be_timed(world):
    trial = without_base(world, base={"invalid": "a coroutine"})
    assert (trial.no_base.code, trial.no_base.text, trial.invalid) == ("lazy", "a coroutine", None)


@pytest.mark.parametrize("at", ["count", "warm", "turn"])
def test_a_base_whose_model_fails_among_commands(world, at):
    trial = without_base(world, base={"strays": at})
    assert trial.no_base.code == "base-failed"
    assert "ValueError: no" in trial.no_base.text


def test_a_base_that_cannot_even_collect_leaves_the_candidate_alone(world):
    world.case()
    world.case(OTHER)
    world.greets["base"] = lambda worker: WorkerLostError("base", "the process of the base ended: E")
    found = world.run()
    for trial in found.trials:
        assert (trial.no_base.code, trial.no_base.text) == (
            "base-unusable",
            "the process of the base ended: E",
        )
        assert trial.figures == {"candidate": {"launch": 1, "counted": True, "turns": MIN_PAIRS}}
        assert phases(trial) == ["setup", "call", "teardown"]
    assert (found.launches, found.control, world.checked) == (1, [], [])
    assert len(world.workers) == 2


@pytest.mark.parametrize("why", ["fails", "invalid", "exhausted"])
def test_a_candidate_alone_may_go_wrong_too(world, why):
    script = {
        "fails": {"strays": "turn"},
        "invalid": {"invalid": "lazy"},
        "exhausted": {"exhausted": "turn"},
    }[why]
    world.case(candidate=script)
    del world.cases["base", CASE]
    trial = world.alone()
    assert trial.no_base.code == "new-case"
    assert (trial.failed, bool(trial.invalid), bool(trial.exhausted)) == (
        why == "fails",
        why == "invalid",
        why == "exhausted",
    )


# Processes that die


@pytest.mark.parametrize("at", ["case", "count", "warm", "turn"])
def test_a_lost_candidate_costs_its_own_case(world, at):
    world.case(candidate={"lost": at})
    world.case(OTHER)
    lost, other = world.run().trials
    assert (lost.lost.code, lost.waiting, lost.reports) == ("process-lost", False, [])
    assert "exit code 3" in lost.lost.text
    assert (verdict(other), other.launches, other.lost) == (Verdict.EQUIVALENT, FIRST, None)


@pytest.mark.parametrize("at", ["case", "count", "warm", "turn"])
def test_a_lost_base_leaves_the_candidate_to_be_run_again(world, at):
    world.case(base={"lost": at})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.no_base.code, trial.lost, trial.waiting) == ("base-lost", None, False)
    assert phases(trial) == ["setup", "call", "teardown"]
    assert trial.figures["candidate"]["turns"] == MIN_PAIRS
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
        world.case(f"test_{index}.py::test_it", candidate={"lost": "turn"} if index == 2 else {})
    found = world.run()
    assert [trial.launches for trial in found.trials] == [FIRST, FIRST, 0, FIRST]
    assert found.launches == FIRST
    first = world.of("candidate")[:2]
    ran = [*cases_of(first[0]), *cases_of(first[1])]
    assert sorted(ran) == sorted(trial.wanted.nodeid for trial in found.trials)
    assert cases_of(first[0])[-1] == "test_2.py::test_it"


def test_a_case_whose_id_is_new_in_each_process_fails_and_no_other(world, snapshot):
    world.case()
    world.case(OTHER)
    del world.cases["candidate", CASE]
    fickle, good = world.run().trials
    assert fickle.lost.code == "unstable-id"
    assert str(fickle.lost) == snapshot
    assert verdict(good) is Verdict.EQUIVALENT
    assert all(cases_of(worker) == [OTHER] for worker in world.workers)


def test_a_candidate_that_dies_without_a_base_ends_there(world):
    world.case(candidate={"lost": "count"})
    del world.cases["base", CASE]
    trial = world.alone()
    assert (trial.no_base.code, trial.lost.code) == ("new-case", "process-lost")
    assert len(world.workers) == 2


def test_a_case_that_kills_either_side_ends_there(world):
    world.case(both={"lost": "turn"})
    world.case(OTHER)
    trial, other = world.run().trials
    assert trial.lost.code == "process-lost"
    assert verdict(other) is Verdict.EQUIVALENT


def test_a_base_lost_in_a_later_launch_leaves_reports_of_all_phases(world):
    world.case(base={"lost": in_launch(3, "turn")})
    trial = world.alone()
    assert (trial.no_base.code, trial.launches) == ("base-lost", 2)
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_candidate_lost_in_a_later_launch(world):
    world.case(candidate={"lost": in_launch(3, "turn")})
    trial = world.alone()
    assert (trial.lost.code, trial.launches, trial.waiting) == ("process-lost", 2, False)


def test_a_candidate_that_cannot_be_started_ends_the_run(world):
    world.case()
    world.greets["candidate"] = lambda worker: WorkerLostError("candidate", "it ended: E")
    with pytest.raises(WorkerLostError, match="it ended: E"):
        world.run()
    assert len(world.workers) == 2


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_an_interpreter_without_the_plugin_ends_the_run(world, side):
    world.case()
    world.greets[side] = lambda worker: ConfigurationError("install it")
    with pytest.raises(ConfigurationError, match="install it"):
        world.run()
    assert len(world.workers) == 2


def test_a_second_worker_that_cannot_be_started_ends_the_first(world):
    world.case()
    begun = world.start

    def start(side, seed):
        if world.workers:
            raise ConfigurationError("no such interpreter")
        return begun(side, seed)

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

    def start(side, seed):
        worker = begun(side, seed)
        if len(world.workers) == 1:
            worker.end = end
        return worker

    world.start = start
    world.run()


# Memory


@pytest.mark.parametrize("side", ["base", "candidate"])
@pytest.mark.parametrize("at", ["case", "count", "warm", "turn"])
def test_models_that_do_not_fit_together_run_one_after_the_other(world, side, at):
    world.case(**{side: {"exhausted": together(at)}})
    found = world.run()
    (trial,) = found.trials
    assert trial.apart
    assert (trial.stage, verdict(trial)) == (Stage.DONE, Verdict.EQUIVALENT)
    assert (trial.launches, found.launches) == (FIRST, FIRST + 1)
    assert (trial.exhausted, trial.no_base, trial.lost, trial.invalid) == (None,) * 4
    assert phases(trial) == ["setup", "call", "teardown"]
    assert len(trial.screen[0].base) == len(trial.screen[0].candidate) == MIN_PAIRS
    assert len(found.control) == 1


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
    world.case(**{side: {"lost": together("turn"), "killed": True}})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.apart, verdict(trial), trial.launches) == (True, Verdict.EQUIVALENT, FIRST)
    assert (other.apart, verdict(other)) == (False, Verdict.EQUIVALENT)
    assert (trial.no_base, trial.lost) == (None, None)


def test_apart_is_one_process_at_a_time_with_seeds_of_their_pair(world):
    world.case(candidate={"exhausted": together("case")})
    world.run()
    alone = world.workers[2:]
    assert [worker.side for worker in alone] == ["base", "candidate"] * FIRST
    assert all(one.seed == two.seed for one, two in zip(alone[::2], alone[1::2], strict=True))
    assert len({worker.seed for worker in alone}) == FIRST


def test_figures_of_a_case_apart_are_those_of_the_launch_that_counted(world):
    world.case(candidate={"exhausted": together("case")})
    trial = world.alone()
    assert [trial.figures[side]["counted"] for side in ("base", "candidate")] == [True, True]


def test_outputs_are_compared_apart_too(world):
    world.case(candidate={"exhausted": together("case"), "difference": "values differ"})
    assert world.alone().mismatch == "values differ"


def test_a_slowdown_is_found_apart_too(world):
    world.case(candidate={"exhausted": together("case"), "seconds": 0.0105})
    found = world.run()
    assert verdict(found.trials[0], found.confirming) is Verdict.REGRESSED
    assert found.launches == 1 + FIRST + 5


def test_a_candidate_that_runs_out_alone_is_exhausted(world):
    world.case(candidate={"exhausted": "count"})
    world.case(OTHER)
    trial, other = world.run().trials
    assert (trial.apart, trial.exhausted.text, trial.no_base) == (True, "candidate ran out", None)
    assert (trial.waiting, trial.launches) == (False, 0)
    assert verdict(other) is Verdict.EQUIVALENT


@pytest.mark.parametrize("at", ["case", "count"])
def test_a_base_that_runs_out_alone_is_no_base(world, at):
    world.case(base={"exhausted": at})
    trial = world.alone()
    assert (trial.no_base.text, trial.exhausted, trial.failed) == ("base ran out", None, False)
    assert phases(trial) == ["setup", "call", "teardown"]
    assert trial.figures["candidate"]["turns"] > 0


def test_a_base_killed_even_alone_is_no_base(world):
    world.case(base={"lost": "count", "killed": True})
    trial = world.alone()
    assert (trial.no_base.code, trial.lost, trial.failed) == ("base-lost", None, False)
    assert phases(trial) == ["setup", "call", "teardown"]


def test_a_candidate_killed_even_alone_is_lost(world):
    world.case(candidate={"lost": "count", "killed": True})
    trial = world.alone()
    assert (trial.lost.code, trial.no_base, trial.apart) == ("process-lost", None, True)


def test_both_sides_may_be_killed_even_alone(world):
    world.case(both={"lost": "turn", "killed": True})
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
    world.case(base={"exhausted": together("case")}, candidate={"strays": "turn"})
    trial = world.alone()
    assert trial.apart
    assert trial.failed
    assert phases(trial) == ["setup", "call", "teardown"]


def test_running_out_later_goes_on_apart(world):
    def later(worker):
        return "turn" if worker.launch == 3 and worker.world.neighbours(worker) else None

    world.case(candidate={"exhausted": later})
    trial = world.alone()
    assert (trial.apart, verdict(trial), trial.launches) == (True, Verdict.EQUIVALENT, FIRST)
    assert trial.figures["candidate"]["launch"] == 1


def test_running_out_in_the_second_launch_keeps_the_figures_of_the_first(world):
    world.case(candidate={"exhausted": in_launch(2, "warm")})
    trial = world.alone()
    assert trial.apart
    assert [trial.figures[side]["counted"] for side in ("base", "candidate")] == [True, True]


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
    cures = {trial.stopped.hint for trial in world.run(max_seconds=1.0).trials}
    assert len(cures) == 1
    assert next(iter(cures)).endswith("more would reach the next look")


def test_what_is_decided_needs_no_more_time(world):
    world.case()
    trial = world.alone(max_seconds=4.6)
    assert (trial.stage, trial.stopped) == (Stage.DONE, None)


# An interrupt


def test_an_interrupt_keeps_what_is_decided(world):
    world.case()
    world.case(OTHER, candidate={"seconds": 0.0105, "interrupt": in_launch(7, "turn")})
    found = world.run()
    done, open_ = found.trials
    assert found.interrupted
    assert (verdict(done), done.waiting) == (Verdict.EQUIVALENT, False)
    assert (open_.waiting, open_.stage, open_.launches) == (True, Stage.CONFIRM, 6)
    assert found.launches == 7


@pytest.mark.parametrize("at", ["case", "count", "warm", "turn", "finish"])
@pytest.mark.parametrize("side", ["base", "candidate"])
def test_an_interrupt_may_come_at_any_time(world, side, at):
    world.case(**{side: {"interrupt": at}})
    found = world.run()
    assert (found.interrupted, found.launches, len(found.trials)) == (True, 1, 1)


def test_an_interrupt_apart(world):
    world.case(base={"exhausted": together("case"), "interrupt": in_launch(3, "turn")})
    found = world.run()
    assert (found.interrupted, found.trials[0].launches) == (True, 1)


def test_an_interrupt_while_workers_start(world):
    world.case()
    world.greets["base"] = lambda worker: KeyboardInterrupt()
    assert world.run().interrupted


# The control and the check


def test_each_launch_has_a_control(world):
    world.case()
    found = world.run()
    assert len(found.control) == FIRST
    for launch in found.control:
        assert launch.difference == pytest.approx(0.0)
        assert len(launch.base) == len(launch.candidate) == MIN_PAIRS
    assert paired.control_moved(found.control) is None


def test_each_pair_has_a_control(world):
    world.case(candidate={"lost": "turn"})
    world.case(OTHER)
    world.case("test_c.py::test_three")
    found = world.run()
    assert len(found.control) == len(world.of("base"))


def test_a_twin_of_the_base_stands_in_where_interpreters_differ(world):
    world.case()
    found = world.run(control_worker=True)
    assert len(found.control) == FIRST
    assert len(world.of("twin")) == FIRST
    assert [worker.seed for worker in world.of("twin")] == [worker.seed for worker in world.of("base")]
    for worker in world.of("twin"):
        assert commands(worker) == ["control", "warm", "turn", "finish"]
    assert not any("control" in commands(worker) for worker in world.of("candidate"))
    assert all("control" in commands(worker) for worker in world.of("base"))
    assert verdict(found.trials[0]) is Verdict.EQUIVALENT


def test_a_twin_that_cannot_be_started_ends_the_run(world):
    world.case()
    world.greets["twin"] = lambda worker: ConfigurationError("no")
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

    run = PairedLaunches(world.start, [TrialSpec(CASE)], LaunchTerms(folder=world.folder), check=check)
    with pytest.raises(ConfigurationError, match="the same code"):
        run.run()
    assert len(world.workers) == 2
    assert all(worker.ended for worker in world.workers)


@pytest.mark.parametrize("seed", range(4))
def test_loaded_files_are_checked_though_a_process_is_lost_in_the_first_launch(world, seed):
    world.case(candidate={"lost": "turn"})
    world.case(OTHER)
    world.run(seed=seed)
    assert len(world.checked) == 1


def test_loaded_files_are_checked_though_models_run_apart(world):
    world.case(candidate={"exhausted": together("case")})
    world.run()
    assert world.checked == [("base", "candidate", 0)]


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_loaded_files_are_checked_though_no_pair_lives_long(world, side):
    world.case(**{side: {"lost": together("turn"), "killed": True}})
    assert verdict(world.alone()) is Verdict.EQUIVALENT
    assert len(world.checked) == 1


# Progress


def test_progress_counts_launches_and_cases(world):
    world.case()
    world.case(OTHER, candidate={"seconds": 0.0105})
    world.run()
    assert [(told.launches, told.decided, told.confirming, told.cases) for told in world.user_specified] == [
        *((launch, 0, 0, 2) for launch in range(1, FIRST)),
        *((launch, 1, 1, 2) for launch in range(FIRST, FIRST + 5)),
        (FIRST + 5, 2, 0, 2),
    ]


def test_seconds_left_are_those_to_the_next_look(world):
    world.case(both={"spread": 0.0})
    world.run()
    control = 2 * (3 + MIN_PAIRS) * 0.004
    launch = 2 * (5 + MIN_PAIRS) * 0.010 + control
    left = [told.seconds_left for told in world.user_specified]
    assert left == pytest.approx([more * launch for more in (2, 1, 2, 1, 0)], rel=0.01, abs=1e-9)


def test_seconds_left_of_a_case_that_ran_apart_count_its_own_launches(world):
    world.case(both={"spread": 0.0}, base={"exhausted": together("case")})
    world.run()
    assert world.user_specified[1].seconds_left == pytest.approx(2 * 2 * (5 + MIN_PAIRS) * 0.010, rel=0.05)
