"""What users get wrong, and what they are told: what, where, cure; exit code 4 before anything is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--infer-devices=gpu"],
            "--infer-devices: unknown device 'gpu': known are *cuda*; a GPU of NVIDIA or AMD is cuda",
        ),
        (
            ["--infer-devices=cdua"],
            "--infer-devices: unknown device 'cdua': known are *; did you mean 'cuda'?",
        ),
        (["--infer-devices=,"], "--infer-devices: the list is empty"),
        (["--infer-devices=cuda:x"], "--infer-devices: 'cuda:x' has no number after the colon; write cuda:0"),
        (
            ["--infer-devices=ghost"],
            "--infer-devices: none of the devices asked for is there: no ghost device found",
        ),
        (
            ["--infer-require=ghost"],
            "--infer-require=ghost: no ghost device found; attach it, or leave the option out",
        ),
        (["--infer-devices=fake", "--infer-require=auto"], "--infer-require: unknown device 'auto'*"),
        (
            ["--infer-dtypes=fp16"],
            "--infer-dtypes: unknown 'fp16': allowed are bfloat16, float16, float32, float64*",
        ),
        (["--infer-threads=0"], "--infer-threads: '0' is not a whole number of 1 or more"),
        (["--infer-tolerance=5"], "--infer-tolerance: '5' is above 1; write '5%' or 0.05"),
        (["--infer-tolerance=-5%"], "--infer-tolerance: '-5%' is not a share such as '5%' or 0.05"),
        (
            ["--infer-tolerance=p95=5%"],
            "--infer-tolerance: unknown 'p95': allowed are allocations, *, memory, *, p50, *; did you mean 'p50'?",
        ),
        (
            ["--infer-tolerance=operator=off"],
            "--infer-tolerance: unknown 'operator': allowed are *; did you mean 'operators'?",
        ),
        (["--infer-tolerance=gflops=5%"], "--infer-tolerance: unknown 'gflops': *; did you mean 'flops'?"),
        (
            ["--infer-tolerance=p50=off"],
            "--infer-tolerance: p50 cannot be off; gate=False in the marker reports without failing",
        ),
        (
            ["--infer-tolerance=operators=on"],
            "--infer-tolerance: 'on' is not a share such as '5%' or 0.05",
        ),
        (["--infer-tolerance=operators=2"], "--infer-tolerance: '2' is above 1; write '2%' or 0.02"),
        (
            ["--infer-max-time=soon"],
            "--infer-max-time: 'soon' is not a time above zero, such as 10, 10s, 2min",
        ),
        (["--infer-max-total=0"], "--infer-max-total: '0' is not a time above zero, such as 10, 10s, 2min"),
        (["--infer-min-decided=300%"], "--infer-min-decided: '300%' is more than all cases"),
        (["--infer-gate=maybe"], "--infer-gate: unknown 'maybe': allowed are fail, off, warn"),
        (["--infer-xdist=yes"], "--infer-xdist: unknown 'yes': allowed are lock, refuse"),
        (
            ["--infer-report=no/such/r.html"],
            "--infer-report: there is no folder */no/such; give a file in a folder that exists",
        ),
        (["--infer-json=."], "--infer-json: * is a folder; give a file in a folder that exists"),
        (
            ["--infer-json=x.out", "--infer-report=x.out"],
            "--infer-json: */x.out is the file of --infer-report already",
        ),
        (["--infer-json=test_it.py"], "--infer-json: *test_it.py is a Python file; give another name"),
        (
            ["--infer-json=.infergate/baselines/x.json"],
            "--infer-json: *x.json is in a folder of baselines or counters; give another",
        ),
        (
            ["--infer-counters=s3://bucket/x"],
            "--infer-counters: 's3://bucket/x' is an address; exact counters stand in a folder beside the code",
        ),
        (
            ["--infer-counters=conftest.py"],
            "*conftest.py is no folder; choose another place for the counters",
        ),
        (["--infer-baseline=s3://bucket/x"], "--infer-baseline: no plugin offers a store for s3://bucket/x"),
        (["--infer-save", "--infer-baseline=conftest.py/x"], "*conftest.py*"),
    ],
)
def test_bad_options_end_the_run_with_exit_code_4(project, options, message):
    project.test()
    (project.path / ".infergate" / "baselines").mkdir(parents=True)
    if not any(option.startswith(("--infer-devices", "--infer-require=ghost")) for option in options):
        options = ["--infer-devices=fake", *options]
    result = project.run(*options)
    assert result.ret == 4
    lines = result.stderr.lines or result.outlines
    from fnmatch import fnmatchcase

    assert any(fnmatchcase(line, f"ERROR: {message}") for line in [*result.errlines, *result.outlines]), lines
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not list((project.path / ".infergate" / "baselines").iterdir())


def test_bad_ini_values_end_the_run_with_exit_code_4(project):
    project.test()
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_tolerance = 5\n")
    result = project.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: ini value infer_tolerance: '5' is above 1; write '5%' or 0.05"])
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_counters = s3://bucket/x\n")
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: ini value infer_counters: 's3://bucket/x' is an address; *"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool.infergate]\nbugdets = 1", "pyproject.toml: [[]tool.infergate] has an unknown key 'bugdets'*"),
        (
            "[tool.infergate]\nbudgets = 1",
            "pyproject.toml: [[]tool.infergate.budgets] must map patterns to budgets",
        ),
        ("[tool.infergate.budgets]\n'*' = {p95 = 4}", "*unknown budget 'p95'*did you mean 'p95_ms'?"),
        (
            "[tool.infergate]\ntolerance = {}",
            "*] has an unknown key 'tolerance': known are budgets, tolerances, overlay, setup, *; did you mean 'tolerances'?",
        ),
        (
            "[tool.infergate]\ngate_estimates = 'yes'",
            "pyproject.toml: [[]tool.infergate] gate_estimates must be true or false",
        ),
        (
            "[tool.infergate]\ntolerances = '5%'",
            "pyproject.toml: [[]tool.infergate.tolerances] must map patterns to tolerances",
        ),
        (
            "[tool.infergate.tolerances]\n'*' = {operator = '5%'}",
            "pyproject.toml: [[]tool.infergate.tolerances]: unknown 'operator': *; did you mean 'operators'?",
        ),
        (
            "[tool.infergate.tolerances]\n'*' = {p50 = 'off'}",
            "pyproject.toml: [[]tool.infergate.tolerances]: p50 cannot be off; *",
        ),
        (
            "[tool.infergate.tolerances]\n'*' = {operators = 5}",
            "pyproject.toml: [[]tool.infergate.tolerances]: 5 is above 1; write '5%' or 0.05",
        ),
    ],
)
def test_bad_tables_end_the_run_with_exit_code_4(project, table, message):
    project.test()
    (project.path / "pyproject.toml").write_text(table)
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("batch_size=[1]", "has no argument 'batch_size'*did you mean 'batch_sizes'?"),
        ("[1, 8]", "takes named arguments only, got *"),
        ("batch_sizes=[0]", "(batch_sizes=...): '0' is not a whole number of 1 or more"),
        ("batch_sizes=[]", "(batch_sizes=...): the list is empty"),
        ("batch_sizes=[True]", "(batch_sizes=...): 'True' is not a whole number of 1 or more"),
        ("budget={'p95': 4}", "(budget=...): unknown budget 'p95'*did you mean 'p95_ms'?"),
        ("budget={'p95_ms': -4}", "(budget=...): budget 'p95_ms' is -4; a limit is a number of 0 or more"),
        ("budget={'p95_ms': '4'}", "(budget=...): budget 'p95_ms' is '4'; a limit is a number of 0 or more"),
        (
            "budget={'p95_ms': float('nan')}",
            "(budget=...): budget 'p95_ms' is nan; a limit is a number of 0 or more",
        ),
        ("budget=4", "(budget=...): a budget is a table such as {'p95_ms': 40}, not 4"),
        ("devices=['gpu']", "(devices=...): unknown device 'gpu'*"),
        ("dtypes=['fp16']", "(dtypes=...): unknown 'fp16'*"),
        ("tolerance=5", "(tolerance=...): 5 is above 1; write '5%' or 0.05"),
        ("tolerance={'operator': 'off'}", "(tolerance=...): unknown 'operator': *did you mean 'operators'?"),
        ("tolerance={'p50': 'off'}", "(tolerance=...): p50 cannot be off; gate=False in the marker *"),
        ("tolerance={'operators': True}", "(tolerance=...): True is not a share such as '5%' or 0.05"),
        ("tolerance={'operators': None}", "(tolerance=...): None is not a share such as '5%' or 0.05"),
        ("gate='no'", "(gate=...): unknown 'no': allowed are fail, off, warn"),
        ("max_time=-1", "(max_time=...): '-1' is not a time above zero*"),
        ("unit=3", "(unit=...): 3 is not a word such as 'images'"),
    ],
)
def test_bad_markers_are_an_error_of_that_test_alone(project, arguments, message):
    project.test(arguments)
    project.test(file="test_other.py")
    result = project.measure("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)
    message = message.replace("[", "[[]")
    result.stdout.fnmatch_lines([f"*test_it.py::test_model: @pytest.mark.inference*{message}"])
    assert "another exception" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema_version": 99}',
        '{"schema_version": 1, "hardware": {}}',
        "<<<<<<< HEAD\n",
        "\0\xff",
    ],
)
def test_an_unreadable_baseline_stops_the_run_and_is_left_alone(project, content):
    project.test()
    project.record()
    file = next((project.path / ".infergate/baselines").glob("*.json"))
    file.write_text(content)
    for options in ([], ["--infer-save"]):
        result = project.measure(*options)
        assert result.ret == 4
        result.stderr.fnmatch_lines([f"ERROR: *{file.name}*"])
        assert "Traceback" not in result.stderr.str()
        assert file.read_text() == content


def test_a_file_named_after_another_class_is_refused(project):
    project.test()
    project.record()
    file = next((project.path / ".infergate/baselines").glob("*.json"))
    file.rename(file.with_name("other-machine.json"))
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *other-machine.json*"])


def test_a_full_disk_is_told_and_the_verdicts_are_not_lost(project):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    project.test()
    (project.path / "full").mkdir()
    import errno

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", no_space)
        result = project.measure("--infer-report=r.html", "--infer-json=r.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*no-baseline*", "ERROR: *r.json*No space left on device*", "ERROR: *r.html*"]
    )
    assert not list(project.path.glob("r.*"))


def test_infer_twice_fails_with_a_hint(project):
    project.test(body="infer(model); infer(model)")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*infer was called twice in one test*split it, or parametrise it*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("options", [[], ["--infer-devices=fake"]])
@pytest.mark.parametrize("fixture", ["infer", "device"])
def test_infer_never_called_fails(project, options, fixture):
    project.pytester.makepyfile(
        f"import pytest\n@pytest.mark.inference\ndef test_model({fixture}):\n    pass\n"
    )
    result = project.run(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*infer was never called*"])


def test_an_error_of_the_model_that_the_test_catches_is_not_green(project):
    project.pytester.makepyfile(
        """
        import pytest

        def test_model(infer):
            with pytest.raises(ValueError):
                infer(lambda: int("x"))
        """
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*infer raised and the test caught it, so that nothing was measured*"])
    project.run().assert_outcomes(passed=1)


def test_infer_asked_for_by_name_is_refused_with_a_reason(project):
    project.pytester.makepyfile("def test_model(request): request.getfixturevalue('infer')")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*infer must be an argument of the test or of a fixture that is one*"])


def test_infer_in_a_fixture_of_the_test_is_measured(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def result(infer, model):
            return infer(model)

        def test_model(result):
            assert result.measured
        """
    )
    project.measure().assert_outcomes(passed=1)


def test_a_unittest_method_is_refused_with_a_reason(project):
    project.pytester.makepyfile(
        """
        import unittest, pytest

        class TestModel(unittest.TestCase):
            @pytest.mark.inference
            def test_model(self):
                pass
        """
    )
    result = project.measure()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*an inference test cannot be a method of unittest.TestCase*"])


def test_a_model_that_raises_fails_with_its_own_traceback_only(project):
    project.pytester.makepyfile(
        """
        def broken():
            raise ValueError("wrong weights")

        def test_model(infer):
            infer(broken)

        def test_other(infer, model):
            infer(model)
        """
    )
    result = project.measure()
    result.assert_outcomes(failed=1, passed=1)
    output = result.stdout.str()
    assert "wrong weights" in output
    assert "pytest_infergate" not in output.split("infergate ====")[0].split("FAILURES")[1]
    result.stdout.fnmatch_lines(["*test_model?fake?: the test itself failed*"])


def test_a_failed_test_is_not_recorded(project):
    project.test(body="infer(model); assert False")
    project.measure("--infer-save").assert_outcomes(failed=1)
    assert not list((project.path / ".infergate/baselines").glob("*.json"))


def test_out_of_memory_is_a_result(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.inference(batch_sizes=[1, 512])
        def test_model(infer, model, device):
            def hungry():
                if infer.batch_size > 100:
                    raise MemoryError("cannot allocate 7 TB")
                model()
            infer(hungry)
        """
    )
    result = project.measure("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["*infeasible*", "*out of memory on fake at batch size 512: cannot allocate 7 TB*"]
    )


def test_out_of_memory_where_the_baseline_had_room_is_a_regression(project):
    project.test()
    project.record()
    project.test(body="infer(lambda: (_ for _ in ()).throw(MemoryError()))")
    project.pytester.makepyfile(
        test_it="""
        def test_model(infer):
            def hungry():
                raise MemoryError
            infer(hungry)
        """
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*out of memory*"])


def test_a_tracer_makes_the_case_invalid_and_names_the_cure(project):
    project.test(body="import sys; sys.settrace(lambda *_: None); infer(model); sys.settrace(None)")
    result = project.measure()
    assert result.ret == 1  # nothing was measured
    result.stdout.fnmatch_lines(["*invalid*", "*a tracer was active while timing*--no-cov*"])
    project.test(
        "budget={'p50_ms': 40}", "import sys; sys.settrace(lambda *_: None); infer(model); sys.settrace(None)"
    )
    project.measure().assert_outcomes(failed=1)


def test_nothing_measured_is_not_green(project):
    project.test("devices=['ghost']")
    result = project.run("--infer-devices=fake,ghost")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED: *", "*nothing was measured although 1 case had been selected"])


def test_the_users_own_skip_is_not_held_against_the_run(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.skip(reason="not today")
        @pytest.mark.inference
        def test_model(infer, model):
            infer(model)

        def test_plain():
            pass
        """
    )
    assert project.measure().ret == 0
    assert project.measure("-k", "plain").ret == 0


def test_a_test_killed_in_the_middle_damages_nothing(project):
    project.test()
    project.record()
    file = next((project.path / ".infergate/baselines").glob("*.json"))
    before = file.read_bytes()
    project.test(body="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "pytest_infergate.plugin.hooks",
        "--infer-devices=fake",
        "--infer-save",
    ]
    done = subprocess.run(command, cwd=project.path, capture_output=True, check=False)
    assert done.returncode == -9
    assert file.read_bytes() == before
    project.test()
    assert project.measure().ret == 0  # the lock of the dead run is gone


def test_ctrl_c_reports_what_was_measured(project):
    project.test()
    project.test(file="test_second.py", body="raise KeyboardInterrupt")
    result = project.pytester.runpytest_subprocess(
        "-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", "--infer-json=r.json"
    )
    assert result.ret == 2
    assert (project.path / "r.json").exists()
    result.stdout.fnmatch_lines(["*test_it.py::test_model?fake?*", "*KeyboardInterrupt*"])


def test_two_cases_with_one_id_are_refused(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("x", ["b", "a-b"])
        @pytest.mark.parametrize("y", ["c-a", "c"])
        def test_model(infer, model, x, y):
            infer(model)
        """
    )
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: two inference cases share the id *test_model?fake-c-a-b?: give *"])


def test_a_measuring_run_inside_a_measured_test_is_refused(project):
    project.test(
        body="import subprocess, sys; infer(model); done = subprocess.run([sys.executable, '-m', 'pytest', '-p', "
        "'pytest_infergate.plugin.hooks', '--infer-devices=fake', '-k', 'inner'], capture_output=True, text=True, "
        "timeout=60); assert done.returncode == 4, done.stdout; assert 'add --infer-disable' in done.stderr"
    )
    project.test(file="test_inner.py")
    project.measure("test_it.py").assert_outcomes(passed=1)


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_an_unusable_lock_is_exit_code_4(project, kind):
    from pytest_infergate.measure.lock import MachineLock

    path = MachineLock().path
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.write_text("not a lock " * 100)
    project.test()
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot lock the machine with *; delete it, or set TMPDIR"])


def test_an_interrupted_run_does_not_read_as_passed(project):
    project.test()
    project.test(file="test_second.py", body="raise KeyboardInterrupt")
    project.pytester.runpytest_subprocess(
        "-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", "--infer-json=r.json"
    )
    gate = json.loads((project.path / "r.json").read_text())["gate"]
    assert gate["passed"] is False
    assert "the run was interrupted" in gate["reasons"]


def test_cases_that_never_report_are_not_green(project):
    project.test("batch_sizes=[1, 2]", "infer(model); pytest.exit('enough', returncode=0)")
    result = project.measure()
    result.stdout.fnmatch_lines(["FAILED: *"])


def test_sessions_that_only_show_something_leave_the_results_alone(project):
    project.test()
    (project.path / "r.json").write_text("before")
    for option in ("--collect-only", "--setup-plan", "--setup-only", "--fixtures"):
        project.measure("--infer-json=r.json", option)
        assert (project.path / "r.json").read_text() == "before"


def test_lost_tests_fail_a_strict_run(project):
    project.test()
    project.pytester.makepyfile(test_plain="def test_plain(): pass")
    project.record()
    (project.path / "test_it.py").unlink()
    result = project.measure("--infer-strict")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*test_it.py::test_model?fake?*", "*1 case of the baseline not met by this run*"]
    )
    assert project.measure().ret == 0


def test_a_fixture_of_the_users_own_named_infer_is_left_alone(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=[1, 2])
        def infer(request):
            return lambda x: x * request.param

        def test_mine(infer):
            assert infer(2) in (2, 4)
        """
    )
    project.run().assert_outcomes(passed=2)
    project.measure().assert_outcomes(passed=2)


def test_a_wrapper_around_the_fixture_still_counts(project):
    conftest = (project.path / "conftest.py").read_text()
    wrapper = "\n@pytest.fixture\ndef infer(infer):\n    return lambda *args: infer(*args)\n"
    project.pytester.makeconftest(conftest.replace("infer.device", "'fake'") + wrapper)
    project.test()
    project.measure().assert_outcomes(passed=1)


def test_budgets_of_module_and_test_join(project):
    project.pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.inference(budget={"p50_ms": 1, "p95_ms": 500})

        @pytest.mark.inference(budget={"peak_memory_mb": 500})
        def test_model(infer, model):
            infer(model)
        """
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*p50*10.0 ms*1.00 ms*"])
