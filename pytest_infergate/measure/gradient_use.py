"""Models that compute gradients in a forward pass, which inference mode silently disables. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.autograd.forward_ad
import torch.autograd.functional

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
    switch = torch.set_grad_enabled.__init__
    preprocess = torch.autograd.functional._grad_preprocess  # noqa: SLF001 - all of its functions call it

    def watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watch(*args: Any, **kwargs: Any) -> Any:
            # torch enables gradients itself, for instance inside of torch.func.grad.
            caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - as logging does
            by_model = function is preprocess or caller.partition(".")[0] != "torch"
            # A model may leave inference mode by itself, and set_grad_enabled(False) asks for nothing.
            asks = function is not switch or args[1:] == (True,) or kwargs.get("mode", False)
            if by_model and asks and torch.is_inference_mode_enabled():
                used.append(name)
            return function(*args, **kwargs)

        return watch

    places = (
        (torch.enable_grad, "__enter__", "torch.enable_grad"),
        (torch.set_grad_enabled, "__init__", "torch.set_grad_enabled"),
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
