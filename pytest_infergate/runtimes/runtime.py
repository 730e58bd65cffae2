"""The interface to runtimes: what executes a model in place of eager PyTorch.

The Protocols of this module are public; `docs/extending.md` describes how a plugin adds a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.errors import ConversionError

if TYPE_CHECKING:
    import torch


def not_converted_note(error: ConversionError, case: Case) -> Note:
    """Return a note on a case whose model cannot be converted."""
    name = case.runtime if case.dtype is None else f"{case.runtime} {case.dtype}"
    return Note(code=NoteCode.NOT_CONVERTED, text=f"not converted for {name}: {error}")


def quantisation_absence() -> str | None:
    """Return that torchao is missing, which quantises a module; ``None`` if it is installed."""
    if find_spec("torchao") is None:
        return "torchao is not installed, which int8 needs. Hint: pip install 'pytest-infergate[torchao]'"
    return None


class Placing(NamedTuple):
    """Where and how a runtime executes a model."""

    device: str
    """Device as torch names it: ``cpu``, ``cuda:1``."""
    dtype: str | None = None
    """Dtype of the case; ``None`` for that of the model."""
    threads: int = 1
    """Number of threads inside an operator."""
    mode: str = ""
    """One of `Runtime.modes`, or empty for its default."""


class Runtime(Protocol):
    """What executes models; registered through the hook `pytest_infergate_runtimes`.

    A runtime has one of the methods of `WrappingRuntime` or `ExportingRuntime` as well. Making one must be
    cheap: every session with inference tests does it.
    """

    name: str
    """Name that users write under ``--infer-runtimes``."""
    modes: tuple[str, ...]
    """What users may write behind a colon: ``max-autotune`` in ``compile:max-autotune``."""

    def absence_reason(self) -> str | None:
        """Return why the runtime cannot be used here, with a hint; ``None`` if it can."""

    def unsupported(self, device: str, dtype: str | None) -> str | None:
        """Return why a device and dtype cannot be combined with it, in which no case is made."""


class EagerRuntime:
    """``eager``: PyTorch as it is."""

    name = "eager"
    modes: tuple[str, ...] = ()

    def absence_reason(self) -> None:
        """Return ``None``: it executes plain callables too, which need no torch."""

    def unsupported(self, device: str, dtype: str | None) -> None:
        """Return ``None``."""


@runtime_checkable
class WrappingRuntime(Runtime, Protocol):
    """A runtime that calls the module in this process, on the device on which infergate places it."""

    def wrapped(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
        """Return what is called in place of a module or of a method of one."""


@runtime_checkable
class ExportingRuntime(Runtime, Protocol):
    """A runtime that executes files, which are made of an exported program.

    Its class must be importable and take no arguments: `build` runs in a process of its own.
    """

    own_precision: frozenset[str]
    """Dtypes that the runtime computes in by itself: the model and its inputs are not cast to them."""

    def version(self) -> str:
        """Return the versions of what makes and reads the files; files of others are made again."""

    def build(self, program: torch.export.ExportedProgram, folder: Path, placing: Placing) -> None:
        """Write the files of a program, whose inputs and outputs are flat tensors, into an empty folder.

        The dtype of `placing` is ``None``, unless it is ``int8`` or a mode of it: the program has that of the
        case, apart from those in `own_precision`. The first line of an exception is the reason that the user
        reads.
        """

    def load(self, folder: Path, placing: Placing) -> Engine:
        """Load the files. Raises `ConversionError` if the runtime cannot execute them."""


@runtime_checkable
class RemoteRuntime(Protocol):
    """A server, which executes models in another process or on another machine.

    Its cases have no device, dtype and thread count: each exists once for each batch size.
    """

    name: str
    modes: tuple[str, ...]

    def absence_reason(self) -> str | None:
        """Return why the server cannot be used, with a hint; ``None`` if it answers."""

    def remote(self, target: Callable[..., Any], mode: str) -> Callable[..., Any]:
        """Return what is called in place of what a test passes to `infer`.

        It takes the same arguments, and returns the same, or a generator of items.
        """


class Engine(NamedTuple):
    """A loaded model."""

    run: Callable[[Sequence[Any]], Sequence[Any]]
    """Returns the output tensors of input tensors, in the order of the exported program."""
    notes: tuple[Note, ...] = ()
    weights: dict[str, int] | None = None
    """Bytes of the weights by dtype, if they are not those of the program."""


def mode_of(runtime: str) -> str:
    """Return the mode of a runtime as users write it: that of ``compile:max-autotune``; else empty."""
    return runtime.partition(":")[2]
