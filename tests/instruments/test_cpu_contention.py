import pytest

from pytest_infergate.instruments import cpu_contention
from pytest_infergate.instruments.device import CpuTimes

STAT = """cpu  406410 505 53345 631163 5918 3 1297 25727 100 7
cpu0 203205 250 26672 315581 2959 0 648 12863 0 0
cpu1 203205 255 26673 315582 2959 3 649 12864 0 0
intr 5 0
"""


def test_busy_is_all_but_idle_and_waiting_and_counts_stolen_time():
    assert cpu_contention.busy_ticks(STAT) == 406410 + 505 + 53345 + 3 + 1297 + 25727


@pytest.mark.parametrize("text", ["", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9"])
def test_a_file_that_tells_nothing_is_no_answer(text):
    assert cpu_contention.busy_ticks(text) is None


def times(wall, machine, own, cores=2):
    return CpuTimes(wall=wall, machine=machine, own=own, cores=cores)


@pytest.mark.parametrize(
    ("cores", "threads", "machine", "own", "taken"),
    [
        (2, 2, 20.0, 20.0, 0.0),  # all of the machine is ours
        (2, 2, 20.0, 15.0, 0.25),
        (2, 1, 15.0, 10.0, 0.0),  # the others fit beside one thread
        (2, 1, 20.0, 5.0, 0.5),
        (64, 4, 300.0, 40.0, 0.0),
        (2, 4, 20.0, 18.0, 0.1),  # more threads than cores leave none to spare
        (2, 2, 19.9, 20.0, 0.0),  # the clocks tick apart
    ],
)
def test_what_others_took_from_the_case(cores, threads, machine, own, taken):
    before, after = times(5.0, 100.0, 50.0, cores), times(15.0, 100.0 + machine, 50.0 + own, cores)
    assert cpu_contention.contention(before, after, threads) == pytest.approx(taken)


def test_unknown_clocks_take_nothing():
    assert cpu_contention.contention(None, times(1, 1, 1), 2) is None
    assert cpu_contention.contention(times(1, 1, 1), times(1, 1, 1), 2) is None
    assert cpu_contention.contention_notes(None) == ()


@pytest.mark.parametrize(("share", "noted"), [(0.0, False), (0.05, False), (0.051, True), (1.0, True)])
def test_a_twentieth_is_noticeable(share, noted):
    assert bool(cpu_contention.contention_notes(share)) is noted


def test_the_note_has_a_hint(snapshot):
    (note,) = cpu_contention.contention_notes(0.52)
    assert note.code == "cpu-contention"
    assert str(note) == snapshot


def test_the_clocks_of_this_machine(monkeypatch, tmp_path):
    clocks = cpu_contention.cpu_times()
    if clocks is not None:
        assert clocks.cores >= 1
        assert clocks.machine > 0
    monkeypatch.setattr(cpu_contention, "_STAT", tmp_path / "none")
    assert cpu_contention.cpu_times() is None
