"""Bad input of every kind, and the message about it without a run of pytest."""

from __future__ import annotations

from pytest_infergate.config.marker import parse_marker
from pytest_infergate.config.settings import parse_settings
from pytest_infergate.errors import InfergateError
from pytest_infergate.plugin.hooks import pytest_infergate_runtimes
from pytest_infergate.runner.run import InferenceRun
from pytest_infergate.storage.baseline_files import FileStore
from pytest_infergate.testing import FakeDevice, FakeKind

RUNTIMES = {one.name: one for one in pytest_infergate_runtimes()}
KINDS = {
    "fake": FakeKind(FakeDevice("fake")),
    "ghost": FakeKind(kind="ghost", reason="no ghost device found"),
    "cpu": FakeKind(FakeDevice("cpu"), kind="cpu"),
    "cuda": FakeKind(kind="cuda", reason="torch sees no GPU"),
}


def parsed(folder, command=None, ini=None, table=""):
    """What the command line, the ini file and `[tool.infergate]` of a project mean."""
    (folder / "pyproject.toml").write_text(table, encoding="utf-8")
    return parse_settings(
        command or {},
        ini or {},
        rootdir=folder,
        invocation_dir=folder / "sub",
        kinds=KINDS,
        offered=RUNTIMES,
    )


def checked(folder, command=None, ini=None, table=""):
    """Parse, and check all that is checked before anything is measured."""
    found = parsed(folder, command, ini, table)
    InferenceRun(found, list(KINDS.values()), FileStore(found.baseline)).check(1)
    return found


def given(text):
    """Options of a command line by name: ``--infer-max-time=5 --infer-save``."""
    words = [word.removeprefix("--infer-").partition("=") for word in text.split()]
    return {name.replace("-", "_"): value if equals else True for name, equals, value in words}


def message(read, *arguments, **named):
    """What is said of bad input; that nothing was refused is said too."""
    try:
        found = read(*arguments, **named)
    except InfergateError as error:
        return str(error)
    return f"NOT REFUSED: {found}"


def arguments(text):
    """Arguments of a marker as they are written."""
    return eval(f"(lambda *args, **named: (args, named))({text})")


def of_marker(text):
    """The checked arguments of one marker."""
    return parse_marker([arguments(text)], KINDS, RUNTIMES)


def listed(messages, folder):
    """One text of all, with the folder of the test under a name."""
    text = "\n".join(f"{source}\n    {said}" for source, said in messages.items())
    return text.replace(str(folder), "<folder>")
