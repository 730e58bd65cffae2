import json
import shutil
import subprocess
import sys
import types

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


def test_help(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "schema" in out


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
    asked = by_arguments([], ["schma"], ["schema", "prices"], ["--verbose"], ["schema", "baseline", "more"])
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


def test_every_command_has_the_name_that_the_reference_has():
    """Whatever click makes of the names of functions, which differs between its versions."""
    listed = {"advise", "ci", "comment", "gate", "init", "merge", "prices", "replay", "report", "schema"}
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
