"""The ``init`` command: files that a repository needs for the gate. Existing files are not changed."""

from __future__ import annotations

import difflib
import os
import re
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pytest_infergate import __version__
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.git import repository_top
from pytest_infergate.storage.atomic import unwritable

WORKFLOWS: Final = PurePosixPath(".github/workflows")
_INSTALLED = "--editable . "
"""Part of the workflow: what is installed in addition to infergate."""
_GATE = "infergate ci "
_PINNED = re.compile(r"pytest-infergate==[\w.]+")
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
    snippet: str
    """Settings to add to an existing ``pyproject.toml``; empty if the file is written."""


def plan_starter(folder: Path, *, counters_only: bool = False) -> StarterPlan:
    """Find the files that a repository lacks. Raises `ConfigurationError` outside of a git repository.

    With `counters_only`, the workflow compares counters and no times.
    """
    top = repository_top(folder)
    if top is None:
        raise ConfigurationError(
            f"{folder} is not inside a git repository, which the gate needs to compare commits. "
            "Hint: run `git init`, or change to a repository"
        )
    tests = "tests" if (top / "tests").is_dir() or not (top / "test").is_dir() else "test"
    wanted = [
        StarterFile(
            WORKFLOWS / "infergate.yml",
            _workflow(top, tests).replace(_GATE, f"{_GATE}--counters-only " if counters_only else _GATE),
        ),
        StarterFile(WORKFLOWS / "infergate-report.yml", _template("infergate-report.yml")),
    ]
    test = PurePosixPath(tests, "test_inference.py")
    example = PurePosixPath(tests, "inference_example.py")
    written = _template("test_inference.txt")
    if (top / tests / "__init__.py").is_file():
        # pytest then imports the test as a module of a package, and does not add its folder to sys.path.
        written = written.replace(_FIRST_IMPORT, f"from {tests}.inference_example import")
    if not (_exists(top, test) or _exists(top, example)):  # neither is useful without the other
        wanted += [
            StarterFile(test, written),
            StarterFile(example, _template("inference_example.txt")),
        ]
    settings = _template("pyproject.txt").replace("tests/", f"{tests}/")
    configured = any(_exists(top, name) for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    if not configured:
        wanted.append(StarterFile(PurePosixPath("pyproject.toml"), settings))
    existing = [name for name in (*(file.path for file in wanted), test, example) if _exists(top, name)]
    return StarterPlan(
        top=top,
        files=tuple(file for file in wanted if not _exists(top, file.path)),
        existing=tuple(dict.fromkeys(existing)),
        snippet=settings if configured else "",
    )


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
    if plan.snippet:
        blocks.append(f"Optional settings for your pyproject.toml:\n\n{plan.snippet.rstrip()}")
    if plan.files:
        blocks.append(
            "Next steps: run `pytest --infer-devices=cpu`, commit the files on a branch, and open a pull "
            "request. To begin without a clock, let the workflow run `infergate ci --counters-only`. "
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


def _template(name: str) -> str:
    """Return a file of the package, with the version of infergate replaced by this one."""
    text = (files("pytest_infergate") / "starter" / name).read_text(encoding="utf-8")
    return _PINNED.sub(f"pytest-infergate=={__version__}", text)


def _workflow(top: Path, tests: str) -> str:
    """Return the workflow that measures, which installs the repository and its requirements."""
    try:
        project = (top / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        project = ""
    described = re.search(r"^\s*\[(project|build-system)\]", project, re.MULTILINE) is not None
    wanted = "--editable . " if described or (top / "setup.py").is_file() else ""
    wanted += "--requirement requirements.txt " if (top / "requirements.txt").is_file() else ""
    # A repository without a package has nothing to install besides infergate.
    return _template("infergate.yml").replace(_INSTALLED, wanted).replace("-- tests\n", f"-- {tests}\n")
