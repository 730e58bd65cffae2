"""The controller on a fake launcher and a fake clock: what it starts, adopts, gives up and leaves behind."""

import pytest
from fleet_parts import CPU, FakeFleet, FakeLauncher, changed, results

from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.fleet.attempts import Claim, controlling
from pytest_infergate.fleet.fleet_jobs import selected_jobs
from pytest_infergate.fleet.job_status import Status

THREE = """
    time_limit = 100
    queue_limit = 1000
    [classes.a]
    [classes.b]
    [classes.c]
"""
ONE = "time_limit = 100\nqueue_limit = 1000\n[classes.a]\n"


@pytest.fixture
def fleet(tmp_path):
    return FakeFleet(tmp_path, THREE)


@pytest.fixture
def alone(tmp_path):
    return FakeFleet(tmp_path, ONE)


def kinds(found):
    return {name: one.status.value for name, one in found.items()}


def test_every_class_is_measured_once(fleet):
    fleet.launcher.measures()
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert len(fleet.launcher.batches) == 3
    # The second call finds everything.
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert len(fleet.launcher.batches) == 3
    assert fleet.launcher.cancelled == []
    assert fleet.said[-1] == "[3/3] c: measured on 4 cores of Test CPU in 5 s"


def test_the_parts_of_a_class_start_together(tmp_path):
    fleet = FakeFleet(
        tmp_path, "[parts]\nx = ['x.py']\ny = ['y.py']\n[classes.a]\n[classes.b]\nparts = ['y']"
    )
    fleet.launcher.measures()
    assert list(fleet.run("-q")) == ["a/x", "a/y", "b/y"]
    assert [len(batch) for batch in fleet.launcher.batches] == [2, 1]
    (first, second), _ = fleet.launcher.batches
    assert first.order().command[1:] == ("-m", "pytest", "x.py", "-q")
    assert second.order().command[1:] == ("-m", "pytest", "y.py", "-q")


def test_a_launcher_gets_no_more_jobs_than_it_has_room_for(fleet):
    fleet.launcher.capacity = 1
    fleet.launcher.measures()
    fleet.run()
    assert fleet.launcher.most == 1


def test_only_some_classes(fleet):
    fleet.launcher.measures()
    assert kinds(fleet.run(only=["b"])) == {"a": "missing", "b": "measured", "c": "missing"}
    with pytest.raises(ConfigurationError, match="--only must be one of a, b, c, got 'd'"):
        selected_jobs(fleet.jobs(), ["d"])


def test_a_class_that_fails_is_measured_again_by_the_next_call(fleet):
    fleet.launcher.measures()
    good = fleet.launcher.submitted

    def submitted(handle, attempt):
        if attempt.path.parents[1].name == "b":
            fleet.clock.after(1, lambda: fleet.launcher.vanishes(handle, "out of memory"))
        else:
            good(handle, attempt)

    fleet.launcher.submitted = submitted
    found = fleet.run()
    assert kinds(found) == {"a": "measured", "b": "failed", "c": "measured"}
    assert found["b"].text == "out of memory"
    fleet.launcher.submitted = good
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert [batch[0].path.parent.parent.name for batch in fleet.launcher.batches] == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ("cores = 2", "wrong hardware: measured on 4 cores, and the class has 2"),
        ("cpu = 'EPYC 9654'", "wrong hardware: measured on a CPU 'Test CPU', and the class has 'EPYC 9654'"),
        (
            "gpu = 'L4'",
            "wrong hardware: no case was measured on a GPU, and the class has 'L4'. Hint: request it with "  # noqa: ISC004
            "--infer-devices; infergate show says why cases on it were skipped",
        ),
    ],
)
def test_results_of_other_hardware_do_not_count(tmp_path, machine, text):
    fleet = FakeFleet(tmp_path, ONE + machine)
    fleet.launcher.measures()
    found = fleet.run()["a"]
    assert (found.status, found.text, found.results) == (Status.FAILED, text, None)


@pytest.mark.parametrize(
    ("gpu", "seen", "problem"),
    [
        ("'l4'", 1, ""),
        ("'NVIDIA L4'\ngpus = 2", 2, ""),
        ("'T4'", 1, "measured on a GPU 'NVIDIA L4', and the class has 'T4'"),
        ("'L4'", 2, "measured with 2 GPUs, and the class has 1. Hint: set gpus, or hide the others"),
        ("'L4'\ngpus = 4", 1, "measured with 1 GPU, and the class has 4"),
    ],
)
def test_the_name_and_the_number_of_gpus_are_those_of_the_class(tmp_path, gpu, seen, problem):
    fleet = FakeFleet(tmp_path, f"{ONE}gpu = {gpu}\ncpu = 'test cpu'\ncores = 4")
    found = Hardware(cpu_model="Test CPU", cores=4, accelerator="NVIDIA L4", accelerator_count=seen)
    fleet.launcher.measures(content=lambda test: results(found, test))
    status = fleet.run()["a"]
    assert status.status is (Status.FAILED if problem else Status.MEASURED)
    assert not problem or status.text.startswith(f"wrong hardware: {problem}")


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ({"code": 5}, "pytest ended with exit code 5 (no test was collected)"),
        ({"code": -9}, "pytest was ended by signal 9 (out of memory, or killed)"),
        (
            {"problem": "it did not end within its time limit of 2 min"},
            "it did not end within its time limit of 2 min",
        ),
        ({"content": "{"}, "the JSON is incomplete"),
    ],
)
def test_endings_without_results(alone, ending, text):
    def submitted(handle, _attempt):
        alone.launcher.begins(handle)
        alone.clock.after(2, lambda: alone.launcher.ends(handle, **ending))

    alone.launcher.submitted = submitted
    found = alone.run()["a"]
    assert found.status is Status.FAILED
    assert text in found.text


def test_a_failed_gate_is_a_result(alone):
    def submitted(handle, _attempt):
        alone.launcher.begins(handle)
        alone.launcher.ends(handle, results(passed=False), code=1)

    alone.launcher.submitted = submitted
    found = alone.run()["a"]
    assert (found.status, found.remark) == (Status.MEASURED, "")


def test_a_failed_test_beside_a_passing_gate_is_remarked(alone):
    def submitted(handle, _attempt):
        alone.launcher.begins(handle)
        alone.launcher.ends(handle, code=1)

    alone.launcher.submitted = submitted
    assert alone.run()["a"].remark == "a test failed for another reason than an inference case"


def test_the_end_of_the_log_is_shown(alone):
    def submitted(handle, attempt):
        attempt.log.write_text("one\ntwo\nthree\n\nfour\n")
        alone.launcher.ends(handle, code=4)

    alone.launcher.submitted = submitted
    text = alone.run()["a"].text
    assert "\n    two\n    three\n    four\n    see " in text
    assert "one" not in text


# Limits


def test_a_job_that_does_not_start_is_given_up(alone):
    def submitted(handle, _attempt):
        alone.launcher.jobs[handle][1] = alone.launcher.jobs[handle][1]._replace(reason="ReqNodeNotAvail")

    alone.launcher.submitted = submitted
    begin = alone.clock()
    assert alone.run()["a"].text == "it did not start within the queue limit of 17 min (ReqNodeNotAvail)"
    assert 1000 < alone.clock() - begin < 1010
    assert alone.launcher.cancelled == ["0_0"]
    # It would measure nothing if it started after all.
    assert not alone.launcher.batches[0][0].try_claim(Claim(handle="0_0", host="node", started=1))


def test_a_machine_that_never_answers_is_given_up(alone):
    alone.launcher.submitted = lambda handle, attempt: alone.clock.after(
        10, lambda: alone.launcher.begins(handle)
    )
    begin = alone.clock()
    assert alone.run()["a"].text == "its machine did not answer within the time limit of 2 min and 60 s more"
    assert 170 < alone.clock() - begin < 180
    assert alone.launcher.cancelled == ["0_0"]


def test_a_job_that_is_requeued_has_its_whole_time_again(alone):
    def requeued(handle):
        alone.launcher.jobs[handle][1] = alone.launcher.jobs[handle][1]._replace(state="queued")
        alone.clock.after(100, lambda: alone.launcher.begins(handle))
        alone.clock.after(190, lambda: alone.launcher.ends(handle))

    def submitted(handle, _attempt):
        alone.launcher.begins(handle)
        alone.clock.after(90, lambda: requeued(handle))

    alone.launcher.submitted = submitted
    assert kinds(alone.run()) == {"a": "measured"}
    assert len(alone.launcher.batches) == 1


def test_results_may_arrive_later_than_the_end_of_the_job(alone):
    def submitted(handle, _attempt):
        alone.launcher.begins(handle)
        alone.clock.after(5, lambda: alone.launcher.vanishes(handle))
        alone.clock.after(7, lambda: alone.launcher.ends(handle))

    alone.launcher.submitted = submitted
    assert kinds(alone.run()) == {"a": "measured"}


def test_a_heartbeat_says_what_runs(alone):
    alone.launcher.measures(queue=1, seconds=95)
    alone.clock.after(10, lambda: alone.launcher.batches[0][0].log.write_text("collected\nwaited 5 s\n"))
    alone.run()
    assert [line for line in alone.said if "ended," in line] == [
        "0 of 1 ended, 1 running; a for 60 s: waited 5 s"
    ]


# Launchers that refuse or do not answer


def test_a_class_whose_launcher_refuses_it_does_not_stop_the_others(fleet):
    other = FakeLauncher(fleet.clock, "other")
    other.refusal = "invalid partition specified: gpuu"
    fleet.launchers["other"] = other
    fleet.write(THREE + 'launcher = "other"')
    fleet.launcher.measures()
    found = fleet.run()
    assert kinds(found) == {"a": "measured", "b": "measured", "c": "failed"}
    assert found["c"].text == "invalid partition specified: gpuu"


def test_terms_are_checked_before_anything_starts(fleet):
    fleet.write(THREE + "local = { wrong = true }")
    with pytest.raises(ConfigurationError, match="wrong"):
        fleet.run()
    assert fleet.launcher.batches == []


def test_a_launcher_that_does_not_answer_for_a_while_loses_nothing(alone):
    alone.launcher.measures(seconds=50)
    alone.clock.after(5, lambda: setattr(alone.launcher, "outage", "connection refused"))
    alone.clock.after(40, lambda: setattr(alone.launcher, "outage", None))
    assert kinds(alone.run()) == {"a": "measured"}
    assert "local does not answer, trying again: connection refused" in alone.said


def test_a_launcher_that_never_answers_again_ends_the_run(alone):
    alone.clock.after(5, lambda: setattr(alone.launcher, "outage", "connection refused"))
    with pytest.raises(StorageError, match="connection refused"):
        alone.run()
    assert alone.launcher.cancelled == ["0_0"]


# Interruptions


class Killed(BaseException):
    """The end of the controller, which cleans nothing up."""


def killed(fleet, monkeypatch, *arguments):
    """Run until the clock kills the controller, which cannot clean up."""
    with monkeypatch.context() as patch:
        patch.setattr("pytest_infergate.fleet.fleet_run.FleetController.end_all", lambda self: None)
        with pytest.raises(Killed):
            fleet.run(*arguments)


def kill(*_):
    raise Killed


def test_an_interrupt_ends_all_jobs_and_the_next_call_measures_them(fleet):
    fleet.launcher.measures(queue=5, seconds=5)

    def interrupt():
        raise KeyboardInterrupt

    fleet.clock.after(3, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fleet.run()
    fleet.clock.events.clear()
    assert fleet.launcher.cancelled == ["0_0", "1_0", "2_0"]
    assert kinds(fleet.status()) == dict.fromkeys("abc", "failed")
    fleet.launcher.measures()
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_while_jobs_are_started_ends_them(fleet, begun):
    def submitted(handle, _attempt):
        if begun:
            fleet.launcher.begins(handle)
        raise KeyboardInterrupt

    fleet.launcher.submitted = submitted
    with pytest.raises(KeyboardInterrupt):
        fleet.run()
    assert fleet.launcher.cancelled == ["0_0"]
    fleet.launcher.measures()
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")


def test_jobs_of_a_killed_controller_are_adopted(fleet, monkeypatch):
    fleet.launcher.measures(queue=1, seconds=20)
    fleet.clock.after(10, kill)
    killed(fleet, monkeypatch)
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert len(fleet.launcher.batches) == 3
    assert fleet.launcher.cancelled == []
    assert "a: still running, waiting for it" in fleet.said


def test_jobs_that_ended_without_a_controller_count(fleet, monkeypatch):
    fleet.launcher.measures(queue=1, seconds=20)
    fleet.clock.after(10, kill)
    killed(fleet, monkeypatch)
    fleet.clock.sleep(60)
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert len(fleet.launcher.batches) == 3


def test_a_job_whose_handle_was_not_recorded_is_taken_back(alone, monkeypatch):
    alone.launcher.submitted = kill
    killed(alone, monkeypatch)
    alone.launcher.measures()
    assert kinds(alone.run()) == {"a": "measured"}
    # The first one waits in the queue no more, and would measure nothing.
    assert alone.launcher.cancelled == ["0_0"]
    assert len(alone.launcher.batches) == 2


def test_a_job_whose_handle_was_not_recorded_is_adopted_if_it_has_begun(alone, monkeypatch):
    def submitted(handle, _attempt):
        alone.launcher.begins(handle)
        alone.clock.after(20, lambda: alone.launcher.ends(handle))
        kill()

    alone.launcher.submitted = submitted
    killed(alone, monkeypatch)
    assert kinds(alone.run()) == {"a": "measured"}
    assert len(alone.launcher.batches) == 1
    assert alone.launcher.cancelled == []


def test_a_job_that_died_without_a_controller_is_measured_again(alone, monkeypatch):
    alone.launcher.submitted = lambda handle, attempt: alone.launcher.begins(handle)
    alone.clock.after(10, kill)
    killed(alone, monkeypatch)
    alone.launcher.vanishes("0_0", "node failed")
    alone.launcher.measures()
    assert kinds(alone.run()) == {"a": "measured"}
    assert len(alone.launcher.batches) == 2


# What is measured has changed


def test_other_terms_or_arguments_are_another_measurement(alone):
    alone.launcher.measures()
    alone.run()
    alone.write(ONE + "threads = 2")
    assert alone.status()["a"].text == "its results are of other terms or arguments"
    alone.run()
    alone.run("-k", "x")
    assert len(alone.launcher.batches) == 3
    # Earlier results are kept.
    assert len(list(alone.place.folder.rglob("results.json"))) == 3


def test_results_of_another_revision_are_kept_and_not_used(alone):
    alone.launcher.measures()
    alone.run()
    alone.revision = "999999999999"
    assert kinds(alone.status()) == {"a": "missing"}
    assert alone.place.other_revisions() == ["1a2b3c4d5e6f"]
    alone.run()
    assert len(alone.launcher.batches) == 2
    assert len(list(alone.place.folder.rglob("results.json"))) == 2


def test_jobs_that_nothing_waits_for_are_ended(fleet, monkeypatch):
    fleet.launcher.measures(queue=1, seconds=20)
    fleet.clock.after(10, kill)
    killed(fleet, monkeypatch)
    fleet.clock.events.clear()
    fleet.revision = "999999999999"
    fleet.launcher.measures()
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert fleet.launcher.cancelled == ["0_0", "1_0", "2_0"]


def test_a_missing_launcher_of_a_running_job_is_named(alone, monkeypatch):
    alone.launcher.submitted = lambda handle, attempt: alone.launcher.begins(handle)
    alone.clock.after(10, kill)
    killed(alone, monkeypatch)
    alone.launchers = {"other": FakeLauncher(alone.clock, "other")}
    alone.write('launcher = "other"\n[classes.a]')
    with pytest.raises(
        ConfigurationError, match="was started by the launcher 'local', which is not installed"
    ):
        alone.run()


# Files


def test_two_controllers_do_not_share_a_folder(tmp_path):
    with (
        controlling(tmp_path),
        pytest.raises(StorageError, match=r"is in use by process [0-9]+ on .*\. Hint: wait"),
        controlling(tmp_path),
    ):
        pass
    with controlling(tmp_path):
        pass


def test_a_damaged_record_is_named(alone):
    alone.launcher.measures()
    alone.run()
    record = alone.jobs()[0].folder.path / "job.json"
    changed(record, bogus=1)
    with pytest.raises(
        StorageError, match=r"job.json is not what infergate wrote: .*bogus.* Hint: remove the folder"
    ):
        alone.run()


def test_a_full_disk_ends_the_jobs_and_keeps_what_was_measured(fleet, monkeypatch):
    fleet.launcher.capacity = 1
    fleet.launcher.measures()
    from pytest_infergate.fleet import attempts

    written = attempts.atomic_write

    def full(path, text):
        if len(fleet.launcher.batches) == 2:
            raise StorageError(f"cannot write {path}: No space left on device. Hint: free some space")
        written(path, text)

    monkeypatch.setattr(attempts, "atomic_write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        fleet.run()
    monkeypatch.undo()
    assert fleet.launcher.cancelled == ["1_0"]
    fleet.clock.events.clear()
    fleet.launcher.measures()
    assert kinds(fleet.run()) == dict.fromkeys("abc", "measured")
    assert CPU.text in fleet.status()["a"].text
