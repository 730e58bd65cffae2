"""What a workflow installs as infergate: a requirement of pip that a machine of a CI service can install."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path

from pytest_infergate.config.toml import read_document
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.git import without_credentials

_NAME = "pytest-infergate"
_REQUIREMENT = re.compile(r"pytest[-_.]infergate(?![\w.-])", re.IGNORECASE)
_AFTER = re.compile(r"\s+(?:#|\\|--)")
"""What ends a requirement in a line: a comment, hashes, or the end of the line before them."""
_LOCAL = re.compile(r"\bfile:")
# Either would end the command in the YAML of a workflow.
_NOT_IN_YAML = re.compile(r"\n|: | #")
# The documentation has these in place of an address.
_PLACEHOLDERS = re.compile(r"\b(?:HOST|OWNER|COMMIT)\b")


def install_source(asked: str, top: Path) -> str:
    """Return the requirement, quoted for a shell: `asked`, that of the repository, or this installation.

    Raises `ConfigurationError` if none of them can be installed elsewhere, and for placeholders of the
    documentation.
    """
    if asked and _NOT_IN_YAML.search(asked):
        raise ConfigurationError(
            f"--install must be one requirement of pip without comments, got {asked!r}. "
            f"Hint: write for example --install='{_NAME} @ git+https://HOST/OWNER/{_NAME}@COMMIT'"
        )
    found = asked.strip() or next(_required(top), None) or _installed_as()
    if found is None:
        raise ConfigurationError(
            "the workflows must install infergate from a place that a CI service can reach, and this one was "
            f"installed from a folder or file. Hint: add {_NAME} to the requirements of the repository, or "
            f"name what pip installs: --install='{_NAME} @ git+https://HOST/OWNER/{_NAME}@COMMIT'"
        )
    if left := _PLACEHOLDERS.findall(found):
        raise ConfigurationError(
            f"the workflows must install infergate from an address that exists, got {found!r}. "
            f"Hint: replace {', '.join(dict.fromkeys(left))}, which the documentation has in its place"
        )
    return shlex.quote(found)


def _required(top: Path) -> Iterator[str]:
    """Yield the requirements of infergate in pyproject.toml and the requirements files of a repository."""
    document = read_document(top / "pyproject.toml")
    project = document.get("project", {})
    groups = (
        project.get("dependencies", ()),
        *project.get("optional-dependencies", {}).values(),
        *document.get("dependency-groups", {}).values(),
    )
    files = sorted({*top.glob("*requirements*.txt"), *top.glob("requirements/*.txt")})
    lines = (path.read_text(encoding="utf-8", errors="replace").splitlines() for path in files)
    for line in chain(*groups, *lines):
        # A group may include another one, by a table.
        text = _AFTER.split(line.strip(), maxsplit=1)[0] if isinstance(line, str) else ""
        if _REQUIREMENT.match(text) and not _LOCAL.search(text) and not _NOT_IN_YAML.search(text):
            yield text


def _installed_as() -> str | None:
    """Return how this infergate was installed; ``None`` if that was from a folder or file of this machine."""
    try:
        distribution = metadata.distribution(_NAME)
    except metadata.PackageNotFoundError:
        return None
    recorded = distribution.read_text("direct_url.json")
    if recorded is None:  # from a package index
        return f"{_NAME}=={distribution.version}"
    origin = json.loads(recorded)
    address = without_credentials(origin["url"])
    if _LOCAL.match(address):
        return None
    vcs = origin.get("vcs_info")
    if vcs is not None:
        address = f"{vcs['vcs']}+{address}@{vcs['commit_id']}"
    folder = origin.get("subdirectory")
    return f"{_NAME} @ {address}{f'#subdirectory={folder}' if folder else ''}"
