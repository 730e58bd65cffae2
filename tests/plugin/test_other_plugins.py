"""Beside other plugins: pytest-xdist, pytest-rerunfailures, pytest-cov."""

import json

import pytest

pytestmark = pytest.mark.slow


def run(project, *arguments):
    return project.pytester.runpytest_subprocess(
        "-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", *arguments
    )


@pytest.fixture
def xdist():
    pytest.importorskip("xdist")
    return ("-p", "xdist.plugin", "-n2")


def test_xdist_carries_verdicts_to_the_controller(project, xdist):
    project.test("batch_sizes=[1, 2, 3]")
    project.pytester.makepyfile(
        test_plain="import pytest\n@pytest.mark.parametrize('i', range(20))\ndef test_plain(i): pass"
    )
    result = run(project, *xdist, "--infer-save", "--infer-json=r.json")
    result.assert_outcomes(passed=23)
    result.stdout.fnmatch_lines(["passed: 0 of 3 cases decided, 3 no-baseline"])
    session = json.loads((project.path / "r.json").read_text())
    assert len(session["cases"]) == 3
    project.takes(0.1)
    result = run(project, *xdist, "--junitxml=j.xml")
    result.assert_outcomes(passed=20, failed=3)
    result.stdout.fnmatch_lines(["*3 cases regressed"])
    assert (project.path / "j.xml").read_text().count("<failure") == 3


def test_xdist_lists_what_is_missing(project, xdist):
    project.test()
    project.test(file="test_gone.py")
    project.record()
    (project.path / "test_gone.py").unlink()
    result = run(project, *xdist)
    result.stdout.fnmatch_lines(["*missing*", "*test_gone.py::test_model*"])


def test_xdist_can_be_refused(project, xdist):
    project.test()
    result = run(project, *xdist, "--infer-xdist=refuse")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --infer-xdist=refuse: timing beside other workers is refused*"])
    assert run(project, "--infer-xdist=refuse").ret == 0


@pytest.mark.parametrize(
    "options",
    [["--infer-require=ghost"], ["--infer-report=no/r.html"], ["--infer-list"], ["--infer-devices=gpu"]],
)
def test_xdist_stops_with_exit_code_4_before_its_workers_start(project, xdist, options):
    project.test()
    result = run(project, *xdist, *options)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --infer-*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_cases_of_two_workers_never_overlap(project, xdist):
    project.pytester.makepyfile(
        """
        import os, time
        from pathlib import Path
        import pytest

        def note(word):
            with Path(__file__).with_name("log").open("a") as log:
                log.write(f"{os.getpid()} {word}\\n")

        @pytest.mark.parametrize("i", range(3))
        def test_model(infer, model, i):
            note("alone"); infer(model); time.sleep(0.05); note("done")

        @pytest.mark.parametrize("i", range(12))
        def test_plain(i):
            note("shared"); time.sleep(0.02); note("done")
        """
    )
    run(project, *xdist).assert_outcomes(passed=15)
    inside = {}
    for line in (project.path / "log").read_text().splitlines():
        worker, word = line.split()
        if word == "done":
            del inside[worker]
        else:
            inside[worker] = word
        assert not ("alone" in inside.values() and len(inside) > 1), line


def test_a_rerun_repeats_the_verdict_without_measuring_again(project):
    pytest.importorskip("pytest_rerunfailures")
    project.test(
        body="from pathlib import Path; log = Path('runs'); log.touch(); before = device.kernels; "
        "infer(model); log.write_text(log.read_text() + f'{device.kernels - before} ')"
    )
    project.record()
    (project.path / "runs").unlink()
    project.takes(0.05)
    result = run(project, "-p", "pytest_rerunfailures", "--reruns=2", "-v", "-p", "no:xdist")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*2 rerun*"])
    runs = [int(word) for word in (project.path / "runs").read_text().split()]
    assert len(runs) == 3
    assert runs[0] > 0
    assert runs[1:] == [0, 0]


def test_coverage_makes_cases_invalid_with_the_cure(project):
    pytest.importorskip("pytest_cov")
    project.test()
    result = run(project, "-p", "pytest_cov", "--cov=.")
    result.stdout.fnmatch_lines(["*a tracer was active while timing*--no-cov*"])
    assert "a tracer" not in run(project, "-p", "pytest_cov", "--cov=.", "--no-cov").stdout.str()
