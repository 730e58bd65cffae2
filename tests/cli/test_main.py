import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import click
import jsonschema
import msgspec
import pytest
from refusals import by_arguments, refused

from pytest_infergate import __version__
from pytest_infergate.cli import main
from pytest_infergate.cli.exit_codes import gate_exit_code
from pytest_infergate.core.domain.outcome import CaseVerdict, GateResult, Verdict
from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_format

SCRIPT = "from pytest_infergate.cli.main import main; main()"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main.main(list(arguments))
    out, err = capsys.readouterr()
    return done.value.code, out, err


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"infergate {__version__}\n", "")


def commands(command=main.infergate, *names):
    """The command itself, its subcommands and theirs, with the names that are typed."""
    yield names, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, *names, name)


def test_every_command_explains_itself(capsys, snapshot):
    pages = {}
    for names, _ in commands():
        code, out, err = run(capsys, *names, "--help")
        assert (code, err) == (0, ""), names
        assert run(capsys, *names, "-h") == (0, out, ""), names
        pages[" ".join(names) or "infergate"] = out
    assert pages["infergate"] == snapshot
    assert {name: 2 <= page.count("  $ ") <= 3 for name, page in pages.items()} == dict.fromkeys(pages, True)


@pytest.mark.parametrize("variable", ["NO_COLOR", "FORCE_COLOR"])
@pytest.mark.parametrize("arguments", ["--help", "prices list", "advise no.json", "bogus"])
def test_the_command_prints_no_colours(capsys, monkeypatch, variable, arguments):
    """A log may not show them, and nothing depends on them."""
    monkeypatch.setenv(variable, "1")
    _, out, err = run(capsys, *arguments.split())
    assert out or err
    assert "\x1b" not in out + err


@pytest.mark.parametrize("group", [(), ("prices",)])
def test_a_group_alone_shows_its_help(capsys, group):
    assert run(capsys, *group) == run(capsys, *group, "--help")


@pytest.mark.parametrize("names", [(), ("ci",), ("prices",), ("prices", "list")])
def test_help_is_a_command(capsys, names):
    assert run(capsys, "help", *names) == run(capsys, *names, "--help")
    assert run(capsys, "prices", "help") == run(capsys, "prices", "--help")


def test_examples_are_accepted(tmp_path, monkeypatch):
    """The arguments of each example of a help page are those of a command; nothing is run."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "results.json",
        "cpu.json",
        "gpu.json",
        "paired.jsonl",
        "offers.csv",
        "prices.csv",
        "before.json",
        "after.json",
        "monday.json",
        "tuesday.json",
        "benchmark.json",
        "fleet.toml",
    ):
        (tmp_path / name).touch()
    (tmp_path / "results").mkdir()
    for names, command in commands():
        lines = re.findall(r"\$ infergate (.*)", command.epilog)
        assert lines, names
        for line in lines:
            words = shlex.split(line.partition(" > ")[0].replace("$RUN", "1"))
            found = main.infergate
            while isinstance(found, click.Group) and not words[0].startswith("-"):
                found = found.commands[words.pop(0)]
            assert found is command or isinstance(command, click.Group), line
            found.make_context(found.name, words)


def test_the_schema_of_baselines(capsys):
    code, out, err = run(capsys, "schema", "baseline")
    assert (code, err) == (0, "")
    assert out == baseline_format.baseline_schema()


def test_the_schema_of_results(capsys):
    code, out, _ = run(capsys, "schema")
    assert code == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(out))
    assert "results" in json.loads(out)["title"]
    assert run(capsys, "schema", "results") == (0, out, "")


def test_usage_errors_exit_with_4(capsys, snapshot):
    asked = by_arguments(
        ["schma"],
        ["schema", "prices"],
        ["--verbose"],
        ["schema", "baseline", "more"],
        ["prices", "lst"],
        ["ci", "tests", "-k", "x"],
        ["ci", "--devcies=cpu"],
    )
    assert refused(lambda *arguments: run(capsys, *arguments), asked) == snapshot


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            StorageError("results.json is not JSON; restore it"),
            4,
            "Error: results.json is not JSON; restore it\n",
        ),
        (click.ClickException("no"), 4, "Error: no\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (click.exceptions.Exit(1), 1, ""),
    ],
)
def test_errors_and_exit_codes(capsys, monkeypatch, error, code, message):
    def fail():
        raise error

    monkeypatch.setitem(
        sys.modules, "pytest_infergate.report.results_json", types.SimpleNamespace(results_schema=fail)
    )
    assert run(capsys, "schema") == (code, "", message)


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "pytest_infergate", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"infergate {__version__}\n")


INFERGATE = f"""#!/bin/sh
exec "{sys.executable}" -c "{SCRIPT}" "$@"
"""


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """The command, installed in a folder of the path."""
    path = tmp_path / "infergate"
    path.write_text(INFERGATE)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return path


TYPED = {
    "bash": 'COMP_WORDS=(infergate prices re); COMP_CWORD=2; _infergate_completion infergate; echo "${COMPREPLY[@]}"',
    "fish": "complete --do-complete 'infergate prices re'",
    "zsh": "words=(infergate prices re); CURRENT=3; compadd() { echo $@ }; _describe() { print -l ${(P)3} };"
    " _infergate_completion",
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("shell", sorted(TYPED))
def test_shells_complete_commands(on_path, shell):
    """As docs/reference.md says to switch it on."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    line = re.search(rf"^(.*_INFERGATE_COMPLETE={shell}_source infergate.*?)(  +#.*)?$", text, re.MULTILINE)[
        1
    ]
    done = subprocess.run(
        [shell, "-c", f"compdef() {{ }}\n{line}\n{TYPED[shell]}" if shell == "zsh" else f"{line}\n{TYPED[shell]}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.match(r"refresh\b", done.stdout), done


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_answers_each_shell(capsys, monkeypatch, shell):
    monkeypatch.setenv("_INFERGATE_COMPLETE", f"{shell}_source")
    code, out, _ = run(capsys)
    assert code == 0
    assert f"_INFERGATE_COMPLETE={shell}_complete" in out
    monkeypatch.setenv("_INFERGATE_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "infergate prices re")
    monkeypatch.setenv("COMP_CWORD", "re" if shell == "fish" else "2")
    code, out, _ = run(capsys)
    assert code == 0
    assert re.findall(r"\b(refresh|list|import)\b", out) == ["refresh"]


def test_every_command_has_the_name_that_the_reference_has():
    """Whatever click makes of the names of functions, which differs between its versions."""
    listed = {
        "advise", "baseline", "ci", "comment", "compare", "doctor", "export", "fleet", "gate", "history", "import", "init", "merge",
        "prices", "replay", "report", "schema", "show",
    }  # fmt: skip
    assert set(main.infergate.commands) == listed
    assert set(main.infergate.commands["prices"].commands) == {"list", "import", "refresh"}
    assert all(name == command.name for name, command in main.infergate.commands.items())


def test_exit_codes_of_a_gate():
    def gate(*verdicts, decided, passed=True):
        return GateResult(passed=passed, headline="", verdicts=verdicts, decided=decided)

    case = Case(test="t.py::test_a", device="cpu")
    open_ = CaseVerdict(case=case, nodeid="a", verdict=Verdict.NO_BASELINE, failed=False)
    failed = msgspec.structs.replace(open_, failed=True)
    for found, code in (
        (gate(decided=0), 0),
        (gate(open_, decided=0), 2),
        (gate(open_, open_, decided=1), 0),
        (gate(open_, decided=0, passed=False), 1),
        (gate(failed, decided=0), 1),
    ):
        assert gate_exit_code(found) == code, found


def test_arguments_come_from_the_command_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["infergate", "--version"])
    with pytest.raises(SystemExit) as done:
        main.main()
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith("infergate ")


def test_torch_is_never_imported():
    probe = f"import sys; sys.modules['torch'] = None; {SCRIPT}"
    done = subprocess.run([sys.executable, "-c", probe, "schema"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("arguments", "command", "codes"),
    [
        # A reader that leaves early may leave time to write it all.
        ("schema baseline", "| head -n 1", {"0 0", "141 0"}),
        ("schema baseline", "| exit 0", {"141 0"}),
        ("--help", "> /dev/full", {"4"}),
    ],
)
def test_output_that_nobody_takes(arguments, command, codes):
    wait = "import time; time.sleep(0.3); " if "exit" in command else ""
    script = f'"{sys.executable}" -c "{wait}{SCRIPT}" {arguments} {command}; echo "${{PIPESTATUS[@]}}" >&2'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    *error, code = done.stderr.splitlines()
    assert code in codes
    assert len(error) == (1 if "full" in command else 0)
    assert all(line.startswith("Error: ") for line in error)
