"""Random numbers that conftest files and test modules draw while they are imported: the same in all workers.

Both sides of a paired run would otherwise have other parameters and models, and so other outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pytest

from pytest_infergate.measure.seed import SEED, seed_all


class SeededImports(MetaPathFinder):
    """Seeds numpy and torch when they are loaded, and all generators before a test module is imported."""

    def install(self) -> None:
        """Seed what is loaded, and from now on what will be."""
        seed_all()
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find numpy.random and torch where Python does, and let them be seeded once they are loaded."""
        if fullname not in ("numpy.random", "torch"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if fullname == "torch":
                    seed_all()
                else:  # torch may be in the middle of its own import
                    module.seed(SEED)

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Seed before a test module is imported: how much the modules before it drew may have changed."""
        if isinstance(collector, pytest.Module):
            seed_all()
        return (yield)
