"""What the paired gate says of one launch, of the control, and of a case whose launches ran out."""

import math

import pytest

from pytest_infergate.core.domain.launch_times import GpuState, Launch
from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import paired_times
from pytest_infergate.core.gate.paired_times import (
    CONTROL_MOVED,
    Decision,
    PairedTerms,
    Stage,
    comparison,
    control_moved,
)

PLAN = PairedTerms()
STOPPED = Note(code="time-limit", text="the time is up", hint="give it more")


def of(*ratios, base=0.010):
    """A launch with these log ratios."""
    return Launch(base=(base,) * len(ratios), candidate=tuple(base * math.exp(ratio) for ratio in ratios))


def steady(effect, blocks=10):
    return of(*[math.log1p(effect)] * blocks)


def spread(effect, width, count=5):
    """Launches evenly spread about an effect."""
    middle = (count - 1) / 2
    return [steady(effect + width * (index - middle) / middle) for index in range(count)]


# Accelerators that are throttled


def hot(base, candidate, reason="hardware thermal slowdown", blocks=20):
    """A launch of equal times in which so many blocks of each side were throttled."""

    def gpu_states(held):
        return tuple(GpuState(clock_hz=1e9, throttled=(reason,) * (index < held)) for index in range(blocks))

    return Launch(
        base=(0.01,) * blocks,
        candidate=(0.01,) * blocks,
        base_gpu_states=gpu_states(base),
        candidate_gpu_states=gpu_states(candidate),
    )


def test_a_board_throttled_externally_on_both_sides_alike_says_nothing():
    for base, candidate in [(0, 0), (20, 20), (0, 2), (10, 8)]:
        row = paired_times.compared([hot(base, candidate)] * 5, (), PairedTerms(), confirming=0)
        assert (row.verdict, row.note) == (Verdict.EQUIVALENT, None), (base, candidate)


def test_a_board_throttled_on_one_side_makes_the_times_invalid(snapshot):
    notes = []
    for base, candidate in [(0, 3), (20, 0)]:
        row = paired_times.compared([hot(base, candidate)] * 5, (), PairedTerms(), confirming=0)
        assert row.verdict is Verdict.INVALID, (base, candidate)
        assert row.note.code == "throttled", (base, candidate)
        notes.append(str(row.note))
    assert notes == snapshot


def test_a_power_cap_is_of_the_work_itself():
    row = paired_times.compared([hot(0, 20, "power cap")] * 5, (), PairedTerms(), confirming=0)
    assert row.verdict is Verdict.EQUIVALENT


def test_without_a_board_nothing_is_throttled_externally():
    assert paired_times.throttled([Launch(base=(0.01,), candidate=(0.01,))]) is None
    assert paired_times.throttled([]) is None


# The control


def test_too_few_launches_of_the_control_say_nothing():
    for launches in [[], [steady(0.5)]]:
        assert control_moved(launches) is None, launches


def test_a_control_within_its_limit():
    for effect in [0.0, 0.004, -0.004, 0.0095, -0.0095]:
        assert control_moved(spread(effect, 0.0001)) is None, effect


def test_a_control_that_moved(snapshot):
    notes = {effect: control_moved(spread(effect, 0.0001)) for effect in (0.03, -0.03, 0.011, 1.0)}
    for effect, note in notes.items():
        assert note.code == "control-moved", effect
    assert [str(note) for note in notes.values()] == snapshot


def test_an_unsteady_control_did_not_move():
    for effect in [0.03, -0.03]:
        assert control_moved(spread(effect, 0.05)) is None, effect
        assert control_moved(spread(effect, 0.001)) is not None, effect


def test_launches_settle_the_control():
    assert control_moved(spread(0.02, 0.01, 2)) is None
    assert control_moved(spread(0.02, 0.01, 15)) is not None


def test_the_limit_of_the_control_is_on_the_log_scale():
    assert control_moved([of(CONTROL_MOVED * 0.999)] * 3) is None
    assert control_moved([of(CONTROL_MOVED * 1.001)] * 3) is not None


# Launches that ran out


def test_why_there_were_no_more_is_said_where_there_were_none():
    row = comparison((), (), PLAN, Decision(stage=Stage.SCREEN), stopped=STOPPED)
    assert (row.verdict, row.note, row.effect, row.tolerance) == (Verdict.INCONCLUSIVE, STOPPED, None, 0.02)
    assert (row.metric, row.evidence) == ("p50", "paired")


def test_one_launch_has_no_effect():
    row = comparison([steady(0.05)], (), PLAN, Decision(stage=Stage.SCREEN), stopped=STOPPED)
    assert (row.verdict, row.note, row.effect, row.low) == (Verdict.INCONCLUSIVE, STOPPED, None, None)


def test_it_is_said_instead_of_what_would_settle_the_case():
    screen = spread(-0.01, 0.3)
    row = comparison(screen, (), PLAN, Decision(stage=Stage.SCREEN), stopped=STOPPED)
    assert row.note == STOPPED
    assert row.sessions == 5
    assert row.effect is not None
    assert comparison(screen, (), PLAN, Decision(stage=Stage.SCREEN)).note.code == "undecided"


def test_a_confirmation_that_was_cut_short_shows_its_own_launches():
    row = comparison(
        spread(0.05, 0.001), spread(0.03, 0.001, 3), PLAN, Decision(stage=Stage.CONFIRM), stopped=STOPPED
    )
    assert (row.verdict, row.note, row.sessions) == (Verdict.INCONCLUSIVE, STOPPED, 3)
    assert row.effect == pytest.approx(0.03, abs=1e-4)


def test_a_confirmation_that_never_began_shows_the_screen():
    row = comparison(spread(0.05, 0.001), (), PLAN, Decision(stage=Stage.CONFIRM), stopped=STOPPED)
    assert (row.verdict, row.note, row.sessions) == (Verdict.INCONCLUSIVE, STOPPED, 5)
    assert row.effect == pytest.approx(0.05, abs=1e-4)


def test_a_confirmation_that_ended_after_one_launch_shows_the_screen():
    """A single launch has no interval."""
    row = comparison(
        spread(0.05, 0.001), [steady(0.03)], PLAN, Decision(stage=Stage.CONFIRM), stopped=STOPPED
    )
    assert (row.verdict, row.note, row.sessions) == (Verdict.INCONCLUSIVE, STOPPED, 5)
    assert row.effect == pytest.approx(0.05, abs=1e-4)


def test_a_settled_case_needs_no_advice():
    for verdict in [Verdict.REGRESSED, Verdict.EQUIVALENT, Verdict.IMPROVED, Verdict.SLOWER_WITHIN_TOLERANCE]:
        row = comparison(spread(0.01, 0.001), (), PLAN, Decision(stage=Stage.DONE, verdict=verdict))
        assert (row.verdict, row.note) == (verdict, None), verdict


def test_what_no_number_of_launches_decides(snapshot):
    limit = math.log1p(PLAN.tolerance)
    outlier = [of(*[limit - 1e-4 + offset] * 10) for offset in (-0.1, 0.1, -0.05, 0.05, 0)]
    row = comparison(outlier, outlier, PLAN, Decision(stage=Stage.DONE, verdict=Verdict.SUSPECTED))
    assert row.note.code == "undecided"
    assert str(row.note) == snapshot


def test_the_base_is_in_seconds_a_call():
    launches = [of(*[0.01] * 10, base=base) for base in (0.010, 0.012, 0.014)]
    row = comparison(launches, (), PLAN, Decision(stage=Stage.SCREEN))
    assert row.baseline == pytest.approx(0.012)
    assert row.candidate == pytest.approx(0.012 * math.exp(0.01))
