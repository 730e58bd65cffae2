"""Which files a side loaded, with modules and finders made up."""

import os
import sys
import types
from pathlib import Path

import pytest

from pytest_infergate.paired.source_tree import (
    LoadedModules,
    hiding_install,
    leaked_module,
    loaded_modules,
    modules_of_base,
    remap,
    remap_argument,
    remap_finders,
    remap_variables,
    within,
)


@pytest.fixture
def trees(tmp_path):
    source, target = (tmp_path.resolve() / name for name in ("source", "target"))
    for folder in (source, target):
        for name in ("src/pkg/__init__.py", "src/pkg/model.py", "flat.py"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (source / "src" / "new").mkdir()
    (source / "src" / "new" / "__init__.py").touch()
    return source, target


@pytest.fixture
def module(monkeypatch):
    """Puts a module into sys.modules, which are few: all that a run has loaded take long to look through."""
    few = ("sys", "types", "json", "os", "pathlib", "pytest", "pytest_infergate", "pytest_infergate.errors")
    monkeypatch.setattr(sys, "modules", {name: sys.modules[name] for name in few})

    def put(name, **attributes):
        made = types.ModuleType(name)
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return put


# Paths


def test_a_path_moves_to_where_the_other_tree_has_it(trees):
    source, target = trees
    assert remap([str(source / "src"), str(source)], source, target) == [str(target / "src"), str(target)]


def test_a_path_that_the_other_tree_lacks_stays(trees):
    source, target = trees
    assert remap([str(source / "src" / "new")], source, target) == [str(source / "src" / "new")]


def test_paths_elsewhere_stay(trees, tmp_path):
    source, target = trees
    paths = [str(tmp_path), str(target), "/usr/lib/python3", f"{source}-more", "zip\0ped"]
    assert remap(paths, source, target) == paths


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_installed_packages_stay_though_the_other_tree_has_them_too(trees, packages):
    source, target = trees
    for tree in trees:
        (tree / ".venv" / "lib" / packages / "torch").mkdir(parents=True)
    paths = [str(source / ".venv" / "lib" / packages), str(source / ".venv" / "lib" / packages / "torch")]
    assert remap(paths, source, target) == paths


def test_a_path_may_be_relative(trees, monkeypatch):
    source, target = trees
    monkeypatch.chdir(source)
    assert remap(["", "src"], source, target) == [str(target), str(target / "src")]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_path_through_a_link_moves_too(trees, tmp_path):
    source, target = trees
    (tmp_path / "link").symlink_to(source)
    assert remap([str(tmp_path / "link" / "src")], source, target) == [str(target / "src")]


@pytest.mark.parametrize(
    "argument",
    ["{}", "{}/src", "{}/flat.py::test_a", "--data={}/src", "--pair={}/src,{}/flat.py", "--same={}/src:{}"],
)
def test_an_argument_moves_with_the_paths_in_it(trees, argument):
    source, target = trees
    moved = remap_argument(argument.replace("{}", str(source)), source, target)
    assert moved == argument.replace("{}", str(target))


@pytest.mark.parametrize(
    "argument",
    ["{}-more", "{}/absent", "--data={}.old/src", "--data=/elsewhere{}/src", "tests", "", "-k not x"],
)
def test_other_arguments_stay(trees, argument):
    source, target = trees
    argument = argument.replace("{}", str(source))
    assert remap_argument(argument, source, target) == argument


def test_variables_that_name_folders_of_the_tree_name_those_of_the_other(trees):
    source, target = trees
    variables = {
        "APP": str(source),
        "PYTHONPATH": os.pathsep.join([str(source / "src"), "src", "/usr/lib"]),
        "CACHE": str(source / "cache"),
        "STAGE": "src",
        "HOME": str(source),
        "URL": "https://example.org/src",
    }
    moved = {
        **variables,
        "APP": str(target),
        "PYTHONPATH": os.pathsep.join([str(target / "src"), "src", "/usr/lib"]),
    }
    remap_variables(variables, source, target)
    assert variables == moved


def test_within(trees, tmp_path):
    source, _ = trees
    assert within(str(source / "src" / "pkg"), source) == Path("src/pkg")
    assert within(str(source), source) == Path()
    assert within(str(tmp_path), source) is None
    assert within(str(source / "lib" / "site-packages" / "a.py"), source) is None
    assert within("a\0b", source) is None


# Finders of editable installs


def test_the_tables_that_setuptools_writes(trees, module):
    source, target = trees
    finder = module(
        "__editable___project_1_0_finder",
        MAPPING={
            "pkg": str(source / "src" / "pkg"),
            "new": str(source / "src" / "new"),
            "other": "/opt/other",
        },
        NAMESPACES={"space": [str(source / "src"), "/opt/space"], "empty": []},
        PATH_PLACEHOLDER="__editable__.project-1.0.finder.__path_hook__",
    )
    remap_finders(source, target)
    assert {
        "pkg": str(target / "src" / "pkg"),
        "new": str(source / "src" / "new"),
        "other": "/opt/other",
    } == finder.MAPPING
    assert {"space": [str(target / "src"), "/opt/space"], "empty": []} == finder.NAMESPACES
    assert finder.PATH_PLACEHOLDER == "__editable__.project-1.0.finder.__path_hook__"


def test_tables_of_any_other_module_are_its_own(trees, module):
    source, target = trees
    other = module("editable_settings", MAPPING={"pkg": str(source / "src" / "pkg")})
    remap_finders(source, target)
    assert {"pkg": str(source / "src" / "pkg")} == other.MAPPING


def test_the_plugin_is_the_same_on_both_modules(trees, module):
    source, target = trees
    for tree in trees:
        (tree / "pytest_infergate").mkdir()
    finder = module("__editable___x_finder", MAPPING={"pytest_infergate": str(source / "pytest_infergate")})
    remap_finders(source, target)
    assert {"pytest_infergate": str(source / "pytest_infergate")} == finder.MAPPING


class Finder:
    """As the import hooks of editables and scikit-build-core: the tables are the finder's own."""

    def __init__(self, source):
        self.known = {"pkg": str(source / "src" / "pkg" / "__init__.py")}
        self.places = {"pkg": [str(source / "src" / "pkg")], "pairs": [("a", 1)], "number": 3, 4: None}
        self.path = str(source)
        self.names = [str(source)]

    def find_spec(self, fullname, path=None, target=None):
        return None


def test_the_tables_of_a_finder(trees, monkeypatch):
    source, target = trees
    finder = Finder(source)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    remap_finders(source, target)
    assert finder.known == {"pkg": str(target / "src" / "pkg" / "__init__.py")}
    assert finder.places == {
        "pkg": [str(target / "src" / "pkg")],
        "pairs": [("a", 1)],
        "number": 3,
        4: None,
    }
    assert finder.path == str(source)


class Slotted:
    __slots__ = ()

    def find_spec(self, fullname, path=None, target=None):
        return None


def test_a_finder_without_attributes(trees, monkeypatch):
    source, target = trees
    finder = Finder(source)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Slotted(), finder])
    remap_finders(source, target)
    assert finder.known == {"pkg": str(target / "src" / "pkg" / "__init__.py")}


# What is loaded


def test_modules_by_the_tree_they_came_from(trees, module, tmp_path):
    source, target = trees
    module("pkg", __file__=str(source / "src" / "pkg" / "__init__.py"))
    module("pkg.model", __file__=str(target / "src" / "pkg" / "model.py"))
    module("fremd", __file__=str(tmp_path / "fremd.py"))
    module("fremd.part", __file__=str(tmp_path / "fremd" / "part.py"))
    module("hidden", __file__=str(source / ".venv" / "site-packages" / "hidden.py"))
    module("builtin_like")
    module("nameless", __file__=None)
    found = loaded_modules(source, target)
    assert found.candidate == {"pkg": "src/pkg/__init__.py"}
    assert found.base == {"pkg.model": "src/pkg/model.py"}
    assert found.installed["fremd"] == str(tmp_path / "fremd.py")
    assert found.installed["hidden"] == str(source / ".venv" / "site-packages" / "hidden.py")
    assert found.installed["pytest"] == pytest.__file__
    assert set(found.installed) == {"fremd", "hidden", "pytest"}


def test_the_plugin_belongs_to_no_tree(trees, module):
    source, target = trees
    module("pytest_infergate.fake", __file__=str(source / "pytest_infergate" / "fake.py"))
    found = loaded_modules(source, target)
    assert not any(
        "pytest_infergate" in name for name in {**found.candidate, **found.base, **found.installed}
    )


def test_a_worktree_within_the_repository_is_the_base(trees, module):
    source, _ = trees
    target = source / "build" / "base"
    module("pkg", __file__=str(target / "pkg" / "__init__.py"))
    found = loaded_modules(source, target)
    assert (found.candidate, found.base) == ({}, {"pkg": "pkg/__init__.py"})


def test_a_module_that_is_not_there(trees, module, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_like", None)
    assert "torch_like" not in loaded_modules(*trees).installed


@pytest.mark.parametrize("side", [0, 1])
def test_a_module_that_only_pretends_to_have_a_file(trees, module, monkeypatch, side):
    # torch.ops and torch.classes say _ops.py and _classes.py, wherever the process runs.
    module("torch_like.ops", __file__="_ops.py")
    monkeypatch.chdir(trees[side])
    found = loaded_modules(*trees)
    assert (found.candidate, found.base) == ({}, {})


# What the base took from the candidate


def modules(candidate=(), base=(), installed=()):
    return LoadedModules(candidate=dict(candidate), base=dict(base), installed=dict(installed))


def test_a_module_that_leaked(trees):
    _, target = trees
    files = modules({"pkg.model": "src/pkg/model.py", "pkg": "src/pkg/__init__.py"})
    assert leaked_module(files, target) == "pkg (src/pkg/__init__.py)"


def test_a_module_that_only_the_candidate_has_did_not_leak(trees):
    _, target = trees
    files = modules({"new": "src/new/__init__.py"}, {"pkg": "src/pkg/__init__.py"}, {"torch": "/torch.py"})
    assert leaked_module(files, target) is None
    assert leaked_module(modules(), target) is None


@pytest.mark.parametrize(
    ("name", "inside", "own"),
    [
        ("moved", "src/moved/__init__.py", "moved/__init__.py"),
        ("moved.part", "src/moved/part.py", "moved/part.py"),
        ("moved.part", "moved/part.py", "src/moved/part.py"),
        ("moved.deep", "lib/moved/deep/__init__.py", "moved/deep/__init__.py"),
    ],
)
def test_a_module_leaked_though_its_package_has_moved_since(trees, name, inside, own):
    _, target = trees
    files = modules({name: inside})
    assert leaked_module(files, target) is None
    (target / own).parent.mkdir(parents=True)
    (target / own).touch()
    assert leaked_module(files, target) == f"{name} ({inside})"


def test_what_the_base_has_of_its_own():
    files = modules(
        {"new": "src/new/__init__.py"},
        {
            "pkg": "src/pkg/__init__.py",
            "flat": "flat.py",
            "test_a": "tests/test_a.py",
            "helpers": "tests/help/er.py",
            "testsuite": "testsuite.py",
        },
    )
    assert modules_of_base(files, [Path("tests/test_a.py"), Path("tests/help")]) == [
        "flat",
        "pkg",
        "testsuite",
    ]
    assert modules_of_base(files, [Path("tests"), Path("src"), Path("flat.py"), Path("testsuite.py")]) == []
    assert modules_of_base(files, [Path()]) == []


def test_an_install_that_hides_the_repository(trees):
    source, _ = trees
    files = modules(installed={"json5": "/site-packages/json5.py", "pkg": "/site-packages/pkg/__init__.py"})
    assert hiding_install(files, source) == "pkg from /site-packages/pkg/__init__.py"
    assert hiding_install(modules(installed={"flat": "/f.py"}), source) == "flat from /f.py"


def test_nothing_is_hidden(trees):
    source, _ = trees
    (source / "torch").mkdir()  # a folder is no package of its own
    files = modules({"pkg": "src/pkg/__init__.py"}, installed={"torch": "/torch/__init__.py"})
    assert hiding_install(files, source) is None
