"""A model as an exported program of flat tensors, which other runtimes can be given. Imports torch."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from pytest_infergate.errors import ConversionError, InfergateError
from pytest_infergate.instruments import tensors
from pytest_infergate.measure.item_streams import is_stream
from pytest_infergate.measure.module_search import module_of

_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
"""Types of values that an exported program may hold in place of an input, or return without computing."""

_HINTS = {
    "GuardOnDataDependentSymNode": "torch.where or torch.cond in place of branches that depend on values",
    "MemoryError": "a smaller batch, or a machine with more memory",
    "DynamicOutputShapeException": "operators whose output has a shape that does not depend on values",
}
"""What can be changed, by the class of the error."""


class ExportedModel(NamedTuple):
    """A program, and what relates its flat tensors to the arguments and the output of the model."""

    program: torch.export.ExportedProgram
    inputs: tuple[int, ...]
    """Which leaves of the arguments are inputs of the program; all others are constants of it."""
    outputs: tuple[Any, ...]
    """Leaves of the output; `_COMPUTED` where the program returns a tensor."""
    structure: pytree.TreeSpec
    """That of the output."""

    def called_by(
        self, run: Callable[[Sequence[Any]], Sequence[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[..., Sequence[Any]]:
        """Return a function with arguments such as these, which returns the flat tensors that `run` returns.

        Raises `ConversionError` if `run` raises: the reason is that of the runtime.
        """
        inputs = self.inputs
        given = (*args, *kwargs.values())
        # The structure of arguments is not part of what a runtime does, and takes longer than a tiny model.
        flat = len(given) == len(inputs) and all(isinstance(value, torch.Tensor) for value in given)

        def call(*args: Any, **kwargs: Any) -> Sequence[Any]:
            if flat:
                taken: Sequence[Any] = (*args, *kwargs.values())
            else:
                leaves = pytree.tree_leaves((args, kwargs))
                taken = [leaves[index] for index in inputs]
            try:
                return run(taken)
            except Exception as error:
                raise ConversionError(f"the call failed: {first_line(error)}") from error

        return call

    def structured(self, returned: Sequence[Any]) -> Any:
        """Return the output of the model, of the flat tensors of a call."""
        computed = iter(returned)
        return pytree.tree_unflatten(
            [next(computed) if leaf is _COMPUTED else leaf for leaf in self.outputs], self.structure
        )

    def digest(self) -> str:
        """Return a hash of the program and its weights: equal programs compute the same."""
        found = hashlib.blake2b(digest_size=16)
        graph = self.program.graph_module
        for part in graph.modules():
            found.update(str(getattr(part, "code", "")).encode())
        found.update(str(self.program.graph_signature).encode())
        for node in graph.graph.nodes:
            value = node.meta.get("val")
            if node.op == "placeholder" and isinstance(value, torch.Tensor):
                found.update(f"{node.name} {value.dtype} {tuple(value.shape)} {value.stride()}".encode())
        for name, value in sorted({**self.program.state_dict, **self.program.constants}.items()):
            found.update(name.encode())
            found.update(_bytes(value) if isinstance(value, torch.Tensor) else repr(value).encode())
        return found.hexdigest()

    def weights(self) -> dict[str, int]:
        """Return the bytes of the parameters and buffers of the program, by dtype."""
        sizes: dict[str, int] = {}
        held = [*self.program.state_dict.values(), *self.program.constants.values()]
        for tensor in {id(value): value for value in held if isinstance(value, torch.Tensor)}.values():
            name = str(tensor.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + tensor.untyped_storage().nbytes()
        return sizes


class _Computed:
    """Stands for a tensor that the program returns."""


_COMPUTED = _Computed()


class _Flat(torch.nn.Module):
    """A model that takes and returns flat tensors."""

    outputs: Callable[[], list[Any]]
    """Returns the leaves of the last output, and their structure."""

    def __init__(
        self,
        target: Callable[..., Any],
        leaves: list[Any],
        spec: pytree.TreeSpec,
        around: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        super().__init__()
        self.model = module_of(target)
        # Variables of a closure: as an attribute, a module would be registered twice, and export restores
        # attributes that a call changes.
        outputs: list[Any] = []

        def call(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            given = iter(inputs)
            filled = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            args, kwargs = pytree.tree_unflatten(filled, spec)
            with around():
                output = target(*args, **kwargs)
            if is_stream(output):
                raise ConversionError("the model returns a stream, which an exported program cannot")
            returned, structure = pytree.tree_flatten(output)
            outputs[:] = returned, structure
            return tuple(leaf for leaf in returned if isinstance(leaf, torch.Tensor))

        self.call = call
        self.outputs = lambda: outputs

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model, and keep the structure of what it returns."""
        return self.call(inputs)


def exported(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> ExportedModel:
    """Export a call of a module, of a method of one, or of a partial of either.

    `around` is entered around the call and becomes part of the program, as autocast does.
    The shapes are those of the arguments. Raises `ConversionError` with the reason in one line.
    """
    if module_of(target) is None:
        raise ConversionError(
            "only a module, or a method of one, can be exported: pass the module itself to infer"
        )
    _register_caches()
    leaves, spec = pytree.tree_flatten((args, kwargs))
    _check(leaves, "arguments hold", "take")
    inputs = tuple(index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor))
    if not inputs:
        raise ConversionError("the call has no tensor among its arguments, so that all of it is constant")
    flat = _Flat(target, leaves, spec, around)
    try:
        # Weights of other classes, such as quantised ones, have no version in inference mode.
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.export.export(flat, tuple(leaves[index] for index in inputs), strict=False)
            changed = _changed(program)
    except InfergateError:
        raise
    except Exception as error:
        hint = _HINTS.get(type(error).__name__)
        hint = "" if hint is None else f". Hint: {hint}"
        raise ConversionError(f"torch.export failed: {first_line(error)}{hint}") from error
    returned, structure = flat.outputs()
    _check(returned, "output holds", "return")
    if not any(isinstance(leaf, torch.Tensor) for leaf in returned):
        raise ConversionError("the output holds no tensor, so that the program would return nothing")
    if changed:
        raise ConversionError(
            f"the call changes {changed[0].removeprefix('model.')}, which converted models would not restore"
        )
    outputs = tuple(_COMPUTED if isinstance(leaf, torch.Tensor) else leaf for leaf in returned)
    return ExportedModel(program, inputs, outputs, structure)


def _changed(program: torch.export.ExportedProgram) -> list[str]:
    """Return the names of buffers and inputs that a call changes."""
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes)
    # Most operators in place change tensors that the call has made. Only without them, the signature says
    # which change others.
    if not any(schema is not None and schema.is_mutable for schema in schemas):
        return []
    signature = program.run_decompositions({}).graph_signature
    return [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]


def _register_caches() -> None:
    """Let torch see the tensors in the cache of keys and values that models of transformers return."""
    if "transformers.cache_utils" in sys.modules:
        # Of an optional package, whose versions differ. Without it, the object is named as any other.
        with suppress(Exception):
            executorch = importlib.import_module("transformers.integrations.executorch")
            executorch.register_dynamic_cache_export_support()


def _check(leaves: list[Any], where: str, verb: str) -> None:
    for leaf in leaves:
        if not isinstance(leaf, (torch.Tensor, *_CONSTANTS)):
            kind = type(leaf)
            if kind.__module__ == "transformers.cache_utils":
                hint = "pass use_cache=False"
            elif dataclasses.is_dataclass(kind):
                hint = f"torch.export.register_dataclass({kind.__name__})"
            else:
                hint = "use tensors, numbers, tuples, lists and dicts"
            raise ConversionError(
                f"the {where} an object of {kind.__name__}, which an exported program cannot {verb}. "
                f"Hint: {hint}"
            )


def first_line(error: BaseException) -> str:
    """Return the type of the error at the root, and the first line of its text that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip(" -=*#\n")]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _bytes(tensor: torch.Tensor) -> Any:
    with tensors.past_class():
        return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
