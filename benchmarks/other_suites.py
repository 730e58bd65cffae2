"""The test suites of other projects with and without infergate installed, compared test by test.

    python benchmarks/other_suites.py FOLDER [PROJECT ...]

Every project gets an environment in FOLDER with what its tests need and the dependencies of infergate, except
torch. Its suite runs before and after a wheel of this repository is installed. If a test has another outcome,
both are repeated, three runs at most: a test differs if it has no outcome in common. Sources that are already
in FOLDER/PROJECT/source are used as they are. docs/compatibility.md has the results.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from importlib.metadata import requires
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

REPOSITORY = Path(__file__).parents[1]
PYTEST = "pytest==9.2.0"
RUNS = 3
OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}
"""Words for the elements of JUnit XML; an expected failure is a kind of skipped test there."""
Outcomes = dict[str, set[str]]


class Project(NamedTuple):
    """One suite: the version, what its tests need besides, and the arguments of pytest."""

    name: str
    version: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    folder: str = "."
    """Where its suite runs, below its sources."""
    git: str | None = None
    """Repository and tag, where the sdist has no tests."""
    pythonpath: str = ""


PROJECTS = (
    Project(
        "pytest",
        "9.2.0",
        (
            "argcomplete",
            "attrs",
            "hypothesis",
            "mock",
            "pexpect",
            "pyyaml",
            "requests",
            "twisted",
            "xmlschema",
        ),
        ("testing/test_cacheprovider.py", "testing/python/fixtures.py", "testing/test_unittest.py"),
    ),
    Project("pytest-xdist", "3.8.0", ("filelock",)),
    Project("pytest-asyncio", "1.5.0", ("coverage", "hypothesis")),
    Project("pytest-timeout", "2.4.0", ("ipdb", "pexpect", "pytest-cov")),
    Project(
        "pytest-randomly",
        "4.1.0",
        ("coverage", "factory-boy", "faker", "model-bakery", "numpy", "pytest-xdist"),
        ("-p", "no:randomly", "tests"),
        git="https://github.com/pytest-dev/pytest-randomly@4.1.0",
    ),
    Project(
        "pytest-benchmark",
        "5.3.1",
        ("aspectlib", "elasticsearch", "freezegun", "nbmake", "pygal==3.1.3", "pygaljs", "setuptools"),
        pythonpath="tests",
    ),
    Project("pytest-cov", "7.1.0", ("process-tests", "pytest-xdist", "virtualenv"), pythonpath="tests"),
    Project(
        "hypothesis",
        "6.165.10",
        ("pexpect", "pytest-xdist", "syrupy"),
        ("tests/pytest",),
        folder="hypothesis",
        git="https://github.com/HypothesisWorks/hypothesis@v6.165.10",
    ),
)


def fetch(project: Project, place: Path, python: Path) -> Path:
    """Return the sources, from the package index or the repository."""
    source = place / "source"
    if source.is_dir():
        return source
    if project.git is not None:
        url, _, tag = project.git.rpartition("@")
        command = ["git", "clone", "-q", "--depth=1", "--branch", tag, url, source]
        subprocess.run(command, check=True)
        return source
    wanted = f"{project.name}=={project.version}"
    pip(python, "download", "--no-deps", "--no-binary", project.name, "-d", place, wanted)
    archive = next(place.glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    (place / archive.name.removesuffix(".tar.gz")).rename(source)
    return source


def pip(python: Path, *arguments: str | Path) -> None:
    """Run pip in an environment."""
    subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True)


def suite(project: Project, source: Path, python: Path, report: Path) -> dict[str, str]:
    """Run a suite once, and return the outcome of each test."""
    command = [python, "-m", "pytest", "-q", f"--junitxml={report}", *project.arguments]
    report.unlink(missing_ok=True)
    with report.with_suffix(".txt").open("w") as log, tempfile.TemporaryDirectory() as temporary:
        # Other sessions of pytest on the machine remove the folders that they find in the common place.
        environment = {**os.environ, "PYTEST_DEBUG_TEMPROOT": temporary}
        if project.pythonpath:
            environment["PYTHONPATH"] = str(source / project.pythonpath)
        folder = source / project.folder
        subprocess.run(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    found: dict[str, list[str]] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        name = f"{case.get('classname')}::{case.get('name')}"
        parts = [part for part in case if part.tag in OUTCOMES]
        words = ["xfailed" if part.get("type") == "pytest.xfail" else OUTCOMES[part.tag] for part in parts]
        found.setdefault(name, []).extend(words or ["passed"])
    return {name: "+".join(outcomes) for name, outcomes in found.items()}


def differing(plain: Outcomes, beside: Outcomes) -> list[str]:
    """Return the tests that had no outcome in common, or that one of the two lacks."""
    return sorted(
        name
        for name in plain.keys() | beside.keys()
        if plain.get(name, set()).isdisjoint(beside.get(name, set()))
    )


def compare(project: Project, place: Path, wheel: Path) -> None:
    """Run a suite in both environments, and print its row of the table, and the tests that differ."""
    python = place / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    own = [one for one in requires("pytest-infergate") or () if "extra" not in one and "torch" not in one]
    tested = [] if project.name == "pytest" else [f"{project.name}=={project.version}"]
    pip(python, "install", PYTEST, *own, *project.needs, *tested)
    source = fetch(project, place, python)
    sides: tuple[Outcomes, Outcomes] = ({}, {})
    counts: list[str] = []
    for run in range(RUNS):
        for side, name in zip(sides, ("plain", "beside"), strict=True):
            if name == "beside":
                pip(python, "install", "--no-deps", "--force-reinstall", wheel)
            outcomes = suite(project, source, python, place / f"{name}{run}.xml")
            if name == "beside":
                pip(python, "uninstall", "-y", "pytest-infergate")
            for test, outcome in outcomes.items():
                side.setdefault(test, set()).add(outcome)
            counts.append(
                ", ".join(f"{count} {what}" for what, count in sorted(Counter(outcomes.values()).items()))
            )
        if not differing(*sides):
            break
    different = differing(*sides)
    print(
        f"| {project.name} | {project.version} | {counts[0]} | {counts[1]} | {len(different)} |", flush=True
    )
    for name in different:
        print(f"  {name}: {sides[0].get(name)} without, {sides[1].get(name)} with infergate", flush=True)


def main(folder: str, *names: str) -> None:
    """Compare the suites that are named, or all."""
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    pip(Path(sys.executable), "wheel", "--no-deps", "-w", place, REPOSITORY)
    wheel = max(place.glob("pytest_infergate-*.whl"), key=lambda path: path.stat().st_mtime)
    for project in PROJECTS:
        if not names or project.name in names:
            (place / project.name).mkdir(exist_ok=True)
            compare(project, place / project.name, wheel)


if __name__ == "__main__":
    main(*sys.argv[1:])
