"""From the state of a trial to an outcome, with a run that only names things."""

import dataclasses
from types import SimpleNamespace

import pytest
from core_values import counted, measurement

from pytest_infergate.config.case_terms import CaseTerms
from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.outcome import Budget, Outcome, Policy, Verdict
from pytest_infergate.core.domain.values import Case, Environment, Hardware, Note
from pytest_infergate.core.gate import paired_times
from pytest_infergate.paired.protocol import PhaseReported
from pytest_infergate.paired.trial import Trial, TrialSpec
from pytest_infergate.paired.verdicts import Judge

CASE = Case(test="t.py::test_a", device="cpu")
TERMS = CaseTerms(
    budgets={"p50_ms": 1e-9}, tolerance={}, gate=None, max_time=60.0, demand=None, unit=None, parity=None,
    compare_outputs=True,
)  # fmt: skip
HARDWARE = Hardware(cpu_model="one", cores=2)
NOTE = Note(code="any", text="why")
EQUAL = Launch(base=(0.01,) * 20, candidate=(0.01,) * 20)
SLOWER = Launch(base=(0.01,) * 20, candidate=(0.011,) * 20)


def report(outcome, when="call"):
    return PhaseReported(when=when, outcome=outcome, serialised="")


def judged(trial, control=None, accepted=None, *, counters_only=False, terms=TERMS, against_runtime=None):
    run = SimpleNamespace(
        devices=SimpleNamespace(open=lambda _: SimpleNamespace(hardware=lambda: HARDWARE)),
        policy=Policy(),
        environment=Environment(),
        settings=SimpleNamespace(counters_only=counters_only, against_runtime=against_runtime),
    )
    case = SimpleNamespace(case=CASE, nodeid=trial.spec.nodeid, terms=terms)
    found = Judge(run, 1, control).judge(case, trial, accepted)
    return found.result, found.verdict


@pytest.fixture
def trial():
    """A case with equal times on both sides, which passed."""
    trial = Trial(TrialSpec("t.py::test_a[cpu]"))
    trial.reports = [report("passed", when) for when in ("setup", "call", "teardown")]
    trial.measurements = {"base": measurement(), "candidate": measurement()}
    trial.screen = [EQUAL] * paired_times.MIN_LAUNCHES_UNPOOLED
    return trial


def test_equal_sides_are_equivalent_and_times_meet_no_budget(trial):
    result, verdict = judged(trial)
    assert (result.outcome, result.hardware, result.budgets) == (Outcome.MEASURED, HARDWARE, ())
    assert result.measurement is trial.measurements["candidate"]
    assert (verdict.verdict, verdict.failed) == (Verdict.EQUIVALENT, False)


def test_a_load_is_left_out_with_a_note(trial):
    loaded = dataclasses.replace(TERMS, load=Load(scenario="offline"))
    assert "load-not-measured" in [note.code for note in judged(trial, terms=loaded)[1].notes]
    assert judged(trial, terms=loaded.unserved())[1].notes == judged(trial)[1].notes


def test_accuracy_is_left_out_with_a_note(trial):
    terms = dataclasses.replace(TERMS, accuracy=len)
    (note,) = judged(trial, terms=terms)[1].notes
    assert note.text == "accuracy=len was not called: a paired run compares outputs"
    trial.infeasible = NOTE
    assert [note.code for note in judged(trial, terms=terms)[1].notes] == ["any"]


@pytest.mark.parametrize(("runtime", "verdict"), [(None, Verdict.REGRESSED), ("compile", Verdict.INFEASIBLE)])
def test_a_candidate_that_cannot_be_converted_has_become_worse_than_a_base_that_can(trial, runtime, verdict):
    trial.infeasible = NOTE
    trial.screen, trial.measurements = [], {"base": measurement()}
    assert judged(trial, against_runtime=runtime)[1].verdict is verdict
    trial.no_base, trial.measurements = NOTE, {}
    assert judged(trial)[1].verdict is Verdict.INFEASIBLE


def test_a_confirmed_slowdown_fails_and_may_be_accepted(trial):
    trial.screen, trial.confirm = [SLOWER] * 5, [SLOWER] * 5
    assert judged(trial)[1].verdict is Verdict.REGRESSED
    assert judged(trial)[1].failed
    assert not judged(trial, accepted=NOTE)[1].failed


def test_a_control_that_moved_makes_times_invalid(trial):
    assert judged(trial, control=NOTE)[1].verdict is Verdict.INVALID


def test_outputs_that_differ_are_a_mismatch(trial):
    trial.output_difference = "values differ"
    assert judged(trial)[1].verdict is Verdict.MISMATCH


def test_outputs_that_could_not_be_compared_are_noted(trial):
    assert judged(trial)[1].notes == ()
    trial.uncompared_outputs = ("output[0] (function)", "output[1] (generator)")
    verdict = judged(trial)[1]
    (note,) = verdict.notes
    assert (verdict.verdict, note.code) == (Verdict.EQUIVALENT, "outputs-not-compared")
    assert note.text == "outputs not compared: output[0] (function), output[1] (generator)"
    trial.invalid = NOTE
    assert [note.code for note in judged(trial)[1].notes] == ["any"]


@pytest.mark.parametrize("launches", [2, 3, 5, 8])
def test_an_interrupted_case_shows_what_it_had_reached_and_is_not_decided(trial, launches):
    trial.stopped = Note(code="interrupted", text="the run was interrupted")
    trial.screen = [EQUAL, SLOWER] * 4
    del trial.screen[launches:]
    result, verdict = judged(trial)
    (row,) = [row for row in verdict.comparisons if row.metric == "p50"]
    assert (result.outcome, verdict.verdict, verdict.failed) == (
        Outcome.MEASURED,
        Verdict.INCONCLUSIVE,
        False,
    )
    assert (row.sessions, row.note) == (launches, trial.stopped)
    assert row.low < row.effect < row.high
    assert 0 < row.effect < 0.1


@pytest.mark.parametrize("launch", [EQUAL, SLOWER])
def test_an_interrupted_case_is_not_decided_by_launches_that_were_not_analysed(trial, launch):
    trial.screen, trial.confirm = [launch] * 5, [launch] * 5
    assert judged(trial)[1].verdict is not Verdict.INCONCLUSIVE
    trial.stopped = Note(code="interrupted", text="the run was interrupted")
    assert judged(trial)[1].verdict is Verdict.INCONCLUSIVE


def test_an_interrupted_case_without_a_launch_was_not_measured(trial):
    trial.stopped = Note(code="interrupted", text="the run was interrupted")
    trial.screen, trial.reports, trial.measurements = [], [], {}
    result, verdict = judged(trial)
    assert (result.outcome, result.reason, result.measurement) == (Outcome.SKIPPED, trial.stopped, None)
    assert (verdict.verdict, verdict.failed) == (Verdict.NOT_MEASURED, False)


def test_without_a_base_the_candidate_has_its_own_time(trial):
    trial.no_base = NOTE
    trial.screen = []
    result, verdict = judged(trial)
    (row,) = [row for row in verdict.comparisons if row.metric == "p50"]
    assert (result.outcome, row.verdict, row.note) == (Outcome.MEASURED, Verdict.NO_BASELINE, NOTE)
    assert row.candidate == result.measurement.latency.p50.value


ENDINGS = {
    "lost": ({"lost": NOTE}, Outcome.FAILED, "any"),
    "out_of_memory": ({"infeasible": NOTE}, Outcome.INFEASIBLE, "any"),
    "skipped": ({"reports": [report("skipped", "setup")]}, Outcome.SKIPPED, "skipped"),
    "failed": ({"reports": [report("failed")]}, Outcome.FAILED, "test-failed"),
    "invalid": ({"invalid": NOTE}, Outcome.INVALID, "any"),
}
"""Ways in which a case is not measured, the one that counts most first."""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_case_that_was_not_measured_says_why(trial, ending):
    changes, outcome, code = ENDINGS[ending]
    for name, value in changes.items():
        setattr(trial, name, value)
    result, _ = judged(trial)
    assert (result.outcome, result.reason.code) == (outcome, code)


@pytest.mark.parametrize(("when", "hinted"), [("setup", True), ("call", False)])
def test_a_fixture_that_fails_may_be_held_by_the_other_side(trial, when, hinted):
    trial.reports = [report("failed", when)]
    result, _ = judged(trial)
    assert ("port" in result.reason.hint) is hinted


def test_of_several_endings_the_first_one_counts(trial):
    for changes, outcome, _ in reversed(ENDINGS.values()):
        for name, value in changes.items():
            setattr(trial, name, value)
        assert judged(trial)[0].outcome is outcome


# Counters only


def counters_of(*figures):
    return [Measurement(counters=counted(operators=figure)) for figure in figures]


@pytest.mark.parametrize(("now", "verdict"), [(4, Verdict.EQUIVALENT), (5, Verdict.REGRESSED)])
def test_counters_are_compared_and_budgets_of_counters_checked(trial, now, verdict):
    trial.screen = []
    trial.measurements = dict(zip(("base", "candidate"), counters_of(4, now), strict=True))
    result, found = judged(trial, counters_only=True)
    assert (found.verdict, found.against_base) == (verdict, True)
    assert result.budgets == (Budget(metric="p50_ms", limit=1e-9),)
    assert [note.code for note in found.notes] == ["not-timed"]


def test_counters_without_a_base(trial):
    trial.no_base, trial.screen = NOTE, []
    trial.measurements = {"candidate": counters_of(4)[0]}
    found = judged(trial, counters_only=True)[1]
    assert (found.verdict, found.failed) == (Verdict.NO_BASELINE, False)
    assert NOTE in [row.note for row in found.comparisons]
