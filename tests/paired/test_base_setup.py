"""How the base is made, how its workers are started, and when it turns out to be the same code."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from inputs import RUNTIMES

from pytest_infergate.config.settings import parse_settings
from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired.base_setup import BaseSetup, case_modules, overlay_files
from pytest_infergate.paired.protocol import ModulesListed
from pytest_infergate.paired.source_tree import LoadedModules

GIT = ("git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def top(tmp_path):
    """A project in git."""
    top = tmp_path / "project"
    for name in ("conftest.py", "src/mymodel.py", "tests/conftest.py", "tests/test_it.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    commit(top)
    return top


def commit(top):
    for command in ("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "a commit"):
        subprocess.run([*GIT, *command], cwd=top, check=True, capture_output=True)


def config_of(top, *arguments, folder=None):
    """The configuration of pytest, called in a folder of a project."""
    return SimpleNamespace(
        rootpath=top,
        inipath=None,
        invocation_params=SimpleNamespace(dir=folder or top, args=arguments),
        pluginmanager=SimpleNamespace(has_plugin=lambda _: True),
    )


def base_of(top, *arguments, command=None, table="", absence=None, **places):
    """What a run of a project is compared with: its last commit, unless `command` says otherwise."""
    (top / "pyproject.toml").write_text(table, encoding="utf-8")
    settings = parse_settings(
        command or {"against": "HEAD"}, {}, rootdir=top, invocation_dir=top, kinds=("cpu",), offered=RUNTIMES
    )
    run = SimpleNamespace(settings=settings, runtime_absence=lambda _: absence)
    return BaseSetup(run, config_of(top, *arguments, **places))


def cases(*paths):
    return [SimpleNamespace(path=path) for path in paths]


# How workers are started


def test_workers_of_the_base_run_in_its_worktree(top, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    base = base_of(top, "-q", f"{top}/tests/test_it.py", folder=top / "tests")
    with base.ready([], folder, ["tests/test_it.py"]) as specs:
        assert list(specs) == ["base", "candidate", "control"]
        target = Path(specs["base"].collect.target)
        assert (target / "src" / "mymodel.py").is_file()
        for role, tree in (("base", target), ("candidate", top), ("control", target)):
            spec, collect = specs[role], specs[role].collect
            assert (spec.role, spec.python, spec.run_folder) == (role, sys.executable, folder)
            assert spec.folder == tree / "tests"
            assert collect.arguments == ("-q", f"{tree}/tests/test_it.py", "--rootdir", str(tree))
            assert (collect.source, collect.target) == (str(top), str(target))
            assert collect.remap is (role != "candidate")
            assert collect.own_folder == str(folder / f"own-{role}")
            assert Path(collect.own_folder).is_dir()
            assert collect.sys_path is not None
            assert collect.modules == ("tests/test_it.py",)
    assert not target.exists()


def test_another_interpreter_keeps_its_path_and_shares_the_tree(top, tmp_path):
    base = base_of(top, "-q", command={"against_python": sys.executable})
    with base.ready([], tmp_path) as specs:
        for role in ("base", "control"):
            assert specs[role].collect.sys_path is None
            assert specs[role].folder == top
            assert not specs[role].collect.remap
        assert specs["candidate"].collect.sys_path is not None
    assert (base.against().revision, base.against().python) == (None, sys.executable)


def test_another_runtime_is_executed_by_the_base_in_the_same_tree(top, tmp_path):
    base = base_of(top, "-q", command={"against_runtime": "eager"})
    with base.ready([], tmp_path) as specs:
        assert {role: spec.collect.runtime for role, spec in specs.items()} == {
            "base": "eager", "candidate": None, "control": "eager",
        }  # fmt: skip
        assert {spec.folder for spec in specs.values()} == {top}
        assert {spec.python for spec in specs.values()} == {sys.executable}
    assert base.against() == Against(runtime="eager")


def test_a_runtime_that_is_absent_is_an_error_before_anything_runs(top):
    with pytest.raises(ConfigurationError, match="--infer-against-runtime: openvino is not installed"):
        base_of(top, command={"against_runtime": "eager"}, absence="openvino is not installed")


def test_a_project_that_is_called_through_a_link_is_collected_once(top, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(top)
    folder = tmp_path / "run"
    folder.mkdir()
    base = base_of(link, f"{link}/tests")
    with base.ready([], folder) as specs:
        assert specs["candidate"].collect.arguments == (f"{top}/tests", "--rootdir", str(top))
        target = specs["base"].collect.target
        assert specs["base"].collect.arguments == (f"{target}/tests", "--rootdir", target)


def test_tests_of_the_candidate_are_copied_over_the_base(top, tmp_path):
    (top / "tests" / "test_it.py").write_text("changed")
    (top / "data").mkdir()
    (top / "data" / "a.bin").write_text("new")
    folder = tmp_path / "run"
    folder.mkdir()
    base = base_of(top, table="[tool.infergate]\noverlay = ['data']\n")
    with base.ready([Path("tests/test_it.py")], folder) as specs:
        target = Path(specs["base"].folder)
        assert (target / "tests" / "test_it.py").read_text() == "changed"
        assert (target / "data" / "a.bin").read_text() == "new"


def test_files_to_copy_are_tests_and_what_pytest_reads_with_them(top):
    for name in ("tests/__init__.py", "tests/deep/__init__.py", "tests/deep/test_new.py"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
    base = base_of(top)
    found = overlay_files(
        cases(top / "tests/deep/test_new.py", Path("/elsewhere/test_x.py")), config_of(top), base
    )
    expected = ("tests/deep/test_new.py", "tests/deep/__init__.py", "tests/conftest.py", "tests/__init__.py")
    assert found == [*map(Path, expected), Path("conftest.py")]
    commit(top)
    base = base_of(top)  # the base has its own __init__.py now
    found = overlay_files(cases(top / "tests/deep/test_new.py"), config_of(top), base)
    assert found == [Path("tests/deep/test_new.py"), Path("tests/conftest.py"), Path("conftest.py")]


def test_modules_are_named_as_both_sides_find_them(top, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(top / "tests")
    base = base_of(top)
    paths = (top / "tests/test_it.py", link / "test_it.py", Path("/elsewhere/test_x.py"))
    assert case_modules(cases(*paths), config_of(top), base) == ["tests/test_it.py", "/elsewhere/test_x.py"]
    inside = config_of(top / "src")
    assert case_modules(cases(paths[0]), inside, base) == [str(Path("..") / "tests" / "test_it.py")]


def test_a_setup_command_that_fails_is_an_error_with_its_output(top, tmp_path):
    for command, printed in (
        ("echo out of paper >&2; exit 7", "out of paper"),
        ("exit 7", "it printed nothing"),
    ):
        base = base_of(top, table=f"[tool.infergate]\nsetup = '{command}'\n")
        with (
            pytest.raises(ConfigurationError, match=f"on the base with exit code 7: {printed}$"),
            base.ready([], tmp_path),
        ):
            pass


def test_an_interpreter_is_found_from_the_invocation_folder_or_on_the_path(top, monkeypatch, tmp_path):
    (top / "python").symlink_to(sys.executable)
    assert base_of(top, command={"against_python": "python"}).python == str(top / "python")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    name = Path(sys.executable).name
    assert Path(base_of(top, command={"against_python": name}).python).name == name
    with pytest.raises(ConfigurationError, match="--infer-against-python: there is no /no/python"):
        base_of(top, command={"against_python": "/no/python"})


# Whether both sides run the same code


def test_sides_that_run_the_same_code_are_refused(top, snapshot):
    """The base loaded the working tree, an install hides it, or nothing of it was loaded but tests."""
    test, own = {"test_it": "tests/test_it.py"}, {"mymodel": "src/mymodel.py"}
    overlaid = [Path("tests/test_it.py")]

    def check(base, installed=None, leaked=None, **options):
        sides = (
            ModulesListed(LoadedModules(base=base), leaked),
            ModulesListed(LoadedModules(installed=installed or {})),
        )
        base_of(top, **options).check(*sides, overlaid)

    def refused(*arguments, **options):
        with pytest.raises(ConfigurationError) as error:
            check(*arguments, **options)
        return str(error.value)

    check({**test, **own})
    check(test, command={"against": "HEAD", "against_python": sys.executable})
    check(test, command={"against_python": sys.executable}, leaked="anything")
    assert {
        "leak": refused({**test, **own}, leaked="mymodel (src/mymodel.py)"),
        "install": refused(test, {"mymodel": "/site/mymodel.py"}),
        "same": refused(test, {"other": "/site/other.py"}),
        "overlaid": refused({**test, **own}, table="[tool.infergate]\noverlay = ['src']\n"),
    } == snapshot
