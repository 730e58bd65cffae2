"""Beside other plugins: pytest-xdist, pytest-rerunfailures, pytest-cov."""

import json
import xml.etree.ElementTree as ET

import pytest

from pytest_infergate.storage import counter_files

pytestmark = pytest.mark.slow


@pytest.fixture
def xdist(monkeypatch):
    """Options that distribute a run, whose controller is this process."""
    pytest.importorskip("xdist")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # of this suite, where xdist runs it
    return ("-p", "xdist.plugin", "-n2")


TESTS = """
    import os, time
    from pathlib import Path

    import pytest

    def note(word):
        with Path(__file__).with_name("log").open("a") as log:
            log.write(f"{os.getpid()} {word}\\n")

    @pytest.mark.inference(batch_sizes=[1, 2, 3])
    def test_model(infer, model):
        note("alone"); infer(model); time.sleep(0.05); note("done")

    @pytest.mark.parametrize("i", range(8))
    def test_plain(i):
        note("shared"); time.sleep(0.02); note("done")
"""
WRITES = """
import os

from pytest_infergate.instruments.device import DeviceCounters
from pytest_infergate.storage import counter_files

DEVICE.counters = DeviceCounters(totals={"operators": int(Path("operators").read_text())})
if "PYTEST_XDIST_WORKER" in os.environ:
    counter_files.atomic_write = None
"""


def test_xdist_carries_verdicts_and_counters_to_the_controller(project, xdist, monkeypatch):
    """Also lines and what is missing. A case has the machine alone."""
    written = []
    write = counter_files.atomic_write
    monkeypatch.setattr(
        counter_files, "atomic_write", lambda path, text: (written.append(path.name), write(path, text))
    )
    project.change(WRITES)
    (project.path / "operators").write_text("3")
    project.pytester.makepyfile(test_it=TESTS)
    project.test(file="test_gone.py")
    result = project.measure(*xdist, "--infer-save", "--infer-json=r.json")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["nothing was decided: 4 cases, 4 without a baseline"])
    cases = json.loads((project.path / "r.json").read_text())["cases"]
    assert [(case["case"]["test"], case["line"]) for case in cases] == [
        ("test_gone.py::test_model", 3),
        *[("test_it.py::test_model", 10)] * 3,
    ]
    assert sorted(written) == ["test_gone.py.txt", "test_it.py.txt"]
    assert (project.path / ".infergate/counters/test_it.py.txt").read_text().count("\ncase ") == 3
    inside = {}
    for line in (project.path / "log").read_text().splitlines():
        worker, word = line.split()
        if word == "done":
            del inside[worker]
        else:
            inside[worker] = word
        assert not ("alone" in inside.values() and len(inside) > 1), line

    (project.path / "operators").write_text("5")
    (project.path / "test_gone.py").unlink()
    result = project.measure(*xdist, "--junitxml=j.xml")
    result.assert_outcomes(passed=8, failed=3)
    result.stdout.fnmatch_lines(["*missing*", "*test_gone.py::test_model*", "*3 cases regressed"])
    assert len(list(ET.parse(project.path / "j.xml").iter("failure"))) == 3


@pytest.mark.parametrize(
    "option",
    [
        "--infer-xdist=refuse",
        "--infer-require=ghost",
        "--infer-report=no/r.html",
        "--infer-list",
        "--infer-devices=gpu",
        "--infer-workers=2",
        "--infer-against=HEAD",
    ],
)
def test_xdist_stops_with_exit_code_4_before_its_workers_start(project, xdist, option):
    project.test()
    result = project.measure(*xdist, option)
    assert result.ret == 4
    (line,) = filter(None, result.errlines)
    assert line.startswith(f"ERROR: {option.partition('=')[0]}")
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_run_without_xdist_is_not_refused(project):
    project.test()
    assert project.measure("--infer-xdist=refuse").ret == 0


def test_a_rerun_repeats_the_verdict_without_measuring_again(project):
    pytest.importorskip("pytest_rerunfailures")
    project.test(
        body="from pathlib import Path; log = Path('runs'); log.touch(); before = device.kernels; "
        "infer(model); log.write_text(log.read_text() + f'{device.kernels - before} ')"
    )
    project.record()
    (project.path / "runs").unlink()
    project.takes(0.05)
    result = project.measure("-p", "pytest_rerunfailures", "--reruns=2", "-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*2 rerun*"])
    runs = [int(word) for word in (project.path / "runs").read_text().split()]
    assert len(runs) == 3
    assert runs[0] > 0
    assert runs[1:] == [0, 0]


@pytest.mark.nightly
def test_coverage_makes_cases_invalid_with_the_cure(project):
    pytest.importorskip("pytest_cov")
    project.test()
    options = ("-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", "-p", "pytest_cov", "--cov=.")
    result = project.pytester.runpytest_subprocess(*options)
    result.stdout.fnmatch_lines(["*a tracer was active while timing*--no-cov*"])
    assert "a tracer" not in project.pytester.runpytest_subprocess(*options, "--no-cov").stdout.str()
