"""torch.compile, and packages that AOTInductor compiles ahead of time."""

from __future__ import annotations

import functools
import importlib
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.runtimes.runtime import Engine, Placing

if TYPE_CHECKING:
    import torch

_PACKAGE = "model.pt2"


def compiler_absence() -> str | None:
    """Return that there is no C++ compiler, with which Inductor makes code; ``None`` if there is."""
    if sys.platform == "win32" or any(map(shutil.which, ("g++", "clang++", "c++"))):
        return None
    return "there is no C++ compiler. Hint: install g++ or clang++"


class CompileRuntime:
    """``compile``: `torch.compile` with its default backend."""

    name = "compile"
    modes: tuple[str, ...] = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

    def absence_reason(self) -> str | None:
        """Return whether a C++ compiler is missing."""
        return compiler_absence()

    def unsupported(self, device: str, dtype: str | None) -> str | None:  # noqa: ARG002 - any combination
        """Return ``None``."""
        return None

    def wrapped(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
        """Return the compiled function."""
        import torch

        with warnings.catch_warnings():  # of torch about itself, which may be errors of the user's suite
            warnings.simplefilter("ignore")
            importlib.import_module("torch._inductor.compile_fx")
        if isinstance(function, functools.partial):
            inner = self.wrapped(function.func, mode)
            return functools.partial(inner, *function.args, **function.keywords)
        compiled: Callable[..., Any] = torch.compile(function, mode=mode or None)
        return compiled


class AotInductorRuntime:
    """``aoti``: a package of machine code that AOTInductor makes of an exported program."""

    name = "aoti"
    modes: tuple[str, ...] = ()
    own_precision: frozenset[str] = frozenset()

    def absence_reason(self) -> str | None:
        """Return whether a C++ compiler is missing."""
        return compiler_absence()

    def unsupported(self, device: str, dtype: str | None) -> str | None:
        """Return that there is no code for a device other than CPU, CUDA and XPU, or none with TF32."""
        kind = device.partition(":")[0]
        if dtype_parts(dtype).tf32:
            return "infergate makes no packages with TF32"
        return None if kind in ("cpu", "cuda", "xpu") else f"AOTInductor makes no code for {kind}"

    def version(self) -> str:
        """Return the version of torch, and the instruction set for which code is made."""
        import torch

        return f"torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"

    def build(self, program: torch.export.ExportedProgram, folder: Path, placing: Placing) -> None:
        """Compile the package."""
        import torch

        torch.set_num_threads(placing.threads)  # which the code contains
        torch._inductor.aoti_compile_and_package(program, package_path=str(folder / _PACKAGE))  # noqa: SLF001

    def load(self, folder: Path, placing: Placing) -> Engine:  # noqa: ARG002 - the package has its device
        """Load the package."""
        import torch

        model = torch._inductor.aoti_load_package(str(folder / _PACKAGE))  # noqa: SLF001

        def run(inputs: Any) -> Any:
            returned = model(*inputs)
            return returned if isinstance(returned, (list, tuple)) else (returned,)

        return Engine(run)
