"""Models that compute gradients in a forward pass, which inference mode silently disables. Imports torch."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.autograd.forward_ad
import torch.autograd.functional
from torch.utils._contextlib import context_decorator

from pytest_infergate.errors import InfergateError

_HINT = 'Hint: grad_mode="no_grad" in the marker lets a model enable them itself; "enable_grad" enables them'
# What torch raises where inference mode prevents a gradient.
_ERRORS = ("does not require grad", "Inference tensors cannot be saved for backward")


class GradientUseError(InfergateError):
    """A model computes gradients, and would get zeros under inference mode."""


@contextmanager
def gradient_use_refused(*, disabled: bool) -> Iterator[None]:
    """Raise `GradientUseError` at the end if gradients were asked for although they are `disabled`.

    Functions of `torch.func` are right under inference mode. Those of `torch.autograd.functional` return
    zeros, forward-mode derivatives are missing, and `torch.enable_grad` has no effect.
    """
    if not disabled:
        yield
        return
    used: list[str] = []
    preprocess = torch.autograd.functional._grad_preprocess  # noqa: SLF001 - all of its functions call it

    def watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watch(*args: Any, **kwargs: Any) -> Any:
            by_model = function is preprocess or not _called_by_torch(sys._getframe(1))  # noqa: SLF001 - as logging does
            result = function(*args, **kwargs)
            # A model may leave inference mode by itself, and set_grad_enabled(False) asks for nothing.
            asks = all(getattr(context, "mode", True) for context in args[:1])
            if by_model and asks and torch.is_inference_mode_enabled():
                used.append(name)
            return result

        return watch

    places = (
        (torch.enable_grad, "__enter__", "torch.enable_grad"),
        (torch.set_grad_enabled, "__init__", "torch.set_grad_enabled"),
        (torch.set_grad_enabled, "__enter__", "torch.set_grad_enabled"),
        (torch.autograd.functional, "_grad_preprocess", "torch.autograd.functional"),
        (torch.autograd.forward_ad.dual_level, "__enter__", "torch.autograd.forward_ad"),
    )
    patches = [
        mock.patch.object(owner, attribute, watched(getattr(owner, attribute), name))
        for owner, attribute, name in places
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    except RuntimeError as error:
        if any(text in str(error) for text in _ERRORS):
            text = f"infergate runs a module in inference mode, without gradients. {_HINT}"
            error.__notes__ = [*getattr(error, "__notes__", ()), text]  # type: ignore[attr-defined]
        raise
    finally:
        for patch in patches:
            patch.stop()
    if used:
        raise GradientUseError(
            f"the model must not need gradients in inference mode, got a use of {used[0]}, "
            f"whose results are zeros or missing there. {_HINT}"
        )


def _called_by_torch(frame: types.FrameType) -> bool:
    """Return whether torch enables gradients itself, for instance inside of torch.func.grad."""
    caller = frame.f_globals.get("__name__", "")
    if caller == context_decorator.__module__:  # what is decorated may belong to the model
        caller = getattr(frame.f_locals.get("func"), "__module__", None) or ""
    return bool(caller.partition(".")[0] == "torch")
