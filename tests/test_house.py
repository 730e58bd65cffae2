"""The house: who may import whom, and what loading the plugin costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_infergate

ROOT = Path(pytest_infergate.__file__).parent
LAYERS = {
    "errors": set(),
    "core": set(),
    "devices": {"core", "errors", "measure"},
    "measure": {"core", "errors", "devices"},
    "storage": {"core", "errors"},
    "report": {"core", "errors"},
    "options": {"core"},
    "settings": {"core", "errors", "options"},
    "selection": {"settings"},
    "fixture": {"core", "errors", "measure", "session", "settings"},
    "pricing": {"core", "errors", "settings", "storage"},
    "session": {"core", "errors", "devices", "measure", "options", "pricing", "settings", "storage"},
    "conclusion": {"advise", "core", "errors", "report", "session", "storage"},
    "paired": {"core", "errors", "devices", "measure"},
    "against": {"core", "errors", "conclusion", "paired", "report", "session", "settings", "storage"},
    "workers": {"against", "core", "measure", "paired", "session"},
    "side": {"core", "errors", "devices", "measure", "paired", "plugin", "session", "settings", "shell", "storage"},
    "hookspecs": {"devices", "storage"},
    "shell": {"core", "errors", "devices", "measure", "report", "options", "settings", "selection", "fixture", "session", "conclusion", "paired", "against", "workers"},
    "plugin": {"devices", "fixture", "hookspecs", "shell", "storage"},
    "replay": {"core", "errors", "storage"},
    "advise": {"core", "errors", "pricing", "report", "settings", "storage"},
    "history": {"errors"},
    "ci": {"core", "errors", "history", "report"},
    "publish": {"core", "errors", "report"},
    "init": {"errors", "history", "storage"},
    "cli": {"advise", "ci", "core", "errors", "init", "publish", "replay", "report", "storage"},
    "testing": {"core", "errors", "devices", "storage"},
}  # fmt: skip
"""Which parts each part may import; a part that is not listed may not exist."""


def imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    if path == ROOT / "__init__.py":
        assert not list(imports(path))
        return
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("pytest_infergate.")}
    inner &= {part(other) for other in ROOT.rglob("*.py")}
    assert inner - {part(path)} <= LAYERS[part(path)]


@pytest.mark.parametrize("path", sorted((ROOT / "core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_touches_nothing_outside(path):
    effects = {
        "os",
        "time",
        "datetime",
        "pathlib",
        "io",
        "random",
        "sys",
        "subprocess",
        "torch",
        "pytest",
        "logging",
    }
    assert not effects & {name.split(".")[0] for name in imports(path)}
    assert "print(" not in path.read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "report").glob("*.py")), ids=lambda path: path.name)
def test_reports_are_pure(path):
    effects = {"os", "time", "datetime", "io", "random", "subprocess", "torch", "pytest"}
    assert not effects & {name.split(".")[0] for name in imports(path)}


def loaded(pytester, *arguments):
    script = (
        "import sys, pytest; code = pytest.main(sys.argv[1:]);"
        "print('LOADED', *sorted({n.split('.')[0] for n in sys.modules}), 'CODE', int(code))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "-p", "pytest_infergate.plugin.hooks", *arguments],
        cwd=pytester.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split())


HEAVY = {"torch", "numpy", "scipy", "jinja2", "msgspec", "tabulate", "filelock", "click"}


def test_a_run_without_inference_tests_loads_nothing(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_plain(): pass")
    assert not HEAVY & loaded(pytester)


def test_an_unmeasured_inference_test_loads_neither_torch_nor_numpy(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_model(infer): assert infer(lambda: 1).output == 1")
    modules = loaded(pytester)
    assert "0" in modules
    assert not {"torch", "numpy", "scipy", "jinja2"} & modules


def test_importing_the_command_loads_no_torch():
    code = "import sys, pytest_infergate.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
