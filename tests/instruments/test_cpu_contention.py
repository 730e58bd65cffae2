import os
import subprocess
import sys
import threading
import time

import pytest

from pytest_infergate.core.domain.measurement import Contention
from pytest_infergate.instruments import cpu_contention
from pytest_infergate.instruments.device import CpuTimes

STAT = """cpu  406410 505 53345 631163 5918 3 1297 25727 100 7
cpu0 203205 250 26672 315581 2959 0 648 12863 0 0
cpu1 203205 255 26673 315582 2959 3 649 12864 0 0
intr 5 0
"""


@pytest.mark.parametrize(
    ("allowed", "busy", "stolen", "count"),
    [
        ({0, 1}, 406410 + 505 + 53345 + 3 + 1297 + 25727, 25727, 2),
        ({0}, 203205 + 250 + 26672 + 648 + 12863, 12863, 1),
        ({1, 7}, 203205 + 255 + 26673 + 3 + 649 + 12864, 12864, 1),
    ],
)
def test_busy_is_all_but_idle_and_waiting_of_the_allowed_cores(allowed, busy, stolen, count):
    assert cpu_contention.core_ticks(STAT, allowed) == (busy, stolen, count)


@pytest.mark.parametrize("text", ["", "cpu0 1 2 3", "intr 1 2 3 4 5 6 7 8 9", STAT.replace("cpu0", "cpu2")])
def test_a_file_that_tells_nothing_is_no_answer(text):
    assert cpu_contention.core_ticks(text, {0}) is None


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


linux = pytest.mark.skipif(cpu_contention.cpu_times() is None, reason="needs /proc")
BUSY = (
    "import time; end = time.process_time() + {0}\nwhile time.process_time() < end: pass\nprint(flush=True)"
)
NESTED = "import subprocess, sys; subprocess.run([sys.executable, '-c', {0!r}]); print(flush=True); input()"


@linux
def test_living_children_and_their_children_are_our_own():
    before = cpu_contention.cpu_times()
    script = BUSY.format(0.2) + "\ninput()"
    nested = NESTED.format(BUSY.format(0.2))
    with (
        subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as child,
        subprocess.Popen([sys.executable, "-c", nested], stdin=-1, stdout=-1) as parent,
    ):
        for process in (child, parent):
            process.stdout.readline()
        living = cpu_contention.cpu_times()
        assert living.own - before.own >= 0.38
        for process in (child, parent):
            process.communicate(b"\n")
    # Their time is that of ended children now: it is counted once.
    ended = cpu_contention.cpu_times()
    assert 0 <= ended.own - living.own < 0.3


@linux
def test_processor_time_of_living_children_is_not_taken_by_others():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        before = cpu_contention.cpu_times()
        time.sleep(0.5)
        after = cpu_contention.cpu_times()
        child.kill()
    # The share of a core that other tests may leave to it.
    assert after.own - before.own >= 0.1


def test_the_process_table_is_summed_over_descendants(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "waitid", lambda *_: None)
    table = {1: (0, 900), 7: (1, 100), 8: (7, 20), 9: (8, 3), 10: (1, 5000), 11: (10, 60000)}
    for pid, (parent, ticks) in table.items():
        (tmp_path / str(pid)).mkdir()
        fields = ["S", parent, *[0] * 9, ticks, 1, 2, 4, 99, 99]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b (c) {' '.join(map(str, fields))}\n")
    (tmp_path / "12").mkdir()  # it has ended since
    (tmp_path / "meminfo").write_text("")
    assert cpu_contention.descendant_ticks(7, tmp_path) == 20 + 3 + 2 * 7
    assert cpu_contention.descendant_ticks(11, tmp_path) == 0


def test_a_process_without_children_does_not_read_the_table(tmp_path, monkeypatch):
    def none(*_):
        raise ChildProcessError

    monkeypatch.setattr(os, "waitid", none)
    assert cpu_contention.descendant_ticks(7, tmp_path / "missing") == 0


@pytest.mark.skipif(cpu_contention.waited_seconds() is None, reason="needs schedstat")
def test_threads_that_share_a_core_wait():
    allowed = os.sched_getaffinity(0)
    before = cpu_contention.waited_seconds()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        os.sched_setaffinity(child.pid, {min(allowed)})
        os.sched_setaffinity(0, {min(allowed)})
        try:
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                pass
        finally:
            os.sched_setaffinity(0, allowed)
            child.kill()
    assert cpu_contention.waited_seconds() - before > 0.1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_of_bound_threads_are_usable():
    allowed = os.sched_getaffinity(0)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        os.sched_setaffinity(0, {min(allowed)})  # the main thread alone, as OpenMP binds it
        assert cpu_contention.cores_of_threads() == allowed
    finally:
        os.sched_setaffinity(0, allowed)
        done.set()
        thread.join()


def test_waiting_is_unknown_without_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_contention, "_TASKS", tmp_path / "none")
    assert cpu_contention.waited_seconds() is None
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(cpu_contention, "_TASKS", tmp_path)
    assert cpu_contention.waited_seconds() is None
    (tmp_path / "1" / "schedstat").write_text("5 2500000000 7\n")
    assert cpu_contention.waited_seconds() == 2.5


@pytest.mark.parametrize(
    ("waited", "stolen", "left"),
    [(0.0, 0.0, 0.010), (0.004, 0.0, 0.006), (0.02, 0.0, 0.0), (0.0, 2.5, 0.0075)],
)
def test_what_remains_of_a_call_without_waiting(waited, stolen, left):
    before, after = times(5.0, 100.0, 50.0), times(15.0, 120.0, 60.0)._replace(stolen=stolen)
    assert cpu_contention.undisturbed(before, after, 0.010, 5, 5 * waited) == pytest.approx(left)
    before, after = before._replace(waited=1.0), after._replace(waited=1.0 + 5 * waited)
    assert cpu_contention.undisturbed(before, after, 0.010, 5) == pytest.approx(left)


def test_what_remains_is_unknown_without_readings():
    now = times(1, 1, 1)
    assert cpu_contention.undisturbed(None, now, 0.010, 1, 0.0) is None
    assert cpu_contention.undisturbed(now, now, 0.010, 1, 0.0) is None
    assert cpu_contention.undisturbed(now, times(2, 2, 2), 0.010, 1) is None


def test_child_processes_beside_the_case_are_contention_if_the_case_waits_for_them():
    # 1 thread on 2 cores for 10 s, six busy children on both of them.
    before = CpuTimes(0, 0, 0, 2, waited=0.0, children=0.0)
    for waited, children, share in [(6.5, 15.0, 0.65), (0.0, 15.0, 0.0), (6.5, 0.5, 0.0), (50.0, 15.0, 1.0)]:
        after = CpuTimes(10, 20, 20, 2, waited=waited, children=children)
        assert cpu_contention.contention(before, after, 1) == pytest.approx(share), (waited, children)


def test_in_a_short_time_ticks_tell_less_than_what_threads_waited():
    # 2 threads on 2 cores; one tick of others in 30 ms.
    before = CpuTimes(0, 0, 0, 2, waited=0.0)
    for wall, waited, share in [(0.03, 0.03, 0.5), (0.03, 0.0, 0.0), (0.03, 9.0, 1.0), (0.03, -1.0, 0.0)]:
        after = CpuTimes(wall, 0.07, 0.06, 2, waited=waited)
        assert cpu_contention.contention(before, after, 2) == pytest.approx(share), waited
        assert cpu_contention.during(before, after, 2).left == pytest.approx(1 - share)
    after = CpuTimes(10, 20, 15, 2, waited=0.1, stolen=1.0)
    assert cpu_contention.during(before, after, 2).share == pytest.approx(0.25)
    assert cpu_contention.during(before, after, 2).left == pytest.approx(0.895)
    assert cpu_contention.during(before, after._replace(waited=None), 2).left is None
    assert cpu_contention.during(None, after, 2) == cpu_contention.during(after, after, 2) == Contention()


def test_a_note_names_what_was_disturbed():
    assert cpu_contention.contention_notes(0.0, 0.25, 0.25) == ()
    (note,) = cpu_contention.contention_notes(0.06, 0.26, 0.5)
    assert [part in note.text for part in ("6%", "26%", "50%")] == [True] * 3
    assert "first call" in cpu_contention.contention_notes(None, 0.5)[0].text
