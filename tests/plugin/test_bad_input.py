"""What users get wrong, and its message: what, where, hint; exit code 4 before anything is measured."""

import errno
import json
import os
import subprocess
import sys

import pytest
from inner_results import failures
from inputs import checked, given, listed, message, of_marker, parsed

OPTIONS = """
--infer-devices=gpu
--infer-devices=cdua
--infer-devices=,
--infer-devices=fake:x
--infer-devices=ghost
--infer-devices=cuda:3,ghost
--infer-require=ghost
--infer-devices=fake --infer-require=auto
--infer-dtypes=fp16
--infer-runtimes=tensorrt
--infer-runtimes=eager:fast
--infer-threads=0
--infer-workers=0
--infer-workers=-1
--infer-workers=two
--infer-workers=1.5
--infer-workers=
--infer-tolerance=5
--infer-tolerance=-5%
--infer-tolerance=p95=5%
--infer-tolerance=operator=off
--infer-tolerance=gflops=5%
--infer-tolerance=p50=off
--infer-tolerance=operators=on
--infer-tolerance=operators=2
--infer-max-time=soon
--infer-max-total=0
--infer-min-decided=300%
--infer-gate=maybe
--infer-xdist=yes
--infer-demand=50
--infer-demand=0/s
--infer-demand=fast
--infer-prices=no.csv
--infer-prices=test_it.py
--infer-report=no/such/r.html
--infer-markdown=no/such.md
--infer-json=.
--infer-json=x.out --infer-report=x.out
--infer-markdown=x.out --infer-json=x.out
--infer-json=test_it.py
--infer-markdown=test_it.py
--infer-json=../.infergate/baselines/x.json
--infer-report=../.infergate/counters/x.txt
--infer-counters=s3://bucket/x
--infer-counters=file
--infer-save --infer-baseline=file/x
--infer-save --infer-counters=file/x
--infer-against=
--infer-against-python=
--infer-save --infer-against=main
--infer-save --infer-against-python=python
--infer-against-runtime=
--infer-against-runtime=onnx
--infer-save --infer-against-runtime=eager
--infer-against=main --infer-against-runtime=eager
--infer-against-python=python --infer-against-runtime=eager
--infer-counters-only --infer-against-runtime=eager
--infer-runtimes=eager --infer-against-runtime=eager
--infer-workers=2 --infer-against=main
--infer-paired-data=t.json
--infer-paired-data=t.json --infer-devices=fake
""".strip().splitlines()
INI = """
infer_tolerance=5
infer_counters=s3://bucket/x
infer_save=perhaps
infer_devices=cdua
infer_against=main infer_save=yes
infer_threads=none
""".strip().splitlines()
TABLES = """
infergate = 3
infergate.bugdets = 1
infergate.tolerance = {}
infergate.overlays = ['x']
infergate.set_up = 'x'
infergate.budgets = 1
infergate.budgets = { '*' = { p95 = 4 } }
infergate.budgets = { '*' = 4 }
infergate.budgets = { '*' = { p95_ms = -4 } }
infergate.tolerances = '5%'
infergate.tolerances = { '*' = { operator = '5%' } }
infergate.tolerances = { '*' = { p50 = 'off' } }
infergate.tolerances = { '*' = { operators = 5 } }
infergate.gate_estimates = 'yes'
infergate.overlay = 'weights'
infergate.overlay = 3
infergate.overlay = ['a', true]
infergate.overlay = { a = 1 }
infergate.overlay = ['weights', '/etc/passwd']
infergate.overlay = ['../other']
infergate.overlay = ['a/../../b']
infergate.overlay = ['a/..']
infergate.overlay = ['']
infergate.overlay = ['.']
infergate.setup = 3
infergate.setup = true
infergate.setup = ['make']
infergate.setup = '  '
infergate.prices = 3
infergate.prices = ' '
infergate.utilisation = 0
infergate.utilisation = '120%'
infergate.utilisation = 60
infergate.utilisation = true
infergate.region = 3
infergate.region = ['']
infergate.instances = 3
infergate.instances = { gpu = 'x' }
infergate.instances = { cpuu = 'x' }
infergate.instances = { cpu = 1.2 }
infergate.instances = { cpu = { eur_per_hour = 1 } }
infergate.instances = { cpu = { usd_per_hour = true } }
infergate.instances = { cpu = { usd_per_hour = -1 } }
infergate.instances = { cpu = { usd_per_hour = nan } }
infergate.discounts = { '*' = 1 }
infergate.discounts = { '*' = 30 }
""".strip().splitlines()
MARKERS = """
batch_size=[1]
[1, 8]
batch_sizes=[0]
batch_sizes=[]
batch_sizes=[True]
budget={'p95': 4}
budget={'p95_ms': -4}
budget={'p95_ms': '4'}
budget={'p95_ms': True}
budget={'p95_ms': float('nan')}
budget={'p95_ms': float('inf')}
budget=4
devices=['gpu']
devices=['cuda:x']
dtypes=['fp16']
runtimes=['onnx']
runtimes=['compile:fast']
runtimes=['openvino:bf16']
threads=0
tolerance=5
tolerance={'operator': 'off'}
tolerance={'p50': 'off'}
tolerance={'operators': True}
tolerance={'operators': None}
gate='no'
gate=True
max_time=-1
unit=3
unit='two words'
parity=True
parity='off'
parity=-0.1
parity=''
parity=[0.1]
parity=float('nan')
parity=5
demand='50'
demand='0/s'
demand='often'
""".strip().splitlines()


@pytest.fixture
def folder(tmp_path):
    """A project with files and folders that options may not name."""
    for name in ("sub", ".infergate/baselines", ".infergate/counters"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("file", "test_it.py", "sub/test_it.py"):
        (tmp_path / name).write_text("no table\n")
    return tmp_path


def refused(messages, folder):
    """What was said of everything, all of it refused."""
    assert [source for source, said in messages.items() if said.startswith("NOT REFUSED")] == []
    return listed(messages, folder)


def test_messages_about_options(folder, snapshot):
    found = {}
    for line in OPTIONS:
        devices = {} if line.startswith(("--infer-devices", "--infer-paired-data")) else {"devices": "fake"}
        found[line] = message(checked, folder, {**devices, **given(line)})
    assert refused(found, folder) == snapshot


def test_messages_about_ini_values(folder, snapshot):
    found = {}
    for line in INI:
        values = dict(word.removeprefix("infer_").split("=") for word in line.split())
        found[line] = message(checked, folder, {"strict": True}, values)
    assert refused(found, folder) == snapshot


def test_messages_about_tables(folder, snapshot):
    found = {line: message(checked, folder, {"devices": "fake"}, table=f"tool.{line}\n") for line in TABLES}
    assert refused(found, folder) == snapshot


def test_messages_about_markers(folder, snapshot):
    assert refused({line: message(of_marker, line) for line in MARKERS}, folder) == snapshot


def test_a_run_that_measures_nothing_reads_no_table(folder):
    assert parsed(folder, table="[tool.infergate]\nsetup = 3\n").setup is None


def test_bad_input_ends_the_run_with_exit_code_4_before_anything_is_measured(project):
    """Where it is parsed, where it is checked, and where stores are found."""
    project.test(body="(infer(model), __import__('pathlib').Path('ran').touch())")
    (project.path / "pyproject.toml").write_text("[tool.infergate]\nbugdets = 1\n")
    for options in (
        ["--infer-gate=warn"],
        ["-o", "infer_tolerance=5"],
        ["--infer-require=ghost"],
        ["--infer-baseline=vault://bucket/x"],
        ["--infer-save", "--infer-counters=conftest.py/x"],
        ["--infer-against-python=/no/such/python"],
    ):
        result = project.measure(*options)
        assert result.ret == 4, options
        (line,) = filter(None, result.errlines)
        assert line.startswith("ERROR: ")
        assert "Traceback" not in result.stdout.str()
        (project.path / "pyproject.toml").unlink(missing_ok=True)  # was the first
    assert not (project.path / "ran").exists()
    assert not list((project.path / ".infergate").rglob("*.json"))


def test_bad_markers_are_an_error_of_that_test_alone(project):
    bad = {"test_a.py": "batch_size=[1]", "test_b.py": "[1, 8]", "test_c.py": "demand='often'"}
    for file, arguments in bad.items():
        project.test(arguments, file=file)
    project.test()
    result = project.measure("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines([f"{file}::test_model: @pytest.mark.inference*" for file in bad])
    assert "another exception" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


# Files of infergate


@pytest.mark.parametrize("file", [".infergate/baselines/*.json", ".infergate/counters/*.txt"])
def test_an_unreadable_file_stops_the_run_and_is_left_alone(project, file):
    """What cannot be read is tested with the stores."""
    project.test(body="(infer(model), __import__('pathlib').Path('ran').touch())")
    project.record()
    (project.path / "ran").unlink()
    (path,) = project.path.glob(file)
    path.write_text("<<<<<<< HEAD\n")
    for options in ([], ["--infer-save"]):
        result = project.measure(*options)
        assert result.ret == 4
        result.stderr.fnmatch_lines([f"ERROR: *{path.name}*"])
        assert "Traceback" not in result.stderr.str()
        assert path.read_text() == "<<<<<<< HEAD\n"
    assert not (project.path / "ran").exists()


@pytest.mark.parametrize("key", ["\x1b[31mred", "\ud800", "##[error]x", "\u202e", "x\n::error::y"])
def test_an_unknown_key_of_a_file_is_shown_and_never_obeyed(project, key):
    project.test()
    project.record()
    (path,) = (project.path / ".infergate" / "baselines").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 1}))
    result = project.measure()
    output = result.stdout.str() + result.stderr.str()
    assert result.ret == 4
    assert path.name in output
    assert key not in output
    assert "\n::error" not in output


def test_a_full_disk_is_told_and_the_verdicts_are_not_lost(project, monkeypatch):
    project.test()

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", no_space)
        result = project.measure("--infer-report=r.html", "--infer-json=r.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*no-baseline*", "ERROR: *r.json*No space left on device*", "ERROR: *r.html*"]
    )
    assert not list(project.path.glob("r.*"))


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_an_unusable_lock_is_exit_code_4(project, kind):
    from pytest_infergate.measure.lock import MachineLock

    path = MachineLock().path
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.write_text("not a lock " * 100)
    project.test()
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot lock the machine with *"])


# Tests that are not as they should be


def test_all_invalid_markers_of_a_module_are_reported(project):
    project.several({"a": "batchsizes=[1]", "b": "budget={'p95': 1}", "c": ""})
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*::test_a: *batch_sizes*", "*::test_b: *p95_ms*"])


MISUSE = """
    import pytest

    def test_twice(infer, model):
        infer(model)
        infer(model)

    @pytest.mark.inference
    def test_never(infer):
        pass

    def test_caught(infer):
        with pytest.raises(ValueError):
            infer(lambda: int("x"))

    def test_by_name(request):
        request.getfixturevalue("infer")

    def broken():
        raise ValueError("wrong weights")

    def test_broken(infer):
        infer(broken)

    def test_asserts(infer, model):
        assert not infer(model).output

    @pytest.fixture
    def result(infer, model):
        return infer(model)

    def test_other(result):
        assert result.output
"""


def test_misuse_fails_with_a_hint_and_is_not_recorded(project, snapshot):
    project.pytester.makepyfile(test_it=MISUSE)
    result = project.measure("--infer-save", "--infer-json=r.json")
    result.assert_outcomes(passed=1, failed=6)
    said = failures(result)
    for name, words in {"test_broken[fake]": "wrong weights", "test_asserts[fake]": "assert not"}.items():
        traceback = said.pop(name)
        assert words in traceback
        assert "pytest_infergate" not in traceback
    assert said == snapshot
    assert project.decided("r.json")["broken"].codes == {"test-failed"}
    (baseline,) = (project.path / ".infergate/baselines").glob("*.json")
    assert [case["case"]["test"] for case in json.loads(baseline.read_text())["cases"]] == [
        "test_it.py::test_other"
    ]
    plain = failures(project.run())
    assert {name.partition("[")[0] for name in plain} == {name.partition("[")[0] for name in said} - {
        "test_caught"
    } | {"test_broken", "test_asserts"}


def test_a_fixture_of_the_users_own_named_infer_is_left_alone_and_a_wrapper_counts(project):
    wrapper = "\n@pytest.fixture\ndef infer(infer):\n    return lambda *args: infer(*args)\n"
    conftest = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(conftest.replace("infer.device", "'fake'") + wrapper)
    project.test()
    project.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.fixture(params=[1, 2])
        def infer(request):
            return lambda x: x * request.param

        def test_mine(infer):
            assert infer(2) in (2, 4)
        """
    )
    project.run().assert_outcomes(passed=3)
    project.measure().assert_outcomes(passed=3)


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
    result.stderr.fnmatch_lines(
        ["ERROR: inference cases must have distinct ids, got *test_model?fake-c-a-b? twice. Hint: *"]
    )


def test_a_tracer_makes_the_case_invalid(project):
    body = "import sys; sys.settrace(lambda *_: None); infer(model); sys.settrace(None)"
    project.several({"plain": "", "limited": "budget={'p50_ms': 40}"}, body)
    decided = project.verdicts()
    assert {name: (one.verdict, one.failed) for name, one in decided.items()} == {
        "plain": ("invalid", False),
        "limited": ("over-budget", True),
    }
    assert "tracer" in decided["plain"].codes
    project.several({"plain": ""}, body)
    assert project.measure().ret == 1  # nothing was measured


def test_out_of_memory_is_a_regression_only_where_the_baseline_had_room(project):
    project.several({"old": ""})
    project.record()
    project.several({"old": "", "new": ""}, "infer(hungry)")
    with (project.path / "test_it.py").open("a") as file:
        file.write("\n\ndef hungry():\n    raise MemoryError('cannot allocate 7 TB')\n")
    result = project.measure("-rs", "--infer-json=r.json")
    result.assert_outcomes(failed=1, skipped=1)
    decided = project.decided("r.json")
    assert (decided["old"].verdict, decided["old"].failed) == ("regressed", True)
    assert (decided["new"].verdict, decided["new"].failed) == ("infeasible", False)
    assert decided["new"].codes == {"out-of-memory"}


# Runs that are not as they should be


def test_nothing_measured_is_not_green(project):
    project.test("devices=['ghost']")
    result = project.run("--infer-devices=fake,ghost")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["gate FAILED: *", "*nothing was measured although 1 case had been selected"])


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


def test_cases_that_never_report_are_not_green(project):
    project.test("batch_sizes=[1, 2]", "infer(model); pytest.exit('enough', returncode=0)")
    result = project.measure()
    result.stdout.fnmatch_lines(["gate FAILED: *"])


def test_ctrl_c_reports_what_was_measured_and_does_not_read_as_passed(project):
    project.test()
    project.test(file="test_second.py", body="raise KeyboardInterrupt")
    result = project.pytester.runpytest_inprocess(
        *("-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", "--infer-json=r.json"),
        no_reraise_ctrlc=True,
    )
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*test_it.py::test_model?fake?*", "*KeyboardInterrupt*"])
    session = json.loads((project.path / "r.json").read_text())
    assert [case["outcome"] for case in session["cases"]] == ["measured"]
    assert session["gate"]["passed"] is False
    assert "the run was interrupted" in session["gate"]["reasons"]


def test_runs_that_only_show_something_leave_the_results_alone(project):
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
        ["*test_it.py::test_model?fake?*", "*1 case of the baseline missing from this run (strict)"]
    )
    assert project.measure().ret == 0


@pytest.mark.nightly
def test_a_test_killed_in_the_middle_damages_nothing(project):
    project.test()
    project.record()
    file = next((project.path / ".infergate/baselines").glob("*.json"))
    before = file.read_bytes()
    project.test(body="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    command = [sys.executable, "-m", "pytest", "-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake"]
    done = subprocess.run([*command, "--infer-save"], cwd=project.path, capture_output=True, check=False)
    assert done.returncode == -9
    assert file.read_bytes() == before
    project.test()
    assert project.measure().ret == 0  # the lock of the dead run is gone


@pytest.mark.slow
def test_a_measuring_run_inside_a_measured_test_is_refused(project):
    project.test(
        body="import subprocess, sys; infer(model); done = subprocess.run([sys.executable, '-m', 'pytest', '-p', "
        "'pytest_infergate.plugin.hooks', '--infer-devices=fake', '-k', 'inner'], capture_output=True, text=True, "
        "timeout=60); assert done.returncode == 4, done.stdout; assert 'add --infer-disable' in done.stderr"
    )
    project.test(file="test_inner.py")
    project.measure("test_it.py").assert_outcomes(passed=1)


def test_a_strict_run_says_that_an_absent_device_fails_it(project):
    project.test()
    hint = "--infer-strict fails cases of an absent device"
    project.run("--infer-devices=fake,ghost", "-rs").stdout.no_fnmatch_line(f"*{hint}*")
    result = project.run("--infer-devices=fake,ghost", "--infer-strict", "-rs")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"SKIPPED*no ghost device found ({hint}*auto*)"])
    result.stdout.fnmatch_lines([f"*test_model?ghost?: no ghost device found ({hint}*"])
