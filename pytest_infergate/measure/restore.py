"""Saves what modules and arguments hold, and restores it. Imports torch."""

from __future__ import annotations

import enum
import functools
import itertools
import operator
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.nested import of_pandas, package_of
from pytest_infergate.measure.saved_parts import (
    SavedAttributes,
    SavedMemory,
    SavedPart,
    SavedStateOf,
    cell_access,
    of_device,
    saved_content,
    saved_items,
    saved_state_of,
)
from pytest_infergate.measure.weights import is_lazy

# Plain objects of these packages have state outside of their attributes, or belong to the process.
_OPAQUE = frozenset(
    (
        "torch",
        "logging",
        "threading",
        "multiprocessing",
        "concurrent",
        "asyncio",
        "weakref",
        "_pytest",
        "pytest",
        "pytest_infergate",
    )
)
_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, type, enum.Enum, types.ModuleType,
    types.BuiltinFunctionType, torch.dtype, torch.device,
)  # fmt: skip
# A counter of ids is not what a call computes with.
_ENDLESS = (itertools.count, itertools.repeat)
# More objects than any model or input has; what is beyond them is not saved.
MAX_OBJECTS = 200_000
_WITH_STATE = (torch.quasirandom.SobolEngine,)
"""Classes of these packages whose attributes are all of their state."""


class SavedState:
    """What a graph of objects held when this was made.

    Saved are containers and their subclasses, the attributes of plain objects, tensors and NumPy arrays with
    their contents, random generators and the positions of files; of arguments also what functions close over.
    Classes and threads are not.
    """

    def __init__(self, roots: Any, *, modules: bool) -> None:
        self.parts: list[SavedPart] = []
        self.iterators: list[Any] = []
        """Iterators that a call may exhaust, and that cannot be restored."""
        self.kept: list[torch.nn.Module] = []
        """Modules whose state is not saved, because `modules` is false."""
        self.unsaved: list[torch.Tensor] = []
        """Tensors that cannot be copied."""
        self._modules = modules
        # Kept alive, because the id of a deleted object may be reused.
        self._seen: dict[tuple[int, bool], Any] = {}
        self._pending: list[tuple[Any, bool]] = [(roots, False)]
        while self._pending and len(self._seen) < MAX_OBJECTS:
            value, folded = self._pending.pop()
            if not isinstance(value, _ATOMS) and (id(value), folded) not in self._seen:
                self._seen[id(value), folded] = value
                self._save(value, folded)
        self.complete = not self._pending
        """Whether there were at most `MAX_OBJECTS`."""

    def restore(self) -> None:
        """Restore all objects; if one cannot be restored, the others are."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.callback(part.restore)

    def _save(self, value: Any, folded: bool) -> None:
        """Save one object. `folded` is whether a change of mode may change the values of parameters."""
        part = saved_state_of(value) or saved_items(value)
        if isinstance(value, torch.Tensor):
            self._save_tensor(value, folded)
        elif isinstance(value, torch.nn.Module):
            if not self._modules:
                self.kept.append(value)
            else:
                # The values of parameters are saved only if the module overrides train or eval, which may
                # fold weights: a copy of all parameters would double the memory.
                kind = type(value)
                folds = kind.train is not torch.nn.Module.train or kind.eval is not torch.nn.Module.eval
                self._save_attributes(value, folds)
        elif isinstance(value, (tuple, frozenset)):
            self._pending += [(item, folded) for item in value]
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            if not self._modules:  # the state of a model's functions may be meant for the caller
                self._save_function(value)
        elif part is not None:
            self.parts.append(part)
            self._pending += [(item, folded) for item in part.items()]
            self._save_attributes(value, folded)
        elif (
            isinstance(value, Iterator) and not isinstance(value, _ENDLESS) and not hasattr(value, "__dict__")
        ):
            self.iterators.append(value)
        elif package_of(type(value)) not in _OPAQUE or type(value) in _WITH_STATE:
            self._save_attributes(value, folded)

    def _save_function(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            cells = value.__closure__ or ()
            self.parts += [SavedStateOf(cell, *cell_access(cell), operator.is_) for cell in cells]
            items = [cell_access(cell)[0]() for cell in cells] + list(value.__defaults__ or ())
            self._save_attributes(value, False)
        elif isinstance(value, types.MethodType):
            items = [value.__self__, value.__func__]
        else:
            items = [value.func, *value.args, *value.keywords.values()]
        self._pending += [(item, False) for item in items]

    def _save_tensor(self, value: torch.Tensor, folded: bool) -> None:
        weight = isinstance(value, torch.nn.Parameter) and self._modules
        if weight:
            self.parts.append(SavedMemory(value))
        if not weight or folded:
            content = saved_content(value)
            if content is None:
                self.unsaved.append(value)
            else:
                self.parts.append(content)
        if not weight and not of_device(value):
            self._save_attributes(value, folded)

    def _save_attributes(self, value: Any, folded: bool) -> None:
        if of_pandas(value):
            return  # attributes of a table are parts of its state
        saved = SavedAttributes(value)
        if not isinstance(getattr(value, "__dict__", None), dict) and not saved.slots:
            return
        self.parts.append(saved)
        self._pending += [(item, folded) for item in saved.items()]


@contextmanager
def module_restored(module: torch.nn.Module) -> Iterator[SavedState]:
    """Restore, on exit, what moving or running a module may have changed; yields what is restored.

    Restored for the module, all modules inside it and the plain objects that they hold: the storage of
    parameters and of their gradients, buffers and tensor attributes with their contents, plain attributes,
    children, hooks, the contents of lists, dictionaries and sets, training flags, and the class.
    """
    state = SavedState(module, modules=True)
    try:
        yield state
    finally:
        state.restore()


class KeptArguments:
    """The arguments of repeated calls, which are restored before each of them (see `RepeatedCall`).

    Modules among the arguments keep their state from call to call and are restored after the last one, as the
    model is. What an object holds beside its module is restored before each call.
    """

    def __init__(self, arguments: Any) -> None:
        self._state = SavedState(arguments, modules=False)
        self._modules = SavedState(
            [module for module in self._state.kept if not _fixed(module)], modules=True
        )
        self._changing: list[SavedPart] = []

    @property
    def unsaved(self) -> list[torch.Tensor]:
        """Tensors that are not restored, because they cannot be copied."""
        return self._state.unsaved + self._modules.unsaved

    @property
    def changing(self) -> bool:
        """Whether a call was seen to change an argument."""
        return bool(self._changing)

    def settle(self) -> bool:
        """Find what the calls so far changed, and restore it; return whether all was known to change."""
        # What is restored is not part of a call that is being counted.
        with _disable_current_modes():
            found = [part for part in self._state.parts if part.changed()]
            for part in reversed(found):  # attributes of an object before its content
                part.restore()
        known = {id(part) for part in self._changing}
        new = [part for part in found if id(part) not in known]
        self._changing += new
        return not new

    def renew(self) -> None:
        """Restore what calls were seen to change."""
        for part in reversed(self._changing):
            part.restore()

    def restore(self) -> None:
        """Restore all arguments."""
        self._modules.restore()
        self._state.restore()

    def consumed_note(self) -> Note | None:
        """Return a note if an argument is an iterator, which the first call exhausts."""
        if not self._state.iterators:
            return None
        kind = type(self._state.iterators[0])
        found = "advanced" if kind is itertools.cycle else "exhausted"
        return Note(
            code=NoteCode.ARGUMENT_CONSUMED,
            text=f"an argument is or holds a {kind.__name__}, which later calls find {found}",
            hint="pass a list, or measure a callable that makes the iterator",
        )

    def changed_note(self) -> Note | None:
        """Return a note on arguments that the calls change; ``None`` if they stay as they are."""
        if not self._state.complete:
            return Note(
                code=NoteCode.INPUTS_CHANGED,
                text=f"the arguments hold more than {MAX_OBJECTS:,} objects: not all changes are seen",
                hint="make sure that the call does not change them, or pass arrays or tensors",
            )
        if not self._changing:
            return None
        kinds = ", ".join(sorted({type(part.value).__name__ for part in self._changing}))
        return Note(
            code=NoteCode.INPUTS_CHANGED,
            text=f"the call changes its arguments ({kinds}); they are restored before each call, untimed",
            hint="a caller that reuses them passes other values the next time: copy them inside the model",
        )


def _fixed(module: torch.nn.Module) -> bool:
    """Return whether the state of a module cannot be read, or not be restored after a first input."""
    return any(isinstance(part, torch.jit.ScriptModule) or is_lazy(part) for part in module.modules())


@contextmanager
def arguments_kept(*arguments: Any) -> Iterator[KeptArguments]:
    """Keep the arguments of calls, and restore them on exit."""
    kept = KeptArguments(arguments)
    try:
        yield kept
    finally:
        kept.restore()
