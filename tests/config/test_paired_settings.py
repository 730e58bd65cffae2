"""The options, ini values and tables of a paired run, and its argument of the marker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_infergate.config.marker import Marker, parse_marker
from pytest_infergate.config.options import OPTIONS
from pytest_infergate.config.settings import parse_settings
from pytest_infergate.core.domain.model import Case
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import compare_run, selected_case
from pytest_infergate.paired.launches import LaunchesResult

PAIRED = ("against", "against_python")
REFUSED = (
    r"^--infer-save cannot record a paired run, whose times hold for its workers alone: "
    r"leave out --infer-save, or --infer-against \(-o infer_against= where the ini file has it\)$"
)
ALONE = r"^--infer-paired-data writes the turns of a paired run: add --infer-against=REV$"


@pytest.fixture
def parse(tmp_path):
    """Parse what the command line and the ini file say, in a project of its own."""

    def run(command=None, ini=None, table=""):
        (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
        return parse_settings(
            command or {}, ini or {}, rootdir=tmp_path, invocation_dir=tmp_path / "sub", kinds=("cpu",)
        )

    return run


# Options


@pytest.mark.parametrize("name", PAIRED)
def test_an_opponent_on_the_command_line_switches_measuring_on(parse, name):
    found = parse({name: "there"})
    assert (found.measuring, found.paired) == (True, True)
    assert getattr(found, name) == "there"
    assert found.command == {name: "there"}


@pytest.mark.parametrize("name", PAIRED)
def test_an_opponent_in_the_ini_file_switches_measuring_on(parse, name):
    found = parse(ini={name: "there"})
    assert (found.measuring, found.paired) == (True, True)
    assert getattr(found, name) == "there"
    assert (found.command, found.ini) == ({}, {name: "there"})


@pytest.mark.parametrize(
    ("name", "option"), [("against", "--infer-against"), ("against_python", "--infer-against-python")]
)
def test_an_empty_opponent_on_the_command_line_is_no_pass(parse, name, option):
    with pytest.raises(ConfigurationError, match=f"^{option} is empty, as where a variable is not set"):
        parse({name: ""})
    with pytest.raises(ConfigurationError, match="is empty"):
        parse({name: ""}, {"against": "main"})


def test_turns_that_cannot_be_written_are_a_problem_and_no_end(tmp_path):
    nothing = LaunchesResult([], [], 0, False, 0)
    assert compare_run._keep(None, [], nothing, Against()) == ((), ())
    kept, (problem,) = compare_run._keep(tmp_path, [], nothing, Against())
    assert kept == ()
    assert str(tmp_path) in problem
    assert compare_run._keep(tmp_path / "turns.json", [], nothing, Against()) == (
        (f"wrote {tmp_path / 'turns.json'}",), ()
    )  # fmt: skip


def test_the_command_line_wins_over_the_ini_file(parse):
    assert parse({"against": "main"}, {"against": "v1", "against_python": "old"}).against == "main"
    assert parse({"against": "main"}, {"against_python": "old"}).against_python == "old"


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


def test_turns_of_no_paired_run_are_refused(parse):
    with pytest.raises(ConfigurationError, match=ALONE):
        parse({"turns": "t.json"})
    with pytest.raises(ConfigurationError, match=ALONE):
        parse({"turns": "t.json", "devices": "cpu"})


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("place", ["command", "ini"])
def test_a_paired_run_is_not_recorded(parse, name, place):
    with pytest.raises(ConfigurationError, match=REFUSED):
        parse({"save": True, name: "there"}) if place == "command" else parse({"save": True}, {name: "there"})
    with pytest.raises(ConfigurationError, match=REFUSED):
        parse({name: "there"}, {"save": "yes"})
    assert parse({name: "there"}, {"save": "no"}).paired


def test_turns_in_the_ini_file_do_not_stop_a_run_that_measures_nothing(parse):
    """A plain `pytest` of everyday has to pass beside them."""
    assert not parse(ini={"turns": "t.json"}).measuring


def test_measuring_can_be_disabled_whatever_else_is_asked_for(parse):
    assert not parse({"disable": True, "against": "main"}).measuring
    assert not parse({"disable": True, "save": True}, {"against": "main"}).measuring


# The ini file and the command line of pytest itself


def test_an_opponent_in_the_ini_file_of_a_project_is_looked_for(project):
    project.test()
    project.run().assert_outcomes(passed=1)
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_against = main\n")
    result = project.run("--infer-devices=fake")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *is not inside a git repository; *"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--infer-against=main", "--infer-save"],
            "--infer-save cannot record a paired run, *: leave out --infer-save, or --infer-against*",
        ),
        (
            ["--infer-paired-data=t.json"],
            "--infer-paired-data writes the turns of a paired run: add --infer-against=REV",
        ),
        (
            ["--infer-against-python=/no/such/python"],
            "--infer-against-python: there is no /no/such/python; *",
        ),
    ],
)
def test_what_a_paired_run_cannot_do_ends_it_with_exit_code_4(project, options, message):
    project.test()
    result = project.measure(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("overlay = ['/etc/x']", "overlay: '/etc/x' is not a path inside of the repository"),
        ("setup = 3", "setup must be a command"),
    ],
)
def test_a_bad_table_ends_the_run_with_exit_code_4(project, table, message):
    project.test()
    (project.path / "pyproject.toml").write_text(f"[tool.infergate]\n{table}\n")
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: pyproject.toml: [[]tool.infergate] {message}"])


def test_help_tells_of_the_options_and_their_twins(project):
    said = project.run("--help").stdout.str()
    for word in (
        "--infer-against=REV", "--infer-against-python=PATH", "--infer-paired-data=FILE",
        "infer_against (", "infer_against_python (", "infer_paired_data (",
    ):  # fmt: skip
        assert word in said


# The table in pyproject.toml


def test_overlay_and_setup_of_the_table(parse):
    table = "[tool.infergate]\noverlay = ['weights', 'data/a.bin']\nsetup = 'make build'\n"
    found = parse({"against": "main"}, table=table)
    assert found.overlay == ("weights", "data/a.bin")
    assert found.setup == "make build"
    bare = parse({"against": "main"})
    assert (bare.overlay, bare.setup) == ((), None)


@pytest.mark.parametrize("outside", ["/etc/passwd", "../other", "a/../../b", "a/.."])
def test_an_overlay_from_outside_is_refused(parse, outside):
    table = f"[tool.infergate]\noverlay = ['weights', '{outside}']\n"
    with pytest.raises(ConfigurationError) as refused:
        parse({"against": "main"}, table=table)
    assert str(refused.value) == (
        f"pyproject.toml: [tool.infergate] overlay: {outside!r} is not a path inside of the repository"
    )


def test_a_name_with_dots_is_no_way_out(parse):
    assert parse({"against": "main"}, table="[tool.infergate]\noverlay = ['a..b']\n").overlay == ("a..b",)


@pytest.mark.parametrize("value", ["'weights'", "3", "[3]", "['a', true]", "{a = 1}"])
def test_an_overlay_is_a_list_of_paths(parse, value):
    with pytest.raises(ConfigurationError, match=r"\[tool\.infergate\] overlay must be a list of paths$"):
        parse({"against": "main"}, table=f"[tool.infergate]\noverlay = {value}\n")


@pytest.mark.parametrize("value", ["3", "true", "['make']", "''", "'  '"])
def test_a_setup_is_a_command(parse, value):
    with pytest.raises(ConfigurationError, match=r"\[tool\.infergate\] setup must be a command$"):
        parse({"against": "main"}, table=f"[tool.infergate]\nsetup = {value}\n")


@pytest.mark.parametrize(("key", "meant"), [("overlays", "overlay"), ("set_up", "setup")])
def test_a_misspelt_key_is_told_the_right_one(parse, key, meant):
    with pytest.raises(ConfigurationError, match=f"unknown key '{key}': .*; did you mean '{meant}'"):
        parse({"against": "main"}, table=f"[tool.infergate]\n{key} = 'x'\n")


def test_a_run_that_measures_nothing_does_not_read_the_table(parse):
    assert parse(table="[tool.infergate]\nsetup = 3\n").setup is None


# The marker


def parity(*values):
    """The parity of a test under markers, nearest first."""
    return parse_marker([((), {"parity": value}) for value in values], ("cpu",)).parity


@pytest.mark.parametrize(
    ("value", "meant"),
    [(None, None), (False, False), (0.05, 0.05), ("5%", 0.05), ("0.5", 0.5), (0, 0.0), (1, 1.0)],
)
def test_parity_is_a_share_or_false(value, meant):
    found = parity(value)
    assert found == meant
    assert type(found) is type(meant)


def test_the_nearest_parity_wins():
    assert parity(False, 0.05) is False
    assert parity(0.05, False) == 0.05
    assert parity(None, False) is False
    assert parity(0, "5%") == 0.0
    assert Marker().parity is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "True is not a share such as '5%' or 0.05"),
        ("off", "'off' is not a share such as '5%' or 0.05"),
        (-0.1, "-0.1 is not a share such as '5%' or 0.05"),
        ("", "'' is not a share such as '5%' or 0.05"),
        ([0.1], "[0.1] is not a share such as '5%' or 0.05"),
        (float("nan"), "nan is not a share such as '5%' or 0.05"),
        (5, "5 is above 1; write '5%' or 0.05"),
    ],
)
def test_a_bad_parity_says_what_is_allowed(value, message):
    with pytest.raises(ConfigurationError) as refused:
        parity(value)
    assert str(refused.value) == f"@pytest.mark.inference(parity=...): {message}"


def test_a_bad_parity_is_an_error_of_that_test_alone(project):
    project.test("parity='off'")
    project.test(file="test_other.py")
    result = project.measure("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*test_it.py::test_model: @pytest.mark.inference(parity=...): 'off' is not *"]
    )


@pytest.mark.parametrize(
    ("value", "tolerance", "compared"),
    [(None, None, True), (False, None, False), (0.05, 0.05, True), (0, 0.0, True)],
)
def test_parity_reaches_the_launches(parse, value, tolerance, compared):
    """0 asks for equal outputs, which is not what the dtype allows."""
    entry = selected_case.SelectedCase(
        "t.py::test_a", Path("t.py"), Case(test="t.py::test_a", device="cpu"), Marker(parity=value)
    )
    wanted = compare_run._wanted(SimpleNamespace(settings=parse({"against": "main"})), entry)
    assert wanted.compared is compared
    assert wanted.parity == tolerance


def test_tolerance_and_time_reach_the_launches(parse):
    entry = selected_case.SelectedCase(
        "t.py::test_a", Path("t.py"), Case(test="t.py::test_a", device="cpu"), Marker()
    )
    plain = compare_run._wanted(SimpleNamespace(settings=parse({"against": "main"})), entry)
    assert (plain.plan.tolerance, plain.max_seconds) == (0.02, 180.0)
    given = parse({"against": "main", "tolerance": "5%", "max_time": "2min"})
    wide = compare_run._wanted(SimpleNamespace(settings=given), entry)
    assert (wide.plan.tolerance, wide.max_seconds) == (0.05, 120.0)
