"""Which files a side loaded: what the base runs must be the base's, or the comparison means nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any

OURS = "pytest_infergate"
"""The plugin itself is the same on both sides, be it installed from the very repository that is compared."""


def remap(paths: list[str], source: Path, target: Path) -> list[str]:
    """Paths of one tree as paths of another, where the other has them; installed packages stay."""
    return [_moved(path, source, target) for path in paths]


def _moved(path: str, source: Path, target: Path) -> str:
    inside = within(path, source)
    if inside is None:
        return path
    moved = target / inside
    return str(moved) if moved.exists() else path


def remap_argument(text: str, source: Path, target: Path) -> str:
    """An argument that names paths of one tree, as one that names those of another, where it has them."""

    def moved(found: re.Match[str]) -> str:
        place = f"{target}{found[1]}"
        return place if Path(place).exists() else found[0]

    return re.sub(rf"(?<![\w./-]){re.escape(str(source))}(?![^/:,])([^:,]*)", moved, text)


def remap_variables(variables: MutableMapping[str, str], source: Path, target: Path) -> None:
    """Let variables that name absolute paths of one tree name those of another, where it has them.

    The home folder stays where caches are.
    """
    for name, value in list(variables.items()):
        parts = value.split(os.pathsep)
        moved = [_moved(part, source, target) if Path(part).is_absolute() else part for part in parts]
        if name != "HOME" and moved != parts:
            variables[name] = os.pathsep.join(moved)


def within(path: str, folder: Path) -> Path | None:
    """The path relative to a folder, unless it is of an installed package or outside."""
    try:
        inside = Path(path).resolve().relative_to(folder)
    except (ValueError, OSError):
        return None
    return None if {"site-packages", "dist-packages"} & set(inside.parts) else inside


def remap_finders(source: Path, target: Path) -> None:
    """Let finders of editable installs find their packages in another tree.

    They hold tables from module to path: in the module that setuptools writes, or in the finder itself.
    """
    tables = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("__editable__")]
    tables += [getattr(finder, "__dict__", {}) for finder in sys.meta_path if not isinstance(finder, type)]
    for table in tables:
        for value in table.values():
            if isinstance(value, dict):
                _remap_table(value, source, target)


def _remap_table(table: dict[Any, Any], source: Path, target: Path) -> None:
    for name, value in list(table.items()):
        if name == OURS:
            continue
        if isinstance(value, str):
            table[name] = _moved(value, source, target)
        elif isinstance(value, list) and all(isinstance(path, str) for path in value):
            table[name] = remap(value, source, target)


def loaded(source: Path, target: Path) -> dict[str, dict[str, str]]:
    """What is loaded by now: modules of the project by their file, relative to the tree they came from.

    ``candidate`` and ``base`` are the trees, ``installed`` is what came from elsewhere: top-level modules
    by their absolute file, without the standard library.
    """
    found: dict[str, dict[str, str]] = {"candidate": {}, "base": {}, "installed": {}}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # Modules made by code, such as torch.ops, name a file that is none.
        if not isinstance(file, str) or not Path(file).is_absolute() or name.partition(".")[0] == OURS:
            continue
        for tree, folder in (("base", target), ("candidate", source)):
            inside = within(file, folder)
            if inside is not None:
                found[tree][name] = inside.as_posix()
                break
        else:
            if "." not in name and name not in sys.stdlib_module_names:
                found["installed"][name] = file
    return found


def leaked(base: Mapping[str, Mapping[str, str]], target: Path) -> str | None:
    """Name a module that the base took from the candidate although it has its own; ``None`` if none.

    Its own may lie elsewhere: packages move to ``src`` and back.
    """
    for name, inside in sorted(base["candidate"].items()):
        parts = Path(inside).parts
        module = Path(*parts[-(name.count(".") + 1 + inside.endswith("__init__.py")) :])
        if any((target / place).exists() for place in (inside, module, "src" / module)):
            return f"{name} ({inside})"
    return None


def own(base: Mapping[str, Mapping[str, str]], overlaid: Collection[Path]) -> list[str]:
    """Modules that the base loaded from its own tree, without those that were laid over it."""
    return [name for name, inside in sorted(base["base"].items()) if not _covered(Path(inside), overlaid)]


def _covered(inside: Path, overlaid: Collection[Path]) -> bool:
    return any(inside == path or path in inside.parents for path in overlaid)


def installed_over(candidate: Mapping[str, Mapping[str, str]], top: Path) -> str | None:
    """Name an installed package that hides one of the repository, and where it lies; ``None`` if none."""
    for name, file in sorted(candidate["installed"].items()):
        for folder in (top, top / "src"):
            if (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file():
                return f"{name} from {file}"
    return None
