"""The forms in which an ini file gives the value of an option."""

import re
import sys
from pathlib import Path

import pytest
from inputs import parsed

from pytest_infergate.config.options import OPTIONS
from pytest_infergate.config.settings import PARSERS
from pytest_infergate.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def test_every_option_has_a_parser():
    assert list(PARSERS) == [option.name for option in OPTIONS]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("devices", ["cpu", "fake"], "cpu,fake"),
        ("dtypes", ["float32"], "float32"),
        ("threads", [1, 2], "1,2"),
        ("threads", 2, "2"),
        ("save", True, "true"),
        ("save", False, "false"),
        ("strict", True, "True"),
        ("max_time", 30, "30"),
        ("max_time", 0.5, "0.5"),
        ("tolerance", 0.1, "0.1"),
        ("tolerance", ["memory=2%", "operators=off"], "memory=2%,operators=off"),
        ("against", "main", "main"),
    ],
)
def test_a_value_of_toml_is_that_of_the_command_line(tmp_path, name, value, text):
    assert parsed(tmp_path, ini={name: value}) == parsed(tmp_path, ini={name: text})
    assert parsed(tmp_path, ini={name: value}).ini.keys() == {name}


@pytest.mark.parametrize("value", ["", []])
def test_a_value_of_nothing_is_not_given(tmp_path, value):
    assert parsed(tmp_path, ini={"devices": value}) == parsed(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tolerance", {"p50": "10%"}),
        ("threads", [[1], [2]]),
        ("threads", [True]),
        ("threads", 0),
        ("save", 2),
        ("max_time", True),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_name(tmp_path, name, value):
    with pytest.raises(ConfigurationError, match=rf"^ini value infer_{name}: .*must.*, got"):
        parsed(tmp_path, ini={name: value})


EXAMPLES = [
    (name, block)
    for name in ("README.md", "docs/reference.md")
    for block in re.findall(
        r"^```toml\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    if "infer_" in block
]


@pytest.mark.parametrize(("name", "block"), EXAMPLES)
def test_the_documented_settings_are_accepted(tmp_path, name, block):
    document = tomllib.loads(block)
    table = document["pytest"] if "pytest" in document else document["tool"]["pytest"]
    ini = {key.removeprefix("infer_"): value for key, value in table.items() if key.startswith("infer_")}
    assert parsed(tmp_path, ini=ini, table=block).ini.keys() == ini.keys()


def test_settings_are_documented_as_values_of_toml():
    assert {name for name, _ in EXAMPLES} == {"README.md", "docs/reference.md"}
