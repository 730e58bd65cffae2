"""The source trees of candidate and base: paths of one in the other, and the tree that modules came from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, MutableMapping
from pathlib import Path
from typing import Any, Final

import msgspec

from pytest_infergate.core.domain.values import Struct

_PLUGIN: Final = "pytest_infergate"
"""The plugin is the same on both sides, even if it is installed from the repository that is compared."""


class LoadedModules(Struct, frozen=True, kw_only=True):
    """The modules of a process by where their files are, without the standard library."""

    candidate: dict[str, str] = msgspec.field(default_factory=dict)
    """Module names to files of the candidate, relative to its top folder."""
    base: dict[str, str] = msgspec.field(default_factory=dict)
    """Module names to files of the base, relative to its top folder."""
    installed: dict[str, str] = msgspec.field(default_factory=dict)
    """Top-level modules from elsewhere to their absolute files."""


def remap(paths: list[str], source: Path, target: Path) -> list[str]:
    """Paths below `source` as paths below `target` where these exist; installed packages stay."""
    return [_remapped(path, source, target) for path in paths]


def _remapped(path: str, source: Path, target: Path) -> str:
    inside = within(path, source)
    if inside is None:
        return path
    moved = target / inside
    return str(moved) if moved.exists() else path


def remap_argument(text: str, source: Path, target: Path) -> str:
    """Remap the paths inside of a command line argument."""

    def moved(found: re.Match[str]) -> str:
        place = f"{target}{found[1]}"
        return place if Path(place).exists() else found[0]

    return re.sub(rf"(?<![\w./-]){re.escape(str(source))}(?![^/:,])([^:,]*)", moved, text)


def remap_variables(variables: MutableMapping[str, str], source: Path, target: Path) -> None:
    """Remap the absolute paths in environment variables, in place."""
    for name, value in list(variables.items()):
        parts = value.split(os.pathsep)
        moved = [_remapped(part, source, target) if Path(part).is_absolute() else part for part in parts]
        # Both sides share the caches in the home folder.
        if name != "HOME" and moved != parts:
            variables[name] = os.pathsep.join(moved)


def within(path: str, folder: Path) -> Path | None:
    """The path relative to a folder; ``None`` if it is outside or belongs to an installed package."""
    try:
        inside = Path(path).resolve().relative_to(folder)
    except (ValueError, OSError):
        return None
    # An environment inside of the project belongs to no revision.
    return None if {"site-packages", "dist-packages"} & set(inside.parts) else inside


def remap_finders(source: Path, target: Path) -> None:
    """Remap what the finders of editable installs know, so that they find packages in the other tree."""
    # setuptools keeps a table from module to path in a module that it writes, others keep one in the finder.
    tables = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("__editable__")]
    tables += [getattr(finder, "__dict__", {}) for finder in sys.meta_path if not isinstance(finder, type)]
    for table in tables:
        for value in table.values():
            if isinstance(value, dict):
                _remap_table(value, source, target)


def _remap_table(table: dict[Any, Any], source: Path, target: Path) -> None:
    for name, value in list(table.items()):
        if name == _PLUGIN:
            continue
        if isinstance(value, str):
            table[name] = _remapped(value, source, target)
        elif isinstance(value, list) and all(isinstance(path, str) for path in value):
            table[name] = remap(value, source, target)


def loaded_modules(source: Path, target: Path) -> LoadedModules:
    """The modules that this process has loaded, by the tree of their file."""
    candidate: dict[str, str] = {}
    base: dict[str, str] = {}
    installed: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # Modules made by code, for example torch.ops, name a file that does not exist.
        if not isinstance(file, str) or not Path(file).is_absolute() or name.partition(".")[0] == _PLUGIN:
            continue
        # The worktree of the base may be inside of the candidate, so it is tried first.
        for modules, folder in ((base, target), (candidate, source)):
            inside = within(file, folder)
            if inside is not None:
                modules[name] = inside.as_posix()
                break
        else:
            if "." not in name and name not in sys.stdlib_module_names:
                installed[name] = file
    return LoadedModules(candidate=candidate, base=base, installed=installed)


def leaked_module(base: LoadedModules, target: Path) -> str | None:
    """A module that the base took from the candidate although it has its own, with its file; or ``None``."""
    for name, inside in sorted(base.candidate.items()):
        parts = Path(inside).parts
        module = Path(*parts[-(name.count(".") + 1 + inside.endswith("__init__.py")) :])
        # The base may have it elsewhere: projects move their packages to src and back.
        if any((target / place).exists() for place in (inside, module, "src" / module)):
            return f"{name} ({inside})"
    return None


def modules_of_base(base: LoadedModules, overlaid: Collection[Path]) -> list[str]:
    """Modules that the base loaded from its own tree, without the files that were copied over it."""
    return [
        name
        for name, file in sorted(base.base.items())
        if not any(Path(file) == path or path in Path(file).parents for path in overlaid)
    ]


def hiding_install(candidate: LoadedModules, top: Path) -> str | None:
    """An installed package that hides one of the repository, with its file; or ``None``."""
    for name, file in sorted(candidate.installed.items()):
        for folder in (top, top / "src"):
            if (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file():
                return f"{name} from {file}"
    return None
