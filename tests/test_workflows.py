"""The action and the example workflows: what stands in them, and every `run:` block run with a fake event."""

import os
import re
import shutil
import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from ci_github import served
from ci_repositories import NOWHERE, SECRET, ZEROS, Remote, Service, Stub, alone, git, session, write

from pytest_infergate import __version__
from pytest_infergate.report import results_json

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples" / "workflows").glob("*.yml"))
OWN = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / "action.yml"

pytestmark = pytest.mark.skipif(not EXAMPLES, reason="the examples are not here")


class Block(NamedTuple):
    """A `run:` block, where it stands and the variables that it gets."""

    place: str
    script: str
    shell: str
    env: dict


def loaded(path):
    # YAML 1.1 reads `on` as a flag.
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def steps_of(path):
    """Every step of a workflow or an action: where it stands, the step, variables from above it."""
    document = loaded(path)
    if "runs" in document:
        yield from ((f"{path.name}:{step['name']}", step, {}) for step in document["runs"]["steps"])
    for name, job in document.get("jobs", {}).items():
        env = {**document.get("env", {}), **job.get("env", {})}
        for index, step in enumerate(job["steps"]):
            yield f"{path.name}:{name}:{step.get('name', index)}", step, env


def blocks_of(path):
    for place, step, env in steps_of(path):
        if "run" in step:
            yield Block(place, step["run"], step.get("shell", "default"), {**env, **step.get("env", {})})


BLOCKS = [block for path in (ACTION, *EXAMPLES) if path.exists() for block in blocks_of(path)]
GATES = {block.place: block for block in BLOCKS if "infergate" in block.script and " ci " in block.script}


# What stands in them


def test_no_expression_stands_in_a_script():
    for path in (ACTION, *EXAMPLES, *OWN):
        assert not [block.place for block in blocks_of(path) if "${{" in block.script]


def test_actions_are_pinned_and_one_version_of_each():
    versions = {}
    for path in (ACTION, *EXAMPLES, *OWN):
        for place, step, _ in steps_of(path):
            used = step.get("uses")
            if used not in (None, "./"):
                assert re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40}", used), place
        for action, commit, version in re.findall(
            r"uses: (actions/[\w-]+)[\w/]*@(\w+) # (v[\d.]+)\n", path.read_text()
        ):
            versions.setdefault(action, set()).add((commit, version))
    assert all(len(found) == 1 for found in versions.values()), versions


def test_permissions_are_the_least():
    for path in (*EXAMPLES, *OWN):
        document = loaded(path)
        wider = {name: job["permissions"] for name, job in document["jobs"].items() if "permissions" in job}
        if path.name == "report.yml":
            assert document["permissions"] == {}
            assert wider == {"comment": {"actions": "read", "pull-requests": "write"}}
        else:
            assert document["permissions"] == {"contents": "read"}, path.name
            assert wider == {}, path.name


def test_credentials_are_not_kept():
    for path in (*EXAMPLES, *OWN):
        for place, step, _ in steps_of(path):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, place
                assert path.name != "report.yml"


def test_nothing_of_a_pull_request_runs_where_comments_are_written():
    text = (ROOT / "examples/workflows/report.yml").read_text()
    assert loaded(ROOT / "examples/workflows/report.yml")["on"].keys() == {"workflow_run"}
    assert "checkout@" not in text
    assert "cache" not in text


def test_the_report_follows_the_workflow_that_measures():
    measuring, report = (
        loaded(ROOT / "examples/workflows" / name) for name in ("pull-request.yml", "report.yml")
    )
    assert report["on"]["workflow_run"]["workflows"] == [measuring["name"]]


def test_the_starter_is_the_example():
    for example, starter in (("pull-request.yml", "infergate.yml"), ("report.yml", "infergate-report.yml")):
        text = (files("pytest_infergate") / "starter" / starter).read_text(encoding="utf-8")
        assert (ROOT / "examples/workflows" / example).read_text() == text, example


def test_versions_that_are_installed_are_those_of_today():
    known = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints/dev.txt").read_text(), re.MULTILINE))
    for path in EXAMPLES:
        pins = dict(re.findall(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", path.read_text()))
        assert pins.pop("pytest-infergate") == __version__, path.name
        assert {name: known[name] for name in pins} == pins, path.name


def test_every_input_of_the_action_is_used_and_reaches_the_script_by_a_variable():
    document = loaded(ACTION)
    gate = document["runs"]["steps"][0]
    used = set(re.findall(r"inputs\.(\w+)", ACTION.read_text()))
    assert used == set(document["inputs"])
    assert set(gate["env"].values()) == {
        f"${{{{ inputs.{name} }}}}" for name in document["inputs"] if name != "artifact"
    }
    assert all(f'"${name}"' in gate["run"] for name in gate["env"])
    assert set(document["outputs"]) == {"verdict", "failed", "decided", "cases"}


def test_the_page_about_ci_names_the_actions_as_they_are():
    pins = re.findall(r"uses: (actions/\S+@\w{40} # \S+)", (ROOT / "docs/ci.md").read_text())
    known = "\n".join(path.read_text() for path in EXAMPLES)
    assert pins
    assert all(pin in known for pin in pins)


# Every block is run


PYTHON = """#!/bin/sh
# A python that installs nothing, and is the real one for anything else.
case "$1 $2" in
  "-m pip") echo "$@" >> "$STUB_INSTALLED"; exit 0 ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$(dirname "$0")/infergate" "$3/bin/"; exit ;;
esac
exec "{python}" "$@"
"""
INFERGATE = """#!/bin/sh
exec "{python}" -c "from pytest_infergate.cli.main import main; main()" "$@"
"""


class World:
    """A machine of a CI service: a clone, an event, programs on its path."""

    def __init__(self, folder, monkeypatch, template):
        alone(monkeypatch, folder)
        (folder / "stub").mkdir()
        (folder / "temp").mkdir()
        self.folder = folder
        self.service = Service(folder / "service", monkeypatch)
        self.stub = Stub(folder / "stub", monkeypatch)
        self.remote = Remote(folder, template)
        self.hub = None
        self.installed = folder / "installed.txt"
        self.service.set(
            STUB_INSTALLED=self.installed, RUNNER_TEMP=folder / "temp", GITHUB_PATH=folder / "path"
        )
        self._programs(folder / "bin")
        self.base = git(self.remote.work, "rev-parse", "main")

    def _programs(self, folder):
        folder.mkdir()
        for name, text in (("python", PYTHON), ("python3", PYTHON), ("infergate", INFERGATE)):
            path = folder / name
            path.write_text(text.replace("{python}", sys.executable))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        shutil.copytree(folder, self.folder / "temp" / "venv" / "bin")  # as a step before has left it
        self.service.set(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")

    def pull_request(self, depth=None):
        """The merge of a pull request, checked out."""
        self.service.pull_request(self.remote.pull_request(1))
        return self.remote.checkout(self.folder / "clone", "refs/pull/1/merge", depth)

    def run(self, block, folder, values):
        """Run a block as the service does: exit code and output."""
        env = {
            name: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], str(text))
            for name, text in block.env.items()
        }
        script = self.folder / "script.sh"
        script.write_text(block.script)
        options = ["--noprofile", "--norc", "-eo", "pipefail"] if block.shell == "bash" else ["-e"]
        done = subprocess.run(
            ["bash", *options, str(script)], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert SECRET not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr


VALUES = {
    "vars.TORCH_CPU_INDEX": "",
    "github.token": SECRET,
    "github.repository": "owner/name",
    "github.event.workflow_run.id": "50",
    "needs.measure.result": "success",
    "inputs.devices": "cpu",
    "inputs.against": "",
    "inputs.baseline": "",
    "inputs.report": "report.html",
    "inputs.arguments": "tests -k 'a or b'",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as monkeypatch:
        alone(monkeypatch, folder)
        return Remote.typical(folder)


@pytest.fixture
def world(tmp_path, monkeypatch, template):
    return World(tmp_path, monkeypatch, template)


needs_bash = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("git") is None or sys.platform == "win32",
    reason="needs bash and git",
)


def shallow(world):
    return world.pull_request(1), 0


def fork(world):
    theirs = world.folder / "fork"
    git(world.folder, "clone", "--quiet", "--branch=main", world.remote.url, str(theirs))
    write(theirs, {"model.py": "theirs"})
    git(theirs, "commit", "--quiet", "--all", "--message", "theirs")
    git(world.remote.work, "fetch", "--quiet", str(theirs), "main:patch")
    git(world.remote.work, "checkout", "--quiet", "patch")
    return world.pull_request(1), 0


def missing(world):
    event = world.remote.pull_request(1)
    event["pull_request"]["base"] = {"ref": "gone", "sha": NOWHERE}
    world.service.pull_request(event)
    return world.remote.checkout(world.folder / "clone", "refs/pull/1/merge", 1), 4


# Other clones are tested with the command: what is tested here is that each script passes on what it got.
@needs_bash
@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "made"),
    [
        ("action.yml:Gate", shallow),
        ("action.yml:Gate", missing),
        ("pull-request.yml:gate:Gate", fork),
    ],
)
def test_a_gate_finds_its_base_in_any_clone(world, place, made):
    clone, expected = made(world)
    code, output = world.run(GATES[place], clone, VALUES)
    assert code == expected, output
    if expected:
        assert world.stub.asked is None
        assert world.service.outputs["verdict"] == "error"
    else:
        assert git(clone, "merge-base", world.stub.against, "HEAD") == world.base
        assert world.service.outputs["verdict"] == "passed"


@needs_bash
@pytest.mark.slow
@pytest.mark.parametrize("place", sorted(GATES))
def test_a_regression_fails_the_step(world, place):
    world.stub.leaves(session("test_slow"))
    clone = world.pull_request()
    code, output = world.run(GATES[place], clone, VALUES)
    assert code == 1, output
    assert "::error file=tests/test_it.py,line=5," in output
    assert world.service.outputs == {"verdict": "failed", "failed": "1", "decided": "2", "cases": "2"}


@needs_bash
@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.place not in GATES], ids=lambda block: block.place
)
def test_every_other_block_runs(world, block):
    clone = world.pull_request()
    report = world.folder / "temp" / "results" / "results.json"
    report.parent.mkdir()
    report.write_text(results_json.render_results(session()))
    for machine in ("infergate-a", "infergate-b"):
        write(
            clone,
            {
                f"machines/{machine}/results.json": results_json.render_results(
                    session(passing=(f"test_{machine[-1]}",))
                )
            },
        )
    with served() as hub:
        hub.pull(7, "a" * 40)
        hub.run(50, "a" * 40)
        world.service.set(GITHUB_API_URL=hub.address)
        code, output = world.run(block, clone, VALUES)
        assert code == 0, output
        if "pip install" in block.script:
            assert "pytest-infergate" in world.installed.read_text()
            assert __version__ in world.installed.read_text()
        elif "infergate comment" in block.script:
            assert len(hub.bodies()) == 1
        else:
            assert (clone / "results.json").exists()
            assert (clone / "report.html").exists()
            assert output.count(" equivalent\n") == 2


@needs_bash
@pytest.mark.slow
def test_the_nightly_run_compares_with_the_last_release(world):
    world.service.event("schedule", {"schedule": "17 3 * * *"})
    clone = world.remote.checkout(world.folder / "clone", "refs/heads/main")
    assert world.run(GATES["nightly.yml:gate:Gate"], clone, VALUES)[0] == 0
    assert world.stub.against == "v1"


@needs_bash
@pytest.mark.slow
def test_the_record_is_made_on_the_default_branch(world):
    payload = {"before": ZEROS, "repository": {"default_branch": "main"}}
    world.service.event("push", payload, GITHUB_REF="refs/heads/main", GITHUB_REF_NAME="main")
    clone = world.remote.checkout(world.folder / "clone", "refs/heads/main", 1)
    assert world.run(GATES["baseline.yml:record:Record"], clone, VALUES)[0] == 0
    assert "--infer-save" in world.stub.asked
    assert world.stub.against is None


@needs_bash
@pytest.mark.slow
def test_a_machine_without_results_fails_the_one_gate(world):
    clone = world.pull_request()
    write(clone, {"machines/infergate-a/results.json": results_json.render_results(session())})
    (block,) = [block for block in BLOCKS if block.place == "machines.yml:gate:Gate"]
    assert world.run(block, clone, {**VALUES, "needs.measure.result": "failure"})[0] == 1


@needs_bash
@pytest.mark.slow
def test_hostile_inputs_of_the_action_are_words(world):
    clone = world.pull_request()
    evil = "$(touch pwned) `touch pwned`; touch pwned"
    values = {**VALUES, "inputs.arguments": evil, "inputs.devices": evil, "inputs.report": evil}
    assert world.run(GATES["action.yml:Gate"], clone, values)[0] == 0
    assert not (clone / "pwned").exists()
    assert f"--infer-devices={evil}" in world.stub.asked


@needs_bash
@pytest.mark.slow
def test_the_action_says_where_infergate_is_missing(world):
    (world.folder / "bin" / "infergate").unlink()
    tools = world.folder / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to(shutil.which("bash"))
    world.service.set(PATH=tools)
    code, output = world.run(GATES["action.yml:Gate"], world.folder, VALUES)
    assert code == 4
    assert output.startswith("::error title=infergate::")
