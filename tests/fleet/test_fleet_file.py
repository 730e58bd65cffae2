"""The fleet file: what it may contain, and how mistakes in it are explained."""

import re

import pytest

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.fleet.fleet_file import read_fleet

KNOWN = ("local", "slurm")


@pytest.fixture
def read(tmp_path):
    def read(text, override=None):
        path = tmp_path / "fleet.toml"
        path.write_text(text)
        return read_fleet(path, KNOWN, override)

    return read


def test_a_class_has_the_settings_of_the_file_and_its_own(read):
    fleet = read("""
        launcher = "slurm"
        time_limit = "20min"
        env = { A = 1, B = 2 }
        arguments = ["--infer-max-time=5"]

        [parts]
        text = ["tests/test_text.py"]
        voice = ["tests/test_voice.py", "-k", "stream"]

        [classes.genoa]
        cores = 8
        memory = "1.5GiB"
        env = { B = 3 }
        slurm = { constraint = "genoa" }

        [classes.desk]
        launcher = "local"
        time_limit = 90
        parts = ["voice"]
        kubernetes = { image = "measure:1" }
    """)
    genoa, desk = fleet.classes
    assert (genoa.launcher, genoa.time_limit, genoa.queue_limit) == ("slurm", 1200, 86400)
    assert (genoa.env, genoa.arguments) == ({"A": "1", "B": "3"}, ("--infer-max-time=5",))
    assert (genoa.cores, genoa.memory, genoa.terms) == (8, 1610612736, {"slurm": {"constraint": "genoa"}})
    assert (desk.launcher, desk.time_limit, desk.parts) == ("local", 90, ("voice",))
    assert fleet.parts == {"text": ("tests/test_text.py",), "voice": ("tests/test_voice.py", "-k", "stream")}


def test_without_parts_there_is_one(read):
    assert read("[classes.a]").parts == {"all": ()}


def test_one_launcher_may_replace_all_others(read):
    text = '[classes.a]\nlauncher = "slurm"\n[classes.b]'
    assert [one.launcher for one in read(text, "local").classes] == ["local", "local"]
    with pytest.raises(
        ConfigurationError,
        match=r"--launcher must be one of local, slurm, got 'slrm'. Hint: did you mean 'slurm'",
    ):
        read(text, "slrm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "classes must be at least one table of a machine class. Hint: write for example [classes.one-core]"),
        ("classes = []", "classes must be at least one table"),
        ("[classes.a", "fleet.toml must be TOML: "),
        ("[class.a]", "fleet.toml: key must be one of launcher, python, time_limit, queue_limit, arguments, env, classes, parts, got 'class'. Hint: did you mean 'classes'?"),
        ("[classes.a]\ncore = 1", "fleet.toml: [classes.a]: key must be one of launcher, "),
        ("[classes.a]\ncore = 1", "got 'core'. Hint: did you mean 'cores'?"),
        ("[classes.a]\nslrum = {}", "Hint: did you mean 'slurm'?"),
        ("[classes.a]\nkubernets = {}", "Hint: did you mean 'kubernetes'?"),
        ("[classes.a]\nslurm = 1", "[classes.a]: slurm must be a table, got 1"),
        ("[classes.a]\ncores = 0", "[classes.a]: cores must be a number of cores, at least 1, got 0"),
        ("[classes.a]\ncores = '2'", "cores must be a number of cores, at least 1, got '2'"),
        ("[classes.a]\nthreads = 1.5", "threads must be a number of threads, at least 1, got 1.5"),
        ("[classes.a]\nmemory = '8'", "memory must be a size, for example '8GiB', got '8'"),
        ("[classes.a]\nmemory = '0GB'", "memory must be a size, for example '8GiB', got '0GB'"),
        ("[classes.a]\ngpus = 2", "[classes.a]: gpus needs gpu, the name of these GPUs"),
        ("[classes.a]\ngpu = ' '", "gpu must be the name of a GPU, for example 'L4', got ' '"),
        ("[classes.a]\ntime_limit = '5 hours'", "time_limit: a time must be greater than 0, got '5 hours'"),
        ("queue_limit = 0\n[classes.a]", "queue_limit: a time must be greater than 0, got '0'"),
        ("arguments = 'tests'\n[classes.a]", "fleet.toml: arguments must be a list of arguments for pytest, got 'tests'"),
        ("[classes.a]\nenv = 'A=1'", "[classes.a]: env must be a table, got 'A=1'"),
        ("[classes.a]\nlauncher = 'slum'", "[classes.a]: launcher must be one of local, slurm, got 'slum'. Hint: did you mean 'slurm'?"),
        ("[classes.'One core']", "the name of a class must be at most 24 lower-case letters, digits and inner hyphens, got 'One core'"),
        ("[classes]\na = 1", "[classes.a] must be a table, got 1"),
        ("[parts]\n'a/b' = []\n[classes.a]", "the name of a part must be at most 24"),
        ("[parts]\nx = 'tests'\n[classes.a]", "[parts]: x must be a list of arguments for pytest, got 'tests'"),
        ("parts = ['x']\n[classes.a]", "parts must be a table, got ['x']"),
        ("[parts]\nvoice = []\n[classes.a]\nparts = ['voce']", "part must be one of voice, got 'voce'. Hint: did you mean 'voice'?"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(read, text, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read(text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Is a directory"):
        read_fleet(tmp_path, KNOWN)
    (tmp_path / "fleet.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="must be TOML"):
        read_fleet(tmp_path / "fleet.toml", KNOWN)
