"""The modules that a callable refers to. Imports torch."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch


def module_of(target: object) -> torch.nn.Module | None:
    """Return the module of a target: itself, the owner of a bound method, or that of a partial's function."""
    if isinstance(target, torch.nn.Module):
        return target
    if isinstance(target, functools.partial):
        return module_of(target.func)
    owner = getattr(target, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


def modules_within(target: Any, seen: set[int]) -> Iterator[torch.nn.Module]:
    """Yield modules that a callable refers to: closures, bound arguments, globals, decorators, attributes."""
    if id(target) in seen:
        return
    seen.add(id(target))
    if isinstance(target, torch.nn.Module):
        yield target
    elif isinstance(target, types.FunctionType):
        for value in _references(target):
            yield from modules_within(value, seen)
    elif isinstance(target, functools.partial):
        for value in (target.func, *target.args, *target.keywords.values()):
            yield from modules_within(value, seen)
    elif isinstance(target, types.MethodType):
        yield from modules_within(target.__func__, seen)
        yield from _attributes(target.__self__)
    elif not isinstance(target, type):
        yield from _attributes(target)


def _references(function: types.FunctionType) -> Iterator[Any]:
    """Yield what a function closes over and wraps, and the modules among the globals that it names."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a variable that is not assigned yet
            yield cell.cell_contents
    yield getattr(function, "__wrapped__", None)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, torch.nn.Module):
            yield value


def _attributes(owner: Any) -> Iterator[torch.nn.Module]:
    values = getattr(owner, "__dict__", {}).values()
    yield from (value for value in values if isinstance(value, torch.nn.Module))
