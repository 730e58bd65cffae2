"""The options, ini values and tables of a paired run, and its argument of the marker.

What is refused, and with which words, is in `test_bad_input`.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from inputs import KINDS, message, parsed

from pytest_infergate.config.marker import Marker, parse_marker
from pytest_infergate.config.options import OPTIONS
from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import base_setup, compare_run, selected_case
from pytest_infergate.paired.launches import LaunchesResult


@pytest.fixture
def parse(tmp_path):
    """Parse what the command line and the ini file say, in a project of its own."""
    return lambda *given, **named: parsed(tmp_path, *given, **named)


# Options


@pytest.mark.parametrize("name", ["against", "against_python"])
def test_an_opponent_switches_measuring_on_wherever_it_is_named(parse, name):
    found = parse({name: "there"})
    assert (found.measuring, found.paired, getattr(found, name)) == (True, True, "there")
    assert found.command == {name: "there"}
    found = parse(ini={name: "there"})
    assert (found.measuring, found.paired, getattr(found, name)) == (True, True, "there")
    assert (found.command, found.ini) == ({}, {name: "there"})
    assert parse({name: "there"}, {"save": "no"}).paired


def test_the_command_line_wins_over_the_ini_file(parse):
    assert parse({"against": "main"}, {"against": "v1", "against_python": "old"}).against == "main"
    assert parse({"against": "main"}, {"against_python": "old"}).against_python == "old"
    with pytest.raises(ConfigurationError):  # an empty one is a variable that is not set
        parse({"against": ""}, {"against": "main"})
    with pytest.raises(ConfigurationError):
        parse({"against": "main"}, {"save": "yes"})


@pytest.mark.parametrize("command", [{}, {"devices": "cpu"}, {"save": True}])
def test_no_other_run_is_paired(parse, command):
    found = parse(command)
    assert not found.paired
    assert (found.against, found.against_python, found.turns) == (None, None, None)


def test_what_was_asked_for_is_given_by_option(parse):
    found = parse({"against": "main", "turns": "t.json"}, {"against_python": "/old/python", "against": "v1"})
    assert found.given == {
        "--infer-against": "main",
        "--infer-against-python": "/old/python",
        "--infer-paired-data": "t.json",
    }
    assert list(found.given) == [option.flag for option in OPTIONS if option.flag in found.given]


def test_turns_are_written_where_pytest_was_called(parse, tmp_path):
    assert parse({"against": "main", "turns": "t.json"}).turns == tmp_path / "sub" / "t.json"
    assert parse({"against_python": "old", "turns": "/tmp/t.json"}).turns == Path("/tmp/t.json")


def test_turns_that_cannot_be_written_are_a_problem_and_no_end(tmp_path):
    nothing = LaunchesResult([], [], 0, False, 0)
    assert compare_run._keep(None, [], nothing, Against()) == ((), ())
    kept, (problem,) = compare_run._keep(tmp_path, [], nothing, Against())
    assert kept == ()
    assert str(tmp_path) in problem
    assert compare_run._keep(tmp_path / "turns.json", [], nothing, Against()) == (
        (f"wrote {tmp_path / 'turns.json'}",), ()
    )  # fmt: skip


def test_a_run_that_measures_nothing_stays_one(parse):
    """A plain `pytest` of everyday has to pass beside an ini file; --infer-disable wins over all."""
    assert not parse(ini={"turns": "t.json"}).measuring
    assert not parse({"disable": True, "against": "main"}).measuring
    assert not parse({"disable": True, "save": True}, {"against": "main"}).measuring


def test_an_opponent_in_the_ini_file_of_a_project_is_looked_for(project):
    project.test()
    project.run().assert_outcomes(passed=1)
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_against = main\n")
    result = project.run("--infer-devices=fake")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *is not inside a git repository; *"])


def test_help_tells_of_every_option_and_its_ini_value(project):
    said = project.run("--help").stdout.str()
    assert [
        option.flag for option in OPTIONS if option.flag not in said or f"{option.ini} (" not in said
    ] == []


# The table in pyproject.toml


def test_overlay_and_setup_of_the_table(parse):
    table = "[tool.infergate]\noverlay = ['weights', 'data/a.bin', 'a..b']\nsetup = 'make build'\n"
    found = parse({"against": "main"}, table=table)
    assert found.overlay == ("weights", "data/a.bin", "a..b")
    assert found.setup == "make build"
    bare = parse({"against": "main"})
    assert (bare.overlay, bare.setup) == ((), None)


# The marker


def parity(*values):
    """The parity of a test under markers, nearest first."""
    return parse_marker([((), {"parity": value}) for value in values], KINDS).parity


def test_parity_is_a_share_or_false_and_the_nearest_wins():
    for value, meant in (
        *((None, None), (False, False), (0.05, 0.05), ("5%", 0.05), ("0.5", 0.5), (0, 0.0), (1, 1.0)),
    ):
        found = parity(value)
        assert (found, type(found)) == (meant, type(meant)), value
    assert parity(False, 0.05) is False
    assert parity(0.05, False) == 0.05
    assert parity(None, False) is False
    assert parity(0, "5%") == 0.0
    assert Marker().parity is None


# What reaches the launches


def wanted(settings, **arguments):
    entry = selected_case.SelectedCase(
        "t.py::test_a", Path("t.py"), Case(test="t.py::test_a", device="cpu"), Marker(**arguments)
    )
    return compare_run._wanted(SimpleNamespace(settings=settings), entry)


@pytest.mark.parametrize(
    ("value", "tolerance", "compared"),
    [(None, None, True), (False, None, False), (0.05, 0.05, True), (0, 0.0, True)],
)
def test_parity_reaches_the_launches(parse, value, tolerance, compared):
    """0 asks for equal outputs, which is not what the dtype allows."""
    found = wanted(parse({"against": "main"}), parity=value)
    assert (found.parity, found.compared) == (tolerance, compared)


def test_tolerance_and_time_reach_the_launches(parse):
    plain = wanted(parse({"against": "main"}))
    assert (plain.plan.tolerance, plain.max_seconds) == (0.02, 180.0)
    given = parse({"against": "main", "tolerance": "5%", "max_time": "2min"})
    wide = wanted(given)
    assert (wide.plan.tolerance, wide.max_seconds) == (0.05, 120.0)
    assert wanted(given, tolerance={"p50": 0.1}, max_time=2.0).plan.tolerance == 0.05


# The base made ready, and told from the candidate


@pytest.fixture
def make_base(parse, tmp_path):
    """What a run of the project in this folder is compared with, its last commit."""
    git = (
        "git",
        "-c",
        "user.name=Tester",
        "-c",
        "user.email=tester@example.org",
        "-c",
        "commit.gpgsign=false",
    )
    for command in ("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message", "a commit"):
        subprocess.run([*git, *command], cwd=tmp_path, check=True, capture_output=True)

    def make(command=None, table=""):
        settings = parse(command or {"against": "HEAD"}, table=table)
        config = SimpleNamespace(rootpath=tmp_path, invocation_params=SimpleNamespace(dir=tmp_path))
        return base_setup.BaseSetup(SimpleNamespace(settings=settings), config)

    return make


def test_sides_that_cannot_be_told_apart_are_refused(make_base, tmp_path, snapshot):
    """The base loaded the working tree, an install hides it, or nothing of it was loaded but tests."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mymodel.py").touch()
    test, own = {"test_it": "tests/test_it.py"}, {"mymodel": "src/mymodel.py"}
    laid = [Path("tests/test_it.py")]

    def check(base, installed=None, leaked=None, **options):
        sides = {"leaked": leaked, "loaded": {"base": base}}, {"loaded": {"installed": installed or {}}}
        make_base(**options).check(*sides, laid)
        return "NOT REFUSED"

    check({**test, **own})
    check(test, command={"against": "HEAD", "against_python": "python3"})
    found = {
        "leak": message(check, {**test, **own}, leaked="mymodel (src/mymodel.py)"),
        "install": message(check, test, {"mymodel": "/site/mymodel.py"}),
        "same": message(check, test, {"other": "/site/other.py"}),
        "laid over": message(check, {**test, **own}, table="[tool.infergate]\noverlay = ['src']\n"),
    }
    assert "NOT REFUSED" not in "".join(found.values())
    assert found == snapshot


def test_a_setup_that_fails_says_how(make_base, tmp_path):
    for command, said in (("echo out of paper >&2; exit 7", "out of paper"), ("exit 7", "it said nothing")):
        one = make_base(table=f"[tool.infergate]\nsetup = '{command}'\n")
        with pytest.raises(ConfigurationError, match=f"on the base with exit code 7: {said}$"):
            one._set_up(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_a_run_interrupt_it(number):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with compare_run.interruptible():
            interrupt = signal.getsignal(number)
            with pytest.raises(KeyboardInterrupt):
                interrupt(number, None)
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with compare_run.interruptible():
            assert signal.getsignal(number) is signal.SIG_IGN  # somebody else handles it
    finally:
        signal.signal(number, before)
