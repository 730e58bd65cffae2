"""The options, ini values and tables of a paired run, and its argument of the marker.

What is refused, and with which words, is in `test_bad_input`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from inputs import KINDS, parsed

from pytest_infergate.config.marker import Marker, parse_marker
from pytest_infergate.config.options import OPTIONS
from pytest_infergate.errors import ConfigurationError


@pytest.fixture
def parse(tmp_path):
    """Parse what the command line and the ini file say, in a project of its own."""
    return lambda *given, **named: parsed(tmp_path, *given, **named)


# Options


@pytest.mark.parametrize(
    ("name", "there"), {"against": "v1", "against_python": "there", "against_runtime": "eager"}.items()
)
def test_a_base_enables_measuring_wherever_it_is_named(parse, name, there):
    found = parse({name: there})
    assert (found.measuring, found.paired, getattr(found, name)) == (True, True, there)
    assert found.command == {name: there}
    found = parse(ini={name: there})
    assert (found.measuring, found.paired, getattr(found, name)) == (True, True, there)
    assert (found.command, found.ini) == ({}, {name: there})
    assert parse({name: there}, {"save": "no"}).paired


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
    assert (found.against, found.against_python, found.paired_data) == (None, None, None)


def test_what_was_asked_for_is_given_by_option(parse):
    found = parse(
        {"against": "main", "paired_data": "t.json"}, {"against_python": "/old/python", "against": "v1"}
    )
    assert found.given == {
        "--infer-against": "main",
        "--infer-against-python": "/old/python",
        "--infer-paired-data": "t.json",
    }
    assert list(found.given) == [option.flag for option in OPTIONS if option.flag in found.given]


def test_paired_data_is_written_where_pytest_was_called(parse, tmp_path):
    assert parse({"against": "main", "paired_data": "t.json"}).paired_data == tmp_path / "sub" / "t.json"
    assert parse({"against_python": "old", "paired_data": "/tmp/t.json"}).paired_data == Path("/tmp/t.json")


def test_a_run_that_measures_nothing_stays_one(parse):
    """A plain `pytest` of everyday has to pass beside an ini file; --infer-disable wins over all."""
    assert not parse(ini={"paired_data": "t.json"}).measuring
    assert not parse({"disable": True, "against": "main"}).measuring
    assert not parse({"disable": True, "save": True}, {"against": "main"}).measuring


def test_a_base_in_the_ini_file_of_a_project_is_looked_for(project):
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
