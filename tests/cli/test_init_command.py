"""The `init` command in real repositories."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import PurePosixPath
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from ci_repositories import Remote, Service, alone, git, write
from refusals import refused

from pytest_infergate import __version__
from pytest_infergate.cli import init_command, install_source, main

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

WORKFLOW, REPORT = ".github/workflows/infergate.yml", ".github/workflows/infergate-report.yml"
TEST, EXAMPLE = "tests/test_inference.py", "tests/inference_example.py"


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    alone(monkeypatch, tmp_path)
    installed(monkeypatch, None)


def installed(monkeypatch, origin):
    """Let this infergate be installed from a package index, or from what pip records as its origin."""
    recorded = None if origin is None else json.dumps(origin)
    distribution = SimpleNamespace(version=__version__, read_text=lambda _: recorded)
    monkeypatch.setattr(install_source.metadata, "distribution", lambda _: distribution)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet", "repository")
    return tmp_path / "repository"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in a folder, with an answer to its question: exit code, output, errors."""

    def run(folder, *arguments, answer=None):
        monkeypatch.chdir(folder)
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer)
        with pytest.raises(SystemExit) as done:
            main.main(["init", *arguments])
        out, err = capsys.readouterr()
        return done.value.code, out, err

    return run


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    )


def test_everything_is_shown_and_then_written(repository, run):
    code, out, _ = run(repository, "--yes")
    assert code == 0
    assert files(repository) == sorted([WORKFLOW, REPORT, TEST, EXAMPLE, "pyproject.toml"])
    for name in files(repository):
        lines = (repository / name).read_text().splitlines()
        listing = "\n".join(["--- /dev/null", f"+++ {name}", *(f"+{line}" for line in lines)])
        assert listing in out
        assert f"\nwrote {name}\n" in out
    assert out.index("+++ pyproject.toml") < out.index("wrote ")


def test_it_asks_before_it_writes(repository, run):
    for answer, written in (("n", False), ("y", True), ("", True)):
        code, _, _ = run(repository, answer=answer)
        assert code == 0
        assert bool(files(repository)) is written, answer
        for name in files(repository):
            (repository / name).unlink()


def test_nothing_is_overwritten(repository, run, snapshot):
    mine = {WORKFLOW: "mine", TEST: "mine", "pyproject.toml": "[project]\nname = 'mine'\n"}
    write(repository, mine)
    code, out, _ = run(repository, "--yes")
    assert code == 0
    assert files(repository) == sorted([*mine, REPORT])
    assert {name: (repository / name).read_text() for name in mine} == mine
    assert f":\n  {WORKFLOW}\n  {TEST}\n" in out
    words = [line for line in out.splitlines() if not line.startswith(("+", "---"))]
    assert "\n".join(words) == snapshot


def test_a_second_time_there_is_nothing_to_write(repository, run):
    run(repository, "--yes")
    before = {name: (repository / name).read_text() for name in files(repository)}
    code, out, _ = run(repository)
    assert code == 0
    assert str(repository) in out
    assert "+++" not in out
    assert {name: (repository / name).read_text() for name in files(repository)} == before


def test_a_file_that_came_in_between_stays(repository):
    plan = init_command.plan_starter(repository)
    write(repository, {TEST: "mine"})
    with pytest.raises(init_command.StorageError, match=r"test_inference\.py"):
        init_command.write_files(plan)
    assert (repository / TEST).read_text() == "mine"


def test_it_writes_at_the_top(repository, run):
    (repository / "deep").mkdir()
    run(repository / "deep", "--yes")
    assert WORKFLOW in files(repository)
    assert files(repository / "deep") == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_where_nothing_can_be_written(repository, tmp_path, run, snapshot):
    """Outside of a repository, and where a folder leads out of it."""
    (tmp_path / "elsewhere").mkdir()
    (repository / ".github").symlink_to(tmp_path / "elsewhere")
    assert refused(run, {"outside": (tmp_path, "--yes")}, folder=tmp_path) == snapshot(name="outside")
    code, _, err = run(repository, "--yes")
    assert (code, err) == (4, snapshot(name="a link"))
    assert not (tmp_path / ".github").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_a_link_that_leads_nowhere_stands_in_the_way(repository, run):
    write(repository, {"tests/x": ""})
    (repository / TEST).symlink_to("nowhere")
    run(repository, "--yes")
    assert (repository / TEST).is_symlink()
    assert EXAMPLE not in files(repository)


def installs(repository):
    text = (repository / WORKFLOW).read_text()
    return re.search(r"run: python -m pip install (.*)", text)[1]


PIN = f"pytest-infergate=={__version__}"


def test_the_workflow_installs_what_the_repository_needs(repository, run):
    for there, expected in (
        ({}, PIN),
        ({"pyproject.toml": "[tool.ruff]\n"}, PIN),
        ({"pyproject.toml": "[build-system]\nrequires = []\n"}, f"--editable . {PIN}"),
        ({"setup.py": ""}, f"--editable . {PIN}"),
        ({"requirements.txt": "torch\n"}, f"--requirement requirements.txt {PIN}"),
        ({"setup.py": "", "requirements.txt": "x\n"}, f"--editable . --requirement requirements.txt {PIN}"),
    ):
        write(repository, there)
        run(repository, "--yes")
        assert installs(repository) == expected, there
        assert yaml.safe_load((repository / WORKFLOW).read_text())["permissions"] == {"contents": "read"}
        for name in files(repository):
            (repository / name).unlink()


GIT = "pytest-infergate @ git+https://host/o/infergate@0123abc"


def both_install(repository):
    """What the two workflows install as infergate."""
    found = {
        re.search(r"(?i)('pytest.infergate[^']*'|pytest.infergate\S*)", line)[1].strip("'")
        for name in (WORKFLOW, REPORT)
        for line in re.findall(r"run: python -m pip install .*", (repository / name).read_text())
    }
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"requirements.txt": f"torch\n{GIT}  # until it is released\n"}, GIT),
        ({"requirements-dev.txt": "PyTest_InferGate[nvidia]>=0.2,<1\n"}, "PyTest_InferGate[nvidia]>=0.2,<1"),
        ({"requirements/test.txt": "pytest-infergate~=0.1\n"}, "pytest-infergate~=0.1"),
        (
            {"requirements-dev.txt": "pytest-infergate==0.2 \\\n    --hash=sha256:00\n"},
            "pytest-infergate==0.2",
        ),
        ({"pyproject.toml": f"[dependency-groups]\ndev = [{{include-group = 'a'}}, '{GIT}']\n"}, GIT),
        ({"pyproject.toml": f"[project.optional-dependencies]\ntest = ['{GIT}']\n"}, GIT),
        ({"pyproject.toml": f"[project]\nname = 'pytest-infergate'\ndependencies = ['{GIT}']\n"}, GIT),
        ({"pyproject.toml": "[project]\nname = 'pytest-infergate'\n"}, PIN),
        ({"pyproject.toml": "not TOML"}, PIN),
        ({"requirements.txt": "pytest-infergate-extras==3\n"}, PIN),
        ({"requirements.txt": "pytest-infergate @ file:///home/me/clone\n"}, PIN),
    ],
)
def test_the_requirement_of_the_repository_is_installed(repository, run, there, expected):
    write(repository, there)
    assert run(repository, "--yes")[0] == 0
    assert both_install(repository) == expected
    assert all(yaml.safe_load((repository / name).read_text()) for name in (WORKFLOW, REPORT))


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, PIN),
        ({"url": "https://host/o/infergate", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}, GIT),
        (
            {"url": "https://me:secret@host/o/infergate", "vcs_info": {"vcs": "git", "commit_id": "0123abc"},
             "subdirectory": "py"},
            f"{GIT}#subdirectory=py",
        ),
        ({"url": "https://host/infergate.whl", "archive_info": {}}, "pytest-infergate @ https://host/infergate.whl"),
    ],
)  # fmt: skip
def test_otherwise_what_is_installed_here_is_installed_there(repository, run, monkeypatch, origin, expected):
    installed(monkeypatch, origin)
    _, out, _ = run(repository, "--yes")
    assert both_install(repository) == expected
    assert f"infergate as {shlex.quote(expected)}; --install" in out


@pytest.mark.parametrize("origin", ["file:///home/me/clone", "file:///tmp/infergate-0.1.0-py3-none-any.whl"])
def test_what_only_this_machine_has_is_refused_and_can_be_named(
    repository, run, monkeypatch, snapshot, origin
):
    installed(monkeypatch, {"url": origin, "dir_info": {"editable": True}})
    code, _, err = run(repository, "--yes")
    assert (code, err, files(repository)) == (4, snapshot(name="refused"), [])
    assert run(repository, "--yes", f"--install={GIT}")[0] == 0
    assert both_install(repository) == GIT
    assert run(repository)[0] == 0  # nothing is to be written


def test_an_infergate_that_is_not_installed_is_refused(repository, run, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(install_source.metadata, "distribution", absent)
    assert run(repository, "--yes")[0] == 4


def test_a_requirement_that_would_break_the_workflow_is_refused(repository, run, snapshot):
    asked = {name: ("--yes", f"--install={name}") for name in ("a\nb", "a # b", "a: b")}
    assert refused(lambda *arguments: run(repository, *arguments), asked) == snapshot
    assert files(repository) == []


def test_placeholders_of_the_documentation_are_refused(repository, run, snapshot):
    shown = "pytest-infergate @ git+https://HOST/OWNER/pytest-infergate@COMMIT"
    half = shown.replace("HOST/OWNER", "host/commit")
    asked = {name: ("--yes", f"--install={name}") for name in (shown, half)}
    write(repository, {"requirements.txt": f"{shown}\n"})
    asked["requirements.txt"] = ("--yes",)
    assert refused(lambda *arguments: run(repository, *arguments), asked) == snapshot
    assert not (repository / ".github").exists()
    assert run(repository, "--yes", f"--install={half.replace('@COMMIT', '')}")[0] == 0


INFERENCE = "import pytest\n\n@pytest.mark.inference\ndef test_a(\n    model,\n    infer,\n): infer(model)\n"


@pytest.mark.parametrize(
    ("there", "folder"),
    [
        ({"tests/test_a.py": INFERENCE}, "tests"),
        ({"tests/a/test_a.py": INFERENCE, "tests/b/b_test.py": INFERENCE, "tests/test_c.py": ""}, "tests"),
        ({"pkg/a/tests/test_a.py": INFERENCE}, "pkg/a/tests"),
        ({"test_a.py": INFERENCE, "tests/test_b.py": INFERENCE}, "."),
        ({"my tests/test_a.py": INFERENCE}, "'my tests'"),
    ],
)
def test_a_repository_with_inference_tests_gets_workflows_only(repository, run, there, folder):
    write(repository, there)
    git(repository, "add", next(iter(there)))  # committed or not
    _, out, _ = run(repository, "--yes")
    assert files(repository) == sorted([*there, WORKFLOW, REPORT])
    assert f" -- {folder}\n" in (repository / WORKFLOW).read_text()
    assert "pyproject.toml" not in out
    assert all(f"  {name}\n" in out for name, text in there.items() if text)


@pytest.mark.parametrize(
    "there",
    [
        # A marker of another plugin, a fixture, a helper.
        {"tests/test_a.py": "@pytest.mark.inference\ndef test_a(model): pass\n"},
        {"tests/conftest.py": "def infer(model): pass\n"},
        {"tests/helper.py": INFERENCE},
        {".gitignore": "venv\n", "venv/test_a.py": INFERENCE},
    ],
)
def test_other_tests_are_no_inference_tests(repository, run, there):
    write(repository, there)
    run(repository, "--yes")
    assert {TEST, EXAMPLE} <= set(files(repository))


def test_the_gate_may_begin_without_a_clock(repository, run):
    _, out, _ = run(repository, "--yes", "--counters-only")
    assert "run `pytest --infer-counters-only`" in out
    assert "remove --counters-only" in out
    text = (repository / WORKFLOW).read_text()
    assert "run: infergate ci --counters-only --devices=cpu --report=report.html -- tests\n" in text


def test_the_tests_may_be_elsewhere(repository, run):
    (repository / "test").mkdir()
    run(repository, "--yes")
    assert "test/test_inference.py" in files(repository)
    assert (
        "run: infergate ci --devices=cpu --report=report.html -- test\n"
        in (repository / WORKFLOW).read_text()
    )
    assert '"test/test_inference.py::*" = { weights_mb = 3 }' in (repository / "pyproject.toml").read_text()


def test_the_workflow_of_the_examples_is_what_is_written(repository):
    write(repository, {"setup.py": ""})
    plan = init_command.plan_starter(repository)
    assert [file.path for file in plan.files] == list(map(PurePosixPath, (WORKFLOW, REPORT, TEST, EXAMPLE)))


@pytest.mark.torch
@pytest.mark.slow
def test_the_first_test_runs_and_keeps_its_budget(repository, run):
    run(repository, "--yes")
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--infer-devices=cpu", "--infer-max-time=0.02",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert done.stdout.count("met") == 2


def test_the_first_test_is_collected_in_a_package_too(repository, run, pytester, monkeypatch):
    torch = ModuleType("torch")  # nothing of it is needed before the test is called
    torch.nn = ModuleType("torch.nn")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    write(repository, {"tests/__init__.py": ""})
    run(repository, "--yes")
    done = pytester.runpytest_inprocess("-p", "pytest_infergate.plugin.hooks", "--collect-only")
    assert done.ret == 0
    assert "test_model[" in done.stdout.str()


SLOWER = """from inference_original import WIDTH, load_model as original
from torch import nn


class Copy(nn.Module):
    def forward(self, inputs):
        return inputs.clone()


def load_model():
    return nn.Sequential(original(), Copy())
"""


@pytest.mark.torch
@pytest.mark.nightly
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_a_strangers_repository_is_gated_after_one_commit(tmp_path, monkeypatch, capfd):
    """The command of the workflow that was written, for its own pull request, and for the first regression."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    service = Service(tmp_path / "service", monkeypatch)
    remote = Remote(tmp_path)
    remote.commit("a model", **{"README.md": "ours"})
    remote.push()

    def gated(branch, number):
        git(remote.work, "checkout", "--quiet", "-b", branch)
        remote.commit(branch)
        service.pull_request(remote.pull_request(number))
        service.output.unlink(missing_ok=True)
        clone = remote.checkout(tmp_path / f"clone-{number}", f"refs/pull/{number}/merge")
        monkeypatch.chdir(clone)
        steps = yaml.safe_load((clone / WORKFLOW).read_text())["jobs"]["gate"]["steps"]
        (command,) = [step["run"] for step in steps if step.get("name") == "Gate"]
        with pytest.raises(SystemExit) as done:
            main.main([*shlex.split(command)[1:], "-p", "no:cacheprovider", "--infer-max-total=0.001"])
        return done.value.code, capfd.readouterr().out

    monkeypatch.chdir(remote.work)
    with pytest.raises(SystemExit):
        main.main(["init", "--yes"])
    code, out = gated("gate", 1)
    assert code == 0, out
    assert len(re.findall(r"test_model\[cpu-b\d\].* no-baseline\n", out)) == 2
    assert service.outputs == {"verdict": "passed", "failed": "0", "decided": "0", "cases": "2"}

    remote.push("gate:main")
    (remote.work / EXAMPLE).rename(remote.work / "tests/inference_original.py")
    write(remote.work, {EXAMPLE: SLOWER})
    code, out = gated("slower", 2)
    assert code == 1
    assert service.outputs["verdict"] == "failed"
    line = (remote.work / TEST).read_text().splitlines().index(
        "@pytest.mark.inference(batch_sizes=[1, 8])"
    ) + 1
    assert out.count(f"::error file={TEST},line={line},title=regressed%3A {TEST}%3A%3Atest_model[cpu-b") == 2
    assert "+1 aten::clone" in out
