"""The layout of the package: which part may import which, what core may call, and what loading the plugin costs."""

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest_infergate

ROOT = Path(pytest_infergate.__file__).parent
RANKS = "errors < git < core.domain < core.gate, core.advice < instruments, storage, report, config < devices, measure, outputs < runtimes, load < runner, testing < paired, advising, history, fleet < doctor < plugin, cli < worker"  # fmt: skip
"""A part imports parts of a lower rank only, never one of its own rank; a module outside every part may not exist."""
RANK = {part: rank for rank, parts in enumerate(RANKS.split(" < ")) for part in parts.split(", ")}
PUBLIC = ("__init__", "__main__")
"""Modules that only name what others define."""


@functools.cache
def trees():
    """Syntax trees of all modules, by name below the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if name not in PUBLIC:
            found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def part(module):
    names = module.split(".")
    return ".".join(names[: 2 if names[0] == "core" else 1])


def imports(tree, *, lazy=True):
    """Modules of the package that a module imports; without `lazy` only those that it loads with itself."""
    nodes = ast.walk(tree) if lazy else (node for node in tree.body if not isinstance(node, ast.If))
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            base = node.module.removeprefix("pytest_infergate").removeprefix(".")
            if node.module.split(".")[0] == "pytest_infergate":
                for alias in node.names:
                    inner = f"{base}.{alias.name}".removeprefix(".")
                    yield inner if inner in trees() else base


def test_imports_go_down():
    assert [name for name in trees() if part(name) not in RANK] == ["core"]
    wrong = [
        f"{name} -> {other}"
        for name, tree in trees().items()
        for other in filter(None, imports(tree))
        if part(other) != part(name) and not RANK[part(other)] < RANK[part(name)]
    ]
    assert not wrong


def test_no_module_imports_itself_through_others():
    graph = {name: set(filter(None, imports(tree, lazy=False))) for name, tree in trees().items()}
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_a_file_name_is_used_once():
    names = Counter(path.stem for path in ROOT.rglob("*.py") if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def test_a_public_name_has_one_home():
    homes = {}
    for name, tree in trees().items():
        for node in tree.body:
            found = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            if isinstance(node, ast.Assign):
                found += [target.id for target in node.targets if isinstance(target, ast.Name)]
            for one in found:
                if not one.startswith("_"):
                    homes.setdefault(one, set()).add(name)
    # pytest finds a hook by its name: the specification and our own implementation share it.
    twice = {
        one: sorted(where)
        for one, where in homes.items()
        if len(where) > 1 and not one.startswith("pytest_infergate_")
    }
    assert twice == {}


def functions():
    return [
        node
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def test_functions_and_files_are_of_readable_length():
    lengths = sorted(node.end_lineno - node.lineno + 1 for node in functions())
    assert lengths[int(0.99 * len(lengths))] <= 45
    assert [path.name for path in ROOT.rglob("*.py") if len(path.read_text().splitlines()) > 500] == []


def test_few_private_functions_have_a_single_caller():
    private = Counter(node.name for node in functions() if re.match("_[^_]", node.name))
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Name, ast.Attribute))
    )
    once = sorted(name for name, count in private.items() if count == 1 and uses[name] <= 1)
    assert len(once) <= 0.12 * len(functions()), once


ARCHAIC = re.compile(
    r"\b(told|tells?|mend(s|ed)?|cures?|nobody|somebody|whoever|thereof|gravest?|held back|hold back"
    r"|stands? (for|there|beside)|hangs? on|in vain|comes? into question|is none)\b"
)


def test_the_package_is_written_in_plain_words():
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    found = [f"{path.name}: {match[0]}" for path, text in texts.items() for match in ARCHAIC.finditer(text)]
    assert len(found) <= sum(len(text.splitlines()) for text in texts.values()) / 1000, found


def test_the_package_root_holds_few_modules():
    assert {path.stem for path in ROOT.glob("*.py")} == {"__init__", "__main__", "errors", "git", "testing"}


IMPURE_MODULES = {
    "os",
    "time",
    "pathlib",
    "io",
    "random",
    "sys",
    "subprocess",
    "socket",
    "torch",
    "pytest",
    "logging",
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "now", "utcnow", "today"}
"""Calls that read the clock or touch the outside; `datetime` as a value is fine."""


def test_core_and_report_are_pure():
    wrong = []
    for name, tree in trees().items():
        if part(name).split(".")[0] not in ("core", "report"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                wrong += [
                    f"{name} imports {a.name}" for a in node.names if a.name.split(".")[0] in IMPURE_MODULES
                ]
            elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in IMPURE_MODULES:
                wrong.append(f"{name} imports {node.module}")
            elif isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called in IMPURE_CALLS:
                    wrong.append(f"{name}:{node.lineno} calls {called}")
    assert not wrong


def test_public_names_load_on_first_use():
    code = (
        "import sys, pytest_infergate as package;"
        "assert not {'torch', 'numpy', 'msgspec', 'pytest'} & set(sys.modules), sorted(sys.modules);"
        "[getattr(package, name) for name in package.__all__];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def loaded(pytester, *arguments):
    script = (
        "import sys, pytest; code = pytest.main(sys.argv[1:]);"
        "print('LOADED', *sorted(sys.modules), 'CODE', int(code))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "-p", "pytest_infergate.plugin.hooks", *arguments],
        cwd=pytester.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split())


AT_START = {
    "pytest_infergate",
    "pytest_infergate.config",
    "pytest_infergate.config.options",
    "pytest_infergate.errors",
    "pytest_infergate.plugin",
    "pytest_infergate.plugin.collection",
    "pytest_infergate.plugin.hooks",
    "pytest_infergate.plugin.hookspecs",
    "pytest_infergate.plugin.modes",
}
"""Own modules that every pytest session loads. Each costs about a millisecond."""


def test_a_run_without_inference_tests_loads_only_what_chooses_the_mode(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_plain(): pass")
    modules = loaded(pytester)
    assert {name for name in modules if name.startswith("pytest_infergate")} == AT_START
    # Nothing else that pytest itself does not load.
    plain = subprocess.run(
        [sys.executable, "-c", "import sys, pytest; pytest.main([]); print('LOADED', *sys.modules)"],
        cwd=pytester.path, capture_output=True, text=True, check=True,
    ).stdout.splitlines()[-1]  # fmt: skip
    assert modules - AT_START - set(plain.split()) <= {"CODE", "0"}


def test_an_unmeasured_inference_test_loads_neither_torch_nor_numpy(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_model(infer): assert infer(lambda: 1).output == 1")
    modules = loaded(pytester)
    assert "0" in modules
    assert not {"torch", "numpy", "scipy", "jinja2"} & modules


def test_importing_the_command_loads_no_torch():
    code = "import sys, pytest_infergate.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
