"""How the base of a paired run is made: worktree, overlay, set-up command and interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_infergate.core.domain.outcome import (
    Against,
)
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import source_tree
from pytest_infergate.paired.worker_process import WorkerSpec
from pytest_infergate.paired.worktree import Revision, exists, overlay, resolve, worktree

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun
from pytest_infergate.paired.selected_case import SelectedCase


class BaseSetup:
    """What the candidate is compared with: a revision, an interpreter, or both."""

    def __init__(self, run: InferenceRun, config: pytest.Config) -> None:
        settings = run.settings
        self._run = run
        self._config = config
        self.python = sys.executable
        self.revision: Revision | None = None
        if not hasattr(os, "killpg"):
            raise ConfigurationError("--infer-against needs a system with process groups: Linux or macOS")
        if settings.against is not None:
            self.revision = resolve(settings.against, config.rootpath)
            self._place(config.rootpath)
            self._place(config.invocation_params.dir)
        if settings.against_python is not None:
            self.python = self._interpreter(settings.against_python)

    @property
    def other_python(self) -> bool:
        """Whether the base has an interpreter of its own."""
        return self._run.settings.against_python is not None

    @property
    def top(self) -> Path:
        """Top folder of what is compared."""
        place = self._config.rootpath if self.revision is None else self.revision.top
        return place.resolve()

    def described(self) -> Against:
        """As it stands in results."""
        return Against(
            revision=None if self.revision is None else self.revision.name,
            commit=None if self.revision is None else self.revision.commit,
            python=self.python if self.other_python else None,
        )

    def _interpreter(self, given: str) -> str:
        """The whole path: workers start elsewhere. Links stay, since an environment's interpreter is one."""
        path = self._config.invocation_params.dir / Path(given).expanduser()
        found = str(path) if path.is_file() else shutil.which(given)
        if found is None:
            raise ConfigurationError(
                f"--infer-against-python: there is no {given}; give a Python interpreter"
            )
        return found

    def lacks(self, path: Path) -> bool:
        """Whether the base has no such file: tests need their ``__init__.py``, but its own stays."""
        return self.revision is not None and not exists(self.revision, path.relative_to(self.top))

    def _place(self, folder: Path) -> Path:
        try:
            return folder.resolve().relative_to(self.top)
        except ValueError:
            raise ConfigurationError(
                f"--infer-against: {folder} is not inside the repository {self.top}: run pytest within it"
            ) from None

    @contextmanager
    def ready(
        self, files: Sequence[Path], place: Path, modules: Sequence[str] = ()
    ) -> Iterator[dict[str, WorkerSpec]]:
        """Make the base ready, removed on exit; how to start the workers of each side.

        They collect the test modules that are named, or whatever the run was told to.
        """
        with ExitStack() as stack:
            target = self.top
            if self.revision is not None:
                target = stack.enter_context(worktree(self.revision, place))
                overlay(self.top, target, [*files, *self._overlay()])
                self._set_up(target / self._place(self._config.rootpath))
            plans = {
                side: self._plan(side, place, self.top if side == "candidate" else target, target)
                for side in ("base", "candidate", "twin")
            }
            yield {
                side: plan._replace(begin={**plan.begin, "modules": list(modules)})
                for side, plan in plans.items()
            }

    def _overlay(self) -> list[Path]:
        """As the file says that lists them: relative to the rootdir."""
        if self.revision is None:
            return []
        return [self._place(self._config.rootpath) / path for path in self._run.settings.overlay]

    def _set_up(self, target: Path) -> None:
        command = self._run.settings.setup
        if command is None:
            return
        done = subprocess.run(command, shell=True, cwd=target, capture_output=True, check=False)  # noqa: S602 - the user's own, from pyproject.toml
        if done.returncode:
            said = os.fsdecode(done.stderr or done.stdout).strip().splitlines()[-3:]
            raise ConfigurationError(
                f"setup of [tool.infergate] failed on the base with exit code {done.returncode}: "
                f"{' / '.join(said) or 'it said nothing'}"
            )

    def _plan(self, side: str, place: Path, root: Path, target: Path) -> WorkerSpec:
        config, here = self._config, self.top
        candidate = side == "candidate"
        same = candidate or not self.other_python

        spelled, real = config.rootpath, config.rootpath.resolve()

        def there(text: str) -> str:
            if spelled != real:  # through a link: files would be found twice, under two names
                text = source_tree.remap_argument(text, spelled, real)
            return text if root == here else source_tree.remap_argument(text, here, root)

        arguments = [there(argument) for argument in map(str, config.invocation_params.args)]
        arguments += ["--rootdir", there(str(real))]
        if config.inipath is not None:
            arguments += ["-c", there(str(config.inipath.resolve()))]
        folder = root / self._place_of(config.invocation_params.dir)
        folder.mkdir(parents=True, exist_ok=True)
        (place / f"own-{side}").mkdir(exist_ok=True)
        project = [path for path in sys.path if source_tree.within(path, here) is not None]
        begin = {
            "args": arguments,
            "source": str(here),
            "target": str(target),
            "remap": root != here,
            "own": str(place / f"own-{side}"),
            "caches": config.pluginmanager.has_plugin("cacheprovider"),
            "sys_path": [path or str(Path.cwd()) for path in sys.path] if same else None,
            "project": project,
        }
        return WorkerSpec(
            side=side,
            python=sys.executable if candidate else self.python,
            folder=folder,
            holder=place,
            begin=begin,
        )

    def _place_of(self, folder: Path) -> Path:
        return self._place(folder) if self.revision is not None else folder.resolve()

    def check(self, base: Mapping[str, Any], candidate: Mapping[str, Any], laid: Sequence[Path]) -> None:
        """Stop where both sides run the same files; asked when all cases have run once.

        Raises `ConfigurationError` naming the file, or the install that wins.
        """
        if self.revision is None:
            return
        again = "or make the base import its own with setup in [tool.infergate]"
        leak = base["leaked"]
        if leak is not None:
            raise ConfigurationError(
                f"--infer-against: the base loaded {leak} of the working tree instead of its own: "
                f"install the project with `pip install --editable .`, {again}"
            )
        own = source_tree.own(base["loaded"], [*laid, *self._overlay()])
        if own or self.other_python:
            return
        install = source_tree.installed_over(candidate["loaded"], self.top)
        if install is not None:
            raise ConfigurationError(
                f"--infer-against: both sides loaded {install}, an install that hides the repository: "
                f"install the project with `pip install --editable .`, {again}"
            )
        raise ConfigurationError(
            "--infer-against: both sides ran the same code: no file of the repository was loaded but tests, "
            "which are the candidate's on both sides. Move the model out of the test file, or compare "
            "interpreters with --infer-against-python"
        )


def overlay_files(
    entries: Sequence[SelectedCase], config: pytest.Config, base_setup: BaseSetup
) -> list[Path]:
    """The candidate's tests, what pytest reads beside them, and its ini file, relative to the top."""
    top = base_setup.top
    found: dict[Path, None] = {}
    for path in dict.fromkeys(entry.path.resolve() for entry in entries):
        if top not in path.parents:
            continue
        found[path.relative_to(top)] = None
        for folder in [parent for parent in path.parents if parent == top or top in parent.parents]:
            for name in ("conftest.py", "__init__.py"):
                beside = folder / name
                if beside.is_file() and (name == "conftest.py" or base_setup.lacks(beside)):
                    found[beside.relative_to(top)] = None
    if config.inipath is not None and top in config.inipath.resolve().parents:
        found[config.inipath.resolve().relative_to(top)] = None
    return list(found)


def modules(entries: Sequence[SelectedCase], config: pytest.Config, base_setup: BaseSetup) -> list[str]:
    """Test modules with cases, relative to the rootdir; absolute where they are the same on both sides."""
    root = config.rootpath
    found: dict[str, None] = {}
    for path in dict.fromkeys(entry.path for entry in entries):
        if root in path.parents:
            found[str(path.relative_to(root))] = None
        elif base_setup.top in path.resolve().parents:
            found[os.path.relpath(path.resolve(), root.resolve())] = None
        else:
            found[str(path)] = None
    return list(found)
