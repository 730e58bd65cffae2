"""The plugin of a worker without pytest around it: commands between cases, and reports."""

import json
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from pytest_infergate.paired.channel import ClosedError
from pytest_infergate.paired.protocol import (
    Done,
    Leave,
    ListModules,
    MessageError,
    ModulesListed,
    PhaseReported,
    RunCase,
    RunControl,
    TimeBlock,
)
from pytest_infergate.worker import pytest_plugin
from pytest_infergate.worker.pytest_plugin import WorkerPlugin, last_line


class Script:
    """A channel with commands that wait, and nothing after them; it keeps the events that were sent."""

    def __init__(self, *commands):
        self.commands = list(commands)
        self.events = []

    def receive(self):
        if not self.commands:
            raise ClosedError("the other process is gone")
        return self.commands.pop(0)

    def send(self, event):
        self.events.append(event)


def served(*commands, source="/candidate", target="/base"):
    """What a worker of two tests does, and the events that it sends."""
    done = []
    protocol = SimpleNamespace(
        pytest_runtest_protocol=lambda item, nextitem: done.append(
            (item.nodeid, nextitem and nextitem.nodeid)
        )
    )
    items = [
        SimpleNamespace(nodeid=nodeid, config=SimpleNamespace(hook=protocol))
        for nodeid in ("a", "b[/base/x]")
    ]
    channel = Script(*commands)
    plugin = WorkerPlugin(channel, Path(source), Path(target), ())
    plugin.serve(items, lambda: done.append("control"))
    assert plugin.served
    return done, channel


def test_cases_are_run_as_they_are_asked_for():
    done, channel = served(
        RunControl(), RunCase("b[/candidate/x]", "a"), RunCase("a", None), Leave(), RunControl()
    )
    assert done == ["control", ("b[/base/x]", "a"), ("a", None)]
    assert channel.events == [Done()] * 3
    assert channel.commands == [RunControl()]


def test_a_run_that_is_gone_ends_its_worker():
    assert served()[0] == []


def test_modules_are_listed_with_what_leaked(monkeypatch, tmp_path):
    for tree in ("base", "candidate"):
        (tmp_path / tree).mkdir()
        (tmp_path / tree / "mymodel.py").touch()
    module = SimpleNamespace(__file__=str(tmp_path / "candidate" / "mymodel.py"))
    monkeypatch.setitem(pytest_plugin.sys.modules, "mymodel", module)
    _, channel = served(ListModules(), source=tmp_path / "candidate", target=tmp_path / "base")
    (listed,) = channel.events
    assert isinstance(listed, ModulesListed)
    assert listed.leaked == "mymodel (mymodel.py)"
    assert listed.modules.candidate == {"mymodel": "mymodel.py"}


def test_a_command_that_belongs_inside_of_infer_is_an_error():
    with pytest.raises(MessageError, match="TimeBlock cannot be executed outside of infer"):
        served(TimeBlock(3))


# Reports


def sent(outcome="passed", longrepr=None, sections=(), **data):
    """The event of a report."""
    channel = Script()
    report = pytest.TestReport(
        "a",
        ("a", None, "a"),
        {},
        outcome,
        longrepr,
        "call",
        sections=list(sections),
        duration=0,
        start=0,
        stop=0,
    )
    hook = SimpleNamespace(
        pytest_report_to_serializable=lambda config, report: {"sections": report.sections, **data}
    )
    WorkerPlugin(channel, Path(), Path(), ()).send(SimpleNamespace(hook=hook), report)
    (event,) = channel.events
    return event


def test_a_report_has_its_outcome_and_reason_beside_the_whole():
    event = sent()
    assert event == PhaseReported(when="call", outcome="passed", serialised='{"sections": []}')
    event = sent("failed", "E   ValueError: no")
    assert (event.outcome, event.reason) == ("failed", "ValueError: no")


def test_what_json_does_not_know_is_sent_as_its_text():
    """Reports contain what the user's tests and hooks put there."""
    event = sent(path=PurePosixPath("a/b"), raw=b"x", text="\ud800")
    data = json.loads(event.serialised)
    assert (data["path"], data["raw"], data["text"]) == ("a/b", "b'x'", "\ud800")


def test_only_the_end_of_a_long_output_is_sent(monkeypatch):
    monkeypatch.setattr(pytest_plugin, "KEPT_CHARACTERS", 3)
    assert json.loads(sent(sections=[("Captured stdout", "12345")]).serialised) == {
        "sections": [["Captured stdout", "345"]]
    }


@pytest.mark.parametrize(
    ("longrepr", "line"),
    [
        (("a.py", 3, "Skipped: no GPU"), "Skipped: no GPU"),
        (SimpleNamespace(reprcrash=SimpleNamespace(message=" ValueError: no\nmore")), "ValueError: no"),
        ("x = 1\nE   assert 1 == 2\nE   and more\nlater", "and more"),
        ("first\n  last  \n\n", "last"),
        ("", "no reason was given"),
        ("x" * 1000, "x" * 500),
    ],
    ids=["skip", "crash", "errors", "lines", "nothing", "long"],
)
def test_the_reason_of_a_failure_is_one_line(longrepr, line):
    assert last_line(SimpleNamespace(longrepr=longrepr)) == line
