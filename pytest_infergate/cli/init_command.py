"""The ``init`` command: files that a repository needs for the gate. Existing files are not changed."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pytest_infergate.cli.install_source import install_source
from pytest_infergate.config.toml import read_document
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.git import repository_top, run_git
from pytest_infergate.storage.atomic import unwritable

WORKFLOWS: Final = PurePosixPath(".github/workflows")
_INSTALLED = "--editable . "
"""Part of the workflow: what is installed in addition to infergate."""
_GATE = "infergate ci "
_PINNED = re.compile(r"pytest-infergate==[\w.]+")
_TAKES_INFER = re.compile(r"\bdef\s+\w+\s*\([^)]*\binfer\b")
_FIRST_IMPORT = "from inference_example import"


class StarterFile(NamedTuple):
    """A file to write, with its path in the repository."""

    path: PurePosixPath
    text: str


class StarterPlan(NamedTuple):
    """The files to write, and what the user must do."""

    top: Path
    files: tuple[StarterFile, ...]
    existing: tuple[PurePosixPath, ...]
    """Files that exist and are not changed."""
    tests: tuple[PurePosixPath, ...] = ()
    """Inference tests of the repository, which needs no first one."""
    snippet: str = ""
    """Settings to add to an existing ``pyproject.toml``; empty if the file is written, or not needed."""
    installed: str = ""
    """What the workflows install as infergate; empty if they exist."""
    counters_only: bool = False
    """Whether the workflow compares counters and no times."""


def plan_starter(folder: Path, *, counters_only: bool = False, install: str = "") -> StarterPlan:
    """Find the files that a repository lacks.

    With `counters_only`, the workflow compares counters and no times. `install` is what the workflows install
    as infergate, instead of what is found. Raises `ConfigurationError` outside of a git repository, and if a
    workflow could not install infergate.
    """
    top = repository_top(folder)
    if top is None:
        raise ConfigurationError(
            f"{folder} is not inside a git repository, which the gate needs to compare commits. "
            "Hint: run `git init`, or change to a repository"
        )
    present = _inference_tests(top)
    tests = "tests" if (top / "tests").is_dir() or not (top / "test").is_dir() else "test"
    if present:  # pytest gets one argument, the folder of all of them
        tests = os.path.commonpath([path.parent for path in present]) or "."
    installed = ""
    if not all(_exists(top, WORKFLOWS / name) for name in ("infergate.yml", "infergate-report.yml")):
        installed = install_source(install, top)
    wanted = _workflows(top, tests, installed, _GATE + "--counters-only " * counters_only)
    first, snippet = ([], "") if present else _first_test(top, tests)
    wanted += first
    return StarterPlan(
        top=top,
        files=tuple(file for file in wanted if not _exists(top, file.path)),
        existing=tuple(file.path for file in wanted if _exists(top, file.path)),
        tests=present,
        snippet=snippet,
        installed=installed,
        counters_only=counters_only,
    )


def _first_test(top: Path, tests: str) -> tuple[list[StarterFile], str]:
    """Return the files of a first test, and settings to add to those that the repository has."""
    written = _template("test_inference.txt")
    if (top / tests / "__init__.py").is_file():
        # pytest then imports the test as a module of a package, and does not add its folder to sys.path.
        written = written.replace(_FIRST_IMPORT, f"from {tests}.inference_example import")
    pair = [
        StarterFile(PurePosixPath(tests, "test_inference.py"), written),
        StarterFile(PurePosixPath(tests, "inference_example.py"), _template("inference_example.txt")),
    ]
    # Neither is useful without the other.
    wanted = [file for file in pair if _exists(top, file.path)] or pair
    settings = _template("pyproject.txt").replace("tests/", f"{tests}/")
    if any(_exists(top, name) for name in ("pyproject.toml", "setup.py", "setup.cfg")):
        return wanted, settings
    return [*wanted, StarterFile(PurePosixPath("pyproject.toml"), settings)], ""


def preview(plan: StarterPlan) -> str:
    """Render the content of all files to write, and the next steps."""
    blocks = []
    for file in plan.files:
        # A diff is how the same change looks in the review of the pull request.
        lines = difflib.unified_diff([], file.text.splitlines(), "/dev/null", str(file.path), lineterm="")
        blocks.append("\n".join(line for line in lines if not line.startswith("@@")))
    if not plan.files:
        blocks.append(f"All files exist already in {plan.top}.")
    if plan.existing:
        blocks.append(
            "\n".join(["These files exist and are not changed:", *(f"  {path}" for path in plan.existing)])
        )
    if plan.tests:
        there = ["These inference tests exist, so no first test is needed:", *map(str, plan.tests)]
        blocks.append("\n  ".join(there))
    if plan.snippet:
        blocks.append(f"Optional settings for your pyproject.toml:\n\n{plan.snippet.rstrip()}")
    if plan.installed:
        blocks.append(
            f"The workflows install infergate as {plan.installed}; --install=REQUIREMENT changes it."
        )
    if plan.files:
        option = "--infer-devices=cpu"
        clock = "To begin without a clock, let the workflow run `infergate ci --counters-only`."
        if plan.counters_only:
            option = "--infer-counters-only"
            clock = "To compare times as well, remove --counters-only from the workflow."
        blocks.append(
            f"Next steps: run `pytest {option}`, commit the files on a branch, and open a pull "
            f"request. {clock} "
            "Comments begin when the report workflow is on the default branch. "
            "Runs write results.json and report.html: add them to .gitignore."
        )
    return "\n\n".join(blocks)


def write_files(plan: StarterPlan) -> list[PurePosixPath]:
    """Write the files of a plan. Raises `StorageError` for a file that exists in the meantime."""
    written = []
    for file in plan.files:
        target = plan.top / file.path
        # If a folder is a link to a place outside of the repository, the file would be written there.
        if plan.top.resolve() not in (target.parent.resolve() / target.name).parents:
            raise StorageError(
                f"{file.path}: its folder must not be a link out of the repository. Hint: remove the link"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Mode x never replaces a file, even one that was created after the plan was made.
            with target.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(file.text)
        except OSError as error:
            raise unwritable(target, error) from error
        written.append(file.path)
    return written


def _exists(top: Path, name: str | PurePosixPath) -> bool:
    # A broken link exists too: writing would create the file that it points to.
    return os.path.lexists(top / name)


def _inference_tests(top: Path) -> tuple[PurePosixPath, ...]:
    """Return the test files of a repository that use the fixture `infer`, committed or not."""
    listed = run_git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py").output
    paths = (PurePosixPath(name) for name in sorted({*listed.split("\0")}))
    tests = (path for path in paths if path.name.startswith("test_") or path.name.endswith("_test.py"))
    return tuple(
        path
        for path in tests
        if (top / path).is_file()
        and _TAKES_INFER.search((top / path).read_text(encoding="utf-8", errors="replace"))
    )


def _template(name: str) -> str:
    return (files("pytest_infergate") / "starter" / name).read_text(encoding="utf-8")


def _workflows(top: Path, tests: str, installed: str, gate: str) -> list[StarterFile]:
    """Return the workflow that measures, which installs what the repository needs, and that of the report."""
    described = not {"project", "build-system"}.isdisjoint(read_document(top / "pyproject.toml"))
    needed = "--editable . " if described or (top / "setup.py").is_file() else ""
    needed += "--requirement requirements.txt " if (top / "requirements.txt").is_file() else ""

    def installing(name: str) -> str:
        return _PINNED.sub(lambda _: installed, _template(name))

    # A repository without a package has nothing to install besides infergate.
    measuring = installing("infergate.yml").replace(_INSTALLED, needed).replace(_GATE, gate)
    return [
        StarterFile(
            WORKFLOWS / "infergate.yml", measuring.replace("-- tests\n", f"-- {shlex.quote(tests)}\n")
        ),
        StarterFile(WORKFLOWS / "infergate-report.yml", installing("infergate-report.yml")),
    ]
