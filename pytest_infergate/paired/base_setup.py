"""How the base of a paired run is made: worktree, overlay, set-up command and interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import source_tree
from pytest_infergate.paired.protocol import CollectCases, ModulesListed
from pytest_infergate.paired.selected_case import SelectedCase
from pytest_infergate.paired.worker_handle import Role
from pytest_infergate.paired.worker_process import WorkerSpec
from pytest_infergate.paired.worktree import Revision, exists, overlay, resolve, worktree

if TYPE_CHECKING:
    from pytest_infergate.runner.run import InferenceRun


class BaseSetup:
    """What the candidate is compared with: another revision, interpreter or runtime."""

    def __init__(self, run: InferenceRun, config: pytest.Config) -> None:
        settings = run.settings
        self._settings = settings
        self._config = config
        self.python = sys.executable  # of the base
        self.revision: Revision | None = None
        if not hasattr(os, "killpg"):  # by which a side is suspended with its children
            raise ConfigurationError("--infer-against needs a system with process groups: Linux or macOS")
        if settings.against is not None:
            self.revision = resolve(settings.against, config.rootpath)
            self._inside(config.rootpath)
            self._inside(config.invocation_params.dir)
        if settings.against_python is not None:
            # Workers start in another folder. A link stays a link: an environment's interpreter is one.
            path = config.invocation_params.dir / Path(settings.against_python).expanduser()
            found = str(path) if path.is_file() else shutil.which(settings.against_python)
            if found is None:
                raise ConfigurationError(
                    f"--infer-against-python: there is no {settings.against_python}; "
                    "give a Python interpreter"
                )
            self.python = found
        self.runtime = settings.against_runtime
        absence = None if self.runtime is None else run.runtime_absence(self.runtime)
        if absence is not None:
            raise ConfigurationError(f"--infer-against-runtime: {absence}")

    @property
    def other_python(self) -> bool:
        """Whether the base has an interpreter of its own."""
        return self._settings.against_python is not None

    @property
    def top(self) -> Path:
        """Top folder of the candidate: of the repository, or the rootdir if both sides run its code."""
        return (self._config.rootpath if self.revision is None else self.revision.top).resolve()

    def against(self) -> Against:
        """The base as results name it."""
        return Against(
            revision=None if self.revision is None else self.revision.name,
            commit=None if self.revision is None else self.revision.commit,
            python=self.python if self.other_python else None,
            runtime=self.runtime,
        )

    def lacks(self, path: Path) -> bool:
        """Whether the revision of the base does not contain a file of the candidate."""
        return self.revision is not None and not exists(self.revision, path.relative_to(self.top))

    def _inside(self, folder: Path) -> Path:
        """A folder relative to the top. Raises `ConfigurationError` for one outside of the repository."""
        try:
            return folder.resolve().relative_to(self.top)
        except ValueError:
            raise ConfigurationError(
                f"--infer-against: {folder} is not inside the repository {self.top}: run pytest within it"
            ) from None

    @contextmanager
    def ready(
        self, files: Sequence[Path], run_folder: Path, modules: Sequence[str] = ()
    ) -> Iterator[dict[Role, WorkerSpec]]:
        """Make the base, with `files` of the candidate; how to start the workers of each role.

        It is removed on exit. The workers collect `modules`, or without any what the arguments name.
        """
        with ExitStack() as stack:
            target = self.top
            if self.revision is not None:
                target = stack.enter_context(worktree(self.revision, run_folder))
                overlay(self.top, target, [*files, *self._listed_overlay()])
                if self._settings.setup is not None:
                    run_setup(self._settings.setup, target / self._inside(self._config.rootpath))
            collect = self._collect_command(target, modules)
            roles: tuple[Role, ...] = ("base", "candidate", "control")
            yield {role: self._worker_spec(role, run_folder, collect) for role in roles}

    def _listed_overlay(self) -> list[Path]:
        """The files that settings list under overlay, relative to the top."""
        if self.revision is None:
            return []
        return [self._inside(self._config.rootpath) / path for path in self._settings.overlay]

    def _collect_command(self, target: Path, modules: Sequence[str]) -> CollectCases:
        """The first command to a worker of the candidate."""
        config = self._config
        spelled, real = config.rootpath, config.rootpath.resolve()
        arguments = [*map(str, config.invocation_params.args), "--rootdir", str(real)]
        if config.inipath is not None:
            arguments += ["-c", str(config.inipath.resolve())]
        if spelled != real:  # through a link, files would be found twice, under two names
            arguments = [source_tree.remap_argument(argument, spelled, real) for argument in arguments]
        return CollectCases(
            arguments=tuple(arguments),
            source=str(self.top),
            target=str(target),
            remap=False,
            own_folder="",
            cache=config.pluginmanager.has_plugin("cacheprovider"),
            # An empty entry is the current folder, which is another one in a worker.
            sys_path=tuple(path or str(Path.cwd()) for path in sys.path),
            project_path=tuple(path for path in sys.path if source_tree.within(path, self.top) is not None),
            modules=tuple(modules),
        )

    def _worker_spec(self, role: Role, run_folder: Path, collect: CollectCases) -> WorkerSpec:
        """How the workers of one role are started: those of the base with its paths and interpreter."""
        source, target = self.top, Path(collect.target)
        candidate = role == "candidate"
        remap = not candidate and source != target
        arguments = collect.arguments
        folder = self._config.invocation_params.dir.resolve()
        if remap:
            arguments = tuple(source_tree.remap_argument(argument, source, target) for argument in arguments)
            folder = target / self._inside(folder)
            folder.mkdir(parents=True, exist_ok=True)
        # Tests of both sides run at the same time, and may write files of one name.
        own_folder = run_folder / f"own-{role}"
        own_folder.mkdir(exist_ok=True)
        return WorkerSpec(
            role=role,
            python=sys.executable if candidate else self.python,
            folder=folder,
            run_folder=run_folder,
            collect=msgspec.structs.replace(
                collect,
                arguments=arguments,
                remap=remap,
                own_folder=str(own_folder),
                runtime=None if candidate else self.runtime,
                sys_path=collect.sys_path if candidate or not self.other_python else None,
            ),
        )

    def check(self, base: ModulesListed, candidate: ModulesListed, overlaid: Sequence[Path]) -> None:
        """Compare what both sides have loaded once all cases have run.

        Raises `ConfigurationError` if they run the same code, naming the file or the install that hides it.
        """
        if self.revision is None:
            return
        alternative = "or make the base import its own with setup in [tool.infergate]"
        if base.leaked is not None:
            raise ConfigurationError(
                f"--infer-against: the base loaded {base.leaked} of the working tree instead of its own: "
                f"install the project with `pip install --editable .`, {alternative}"
            )
        # Any module of its own makes the base other code; another interpreter is a difference by itself.
        own = source_tree.modules_of_base(base.modules, [*overlaid, *self._listed_overlay()])
        if own or self.other_python:
            return
        install = source_tree.hiding_install(candidate.modules, self.top)
        if install is not None:
            raise ConfigurationError(
                f"--infer-against: both sides loaded {install}, an install that hides the repository: "
                f"install the project with `pip install --editable .`, {alternative}"
            )
        raise ConfigurationError(
            "--infer-against: both sides ran the same code: no file of the repository was loaded but tests, "
            "which are the candidate's on both sides. Move the model out of the test file, or compare "
            "interpreters with --infer-against-python"
        )


def run_setup(command: str, folder: Path) -> None:
    """Run the set-up command of the settings on the base. Raises `ConfigurationError` if it fails."""
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=False)  # noqa: S602 - the user's own, from pyproject.toml
    if done.returncode:
        lines = os.fsdecode(done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ConfigurationError(
            f"setup of [tool.infergate] failed on the base with exit code {done.returncode}: "
            f"{' / '.join(lines) or 'it printed nothing'}"
        )


def overlay_files(cases: Sequence[SelectedCase], config: pytest.Config, base_setup: BaseSetup) -> list[Path]:
    """The candidate's tests, the files that pytest reads with them, and its ini file, relative to the top."""
    top = base_setup.top
    found: dict[Path, None] = {}
    for path in dict.fromkeys(case.path.resolve() for case in cases):
        if top not in path.parents:
            continue
        found[path.relative_to(top)] = None
        # pytest reads these in every folder above a test, up to the rootdir.
        for folder in [parent for parent in path.parents if parent == top or top in parent.parents]:
            for name in ("conftest.py", "__init__.py"):
                file = folder / name
                # An __init__.py that the base has may belong to its code; tests only need that there is one.
                if file.is_file() and (name == "conftest.py" or base_setup.lacks(file)):
                    found[file.relative_to(top)] = None
    if config.inipath is not None and top in config.inipath.resolve().parents:
        found[config.inipath.resolve().relative_to(top)] = None
    return list(found)


def case_modules(cases: Sequence[SelectedCase], config: pytest.Config, base_setup: BaseSetup) -> list[str]:
    """Test files with cases, relative to the rootdir; absolute if both sides have the same file."""
    root = config.rootpath
    found: dict[str, None] = {}
    for path in dict.fromkeys(case.path for case in cases):
        if root in path.parents:
            found[str(path.relative_to(root))] = None
        elif base_setup.top in path.resolve().parents:
            found[os.path.relpath(path.resolve(), root.resolve())] = None
        else:  # outside of what is compared
            found[str(path)] = None
    return list(found)
